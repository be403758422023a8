/* What became of a COMMIT (A4), with made-up servers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/rules.h"
#include "cluster/outcome.h"

static const struct host lost, promoted, other;
static const struct outcome_mark mark = { .host = &lost, .instance = 7, .timeline = 2, .xid = 100 };

static enum commit_outcome judge(struct outcome_witness w, const char *status)
{
	return outcome_judge(&mark, &w, status);
}

static void test_rule_a4_committed_is_believed_of_the_same_instance(void **state)
{
	(void)state;
	struct outcome_witness same = { .host = &lost, .instance = 7, .timeline = 2 };
	struct outcome_witness crashed = { .host = &lost, .instance = 8, .timeline = 2 };
	struct outcome_mark unknown = mark;
	unknown.instance = 0;
	assert_int_equal(judge(same, "committed"), OUTCOME_COMMITTED);
	assert_int_equal(judge(crashed, "committed"), OUTCOME_UNKNOWN);
	crashed.instance = 0;
	assert_int_equal(outcome_judge(&unknown, &crashed, "committed"), OUTCOME_UNKNOWN);
	same.timeline = 3;
	assert_int_equal(judge(same, "committed"), OUTCOME_UNKNOWN);
}

static void test_rule_a4_committed_is_believed_of_who_had_heard_of_a_later_id(void **state)
{
	(void)state;
	const struct outcome_witness good = {
		.host = &promoted, .timeline = 3, .followed = &lost, .followed_timeline = 2, .recovered_below = 101
	};
	struct outcome_witness w = good;
	assert_int_equal(judge(w, "committed"), OUTCOME_COMMITTED);
	w.recovered_below = 100;
	assert_int_equal(judge(w, "committed"), OUTCOME_UNKNOWN);
	w = good;
	w.followed = &other;
	assert_int_equal(judge(w, "committed"), OUTCOME_UNKNOWN);
	w.followed = NULL;
	assert_int_equal(judge(w, "committed"), OUTCOME_UNKNOWN);
	w = good;
	w.followed_timeline = 1;
	assert_int_equal(judge(w, "committed"), OUTCOME_UNKNOWN);
	w = good;
	w.timeline = 2;
	assert_int_equal(judge(w, "committed"), OUTCOME_UNKNOWN);
}

static void test_what_is_not_committed_is_not(void **state)
{
	(void)state;
	struct outcome_witness anybody = { .host = &other, .timeline = 4 };
	struct outcome_mark nameless = mark;
	nameless.xid = 0;
	assert_int_equal(judge(anybody, "aborted"), OUTCOME_ABORTED);
	assert_int_equal(judge(anybody, "future"), OUTCOME_ABORTED);
	assert_int_equal(judge(anybody, "in progress"), OUTCOME_PENDING);
	assert_int_equal(judge(anybody, "something else"), OUTCOME_UNKNOWN);
	assert_int_equal(judge(anybody, NULL), OUTCOME_UNKNOWN);
	assert_int_equal(outcome_judge(&nameless, &anybody, "aborted"), OUTCOME_UNKNOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rule_a4_committed_is_believed_of_the_same_instance),
		cmocka_unit_test(test_rule_a4_committed_is_believed_of_who_had_heard_of_a_later_id),
		cmocka_unit_test(test_what_is_not_committed_is_not),
	};
	rules_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
