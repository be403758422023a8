/* control/ask.h - questions between threads: to every worker, and to the main thread.
 *
 * The console sits on a worker's thread, the HTTP server on its own; neither may look at another worker's objects.
 * ask_workers() carries a function from worker to worker and brings the answer back to the asker's loop; ask_main()
 * has a function run on the main thread, which owns the configuration and the listeners.
 *
 * Every question is counted while it is under way.  Before threads are stopped, the main thread calls ask_stop() and
 * turns its loop until ask_is_quiet(): after that no message is on its way between loops that are about to be freed. */
#ifndef CONTROL_ASK_H
#define CONTROL_ASK_H

#include <stdbool.h>
#include "base/check.h"
#include "io/loop.h"

struct worker;

/* Runs fn(w, arg) on each worker's thread in turn, then done(arg) on the caller's loop.  False: the process is
 * stopping, and neither of them will be called. */
bool ask_workers(struct loop *caller, void (*fn)(struct worker *w, void *arg), void (*done)(void *arg),
                 void *arg) MUSTCHECK;

/* A question to the main thread; embedded in the asker's own struct, which must live until `done`. */
struct ask {
	struct loop_msg msg;
	struct loop *caller;         /* borrowed: where done runs */
	void (*work)(struct ask *a); /* on the main thread; ends, now or later, with ask_answer(a) */
	void (*done)(struct ask *a); /* on the caller's loop */
};
bool ask_main(struct ask *a) MUSTCHECK; /* false: the process is stopping */
void ask_answer(struct ask *a);         /* main thread */

/* Main thread, at start (before any other thread) and at the end. */
void ask_start(struct loop *main_loop);
void ask_stop(void);
bool ask_is_quiet(void);

#endif
