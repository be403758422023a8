/* control/db_order.h - what an operator may order for one database or all: PAUSE, RESUME, RECONNECT, KILL.
 *
 * An order is carried from worker to worker (control/ask.h); each does its part on its own objects.
 *
 *   PAUSE      nobody gets a server any more; free servers are closed, busy ones when they are free; clients wait
 *   RESUME     servers are handed out again
 *   RECONNECT  as PAUSE, but clients go on with new servers
 *   KILL       as PAUSE, and clients and busy servers are cut off at once; RESUME lets clients in again
 *   COUNT      nothing; how many servers of an earlier order are still there? */
#ifndef CONTROL_DB_ORDER_H
#define CONTROL_DB_ORDER_H

#include <stdbool.h>
#include "base/check.h"

struct loop;
struct worker;

enum db_action { DB_PAUSE, DB_RESUME, DB_RECONNECT, DB_KILL, DB_COUNT };

struct db_order {
	enum db_action action;
	const char *database; /* borrowed; NULL: all */
	/* Results, added up over the workers. */
	unsigned left;    /* servers that PAUSE, RECONNECT or KILL want gone and that are still there */
	unsigned clients; /* of the database */
};

void db_order_apply(struct worker *w, void *order); /* struct db_order *; on the worker's thread */
/* The same from a signal: for all databases, nobody waits for the end.  Main thread. */
void db_order_all(struct loop *main_loop, enum db_action action);

#endif
