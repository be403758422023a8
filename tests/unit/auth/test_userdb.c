/* test_userdb.c - the user file and its errors, snapshots, verifiers of plain passwords, the store of keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <pthread.h>
#include <unistd.h>
#include "auth/userdb.h"

#define VERIFIER                                                                                                       \
	"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                    \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static char error[256];
static char finished; /* its address is what a thread returns that has found nothing wrong */

static struct userdb *parse(const char *text)
{
	/* without the NUL: the parser must not need it */
	size_t n = strlen(text);
	char *copy = malloc(n ? n : 1);
	memcpy(copy, text, n);
	error[0] = '\0';
	struct userdb *db = userdb_parse((struct str){ copy, n }, "users.txt", error, sizeof(error));
	free(copy);
	return db;
}

static void test_lines(void **state)
{
	struct userdb *db = parse("; comment\n"
	                          "# another\n"
	                          "\n"
	                          "\"alice\" \"secret\"\n"
	                          "  \"bob\"\t\"md54a0a68b43b6cd5cf266fa02f196e2371\"  \r\n"
	                          "\"say \"\"hi\"\"\" \"a;b#c\" ; comment\n"
	                          "\"carol\" \"" VERIFIER "\"\n"
	                          "\"dave\" \"\"");
	(void)state;
	assert_non_null(db);
	assert_int_equal(userdb_count(db), 5);
	const struct userdb_user *u = userdb_find(db, STR("alice"));
	assert_string_equal(u->secret, "secret");
	assert_int_equal(u->kind, SECRET_PLAIN);
	assert_int_equal(u->line, 4);
	assert_int_equal(userdb_find(db, STR("bob"))->kind, SECRET_MD5);
	u = userdb_find(db, STR("say \"hi\""));
	assert_string_equal(u->secret, "a;b#c");
	assert_int_equal(userdb_find(db, STR("carol"))->kind, SECRET_SCRAM);
	assert_int_equal(userdb_find(db, STR("dave"))->kind, SECRET_NONE);
	assert_null(userdb_find(db, STR("Alice")));
	assert_null(userdb_find(db, STR("alic")));
	assert_null(userdb_find(db, STR("")));
	userdb_unref(db);
}

static void test_errors_name_the_line(void **state)
{
	static const struct {
		const char *text, *error;
	} rows[] = {
		{ "alice \"x\"\n", "users.txt:1: expected a user name in double quotes" },
		{ "\n\n\"alice\n", "users.txt:3: expected a double quote at the end of a user name" },
		{ "\"alice\"\n", "users.txt:1: expected a secret in double quotes" },
		{ "\"a\" \"b\"\n\"alice\" secret\n", "users.txt:2: expected a secret in double quotes" },
		{ "\"alice\" \"secret", "users.txt:1: expected a double quote at the end of a secret" },
		{ "\"alice\" \"secret\" \"2030-01-01\"\n",
		  "users.txt:1: expected the end of the line after the secret" },
		{ "\"alice\"\"secret\"\n", "users.txt:1: expected a secret in double quotes" },
		{ "\"alice\"x\"secret\"\n", "users.txt:1: expected a space between the user name and the secret" },
		{ "\"\" \"secret\"\n", "users.txt:1: the user name is empty" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_null(parse(rows[i].text));
		assert_string_equal(error, rows[i].error);
	}
	assert_null(userdb_parse((struct str){ "\"a\0b\" \"c\"", 9 }, "users.txt", error, sizeof(error)));
	assert_string_equal(error, "users.txt:1: a user name must not contain a zero byte");
	assert_null(userdb_parse(STR("x"), "users.txt", error, 8)); /* a small buffer is cut, not overrun */
	assert_string_equal(error, "users.t");
}

static void test_every_cut(void **state)
{
	static const char text[] = "\"a\"\"b\" \"secret\"\n";
	(void)state;
	for (size_t n = 0; n < sizeof(text); n++) {
		char *copy = malloc(n ? n : 1);
		memcpy(copy, text, n);
		struct userdb *db = userdb_parse((struct str){ copy, n }, "u", error, sizeof(error));
		assert_int_equal(db != NULL, n == 0 || n >= sizeof(text) - 2);
		userdb_unref(db);
		free(copy);
	}
}

static void test_last_line_of_a_user_counts(void **state)
{
	struct userdb *db = parse("\"alice\" \"old\"\n\"alice\" \"new\"\n");
	(void)state;
	assert_int_equal(userdb_count(db), 1);
	assert_string_equal(userdb_find(db, STR("alice"))->secret, "new");
	userdb_unref(db);
}

static void test_typical_kind(void **state)
{
	static const struct {
		const char *text;
		enum secret_kind kind;
	} rows[] = {
		{ "", SECRET_SCRAM },
		{ "\"a\" \"x\"\n", SECRET_PLAIN },
		{ "\"a\" \"x\"\n\"b\" \"" VERIFIER "\"\n", SECRET_SCRAM },
		{ "\"a\" \"md54a0a68b43b6cd5cf266fa02f196e2371\"\n\"b\" \"\"\n\"c\" \"\"", SECRET_MD5 },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct userdb *db = parse(rows[i].text);
		assert_int_equal(userdb_typical_kind(db), rows[i].kind);
		userdb_unref(db);
	}
}

static void test_files(void **state)
{
	char path[] = "/tmp/pgweir-users-XXXXXX", expected[128];
	(void)state;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_true(write(fd, "\xef\xbb\xbf\"a\" \"b\"\n\"c\"\n", 15) == 15);
	assert_null(userdb_load(path, error, sizeof(error)));
	snprintf(expected, sizeof(expected), "%s:2: expected a secret in double quotes", path);
	assert_string_equal(error, expected);
	assert_int_equal(ftruncate(fd, 11), 0);
	struct userdb *db = userdb_load(path, error, sizeof(error));
	assert_non_null(db);
	assert_string_equal(userdb_find(db, STR("a"))->secret, "b");
	userdb_unref(db);
	close(fd);
	unlink(path);
	assert_null(userdb_load(path, error, sizeof(error)));
	assert_non_null(strstr(error, "No such file"));
	assert_null(userdb_load("/", error, sizeof(error)));
}

static void test_references(void **state)
{
	struct userdb *db = userdb_new_empty();
	(void)state;
	assert_ptr_equal(userdb_ref(db), db);
	userdb_unref(db);
	assert_int_equal(userdb_count(db), 0);
	userdb_unref(db);
	userdb_unref(NULL);
}

static void test_verifiers(void **state)
{
	struct userdb *db = parse("\"plain\" \"secret\"\n\"scram\" \"" VERIFIER "\"\n"
	                          "\"md5\" \"md54a0a68b43b6cd5cf266fa02f196e2371\"\n");
	struct scram_verifier a, b;
	(void)state;
	const struct userdb_user *plain = userdb_find(db, STR("plain"));
	assert_true(userdb_verifier(db, plain, 100, &a));
	assert_int_equal(a.iterations, 100);
	assert_true(scram_verifier_check_password(&a, STR("secret")));
	assert_true(userdb_verifier(db, plain, 100, &b));
	assert_true(scram_verifier_equal(&a, &b));        /* kept: the salt must not change from login to login */
	assert_true(userdb_verifier(db, plain, 200, &b)); /* after a change of scram_iterations */
	assert_int_equal(b.iterations, 200);
	assert_true(userdb_verifier(db, userdb_find(db, STR("scram")), 100, &a));
	assert_int_equal(a.iterations, 4096);
	assert_false(userdb_verifier(db, userdb_find(db, STR("md5")), 100, &a));
	userdb_unref(db);
}

static void test_keys(void **state)
{
	struct scram_verifier v = { .iterations = 4096, .salt_len = 4, .salt = { 1, 2, 3, 4 } };
	uint8_t client[SCRAM_KEY_BYTES] = { 1 }, server[SCRAM_KEY_BYTES] = { 2 };
	struct scram_keys keys;
	(void)state;
	assert_false(scram_keys_lookup(STR("alice"), &keys));
	scram_keys_remember(STR("alice"), &v, client, server);
	assert_true(scram_keys_lookup(STR("alice"), &keys));
	assert_memory_equal(keys.client_key, client, sizeof(client));
	assert_memory_equal(keys.server_key, server, sizeof(server));
	assert_int_equal(keys.iterations, 4096);
	assert_int_equal(keys.salt_len, 4);
	client[0] = 9; /* the password was changed */
	scram_keys_remember(STR("alice"), &v, client, server);
	assert_true(scram_keys_lookup(STR("alice"), &keys));
	assert_int_equal(keys.client_key[0], 9);
	scram_keys_remember(STR("bob"), &v, client, server);
	scram_keys_forget(STR("alice"));
	scram_keys_forget(STR("nobody"));
	assert_false(scram_keys_lookup(STR("alice"), &keys));
	assert_true(scram_keys_lookup(STR("bob"), &keys));
	scram_keys_forget_all();
	assert_false(scram_keys_lookup(STR("bob"), &keys));
	scram_keys_remember(STR(""), &v, client, server);
	assert_false(scram_keys_lookup(STR(""), &keys));
}

/* For the thread sanitizer: snapshot, verifier cache and key store from several threads. */
static void *hammer(void *arg)
{
	struct userdb *db = arg;
	struct scram_verifier v;
	struct scram_keys keys;
	uint8_t key[SCRAM_KEY_BYTES] = { 7 };
	for (int i = 0; i < 200; i++) {
		const struct userdb_user *u = userdb_find(db, STR("plain"));
		if (!userdb_verifier(db, u, 10, &v))
			return NULL;
		scram_keys_remember(STR("plain"), &v, key, key);
		if (scram_keys_lookup(STR("plain"), &keys) && keys.client_key[0] != 7)
			return NULL;
		if (i % 16 == 0)
			scram_keys_forget(STR("plain"));
		userdb_unref(userdb_ref(db));
	}
	userdb_unref(db);
	return &finished;
}

static void test_threads(void **state)
{
	struct userdb *db = parse("\"plain\" \"secret\"\n");
	pthread_t threads[4];
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, userdb_ref(db)), 0);
	userdb_unref(db);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		void *done = NULL;
		pthread_join(threads[i], &done);
		assert_non_null(done);
	}
	scram_keys_forget_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),        cmocka_unit_test(test_errors_name_the_line),
		cmocka_unit_test(test_every_cut),    cmocka_unit_test(test_last_line_of_a_user_counts),
		cmocka_unit_test(test_typical_kind), cmocka_unit_test(test_files),
		cmocka_unit_test(test_references),   cmocka_unit_test(test_verifiers),
		cmocka_unit_test(test_keys),         cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
