/* io/loop.c - see io/loop.h.
 *
 * Our own loop around event_base_loop(EVLOOP_ONCE), not event_base_dispatch(): only so is there a place between the
 * last callback of a turn and the next wait where nothing of ours is on the stack, which is where memory may be freed
 * and where a worker flushes what the whole turn has gathered.
 * The base has no locks (NOLOCK): the one door for other threads is the mailbox, an intrusive queue under a mutex that
 * is held for a few instructions, with an eventfd that is written only when the queue was empty.  A libevent base with
 * locks and event_active() from afar would put a lock on the path of every query. */
#include "io/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <event2/event.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/mono.h"

STAILQ_HEAD(msg_queue, loop_msg);
STAILQ_HEAD(grave_queue, loop_grave);
TAILQ_HEAD(hook_queue, loop_hook);

struct loop {
	struct event_base *base; /* owned */
	char *name;              /* owned */
	uint64_t now_us;         /* 0: not read in this turn */
	struct hook_queue hooks; /* borrowed; each embedded in its owner */
	struct grave_queue graveyard;

	/* The mailbox: any thread. */
	pthread_mutex_t mail_lock;
	struct msg_queue mail; /* under mail_lock */
	int wake_fd;           /* owned; written by any thread */
	struct event wake_ev;
	atomic_bool stopping; /* any thread sets it, nobody clears it */
};

static void wake(struct loop *loop)
{
	const uint64_t one = 1;
	/* EAGAIN would mean a full counter: then it is readable, which is all that is wanted. */
	while (write(loop->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* The whole queue is taken at once, so the lock is not held while messages run, and a message that posts to its own
 * loop is delivered in the next round and cannot keep this one going for ever. */
static void deliver_mail(struct loop *loop)
{
	struct msg_queue batch = STAILQ_HEAD_INITIALIZER(batch);
	struct loop_msg *msg;

	pthread_mutex_lock(&loop->mail_lock);
	STAILQ_CONCAT(&batch, &loop->mail);
	pthread_mutex_unlock(&loop->mail_lock);
	while ((msg = STAILQ_FIRST(&batch))) {
		/* Unlinked first: the message may be freed or posted again by its own function. */
		STAILQ_REMOVE_HEAD(&batch, link);
		msg->fn(loop, msg);
	}
}

static void on_wake(evutil_socket_t fd, short what UNUSED, void *arg)
{
	uint64_t count;
	/* Emptied before the queue is taken: a sender that comes in between finds it empty and wakes us again. */
	while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
		;
	deliver_mail(arg);
}

static struct event_base *new_base(void)
{
	struct event_config *config = event_config_new();
	CHECK(config);
	CHECK(event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0);
	/* No EVENT_* variable of the environment may choose another back end than the one that was measured. */
	CHECK(event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV) == 0);
	struct event_base *base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

struct loop *loop_new(const char *name)
{
	struct loop *loop = mem_zalloc(sizeof *loop);

	loop->name = mem_strdup(name);
	loop->base = new_base();
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!loop->base || loop->wake_fd < 0) {
		log_fatal(NULL, "could not create event loop \"%s\": %s", name, strerror(errno));
		CHECK(loop->base && loop->wake_fd >= 0);
	}
	TAILQ_INIT(&loop->hooks);
	STAILQ_INIT(&loop->graveyard);
	STAILQ_INIT(&loop->mail);
	CHECK(pthread_mutex_init(&loop->mail_lock, NULL) == 0);
	CHECK(event_assign(&loop->wake_ev, loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop) == 0);
	CHECK(event_add(&loop->wake_ev, NULL) == 0);
	return loop;
}

/* What a free function buries is freed in the same round: objects are finite, and nothing can look at them now. */
static void reap_graveyard(struct loop *loop)
{
	struct loop_grave *grave;
	while ((grave = STAILQ_FIRST(&loop->graveyard))) {
		STAILQ_REMOVE_HEAD(&loop->graveyard, link);
		grave->free_fn(grave);
	}
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	deliver_mail(loop);
	reap_graveyard(loop);
	event_del(&loop->wake_ev);
	close(loop->wake_fd);
	event_base_free(loop->base);
	pthread_mutex_destroy(&loop->mail_lock);
	mem_free(loop->name);
	mem_free(loop);
}

const char *loop_name(const struct loop *loop) { return loop->name; }

struct event_base *loop_base(struct loop *loop) { return loop->base; }

/* Apart, so that the caller inlines the rest. */
static __attribute__((noinline)) uint64_t read_clock(struct loop *loop)
{
	loop->now_us = mono_now_us();
	return loop->now_us;
}

uint64_t loop_now_us(struct loop *loop)
{
	/* Read on demand and not at a fixed point: the wait lies inside event_base_loop(), so a time taken before it
	 * is stale in the callbacks by however long the loop has slept. */
	return LIKELY(loop->now_us != 0) ? loop->now_us : read_clock(loop);
}

/* Only the hooks that stand there now: one that queues itself again must not keep the sockets waiting. */
static void run_hooks(struct loop *loop)
{
	struct loop_hook *last = TAILQ_LAST(&loop->hooks, hook_queue);

	/* `last` may be cancelled by another hook, so the end is marked by an entry of our own. */
	struct loop_hook mark = { .fn = NULL };
	if (!last)
		return;
	TAILQ_INSERT_AFTER(&loop->hooks, last, &mark, link);
	for (struct loop_hook *hook; (hook = TAILQ_FIRST(&loop->hooks)) != &mark;) {
		loop_cancel_hook(loop, hook);
		hook->fn(hook);
	}
	TAILQ_REMOVE(&loop->hooks, &mark, link);
}

/* A hook that is queued already (by a hook, or between turns) must not wait for some socket to wake us. */
bool loop_turn(struct loop *loop, enum loop_wait wait)
{
	bool poll = wait == LOOP_POLL || !TAILQ_EMPTY(&loop->hooks) || atomic_load(&loop->stopping);

	loop->now_us = 0;
	CHECK(event_base_loop(loop->base, EVLOOP_ONCE | (poll ? EVLOOP_NONBLOCK : 0)) == 0);
	run_hooks(loop);
	reap_graveyard(loop);
	return !atomic_load(&loop->stopping);
}

void loop_run(struct loop *loop)
{
	while (loop_turn(loop, LOOP_WAIT))
		;
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stopping, true);
	wake(loop);
}

void loop_post(struct loop *loop, struct loop_msg *msg)
{
	DCHECK(msg->fn);
	pthread_mutex_lock(&loop->mail_lock);
	bool was_empty = STAILQ_EMPTY(&loop->mail);
	STAILQ_INSERT_TAIL(&loop->mail, msg, link);
	pthread_mutex_unlock(&loop->mail_lock);
	/* msg may be gone from here on. */
	if (was_empty)
		wake(loop);
}

void loop_bury(struct loop *loop, struct loop_grave *grave)
{
	CHECK(!grave->buried);
	grave->buried = true;
	STAILQ_INSERT_TAIL(&loop->graveyard, grave, link);
}

void loop_at_turn_end(struct loop *loop, struct loop_hook *hook)
{
	DCHECK(hook->fn);
	if (!hook->link.tqe_prev)
		TAILQ_INSERT_TAIL(&loop->hooks, hook, link);
}

void loop_cancel_hook(struct loop *loop, struct loop_hook *hook)
{
	if (!hook->link.tqe_prev)
		return;
	TAILQ_REMOVE(&loop->hooks, hook, link);
	hook->link.tqe_prev = NULL;
}

/* --- timers --- */

static void on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct loop_timer *timer = arg;
	timer->fn(timer);
}

void loop_timer_init(struct loop_timer *timer, struct loop *loop, void (*fn)(struct loop_timer *timer))
{
	timer->loop = loop;
	timer->fn = fn;
	CHECK(event_assign(&timer->ev, loop->base, -1, 0, on_timer, timer) == 0);
}

/* libevent's own clock is the coarse one here (no PRECISE_TIMER): no system call per start. */
static void start_timer(struct loop_timer *timer, uint64_t us, short flags)
{
	struct timeval tv = { .tv_sec = (time_t)(us / MONO_SEC), .tv_usec = (suseconds_t)(us % MONO_SEC) };

	/* One-shot and periodic differ in a flag that only event_assign() may change, and only when not pending. */
	event_del(&timer->ev);
	CHECK(event_assign(&timer->ev, timer->loop->base, -1, flags, on_timer, timer) == 0);
	CHECK(event_add(&timer->ev, &tv) == 0);
}

void loop_timer_start(struct loop_timer *timer, uint64_t after_us) { start_timer(timer, after_us, 0); }

void loop_timer_start_periodic(struct loop_timer *timer, uint64_t every_us)
{
	start_timer(timer, every_us, EV_PERSIST);
}

void loop_timer_stop(struct loop_timer *timer)
{
	if (timer->loop)
		event_del(&timer->ev);
}

bool loop_timer_is_running(const struct loop_timer *timer)
{
	return timer->loop && event_pending(&timer->ev, EV_TIMEOUT, NULL);
}
