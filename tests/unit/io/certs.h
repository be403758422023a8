/* Throwaway certificates for tests, made with OpenSSL's API in a temporary directory. */
#ifndef TESTS_IO_CERTS_H
#define TESTS_IO_CERTS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include "base/check.h"

struct identity {
	X509 *cert;
	EVP_PKEY *key;
	char cert_file[128], key_file[128];
};

static char certs_dir[64];

static inline void certs_setup(void)
{
	snprintf(certs_dir, sizeof certs_dir, "/tmp/pgweir-test-XXXXXX");
	CHECK(mkdtemp(certs_dir));
}

static inline void certs_teardown(void) { CHECK(rmdir(certs_dir) == 0); }

static inline void add_ext(X509 *cert, int nid, const char *value)
{
	X509V3_CTX v3;
	X509V3_set_ctx_nodb(&v3);
	X509V3_set_ctx(&v3, cert, cert, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &v3, nid, value);
	CHECK(ext && X509_add_ext(cert, ext, -1));
	X509_EXTENSION_free(ext);
}

static inline void save_identity(struct identity *id, const char *file)
{
	snprintf(id->cert_file, sizeof id->cert_file, "%s/%s.crt", certs_dir, file);
	snprintf(id->key_file, sizeof id->key_file, "%s/%s.key", certs_dir, file);
	FILE *f = fopen(id->cert_file, "w");
	CHECK(f && PEM_write_X509(f, id->cert) && fclose(f) == 0);
	f = fopen(id->key_file, "w");
	CHECK(f && PEM_write_PrivateKey(f, id->key, NULL, NULL, 0, NULL, NULL) && fclose(f) == 0);
}

/* cn of cn_len bytes may hold anything; san NULL: none; ca NULL: self-signed authority; key is consumed. */
static inline struct identity issue_with(EVP_PKEY *key, const EVP_MD *md, const char *file, const char *cn, int cn_len,
                                         const char *san, const struct identity *ca)
{
	static long serial = 1;
	struct identity id = { .cert = X509_new(), .key = key };
	X509_NAME *name = X509_get_subject_name(id.cert);

	CHECK(id.cert && id.key);
	X509_set_version(id.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(id.cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(id.cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(id.cert), 86400);
	CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, cn_len, -1, 0));
	X509_set_issuer_name(id.cert, ca ? X509_get_subject_name(ca->cert) : name);
	X509_set_pubkey(id.cert, id.key);
	if (!ca)
		add_ext(id.cert, NID_basic_constraints, "critical,CA:TRUE");
	if (san)
		add_ext(id.cert, NID_subject_alt_name, san);
	CHECK(X509_sign(id.cert, ca ? ca->key : id.key, md) > 0);
	save_identity(&id, file);
	return id;
}

static inline struct identity issue(const char *file, const char *cn, const char *san, const struct identity *ca)
{
	return issue_with(EVP_EC_gen("P-256"), EVP_sha256(), file, cn, -1, san, ca);
}

static inline void discard(struct identity *id)
{
	unlink(id->cert_file);
	unlink(id->key_file);
	X509_free(id->cert);
	EVP_PKEY_free(id->key);
}

#endif
