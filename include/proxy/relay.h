/* proxy/relay.h - a linked pair: a client's segment on its way to a server, and the answer on its way back.
 *
 *   client_process -> segment_scan -> plan_segment -> relay_request -> (wait) -> relay_start -> emit -> server
 *   server -> relay_on_server_readable -> reply_message per message -> client; at ReadyForQuery relay_segment_done
 *
 * Rules that live here: injections by reserved named statements in the client's own segment (A1, A2), outcome only at
 * ReadyForQuery (A5), what may be run again (A8, F1), settings tentative until the transaction ends (C7), position
 * after every answer of the primary (B2), ParameterStatus by comparison (E6), answers of standbys held (G1). */
#ifndef PROXY_RELAY_H
#define PROXY_RELAY_H

#include <stdbool.h>
#include "proxy/client.h"
#include "proxy/segment.h"
#include "proxy/server.h"

/* Finds a server for the client's segment (c->seg says where) and starts it, now or when one is free. */
void relay_request(struct client *c);
/* A pool hands over a server. False: the client cannot use it (B3) and has gone to wait elsewhere. */
bool relay_server_ready(struct client *c, struct server *s);
/* No server can be had. */
void relay_server_refused(struct client *c, const struct pgerr *err);

/* A client has logged in: greet it as a real backend with its settings would (ParameterStatus). */
void relay_welcome(struct client *c);
/* A replication client has logged in: a connection to the primary of its own, bytes pass through (G4). */
void relay_start_raw(struct client *c);
/* It waits for a primary, at most failover_timeout: looks again. */
void relay_try_raw(struct client *c, uint64_t now_us);

void relay_link(struct client *c, struct server *s);
void relay_unlink(struct client *c);
/* The client gives up a server that it would keep beyond the transaction. */
void relay_forget_kept(struct client *c, const struct server *s);
/* Its server goes back to the pool, which rolls back what is open there. */
void relay_give_back(struct client *c);

/* Looks at the next segment of an idle client. True: it was answered, look again. */
bool relay_next_segment(struct client *c);
/* Sends what is in c->in beyond c->emitted and belongs to the open segment, COPY or large message. */
void relay_continue(struct client *c);

void relay_on_server_readable(struct server *s);
void relay_on_server_drained(struct server *s);
void relay_on_client_drained(struct client *c);
/* The server's connection is lost; called by server_close() while s->client is still set. */
void relay_on_server_lost(struct server *s, const char *why);
/* The client goes away: its servers are rolled back, drained or closed. */
void relay_on_client_gone(struct client *c);

#endif
