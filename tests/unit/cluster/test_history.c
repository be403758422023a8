/* Which positions of older timelines the primary has, with made-up servers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/str.h"
#include "cluster/history.h"

static const struct wal_past unknown;

static void test_nothing_is_known_of_what_was_not_seen(void **state)
{
	(void)state;
	struct wal_history h = { 0 };
	assert_false(history_has(h.past, 1, 0));
	history_go_on(&h, 3, &unknown);
	assert_false(history_has(h.past, 2, 1));
	assert_false(history_has(h.past, 0, 0));
}

static void test_a_promotion_keeps_what_its_standby_had_replayed(void **state)
{
	(void)state;
	struct wal_history h = { .timeline = 1 };
	history_go_on(&h, 2, &(struct wal_past){ 1, 100 });
	assert_true(history_has(h.past, 1, 100));
	assert_false(history_has(h.past, 1, 101));
	history_go_on(&h, 2, &unknown); /* looked at again */
	assert_true(history_has(h.past, 1, 100));
	history_go_on(&h, 3, &(struct wal_past){ 2, 200 });
	assert_true(history_has(h.past, 2, 200));
	assert_true(history_has(h.past, 1, 100));
	for (uint32_t timeline = 4; timeline < 4 + HISTORY_MAX; timeline++)
		history_go_on(&h, timeline, &(struct wal_past){ timeline - 1, timeline * 100 });
	assert_false(history_has(h.past, 1, 100)); /* forgotten */
	assert_true(history_has(h.past, 4, 500));
}

/* Timeline 2 was the primary's, but the new primary of 3 has never followed it. */
static void test_a_timeline_that_was_left_aside_is_lost(void **state)
{
	(void)state;
	struct wal_history h = { .timeline = 1 };
	history_go_on(&h, 2, &(struct wal_past){ 1, 100 });
	history_go_on(&h, 3, &(struct wal_past){ 1, 150 });
	assert_false(history_has(h.past, 2, 1));
	assert_true(history_has(h.past, 1, 150));
	/* And where even the older one is another's, all is. */
	history_go_on(&h, 9, &(struct wal_past){ 7, 300 });
	assert_false(history_has(h.past, 1, 1));
	assert_true(history_has(h.past, 7, 300));
	history_go_on(&h, 10, &unknown);
	assert_false(history_has(h.past, 7, 1));
}

static void test_a_position_counts_when_the_next_look_finds_the_same_timeline(void **state)
{
	(void)state;
	struct wal_followed f = { 0 };
	history_look(&f, 1, 100);
	assert_int_equal(f.proved.timeline, 0);
	history_look(&f, 1, 120);
	assert_int_equal(f.proved.timeline, 1);
	assert_int_equal(f.proved.lsn, 100);
	history_look(&f, 2, 900);
	assert_int_equal(f.proved.lsn, 100);
	history_look(&f, 2, 950);
	assert_int_equal(f.proved.timeline, 2);
	assert_int_equal(f.proved.lsn, 900);
	history_look(&f, 0, 990);
	history_look(&f, 0, 999);
	assert_int_equal(f.proved.lsn, 900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_known_of_what_was_not_seen),
		cmocka_unit_test(test_a_promotion_keeps_what_its_standby_had_replayed),
		cmocka_unit_test(test_a_timeline_that_was_left_aside_is_lost),
		cmocka_unit_test(test_a_position_counts_when_the_next_look_finds_the_same_timeline),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
