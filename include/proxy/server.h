/* proxy/server.h - one connection to a PostgreSQL backend.
 *
 * Life:
 *
 *   CONNECTING -> [TLS] -> LOGIN -> IDLE <-> LINKED -> (DRAINING) -> (RESETTING) -> IDLE
 *                                              LINKED -> FENCED -> IDLE          any -> CLOSING -> reaped
 *
 * Who is where: CONNECTING, TLS and LOGIN count in pool->n_connecting; IDLE stands on pool->idle, newest first; LINKED
 * has ->client; DRAINING has lost its client and swallows what is still to come up to ReadyForQuery; RESETTING runs a
 * reset or a rollback of ours; FENCED waits until a cancel request has been delivered (G3).
 *
 * Owner: the worker of its pool. Freed by the loop's reaper only. */
#ifndef PROXY_SERVER_H
#define PROXY_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include "base/buf.h"
#include "io/loop.h"
#include "io/stream.h"
#include "proxy/pstmt.h"
#include "proxy/sqlprep.h"
#include "wire/pgerr.h"

struct client;
struct pool;
struct params;
struct limit;
struct notifier;
struct pool_budget;
struct shared_db;
struct worker;

#define SERVER_STATES(X)                                                                                               \
	X(CONNECTING, "connect() is under way")                                                                        \
	X(TLS, "SSLRequest sent, or the handshake runs")                                                               \
	X(LOGIN, "start-up packet sent, not yet ReadyForQuery")                                                        \
	X(IDLE, "in its pool, free")                                                                                   \
	X(LINKED, "works for a client")                                                                                \
	X(DRAINING, "its client is gone or has moved on; replies are swallowed up to ReadyForQuery")                   \
	X(RESETTING, "runs a rollback or reset of ours")                                                               \
	X(FENCED, "a cancel request for it is still under way; not reusable")                                          \
	X(CLOSING, "closed; memory is reaped at the end of the turn")
enum server_state {
#define SERVER_STATE_ENUM(id, doc) SERVER_##id,
	SERVER_STATES(SERVER_STATE_ENUM)
#undef SERVER_STATE_ENUM
	    SERVER_STATE_COUNT
};

enum reset_kind {
	RESET_NOTHING,
	RESET_ROLLBACK, /* ends a transaction that its client has left */
	RESET_COMMIT,   /* the same for one that has only read: settings made in it stay (C7) */
	RESET_SEED,     /* random() must not go on where a client has set it */
	RESET_FULL,     /* DISCARD ALL: as new, but for what it may have kept prepared */
	RESET_QUERY,    /* another server_reset_query: who knows what is left; a RESET_FULL follows */
};

/* What a server still owes us an answer for, in order (protocol section 55.2.3). */
#define REQUEST_KINDS(X)                                                                                               \
	X(PARSE) X(BIND) X(DESCRIBE_STATEMENT) X(DESCRIBE_PORTAL) X(EXECUTE) X(CLOSE) X(FLUSH) X(SYNC) X(QUERY) X(FCALL)
enum request_kind {
#define REQUEST_KIND_ENUM(id) REQ_##id,
	REQUEST_KINDS(REQUEST_KIND_ENUM)
#undef REQUEST_KIND_ENUM
};

enum {
	REQF_SWALLOW = 1,       /* the reply is not the client's */
	REQF_PRELUDE = 2,       /* one of the statements that we put before the client's (A1) */
	REQF_CLIENT_STMT = 8,   /* u.cstmt changes with the outcome */
	REQF_SERVER_STMT = 16,  /* u2.sstmt changes with the outcome */
	REQF_UNNAMED = 32,      /* the unnamed statement: text is what it becomes */
	REQF_SQLNAME = 4,       /* Close of a name that SQL made (sqlprep.h) */
	REQF_ONE_TAG = 256,     /* of its CommandCompletes only the first is the client's: statements of ours follow */
	REQF_TAG_SEEN = 512,    /* and that has come */
	REQF_SETTLES = 128,     /* our COMMIT: what was pending is the server's profile now (C7) */
	REQF_AFTER = 64,        /* swallowed, and its rows are ours (afterstep.h) */
	REQF_COLUMNS = 1024,    /* Describe whose answer is to be remembered (columns.h) */
	REQF_OF_UNNAMED = 4096, /* with it: of the unnamed statement */
	REQF_OUTDATED = 2048,   /* Bind that is made to fail: the client knows other columns (columns.h) */
	REQF_HERE = 8192,       /* Parse: nothing was sent, ParseComplete is ours to say (unnamed.h) */
	REQF_SHARED = 16384, /* Parse: the client's unnamed statement becomes sstmt->text; Bind: of such a one (D2) */
	REQF_BACK = 1 << 16, /* puts back what was reset (E7) */
	REQF_NOT_READY = 1 << 17, /* its ReadyForQuery is not the client's: that of what puts back is */
	REQF_FAILS = 1 << 18,     /* an error is expected, and the client knows of it already */
	REQF_XID = 1 << 19,       /* its row is the transaction's id (lostcommit.h) */
	REQF_SIMPLE = 1 << 20,    /* of a Query that is run as a prepared statement (simple.h) */
	REQF_TELLS = 1 << 21,     /* its RowDescription is looked at (simple.h) */
};

struct request {
	uint32_t flags;      /* REQF_* */
	uint8_t kind;        /* enum request_kind */
	uint16_t msg;        /* index of the client's message in its segment, for a repetition */
	struct cstmt *cstmt; /* borrowed from the client's table; see REQF_CLIENT_STMT, REQF_COLUMNS; or NULL */
	union {
		struct sstmt *sstmt;    /* borrowed from this server's table */
		struct stmt_text *text; /* borrowed: held by the client's table or the segment */
		uint32_t unnamed_no;    /* REQF_OF_UNNAMED: of server_stmts.unnamed_no */
	};
};

/* A ring that grows to what the longest pipeline needed and is kept. */
struct request_queue {
	struct request *ring; /* owned; cap entries, a power of two */
	uint32_t head, tail, cap;
};
static inline uint32_t requests_len(const struct request_queue *q) { return q->tail - q->head; }
static inline struct request *requests_at(const struct request_queue *q, uint32_t i)
{
	return &q->ring[(q->head + i) & (q->cap - 1)];
}
bool requests_grow(struct request_queue *q); /* twice as large; false: out of memory */
/* Room for n more, a few; false: out of memory. */
static inline bool requests_reserve(struct request_queue *q, uint32_t n)
{
	return LIKELY(q->cap - requests_len(q) >= n) || requests_grow(q);
}
/* The next free entry, to be filled by the caller; only where there is room. */
static inline struct request *requests_next(struct request_queue *q) { return &q->ring[q->tail++ & (q->cap - 1)]; }
/* A new entry, all zero; NULL: out of memory. */
static inline struct request *requests_push(struct request_queue *q)
{
	if (!requests_reserve(q, 1))
		return NULL;
	struct request *r = requests_next(q);
	*r = (struct request){ 0 };
	return r;
}

/* Where the bytes of a message that is larger than what is at hand go. */
enum raw_mode { RAW_NONE, RAW_FORWARD, RAW_DROP };

struct server {
	struct stream stream;
	struct loop_grave grave;
	struct pool *pool;
	struct client *client;    /* the linked client or NULL; set and cleared by relay_link/unlink only */
	TAILQ_ENTRY(server) link; /* on pool->idle, or on pool->others */
	enum server_state state;
	unsigned id;       /* for the log and SHOW SERVERS */
	uint32_t facts_no; /* E7: dbfacts_open_no() as it began */
	uint64_t connected_us, idle_since_us, request_us;
	uint64_t linked_us;   /* since when its client has it */
	uint64_t login_round; /* B3: only samples of a later round say anything of this connection */
	uint32_t backend_pid;
	struct notifier *notifier; /* owned; NULL before BackendKeyData (notifiers.h) */
	uint8_t cancel_key[256];
	uint16_t cancel_key_len;
	char tx;                /* 'I', 'T', 'E' as of the last ReadyForQuery */
	struct params *status;  /* owned reference: ParameterStatus as it stands */
	struct params *profile; /* owned reference: settings that we have made on it; NULL: unknown */
	struct params *base;    /* owned reference: the profile that RESET ALL goes back to */
	struct params *custom;  /* owned reference: names with a point that were ever set on it (E1) */
	struct params *pending; /* owned reference: what profile becomes when the running transaction commits (C7) */
	bool news;              /* status may differ from what the client has been told (E6) */
	bool is_replica;        /* in_hot_standby as last reported (PostgreSQL 14 and newer) */
	bool pinned;            /* counts against max_pinned instead of the pool's size */
	bool surplus;           /* is being closed as one too many: counts in neither any more */
	bool dedicated;         /* for one replication client only: passes bytes, never pooled (G4) */
	uint32_t address_epoch; /* of its host at connect */
	uint32_t conn_epoch;    /* pool->conn_epoch at connect: RECONNECT raises the pool's */
	uint64_t identity;      /* dbuser.identity at connect: a reload may change that */
	/* Where it counts; borrowed, for ever. */
	struct limit *db_servers, *user_servers;
	struct pool_budget *budget;
	struct limit *application; /* counts there while its client has it; NULL: no limit */
	bool checking;             /* server_check_query runs; counts in pool->n_checking */
	char default_isolation;    /* C2: 'u' 'c' 'r' 's', as the server's default for this login */
	bool seeded;               /* setseed() was called: seeded anew before the next client (E4) */
	unsigned sequences_of;     /* id of the client whose currval() it has; 0: nobody's (E3) */
	bool suspect;              /* a statement may have changed session state that we do not track */
	bool dirty;                /* never to be reused: closed when its client leaves it */
	bool doubted;              /* the same, but it may be asked before what its client has set (segment.doubted) */
	bool error_seen;           /* an ErrorResponse since the last ReadyForQuery */
	bool last_error_syntax;    /* that error was 42601: nothing has run */
	bool fatal_shown;          /* a FATAL of the server has gone to the client: the connection ends here too */
	bool ended;                /* it has said FATAL behind ReadyForQuery: for nobody any more */
	bool only_read;            /* its client has left a transaction that has only read (moving.h) */
	bool tx_spoiled;           /* an error or a rollback since pending was set */
	bool nameless;             /* logged in without application_name, as base->application_name's client was */
	bool held_ready;           /* a ReadyForQuery of its client's waits for what was sent behind (REQF_NOT_READY) */
	bool owes_sync;            /* a Sync of ours is due once the large message under way is through (A1) */
	bool copy_sync;      /* a Sync was sent ahead of COPY data; the server may have taken it for one after all */
	bool prelude_failed; /* one of our own statements in front of the client's failed (A1) */
	bool skipping;       /* after an error in a segment that is still open: the server skips up to Sync */
	enum reset_kind resetting;
	bool needs_reset_query; /* was held by a session: server_reset_query before the next client */
	bool expected_close;    /* we close it ourselves: no sign of trouble with the host */
	bool login_error_set;
	struct pgerr login_error; /* what the server said when it refused the login */
	bool close_needed;        /* RECONNECT, reload, too old */
	unsigned cancels;         /* cancel requests under way (G3) */
	struct server_stmts stmts;
	struct plain_stmts plain; /* what it has under clients' own names */
	struct request_queue reqs;
	uint32_t portal_seq; /* names our portals pgweir_p<n> apart within a transaction (A2) */
	struct buf part;     /* the start of a message that must be seen whole */
	struct buf hold;     /* a standby's answer held back until it may be shown (A8, G1) */
	uint64_t raw_left;   /* bytes of a large message still to pass */
	enum raw_mode raw_mode;
	struct server_login *login; /* owned; only during login */
	struct server_move *move;   /* owned; only while it changes worker */
};

const char *server_state_name(enum server_state state);
void server_set_state(struct server *s, enum server_state state);
/* Starts a connection for the pool; a failure is reported through pool_on_server_failed(). */
void server_open(struct pool *p);
/* The same for a replication client, after pool_take_dedicated(): its own start-up parameters, nobody else's ever. */
struct server *server_open_dedicated(struct pool *p, struct client *c);
/* Idempotent, legal anywhere; tells the client, the pool and the monitor. `why` goes to the log. */
void server_close(struct server *s, const char *why);
/* Ends what runs on it, then closes: a cancel request first, because a busy backend does not notice a closed socket. */
void server_abandon(struct server *s, const char *why);
/* Sends one statement of ours by simple protocol to a server without a client; it is RESETTING until ReadyForQuery. */
void server_run_reset(struct server *s, enum reset_kind kind, const char *sql);
/* Its ReadyForQuery has come. */
void server_reset_done(struct server *s);
/* Settings of a transaction that has ended (C7). */
void server_settle_profile(struct server *s);
/* A server without a client goes back to its pool, by way of whatever it needs first: drain, fence, rollback, reset. */
void server_release(struct server *s);
/* Another server, or another state of the configuration, than what it was opened for: not to be handed out again. */
bool server_is_outdated(const struct server *s);
/* Another server: not to be used again, even by the client whose session it keeps (B3). */
bool server_is_misplaced(const struct server *s);
/* Gives the server to another worker's pool of the same budget. */
void server_move_to(struct server *s, struct worker *target);
const char *server_status(const struct server *s, const char *name); /* a ParameterStatus value or NULL */

/* Login (server_login.c). */
void server_login_start(struct server *s);
void server_login_readable(struct server *s);
void server_login_tls_done(struct server *s);
void server_login_free(struct server *s);
/* A ParameterStatus of the server: remembers it. */
void server_note_status(struct server *s, struct str name, struct str value);

#endif
