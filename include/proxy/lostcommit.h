/* proxy/lostcommit.h - a COMMIT whose answer was lost: was it committed? (A4, DESIGN section 7)
 *
 *   emit:   in front of a lone COMMIT of a transaction that has written: "which id have I?" and a Flush, in the same
 * write reply:  the id, before the server has looked at the COMMIT loss:   ACTIVE -> WAIT_OUTCOME: the next primary, or
 * the same one come back, is asked (cluster/outcome.h) then:   committed: COMMIT; not: 40001; nobody can tell: 08007 as
 * ever
 *
 * Only where ask_commit_outcome or transaction_replay is on: it costs the server some microseconds for each such
 * transaction.  Not where more than the words of COMMIT hangs on the outcome: settings made in the transaction, pins.
 *
 * Owner: the client's worker. */
#ifndef PROXY_LOSTCOMMIT_H
#define PROXY_LOSTCOMMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/check.h"
#include "proxy/client.h"
#include "wire/pgerr.h"

struct segment;
struct server;

/* The id is to be asked for in front of this segment. */
bool lostcommit_is_asked(const struct client *c, const struct server *s, const struct segment *seg);
/* It is being asked for: what is known of the server before that. */
void lostcommit_note_asked(struct client *c, const struct server *s);
/* The DataRow of that question; have < len: it is not all there. */
void lostcommit_note_xid(struct client *c, const uint8_t *body, size_t have, size_t len);
/* A FATAL of the server; true: that is not for the client, what counts is the loss that follows. */
bool lostcommit_note_fatal(struct client *c, const struct server *s);
/* The server was lost and is not linked any more.  True: the client waits for the outcome; `unknown` is its error if
 * there is none. */
bool lostcommit_begin(struct client *c, const struct server *s, const struct pgerr *unknown) MUSTCHECK;
void lostcommit_free(struct client *c);

#endif
