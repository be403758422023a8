/* Who is the primary: arbitration between what hosts say of themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/rules.h"
#include "cluster/roles.h"

#define PRIMARY(tl) ((struct host_view){ ANSWER_FULL, false, (tl), 77 })
#define STANDBY(tl) ((struct host_view){ ANSWER_FULL, true, (tl), 77 })
#define GONE        ((struct host_view){ ANSWER_NONE, false, 0, 0 })
#define REFUSED     ((struct host_view){ ANSWER_REFUSED, false, 0, 0 })
#define AWAITED     ((struct host_view){ ANSWER_NOT_YET, false, 0, 0 })
#define OTHER(rec)  ((struct host_view){ ANSWER_FULL, (rec), 1, 88 })

static struct role_memory nothing;

static struct role_decision decide2(struct host_view a, struct host_view b, const struct role_memory *memory)
{
	struct host_view views[2] = { a, b };
	return roles_decide(views, 2, memory);
}

static void test_primary_and_replica(void **state)
{
	(void)state;
	struct role_decision d = decide2(STANDBY(1), PRIMARY(1), &nothing);
	assert_int_equal(d.primary, 1);
	assert_int_equal(d.role[0], HOST_REPLICA);
	assert_int_equal(d.role[1], HOST_PRIMARY);
	assert_int_equal(d.verdict, VERDICT_ONE);
	assert_int_equal(d.memory.timeline, 1);
	assert_int_equal(d.memory.system_identifier, 77);
}

static void test_no_primary(void **state)
{
	(void)state;
	struct role_decision d = decide2(STANDBY(1), GONE, &nothing);
	assert_int_equal(d.primary, -1);
	assert_int_equal(d.role[0], HOST_REPLICA);
	assert_int_equal(d.role[1], HOST_DOWN);
	assert_int_equal(d.verdict, VERDICT_NONE);
}

static void test_rule_b7_newer_timeline_wins(void **state)
{
	(void)state;
	struct role_decision d = decide2(PRIMARY(1), PRIMARY(2), &nothing);
	assert_int_equal(d.primary, 1);
	assert_int_equal(d.role[0], HOST_FENCED);
	assert_int_equal(d.verdict, VERDICT_NEWER_WINS);
	d = decide2(PRIMARY(3), PRIMARY(2), &d.memory);
	assert_int_equal(d.primary, 0);
	assert_int_equal(d.role[1], HOST_FENCED);
}

static void test_rule_b7_equal_timelines(void **state)
{
	(void)state;
	struct role_decision d = decide2(PRIMARY(2), PRIMARY(2), &nothing);
	assert_int_equal(d.primary, -1);
	assert_int_equal(d.role[0], HOST_FENCED);
	assert_int_equal(d.role[1], HOST_FENCED);
	assert_int_equal(d.verdict, VERDICT_SPLIT);
	/* One of them is gone: the other serves. */
	d = decide2(PRIMARY(2), GONE, &d.memory);
	assert_int_equal(d.primary, 0);
}

static void test_rule_b7_equal_below_the_newest(void **state)
{
	(void)state;
	struct host_view views[3] = { PRIMARY(2), PRIMARY(2), PRIMARY(3) };
	struct role_decision d = roles_decide(views, 3, &nothing);
	assert_int_equal(d.primary, 2);
	assert_int_equal(d.role[0], HOST_FENCED);
	assert_int_equal(d.role[1], HOST_FENCED);
}

static void test_rule_b7_deposed_primary_stays_fenced(void **state)
{
	(void)state;
	struct role_decision d = decide2(PRIMARY(1), PRIMARY(2), &nothing);
	/* The new primary does not answer: what the old one says is no truer for it. */
	d = decide2(PRIMARY(1), GONE, &d.memory);
	assert_int_equal(d.primary, -1);
	assert_int_equal(d.role[0], HOST_FENCED);
	assert_int_equal(d.verdict, VERDICT_STALE);
	d = decide2(STANDBY(1), PRIMARY(2), &d.memory);
	assert_int_equal(d.primary, 1);
	assert_int_equal(d.role[0], HOST_REPLICA);
}

static void test_other_system_is_refused(void **state)
{
	(void)state;
	struct host_view views[3] = { STANDBY(1), OTHER(false), PRIMARY(1) };
	struct role_decision d = roles_decide(views, 3, &nothing);
	assert_int_equal(d.primary, 2);
	assert_int_equal(d.role[1], HOST_DOWN);
	assert_true(d.foreign[1]);
	assert_false(d.foreign[0]);
	/* The stranger is alone for a while: it is not adopted while it is not the only one left. */
	struct host_view later[3] = { STANDBY(1), OTHER(false), GONE };
	d = roles_decide(later, 3, &d.memory);
	assert_int_equal(d.primary, -1);
	assert_true(d.foreign[1]);
}

static void test_whole_cluster_replaced(void **state)
{
	(void)state;
	struct role_decision d = decide2(PRIMARY(5), STANDBY(5), &nothing);
	d = decide2(OTHER(false), OTHER(true), &d.memory);
	assert_int_equal(d.primary, 0);
	assert_int_equal(d.memory.system_identifier, 88);
	assert_int_equal(d.memory.timeline, 1);
}

static void test_nobody_before_all_have_answered(void **state)
{
	(void)state;
	struct role_decision d = decide2(PRIMARY(1), AWAITED, &nothing);
	assert_int_equal(d.primary, -1);
	assert_int_equal(d.role[0], HOST_UNKNOWN);
	assert_int_equal(d.verdict, VERDICT_EARLY);
	d = decide2(PRIMARY(1), PRIMARY(2), &d.memory);
	assert_int_equal(d.primary, 1);
}

static void test_single_host_that_does_not_let_us_in(void **state)
{
	(void)state;
	struct host_view one[1] = { REFUSED };
	struct role_decision d = roles_decide(one, 1, &nothing);
	assert_int_equal(d.primary, 0);
	assert_int_equal(d.role[0], HOST_PRIMARY);
	assert_int_equal(d.verdict, VERDICT_BLIND);
	d = decide2(REFUSED, REFUSED, &nothing);
	assert_int_equal(d.primary, -1);
	assert_int_equal(d.role[0], HOST_DOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_primary_and_replica),
		cmocka_unit_test(test_no_primary),
		cmocka_unit_test(test_rule_b7_newer_timeline_wins),
		cmocka_unit_test(test_rule_b7_equal_timelines),
		cmocka_unit_test(test_rule_b7_equal_below_the_newest),
		cmocka_unit_test(test_rule_b7_deposed_primary_stays_fenced),
		cmocka_unit_test(test_other_system_is_refused),
		cmocka_unit_test(test_whole_cluster_replaced),
		cmocka_unit_test(test_nobody_before_all_have_answered),
		cmocka_unit_test(test_single_host_that_does_not_let_us_in),
	};
	rules_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
