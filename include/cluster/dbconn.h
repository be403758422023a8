/* cluster/dbconn.h - one libpq connection driven by a loop; never blocks.
 *
 *   CLOSED -> CONNECTING -> IDLE <-> BUSY        any -> CLOSED (dbconn_close, failure, deadline)
 *
 * One command at a time.  Callbacks come from the loop, never from inside a call; each of them may close or reopen the
 * connection.  A deadline is looked at by whoever owns the connection (dbconn_check_deadline), because the owners have
 * a timer anyway.
 * Owner: whoever embeds it, on the loop's thread only. */
#ifndef CLUSTER_DBCONN_H
#define CLUSTER_DBCONN_H

#include <stdbool.h>
#include <stdint.h>
#include <event2/event_struct.h>
#include <libpq-fe.h>
#include "base/check.h"
#include "cluster/monitor.h"
#include "io/net.h"

struct dbconn;
struct dbconn_ops {
	void (*on_ready)(struct dbconn *c);
	/* The last result of the command, or the first that is an error; borrowed for the call. */
	void (*on_result)(struct dbconn *c, const PGresult *res);
	void (*on_failed)(struct dbconn *c); /* closed by now; c->error and c->sqlstate tell why */
	/* NULL, or: something has come while it was IDLE; PQnotifies() has what it was.  Behind a command on_result()
	 * has to look.  Must not close the connection. */
	void (*on_notify)(struct dbconn *c);
};

enum dbconn_state { DBCONN_CLOSED, DBCONN_CONNECTING, DBCONN_IDLE, DBCONN_BUSY };

struct dbconn {
	struct loop *loop;            /* borrowed */
	const struct dbconn_ops *ops; /* static */
	enum dbconn_state state;
	PGconn *pg;           /* owned or NULL */
	PGresult *result;     /* owned or NULL: what the running command has given so far */
	struct event event;   /* pending while state is not CLOSED */
	int watched;          /* owned: a duplicate of libpq's socket, from IDLE on; -1 before */
	uint64_t deadline_us; /* 0 none */
	bool needs_password;  /* the server wanted a password that we do not have */
	bool timed_out;       /* the last failure was the deadline */
	char error[256];      /* of the last failure, one line */
	char sqlstate[6];     /* of the last failure, "" when the server did not say one */
};

/* Everything is borrowed for the call. */
struct dbconn_settings {
	const char *host;            /* as configured: verify-full compares the certificate with it */
	const struct net_addr *addr; /* where to go; NULL only for a socket directory in host */
	int port;
	struct monitor_login login;
	struct monitor_tls tls;
	const char *options; /* for libpq's "options" */
};

void dbconn_init(struct dbconn *c, struct loop *loop, const struct dbconn_ops *ops);
/* False: closed, c->error tells. */
bool dbconn_open(struct dbconn *c, const struct dbconn_settings *settings, uint64_t deadline_us) MUSTCHECK;
void dbconn_close(struct dbconn *c); /* idempotent; calls nobody back */
/* IDLE only.  A failure to send is reported through on_failed() like any other. */
void dbconn_query(struct dbconn *c, const char *sql, uint64_t deadline_us);
/* One statement with one parameter $1, of a type that the server infers. */
void dbconn_query_with(struct dbconn *c, const char *sql, const char *value, uint64_t deadline_us);
void dbconn_execute(struct dbconn *c, const char *prepared, uint64_t deadline_us);
/* Fails the connection if its deadline has passed; on_failed() runs inside this one call.  True if so. */
bool dbconn_check_deadline(struct dbconn *c, uint64_t now_us);
/* Of the last failure: the server is there and speaks, it only does not let us in. */
bool dbconn_was_refused(const struct dbconn *c);
/* Of a live connection: the reported in_hot_standby; false when it is off or not known. */
bool dbconn_in_hot_standby(const struct dbconn *c);
/* One line of a result's or connection's message, for the log. */
void dbconn_one_line(const char *message, char *out, size_t size);

/* Strings of logins and TLS settings, kept. */
struct dbconn_identity {
	struct monitor_login login; /* owned strings */
	struct monitor_tls tls;     /* owned strings */
};
void dbconn_identity_set(struct dbconn_identity *id, const struct monitor_login *login, const struct monitor_tls *tls);
void dbconn_identity_free(struct dbconn_identity *id);
bool dbconn_identity_equal(const struct dbconn_identity *a, const struct dbconn_identity *b);
/* `own` where it says something, `fallback` for the rest; borrows from both.  A password belongs to its user. */
struct monitor_login monitor_login_merge(const struct monitor_login *own, const struct monitor_login *fallback);

#endif
