/* cluster/listening.h - one connection that listens for all clients of a database (G2).
 *
 *   a worker's room --ask: a channel, a barrier--> the database's hub, on the monitor's thread
 *                   <--heard, answers, lost-------
 *
 * The hub logs in to the primary as whoever loads the database's facts does; LISTEN needs no rights.  It is opened by
 * the first request and closed a moment after the last channel has gone.
 *
 * All that waits while a command runs makes up the next one: LISTEN of what is new, UNLISTEN of what nobody wants any
 * more, or an empty query.  A barrier is answered when a command has ended that was sent after the barrier was asked
 * for: PostgreSQL signals the listeners before it acknowledges a commit, and a backend that has been signalled sends
 * its notifications before its next ReadyForQuery.  So everything that was acknowledged before the question is heard
 * before the answer.  A room gets what is heard, answers and losses by one mailbox, in this order.
 *
 * A channel is answered for when LISTEN has been committed; where it is listened to already, behind a barrier, so that
 * nothing is heard of commits from before.  A loss tells every room of the hub, and gives its registrations back.
 *
 * Threads: the functions are for the room's thread, which is that of its loop; callbacks come there, from the loop. */
#ifndef CLUSTER_LISTENING_H
#define CLUSTER_LISTENING_H

#include <stdbool.h>
#include <stdint.h>
#include "base/check.h"
#include "base/str.h"
#include "io/loop.h"

struct dbfacts;
struct host;
struct listening_room;    /* opaque */
struct listening_request; /* opaque */

/* All borrowed for the call. */
struct listening_heard {
	const struct host *host; /* borrowed, for ever */
	uint32_t backend_pid;
	uint64_t settled; /* a barrier of that number had been answered before: see listening_number() */
	const char *channel, *payload;
};
struct listening_ops {
	void (*on_heard)(void *arg, const struct listening_heard *h);
	void (*on_lost)(void *arg); /* whoever is registered may have missed something */
};

struct listening_answer {
	bool ok;             /* else: there is no such connection */
	uint64_t settled;    /* the number of the newest barrier that has been answered */
	uint64_t generation; /* for listening_release() */
};
typedef void (*listening_fn)(void *arg, const struct listening_answer *answer);

enum { LISTENING_NAME_MAX = 63 }; /* bytes of a channel's name, as PostgreSQL has them */

struct listening_room *listening_join(struct dbfacts *facts, struct loop *loop, const struct listening_ops *ops,
                                      void *arg) MUSTCHECK;
void listening_leave(struct listening_room *room); /* nothing is called back after this */

/* channel: one more registration there; NULL: a barrier.  fn is called once, unless the request is dropped first. */
struct listening_request *listening_ask(struct listening_room *room, const char *channel, listening_fn fn, void *arg);
void listening_drop(struct listening_request *r); /* NULL is fine */
/* Gives back a registration that was answered for. */
void listening_release(struct listening_room *room, const char *channel, uint64_t generation);

/* The number of the newest barrier that any hub has begun.  What was acknowledged before this was read is heard before
 * a barrier of a greater number is answered.  Any thread. */
uint64_t listening_number(void);

#endif
