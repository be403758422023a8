/* control/ask.c - see control/ask.h. */
#include "control/ask.h"

#include <stdatomic.h>
#include "base/mem.h"
#include "proxy/worker.h"

static struct loop *main_loop; /* borrowed; set before any other thread starts */
static _Atomic int under_way;
static atomic_bool stopping;

/* Counted first and looked at second, while ask_stop() writes first and counts second: one of the two sees the other.
 */
static bool begin(void)
{
	atomic_fetch_add(&under_way, 1);
	if (!atomic_load(&stopping))
		return true;
	atomic_fetch_sub(&under_way, 1);
	return false;
}

static void end(void) { atomic_fetch_sub(&under_way, 1); }

/* --- workers --- */

struct round_trip {
	void (*fn)(struct worker *w, void *arg);
	void (*done)(void *arg);
	void *arg; /* borrowed */
};

static void on_worker(struct worker *w, void *arg)
{
	struct round_trip *r = arg;
	if (r->fn)
		r->fn(w, r->arg);
}

/* Counted down last: until then the arguments are in use. */
static void on_back(void *arg)
{
	struct round_trip *r = arg;
	r->done(r->arg);
	mem_free(r);
	end();
}

bool ask_workers(struct loop *caller, void (*fn)(struct worker *w, void *arg), void (*done)(void *arg), void *arg)
{
	if (!begin())
		return false;
	struct round_trip *r = mem_alloc(sizeof *r);
	*r = (struct round_trip){ fn, done, arg };
	workers_collect(caller, on_worker, on_back, r);
	return true;
}

/* --- the main thread --- */

static void on_answer(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct ask *a = CONTAINER_OF(msg, struct ask, msg);
	a->done(a);
	end();
}

static void on_question(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct ask *a = CONTAINER_OF(msg, struct ask, msg);
	a->work(a);
}

bool ask_main(struct ask *a)
{
	if (!begin())
		return false;
	a->msg.fn = on_question;
	loop_post(main_loop, &a->msg);
	return true;
}

void ask_answer(struct ask *a)
{
	a->msg.fn = on_answer;
	loop_post(a->caller, &a->msg);
}

void ask_start(struct loop *loop)
{
	main_loop = loop;
	atomic_store(&stopping, false);
}

void ask_stop(void) { atomic_store(&stopping, true); }
bool ask_is_quiet(void) { return atomic_load(&under_way) == 0; }
