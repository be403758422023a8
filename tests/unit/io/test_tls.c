/* TLS contexts and what a finished handshake tells.  Handshakes run between two SSLs over memory, without streams. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include "certs.h"
#include "io/tls.h"

static struct identity ca, other_ca, server_id, client_id, stranger, by_ip;
static char err[400];

static int group_setup(void **state UNUSED)
{
	certs_setup();
	ca = issue("ca", "Test CA", NULL, NULL);
	other_ca = issue("other", "Other CA", NULL, NULL);
	server_id = issue("server", "db.example", "DNS:db.example,DNS:*.pool.example", &ca);
	by_ip = issue("ip", "whatever", "IP:127.0.0.1,IP:::1", &ca);
	client_id = issue("client", "alice", NULL, &ca);
	stranger = issue("stranger", "alice", NULL, &other_ca);
	return 0;
}

static int group_teardown(void **state UNUSED)
{
	struct identity *all[] = { &ca, &other_ca, &server_id, &client_id, &stranger, &by_ip };
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		discard(all[i]);
	certs_teardown();
	return 0;
}

static struct tls_options server_options(void)
{
	return (struct tls_options){ .mode = TLS_REQUIRE,
		                     .cert_file = server_id.cert_file,
		                     .key_file = server_id.key_file };
}

static struct tls_ctx *must(struct tls_ctx *ctx)
{
	if (!ctx)
		print_message("%s\n", err);
	assert_non_null(ctx);
	return ctx;
}

/* Two ends of a handshake over a pair of memory BIOs. */
struct pair {
	SSL *client, *server;
	bool ok;
	char why[300]; /* the first failure */
};

static bool step(SSL *ssl, struct pair *p)
{
	ERR_clear_error();
	int rc = SSL_do_handshake(ssl), error = SSL_get_error(ssl, rc);
	if (rc == 1 || error == SSL_ERROR_WANT_READ)
		return true;
	if (!p->why[0])
		tls_error_text(ssl, p->why, sizeof p->why);
	return false;
}

static void shake(struct pair *p, struct tls_ctx *client, struct tls_ctx *server, const char *host)
{
	BIO *a, *b;

	*p = (struct pair){ 0 };
	p->client = tls_ssl_new(client, host, err, sizeof err);
	p->server = tls_ssl_new(server, NULL, err, sizeof err);
	assert_true(p->client && p->server && BIO_new_bio_pair(&a, 0, &b, 0));
	SSL_set_bio(p->client, a, a);
	SSL_set_bio(p->server, b, b);
	for (int i = 0; i < 6; i++) {
		bool c = step(p->client, p), s = step(p->server, p);
		if (!c || !s)
			return;
	}
	p->ok = SSL_is_init_finished(p->client) && SSL_is_init_finished(p->server);
}

static void drop(struct pair *p)
{
	SSL_free(p->client);
	SSL_free(p->server);
}

/* One handshake with these options; the pair is left to the caller. */
static bool try_pair(struct pair *p, const struct tls_options *c, const struct tls_options *s, const char *host)
{
	struct tls_ctx *client = must(tls_ctx_new_client(c, err, sizeof err));
	struct tls_ctx *server = must(tls_ctx_new_server(s, err, sizeof err));
	shake(p, client, server, host);
	/* The connections live on: a reload drops the context under them just so. */
	tls_ctx_unref(client);
	tls_ctx_unref(server);
	return p->ok;
}

static void test_modes(void **state UNUSED)
{
	enum tls_mode mode;
	assert_true(tls_mode_parse("verify-full", &mode));
	assert_int_equal(mode, TLS_VERIFY_FULL);
	assert_true(tls_mode_parse("Disable", &mode));
	assert_int_equal(mode, TLS_DISABLE);
	assert_false(tls_mode_parse("yes", &mode));
	assert_string_equal(tls_mode_name(TLS_VERIFY_CA), "verify-ca");
	assert_true(TLS_DISABLE < TLS_ALLOW && TLS_ALLOW < TLS_PREFER && TLS_PREFER < TLS_REQUIRE &&
	            TLS_REQUIRE < TLS_VERIFY_CA && TLS_VERIFY_CA < TLS_VERIFY_FULL);
}

static void expect_refused(const struct tls_options *o, bool server, const char *text)
{
	struct tls_ctx *ctx = server ? tls_ctx_new_server(o, err, sizeof err) : tls_ctx_new_client(o, err, sizeof err);
	assert_null(ctx);
	if (!strstr(err, text))
		print_message("\"%s\" lacks \"%s\"\n", err, text);
	assert_non_null(strstr(err, text));
	assert_int_equal(ERR_peek_error(), 0);
}

static void test_bad_options_are_named(void **state UNUSED)
{
	struct tls_options o = { .mode = TLS_REQUIRE };
	expect_refused(&o, true, "needs a certificate file and a key file");
	o.cert_file = server_id.cert_file;
	expect_refused(&o, false, "both a certificate file and a key file");
	o.key_file = client_id.key_file;
	expect_refused(&o, true, "key values mismatch");
	o.cert_file = "/nonexistent.crt";
	expect_refused(&o, true, "could not load certificate file \"/nonexistent.crt\": No such file or directory");
	o.cert_file = server_id.cert_file;
	o.key_file = "/nonexistent.key";
	expect_refused(&o, true, "could not load private key file \"/nonexistent.key\": No such file or directory");
	o = server_options();
	o.ca_file = "/nonexistent.crt";
	expect_refused(&o, true, "could not load certificate authorities \"/nonexistent.crt\"");
	o = server_options();
	o.mode = TLS_VERIFY_FULL;
	expect_refused(&o, true, "TLS mode \"verify-full\" needs a file of certificate authorities");
	o = server_options();
	o.protocols = "tlsv1.2,sslv3";
	expect_refused(&o, true, "unrecognized TLS protocol \"sslv3\"");
	o = server_options();
	o.ciphers = "nonsense";
	expect_refused(&o, true, "could not set TLS ciphers \"nonsense\"");
	o = server_options();
	o.tls13_ciphers = "nonsense";
	expect_refused(&o, true, "could not set TLS 1.3 ciphers");
	o = server_options();
	o.curves = "nonsense";
	expect_refused(&o, true, "could not set TLS curves");
}

static void test_system_authorities(void **state UNUSED)
{
	/* Without a file too: servers that a public authority has signed need none. */
	static const char *const files[] = { "system", "", NULL };
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct tls_options c = { .mode = TLS_VERIFY_FULL, .ca_file = files[i] }, s = server_options();
		struct pair p;
		assert_false(try_pair(&p, &c, &s, "db.example")); /* not signed by anybody known */
		drop(&p);
	}
}

static void test_encrypted_key_is_refused_without_asking(void **state UNUSED)
{
	char file[128];
	snprintf(file, sizeof file, "%s/locked.key", certs_dir);
	FILE *f = fopen(file, "w");
	assert_true(f && PEM_write_PKCS8PrivateKey(f, server_id.key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL));
	fclose(f);
	struct tls_options o = server_options();
	o.key_file = file;
	expect_refused(&o, true, "could not load private key file");
	unlink(file);
}

static void test_protocol_versions(void **state UNUSED)
{
	static const struct {
		const char *client, *server, *agreed;
	} rows[] = {
		{ NULL, NULL, "TLSv1.3/TLS_AES_256_GCM_SHA384" },
		{ "secure", "all", "TLSv1.3/" },
		{ "tlsv1.2", "", "TLSv1.2/ECDHE-ECDSA-" },
		{ NULL, "TLSv1.2", "TLSv1.2/" },
		{ "tlsv1.2 , tlsv1.3", "tlsv1.3:tlsv1.1", "TLSv1.3/" },
		{ "tlsv1.2", "tlsv1.3", NULL },
		{ "tlsv1.1", NULL, NULL },
	};
	char text[80];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tls_options c = { .mode = TLS_REQUIRE, .protocols = rows[i].client }, s = server_options();
		struct pair p;
		s.protocols = rows[i].server;
		assert_int_equal(try_pair(&p, &c, &s, "db.example"), rows[i].agreed != NULL);
		if (rows[i].agreed)
			assert_memory_equal(tls_describe(p.server, text, sizeof text), rows[i].agreed,
			                    strlen(rows[i].agreed));
		drop(&p);
	}
}

static void test_ciphers_and_curves(void **state UNUSED)
{
	struct tls_options c = { .mode = TLS_REQUIRE, .tls13_ciphers = "TLS_CHACHA20_POLY1305_SHA256" };
	struct tls_options s = server_options();
	struct pair p;
	char text[80];

	s.curves = "X25519";
	s.ciphers = "secure";
	assert_true(try_pair(&p, &c, &s, NULL));
	assert_string_equal(tls_describe(p.client, text, sizeof text), "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256");
	drop(&p);
	c.curves = "P-384";
	assert_false(try_pair(&p, &c, &s, NULL));
	drop(&p);
}

static void test_short_words_for_ciphers(void **state UNUSED)
{
	static const char *const words[] = { "default", "secure", "fast", "normal", "ALL", "HIGH:!aNULL" };

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		struct tls_options c = { .mode = TLS_REQUIRE, .protocols = "tlsv1.2" }, s = server_options();
		struct pair p;
		s.ciphers = words[i];
		assert_true(try_pair(&p, &c, &s, NULL));
		drop(&p);
	}
}

static void test_client_verifies_the_server(void **state UNUSED)
{
	static const struct {
		enum tls_mode mode;
		bool right_ca;
		const char *host;
		bool ok;
	} rows[] = {
		{ TLS_REQUIRE, true, "other.example", true },      { TLS_REQUIRE, false, "other.example", true },
		{ TLS_VERIFY_CA, true, "other.example", true },    { TLS_VERIFY_CA, false, "db.example", false },
		{ TLS_VERIFY_FULL, true, "db.example", true },     { TLS_VERIFY_FULL, true, "DB.Example", true },
		{ TLS_VERIFY_FULL, true, "a.pool.example", true }, { TLS_VERIFY_FULL, true, "a.b.pool.example", false },
		{ TLS_VERIFY_FULL, true, "other.example", false }, { TLS_VERIFY_FULL, true, "127.0.0.1", false },
		{ TLS_VERIFY_FULL, false, "db.example", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tls_options s = server_options(), c = { .mode = rows[i].mode };
		struct pair p;
		c.ca_file = rows[i].right_ca ? ca.cert_file : other_ca.cert_file;
		assert_int_equal(try_pair(&p, &c, &s, rows[i].host), rows[i].ok);
		if (!rows[i].ok)
			assert_non_null(strstr(p.why, "certificate verify failed: "));
		drop(&p);
	}
}

static void test_verify_full_by_address_and_without_host(void **state UNUSED)
{
	struct tls_options c = { .mode = TLS_VERIFY_FULL, .ca_file = ca.cert_file }, s = server_options();
	struct pair p;

	s.cert_file = by_ip.cert_file;
	s.key_file = by_ip.key_file;
	assert_true(try_pair(&p, &c, &s, "127.0.0.1"));
	assert_null(SSL_get_servername(p.server, TLSEXT_NAMETYPE_host_name)); /* no SNI for addresses */
	drop(&p);
	assert_true(try_pair(&p, &c, &s, "::1"));
	drop(&p);
	assert_false(try_pair(&p, &c, &s, "127.0.0.2"));
	drop(&p);
	struct tls_ctx *ctx = must(tls_ctx_new_client(&c, err, sizeof err));
	assert_null(tls_ssl_new(ctx, NULL, err, sizeof err));
	assert_string_equal(err, "TLS mode \"verify-full\" needs a host name");
	assert_null(tls_ssl_new(ctx, "", err, sizeof err));
	tls_ctx_unref(ctx);
}

static void test_sni_and_alpn(void **state UNUSED)
{
	struct tls_options c = { .mode = TLS_REQUIRE }, s = server_options();
	struct pair p;

	assert_true(try_pair(&p, &c, &s, "db.example"));
	assert_string_equal(SSL_get_servername(p.server, TLSEXT_NAMETYPE_host_name), "db.example");
	assert_true(tls_alpn_agreed(p.client) && tls_alpn_agreed(p.server));
	char byte;
	assert_int_equal(SSL_read(p.client, &byte, 1), -1); /* a ticket would come here */
	assert_false(SSL_SESSION_is_resumable(SSL_get0_session(p.client)));
	drop(&p);
	assert_true(try_pair(&p, &c, &s, "/run/postgresql"));
	assert_null(SSL_get_servername(p.server, TLSEXT_NAMETYPE_host_name));
	drop(&p);
}

/* protos NULL: no ALPN at all. */
static bool shake_with_alpn(const char *protos, unsigned n, bool *agreed)
{
	struct tls_options c = { .mode = TLS_REQUIRE }, s = server_options();
	struct tls_ctx *client = must(tls_ctx_new_client(&c, err, sizeof err));
	struct tls_ctx *server = must(tls_ctx_new_server(&s, err, sizeof err));
	struct pair p = { .client = tls_ssl_new(client, NULL, err, sizeof err),
		          .server = tls_ssl_new(server, NULL, err, sizeof err) };
	BIO *a, *b;

	assert_int_equal(SSL_set_alpn_protos(p.client, (const unsigned char *)protos, n), 0);
	assert_true(BIO_new_bio_pair(&a, 0, &b, 0));
	SSL_set_bio(p.client, a, a);
	SSL_set_bio(p.server, b, b);
	bool ok = true;
	for (int i = 0; i < 6 && ok; i++)
		ok = step(p.client, &p) && step(p.server, &p);
	*agreed = ok && tls_alpn_agreed(p.server);
	drop(&p);
	tls_ctx_unref(client);
	tls_ctx_unref(server);
	return ok;
}

static void test_alpn_of_another_protocol_is_refused(void **state UNUSED)
{
	bool agreed;
	assert_true(shake_with_alpn(NULL, 0, &agreed));
	assert_false(agreed);
	assert_true(shake_with_alpn("\x08http/1.1\x0apostgresql", 20, &agreed));
	assert_true(agreed);
	assert_false(shake_with_alpn("\x08http/1.1", 9, &agreed));
}

/* --- client certificates --- */

static bool with_client_cert(enum tls_mode mode, bool server_has_ca, const struct identity *id, char *cn, size_t size,
                             bool *named)
{
	struct tls_options c = { .mode = TLS_REQUIRE }, s = server_options();
	struct pair p;

	s.mode = mode;
	s.ca_file = server_has_ca ? ca.cert_file : NULL;
	c.cert_file = id ? id->cert_file : NULL;
	c.key_file = id ? id->key_file : NULL;
	bool ok = try_pair(&p, &c, &s, "db.example");
	*named = ok && tls_peer_cn(p.server, cn, size);
	assert_int_equal(ok && tls_peer_verified(p.server), *named || (ok && id == &client_id && server_has_ca));
	drop(&p);
	return ok;
}

static void test_only_a_verified_client_certificate_gives_a_name(void **state UNUSED)
{
	char cn[64];
	bool named;

	assert_true(with_client_cert(TLS_REQUIRE, false, &client_id, cn, sizeof cn, &named) && !named);
	assert_true(with_client_cert(TLS_REQUIRE, true, NULL, cn, sizeof cn, &named) && !named);
	assert_true(with_client_cert(TLS_REQUIRE, true, &stranger, cn, sizeof cn, &named) && !named);
	assert_true(with_client_cert(TLS_REQUIRE, true, &client_id, cn, sizeof cn, &named) && named);
	assert_string_equal(cn, "alice");
	assert_false(with_client_cert(TLS_VERIFY_CA, true, NULL, cn, sizeof cn, &named));
	assert_false(with_client_cert(TLS_VERIFY_CA, true, &stranger, cn, sizeof cn, &named));
	assert_true(with_client_cert(TLS_VERIFY_FULL, true, &client_id, cn, sizeof cn, &named) && named);
	assert_true(with_client_cert(TLS_REQUIRE, true, &client_id, cn, 5, &named) && !named); /* no room */
	assert_true(with_client_cert(TLS_REQUIRE, true, &client_id, cn, 6, &named) && named);
}

static void test_name_with_a_nul_byte_is_no_name(void **state UNUSED)
{
	struct identity evil = issue_with(EVP_EC_gen("P-256"), EVP_sha256(), "evil", "alice\0.evil", 11, NULL, &ca);
	struct tls_options c = { .mode = TLS_REQUIRE, .cert_file = evil.cert_file, .key_file = evil.key_file };
	struct tls_options s = server_options();
	struct pair p;
	char cn[64];

	s.ca_file = ca.cert_file;
	assert_true(try_pair(&p, &c, &s, "db.example"));
	assert_true(tls_peer_verified(p.server));
	assert_false(tls_peer_cn(p.server, cn, sizeof cn));
	drop(&p);
	discard(&evil);
}

/* --- channel binding --- */

static void expect_endpoint(struct identity *id, const EVP_MD *expected)
{
	struct tls_options c = { .mode = TLS_REQUIRE, .ciphers = "ALL:@SECLEVEL=0" }, s = c;
	uint8_t own[TLS_HASH_MAX], peer[TLS_HASH_MAX], right[TLS_HASH_MAX];
	size_t own_len = 0, peer_len = 0;
	unsigned right_len = 0;
	struct pair p;

	s.cert_file = id->cert_file;
	s.key_file = id->key_file;
	assert_true(try_pair(&p, &c, &s, NULL));
	assert_int_equal(tls_endpoint_own(p.server, own, &own_len), expected != NULL);
	assert_int_equal(tls_endpoint_peer(p.client, peer, &peer_len), expected != NULL);
	assert_false(tls_endpoint_own(p.client, peer, &peer_len));
	assert_false(tls_endpoint_peer(p.server, own, &own_len));
	if (expected) {
		assert_true(X509_digest(id->cert, expected, right, &right_len));
		assert_true(own_len == right_len && peer_len == right_len);
		assert_memory_equal(own, right, right_len);
		assert_memory_equal(peer, right, right_len);
	}
	drop(&p);
	discard(id);
}

static void test_channel_binding_hash_follows_the_signature(void **state UNUSED)
{
	struct identity id = issue_with(EVP_EC_gen("P-256"), EVP_sha256(), "b", "b", -1, NULL, NULL);
	expect_endpoint(&id, EVP_sha256());
	id = issue_with(EVP_EC_gen("P-384"), EVP_sha384(), "b", "b", -1, NULL, NULL);
	expect_endpoint(&id, EVP_sha384());
	id = issue_with(EVP_RSA_gen(2048), EVP_sha512(), "b", "b", -1, NULL, NULL);
	expect_endpoint(&id, EVP_sha512());
	/* RFC 5929: MD5 and SHA-1 are replaced by SHA-256. */
	id = issue_with(EVP_EC_gen("P-256"), EVP_sha1(), "b", "b", -1, NULL, NULL);
	expect_endpoint(&id, EVP_sha256());
	id = issue_with(EVP_RSA_gen(1024), EVP_md5(), "b", "b", -1, NULL, NULL);
	expect_endpoint(&id, EVP_sha256());
	/* Ed25519 names no hash. */
	id = issue_with(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), NULL, "b", "b", -1, NULL, NULL);
	expect_endpoint(&id, NULL);
}

/* --- references --- */

static void *connect_and_drop(void *arg)
{
	struct tls_ctx *ctx = arg;
	char text[100];
	for (int i = 0; i < 300; i++) {
		SSL *ssl = tls_ssl_new(tls_ctx_ref(ctx), NULL, text, sizeof text);
		tls_ctx_unref(ctx);
		SSL_free(ssl);
	}
	tls_ctx_unref(ctx);
	return NULL;
}

static void test_context_is_shared_between_threads(void **state UNUSED)
{
	struct tls_options s = server_options();
	struct tls_ctx *ctx = must(tls_ctx_new_server(&s, err, sizeof err));
	pthread_t threads[3];

	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, connect_and_drop, tls_ctx_ref(ctx)), 0);
	tls_ctx_unref(ctx);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	tls_ctx_unref(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_bad_options_are_named),
		cmocka_unit_test(test_system_authorities),
		cmocka_unit_test(test_encrypted_key_is_refused_without_asking),
		cmocka_unit_test(test_protocol_versions),
		cmocka_unit_test(test_ciphers_and_curves),
		cmocka_unit_test(test_short_words_for_ciphers),
		cmocka_unit_test(test_client_verifies_the_server),
		cmocka_unit_test(test_verify_full_by_address_and_without_host),
		cmocka_unit_test(test_sni_and_alpn),
		cmocka_unit_test(test_alpn_of_another_protocol_is_refused),
		cmocka_unit_test(test_only_a_verified_client_certificate_gives_a_name),
		cmocka_unit_test(test_name_with_a_nul_byte_is_no_name),
		cmocka_unit_test(test_channel_binding_hash_follows_the_signature),
		cmocka_unit_test(test_context_is_shared_between_threads),
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
