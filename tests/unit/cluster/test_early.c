/* Commits that a standby shows before the primary does (B1), with made-up snapshots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rules.h"
#include "cluster/early.h"

static struct early_snapshot snapshot(const char *text)
{
	struct early_snapshot s;
	assert_true(early_parse_snapshot(text, &s));
	return s;
}

static void test_texts(void **state)
{
	(void)state;
	struct early_snapshot s = snapshot("795:799:795,797");
	assert_int_equal(s.xmax, 799);
	assert_int_equal(s.xip.n, 2);
	assert_int_equal(s.xip.at[1], 797);
	early_snapshot_free(&s);
	s = snapshot("10:10:");
	assert_int_equal(s.xip.n, 0);
	early_snapshot_free(&s);
	static const char *const bad[] = { "",       "1",      "1:2",     "1:2:,", "1:2:3,",
		                           "1:2:3;", ":2:",    "a:2:",    "1:b:",  "1:2:3,,4",
		                           "-1:2:",  "1:2:3 ", "1:2:3:4", "1::3",  "1:99999999999999999999:" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_false(early_parse_snapshot(bad[i], &s));
		assert_int_equal(s.xmax, 0);
		assert_null(s.xip.at);
	}
}

static void test_many_ids(void **state)
{
	(void)state;
	char text[1000] = "1:1000:", *end = text + strlen(text);
	for (int i = 100; i < 200; i++)
		end += sprintf(end, i == 100 ? "%d" : ",%d", i);
	struct early_snapshot s = snapshot(text);
	assert_int_equal(s.xip.n, 100);
	char *sql = early_question(&s);
	assert_non_null(strstr(sql, "'{100,101,"));
	assert_non_null(strstr(sql, ",198,199}'"));
	assert_non_null(strstr(sql, "generate_series(1000::int8"));
	mem_free(sql);
	early_snapshot_free(&s);
}

static void test_rule_b1_hidden_is_what_runs_and_what_comes_behind_the_last_that_ended(void **state)
{
	(void)state;
	struct early_ids pending;
	struct early_snapshot s = snapshot("795:799:795,797");
	assert_true(early_parse_ids("795,799,800", &pending));
	assert_false(early_settle(&pending, &s));
	assert_int_equal(pending.n, 3);
	early_snapshot_free(&s);
	s = snapshot("797:800:797");
	assert_false(early_settle(&pending, &s));
	assert_int_equal(pending.n, 1);
	assert_int_equal(pending.at[0], 800);
	early_snapshot_free(&s);
	s = snapshot("797:801:797");
	assert_true(early_settle(&pending, &s));
	early_snapshot_free(&s);
	early_ids_free(&pending);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_many_ids),
		cmocka_unit_test(test_rule_b1_hidden_is_what_runs_and_what_comes_behind_the_last_that_ended),
	};
	rules_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
