/* proxy/relay_priv.h - shared by relay.c (requests), reply.c (answers) and welcome.c (first contact). */
#ifndef PROXY_RELAY_PRIV_H
#define PROXY_RELAY_PRIV_H

#include "proxy/relay.h"
#include "wire/pgerr.h"

/* What the client's next segment is: looked at once, until relay_drop_scan(). */
struct segment *relay_scan(struct client *c);
void relay_drop_scan(struct client *c); /* idempotent */
/* A segment that ends with a large message is given up before it was sent: the bytes of that message still to come must
 * not be read as messages.  Returns how the segment ends for the client. */
enum segment_end relay_discard_large(struct client *c, const struct segment *seg);
bool relay_stream_rest(struct client *c);
/* The segment of the client, at the head of its input, goes to the server that it is linked to. */
void relay_start(struct client *c, struct server *s);
void relay_retry(struct client *c, enum server_role role);
void relay_checked(struct client *c, struct server *s);
void relay_after_done(struct client *c, bool failed);
void relay_segment_done(struct client *c, struct server *s, char status);

/* The client keeps this server connection, for these reasons (enum sql_pin).  May close the client (max_pinned). */
void relay_pin(struct client *c, struct server *s, uint32_t pins);

/* Every request that is still open is settled as skipped and will be swallowed; what is held back is dropped. */
void reply_abandon(struct server *s);
/* The same for a client that has gone: its tables must not be touched any more. */
void reply_orphan(struct server *s);

/* A ReadyForQuery that had to wait (listens.h) has been sent. */
void reply_ready(struct client *c);

/* An error before the greeting: kept for what the client is told. */
void relay_note_failure(struct client *c, const struct pgerr_fields *e);
void client_note_status(struct client *c, struct str name, struct str value);

void relay_start_welcome(struct client *c, struct server *s);
void relay_welcome_done(struct client *c, struct server *s, const struct pgerr *err);
void relay_raw_ready(struct client *c, struct server *s);

#endif
