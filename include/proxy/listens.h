/* proxy/listens.h - LISTEN without a pin: what a client hears by the listening connection of its database (G2).
 *
 *   LISTEN  ->  WAIT_LISTEN: the shared connection listens to it, or does so already (cluster/listening.h)
 *           ->  registered, and answered here; where there is no such connection the server gets it, and it pins
 *
 * Only what stands alone, outside of a transaction block; everything else pins as ever.  An UNLISTEN anywhere in a
 * transaction takes effect when that is committed; one that may have been rolled back to a savepoint does not.
 *
 * What is heard goes to the client at once while it is idle outside of a transaction, else before its next
 * ReadyForQuery that says so.  That one waits for a barrier: whatever was committed and acknowledged before it, by
 * this client or another one, is heard by then.
 *
 *   answered by a server   ACTIVE, the server linked and not read:  --barrier--> notifications, ReadyForQuery
 *   answered here          WAIT_LISTEN                              --barrier--> the same
 *   may notify, on a backend of which something of another client's may still be to come (notifiers.h)
 *                          ACTIVE, nothing sent yet                 --barrier--> sent
 *
 * When the shared connection is lost, all who are registered are told so by the end of their session, as by the end of
 * their private backend.  Owner: worker. */
#ifndef PROXY_LISTENS_H
#define PROXY_LISTENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/check.h"

struct client;
struct listens;
struct segment;
struct server;
struct worker;

/* --- decisions (plan.c) --- */
bool listens_may_share(const struct client *c, const char *channel); /* a LISTEN that stands alone */
bool listens_may_end(const struct client *c);                        /* an UNLISTEN that does */
unsigned listens_count(const struct client *c);                      /* channels by the shared connection */

/* The rest of a segment, of which a server has parsed a LISTEN or UNLISTEN and executed nothing: that may be answered
 * here as if a Sync stood between. */
bool listens_takes_over(const struct client *c, const struct segment *seg);

/* --- what happens (where c->listens is set, unless it says otherwise) --- */
/* True: the segment is a LISTEN that must be asked for first; the client waits.  Without c->listens too. */
bool listens_waits(struct client *c, const struct segment *seg);
void listens_end_one(struct client *c, const char *channel); /* NULL: all */
/* The segment may notify, and waits until what others did on that server has been heard: call again then. */
bool listens_delays(struct client *c, struct server *s, const struct segment *seg);
/* Its ReadyForQuery of that status is to wait ... */
bool listens_holds(const struct client *c, char status);
/* ... and does so from now on, everything before it being on its way. */
void listens_hold(struct client *c);
/* One of the two is going on. */
bool listens_is_waiting(const struct client *c);
/* c->srv was lost in the meantime.  True: the client has been told and is gone. */
bool listens_on_server_lost(struct client *c, const char *why);
/* Its database is another one since a reload. */
bool listens_is_elsewhere(const struct client *c);
/* A segment has been answered; its transaction has ended. */
void listens_note_done(struct client *c, bool failed);
void listens_end_transaction(struct client *c, bool committed);
/* Sends what has waited, if now is the time. */
void listens_flush(struct client *c);
/* A NotificationResponse of a server that the client hears by the shared connection. */
bool listens_has(const struct client *c, const uint8_t *body, size_t n);
void listens_free(struct client *c); /* idempotent; c->listens may be NULL */

void listens_rooms_free(struct worker *w); /* before its loop; all clients are gone */

#endif
