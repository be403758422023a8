/* proxy/orders.h - what an operator has ordered and what stands until it is taken back: PAUSE, DISABLE, SUSPEND.
 *
 * One list for the process, under a mutex, so that an order also holds for a database that nobody has used yet and for
 * users who log in later.  It is looked at when a dbuser is made and when a client logs in; the path of a query reads
 * dbuser.paused only. */
#ifndef PROXY_ORDERS_H
#define PROXY_ORDERS_H

#include <stdint.h>
#include "base/check.h"

enum {
	ORDER_PAUSED = 1,    /* nobody gets a server */
	ORDER_SUSPENDED = 2, /* the same, but server connections are kept; of all databases only */
	ORDER_DISABLED = 4,  /* nobody new may log in */
};

/* Of one database by the name that clients use, orders for all included; NULL: those for all. */
uint32_t orders_of(const char *database);
/* Adds `set` and takes `clear` back; NULL: for all databases, and then `clear` goes for each of them too. */
void orders_change(const char *database, uint32_t set, uint32_t clear);

#endif
