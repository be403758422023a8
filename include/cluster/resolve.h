/* cluster/resolve.h - host names to addresses on a loop, by evdns: libpq itself would block on a name.
 *
 * Owner: one thread; the answer comes from the loop or, for what needs no question (an address, a socket directory,
 * a name in /etc/hosts), inside resolve_start(). */
#ifndef CLUSTER_RESOLVE_H
#define CLUSTER_RESOLVE_H

#include <stdbool.h>
#include "io/loop.h"
#include "io/net.h"

enum { RESOLVE_MAX = 8 };
struct resolve_answer {
	unsigned n; /* 0: failed, error tells */
	struct net_addr addr[RESOLVE_MAX];
	const char *error; /* static or NULL */
};

struct resolver;
struct resolve_request;
typedef void (*resolve_fn)(void *arg, const struct resolve_answer *answer);

struct resolver *resolver_new(struct loop *loop, const char *resolv_conf); /* NULL or "": the system's */
void resolver_free(struct resolver *r); /* open questions are dropped; cancel them first */

/* False: it has been answered already.  True: *request is set until the answer comes. */
bool resolve_start(struct resolver *r, const char *host, int port, resolve_fn fn, void *arg,
                   struct resolve_request **request);
void resolve_cancel(struct resolve_request *request); /* fn will not be called */

#endif
