/* proxy/afterstep.h - one statement of ours behind the client's transaction, on the server that it still has.
 *
 *   client's ReadyForQuery sent, outside of a transaction -> afterstep_start -> rows -> done -> the server is let go
 *
 * Some statements leave state in the session that only the server can tell (E2).  Whoever needs to know ORs its AFTER_
 * bit into client.after_wants while the transaction runs; when it is over, one query asks for everything that is
 * wanted: each part adds one SELECT with three columns of text (its letter, name, value) and gets its own rows.  The
 * client waits for nothing but with its next request; until then it is ACTIVE with seg.after.
 *
 * When the query fails twice, done() is called with ok false: nothing is known.  When the server is lost meanwhile the
 * client is closed, as its private connection would be.  When the client leaves, the server is made as new. */
#ifndef PROXY_AFTERSTEP_H
#define PROXY_AFTERSTEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/check.h"
#include "base/str.h"

struct client;
struct server;

/* bit, the part's functions */
#define AFTER_PARTS(X) X(SETTINGS, settings_after) X(PINS, pins_after)
enum after_bit {
#define AFTER_BIT_ENUM(id, part) AFTER_BIT_##id,
	AFTER_PARTS(AFTER_BIT_ENUM)
#undef AFTER_BIT_ENUM
	    AFTER_COUNT
};
enum after_want {
#define AFTER_WANT_ENUM(id, part) AFTER_##id = 1u << AFTER_BIT_##id,
	AFTER_PARTS(AFTER_WANT_ENUM)
#undef AFTER_WANT_ENUM
};

struct after_part {
	char letter; /* first column of its rows */
	/* Before the query is made: forget what an earlier try has brought. */
	void (*begin)(struct client *c, struct server *s);
	/* Appends "SELECT 'letter'::text, name, value FROM …", everything qualified, operators too.  False: no memory.
	 */
	bool (*put_select)(struct buf *sql, const struct client *c, const struct server *s);
	void (*row)(struct client *c, struct server *s, struct str name, struct str value); /* value.p NULL: NULL */
	/* All rows have been seen, or (ok false) nothing is known.  May close the client. */
	void (*done)(struct client *c, struct server *s, bool ok);
};

#define AFTER_DECLARE(id, part) extern const struct after_part part;
AFTER_PARTS(AFTER_DECLARE)
#undef AFTER_DECLARE

/* The client's transaction is over and c->srv idle.  False: nothing is wanted, or it cannot be asked. */
bool afterstep_start(struct client *c) MUSTCHECK;
/* A DataRow of ours; have < len: it is not all there. */
void afterstep_row(struct client *c, struct server *s, const uint8_t *body, size_t have, size_t len);
/* Its ReadyForQuery.  True: it is over, and the server can be let go if the client still lives; false: asked again. */
bool afterstep_ready(struct client *c, struct server *s, bool failed) MUSTCHECK;
/* The client leaves before the answer; s NULL: because the server was lost. */
void afterstep_orphan(struct client *c, struct server *s);

#endif
