/* What samples and polls prove: rules B3, B4, B5 and B7 with made-up replies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/rules.h"
#include "cluster/freshness.h"

static const struct wal_sizes sizes = { .block_bytes = 8192, .segment_bytes = 16 << 20 };

struct scene {
	struct wal_rounds rounds;
	struct standby s;
	uint64_t round; /* the newest begun */
};

static struct scene make_scene(void)
{
	struct scene sc;
	memset(&sc, 0, sizeof sc);
	sc.round = 10;
	standby_on_connect(&sc.s, sc.round);
	standby_set_timelines(&sc.s, 1, 1, sc.round);
	return sc;
}

/* A sample is sent (the round begins) and has been answered. */
static uint64_t sample(struct scene *sc, uint64_t target, uint64_t now_us)
{
	struct wal_round r = { .round = ++sc->round,
		               .target = target,
		               .flushed = target,
		               .reachable = target,
		               .sent_us = now_us,
		               .wanted = true };
	wal_rounds_add(&sc->rounds, &r);
	return r.round;
}

static bool poll_at(struct scene *sc, uint64_t replay, uint64_t sent_round, uint64_t now_us)
{
	struct standby_reply reply = { .has_replay = true, .replay = replay, .sent_round = sent_round };
	return standby_on_poll(&sc->s, &sc->rounds, &reply, now_us);
}

static void test_lsn_text(void **state)
{
	(void)state;
	uint64_t lsn = 7;
	assert_true(wal_parse_lsn("16/B374D848", &lsn));
	assert_int_equal(lsn, 0x16B374D848u);
	assert_true(wal_parse_lsn("0/0", &lsn));
	assert_int_equal(lsn, 0);
	assert_true(wal_parse_lsn("FFFFFFFF/FFFFFFFF", &lsn));
	assert_true(lsn == UINT64_MAX);
	static const char *const bad[] = { "",     "/",     "1/",  "/1",          "1",           "1/2 ",
		                           " 1/2", "1/2/3", "G/1", "123456789/1", "1/123456789", "-1/1" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(wal_parse_lsn(bad[i], &lsn));
	assert_false(wal_parse_lsn(NULL, &lsn));
}

/* The cases measured on a server, and their neighbours. */
static void test_rule_b5_page_headers(void **state)
{
	(void)state;
	static const struct {
		uint64_t insert, target;
	} cases[] = {
		{ 0x425E018, 0x425E000 }, /* behind a page header: 24 */
		{ 0x4000028, 0x4000000 }, /* behind a segment's header: 40, after pg_switch_wal */
		{ 0x338E028, 0x338E028 }, /* 40 on another page is the end of a record */
		{ 0x4000018, 0x4000018 }, /* 24 on a segment's first page cannot be behind its header */
		{ 0x425E000, 0x425E000 },
		{ 0x425E010, 0x425E010 },
		{ 0x425E019, 0x425E019 },
		{ 0x425E017, 0x425E017 },
		{ 0x4000029, 0x4000029 },
		{ 0x4000000, 0x4000000 },
		{ 0x4002018, 0x4002000 },
		{ 0x5000028, 0x5000000 },
		{ 0x4FFE018, 0x4FFE000 },
		{ 0x1000000028, 0x1000000000 },
		{ 0, 0 },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(wal_target(cases[i].insert, sizes), cases[i].target);
}

static void test_rule_b5_sizes_of_the_server(void **state)
{
	(void)state;
	struct wal_sizes large = { .block_bytes = 32768, .segment_bytes = 64 << 20 };
	assert_int_equal(wal_target(0x2000 + 24, large), 0x2000 + 24); /* not a page of 32 KB */
	assert_int_equal(wal_target(0x8000 + 24, large), 0x8000);
	assert_int_equal(wal_target(0x1000028, large), 0x1000028); /* a segment of 16 MB, not of 64 */
	assert_int_equal(wal_target(0x4000028, large), 0x4000000);
	struct wal_sizes unknown = { 0, 0 };
	assert_int_equal(wal_target(0x425E018, unknown), 0x425E018);
}

static void test_proof(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	uint64_t r = sample(&sc, 1000, 5);
	assert_false(poll_at(&sc, 999, r, 6));
	assert_int_equal(sc.s.fresh_round, 0);
	assert_true(poll_at(&sc, 1000, r, 7));
	assert_int_equal(sc.s.fresh_round, r);
	assert_true(standby_is_current(&sc.s, &sc.rounds));
	assert_int_equal(standby_behind_since(&sc.s, &sc.rounds), 0);
}

static void test_one_reply_proves_several_rounds(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	sample(&sc, 1000, 1);
	uint64_t second = sample(&sc, 2000, 2);
	uint64_t third = sample(&sc, 3000, 3);
	assert_true(poll_at(&sc, 2500, third, 4));
	assert_int_equal(sc.s.fresh_round, second);
	assert_false(standby_is_current(&sc.s, &sc.rounds));
	assert_int_equal(standby_behind_since(&sc.s, &sc.rounds), 2);
}

static void test_reply_before_the_sample(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	/* Sample and poll leave together; the standby answers first. */
	uint64_t sent_round = sc.round + 1;
	assert_false(poll_at(&sc, 5000, sent_round, 2));
	sample(&sc, 4000, 1);
	assert_true(standby_on_sample(&sc.s, &sc.rounds, 3));
	assert_int_equal(sc.s.fresh_round, sent_round);
}

static void test_rule_b3_poll_older_than_the_round(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	/* The position was asked for before the round began: a server that restarted in between would be believed. */
	assert_false(poll_at(&sc, 5000, sc.round, 2));
	sample(&sc, 4000, 3);
	assert_false(standby_on_sample(&sc.s, &sc.rounds, 4));
	assert_int_equal(sc.s.fresh_round, 0);
}

static void test_rule_b3_connection_younger_than_the_round(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	uint64_t r = sample(&sc, 1000, 1);
	standby_on_loss(&sc.s);
	standby_on_connect(&sc.s, sc.round);
	standby_set_timelines(&sc.s, 1, 1, sc.round);
	assert_false(poll_at(&sc, 1000, r, 3));
	uint64_t next = sample(&sc, 1000, 4);
	assert_true(poll_at(&sc, 1000, next, 5));
}

static void test_rule_b3_loss_takes_proofs_back(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	uint64_t r = sample(&sc, 1000, 1);
	assert_true(poll_at(&sc, 1000, r, 2));
	standby_on_loss(&sc.s);
	assert_int_equal(sc.s.fresh_round, 0);
	assert_false(poll_at(&sc, 1000, r, 3));
}

static void test_null_and_backward_positions(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	uint64_t r = sample(&sc, 1000, 1);
	assert_true(poll_at(&sc, 1000, r, 2));
	struct standby_reply null = { .has_replay = false, .sent_round = r };
	assert_false(standby_on_poll(&sc.s, &sc.rounds, &null, 3));
	assert_int_equal(sc.s.fresh_round, 0);
	/* What comes next must be a round begun after that. */
	assert_false(poll_at(&sc, 1000, r, 4));
	r = sample(&sc, 1100, 5);
	assert_true(poll_at(&sc, 1200, r, 6));
	assert_false(poll_at(&sc, 1199, r, 7));
	assert_int_equal(sc.s.fresh_round, 0);
}

static void test_rule_b7_other_timeline(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	uint64_t r = sample(&sc, 1000, 1);
	assert_true(poll_at(&sc, 1000, r, 2));
	/* The primary has been promoted, the standby still follows the old one. */
	standby_set_timelines(&sc.s, 1, 2, sc.round);
	assert_int_equal(sc.s.fresh_round, 0);
	r = sample(&sc, 1100, 3);
	assert_false(poll_at(&sc, 2000, r, 4));
	/* It follows: only what comes now counts. */
	standby_set_timelines(&sc.s, 2, 2, sc.round);
	assert_false(poll_at(&sc, 2000, r, 5));
	r = sample(&sc, 1200, 6);
	assert_true(poll_at(&sc, 2000, r, 7));
}

static void test_rule_b7_unknown_timeline(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	standby_set_timelines(&sc.s, 0, 0, sc.round);
	uint64_t r = sample(&sc, 1000, 1);
	assert_false(poll_at(&sc, 1000, r, 2));
}

/* An interval's round that takes its time, since nobody sees to it, does not keep anybody from waiting. */
static void test_catchup_of_unwanted_rounds(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	struct wal_round r = { .target = 2000, .flushed = 1000, .reachable = 1000, .sent_us = 1000 };
	uint64_t first = sample(&sc, 1000, 100);
	poll_at(&sc, 1000, first, 300);
	r.round = ++sc.round;
	wal_rounds_add(&sc.rounds, &r);
	assert_int_equal(standby_catchup(&sc.s, &sc.rounds, 201000), 200);
	poll_at(&sc, 2000, r.round, 201000);
	assert_int_equal(sc.s.fresh_round, r.round);
	assert_int_equal(standby_catchup(&sc.s, &sc.rounds, 201000), 200);
}

static bool nudge_with(uint64_t target, uint64_t flushed, uint64_t replay, uint64_t now_us)
{
	struct scene sc = make_scene();
	struct wal_round r = { .round = ++sc.round, .target = target, .flushed = flushed, .sent_us = 100 };
	r.reachable = wal_reachable(flushed, sizes);
	wal_rounds_add(&sc.rounds, &r);
	poll_at(&sc, replay, sc.round, 200);
	return nudge_is_due(&r, &sc.s, 1, now_us);
}

static void test_rule_b4_nudge(void **state)
{
	(void)state;
	uint64_t later = 100 + NUDGE_AFTER_US;
	assert_true(nudge_with(1000, 900, 900, later));
	assert_true(nudge_with(1000, 900, 950, later));
	assert_false(nudge_with(1000, 900, 900, later - 1)); /* it may come by itself */
	assert_false(nudge_with(1000, 1000, 900, later));    /* all is flushed: it is on its way */
	assert_false(nudge_with(1000, 900, 800, later));     /* busy with what is flushed */
	assert_false(nudge_with(1000, 900, 1000, later));    /* proved */
	assert_true(nudge_with(9000, 8192, 8000, later));    /* a page is flushed, and a record goes on behind it */
	assert_false(nudge_with(9000, 8200, 8000, later));
}

static void test_lag_and_catchup(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	uint64_t r = sample(&sc, 1000, 100);
	poll_at(&sc, 1000, r, 300);
	assert_int_equal(standby_catchup(&sc.s, &sc.rounds, 300), 200);
	sample(&sc, 2000, 1000);
	assert_int_equal(standby_behind_since(&sc.s, &sc.rounds), 100);
	/* An overdue proof counts before it comes. */
	assert_int_equal(standby_catchup(&sc.s, &sc.rounds, 51000), 50000);
	poll_at(&sc, 2000, sc.round, 51000);
	assert_true(standby_catchup(&sc.s, &sc.rounds, 51000) > 10000);
	for (int i = 0; i < 20; i++) {
		r = sample(&sc, 2000, 60000);
		poll_at(&sc, 2000, r, 60100);
	}
	assert_in_range(standby_catchup(&sc.s, &sc.rounds, 61000), 1, 400);
}

static void test_rounds_are_bounded(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	for (unsigned i = 1; i <= 10 * WAL_ROUNDS_MAX; i++) {
		sample(&sc, i, i);
		assert_true(sc.rounds.n <= WAL_ROUNDS_MAX);
		for (unsigned k = 1; k < sc.rounds.n; k++)
			assert_true(sc.rounds.at[k].round > sc.rounds.at[k - 1].round);
		assert_int_equal(wal_rounds_newest(&sc.rounds)->round, sc.round);
	}
	/* Thinned out, but never proving what was not reached. */
	poll_at(&sc, 5 * WAL_ROUNDS_MAX, sc.round, 1);
	assert_true(sc.s.fresh_round <= 10 + 5 * WAL_ROUNDS_MAX);
	wal_rounds_forget(&sc.rounds, sc.round - 1);
	assert_int_equal(sc.rounds.n, 1);
}

static void test_primary_that_went_back(void **state)
{
	(void)state;
	struct scene sc = make_scene();
	sample(&sc, 5000, 1);
	uint64_t r = sample(&sc, 4000, 2); /* crashed before it flushed */
	assert_int_equal(sc.rounds.n, 1);
	assert_true(poll_at(&sc, 4000, r, 3));
	assert_int_equal(sc.s.fresh_round, r);
}

/* Random histories against a model: a standby whose position is the truth, restarted at random.  A proof of round r
 * must imply that the server now behind the connection has the WAL up to where the primary was when r began. */
static void test_rule_b3_random_histories(void **state)
{
	(void)state;
	uint32_t seed = 12345;
	for (int history = 0; history < 200; history++) {
		struct scene sc = make_scene();
		uint64_t primary = 1000, replay = 1000, at_round[512] = { 0 };
		for (int step = 0; step < 400; step++) {
			seed = seed * 1664525u + 1013904223u;
			uint64_t amount = (seed >> 8) % 50;
			switch (seed >> 29) {
			case 0:
			case 1:
				primary += amount;
				break;
			case 2:
			case 3:
				replay = replay + amount > primary ? primary : replay + amount;
				break;
			case 4:
			case 5:
				at_round[sc.round + 1] = primary;
				sample(&sc, primary, (uint64_t)step);
				break;
			case 6:
				poll_at(&sc, replay, sc.round, (uint64_t)step);
				break;
			default:
				if (amount < 10) { /* it restarts and is behind what it had shown */
					standby_on_loss(&sc.s);
					replay = replay > 40 ? replay - 40 : 0;
					standby_on_connect(&sc.s, sc.round);
					standby_set_timelines(&sc.s, 1, 1, sc.round);
				}
				break;
			}
			if (sc.s.fresh_round)
				assert_true(replay >= at_round[sc.s.fresh_round]);
		}
	}
}

/* How many rounds are begun from start_us until end_us when one is always wanted; the clock's steps are 10 us. */
static unsigned rounds_between(struct round_pace *p, uint64_t start_us, uint64_t end_us)
{
	unsigned n = 0;
	for (uint64_t now_us = start_us; now_us < end_us; now_us += 10) {
		if (now_us < round_pace_due(p))
			continue;
		round_pace_take(p, now_us);
		p->sent_us = now_us;
		n++;
	}
	return n;
}

static void test_pace(void **state)
{
	const uint64_t start_us = 1000 * 1000 * 1000, second_us = 1000 * 1000;
	struct round_pace p = { 0 };
	(void)state;
	/* A few at once are let pass, as far apart as the gap... */
	assert_int_equal(rounds_between(&p, start_us, start_us + ROUND_BURST * ROUND_GAP_US), ROUND_BURST);
	assert_true(round_pace_due(&p) >= p.sent_us + ROUND_GAP_US);
	/* ...then the pace holds, however long they are wanted. */
	unsigned most = (unsigned)(second_us / ROUND_PACE_US);
	(void)rounds_between(&p, start_us + ROUND_BURST * ROUND_GAP_US, start_us + second_us);
	unsigned n = rounds_between(&p, start_us + second_us, start_us + 2 * second_us);
	assert_in_range(n, most - 1, most + 1);
	/* Rest gives the burst back, and no more than that. */
	assert_int_equal(
	    rounds_between(&p, start_us + 9 * second_us, start_us + 9 * second_us + ROUND_BURST * ROUND_GAP_US),
	    ROUND_BURST);
	/* Who asks more seldom than the pace never waits. */
	for (uint64_t now_us = start_us + 20 * second_us; now_us < start_us + 21 * second_us;
	     now_us += ROUND_PACE_US + 1) {
		assert_true(round_pace_due(&p) <= now_us);
		round_pace_take(&p, now_us);
		p.sent_us = now_us;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lsn_text),
		cmocka_unit_test(test_rule_b5_page_headers),
		cmocka_unit_test(test_rule_b5_sizes_of_the_server),
		cmocka_unit_test(test_proof),
		cmocka_unit_test(test_one_reply_proves_several_rounds),
		cmocka_unit_test(test_reply_before_the_sample),
		cmocka_unit_test(test_rule_b3_poll_older_than_the_round),
		cmocka_unit_test(test_rule_b3_connection_younger_than_the_round),
		cmocka_unit_test(test_rule_b3_loss_takes_proofs_back),
		cmocka_unit_test(test_null_and_backward_positions),
		cmocka_unit_test(test_rule_b7_other_timeline),
		cmocka_unit_test(test_rule_b7_unknown_timeline),
		cmocka_unit_test(test_rule_b4_nudge),
		cmocka_unit_test(test_lag_and_catchup),
		cmocka_unit_test(test_catchup_of_unwanted_rounds),
		cmocka_unit_test(test_rounds_are_bounded),
		cmocka_unit_test(test_primary_that_went_back),
		cmocka_unit_test(test_rule_b3_random_histories),
		cmocka_unit_test(test_pace),
	};
	rules_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
