/* proxy/pins.h - how long a client keeps its server connection.
 *
 *   seg.pins (what its statements make) --relay_pin()--> client.pins --probe behind the transaction--> gone
 *
 * A temporary table, a cursor WITH HOLD, an advisory lock of the session or a LISTEN may be gone again by many ways: a
 * DROP, a ROLLBACK TO, ON COMMIT DROP, a function.  So it is asked for (E2) behind each transaction of a pinned client
 * that may have ended one, and a client without pins lets go.  What it leaves is made as new or closed, depending on
 * what was in it. */
#ifndef PROXY_PINS_H
#define PROXY_PINS_H

#include <stdbool.h>
#include <stdint.h>
#include "proxy/afterstep.h"

struct client;
struct segment;
struct server;

/* Of a statement's pins those that last; failed: what was rolled back does not. */
uint32_t pins_that_last(const struct client *c, const struct server *s, uint32_t pins, bool failed);
/* The server has this state of its client's now. */
void pins_mark_server(struct server *s, uint32_t pins);
/* A segment has ended: is there something to ask for when its transaction is over?  Whose are the sequences' values? */
void pins_note_segment(struct client *c, struct server *s);
/* E3: keeps the server for a client that may ask for currval() or lastval(), until its next transaction is over. */
void pins_end_transaction(struct client *c, struct server *s);
/* E3: somebody else's values are to be discarded before the segment. */
bool pins_must_discard(const struct client *c, const struct server *s, const struct segment *seg);

#endif
