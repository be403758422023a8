/* The loop: turn order, mailbox across threads, graveyard, hooks, timers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include <event2/event.h>
#include "base/mem.h"
#include "base/mono.h"
#include "io/loop.h"

static char trail[64]; /* one letter per thing that happened */

static void mark(char c)
{
	size_t n = strlen(trail);
	assert_true(n + 1 < sizeof trail);
	trail[n] = c;
	trail[n + 1] = '\0';
}

static int setup(void **state)
{
	trail[0] = '\0';
	*state = loop_new("test");
	return 0;
}

static int teardown(void **state)
{
	loop_free(*state);
	return 0;
}

struct grave {
	struct loop_grave grave;
	char letter;
	struct loop *loop;
	struct grave *child; /* buried while this one is freed */
};

static void free_grave(struct loop_grave *g)
{
	struct grave *grave = CONTAINER_OF(g, struct grave, grave);
	mark(grave->letter);
	if (grave->child)
		loop_bury(grave->loop, &grave->child->grave);
	mem_free(grave);
}

static struct grave *new_grave(struct loop *loop, char letter, struct grave *child)
{
	struct grave *g = mem_zalloc(sizeof *g);
	g->grave.free_fn = free_grave;
	g->letter = letter;
	g->loop = loop;
	g->child = child;
	return g;
}

struct note {
	struct loop_msg msg;
	char letter;
	bool bury;
};

static void on_note(struct loop *loop, struct loop_msg *msg)
{
	struct note *note = CONTAINER_OF(msg, struct note, msg);
	mark(note->letter);
	if (note->bury)
		loop_bury(loop, &new_grave(loop, 'g', NULL)->grave);
	mem_free(note);
}

static void post(struct loop *loop, char letter, bool bury)
{
	struct note *note = mem_zalloc(sizeof *note);
	note->msg.fn = on_note;
	note->letter = letter;
	note->bury = bury;
	loop_post(loop, &note->msg);
}

struct hook {
	struct loop_hook hook;
	struct loop *loop;
	char letter;
	int again;
	struct hook *cancels;
};

static void on_hook(struct loop_hook *h)
{
	struct hook *hook = CONTAINER_OF(h, struct hook, hook);
	mark(hook->letter);
	if (hook->cancels)
		loop_cancel_hook(hook->loop, &hook->cancels->hook);
	if (hook->again-- > 0)
		loop_at_turn_end(hook->loop, h);
}

static void test_graves_are_freed_in_order_at_the_end_of_the_turn(void **state)
{
	struct loop *loop = *state;
	struct grave *child = new_grave(loop, 'c', NULL);

	loop_bury(loop, &new_grave(loop, 'a', child)->grave);
	loop_bury(loop, &new_grave(loop, 'b', NULL)->grave);
	assert_string_equal(trail, "");
	loop_turn(loop, LOOP_POLL);
	assert_string_equal(trail, "abc");
}

static void test_turn_is_callbacks_then_hooks_then_graves(void **state)
{
	struct loop *loop = *state;
	struct hook hook = { .hook.fn = on_hook, .loop = loop, .letter = 'h' };

	post(loop, '1', true);
	post(loop, '2', false);
	loop_at_turn_end(loop, &hook.hook);
	loop_at_turn_end(loop, &hook.hook);
	loop_turn(loop, LOOP_WAIT);
	assert_string_equal(trail, "12hg");
	loop_turn(loop, LOOP_POLL);
	assert_string_equal(trail, "12hg");
}

static void test_hook_queued_by_itself_runs_in_the_next_turn_without_waiting(void **state)
{
	struct loop *loop = *state;
	struct hook hook = { .hook.fn = on_hook, .loop = loop, .letter = 'h', .again = 2 };

	loop_at_turn_end(loop, &hook.hook);
	for (size_t turns = 1; turns <= 3; turns++) {
		loop_turn(loop, LOOP_WAIT); /* would hang: nothing else is there to wake it */
		assert_int_equal(strlen(trail), turns);
	}
}

static void test_hook_can_cancel_the_one_behind_it(void **state)
{
	struct loop *loop = *state;
	struct hook b = { .hook.fn = on_hook, .loop = loop, .letter = 'b' };
	struct hook c = { .hook.fn = on_hook, .loop = loop, .letter = 'c' };
	struct hook a = { .hook.fn = on_hook, .loop = loop, .letter = 'a', .cancels = &c };

	loop_at_turn_end(loop, &a.hook);
	loop_at_turn_end(loop, &b.hook);
	loop_at_turn_end(loop, &c.hook);
	loop_turn(loop, LOOP_WAIT);
	assert_string_equal(trail, "ab");
	loop_cancel_hook(loop, &c.hook);
}

static void test_mail_left_over_is_delivered_by_free(void **state)
{
	struct loop *loop = *state;
	post(loop, 'x', true);
	loop_free(loop);
	assert_string_equal(trail, "xg");
	*state = loop_new("again");
}

/* --- several senders at once --- */

enum { SENDERS = 4, EACH = 20000 };

struct counted {
	struct loop_msg msg;
	int sender, number;
};

static int last_seen[SENDERS]; /* the loop's thread only */
static atomic_int received;

static void on_counted(struct loop *loop, struct loop_msg *msg)
{
	struct counted *c = CONTAINER_OF(msg, struct counted, msg);
	assert_int_equal(c->number, last_seen[c->sender] + 1);
	last_seen[c->sender] = c->number;
	mem_free(c);
	if (atomic_fetch_add(&received, 1) + 1 == SENDERS * EACH)
		loop_stop(loop);
}

struct sender {
	pthread_t thread;
	struct loop *loop;
	int number;
};

static void *send_many(void *arg)
{
	struct sender *me = arg;
	for (int i = 1; i <= EACH; i++) {
		struct counted *c = mem_zalloc(sizeof *c);
		c->msg.fn = on_counted;
		c->sender = me->number;
		c->number = i;
		loop_post(me->loop, &c->msg);
	}
	return NULL;
}

static void test_mailbox_keeps_each_senders_order_across_threads(void **state)
{
	struct sender senders[SENDERS];

	for (int i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){ .loop = *state, .number = i };
		assert_int_equal(pthread_create(&senders[i].thread, NULL, send_many, &senders[i]), 0);
	}
	loop_run(*state);
	for (int i = 0; i < SENDERS; i++)
		pthread_join(senders[i].thread, NULL);
	assert_int_equal(atomic_load(&received), SENDERS * EACH);
}

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void test_stop_wakes_a_loop_that_sleeps_in_another_thread(void **state)
{
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, run_loop, *state), 0);
	usleep(20000);
	loop_stop(*state);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(loop_turn(*state, LOOP_WAIT)); /* sticky, and does not sleep */
}

/* --- time --- */

struct ticker {
	struct loop_timer timer;
	int ticks;
	uint64_t at_us;
};

static void on_tick(struct loop_timer *timer)
{
	struct ticker *t = CONTAINER_OF(timer, struct ticker, timer);
	t->ticks++;
	t->at_us = loop_now_us(timer->loop);
}

static void test_timer_fires_once_and_time_is_fresh_in_it(void **state)
{
	struct loop *loop = *state;
	struct ticker t = { .ticks = 0 };
	uint64_t began = mono_now_us();

	assert_false(loop_timer_is_running(&t.timer));
	loop_timer_stop(&t.timer);
	loop_timer_init(&t.timer, loop, on_tick);
	(void)loop_now_us(loop); /* cached before the wait: must not be what the callback sees */
	loop_timer_start(&t.timer, 50000);
	assert_true(loop_timer_is_running(&t.timer));
	loop_turn(loop, LOOP_WAIT);
	assert_int_equal(t.ticks, 1);
	assert_true(t.at_us - began > 40000);
	assert_false(loop_timer_is_running(&t.timer));
	usleep(2000);
	assert_true(loop_now_us(loop) == t.at_us); /* one reading per turn */
}

static void test_timer_periodic_until_stopped(void **state)
{
	struct loop *loop = *state;
	struct ticker t = { .ticks = 0 };

	loop_timer_init(&t.timer, loop, on_tick);
	loop_timer_start(&t.timer, 3600 * MONO_SEC);
	loop_timer_start_periodic(&t.timer, 5000);
	while (t.ticks < 3)
		loop_turn(loop, LOOP_WAIT);
	loop_timer_stop(&t.timer);
	usleep(20000);
	loop_turn(loop, LOOP_POLL);
	assert_int_equal(t.ticks, 3);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_graves_are_freed_in_order_at_the_end_of_the_turn),
		TEST(test_turn_is_callbacks_then_hooks_then_graves),
		TEST(test_hook_queued_by_itself_runs_in_the_next_turn_without_waiting),
		TEST(test_hook_can_cancel_the_one_behind_it),
		TEST(test_mail_left_over_is_delivered_by_free),
		TEST(test_mailbox_keeps_each_senders_order_across_threads),
		TEST(test_stop_wakes_a_loop_that_sleeps_in_another_thread),
		TEST(test_timer_fires_once_and_time_is_fresh_in_it),
		TEST(test_timer_periodic_until_stopped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
