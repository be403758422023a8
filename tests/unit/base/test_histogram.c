/* Buckets leave no gap, a quantile is at most a quarter off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/histogram.h"

static void test_buckets_are_in_order_and_without_gap(void **state)
{
	(void)state;
	for (unsigned b = 0; b + 1 < HISTOGRAM_BUCKETS; b++) {
		uint64_t end = histogram_end_us(b);
		assert_int_equal(histogram_bucket(end - 1), b);
		assert_int_equal(histogram_bucket(end), b + 1);
	}
	assert_int_equal(histogram_bucket(0), 0);
	assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void test_powers_of_two_are_ends(void **state)
{
	(void)state;
	struct histogram h = { { 0 } };
	for (uint64_t us = 1; us < 1u << 20; us += 7)
		histogram_add(&h, us);
	for (uint64_t end = 4; end <= 1u << 20; end *= 2)
		assert_int_equal(histogram_below(&h, end), (end - 1 + 6) / 7);
	/* What is beyond the last end belongs to +Inf only. */
	histogram_add(&h, UINT64_MAX);
	assert_int_equal(histogram_below(&h, UINT64_C(1) << 40), histogram_total(&h) - 1);
}

static void test_quantiles(void **state)
{
	(void)state;
	struct histogram h = { { 0 } }, sum = { { 0 } };
	assert_int_equal(histogram_quantile_us(&h, 0.5), 0);
	for (uint64_t us = 1; us <= 10000; us++)
		histogram_add(&h, us);
	for (int percent = 1; percent <= 100; percent++) {
		uint64_t got = histogram_quantile_us(&h, percent / 100.0), true_us = (uint64_t)percent * 100;
		assert_in_range(got, true_us * 3 / 4, true_us * 5 / 4);
	}
	histogram_sum(&sum, &h);
	histogram_sum(&sum, &h);
	assert_int_equal(histogram_total(&sum), 20000);
	assert_int_equal(histogram_quantile_us(&sum, 0.5), histogram_quantile_us(&h, 0.5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets_are_in_order_and_without_gap),
		cmocka_unit_test(test_powers_of_two_are_ends),
		cmocka_unit_test(test_quantiles),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
