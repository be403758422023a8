/* test_ident.c - user maps in the form of pg_ident.conf: what fits, and every kind of error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include "auth/ident.h"

static const char text[] = "# map   system   role\n"
                           "plain   alice    app\n"
                           "plain   \"bob b\"  \"all\" # quoted: a role of that name\n"
                           "admins  root     all\n"
                           "mail    /^(.*)@example\\.com$  \\1\n"
                           "mail    /^svc-[0-9]+$  service\n"
                           "mail    /^x(.*)$  pre_\\1_post\n"
                           "long \\\n   carol app\n";

static void test_what_fits(void **state)
{
	static const struct {
		const char *map, *system_name, *role;
		bool fits;
	} rows[] = {
		{ "plain", "alice", "app", true },
		{ "plain", "alice", "alice", false },
		{ "plain", "bob b", "all", true },
		{ "plain", "bob b", "app", false },
		{ "admins", "root", "anybody", true },
		{ "admins", "alice", "app", false },
		{ "mail", "dora@example.com", "dora", true },
		{ "mail", "dora@example.com", "dor", false },
		{ "mail", "dora@example.com", "doraa", false },
		{ "mail", "dora@exampleXcom", "dora", false },
		{ "mail", "svc-12", "service", true },
		{ "mail", "svc-x", "service", false },
		{ "mail", "xmid", "pre_mid_post", true },
		{ "mail", "xmid", "pre_mid_pos", false },
		{ "mail", "x", "pre__post", true },
		{ "long", "carol", "app", true },
		{ "absent", "alice", "app", false },
		{ NULL, "alice", "alice", true },
		{ NULL, "alice", "app", false },
	};
	char error[256];
	struct ident *ident = ident_parse(str_of(text), "ident.conf", error, sizeof error);
	(void)state;
	assert_non_null(ident);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (ident_allows(ident, rows[i].map, rows[i].system_name, rows[i].role) != rows[i].fits)
			fail_msg("row %zu", i);
	}
	assert_true(ident_has_map(ident, "mail"));
	assert_false(ident_has_map(ident, "absent"));
	assert_false(ident_allows(NULL, "plain", "alice", "app"));
	ident_unref(ident_ref(ident));
	ident_unref(ident);
}

static void test_errors(void **state)
{
	static const struct {
		const char *text, *error;
	} rows[] = {
		{ "m alice\n", "ident.conf:1: expected a role" },
		{ "\n\nm\n", "ident.conf:3: expected a system user" },
		{ "m a b c\n", "ident.conf:1: expected the end of the line behind the role" },
		{ "m a,b c\n", "ident.conf:1: a system user must not be a list" },
		{ "m a +c\n", "ident.conf:1: role \"+c\" is not supported: expected a name, or all" },
		{ "m a \"c\n", "ident.conf:1: expected a double quote at the end of the line" },
		{ "m /( c\n", "ident.conf:1: invalid regular expression \"(\"" },
		{ "m /x \\1\n", "ident.conf:1: \"\\1\" needs a group in parentheses in \"/x\"" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char error[256] = "";
		assert_null(ident_parse(str_of(rows[i].text), "ident.conf", error, sizeof error));
		if (strncmp(error, rows[i].error, strlen(rows[i].error)) != 0)
			fail_msg("row %zu: %s", i, error);
	}
	char error[256];
	assert_null(ident_load("/nonexistent/ident.conf", error, sizeof error));
	assert_non_null(strstr(error, "could not read user map file"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_what_fits), cmocka_unit_test(test_errors) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
