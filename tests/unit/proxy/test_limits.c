/* Counters that all workers share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <cmocka.h>
#include "base/str.h"
#include "proxy/limits.h"

enum { THREADS = 4, MOST = 8, TOO_MANY = 1000 };

static _Atomic int count, given;

static void test_a_limit_is_not_passed(void **state)
{
	(void)state;
	_Atomic int n = 1;
	assert_true(limit_take(&n, 2));
	assert_false(limit_take(&n, 2));
	assert_int_equal(n, 2);
	assert_true(limit_take(&n, 0)); /* no limit */
	assert_int_equal(n, 3);
}

static void test_a_surplus_is_what_is_above(void **state)
{
	(void)state;
	_Atomic int n = 3;
	assert_true(limit_give_surplus(&n, 2));
	assert_false(limit_give_surplus(&n, 2));
	assert_int_equal(n, 2);
}

static void *give_all(void *arg)
{
	while (limit_give_surplus(&count, MOST))
		atomic_fetch_add(&given, 1);
	return arg;
}

/* Whoever looks at the same moment: not one is given away more than there are too many. */
static void test_many_find_the_same_surplus(void **state)
{
	(void)state;
	for (int turn = 0; turn < 50; turn++) {
		pthread_t threads[THREADS];
		count = MOST + TOO_MANY;
		given = 0;
		for (int i = 0; i < THREADS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, give_all, NULL), 0);
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		assert_int_equal(count, MOST);
		assert_int_equal(given, TOO_MANY);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_limit_is_not_passed),
		cmocka_unit_test(test_a_surplus_is_what_is_above),
		cmocka_unit_test(test_many_find_the_same_surplus),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
