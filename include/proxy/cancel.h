/* proxy/cancel.h - cancel requests: the registry of clients' keys, and delivery to the right backend or none.
 *
 * A CancelRequest names a virtual pid and a random key.  It is looked up under a sharded lock (taken at login and
 * cancel only), goes to the worker of that client by message, and there:
 *   - the client waits in a queue: answered with 57014 at once;
 *   - its segment is with a server: a connection with that server's own key is opened, and the server is not given to
 *     anybody else until that connection has ended *and* its ReadyForQuery has come (G3);
 *   - otherwise nothing happens, as in PostgreSQL.
 *
 * Thread rule: cancel_register/unregister/request from any worker; cancel_server on the server's worker. */
#ifndef PROXY_CANCEL_H
#define PROXY_CANCEL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"

struct client;
struct server;
struct worker;

/* Gives the client a pid (above PostgreSQL's own, positive) and a random key of key_len bytes. */
void cancel_register(struct client *c, uint8_t key_len);
/* Session mode: the client gets the pid of its own backend, so that pg_terminate_backend() and the like work.  False:
 * some other client has that number (backends of two hosts); the client keeps its virtual one. */
bool cancel_adopt_pid(struct client *c, uint32_t pid);
void cancel_unregister(struct client *c);
/* It lies at `to` from now on; NULL: it is asleep (dormant.h), and there is nothing to cancel. */
void cancel_client_moved(const struct client *c, struct client *to);
/* A CancelRequest came in on worker w; one with a key that is not ours goes to the peers, if there are any. */
void cancel_request(struct worker *w, uint32_t pid, struct str key);
/* Sends the server's own CancelRequest to it.  `fence` (the server itself, or NULL) is kept from reuse until it is
 * known to be delivered. */
void cancel_server(struct server *s, struct server *fence);
/* The worker ends, its servers are closed: requests that are still under way are given up. */
void cancels_free(struct worker *w);
/* The server is being closed: a request under way must not touch it any more. */
void cancel_forget_server(struct server *s);

#endif
