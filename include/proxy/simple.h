/* proxy/simple.h - simple queries that repeat, run as shared prepared statements (simple_query_cache; off by default).
 *
 *   Query "SELECT note FROM t WHERE i = 5"  ->  Bind pgweir_<id> ('5')  Describe  Execute  Sync
 *                                                 of "SELECT note FROM t WHERE i = $1", $1 int4
 *
 * The answer without its BindComplete is, byte by byte, that of the Query.  Only for reads that are proved, outside of
 * a transaction, whose every literal stands where a parameter means the same (sql/binds.h), and by the rules of the
 * unnamed cache (unnamed.h), whose settings, times and rests apply here too:
 *
 *   types    RowDescription is compared with that of true Queries whenever the statement is parsed, before anything of
 *            the answer is shown; if it differs, the Query is run as it came;
 *   errors   point into the text of the query, so that whatever is refused while nothing of the answer was shown is run
 *            again as it came, and its error is the client's;
 *   opt-out  per shape: what is refused, told otherwise, or slower than true Queries rests, or is left alone for good.
 *
 * What is known of a shape hangs on it (shape_extra).  Owner: worker. */
#ifndef PROXY_SIMPLE_H
#define PROXY_SIMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "proxy/emit.h"

struct request;
struct unnamed_use;

/* A segment of one Query, with nothing of ours in front of it.  False: it is to be sent as any other. */
bool simple_try(struct client *c, struct server *s, const struct segment *seg, const uint8_t *p,
                enum emit_result *result);
/* A RowDescription has come as the answer of r (REQF_TELLS).  False: the Query must be run as it came. */
bool simple_told(struct client *c, const struct request *r, const uint8_t *body, size_t have, size_t len);
/* The server has refused message r of such a query, and the Query is run as it came. */
void simple_refused(struct client *c, const struct request *r);
/* Of the running segment's shape; NULL: it has gone. */
struct unnamed_use *simple_use(const struct client *c);

#endif
