/* proxy/plan.h - what to do with a client's segment: a decision, nothing is done here.
 *
 * Inputs are the segment's facts and the client's transaction; the result says who answers and why. */
#ifndef PROXY_PLAN_H
#define PROXY_PLAN_H

#include <stdbool.h>
#include "proxy/client.h"
#include "proxy/segment.h"
#include "sql/route.h"
#include "wire/pgerr.h"

#define PLAN_ACTIONS(X)                                                                                                \
	X(WAIT, "more input is needed")                                                                                \
	X(FORWARD, "to a server of that role")                                                                         \
	X(CONTINUE, "to the server that the client has")                                                               \
	X(MOVE, "the transaction, which has only read, ends on its replica and goes on at the primary")                \
	X(LOCAL, "answered here: Sync, Close, an empty query, BEGIN or COMMIT of a deferred transaction, pgweir.*")    \
	X(REJECT, "an error that a server would give, or must give: error says which")                                 \
	X(TERMINATE, "the client leaves")                                                                              \
	X(PROTOCOL, "not the protocol")
enum plan_action {
#define PLAN_ENUM(id, doc) PLAN_##id,
	PLAN_ACTIONS(PLAN_ENUM)
#undef PLAN_ENUM
};

struct plan {
	enum plan_action action;
	enum server_role role;
	enum route_reason reason;
	bool proved;
	struct pgerr error; /* REJECT, PROTOCOL; else undefined */
};

/* Wish and transaction that statements of this client are judged by. */
struct route_policy plan_policy(const struct client *c);
/* `full`: the input buffer is full, so that an unfinished segment must go on its way. */
void plan_segment(const struct client *c, const struct segment *seg, bool full, struct plan *plan);
/* Isolation of the client's transaction with defaults in force (C2): 'u' 'c' 'r' 's', or 0 when not known. */
char plan_isolation(const struct client *c);
enum sql_isolation plan_isolation_level(const struct client *c); /* the same; UNSET when not known */

/* The open transaction began on a standby, and may end there between two statements and go on elsewhere. */
bool plan_may_move(const struct client *c);
/* A further part of a segment that began on a standby needs the primary. */
bool plan_part_leaves(const struct client *c, const struct segment *seg);
/* Nothing that it executes does anything: if its server is lost before an answer was seen it may run again. */
bool plan_is_harmless(const struct segment *seg);
/* The open transaction has done nothing that would be lost with its server, and may begin anew between two statements.
 */
bool plan_may_begin_anew(const struct client *c);
/* Something of the transaction's own will be on the server when the segment has run. */
bool plan_makes_state(const struct segment *seg);
/* A query, after which SET TRANSACTION comes too late. */
bool plan_takes_snapshot(const struct segment *seg);

#endif
