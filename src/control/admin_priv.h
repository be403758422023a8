/* control/admin_priv.h - shared by admin.c (session and protocol), commands.c (what can be said) and explain_route.c.
 *
 *   text --command_parse--> struct command_call --command_run--> struct job ... job_finish --> admin.c answers
 *
 * A job lives until its answer is complete, even when its client has gone meanwhile (job->session is NULL then): what
 * it has asked of other threads will come back. */
#ifndef CONTROL_ADMIN_PRIV_H
#define CONTROL_ADMIN_PRIV_H

#include <stdbool.h>
#include "base/str.h"
#include "control/ask.h"
#include "control/db_order.h"
#include "control/show.h"
#include "io/loop.h"
#include "wire/pgerr.h"

struct client;
struct command;
struct job;
struct local_session;
struct worker;

enum admin_role { ADMIN_ROLE_STATS, ADMIN_ROLE_ADMIN };

enum { COMMAND_NAME_SIZE = 128, COMMAND_TEXT_MAX = 16 * 1024 };

/* A command with its arguments. */
struct command_call {
	const struct command *command; /* NULL: an empty text */
	const struct show_table *table;
	char name[COMMAND_NAME_SIZE]; /* database, setting */
	bool has_name;
	char user[COMMAND_NAME_SIZE]; /* EXPLAIN ROUTE ... AS user; "" none */
	char *value;                  /* owned or NULL: of SET, or the SQL of EXPLAIN ROUTE */
	int64_t number;
	struct show_column own_column;     /* SHOW setting: its one column, named as the setting */
	const struct show_column *columns; /* of the answer; NULL: none */
	unsigned n_columns;
};

/* False: *err says what is wrong.  A call from here must be freed, also an empty one. */
bool command_parse(struct str text, struct command_call *call, struct pgerr *err) MUSTCHECK;
void command_call_free(struct command_call *call);

struct job {
	struct local_session *session; /* NULL: gone */
	struct worker *worker;         /* whose thread all of this runs on */
	struct command_call call;      /* owned */
	bool failed;
	struct pgerr err;                   /* failed: what is said */
	const char *tag;                    /* of CommandComplete */
	const char *notice, *notice_detail; /* owned by nobody: static or NULL */
	struct show_query query;            /* its rows are the answer's */
	/* What it is waiting for. */
	struct ask ask;
	struct db_order order;
	struct loop_timer timer;
	uint64_t deadline_us;
	bool asked; /* a question is under way: the job may not be freed */
};

/* Starts the command: checks the role, then job_finish(), now or later. */
void command_run(struct job *job, enum admin_role role);
/* Its client has gone: ends the job now, or when its question comes back. */
void job_abandon(struct job *job);
/* admin.c: the answer is complete (or the job is abandoned). Frees it. */
void job_finish(struct job *job);
void job_fail(struct job *job, enum sqlstate id, const char *fmt, ...) PRINTF_LIKE(3, 4); /* and finishes */

const char *command_help(void); /* text of SHOW HELP; made at first use */
void command_help_free(void);

/* explain_route.c */
extern const struct show_column explain_route_columns[];
extern const unsigned explain_route_n_columns;
void explain_route(struct job *job);

/* admin.c */
const char *session_user(const struct local_session *s);
struct client *session_client(const struct local_session *s);

#endif
