/* proxy/client.h - one client connection.
 *
 * Life:
 *
 *   STARTUP -> [TLS] -> [AUTH] -> [WELCOME] -> IDLE -> WAIT_FRESH | WAIT_PRIMARY | WAIT_QUIET | WAIT_SERVER -> ACTIVE
 * -> IDLE STARTUP -> CANCEL       IDLE <-> LOCAL (console)      WAIT_SERVER -> RAW (replication)      any -> CLOSING ->
 * reaped
 *
 * Who is where: every client stands on worker->clients. WAIT_FRESH: also on worker->fresh_wait; WAIT_PRIMARY,
 * WAIT_QUIET: on worker->role_wait; WAIT_SERVER: on pool->waiters.  WAIT_OUTCOME, WAIT_LISTEN: on none.  ACTIVE: a
 * segment is with c->srv.  IDLE with c->srv: inside a transaction, between segments.
 *
 * Input:   c->in   | emitted: sent, kept for a repetition | not yet looked at |
 *                  head                                                       tail
 * The buffer exists only while it has bytes; an idle client owns none.
 *
 * Owner: its worker.  Freed by the loop's reaper only.  One that is idle for long is not on worker->clients, but a
 * struct dormant (dormant.h). */
#ifndef PROXY_CLIENT_H
#define PROXY_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include "base/buf.h"
#include "base/log.h"
#include "conf/config.h"
#include "io/loop.h"
#include "io/net.h"
#include "io/stream.h"
#include "proxy/pstmt.h"
#include "sql/route.h"
#include "sql/sqlparse.h"
#include "wire/pgerr.h"

struct application;
struct dbfacts;
struct dbuser;
struct listens;
struct lostcommit;
struct params;
struct pool;
struct replay;
struct routing_scope;
struct segment_waiting;
struct server;
struct sql_shape;
struct sqlname;
struct worker;

#define CLIENT_STATES(X)                                                                                               \
	X(STARTUP, "no StartupMessage yet")                                                                            \
	X(TLS, "TLS handshake")                                                                                        \
	X(AUTH, "authentication exchange")                                                                             \
	X(WELCOME, "logged in; waits for a server's ParameterStatus")                                                  \
	X(IDLE, "no request")                                                                                          \
	X(WAIT_FRESH, "a read waits for a standby to catch up")                                                        \
	X(WAIT_PRIMARY, "waits for a primary to appear")                                                               \
	X(WAIT_QUIET, "waits until no load of facts is in its statement's way")                                        \
	X(WAIT_SERVER, "waits in a pool's queue")                                                                      \
	X(WAIT_OUTCOME, "the answer to its COMMIT was lost; another server is asked for it")                           \
	X(WAIT_LISTEN, "its LISTEN, or its ReadyForQuery, waits for the shared listening connection")                  \
	X(ACTIVE, "a segment is with a server")                                                                        \
	X(LOCAL, "talks to the console")                                                                               \
	X(RAW, "replication: bytes pass through")                                                                      \
	X(CANCEL, "carries a CancelRequest")                                                                           \
	X(CLOSING, "closed; memory is reaped at the end of the turn")
enum client_state {
#define CLIENT_STATE_ENUM(id, doc) CLIENT_##id,
	CLIENT_STATES(CLIENT_STATE_ENUM)
#undef CLIENT_STATE_ENUM
	    CLIENT_STATE_COUNT
};

/* A client's transaction as the client sees it. */
#define CLIENT_TX_STATES(X)                                                                                            \
	X(NONE, "outside a transaction")                                                                               \
	X(DEFERRED, "BEGIN was answered here and not sent yet")                                                        \
	X(OPEN, "open on c->srv")                                                                                      \
	X(FAILED, "failed on c->srv")                                                                                  \
	X(LOST, "failed, and its server is gone: 25P02 until the client ends it")
enum client_tx {
#define CLIENT_TX_ENUM(id, doc) CTX_##id,
	CLIENT_TX_STATES(CLIENT_TX_ENUM)
#undef CLIENT_TX_ENUM
};

enum server_role { ROLE_PRIMARY, ROLE_REPLICA };
/* What WAIT_FRESH waits for. */
enum client_awaits {
	AWAIT_FRESH,  /* a standby that is fresh as of a round later than need_round */
	AWAIT_SHOWN,  /* B1: a primary that shows what the transaction has read on a standby */
	AWAIT_SAMPLE, /* a sample of the primary later than need_round: for a causal token */
};
enum copy_state { COPY_NONE, COPY_IN, COPY_BOTH };

/* What the running segment is about; reset at its end. */
struct client_segment {
	enum server_role role; /* where it goes */
	enum route_reason reason;
	bool proved;           /* classified by proof, not by wish (A8) */
	int consistency;       /* enum consistency of a hint, or -1 */
	bool open;             /* no Sync yet: the rest belongs to the same server */
	bool awaits_copy;      /* COPY FROM STDIN is on its way: CopyData waits until the server reads it */
	bool kept;             /* its bytes are all in c->in, so that it can be run again */
	bool retried;          /* has been run again: once is enough, but for losses (moving_survives_loss()) */
	uint64_t retried_us;   /* since when; 0: it has not */
	bool shown_rows;       /* part of an executed statement's answer has reached the client */
	bool large;            /* has a message that streams through */
	bool wants_own;        /* needs a backend that was logged in with the client's own start-up values (E7) */
	bool doubted;          /* runs code that may not be what the facts say */
	bool welcome;          /* no request: the client waits for its greeting */
	bool after;            /* its answer is out; a question of ours is with the server (afterstep.h) */
	bool after_failed;     /* that question has failed once */
	bool after_torn;       /* a row of its answer could not be read */
	bool makes_state;      /* leaves a cursor, savepoint, portal or setting in its transaction */
	bool shows_time;       /* of the transaction (C1) */
	bool harmless;         /* proved reads only, or the end of its transaction: may run twice */
	bool asks_xid;         /* a COMMIT with the question for the transaction's id in front (lostcommit.h) */
	bool unseen;           /* its server is known to have ended before it looked at it */
	bool ends;             /* COMMIT: repeated only if it was unseen (replay.h) */
	bool recorded;         /* its answer is hashed (replay.h) ... */
	bool kept_for_replay;  /* ... and it is kept when it is done */
	bool repeats;          /* a kept one that is run again: its answer is for nobody */
	bool done_rows;        /* as shown_rows, counting what is held back */
	uint8_t unnamed;       /* enum unnamed_way */
	bool simple;           /* which is meant of a Query (simple.h) */
	uint16_t done_msgs;    /* as shown_msgs, counting what is held back */
	uint16_t shown_msgs;   /* messages whose replies have reached the client */
	uint16_t settled_msgs; /* retried: so many were answered before, shown or not: their Parse has happened */
	uint16_t next_msg;     /* index for the next message emitted */
	uint32_t check_no;     /* columns.h: stmt_texts.checks, or 0: nothing was asked */
	size_t checking;      /* columns.h: bytes of the segment, all of which wait for an answer about columns; or 0 */
	uint32_t flags, pins; /* of what is executed */
	uint64_t started_us, sent_us;
	uint64_t rows, sent_before; /* of its answer; client.sent_bytes when it began */
	struct sql_shape *shape;    /* owned reference or NULL: to correct its class after a refusal */
};

/* What is to be known of an open transaction in order to move it; all false outside of one. */
struct client_tx_facts {
	bool on_standby; /* it began on a standby (which may have been promoted since: C8) */
	bool ran;        /* a statement of it has run on a standby, so SET TRANSACTION comes too late (C2) */
	bool touched;    /* it has done more than proved reads that leave nothing behind, on whichever server */
	bool has_state;  /* declared READ ONLY: it has a cursor, savepoint or setting of its own there */
	bool shows_time; /* declared READ ONLY: it has shown the time at which it began there (C1) */
};

struct client {
	struct stream stream;
	struct loop_grave grave;
	struct worker *worker;
	struct dbuser *du;        /* borrowed from the worker; NULL before login */
	struct server *srv;       /* where the running segment or transaction is; set by relay_link/unlink only */
	struct server *kept[2];   /* by role: held beyond transactions (session mode, pinned) */
	TAILQ_ENTRY(client) link; /* worker->clients */
	TAILQ_ENTRY(client) wait; /* the one waiting list that the state names */
	struct pool *pool;        /* WAIT_SERVER: whose queue */
	uint32_t turn;            /* WAIT_SERVER: pool.n_left when it is first, if nobody overtakes it */
	enum client_state state;
	enum client_tx tx;
	enum copy_state copy;
	unsigned id;
	uint32_t segment_no;
	struct buf in;
	size_t emitted;
	struct client_segment seg;
	struct segment_waiting *waiting; /* owned; the scan of the segment that waits for a server, or NULL */
	uint64_t raw_left;               /* bytes of a large message of the client still to stream */
	bool raw_drop;                   /* these bytes go nowhere */
	bool fail_next;                  /* LOST while idle: *failure is due as the answer to the next statement */
	bool skip_to_sync;               /* an error was answered here in mid-segment */
	bool busy;                       /* client_process() is on the stack */
	bool look_again;                 /* it was called again meanwhile */
	bool wait_notified;              /* WAIT_SERVER: has been told of it */
	bool counted;                    /* in its database's and its user's limits */
	bool quiet_end;                  /* close once what is pending has been sent */
	bool shares_unnamed;             /* unnamed_statement_cache as it holds for this client */
	bool custom_unnamed;             /* unnamed_plan=custom does */
	bool shares_simple;              /* simple_query_cache does */
	bool nameless;                   /* its start-up packet had no application_name */
	bool shows_start;                /* has looked at where settings come from: wants_own from then on */
	uint32_t pins;                   /* reasons by bit, sql/facts */
	uint32_t tx_flags;               /* facts' flags of the transaction so far */
	bool made_code;                  /* it has changed code of which the facts may not know yet */
	bool tx_sequences;               /* its transaction may have moved a sequence, or asked for one (E3) */
	uint32_t pins_asked, pins_found; /* the probe behind a transaction (pins.h) */
	uint64_t pinned_us;              /* since when it has pins */
	uint32_t after_wants;            /* AFTER_*: what is to be asked once the transaction is over */
	struct sql_begin begin;          /* what BEGIN asked for */
	struct client_tx_facts txf;
	struct dbfacts *quiet;             /* clearing.h: borrowed, for ever; NULL: nothing is in the way */
	uint64_t quiet_us, quiet_until_us; /* for how long, and when it has waited long enough */
	uint64_t arrived_round;            /* strong: the round at which the running request arrived */
	uint64_t pos;                      /* B2: round of this client's last answer from the primary */
	uint64_t read_round;               /* round of its last answer from standby read_host */
	struct host *read_host;
	struct application *measured_as; /* borrowed from the worker; proxy/measure.h */
	uint64_t log_min_us;             /* log_min_duration as it holds for this client */
	uint64_t sent_bytes;             /* to the client */
	enum client_awaits awaits;       /* WAIT_FRESH: what; since when it does, after a first look */
	uint64_t need_round;             /* WAIT_FRESH: the round that must be passed */
	bool has_token;                  /* a causal token was given: its positions hold at level `eventual` too */
	uint64_t wait_since_us, connected_us, request_us, xact_us, fresh_deadline_us, primary_deadline_us;
	struct client_stmts stmts;
	struct sqlname *sqlnames; /* owned: what PREPARE has named (sqlprep.h) */
	struct params *profile;   /* owned reference: settings that a backend must have for it */
	struct params *startup;   /* owned reference: the start-up packet's, but for application_name */
	struct params *home;      /* owned reference: startup and application_name: what RESET goes back to */
	struct params *base;    /* owned reference: the profile that goes with home: what its own backend starts with */
	struct params *session; /* owned reference: profile, with the client's own application_name */
	struct params *custom;  /* owned reference: names with a point that exist in its session (E1) */
	struct params *maybe_custom; /* owned reference or NULL: such names that its transaction may have made */
	uint32_t facts_no;           /* E7: dbfacts_login_no() at its login */
	uint64_t parse_key;          /* D1: of the settings by which a statement is read when it is parsed */
	uint64_t odd_key;            /* the same in a transaction that has changed settings; 0: it has not */
	struct params *asked;        /* owned reference or NULL: what a backend has told so far (tracking.c) */
	struct sqlparse_options sql_options; /* how its text is to be read; follows view */
	struct params *view;                 /* owned reference: ParameterStatus as it has been told */
	uint32_t pid;                        /* virtual; above PostgreSQL's own (4194304) */
	uint8_t key[32];
	uint8_t key_len;
	struct conf_routing session_routing; /* what SET pgweir.* and the start-up packet say */
	struct conf_routing tx_routing;      /* what SET LOCAL pgweir.* says in the open transaction */
	struct routing_scope *scopes;        /* owned: what the open transaction's SET pgweir.* may have to take back */
	struct conf_routing routing;         /* effective for the session; everything set */
	const struct conf_application *conf_app; /* borrowed from du->config; may be NULL */
	struct lostcommit *lost;                 /* owned or NULL (lostcommit.h) */
	struct replay *replay;                   /* owned or NULL (replay.h) */
	struct listens *listens;                 /* owned or NULL (listens.h) */
	struct client_login *login;              /* owned; only until logged in */
	struct local_session *local;             /* owned by the console's handler */
	struct pgerr *failure;                   /* owned: of our own step, for what the client is told; NULL mostly */
	char *application;                       /* owned; the client's own application_name */
	struct net_addr *peer;                   /* borrowed from its own memory (dormant.h) */
};

const char *client_state_name(enum client_state state);
void client_set_state(struct client *c, enum client_state state);
/* Session mode, and a server is its own until it leaves: what it has there would be lost with it. */
bool client_has_session_server(const struct client *c);
struct client *client_accept(struct worker *w, int fd, const struct net_addr *peer, bool is_unix);

/* Its stream was another owner's meanwhile (dormant.h). */
void client_take_stream(struct client *c, struct stream *from);

/* Works through what is in c->in as far as it can now. Safe to call in any state. */
void client_process(struct client *c);
/* Idempotent, legal anywhere. The error (may be NULL) is sent first as far as the socket takes it. */
void client_close(struct client *c, const struct pgerr *err, const char *why);
/* The running segment fails with this error; the session lives on. */
void client_fail_segment(struct client *c, const struct pgerr *err);
/* Sends bytes to the client; false: the client is gone. */
bool client_send(struct client *c, const void *p, size_t n) MUSTCHECK;
struct log_subject client_subject(const struct client *c);
/* Logged in and welcomed: tells the client so and starts to read its requests. */
void client_welcome(struct client *c, struct params *status);
void client_tick(struct client *c, uint64_t now_us);
/* Tells by a notice that it is waiting for a server connection; once per wait. */
void client_notify_waiting(struct client *c);

#endif
