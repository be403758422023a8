/* proxy/pstmt.h - prepared statements: what clients call them, what they say, and which backends have them.
 *
 *   client's name ("P0_1") -> struct stmt_text (text and parameter types, one per worker) -> "pgweir_<id>" on backends
 *
 * A text is shared by all clients of a worker and lives on each backend at most once.  A backend's table is bounded
 * (max_prepared_statements) and loses its least recently used entry by a Close in the same write as the Parse that
 * needs the room.  Nothing here sends: the relay asks, writes messages and reports what came of them.
 *
 * A Parse or a Close takes effect only when the server has answered it; until then it is pending, because an error
 * earlier in the pipeline makes the server skip it (protocol section 55.2.3).  Owner: worker; not thread-safe. */
#ifndef PROXY_PSTMT_H
#define PROXY_PSTMT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>
#include <xxhash.h>
#include "base/str.h"
#include "proxy/unnamed.h"
#include "sql/lexer.h"

struct sql_shape;

/* Names of this prefix on a backend are ours; a client's own name never reaches a backend unless it is unknown here. */
#define PSTMT_PREFIX "pgweir_"
enum { PSTMT_NAME_MAX = 24 };

struct stmt_text {
	UT_hash_handle hh; /* in stmt_texts.by_key */
	XXH128_hash_t key;
	TAILQ_ENTRY(stmt_text) link; /* on stmt_texts.unused while refs is 0 */
	unsigned refs;
	uint32_t id; /* unique in the process; names the statement on backends */
	uint32_t body_len;
	uint32_t sql_len; /* of the text in body, without its NUL */
	uint8_t server_name_len;
	char server_name[PSTMT_NAME_MAX]; /* pgweir_<id>, with a NUL */
	struct sql_shape *shape;          /* owned reference, or NULL until the relay has classified the text */
	struct sql_hint hint;             /* borrows body */
	struct unnamed_use unnamed;
	uint8_t body[]; /* of a Parse message, behind the name: text, NUL, int16 count, count OIDs */
};
TAILQ_HEAD(stmt_text_queue, stmt_text);

struct stmt_texts {
	struct stmt_text *by_key;
	struct stmt_text_queue unused; /* kept for the next client that says the same; oldest first */
	size_t unused_bytes, max_unused_bytes;
	uint32_t
	    epoch; /* raised when a plan turns out to be of an older schema: what is prepared of before is suspect */
	uint32_t checks; /* counts segments in which columns were asked for (columns.h) */
	unsigned n_unused;
	void (*shape_unref)(struct sql_shape *);
};

void stmt_texts_init(struct stmt_texts *t, size_t max_unused_bytes, void (*shape_unref)(struct sql_shape *));
void stmt_texts_deinit(struct stmt_texts *t);
/* A new reference, or NULL when memory ran out.  `body` is borrowed. */
struct stmt_text *stmt_texts_intern(struct stmt_texts *t, const uint8_t *body, size_t n) MUSTCHECK;
struct stmt_text *stmt_text_ref(struct stmt_text *s);
void stmt_text_unref(struct stmt_texts *t, struct stmt_text *s); /* NULL is fine */
struct str stmt_text_sql(const struct stmt_text *s);             /* borrowed; NUL-terminated behind */
static inline struct str stmt_text_server_name(const struct stmt_text *s)
{
	return (struct str){ s->server_name, s->server_name_len };
}

void stmt_text_make_name(struct stmt_text *s); /* from its id */

/* --- a client's names --- */
#define CSTMT_STATES(X)                                                                                                \
	X(CONFIRMED, "the server has said ParseComplete")                                                              \
	X(PARSING, "Parse is on its way")                                                                              \
	X(CLOSING, "Close is on its way")
enum cstmt_state {
#define CSTMT_ENUM(id, doc) CSTMT_##id,
	CSTMT_STATES(CSTMT_ENUM)
#undef CSTMT_ENUM
};

struct cstmt {
	UT_hash_handle hh;      /* in client_stmts.by_name; only the newest of a name */
	struct cstmt *older;    /* of the same name, CLOSING; owned */
	struct stmt_text *text; /* owned reference */
	enum cstmt_state state;
	bool failed;   /* CLOSING, and its Parse has failed: the Close behind it settles it */
	uint64_t told; /* columns.h */
	uint32_t name_len;
	char name[];
};

struct client_stmts {
	struct cstmt *by_name;     /* owned */
	struct cstmt *last;        /* borrowed from it: the newest of the name asked for last, or NULL */
	struct stmt_text *unnamed; /* owned reference or NULL: as the server has confirmed it */
	struct stmt_text
	    *sent;             /* owned reference or NULL: after all that the running segment has emitted so far, ... */
	bool has_sent;         /* ... if it has emitted a Parse or Close of it, or a Query */
	uint64_t unnamed_told; /* columns.h */
	bool keeps_unnamed;    /* has bound it in another segment than its Parse */
	bool large; /* it is one whose text is not kept: only the backend that the client is pinned to has it */
};

void client_stmts_deinit(struct client_stmts *c, struct stmt_texts *t);
/* What the name means for a message sent now; NULL when it means nothing. */
struct cstmt *client_stmts_find(const struct client_stmts *c, struct str name);
struct cstmt *client_stmts_recall(struct client_stmts *c, struct str name); /* the same, quick when it was asked last */
/* Takes its own reference on text. NULL when memory ran out. */
struct cstmt *client_stmts_parse(struct client_stmts *c, struct str name, struct stmt_text *text) MUSTCHECK;
void client_stmts_parse_done(struct client_stmts *c, struct stmt_texts *t, struct cstmt *s, bool ok);
void client_stmts_close(struct cstmt *s);
void client_stmts_remove(struct client_stmts *c, struct stmt_texts *t, struct cstmt *s); /* DEALLOCATE of its name */
void client_stmts_drop_confirmed(struct client_stmts *c, struct stmt_texts *t);          /* DEALLOCATE ALL */
void client_stmts_close_done(struct client_stmts *c, struct stmt_texts *t, struct cstmt *s, bool ok);
void client_stmts_set_sent(struct client_stmts *c, struct stmt_texts *t, struct stmt_text *text);
void client_stmts_clear_sent(struct client_stmts *c, struct stmt_texts *t);
void client_stmts_set_unnamed(struct client_stmts *c, struct stmt_texts *t, struct stmt_text *text); /* takes a ref */

/* --- a backend's statements --- */
struct sstmt {
	TAILQ_ENTRY(sstmt) lru;
	struct stmt_text *text; /* owned reference; the key */
	bool again;             /* was found since it last came to the queue's end */
	bool present;           /* false: a skipped or failed Parse, the server may or may not have the name */
	bool closing;           /* evicted, its Close is on its way, and nobody has taken it up again */
	uint32_t epoch;         /* stmt_texts.epoch at its Parse */
	uint64_t made_for;      /* settings that it was parsed under (D1): params.hash, 0 when it does not matter */
	uint32_t used_in;       /* segment number of the last use, so that eviction spares the running segment */
	uint32_t checked_in;    /* client_segment.check_no in which it was made to see its columns (columns.h) */
	uint64_t columns;       /* columns.h; 0: unknown */
	uint64_t
	    facts_id; /* the rest is the unnamed cache's (unnamed.h): facts at a Parse for it; 0: of another one, */
	uint64_t parsed_us; /* time of that Parse, */
	uint32_t runs;      /* executions since then */
};
TAILQ_HEAD(sstmt_queue, sstmt);

struct server_stmts {
	struct sstmt **by_text; /* owned; n_places of them, a power of 2; by text->id, open addressing */
	unsigned n_places;
	struct sstmt_queue lru; /* with `again`: those at its head are used least (a clock, or second chance) */
	unsigned n;
	uint64_t unnamed_for;      /* as sstmt.made_for */
	struct stmt_text *unnamed; /* what the backend's unnamed statement says; owned reference or NULL (unknown) */
	uint64_t unnamed_columns;  /* columns.h; 0: unknown */
	uint32_t unnamed_no;       /* of its Parse: they count up */
	uint32_t unnamed_checked;  /* as sstmt.checked_in */
};

void server_stmts_init(struct server_stmts *s);
void server_stmts_clear(struct server_stmts *s, struct stmt_texts *t); /* DISCARD ALL, or the backend is gone */
struct sstmt *server_stmts_find(struct server_stmts *s, const struct stmt_text *text,
                                uint32_t segment); /* touches it */
struct sstmt *server_stmts_add(struct server_stmts *s, struct stmt_text *text, uint32_t segment) MUSTCHECK;
/* The entry to close before one more may be added, or NULL when there is room or all are in use. */
struct sstmt *server_stmts_victim(struct server_stmts *s, unsigned max, uint32_t segment);
void server_stmts_doubt(struct server_stmts *s); /* any of them may be gone: each is closed before it is made again */
void server_stmts_remove(struct server_stmts *s, struct stmt_texts *t, struct sstmt *e);
void server_stmts_set_unnamed(struct server_stmts *s, struct stmt_texts *t, struct stmt_text *text); /* takes a ref */

#endif
