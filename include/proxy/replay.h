/* proxy/replay.h - a read-write transaction whose server was lost is repeated on the next primary (transaction_replay).
 *
 *            BEGIN held, first statement          its ReadyForQuery: bytes and a hash of the results are kept
 *   OFF ----------------------------------> RECORDING ----+
 *    ^                                       |  ^  |  ^---+
 *    |   end of the transaction              |  |  |
 *    +---------------------------------------+  |  | server lost, idle or under a statement that has shown nothing
 *    |                                          |  v
 *    |         40001: another result, an error  |  REPEATING: each kept statement, its results compared, none shown
 *    +------------------------------------------+--+
 *                                               ^  |
 *                          all are the same     +--+  then the statement that was under way
 *
 * What may be repeated: statements of a READ COMMITTED transaction that began with a BEGIN of its own, if they are
 * plain reads, writes and savepoints, one per segment, without an error, and need no function that is not PostgreSQL's
 * own. Anything else (COPY, settings, DDL, cursors, large messages, session state), and more than
 * transaction_replay_limit bytes, and the transaction is lost with its server as without replay.  A COMMIT that was
 * sent is never repeated: what became of it is asked for (lostcommit.h).
 *
 * While it is REPEATING the client's own input stands aside and nothing is read from it: c->in is the repeated
 * segment's.
 *
 * Owner: the client's worker. */
#ifndef PROXY_REPLAY_H
#define PROXY_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/check.h"
#include "proxy/client.h"
#include "wire/pgerr.h"

struct replay;
struct segment;
struct server;

/* A segment, or a part of one, is about to be sent. */
void replay_note_sent(struct client *c, const struct segment *seg);
/* Bytes of its answer for the client: type 0 goes on with the message before. */
void replay_note_answer(struct client *c, uint8_t type, const uint8_t *p, size_t n);
/* The same; false: it is compared only, and not for the client. */
static inline bool replay_shows(struct client *c, uint8_t type, const uint8_t *p, size_t n)
{
	if (UNLIKELY(c->seg.recorded))
		replay_note_answer(c, type, p, n);
	return !c->seg.repeats;
}
/* Its ReadyForQuery, with its bytes still in c->in; outside of REPEATING. */
void replay_note_done(struct client *c, bool good);
/* The transaction is over, or another one begins. */
void replay_reset(struct client *c);

bool replay_is_running(const struct client *c);
/* If its server were lost now the transaction could be repeated. */
bool replay_is_possible(const struct client *c);
/* The server was lost and is not linked any more.  True: the transaction is being repeated, or the client has been told
 * that it could not be. */
bool replay_begin(struct client *c, const struct server *s) MUSTCHECK;
/* The ReadyForQuery of a repeated segment. */
void replay_step_done(struct client *c, bool good);
/* It cannot go on; err goes to the client. */
void replay_fail(struct client *c, const struct pgerr *err);
void replay_free(struct client *c);

#endif
