/* proxy/consistency.h - which replica may answer this client's read now (DESIGN section 4, rules B2, B3, B6).
 *
 * A replica may answer when it is fresh as of a round later than every answer that the client, or at level `database`
 * anybody of that database, has seen of the primary or of another replica.  When none is that fresh yet, the monitor
 * is asked for a round and the client waits, up to replica_wait; then the primary answers. */
#ifndef PROXY_CONSISTENCY_H
#define PROXY_CONSISTENCY_H

#include <stdbool.h>
#include <stdint.h>
#include "cluster/topology.h"
#include "proxy/client.h"

enum choice { CHOICE_HOST, CHOICE_WAIT, CHOICE_NONE };

/* CHOICE_WAIT: c->need_round says what is waited for. */
enum choice consistency_choose(struct client *c, struct host **host);
/* The connection itself must have been there when the proof was made (B3). */
bool consistency_admits(struct client *c, const struct host *host, uint64_t login_round);
/* The same host again, over the same connection: a later statement of a transaction, or the rest of a segment (B8). */
bool consistency_still_admits(const struct client *c, const struct host *host);
/* Bytes of an answer have come from that host. */
void consistency_note_answer(struct client *c, struct host *host, bool is_primary);

/* B1: may the client, whose transaction has read on a standby, go on at this primary?  CHOICE_WAIT: the primary may not
 * show yet what the standby did, and somebody finds out; CHOICE_NONE: it did not within the time for that. */
enum choice consistency_may_move(struct client *c, const struct host *primary);

/* Waiting for freshness. */
void consistency_wait(struct client *c);
void consistency_unwait(struct client *c);
void consistency_wake(struct worker *w); /* standbys have moved, or roles changed */
void consistency_on_timer(struct loop_timer *t);

#endif
