/* test_scram.c - SCRAM against the vector of RFC 7677, against itself, and against peers that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "auth/scram.h"

#define RFC_CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define RFC_SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_SERVER_FIRST "r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define RFC_CLIENT_FINAL "c=biws,r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define RFC_SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
#define RFC_VERIFIER                                                                                                   \
	"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                    \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static struct scram_verifier verifier_of(const char *text)
{
	struct scram_verifier v = { 0 };
	assert_true(scram_verifier_parse(str_of(text), &v));
	return v;
}

/* --- the vector --- */

static void test_rfc7677_server(void **state)
{
	struct scram_verifier v = verifier_of(RFC_VERIFIER), again;
	struct scram_server s;
	struct str out;
	(void)state;
	assert_true(scram_server_init(&s, &(struct scram_server_options){ .verifier = &v,
	                                                                  .mechanism = STR(SCRAM_MECHANISM),
	                                                                  .nonce = STR(RFC_SERVER_NONCE) }));
	assert_int_equal(scram_server_step(&s, STR("n,,n=user,r=" RFC_CLIENT_NONCE), &out), SCRAM_CONTINUE);
	assert_true(str_eq(out, STR(RFC_SERVER_FIRST)));
	assert_int_equal(scram_server_step(&s, STR(RFC_CLIENT_FINAL), &out), SCRAM_DONE);
	assert_true(str_eq(out, STR(RFC_SERVER_FINAL)));
	/* The client's key that came out of it is that of the password. */
	struct scram_keys keys;
	assert_true(scram_keys_derive(STR("pencil"), v.salt, v.salt_len, 4096, &keys));
	assert_memory_equal(s.keys.client_key, keys.client_key, SCRAM_KEY_BYTES);
	assert_memory_equal(s.keys.server_key, keys.server_key, SCRAM_KEY_BYTES);
	assert_int_equal(s.keys.iterations, 4096);
	assert_true(scram_verifier_make_salted(STR("pencil"), v.salt, v.salt_len, 4096, &again));
	assert_true(scram_verifier_equal(&v, &again));
	scram_server_deinit(&s);
	assert_int_equal(s.state, 0);
}

static void test_rfc7677_client(void **state)
{
	struct scram_client c;
	struct str out;
	(void)state;
	assert_true(scram_client_init(&c, &(struct scram_client_options){ .password = STR("pencil"),
	                                                                  .binding = SCRAM_BINDING_NONE,
	                                                                  .nonce = STR(RFC_CLIENT_NONCE) }));
	assert_int_equal(scram_client_step(&c, STR(""), &out), SCRAM_CONTINUE);
	assert_true(str_eq(out, STR("n,,n=,r=" RFC_CLIENT_NONCE)));
	/* The RFC's client sends its name, ours does not, as libpq. */
	c.first_bare.n = (size_t)snprintf(c.first_bare.p, sizeof(c.first_bare.p), "n=user,r=" RFC_CLIENT_NONCE);
	assert_int_equal(scram_client_step(&c, STR(RFC_SERVER_FIRST), &out), SCRAM_CONTINUE);
	assert_true(str_eq(out, STR(RFC_CLIENT_FINAL)));
	assert_int_equal(scram_client_step(&c, STR(RFC_SERVER_FINAL), &out), SCRAM_DONE);
	assert_int_equal(scram_client_step(&c, STR(RFC_SERVER_FINAL), &out), SCRAM_FAILED);
	assert_int_equal(c.failure, SCRAM_FAILURE_OUT_OF_ORDER);
	scram_client_deinit(&c);
}

/* --- both roles against each other --- */

struct pair {
	struct scram_client client;
	struct scram_server server;
	enum scram_result client_result, server_result;
};

static void run(struct pair *p, const struct scram_client_options *co, const struct scram_server_options *so)
{
	struct str message;
	assert_true(scram_client_init(&p->client, co));
	assert_true(scram_server_init(&p->server, so));
	p->client_result = scram_client_step(&p->client, STR(""), &message);
	p->server_result = SCRAM_CONTINUE;
	while (p->client_result == SCRAM_CONTINUE && p->server_result == SCRAM_CONTINUE) {
		p->server_result = scram_server_step(&p->server, message, &message);
		if (p->server_result != SCRAM_FAILED)
			p->client_result = scram_client_step(&p->client, message, &message);
	}
}

static void deinit(struct pair *p)
{
	scram_client_deinit(&p->client);
	scram_server_deinit(&p->server);
}

static void test_password_login(void **state)
{
	struct scram_verifier v;
	struct pair p;
	(void)state;
	assert_true(scram_verifier_make(STR("secret"), 10, &v));
	run(&p, &(struct scram_client_options){ .password = STR("secret"), .binding = SCRAM_BINDING_NONE },
	    &(struct scram_server_options){ .verifier = &v, .mechanism = STR(SCRAM_MECHANISM) });
	assert_int_equal(p.client_result, SCRAM_DONE);
	assert_int_equal(p.server_result, SCRAM_DONE);
	assert_memory_equal(p.client.keys.client_key, p.server.keys.client_key, SCRAM_KEY_BYTES);
	deinit(&p);
	run(&p, &(struct scram_client_options){ .password = STR("Secret"), .binding = SCRAM_BINDING_NONE },
	    &(struct scram_server_options){ .verifier = &v, .mechanism = STR(SCRAM_MECHANISM) });
	assert_int_equal(p.server_result, SCRAM_FAILED);
	assert_int_equal(p.server.failure, SCRAM_FAILURE_PROOF);
	assert_false(scram_failure_is_protocol(p.server.failure));
	deinit(&p);
}

/* The keys that a login leaves are enough for the next login elsewhere, without any password. */
static void test_pass_through(void **state)
{
	struct scram_verifier v, other;
	struct pair first, second;
	(void)state;
	assert_true(scram_verifier_make(STR("secret"), 10, &v));
	assert_true(scram_verifier_make(STR("secret"), 10, &other));
	const struct scram_server_options server = { .verifier = &v, .mechanism = STR(SCRAM_MECHANISM) };
	run(&first, &(struct scram_client_options){ .password = STR("secret"), .binding = SCRAM_BINDING_NONE },
	    &server);
	assert_int_equal(first.server_result, SCRAM_DONE);
	struct scram_client_options keys = { .keys = &first.server.keys, .binding = SCRAM_BINDING_NONE };
	run(&second, &keys, &server);
	assert_int_equal(second.client_result, SCRAM_DONE);
	assert_int_equal(second.server_result, SCRAM_DONE);
	deinit(&second);
	/* Another salt: the server would refuse; we see it coming and can say why. */
	run(&second, &keys, &(struct scram_server_options){ .verifier = &other, .mechanism = STR(SCRAM_MECHANISM) });
	assert_int_equal(second.client.failure, SCRAM_FAILURE_OTHER_VERIFIER);
	deinit(&second);
	/* With the password at hand it is no obstacle. */
	keys.password = STR("secret");
	run(&second, &keys, &(struct scram_server_options){ .verifier = &other, .mechanism = STR(SCRAM_MECHANISM) });
	assert_int_equal(second.client_result, SCRAM_DONE);
	deinit(&second);
	deinit(&first);
}

static void test_channel_binding(void **state)
{
	static const char hash_a[] = "0123456789abcdef0123456789abcdef", hash_b[] = "0123456789abcdef0123456789abcdeF";
	struct scram_verifier v;
	struct pair p;
	(void)state;
	assert_true(scram_verifier_make(STR("secret"), 10, &v));
	struct scram_client_options client = { .password = STR("secret"),
		                               .binding = SCRAM_BINDING_USED,
		                               .binding_data = STR(hash_a) };
	struct scram_server_options server = { .verifier = &v,
		                               .binding_offered = true,
		                               .mechanism = STR(SCRAM_MECHANISM_PLUS),
		                               .binding_data = STR(hash_a) };
	run(&p, &client, &server);
	assert_int_equal(p.client_result, SCRAM_DONE);
	assert_int_equal(p.server_result, SCRAM_DONE);
	deinit(&p);
	client.binding_data = STR(hash_b); /* somebody stands between the two */
	run(&p, &client, &server);
	assert_int_equal(p.server.failure, SCRAM_FAILURE_BINDING_MISMATCH);
	deinit(&p);
}

/* --- the server role against strange clients --- */

static void check_first(bool offered, bool plus, const char *message, enum scram_failure expected)
{
	struct scram_verifier v = verifier_of(RFC_VERIFIER);
	struct scram_server s;
	struct str out;
	assert_true(scram_server_init(
	    &s, &(struct scram_server_options){ .verifier = &v,
	                                        .binding_offered = offered,
	                                        .mechanism = plus ? STR(SCRAM_MECHANISM_PLUS) : STR(SCRAM_MECHANISM),
	                                        .binding_data = STR("h") }));
	enum scram_result result = scram_server_step(&s, str_of(message), &out);
	if (s.failure != expected)
		fail_msg("%s: \"%s\" instead of \"%s\"", message, scram_failure_text(s.failure),
		         scram_failure_text(expected));
	assert_int_equal(result, expected == SCRAM_FAILURE_NONE ? SCRAM_CONTINUE : SCRAM_FAILED);
	scram_server_deinit(&s);
}

static void test_client_first(void **state)
{
	static const struct {
		const char *message;
		enum scram_failure expected;
	} rows[] = {
		{ "n,,n=,r=abc", SCRAM_FAILURE_NONE },
		{ "y,,n=,r=abc", SCRAM_FAILURE_NONE },
		{ "n,,n=user,r=abc,x=extension", SCRAM_FAILURE_NONE },
		{ "p=tls-server-end-point,,n=,r=abc", SCRAM_FAILURE_BINDING_NOT_CHOSEN },
		{ "n,a=admin,n=,r=abc", SCRAM_FAILURE_AUTHZID },
		{ "n,m=x,n=,r=abc", SCRAM_FAILURE_MALFORMED },
		{ "n,,m=x,n=,r=abc", SCRAM_FAILURE_UNSUPPORTED_EXTENSION },
		{ "", SCRAM_FAILURE_MALFORMED },
		{ "n", SCRAM_FAILURE_MALFORMED },
		{ "n,", SCRAM_FAILURE_MALFORMED },
		{ "n,,", SCRAM_FAILURE_MALFORMED },
		{ "n,,n", SCRAM_FAILURE_MALFORMED },
		{ "n,,n=", SCRAM_FAILURE_MALFORMED },
		{ "n,,n=,", SCRAM_FAILURE_MALFORMED },
		{ "n,,n=,r", SCRAM_FAILURE_MALFORMED },
		{ "n,,n=,r=", SCRAM_FAILURE_MALFORMED },
		{ "n,,n=,r=a c", SCRAM_FAILURE_MALFORMED },
		{ "n,,n=,r=a\x7f"
		  "c",
		  SCRAM_FAILURE_MALFORMED },
		{ "n,,r=abc,n=", SCRAM_FAILURE_MALFORMED },
		{ "x,,n=,r=abc", SCRAM_FAILURE_MALFORMED },
		{ "nn,,n=,r=abc", SCRAM_FAILURE_MALFORMED },
		{ "p,,n=,r=abc", SCRAM_FAILURE_MALFORMED },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		check_first(false, false, rows[i].message, rows[i].expected);
}

/* The rules of RFC 5802 section 6 for the three flags. */
static void test_binding_flags(void **state)
{
	(void)state;
	check_first(true, true, "p=tls-server-end-point,,n=,r=abc", SCRAM_FAILURE_NONE);
	check_first(true, true, "p=tls-unique,,n=,r=abc", SCRAM_FAILURE_BINDING_TYPE);
	check_first(true, true, "n,,n=,r=abc", SCRAM_FAILURE_BINDING_NOT_USED);
	check_first(true, true, "y,,n=,r=abc", SCRAM_FAILURE_BINDING_NOT_USED);
	check_first(true, false, "n,,n=,r=abc", SCRAM_FAILURE_NONE);
	check_first(true, false, "y,,n=,r=abc", SCRAM_FAILURE_BINDING_DOWNGRADE);
	check_first(true, false, "p=tls-server-end-point,,n=,r=abc", SCRAM_FAILURE_BINDING_NOT_CHOSEN);
}

static void test_mechanisms(void **state)
{
	struct scram_verifier v = verifier_of(RFC_VERIFIER);
	struct scram_server s;
	(void)state;
	struct scram_server_options o = { .verifier = &v, .mechanism = STR(SCRAM_MECHANISM_PLUS) };
	assert_false(scram_server_init(&s, &o)); /* not offered */
	assert_int_equal(s.failure, SCRAM_FAILURE_MECHANISM);
	o.binding_offered = true;
	assert_true(scram_server_init(&s, &o));
	o.mechanism = STR("SCRAM-SHA-1");
	assert_false(scram_server_init(&s, &o));
	o.mechanism = STR("");
	assert_false(scram_server_init(&s, &o));
}

static enum scram_failure answer_final(struct str message)
{
	struct scram_verifier v = verifier_of(RFC_VERIFIER);
	struct scram_server s;
	struct str out;
	assert_true(scram_server_init(&s, &(struct scram_server_options){ .verifier = &v,
	                                                                  .mechanism = STR(SCRAM_MECHANISM),
	                                                                  .nonce = STR(RFC_SERVER_NONCE) }));
	assert_int_equal(scram_server_step(&s, STR("n,,n=user,r=" RFC_CLIENT_NONCE), &out), SCRAM_CONTINUE);
	/* in a block of its own: the address sanitizer sees what is read beyond it */
	char *copy = malloc(message.n ? message.n : 1);
	memcpy(copy, message.p, message.n);
	enum scram_result result = scram_server_step(&s, (struct str){ copy, message.n }, &out);
	free(copy);
	assert_int_equal(result, s.failure == SCRAM_FAILURE_NONE ? SCRAM_DONE : SCRAM_FAILED);
	return s.failure;
}

static void test_every_cut_and_flip_of_client_final(void **state)
{
	const struct str good = STR(RFC_CLIENT_FINAL);
	char bad[sizeof(RFC_CLIENT_FINAL) + 1];
	(void)state;
	assert_int_equal(answer_final(good), SCRAM_FAILURE_NONE);
	for (size_t n = 0; n < good.n; n++)
		assert_int_not_equal(answer_final((struct str){ good.p, n }), SCRAM_FAILURE_NONE);
	for (size_t i = 0; i < good.n; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			memcpy(bad, good.p, good.n);
			bad[i] = (char)(bad[i] ^ (1 << bit));
			enum scram_failure failure = answer_final((struct str){ bad, good.n });
			/* The last digit before = carries two bits that no byte has. */
			if (failure == SCRAM_FAILURE_NONE && i != good.n - 2)
				fail_msg("accepted with bit %u of byte %zu turned", bit, i);
		}
	}
	for (unsigned byte = 0; byte < 256; byte++) {
		memcpy(bad, good.p, good.n);
		bad[good.n] = (char)byte;
		assert_int_not_equal(answer_final((struct str){ bad, good.n + 1 }), SCRAM_FAILURE_NONE);
	}
}

static void test_client_final_kinds(void **state)
{
	static const struct {
		const char *message;
		enum scram_failure expected;
	} rows[] = {
		{ "c=eSws,r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		  SCRAM_FAILURE_BINDING_MISMATCH },
		{ "c=biws,r=" RFC_CLIENT_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_FAILURE_NONCE },
		{ "c=biws,r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE ",p=dHzb", SCRAM_FAILURE_MALFORMED },
		{ "c=biws,r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE ",x=y,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		  SCRAM_FAILURE_PROOF }, /* well formed: the extension is signed too */
		{ "c=biws,r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE
		  ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		  SCRAM_FAILURE_MALFORMED },
		{ "c=biws,r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE, SCRAM_FAILURE_MALFORMED },
		{ "c=biws,r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE ",", SCRAM_FAILURE_MALFORMED },
		{ "c=biws", SCRAM_FAILURE_MALFORMED },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		enum scram_failure failure = answer_final(str_of(rows[i].message));
		if (failure != rows[i].expected)
			fail_msg("%s: \"%s\"", rows[i].message, scram_failure_text(failure));
	}
}

static void test_long_client_messages(void **state)
{
	struct scram_verifier v = verifier_of(RFC_VERIFIER);
	static char message[SCRAM_MESSAGE_MAX + 200];
	(void)state;
	for (size_t nonce = 1; nonce < SCRAM_MESSAGE_MAX + 100; nonce += nonce < 400 ? 37 : 1) {
		struct scram_server s;
		struct str out;
		memcpy(message, "n,,n=,r=", 8);
		memset(message + 8, 'a', nonce);
		assert_true(scram_server_init(
		    &s, &(struct scram_server_options){ .verifier = &v, .mechanism = STR(SCRAM_MECHANISM) }));
		enum scram_result result = scram_server_step(&s, (struct str){ message, nonce + 8 }, &out);
		assert_int_equal(result, nonce + 24 <= SCRAM_NONCE_MAX ? SCRAM_CONTINUE : SCRAM_FAILED);
		assert_int_equal(s.failure,
		                 nonce + 24 <= SCRAM_NONCE_MAX ? SCRAM_FAILURE_NONE : SCRAM_FAILURE_TOO_LONG);
		assert_true(out.n <= SCRAM_MESSAGE_MAX);
	}
}

/* A user that does not exist gets the same questions, always with the same salt, and never gets in. */
static void test_mock(void **state)
{
	struct scram_verifier a, b, c;
	struct pair p;
	(void)state;
	assert_true(scram_verifier_mock(STR("nobody"), 4096, &a));
	assert_true(scram_verifier_mock(STR("nobody"), 4096, &b));
	assert_true(scram_verifier_mock(STR("nobody2"), 4096, &c));
	assert_true(scram_verifier_equal(&a, &b));
	assert_int_equal(a.salt_len, SCRAM_SALT_BYTES);
	assert_memory_not_equal(a.salt, c.salt, SCRAM_SALT_BYTES);
	run(&p, &(struct scram_client_options){ .password = STR("x"), .binding = SCRAM_BINDING_NONE },
	    &(struct scram_server_options){ .verifier = &a, .is_mock = true, .mechanism = STR(SCRAM_MECHANISM) });
	assert_int_equal(p.server.failure, SCRAM_FAILURE_PROOF);
	deinit(&p);
	/* Not even with the right proof. */
	a = verifier_of(RFC_VERIFIER);
	run(&p, &(struct scram_client_options){ .password = STR("pencil"), .binding = SCRAM_BINDING_NONE },
	    &(struct scram_server_options){ .verifier = &a, .is_mock = true, .mechanism = STR(SCRAM_MECHANISM) });
	assert_int_equal(p.server.failure, SCRAM_FAILURE_PROOF);
	deinit(&p);
}

/* --- the client role against strange servers --- */

static void client_first(struct scram_client *c)
{
	struct str out;
	assert_true(scram_client_init(c, &(struct scram_client_options){ .password = STR("pencil"),
	                                                                 .binding = SCRAM_BINDING_NONE,
	                                                                 .nonce = STR("abc") }));
	assert_int_equal(scram_client_step(c, STR(""), &out), SCRAM_CONTINUE);
}

static void test_server_first(void **state)
{
	static const struct {
		const char *message;
		enum scram_failure expected;
	} rows[] = {
		{ "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1", SCRAM_FAILURE_NONE },
		{ "r=abc,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1", SCRAM_FAILURE_NONCE },
		{ "r=abdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1", SCRAM_FAILURE_NONCE },
		{ "r=ab,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1", SCRAM_FAILURE_NONCE },
		{ "r=,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1", SCRAM_FAILURE_MALFORMED },
		{ "r=abcdef,s=,i=1", SCRAM_FAILURE_MALFORMED },
		{ "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ=,i=1", SCRAM_FAILURE_MALFORMED },
		{ "r=abcdef,s=W22 aJ0SNY7soEsUEjb6gQ==,i=1", SCRAM_FAILURE_MALFORMED },
		{ "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==", SCRAM_FAILURE_MALFORMED },
		{ "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=", SCRAM_FAILURE_MALFORMED },
		{ "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=-1", SCRAM_FAILURE_MALFORMED },
		{ "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1x", SCRAM_FAILURE_MALFORMED },
		{ "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0", SCRAM_FAILURE_ITERATIONS },
		{ "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1000001", SCRAM_FAILURE_ITERATIONS },
		{ "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=2147483648", SCRAM_FAILURE_ITERATIONS },
		{ "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=99999999999999999999", SCRAM_FAILURE_MALFORMED },
		{ "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1,x=y", SCRAM_FAILURE_MALFORMED },
		{ "m=x,r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1", SCRAM_FAILURE_UNSUPPORTED_EXTENSION },
		{ "s=W22ZaJ0SNY7soEsUEjb6gQ==,r=abcdef,i=1", SCRAM_FAILURE_MALFORMED },
		{ "e=other-error", SCRAM_FAILURE_MALFORMED },
		{ "", SCRAM_FAILURE_MALFORMED },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct scram_client c;
		struct str out;
		client_first(&c);
		enum scram_result result = scram_client_step(&c, str_of(rows[i].message), &out);
		if (c.failure != rows[i].expected)
			fail_msg("%s: \"%s\"", rows[i].message, scram_failure_text(c.failure));
		assert_int_equal(result, rows[i].expected == SCRAM_FAILURE_NONE ? SCRAM_CONTINUE : SCRAM_FAILED);
		scram_client_deinit(&c);
	}
}

/* CVE-2026-6665 of another pooler: a server's long nonce overran the client-final message. */
static void test_long_server_nonce_and_salt(void **state)
{
	static char message[4096];
	(void)state;
	for (size_t nonce = 4; nonce < 2000; nonce += nonce < 400 ? 41 : 1) {
		struct scram_client c;
		struct str out;
		client_first(&c);
		memcpy(message, "r=abc", 5);
		memset(message + 5, 'd', nonce - 3);
		int tail = snprintf(message + 2 + nonce, 64, ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1");
		enum scram_result result =
		    scram_client_step(&c, (struct str){ message, 2 + nonce + (size_t)tail }, &out);
		assert_int_equal(result, nonce <= SCRAM_NONCE_MAX ? SCRAM_CONTINUE : SCRAM_FAILED);
		assert_int_equal(c.failure, nonce <= SCRAM_NONCE_MAX ? SCRAM_FAILURE_NONE : SCRAM_FAILURE_TOO_LONG);
		scram_client_deinit(&c);
	}
	for (size_t salt = 4; salt < 600; salt += 4) {
		struct scram_client c;
		struct str out;
		client_first(&c);
		memcpy(message, "r=abcd,s=", 9);
		memset(message + 9, 'A', salt);
		memcpy(message + 9 + salt, ",i=1", 4);
		enum scram_result result = scram_client_step(&c, (struct str){ message, 13 + salt }, &out);
		assert_int_equal(result, salt / 4 * 3 <= SCRAM_SALT_MAX ? SCRAM_CONTINUE : SCRAM_FAILED);
		scram_client_deinit(&c);
	}
}

static void test_server_final(void **state)
{
	static const struct {
		const char *message;
		enum scram_failure expected;
	} rows[] = {
		{ "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", SCRAM_FAILURE_SERVER_PROOF },
		{ "e=invalid-proof", SCRAM_FAILURE_SERVER_ERROR },
		{ "v=6rriTRBi", SCRAM_FAILURE_MALFORMED },
		{ "v=", SCRAM_FAILURE_MALFORMED },
		{ "", SCRAM_FAILURE_MALFORMED },
		{ "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=,x=y", SCRAM_FAILURE_MALFORMED },
		{ "x=y", SCRAM_FAILURE_MALFORMED },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct scram_client c;
		struct str out;
		client_first(&c);
		assert_int_equal(scram_client_step(&c, STR("r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1"), &out),
		                 SCRAM_CONTINUE);
		assert_int_equal(scram_client_step(&c, str_of(rows[i].message), &out), SCRAM_FAILED);
		assert_int_equal(c.failure, rows[i].expected);
		scram_client_deinit(&c);
	}
}

static void test_zero_bytes_and_giants(void **state)
{
	struct scram_client c;
	struct str out;
	(void)state;
	client_first(&c);
	assert_int_equal(scram_client_step(&c, (struct str){ "r=abcdef\0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1", 41 }, &out),
	                 SCRAM_FAILED);
	assert_int_equal(c.failure, SCRAM_FAILURE_MALFORMED);
	client_first(&c);
	/* The length alone decides: nothing may be read. */
	assert_int_equal(scram_client_step(&c, (struct str){ "r=", (size_t)INT32_MAX }, &out), SCRAM_FAILED);
	assert_int_equal(c.failure, SCRAM_FAILURE_TOO_LONG);
}

/* --- choice of a mechanism --- */

static void test_choice(void **state)
{
	static const struct {
		struct scram_offer offer;
		enum scram_channel_binding wanted;
		enum scram_choice choice;
		enum scram_binding binding;
	} rows[] = {
		{ { true, false, false }, SCRAM_CHANNEL_PREFER, SCRAM_CHOICE_PLAIN, SCRAM_BINDING_NONE },
		{ { true, true, false }, SCRAM_CHANNEL_PREFER, SCRAM_CHOICE_PLAIN, SCRAM_BINDING_NONE },
		{ { true, false, true }, SCRAM_CHANNEL_PREFER, SCRAM_CHOICE_PLAIN, SCRAM_BINDING_POSSIBLE },
		{ { true, true, true }, SCRAM_CHANNEL_PREFER, SCRAM_CHOICE_PLUS, SCRAM_BINDING_USED },
		{ { true, true, true }, SCRAM_CHANNEL_DISABLE, SCRAM_CHOICE_PLAIN, SCRAM_BINDING_NONE },
		{ { true, false, true }, SCRAM_CHANNEL_REQUIRE, SCRAM_CHOICE_NONE, SCRAM_BINDING_POSSIBLE },
		{ { true, true, true }, SCRAM_CHANNEL_REQUIRE, SCRAM_CHOICE_PLUS, SCRAM_BINDING_USED },
		{ { false, false, true }, SCRAM_CHANNEL_PREFER, SCRAM_CHOICE_NONE, SCRAM_BINDING_POSSIBLE },
		{ { false, true, false }, SCRAM_CHANNEL_PREFER, SCRAM_CHOICE_NONE, SCRAM_BINDING_NONE },
	};
	struct scram_offer offer = { .has_binding = true };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		enum scram_binding binding;
		assert_int_equal(scram_choose(&rows[i].offer, rows[i].wanted, &binding), rows[i].choice);
		assert_int_equal(binding, rows[i].binding);
	}
	scram_offer_add(&offer, STR("OAUTHBEARER"));
	assert_false(offer.plain || offer.plus);
	scram_offer_add(&offer, STR(SCRAM_MECHANISM));
	scram_offer_add(&offer, STR(SCRAM_MECHANISM_PLUS));
	assert_true(offer.plain && offer.plus);
}

/* --- verifiers and passwords --- */

static void test_verifier_text(void **state)
{
	static const char *const bad[] = {
		"",
		"SCRAM-SHA-256",
		"SCRAM-SHA-256$",
		"SCRAM-SHA-1$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
		"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
		"SCRAM-SHA-256$-1:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
		"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
		"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=",
		"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
		RFC_VERIFIER "x",
		RFC_VERIFIER ":",
	};
	struct scram_verifier v;
	char text[SCRAM_VERIFIER_TEXT_MAX];
	(void)state;
	v = verifier_of(RFC_VERIFIER);
	assert_true(scram_verifier_format(&v, text, sizeof(text)));
	assert_string_equal(text, RFC_VERIFIER);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(scram_verifier_parse(str_of(bad[i]), &v));
	for (size_t n = 0; n < sizeof(RFC_VERIFIER) - 1; n++)
		assert_false(scram_verifier_parse((struct str){ RFC_VERIFIER, n }, &v));
	assert_true(scram_verifier_make_salted(STR("x"), (const uint8_t[SCRAM_SALT_MAX]){ 1 }, SCRAM_SALT_MAX, 1, &v));
	v.iterations = INT32_MAX;
	assert_true(scram_verifier_format(&v, text, sizeof(text))); /* the longest of all fits */
	assert_false(scram_verifier_format(&v, text, 40));
}

static void test_check_password(void **state)
{
	struct scram_verifier v = verifier_of(RFC_VERIFIER);
	(void)state;
	assert_true(scram_verifier_check_password(&v, STR("pencil")));
	assert_false(scram_verifier_check_password(&v, STR("pencil ")));
	assert_false(scram_verifier_check_password(&v, STR("")));
	v.iterations = 2000000000; /* set by a user to keep us busy for an hour */
	assert_false(scram_verifier_check_password(&v, STR("pencil")));
}

/* RFC 4013 section 3, and what PostgreSQL does where SASLprep refuses: the bytes as they are. */
static void test_saslprep(void **state)
{
	static const char *const same[][2] = {
		{ "I\xc2\xadX", "IX" },   /* soft hyphen goes */
		{ "\xc2\xaa", "a" },      /* compatibility form */
		{ "\xe2\x85\xa8", "IX" }, /* roman nine */
		{ "a\xc2\xa0"
		  "b",
		  "a b" },                   /* no-break space */
		{ "e\xcc\x81", "\xc3\xa9" }, /* combining acute accent */
	};
	static const char *const raw[] = {
		"\x07\xc3\xa4", /* control character: forbidden */
		"\xd8\xa7"
		"1",                /* right-to-left followed by a digit: forbidden */
		"\xff\xfe",         /* not UTF-8 */
		"\xc2\xad",         /* nothing would be left */
		"\xf0\x9f\x98\x80", /* unassigned in Unicode 3.2 */
		"a\xcd\x80",        /* forbidden before NFKC, though not after it */
		"\xc3\xa0",         /* which would have made this of it */
	};
	const uint8_t salt[] = { 1, 2, 3, 4 };
	struct scram_verifier a, b;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(same); i++) {
		assert_true(scram_verifier_make_salted(str_of(same[i][0]), salt, 4, 2, &a));
		assert_true(scram_verifier_make_salted(str_of(same[i][1]), salt, 4, 2, &b));
		if (!scram_verifier_equal(&a, &b))
			fail_msg("pair %zu differs", i);
	}
	for (size_t i = 0; i < ARRAY_LEN(raw); i++) {
		for (size_t j = 0; j < i; j++) {
			assert_true(scram_verifier_make_salted(str_of(raw[i]), salt, 4, 2, &a));
			assert_true(scram_verifier_make_salted(str_of(raw[j]), salt, 4, 2, &b));
			assert_false(scram_verifier_equal(&a, &b));
		}
	}
}

static void test_derive_bounds(void **state)
{
	const uint8_t salt[SCRAM_SALT_MAX + 1] = { 0 };
	struct scram_keys keys;
	(void)state;
	assert_false(scram_keys_derive(STR("x"), salt, 4, 0, &keys));
	assert_false(scram_keys_derive(STR("x"), salt, 4, SCRAM_ITERATIONS_MAX + 1, &keys));
	assert_false(scram_keys_derive(STR("x"), salt, sizeof(salt), 1, &keys));
	assert_true(scram_keys_derive(STR(""), salt, SCRAM_SALT_MAX, 1, &keys));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc7677_server),
		cmocka_unit_test(test_rfc7677_client),
		cmocka_unit_test(test_password_login),
		cmocka_unit_test(test_pass_through),
		cmocka_unit_test(test_channel_binding),
		cmocka_unit_test(test_client_first),
		cmocka_unit_test(test_binding_flags),
		cmocka_unit_test(test_mechanisms),
		cmocka_unit_test(test_every_cut_and_flip_of_client_final),
		cmocka_unit_test(test_client_final_kinds),
		cmocka_unit_test(test_long_client_messages),
		cmocka_unit_test(test_mock),
		cmocka_unit_test(test_server_first),
		cmocka_unit_test(test_long_server_nonce_and_salt),
		cmocka_unit_test(test_server_final),
		cmocka_unit_test(test_zero_bytes_and_giants),
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_verifier_text),
		cmocka_unit_test(test_check_password),
		cmocka_unit_test(test_saslprep),
		cmocka_unit_test(test_derive_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
