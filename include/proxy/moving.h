/* proxy/moving.h - transactions that begin on a standby and may go on elsewhere (DESIGN section 3, rules B8, C1, C4,
 * C8).
 *
 * A READ COMMITTED transaction that has only read is nothing but a promise: it can end on one server and begin anew on
 * another between any two statements, or before a statement whose answer nobody has seen.  So it does
 *   - at the first statement that needs the primary,
 *   - at a read that its standby is not fresh enough for,
 *   - when its standby refuses, cancels or is lost,
 *   - when it is idle: an open snapshot there would stop replay for everybody (C4).
 * plan_may_move() says whether it may; here is how.  After each of these c->tx is DEFERRED again. */
#ifndef PROXY_MOVING_H
#define PROXY_MOVING_H

#include <stdbool.h>
#include <stdint.h>
#include "proxy/client.h"
#include "proxy/server.h"

struct pool;
struct segment;

/* The running segment may run again at the primary: it is with a standby, whole, and nothing of it was seen. */
bool moving_is_repeatable(const struct client *c, const struct server *s);
/* The same after the loss of the server, which may have been the primary: all that ran is a read that was proved. Again
 * and again on connections as old as the first loss: when a host dies, all of its pool are dead.  On a younger one only
 * once: it may be the statement itself that ends its servers. */
bool moving_survives_loss(const struct client *c, const struct server *s);
/* The transaction is on no server any more and begins anew with whatever comes next. */
void moving_defer(struct client *c);
/* Between two statements: the standby's part is over. */
void moving_leave(struct client *c);
/* False: the standby where the transaction or the open segment is may not answer this read any more. */
bool moving_is_fresh(struct client *c, const struct segment *seg);
/* What the segment has made of the transaction; at its ReadyForQuery, still inside the transaction. */
void moving_note_done(struct client *c);
/* C4: transactions of this pool that have been idle for a while leave their standby. */
void moving_park_idle(struct pool *p, uint64_t now_us);

#endif
