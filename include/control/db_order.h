/* control/db_order.h - what an operator may order for one database or all: PAUSE, RESUME, RECONNECT, KILL, DISABLE,
 * ENABLE, SUSPEND.
 *
 * What stands until it is taken back is noted in proxy/orders.h first, so that it holds for who logs in later; then the
 * order is carried from worker to worker (control/ask.h), and each does its part on its own objects.
 *
 *   PAUSE      nobody gets a server any more; free servers are closed, busy ones when they are free; clients wait
 *   SUSPEND    as PAUSE, but server connections stay open
 *   RESUME     servers are handed out again
 *   RECONNECT  as PAUSE, but clients go on with new servers
 *   KILL       as PAUSE, and clients and busy servers are cut off at once; RESUME lets clients in again
 *   DISABLE    nobody new may log in; who is there goes on
 *   ENABLE     end of DISABLE
 *   COUNT      nothing; how many servers of an earlier order are still there?
 *   COUNT_BUSY nothing; how many servers work for a client? */
#ifndef CONTROL_DB_ORDER_H
#define CONTROL_DB_ORDER_H

#include <stdbool.h>
#include "base/check.h"

struct loop;
struct worker;

enum db_action {
	DB_PAUSE,
	DB_SUSPEND,
	DB_RESUME,
	DB_RECONNECT,
	DB_KILL,
	DB_DISABLE,
	DB_ENABLE,
	DB_COUNT,
	DB_COUNT_BUSY
};

struct db_order {
	enum db_action action;
	const char *database; /* borrowed; NULL: all */
	/* Results, added up over the workers. */
	unsigned left;    /* servers that the order wants gone, or idle, and that are not yet */
	unsigned clients; /* of the database */
};

/* Notes what stands; before the order goes to the workers.  Any thread. */
void db_order_note(const struct db_order *o);
void db_order_apply(struct worker *w, void *order); /* struct db_order *; on the worker's thread */
/* The same from a signal: for all databases, nobody waits for the end.  Main thread. */
void db_order_all(struct loop *main_loop, enum db_action action);

#endif
