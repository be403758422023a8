/* When facts are loaded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/mono.h"
#include "base/str.h"
#include "cluster/dbfacts.h"

enum { OLD_ROLES = 3, NEW_ROLES = 4 };

static void test_the_first_load_is_at_once(void **state)
{
	(void)state;
	struct load_history h = { .role_epoch = OLD_ROLES };
	assert_int_equal(dbfacts_next_load(&h, OLD_ROLES, 5 * MONO_SEC), 5 * MONO_SEC);
}

static void test_a_storm_of_ddl_is_loaded_now_and_then(void **state)
{
	(void)state;
	struct load_history h = { .begun_us = 10 * MONO_SEC, .role_epoch = OLD_ROLES };
	uint64_t now_us = 20 * MONO_SEC;
	assert_int_equal(dbfacts_next_load(&h, OLD_ROLES, now_us), now_us + 20 * MONO_MS);
	assert_int_equal(dbfacts_next_load(&h, OLD_ROLES, now_us + 190 * MONO_MS), now_us + 200 * MONO_MS);
	h = (struct load_history){ .begun_us = now_us, .role_epoch = OLD_ROLES };
	assert_int_equal(dbfacts_next_load(&h, OLD_ROLES, now_us), now_us + 200 * MONO_MS);
}

static void test_failures_back_off(void **state)
{
	(void)state;
	struct load_history h = { .begun_us = 10 * MONO_SEC, .role_epoch = OLD_ROLES };
	assert_int_equal(dbfacts_retry_in(&h, OLD_ROLES), MONO_SEC);
	assert_int_equal(dbfacts_retry_in(&h, OLD_ROLES), 2 * MONO_SEC);
	for (int i = 0; i < 10; i++)
		(void)dbfacts_retry_in(&h, OLD_ROLES);
	assert_int_equal(dbfacts_retry_in(&h, OLD_ROLES), 60 * MONO_SEC);
	assert_int_equal(dbfacts_next_load(&h, OLD_ROLES, 10 * MONO_SEC), 11 * MONO_SEC); /* somebody asks */
}

/* What has failed at the old primary keeps nobody waiting. */
static void test_another_primary_is_asked_at_once(void **state)
{
	(void)state;
	struct load_history h = { .begun_us = 10 * MONO_SEC, .failures = 5, .role_epoch = OLD_ROLES };
	assert_int_equal(dbfacts_next_load(&h, NEW_ROLES, 10 * MONO_SEC), 10 * MONO_SEC + 200 * MONO_MS);
	assert_int_equal(h.failures, 0);
	h = (struct load_history){ .begun_us = 10 * MONO_SEC, .failures = 5, .role_epoch = OLD_ROLES };
	assert_int_equal(dbfacts_retry_in(&h, NEW_ROLES), 200 * MONO_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_load_is_at_once),
		cmocka_unit_test(test_a_storm_of_ddl_is_loaded_now_and_then),
		cmocka_unit_test(test_failures_back_off),
		cmocka_unit_test(test_another_primary_is_asked_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
