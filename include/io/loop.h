/* io/loop.h - one thread's event loop.
 *
 * A turn is: wait for events, run their callbacks, run the turn hooks, reap the graveyard.
 *
 *     wait -> callbacks (sockets, timers, mailbox) -> hooks queued so far -> graveyard -> wait ...
 *
 * Owner: the thread that calls loop_run().  Only loop_post() and loop_stop() may be called from other threads; all
 * that crosses threads is a message embedded in the thing that it is about, so posting never allocates.
 * All structs that are embedded here (message, grave, hook, timer) must be zeroed before their first use. */
#ifndef IO_LOOP_H
#define IO_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <event2/event_struct.h>
#include "base/check.h"

struct loop;

struct loop *loop_new(const char *name) MUSTCHECK; /* never NULL; failing here ends the process */
/* Not while the loop runs, and after all its streams and timers are closed.  Delivers what is still in the mailbox,
 * then reaps the graveyard; hooks are dropped. */
void loop_free(struct loop *loop);
const char *loop_name(const struct loop *loop);
struct event_base *loop_base(struct loop *loop);

/* Monotonic microseconds, read from the clock at the first call in a turn: never older than this turn's events. */
uint64_t loop_now_us(struct loop *loop);

void loop_run(struct loop *loop);  /* returns after loop_stop() */
void loop_stop(struct loop *loop); /* any thread; the turn under way is finished first; sticky */
/* One turn, for tests and for hosts with a loop of their own.  Returns false once loop_stop() was called. */
enum loop_wait { LOOP_WAIT, LOOP_POLL };
bool loop_turn(struct loop *loop, enum loop_wait wait);

/* --- mailbox: any thread to this loop, in order of posting per sender --- */
struct loop_msg {
	STAILQ_ENTRY(loop_msg) link;
	void (*fn)(struct loop *loop, struct loop_msg *msg); /* runs on the loop's thread; may free or repost msg */
};
void loop_post(struct loop *loop, struct loop_msg *msg); /* msg belongs to the receiver from now on */

/* --- graveyard: memory that callbacks further up the stack may still look at --- */
struct loop_grave {
	STAILQ_ENTRY(loop_grave) link;
	void (*free_fn)(struct loop_grave *grave); /* runs between turns, in order of burial */
	bool buried;                               /* set by loop_bury(); nobody clears it */
};
void loop_bury(struct loop *loop, struct loop_grave *grave);

/* --- turn hooks: one-shot work put off to the end of the turn --- */
struct loop_hook {
	TAILQ_ENTRY(loop_hook) link; /* tqe_prev is NULL while not queued */
	void (*fn)(struct loop_hook *hook);
};
/* Idempotent while queued.  A hook queued by a hook runs at the end of the next turn, which then does not wait. */
void loop_at_turn_end(struct loop *loop, struct loop_hook *hook);
void loop_cancel_hook(struct loop *loop, struct loop_hook *hook); /* fine when it is not queued */

/* --- timers: coarse (a few milliseconds late, never early by more than that) --- */
struct loop_timer {
	struct event ev;
	struct loop *loop; /* borrowed */
	void (*fn)(struct loop_timer *timer);
};
void loop_timer_init(struct loop_timer *timer, struct loop *loop, void (*fn)(struct loop_timer *timer));
void loop_timer_start(struct loop_timer *timer, uint64_t after_us); /* once; starting again moves the time */
void loop_timer_start_periodic(struct loop_timer *timer, uint64_t every_us);
void loop_timer_stop(struct loop_timer *timer); /* fine when it does not run, or was never initialised */
bool loop_timer_is_running(const struct loop_timer *timer);

#endif
