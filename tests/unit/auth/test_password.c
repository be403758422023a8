/* test_password.c - kinds of secrets, md5 known answers, what is asked of whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include "auth/password.h"

/* md5('secret' || 'alice') as PostgreSQL stores it, and the answer to the salt 01 02 03 04. */
#define ALICE_MD5    "md54a0a68b43b6cd5cf266fa02f196e2371"
#define ALICE_ANSWER "md598a0412b9c31436fc53776e863350083"
#define VERIFIER                                                                                                       \
	"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                    \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
static const uint8_t salt[4] = { 1, 2, 3, 4 };

static void test_kinds(void **state)
{
	static const struct {
		const char *text;
		enum secret_kind kind;
	} rows[] = {
		{ "", SECRET_NONE },
		{ "secret", SECRET_PLAIN },
		{ ALICE_MD5, SECRET_MD5 },
		{ ALICE_MD5 "0", SECRET_PLAIN },
		{ "md54A0A68B43B6CD5CF266FA02F196E2371", SECRET_PLAIN }, /* upper case: not what PostgreSQL writes */
		{ "md5", SECRET_PLAIN },
		{ VERIFIER, SECRET_SCRAM },
		{ VERIFIER "=", SECRET_PLAIN },
		{ "SCRAM-SHA-256$", SECRET_PLAIN },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(secret_parse(str_of(rows[i].text)), rows[i].kind);
	assert_string_equal(secret_kind_name(SECRET_SCRAM), "scram-sha-256");
}

static void test_md5_known_answers(void **state)
{
	char out[MD5_TEXT_BYTES + 1];
	(void)state;
	assert_true(md5_secret(STR("secret"), STR("alice"), out));
	assert_string_equal(out, ALICE_MD5);
	assert_true(md5_response(STR(ALICE_MD5), salt, out));
	assert_string_equal(out, ALICE_ANSWER);
	assert_true(md5_answer(STR("secret"), STR("alice"), salt, out));
	assert_string_equal(out, ALICE_ANSWER);
	assert_true(md5_answer(STR(ALICE_MD5), STR("alice"), salt, out));
	assert_string_equal(out, ALICE_ANSWER);
	assert_false(md5_answer(STR(VERIFIER), STR("alice"), salt, out));
	assert_false(md5_answer(STR(""), STR("alice"), salt, out));
	assert_false(md5_response(STR("secret"), salt, out));
}

static void test_check_md5(void **state)
{
	(void)state;
	assert_true(password_check_md5(STR("secret"), STR("alice"), salt, STR(ALICE_ANSWER)));
	assert_true(password_check_md5(STR(ALICE_MD5), STR("alice"), salt, STR(ALICE_ANSWER)));
	assert_false(password_check_md5(STR("secret"), STR("bob"), salt, STR(ALICE_ANSWER)));
	assert_false(password_check_md5(STR("secret"), STR("alice"), (const uint8_t *)"\1\2\3\5", STR(ALICE_ANSWER)));
	assert_false(password_check_md5(STR("secret"), STR("alice"), salt, STR(ALICE_MD5)));
	assert_false(password_check_md5(STR("secret"), STR("alice"), salt, STR("")));
	assert_false(password_check_md5(STR("secret"), STR("alice"), salt, STR(ALICE_ANSWER "x")));
	assert_false(password_check_md5(STR(VERIFIER), STR("alice"), salt, STR(ALICE_ANSWER)));
	assert_false(password_check_md5(STR(""), STR("alice"), salt, STR(ALICE_ANSWER)));
}

static void test_check_clear(void **state)
{
	(void)state;
	assert_true(password_check_clear(STR("secret"), STR("alice"), STR("secret")));
	assert_true(password_check_clear(STR(ALICE_MD5), STR("alice"), STR("secret")));
	assert_true(password_check_clear(STR(VERIFIER), STR("alice"), STR("pencil")));
	assert_false(password_check_clear(STR("secret"), STR("alice"), STR("secre")));
	assert_false(password_check_clear(STR("secret"), STR("alice"), STR("secret2")));
	assert_false(password_check_clear(STR(ALICE_MD5), STR("bob"), STR("secret")));
	/* What is stored is not what opens: else a stolen file would be a password. */
	assert_false(password_check_clear(STR(ALICE_MD5), STR("alice"), STR(ALICE_MD5)));
	assert_false(password_check_clear(STR(VERIFIER), STR("alice"), STR(VERIFIER)));
	assert_false(password_check_clear(STR(""), STR("alice"), STR("")));
	assert_false(password_check_clear(STR(""), STR("alice"), STR("x")));
	assert_false(password_check_clear(STR("secret"), STR("alice"), STR("")));
}

static void test_methods(void **state)
{
	enum auth_method method;
	(void)state;
	assert_true(auth_method_parse(STR("scram-sha-256"), &method) && method == AUTH_METHOD_SCRAM);
	assert_true(auth_method_parse(STR("plain"), &method) && method == AUTH_METHOD_PASSWORD);
	assert_true(auth_method_parse(STR("hba"), &method) && method == AUTH_METHOD_HBA);
	assert_false(auth_method_parse(STR("ldap"), &method));
	assert_false(auth_method_parse(STR(""), &method));
	assert_string_equal(auth_method_name(AUTH_METHOD_MD5), "md5");
}

static void test_exchange(void **state)
{
	/* columns: none, plain, md5, scram */
	static const struct {
		enum auth_method method;
		enum auth_exchange by_kind[4];
	} rows[] = {
		{ AUTH_METHOD_TRUST,
		  { AUTH_EXCHANGE_NONE, AUTH_EXCHANGE_NONE, AUTH_EXCHANGE_NONE, AUTH_EXCHANGE_NONE } },
		{ AUTH_METHOD_REJECT,
		  { AUTH_EXCHANGE_REJECT, AUTH_EXCHANGE_REJECT, AUTH_EXCHANGE_REJECT, AUTH_EXCHANGE_REJECT } },
		{ AUTH_METHOD_PASSWORD,
		  { AUTH_EXCHANGE_CLEARTEXT, AUTH_EXCHANGE_CLEARTEXT, AUTH_EXCHANGE_CLEARTEXT,
		    AUTH_EXCHANGE_CLEARTEXT } },
		{ AUTH_METHOD_MD5, { AUTH_EXCHANGE_MD5, AUTH_EXCHANGE_MD5, AUTH_EXCHANGE_MD5, AUTH_EXCHANGE_SCRAM } },
		{ AUTH_METHOD_SCRAM,
		  { AUTH_EXCHANGE_SCRAM_MOCK, AUTH_EXCHANGE_SCRAM, AUTH_EXCHANGE_SCRAM_MOCK, AUTH_EXCHANGE_SCRAM } },
		{ AUTH_METHOD_HBA,
		  { AUTH_EXCHANGE_REJECT, AUTH_EXCHANGE_REJECT, AUTH_EXCHANGE_REJECT, AUTH_EXCHANGE_REJECT } },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (unsigned kind = 0; kind < 4; kind++)
			assert_int_equal(auth_exchange_pick(rows[i].method, (enum secret_kind)kind),
			                 rows[i].by_kind[kind]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),     cmocka_unit_test(test_md5_known_answers),
		cmocka_unit_test(test_check_md5), cmocka_unit_test(test_check_clear),
		cmocka_unit_test(test_methods),   cmocka_unit_test(test_exchange),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
