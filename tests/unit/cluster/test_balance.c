/* Two random choices, least outstanding, weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "cluster/balance.h"

enum { DRAWS = 20000 };

static void draw(const struct balance_candidate *c, unsigned n, unsigned hits[])
{
	uint64_t seed = 42;
	for (unsigned i = 0; i < n; i++)
		hits[i] = 0;
	for (int i = 0; i < DRAWS; i++) {
		int k = balance_pick(c, n, balance_random(&seed));
		assert_in_range(k, 0, n - 1);
		hits[k]++;
	}
}

static void test_none_and_one(void **state)
{
	(void)state;
	struct balance_candidate one[1] = { { .weight = 0, .outstanding = 99 } };
	assert_int_equal(balance_pick(NULL, 0, 5), -1);
	assert_int_equal(balance_pick(one, 1, 5), 0);
}

static void test_equal_hosts_share(void **state)
{
	(void)state;
	struct balance_candidate c[3] = { { .weight = 1 }, { .weight = 1 }, { .weight = 1 } };
	unsigned hits[3];
	draw(c, 3, hits);
	for (int i = 0; i < 3; i++)
		assert_in_range(hits[i], DRAWS / 3 - DRAWS / 30, DRAWS / 3 + DRAWS / 30);
}

static void test_busiest_gets_nothing(void **state)
{
	(void)state;
	struct balance_candidate c[3] = { { .weight = 1, .outstanding = 5 },
		                          { .weight = 1, .outstanding = 9 },
		                          { .weight = 1, .outstanding = 1 } };
	unsigned hits[3];
	draw(c, 3, hits);
	assert_int_equal(hits[1], 0); /* of two different ones it is never the better */
	assert_true(hits[2] > hits[0]);
	assert_true(hits[0] > 0); /* but not everybody goes to the best */
}

static void test_two_hosts_least_outstanding(void **state)
{
	(void)state;
	struct balance_candidate c[2] = { { .weight = 1, .outstanding = 3 }, { .weight = 1, .outstanding = 2 } };
	unsigned hits[2];
	draw(c, 2, hits);
	assert_int_equal(hits[0], 0);
}

static void test_weights(void **state)
{
	(void)state;
	struct balance_candidate c[3] = { { .weight = 1 }, { .weight = 8 }, { .weight = 0 } };
	unsigned hits[3];
	draw(c, 3, hits);
	assert_int_equal(hits[2], 0);
	assert_in_range(hits[1], DRAWS * 8 / 9 - DRAWS / 30, DRAWS * 8 / 9 + DRAWS / 30);
	/* Load counts relative to weight: 6 of 8 is less busy than 1 of 1. */
	c[0].outstanding = 1;
	c[1].outstanding = 6;
	draw(c, 3, hits);
	assert_int_equal(hits[0], 0);
	/* All zero: as if all were equal. */
	struct balance_candidate z[2] = { { .weight = 0 }, { .weight = 0 } };
	draw(z, 2, hits);
	assert_in_range(hits[0], DRAWS / 2 - DRAWS / 30, DRAWS / 2 + DRAWS / 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none_and_one),
		cmocka_unit_test(test_equal_hosts_share),
		cmocka_unit_test(test_busiest_gets_nothing),
		cmocka_unit_test(test_two_hosts_least_outstanding),
		cmocka_unit_test(test_weights),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
