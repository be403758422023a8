/* proxy/token.h - causal tokens: SHOW pgweir.causal_token, SET pgweir.causal_token = '...'.
 *
 *     7409341822734120001:1:0/3A4B5C8      system identifier, timeline, WAL position
 *
 * A token is a sample of the primary's position that was taken after the client's last answer.  Whoever gives it to a
 * connection, also of another pgweir in front of the same cluster, reads there at that position or later.  Sampling
 * takes a round trip, so both statements may have to wait: token_look() says so before local.c answers. */
#ifndef PROXY_TOKEN_H
#define PROXY_TOKEN_H

#include "base/check.h"
#include "proxy/client.h"

struct segment;

enum causal_look {
	CAUSAL_READY, /* it is not about a token, or all is known: answer it */
	CAUSAL_WAIT,  /* c->need_round and c->fresh_deadline_us say for what: consistency_wait() */
	CAUSAL_BAD,   /* *err is the answer */
};
enum causal_look token_look(struct client *c, const struct segment *seg, struct pgerr *err) MUSTCHECK;
/* After CAUSAL_READY, in the same turn.  The text is the caller's. */
char *token_show(struct client *c);
void token_take(struct client *c);

#endif
