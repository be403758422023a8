/* proxy/sqlprep.h - statements under names of SQL: PREPARE, EXECUTE, DEALLOCATE.
 *
 *   client.sqlnames   name -> the PREPARE as it was sent         (a client's session)
 *   server.plain      name -> which PREPARE or Parse made it     (what a backend has under that very name)
 *
 * A segment that mentions a name first brings the backend's to the client's, in front of the client's own messages: a
 * Close when the backend's is somebody else's, then the PREPARE once more, word by word, so that positions of errors
 * and pg_prepared_statements are those of a private connection.  A name that the client has made by Parse is parsed
 * under that name.  What then happens is the server's to say: names change with its CommandComplete, which also tells
 * how far a string or a pipeline came.  PREPARE is not transactional, so neither is this.
 *
 *   mention (found by the scan, owned by the segment) --emit--> effect (owned by the server) --CommandComplete-->
 * tables
 *
 * What cannot be made again (a PREPARE among other statements, or with a literal such as 'now') pins its client.
 * Owner: worker; not thread-safe. */
#ifndef PROXY_SQLPREP_H
#define PROXY_SQLPREP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>
#include "base/check.h"
#include "base/str.h"

struct client;
struct emit;
struct segment;
struct server;
struct stmt_text;
struct worker;

#define MENTIONS(X)                                                                                                    \
	X(USE, "EXECUTE, or Bind, Describe of a name that SQL made")                                                   \
	X(PREPARE, "PREPARE")                                                                                          \
	X(DEALLOCATE, "DEALLOCATE name")                                                                               \
	X(DEALLOCATE_ALL, "DEALLOCATE ALL, DISCARD ALL")                                                               \
	X(CLOSE, "Close of a name that SQL made")
enum mention_kind {
#define MENTION_ENUM(id, doc) MENTION_##id,
	MENTIONS(MENTION_ENUM)
#undef MENTION_ENUM
};

struct mention {
	STAILQ_ENTRY(mention) link;
	enum mention_kind kind;
	struct stmt_text *text;  /* PREPARE: owned reference, or NULL: it cannot be made again */
	struct stmt_text *inner; /* PREPARE: owned reference or NULL with text: what it prepares */
	uint64_t made_for;       /* PREPARE: settings that count (D1) */
	uint32_t used_in;        /* effect: number of its segment */
	uint32_t name_len;
	char name[];
};
STAILQ_HEAD(mention_queue, mention);

struct sqlname {
	UT_hash_handle hh;       /* in client.sqlnames */
	struct stmt_text *text;  /* owned reference, or NULL: only the backend of its client has it */
	struct stmt_text *inner; /* owned reference or NULL with text */
	uint64_t made_for;
	uint32_t name_len;
	char name[];
};

struct plain_stmt {
	UT_hash_handle hh; /* in plain_stmts.by_name */
	TAILQ_ENTRY(plain_stmt) lru;
	struct stmt_text *text; /* owned reference, or NULL: something, or nothing; a Close makes it nothing */
	bool from_sql;          /* text is a PREPARE, not what was parsed */
	bool tentative;         /* made or closed by the running segment, and not answered yet */
	uint64_t made_for;
	uint32_t used_in; /* segment number of the last use */
	uint32_t name_len;
	char name[];
};
TAILQ_HEAD(plain_queue, plain_stmt);

struct plain_stmts {
	struct plain_stmt *by_name; /* owned */
	struct plain_queue lru;     /* least recently used first */
	unsigned n, n_tentative;
	struct mention_queue effects; /* owned: of the running segment, in order */
	bool unknown;                 /* its client has made something there whose name we do not know */
};

/* --- the scan --- */
struct sqlname *sqlprep_find(const struct client *c, struct str name);
/* What EXECUTE of the name would run, by SQL or by Parse; borrowed, NULL when the client has no such name. */
struct stmt_text *sqlprep_meaning(const struct client *c, struct str name);
/* The segment does something with the name. False: no memory. */
bool sqlprep_mention(struct segment *seg, enum mention_kind kind, struct str name) MUSTCHECK;
/* The same for PREPARE; sql is the whole text, or empty when it cannot be sent again. */
bool sqlprep_mention_prepare(struct client *c, struct segment *seg, struct str name, struct str sql) MUSTCHECK;
void sqlprep_drop_mentions(struct worker *w, struct segment *seg);

/* --- on the way to the server --- */
/* Brings the names that the segment mentions to what they are for the client.  True: something is prepared, which
 * takes a snapshot. */
bool sqlprep_put_names(struct emit *e, const struct segment *seg);
bool sqlprep_put_name(struct emit *e, struct str name); /* one name; the same */
/* PREPARE has made the name for the client, and the backend has it not, or another one. */
bool sqlprep_lacks_name(const struct client *c, const struct server *s, struct str name);
/* In a failed transaction: a Bind of such a name is answered by its number of values being wrong.  False: it is right,
 * or cannot be told. */
bool sqlprep_put_stand_in(struct emit *e, struct str name, unsigned n_values);
/* What the segment will have done once the server says so; takes the mentions. */
void sqlprep_expect(struct emit *e, struct segment *seg);
/* A Parse of the client's is about to be put under its own name. */
void sqlprep_expect_parse(struct emit *e, struct str name, struct stmt_text *text);

/* --- what the server says --- */
void sqlprep_on_complete(struct server *s, struct str tag);
void sqlprep_on_closed(struct server *s);
void sqlprep_on_error(struct server *s); /* what was under way has perhaps not happened */
void sqlprep_on_ready(struct server *s);
/* The error says that a name is missing which the client has: somebody's code has dropped it. */
bool sqlprep_is_missing(const struct server *s, struct str message);

/* --- ends --- */
void sqlprep_init_server(struct server *s);
void sqlprep_doubt(struct server *s); /* any of its names may be gone */
void sqlprep_doubt_name(struct server *s, struct str name);
void sqlprep_note_left(struct server *s); /* a reset query ran behind its client: the same */
void sqlprep_clear_server(struct server *s);
void sqlprep_clear_client(struct client *c);
void sqlprep_close(struct client *c, struct str name); /* Close of a name, answered here */

#endif
