/* What can be said on the console, as far as reading it goes: words, names, values, complaints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "../../../src/control/admin_priv.h"
#include "control/lifecycle.h"

static struct command_call call;
static struct pgerr err;

static bool parse(const char *text)
{
	command_call_free(&call);
	memset(&err, 0, sizeof err);
	return command_parse(str_of(text), &call, &err);
}

static void test_empty(void **state)
{
	(void)state;
	const char *const texts[] = { "", ";", " ; ;", "-- nothing", "/* a /* nested */ comment */ ;" };
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_true(parse(texts[i]));
		assert_null(call.command);
	}
}

static void test_show(void **state)
{
	(void)state;
	const char *const texts[] = { "SHOW POOLS", "show pools;", " Show\n/* x */ Pools ;;", "select pools" };
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_true(parse(texts[i]));
		assert_string_equal(call.table->name, "POOLS");
		assert_ptr_equal(call.columns, call.table->columns);
	}
	for (size_t i = 0; i < show_count(); i++) {
		char text[64];
		snprintf(text, sizeof text, "SHOW %s", show_at(i)->name);
		assert_true(parse(text));
		assert_ptr_equal(call.table, show_at(i));
	}
}

static void test_unknown_tables_get_a_suggestion(void **state)
{
	(void)state;
	assert_false(parse("SHOW CLIENT"));
	assert_string_equal(err.sqlstate, "42704");
	assert_non_null(strstr(err.hint, "SHOW CLIENTS"));
	assert_false(parse("SHOW zzzzzzzzzzz"));
	assert_non_null(strstr(err.hint, "SHOW HELP"));
	assert_false(parse("SHOW"));
	assert_false(parse("SHOW 'POOLS'"));
	assert_false(parse("SHOW POOLS POOLS"));
	assert_string_equal(err.sqlstate, "42601");
}

static void test_names(void **state)
{
	(void)state;
	const struct {
		const char *text, *name;
	} cases[] = { { "PAUSE", NULL },
		      { "PAUSE db", "db" },
		      { "PAUSE DB;", "DB" }, /* names of the configuration are not folded */
		      { "PAUSE \"my db\"", "my db" },
		      { "PAUSE \"a\"\"b\"", "a\"b" },
		      { "PAUSE 'it''s'", "it's" } };
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_true(parse(cases[i].text));
		assert_int_equal(call.has_name, cases[i].name != NULL);
		if (cases[i].name)
			assert_string_equal(call.name, cases[i].name);
	}
	assert_false(parse("PAUSE a b"));
	assert_false(parse("PAUSE 12"));
	assert_false(parse("PAUSE \"unterminated"));
	char text[600];
	snprintf(text, sizeof text, "PAUSE %0500d", 1);
	text[6] = 'a';
	assert_false(parse(text));
}

static void test_set(void **state)
{
	(void)state;
	const struct {
		const char *text, *name, *value;
	} cases[] = { { "SET a = b", "a", "b" },
		      { "set a to b;", "a", "b" },
		      { "SET a=-1", "a", "-1" },
		      { "SET a=*:9127", "a", "*:9127" },
		      { "SET a = 127.0.0.1:9127 ;", "a", "127.0.0.1:9127" },
		      { "SET a = 'x y'", "a", "x y" },
		      { "SET a = 'it''s;'", "a", "it's;" },
		      { "SET a = ''", "a", "" },
		      { "SET a =", "a", "" },
		      { "SET pool_size = 10 ms", "pool_size", "10 ms" },
		      { "SET server_check_query = select 1", "server_check_query", "select 1" } };
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_true(parse(cases[i].text));
		assert_string_equal(call.name, cases[i].name);
		assert_string_equal(call.value, cases[i].value);
	}
	assert_false(parse("SET"));
	assert_false(parse("SET a"));
	assert_false(parse("SET a b"));
	assert_false(parse("SET = b"));
}

static void test_what_drivers_set_is_not_a_setting_of_ours(void **state)
{
	(void)state;
	const char *const texts[] = { "SET client_encoding = 'UTF8'",
		                      "SET SESSION timezone TO 'UTC'",
		                      "SET LOCAL statement_timeout = 0",
		                      "SET TIME ZONE 'UTC'",
		                      "SET NAMES 'x'",
		                      "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
		                      "SET extra_float_digits = 3" };
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_true(parse(texts[i]));
		assert_null(call.value);
	}
	assert_true(parse("SHOW TIME ZONE"));
	assert_string_equal(call.columns[0].name, "timezone");
	assert_true(parse("SHOW DateStyle"));
	assert_int_equal(call.n_columns, 1);
}

static void test_shutdown_and_numbers(void **state)
{
	(void)state;
	assert_true(parse("SHUTDOWN"));
	assert_int_equal(call.number, SHUTDOWN_NOW);
	assert_true(parse("shutdown wait_for_servers;"));
	assert_int_equal(call.number, SHUTDOWN_WAIT_FOR_SERVERS);
	assert_true(parse("SHUTDOWN WAIT_FOR_CLIENTS"));
	assert_int_equal(call.number, SHUTDOWN_WAIT_FOR_CLIENTS);
	assert_false(parse("SHUTDOWN PLEASE"));
	assert_true(parse("KILL_CLIENT 17"));
	assert_int_equal(call.number, 17);
	assert_false(parse("KILL_CLIENT"));
	assert_false(parse("KILL_CLIENT seventeen"));
	assert_false(parse("KILL_CLIENT 99999999999999999999"));
}

static void test_explain_route(void **state)
{
	(void)state;
	assert_true(parse("EXPLAIN ROUTE SELECT 1;"));
	assert_false(call.has_name);
	assert_string_equal(call.value, "SELECT 1");
	assert_true(parse("explain route on \"My DB\" as bob /* pgweir: route=primary */ select ';'"));
	assert_string_equal(call.name, "My DB");
	assert_string_equal(call.user, "bob");
	assert_string_equal(call.value, "/* pgweir: route=primary */ select ';'");
	assert_false(parse("EXPLAIN ROUTE"));
	assert_false(parse("EXPLAIN ROUTE ON db"));
	assert_false(parse("EXPLAIN ROUTE ON"));
	assert_false(parse("EXPLAIN SELECT 1"));
}

static void test_unknown_and_too_long(void **state)
{
	(void)state;
	assert_false(parse("DROP TABLE accounts"));
	assert_non_null(strstr(err.message, "\"DROP\""));
	assert_non_null(strstr(err.hint, "SHOW HELP"));
	assert_false(parse("POOLS SHOW"));
	assert_false(parse("\"SHOW\" POOLS"));
	char *text = malloc(COMMAND_TEXT_MAX + 100);
	memset(text, 'x', COMMAND_TEXT_MAX + 99);
	text[COMMAND_TEXT_MAX + 99] = '\0';
	assert_false(parse(text));
	text[1000] = '\0';
	assert_false(parse(text));
	free(text);
}

static int release(void **state)
{
	(void)state;
	command_call_free(&call);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_show),
		cmocka_unit_test(test_unknown_tables_get_a_suggestion),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_what_drivers_set_is_not_a_setting_of_ours),
		cmocka_unit_test(test_shutdown_and_numbers),
		cmocka_unit_test(test_explain_route),
		cmocka_unit_test(test_unknown_and_too_long),
	};
	return cmocka_run_group_tests(tests, NULL, release);
}
