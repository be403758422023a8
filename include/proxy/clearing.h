/* proxy/clearing.h - connections of ours that would be in the way of a statement go first.
 *
 * DROP DATABASE, its kin and CREATE DATABASE … TEMPLATE want nobody connected to a database: idle server connections to
 * it are closed on all workers, others when their clients leave them (PostgreSQL waits five seconds for such).  They
 * and VACUUM wait until no load of facts runs there: its snapshot would keep VACUUM from what a private connection
 * would see done. */
#ifndef PROXY_CLEARING_H
#define PROXY_CLEARING_H

#include <stdbool.h>

struct client;
struct segment;

/* The client's segment is about to ask for a server. */
void clearing_begin(struct client *c, const struct segment *seg);
/* True: the client has to wait, in state WAIT_QUIET; ask again at the next tick. */
bool clearing_waits(struct client *c);

#endif
