/* Sizes that follow from figures: textbook values of Erlang's formula, a pool that is too small, too large, saturated.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "control/advice.h"

static void test_erlang(void **state)
{
	(void)state;
	/* M/M/1: load 0.5, service 1 s: waits 1 s.  M/D/1: half of it. */
	assert_float_equal(advice_wait_us(0.5, 1e6, 1, 1), 1e6, 1);
	assert_float_equal(advice_wait_us(0.5, 1e6, 0, 1), 5e5, 1);
	/* M/M/2, load 1: C = 1/3, waits C / (2 - 1) = a third of a second. */
	assert_float_equal(advice_wait_us(1, 1e6, 1, 2), 1e6 / 3, 1);
	/* Ten servers, load 8: C(10, 8) = 0.4092 */
	assert_float_equal(advice_wait_us(8, 1e6, 1, 10), 0.4092 * 1e6 / 2, 100);
	assert_true(isinf(advice_wait_us(10, 1e6, 1, 10)));
	assert_float_equal(advice_wait_us(0, 1e6, 1, 1), 0, 0);
	assert_true(isfinite(advice_wait_us(900, 1e6, 1, 1000)));
}

static void level(struct advice_facts *f, int i, double rate)
{
	double busy = 1 << i;
	f->levels[i] = (struct advice_level){
		.seconds = 10, .served = rate * 10, .served_us = busy * 10 * 1e6, .busy = busy * 10
	};
	if (rate > 0)
		assert_float_equal(advice_level_rate(&f->levels[i]), rate, rate / 1000);
}

static void test_too_little_is_no_advice(void **state)
{
	(void)state;
	struct advice_facts f = { .size = 20, .arrivals = 100, .service_us = 1000, .target_us = 1000, .seconds = 1 };
	assert_int_equal(advice_give(&f).reason, ADVICE_UNKNOWN);
	assert_int_equal(advice_give(&f).size, 0);
	f.levels[0] = (struct advice_level){ .seconds = 1, .served = 1000, .served_us = 1e6, .busy = 1 };
	assert_float_equal(advice_level_rate(&f.levels[0]), 0, 0);
}

static void test_a_large_pool_that_is_hardly_used(void **state)
{
	(void)state;
	struct advice_facts f = { .size = 50,
		                  .arrivals = 200,
		                  .service_us = 5000,
		                  .variation2 = 1,
		                  .busy = 1,
		                  .target_us = 1000,
		                  .seconds = 30 };
	struct advice a = advice_give(&f);
	assert_int_equal(a.reason, ADVICE_WAITING);
	assert_in_range(a.size, 3, 4);
	assert_true(a.expected_wait_us <= 1000);
	assert_true(advice_wait_us(200, 5000, 1, a.size - 1) > 1000);
}

static void test_waiting_that_more_servers_would_end(void **state)
{
	(void)state;
	struct advice_facts f = { .size = 4,
		                  .arrivals = 400,
		                  .service_us = 10000,
		                  .variation2 = 0,
		                  .busy = 4,
		                  .waiting = 12,
		                  .wait_us = 30000,
		                  .target_us = 1000,
		                  .seconds = 30 };
	level(&f, 0, 100);
	level(&f, 1, 200);
	level(&f, 2, 400);
	struct advice a = advice_give(&f);
	assert_int_equal(a.reason, ADVICE_GROWS);
	assert_int_equal(a.size, 8); /* one step; 16 clients are there */
	f.waiting = 2;
	assert_int_equal(advice_give(&f).size, 6); /* never more than clients */
}

static void test_servers_that_hinder_each_other(void **state)
{
	(void)state;
	/* Two processors: four servers do all that sixteen do. */
	struct advice_facts f = { .size = 16,
		                  .arrivals = 30000,
		                  .service_us = 533,
		                  .variation2 = 1,
		                  .busy = 16,
		                  .waiting = 16,
		                  .wait_us = 2000,
		                  .target_us = 1000,
		                  .seconds = 30 };
	level(&f, 0, 15000);
	level(&f, 1, 27000);
	level(&f, 2, 29800);
	level(&f, 3, 30100);
	level(&f, 4, 30000);
	struct advice a = advice_give(&f);
	assert_int_equal(a.reason, ADVICE_SATURATED);
	assert_int_equal(a.size, 4);
	/* The same with a pool so large that nobody waits. */
	f.waiting = f.wait_us = 0;
	f.size = 64;
	assert_int_equal(advice_give(&f).size, 4);
	/* A level of which too little was seen decides nothing. */
	f.levels[2].seconds = 1;
	assert_int_equal(advice_give(&f).size, 8);
}

static void test_levels_do_not_raise_what_little_load_needs(void **state)
{
	(void)state;
	struct advice_facts f = { .size = 16,
		                  .arrivals = 100,
		                  .service_us = 500,
		                  .variation2 = 1,
		                  .busy = 0.05,
		                  .target_us = 1000,
		                  .seconds = 30 };
	level(&f, 0, 2000);
	level(&f, 3, 16000);
	level(&f, 4, 16000);
	assert_int_equal(advice_give(&f).size, 1);
	assert_int_equal(advice_give(&f).reason, ADVICE_WAITING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_erlang),
		cmocka_unit_test(test_too_little_is_no_advice),
		cmocka_unit_test(test_a_large_pool_that_is_hardly_used),
		cmocka_unit_test(test_waiting_that_more_servers_would_end),
		cmocka_unit_test(test_servers_that_hinder_each_other),
		cmocka_unit_test(test_levels_do_not_raise_what_little_load_needs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
