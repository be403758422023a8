/* proxy/emit.h - puts a segment on its way to a server: our prelude, then the client's messages with names mapped.
 *
 * All of it leaves in one write.  The prelude consists of Bind/Execute of prepared statements of ours, in the client's
 * own segment without a Sync between (A1), through named statements and named portals only (A2).  Each message that
 * will be answered gets an entry in the server's request queue. */
#ifndef PROXY_EMIT_H
#define PROXY_EMIT_H

#include <stdbool.h>
#include "proxy/client.h"
#include "proxy/segment.h"
#include "proxy/server.h"

enum emit_result {
	EMIT_SENT,
	EMIT_CHECKS, /* only what stands before the client's messages; emit_checked() is due when it is answered */
	EMIT_BROKEN, /* the server's connection failed: it was closed, and the client has been told or retried */
};

/* The prelude and a Sync, nothing of the client. */
enum emit_result emit_prelude_only(struct client *c, struct server *s);
/* Prelude (if any) and segment; takes the segment's mentions (sqlprep.h). */
enum emit_result emit_segment(struct client *c, struct server *s, struct segment *seg);
/* The segment whose columns have been asked for: its messages. */
enum emit_result emit_checked(struct client *c, struct server *s, struct segment *seg);
/* A query of ours behind the client's transaction, with its Sync; sql: with its NUL.  Its rows go to afterstep_row().
 */
enum emit_result emit_own_query(struct client *c, struct server *s, struct buf *sql);
/* Makes the open transaction fail, as the client believes that it has; nobody sees the answer. */
enum emit_result emit_failure(struct client *c, struct server *s);
/* A lone Sync of ours: ends a segment whose Query the server skips after a failed prelude (A1). */
enum emit_result emit_sync(struct server *s, bool swallow);

#endif
