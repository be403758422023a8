/* io/tls.c - see io/tls.h.
 *
 * All policy of TLS is in the context; a connection's SSL only adds whom it talks to.  Whether a client's certificate
 * holds is not decided by aborting the handshake (below verify-ca libpq may well send its default certificate to a
 * server that never asked for one of that authority, and PgBouncer lets it in): the verify callback notes the failure
 * at the SSL, and whoever asks for the peer's name is refused it. */
#include "io/tls.h"

#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include "base/mem.h"
#include "base/str.h"

/* What PostgreSQL registered with IANA, as ALPN carries it: a length byte and the name. */
static const unsigned char ALPN[] = "\x0apostgresql";
enum { ALPN_LEN = sizeof ALPN - 1, VERIFY_DEPTH = 10 };

struct tls_ctx {
	atomic_uint refs;
	SSL_CTX *ssl_ctx; /* owned reference; OpenSSL's own count keeps it alive in each SSL */
	enum tls_mode mode;
	bool is_server;
};

static const char *const MODE_NAMES[] = {
#define TLS_MODE_NAME(id, name) [TLS_##id] = (name),
	TLS_MODES(TLS_MODE_NAME)
#undef TLS_MODE_NAME
};

const char *tls_mode_name(enum tls_mode mode) { return MODE_NAMES[mode]; }

bool tls_mode_parse(const char *name, enum tls_mode *out)
{
	for (size_t i = 0; i < ARRAY_LEN(MODE_NAMES); i++) {
		if (strcasecmp(name, MODE_NAMES[i]) == 0) {
			*out = (enum tls_mode)i;
			return true;
		}
	}
	return false;
}

/* --- errors ---
 *
 * OpenSSL's error queue belongs to the thread, not to a connection: whatever is left in it makes the next, unrelated
 * SSL_get_error() lie.  So every function here that may fail leaves it empty. */

/* An empty value in an ini file means "not set". */
static bool is_set(const char *s) { return s && s[0]; }

/* The oldest entry of the queue is the cause; what follows is who passed it on. */
static void openssl_error(char *out, size_t size)
{
	unsigned long code = ERR_peek_error();
	const char *reason = ERR_reason_error_string(code);

	if (code == 0)
		snprintf(out, size, "no error reported by OpenSSL");
	else if (ERR_SYSTEM_ERROR(code))
		snprintf(out, size, "%s", strerror(ERR_GET_REASON(code)));
	else if (reason)
		snprintf(out, size, "%s", reason);
	else
		snprintf(out, size, "OpenSSL error %lx", code);
	ERR_clear_error();
}

static bool fail(char *err, size_t err_size, const char *fmt, ...) PRINTF_LIKE(3, 4);
static bool fail(char *err, size_t err_size, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(err, err_size, fmt, ap);
	va_end(ap);
	ERR_clear_error();
	return false;
}

static bool fail_openssl(char *err, size_t err_size, const char *what, const char *object)
{
	char reason[200];
	openssl_error(reason, sizeof reason);
	return fail(err, err_size, "%s \"%s\": %s", what, object, reason);
}

void tls_error_text(const SSL *ssl, char *out, size_t size)
{
	long verify = SSL_get_verify_result(ssl);
	char reason[200];

	openssl_error(reason, sizeof reason);
	/* "certificate verify failed" alone sends an operator looking in the dark. */
	if (verify != X509_V_OK && SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE)
		snprintf(out, size, "%s: %s", reason, X509_verify_cert_error_string(verify));
	else
		snprintf(out, size, "%s", reason);
}

/* --- context: protocols and ciphers --- */

static const struct {
	const char *name;
	int version;
	uint64_t off_switch;
} PROTOCOLS[] = {
	{ "tlsv1.0", TLS1_VERSION, SSL_OP_NO_TLSv1 },
	{ "tlsv1.1", TLS1_1_VERSION, SSL_OP_NO_TLSv1_1 },
	{ "tlsv1.2", TLS1_2_VERSION, SSL_OP_NO_TLSv1_2 },
	{ "tlsv1.3", TLS1_3_VERSION, SSL_OP_NO_TLSv1_3 },
};
enum { ALL_PROTOCOLS = (1 << ARRAY_LEN(PROTOCOLS)) - 1, SECURE_PROTOCOLS = ALL_PROTOCOLS & ~3 };

/* TLS 1.0 and 1.1 count only where they are named, or by PgBouncer's "all" and "legacy" (and then OpenSSL's security
 * level still forbids them, unless the cipher list lowers it).  A bit set of rows of PROTOCOLS; 0 for an unknown word.
 */
static unsigned protocol_bits(struct str word)
{
	if (str_ieq(word, STR("all")) || str_ieq(word, STR("legacy")))
		return ALL_PROTOCOLS;
	if (str_ieq(word, STR("secure")) || str_ieq(word, STR("default")))
		return SECURE_PROTOCOLS;
	if (str_ieq(word, STR("tlsv1")))
		return 1;
	for (size_t i = 0; i < ARRAY_LEN(PROTOCOLS); i++) {
		if (str_ieq(word, str_of(PROTOCOLS[i].name)))
			return 1u << i;
	}
	return 0;
}

static bool set_protocols(SSL_CTX *ctx, const char *list, char *err, size_t err_size)
{
	unsigned wanted = is_set(list) ? 0 : SECURE_PROTOCOLS;

	for (const char *p = is_set(list) ? list : ""; *p;) {
		size_t n = strcspn(p, ",:");
		unsigned bits = protocol_bits(str_trim((struct str){ p, n }));
		if (!bits)
			return fail(err, err_size, "unrecognized TLS protocol \"%.*s\"", (int)n, p);
		wanted |= bits;
		p += n + (p[n] != '\0');
	}
	for (size_t i = 0; i < ARRAY_LEN(PROTOCOLS); i++) {
		if (!(wanted & 1u << i))
			SSL_CTX_set_options(ctx, PROTOCOLS[i].off_switch);
	}
	/* The distribution's openssl.cnf may hold a higher floor, which the switches above do not lower. */
	int lowest = PROTOCOLS[__builtin_ctz(wanted)].version;
	if (SSL_CTX_set_min_proto_version(ctx, lowest) != 1)
		return fail_openssl(err, err_size, "could not set minimum TLS protocol",
		                    PROTOCOLS[__builtin_ctz(wanted)].name);
	return true;
}

/* The short words of PgBouncer's tls_ciphers. */
static const struct {
	const char *word, *ciphers;
} CIPHER_WORDS[] = {
	{ "default", "HIGH:MEDIUM:+3DES:!aNULL" },
	{ "normal", "HIGH:MEDIUM:+3DES:!aNULL" },
	{ "secure", "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20" },
	{ "fast", "ECDHE+AESGCM:ECDHE+CHACHA20:HIGH:!aNULL" },
	{ "all", "ALL:!aNULL:!eNULL" },
};

static bool set_ciphers(SSL_CTX *ctx, const struct tls_options *o, char *err, size_t err_size)
{
	const char *ciphers = is_set(o->ciphers) ? o->ciphers : "default";

	for (size_t i = 0; i < ARRAY_LEN(CIPHER_WORDS); i++) {
		if (strcasecmp(ciphers, CIPHER_WORDS[i].word) == 0)
			ciphers = CIPHER_WORDS[i].ciphers;
	}
	if (SSL_CTX_set_cipher_list(ctx, ciphers) != 1)
		return fail_openssl(err, err_size, "could not set TLS ciphers", ciphers);
	if (is_set(o->tls13_ciphers) && SSL_CTX_set_ciphersuites(ctx, o->tls13_ciphers) != 1)
		return fail_openssl(err, err_size, "could not set TLS 1.3 ciphers", o->tls13_ciphers);
	if (is_set(o->curves) && strcasecmp(o->curves, "auto") != 0 && SSL_CTX_set1_groups_list(ctx, o->curves) != 1)
		return fail_openssl(err, err_size, "could not set TLS curves", o->curves);
	return true;
}

/* --- context: certificates --- */

/* OpenSSL's own would ask on the terminal, in the middle of a reload. */
static int no_passphrase(char *buf UNUSED, int size UNUSED, int for_writing UNUSED, void *arg UNUSED) { return 0; }

/* A client may have none; whether a server has one was checked before. */
static bool load_identity(SSL_CTX *ctx, const struct tls_options *o, char *err, size_t err_size)
{
	if (!is_set(o->cert_file) && !is_set(o->key_file))
		return true;
	if (!is_set(o->cert_file) || !is_set(o->key_file))
		return fail(err, err_size, "TLS needs both a certificate file and a key file, or neither");
	if (SSL_CTX_use_certificate_chain_file(ctx, o->cert_file) != 1)
		return fail_openssl(err, err_size, "could not load certificate file", o->cert_file);
	if (SSL_CTX_use_PrivateKey_file(ctx, o->key_file, SSL_FILETYPE_PEM) != 1)
		return fail_openssl(err, err_size, "could not load private key file", o->key_file);
	/* use_PrivateKey_file() has compared the two already; this says it if OpenSSL should ever stop to. */
	if (SSL_CTX_check_private_key(ctx) != 1)
		return fail_openssl(err, err_size, "certificate does not match private key file", o->key_file);
	return true;
}

static bool load_authorities(SSL_CTX *ctx, const struct tls_options *o, bool is_server, char *err, size_t err_size)
{
	if (!is_set(o->ca_file)) {
		if (o->mode < TLS_VERIFY_CA)
			return true;
		/* As in PgBouncer, a server may be vouched for by the system's authorities.  A client may not:
		 * everybody can have a certificate with a name of his choice in it. */
		if (!is_server)
			return SSL_CTX_set_default_verify_paths(ctx) == 1 ||
			       fail_openssl(err, err_size, "could not load certificate authorities", "system");
		return fail(err, err_size, "TLS mode \"%s\" needs a file of certificate authorities",
		            tls_mode_name(o->mode));
	}
	if (strcmp(o->ca_file, "system") == 0)
		return SSL_CTX_set_default_verify_paths(ctx) == 1 ||
		       fail_openssl(err, err_size, "could not load certificate authorities", o->ca_file);
	if (SSL_CTX_load_verify_locations(ctx, o->ca_file, NULL) != 1)
		return fail_openssl(err, err_size, "could not load certificate authorities", o->ca_file);
	if (is_server) {
		/* Their names go out in the request, by which clients with several certificates choose. */
		STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(o->ca_file);
		if (!names)
			return fail_openssl(err, err_size, "could not load certificate authorities", o->ca_file);
		SSL_CTX_set_client_CA_list(ctx, names); /* owns names now */
	}
	return true;
}

/* One slot at each SSL: non-NULL means that the peer's certificate did not verify. */
static int unverified_slot(void)
{
	static atomic_int slot = -1;
	int index = atomic_load(&slot), expected = -1;

	if (index >= 0)
		return index;
	/* Two threads that come here at once take two indexes; one is wasted, and both use the one that won. */
	index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	CHECK(index >= 0);
	return atomic_compare_exchange_strong(&slot, &expected, index) ? index : expected;
}

static int note_failure(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	static char mark;
	if (!ok && SSL_set_ex_data(ssl, unverified_slot(), &mark) != 1)
		return 0;
	return 1;
}

/* With note_failure() a client's bad certificate does not end the handshake; without it (NULL) OpenSSL's own rule
 * holds.  A server's certificate is either checked or not asked about: there is nobody to use a half-checked one. */
static void set_verification(SSL_CTX *ctx, const struct tls_options *o, bool is_server)
{
	SSL_CTX_set_verify_depth(ctx, VERIFY_DEPTH);
	if (o->mode >= TLS_VERIFY_CA)
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (is_server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
	else if (is_server && is_set(o->ca_file))
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, note_failure);
	else
		SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
}

/* --- context: ALPN --- */

/* A client that speaks ALPN and not our protocol was lured here from another service (the ALPACA attack). */
static int select_alpn(SSL *ssl UNUSED, const unsigned char **out, unsigned char *out_len, const unsigned char *offered,
                       unsigned offered_len, void *arg UNUSED)
{
	unsigned char *chosen;
	if (SSL_select_next_proto(&chosen, out_len, ALPN, ALPN_LEN, offered, offered_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* --- context: all together --- */

static void set_common(SSL_CTX *ctx)
{
	/* Written bytes are retried from our own buffer (a moved address), as far as they have not left (partial).
	 * AUTO_RETRY (a default that may change): no "want read" while a whole record stands in OpenSSL's buffer. */
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
	                          SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
	                             SSL_OP_SINGLE_ECDH_USE | SSL_OP_NO_SSLv3 | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	/* One recv() takes a record's header and body, and what follows; io/stream asks SSL_has_pending(). */
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
}

static bool fill_ctx(SSL_CTX *ctx, const struct tls_options *o, bool is_server, char *err, size_t err_size)
{
	set_common(ctx);
	set_verification(ctx, o, is_server);
	if (is_server)
		SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
	else if (SSL_CTX_set_alpn_protos(ctx, ALPN, ALPN_LEN) != 0) /* 0 is success, here alone */
		return fail_openssl(err, err_size, "could not set ALPN", "postgresql");
	/* TLS 1.2 without ECDHE needs parameters; "auto" takes those of RFC 7919 that fit the key. */
	if (is_server && !o->no_dhe && SSL_CTX_set_dh_auto(ctx, 1) != 1)
		return fail_openssl(err, err_size, "could not set DH parameters", "auto");
	return set_protocols(ctx, o->protocols, err, err_size) && set_ciphers(ctx, o, err, err_size) &&
	       load_identity(ctx, o, err, err_size) && load_authorities(ctx, o, is_server, err, err_size);
}

static struct tls_ctx *new_ctx(const struct tls_options *o, bool is_server, char *err, size_t err_size)
{
	ERR_clear_error();
	if (is_server && (!is_set(o->cert_file) || !is_set(o->key_file))) {
		fail(err, err_size, "TLS for clients needs a certificate file and a key file");
		return NULL;
	}
	SSL_CTX *ssl_ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	if (!ssl_ctx) {
		fail_openssl(err, err_size, "could not create TLS context", is_server ? "server" : "client");
		return NULL;
	}
	if (!fill_ctx(ssl_ctx, o, is_server, err, err_size)) {
		SSL_CTX_free(ssl_ctx);
		return NULL;
	}
	struct tls_ctx *ctx = mem_zalloc(sizeof *ctx);
	ctx->refs = 1;
	ctx->ssl_ctx = ssl_ctx;
	ctx->mode = o->mode;
	ctx->is_server = is_server;
	return ctx;
}

struct tls_ctx *tls_ctx_new_server(const struct tls_options *options, char *err, size_t err_size)
{
	return new_ctx(options, true, err, err_size);
}

struct tls_ctx *tls_ctx_new_client(const struct tls_options *options, char *err, size_t err_size)
{
	return new_ctx(options, false, err, err_size);
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx)
{
	atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
	return ctx;
}

void tls_ctx_unref(struct tls_ctx *ctx)
{
	/* acq_rel: whoever frees must see everything that the other holders did before they let go. */
	if (!ctx || atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1)
		return;
	SSL_CTX_free(ctx->ssl_ctx);
	mem_free(ctx);
}

/* --- one connection --- */

static bool is_ip(const char *host)
{
	ASN1_OCTET_STRING *ip = a2i_IPADDRESS(host);
	ASN1_OCTET_STRING_free(ip);
	ERR_clear_error();
	return ip != NULL;
}

/* OpenSSL checks the host as a part of the chain's verification, before any byte of ours is sent.  A name is looked for
 * in the subjectAltName and, only where that holds no name, in the common name; an address in the subjectAltName. */
static bool expect_host(SSL *ssl, const char *host, char *err, size_t err_size)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

	if (!is_set(host))
		return fail(err, err_size, "TLS mode \"verify-full\" needs a host name");
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	int ok = is_ip(host) ? X509_VERIFY_PARAM_set1_ip_asc(param, host) : X509_VERIFY_PARAM_set1_host(param, host, 0);
	return ok == 1 || fail_openssl(err, err_size, "could not set expected host", host);
}

static bool set_host(SSL *ssl, const struct tls_ctx *ctx, const char *host, char *err, size_t err_size)
{
	/* RFC 6066: a name only, never an address; and a unix socket's directory is neither. */
	bool is_name = is_set(host) && host[0] != '/' && host[0] != '@' && !is_ip(host);

	if (is_name && SSL_set_tlsext_host_name(ssl, host) != 1)
		return fail_openssl(err, err_size, "could not set TLS server name", host);
	return ctx->mode != TLS_VERIFY_FULL || expect_host(ssl, host, err, err_size);
}

SSL *tls_ssl_new(struct tls_ctx *ctx, const char *host, char *err, size_t err_size)
{
	ERR_clear_error();
	SSL *ssl = SSL_new(ctx->ssl_ctx);
	if (!ssl) {
		fail_openssl(err, err_size, "could not create TLS connection", host ? host : "");
		return NULL;
	}
	if (ctx->is_server) {
		SSL_set_accept_state(ssl);
		return ssl;
	}
	SSL_set_connect_state(ssl);
	if (set_host(ssl, ctx, host, err, err_size))
		return ssl;
	SSL_free(ssl);
	return NULL;
}

/* --- after the handshake --- */

/* The hash binds SCRAM to this very certificate: one in the middle with another one is found out (RFC 5929, RFC 5802).
 */
static bool endpoint_hash(X509 *cert, uint8_t *out, size_t *len)
{
	int hash_nid = NID_undef;
	unsigned n = 0;

	/* X509_get_signature_info() and not the OID's row: RSA-PSS names its hash in its parameters. */
	if (!cert || X509_get_signature_info(cert, &hash_nid, NULL, NULL, NULL) != 1 || hash_nid == NID_undef)
		return false;
	/* RFC 5929, section 4.1: what is too weak to sign with is replaced. */
	if (hash_nid == NID_md5 || hash_nid == NID_sha1)
		hash_nid = NID_sha256;
	const EVP_MD *md = EVP_get_digestbynid(hash_nid);
	if (!md || EVP_MD_get_size(md) > TLS_HASH_MAX || X509_digest(cert, md, out, &n) != 1) {
		ERR_clear_error();
		return false;
	}
	*len = n;
	return true;
}

bool tls_endpoint_own(const SSL *ssl, uint8_t out[TLS_HASH_MAX], size_t *len)
{
	return endpoint_hash(SSL_get_certificate(ssl), out, len);
}

bool tls_endpoint_peer(const SSL *ssl, uint8_t out[TLS_HASH_MAX], size_t *len)
{
	return endpoint_hash(SSL_get0_peer_certificate(ssl), out, len);
}

bool tls_peer_verified(const SSL *ssl)
{
	return SSL_get0_peer_certificate(ssl) && SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE &&
	       SSL_get_verify_result(ssl) == X509_V_OK && !SSL_get_ex_data(ssl, unverified_slot());
}

bool tls_peer_cn(const SSL *ssl, char *out, size_t size)
{
	unsigned char *utf8 = NULL;

	if (!tls_peer_verified(ssl))
		return false;
	X509_NAME *subject = X509_get_subject_name(SSL_get0_peer_certificate(ssl));
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	/* Two names are an ambiguity that another reader may resolve the other way. */
	if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
		return false;
	int n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	bool ok = n > 0 && (size_t)n < size && !memchr(utf8, 0, (size_t)n);
	if (ok)
		snprintf(out, size, "%.*s", n, (const char *)utf8);
	OPENSSL_free(utf8);
	ERR_clear_error();
	return ok;
}

bool tls_alpn_agreed(const SSL *ssl)
{
	const unsigned char *name;
	unsigned n;
	SSL_get0_alpn_selected(ssl, &name, &n);
	return n == ALPN_LEN - 1 && memcmp(name, ALPN + 1, n) == 0;
}

const char *tls_describe(const SSL *ssl, char *out, size_t size)
{
	snprintf(out, size, "%s/%s", SSL_get_version(ssl), SSL_get_cipher_name(ssl));
	return out;
}
