/* control/commands.c - what can be said on the console: one table of commands, their arguments and what they do.
 *
 * The role that a command needs stands in its row and is looked at in one place, command_run(): PgBouncer looked in
 * each handler, and the one that forgot became CVE-2026-6667.  Words are read by the SQL lexer, so that quotes and
 * comments mean what clients expect; names are taken as typed, since names in the configuration are not folded. */
#include <pthread.h>
#include <string.h>
#include "admin_priv.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/mono.h"
#include "control/lifecycle.h"
#include "proxy/client.h"
#include "proxy/orders.h"
#include "proxy/worker.h"
#include "sql/lexer.h"

enum { ORDER_LOOK_US = 20 * 1000 };

/* What may follow the words of a command. */
enum shape {
	ARG_NONE,
	ARG_ANY,
	ARG_OPT_DB,
	ARG_DB,
	ARG_NUMBER,
	ARG_TABLE,
	ARG_SETTING,
	ARG_OWN_SETTING,
	ARG_OWN_SHOW,
	ARG_SHUTDOWN,
	ARG_ROUTE
};

struct command {
	const char *word, *word2; /* word2 may be NULL */
	enum admin_role role;
	enum shape shape;
	void (*run)(struct job *job);
	const char *tag;
	const char *help; /* "usage - meaning"; NULL: not in SHOW HELP */
};

/* --- settings of a console session: what drivers set and ask when they connect --- */

static const struct own_setting {
	const char *name, *value;
} own_settings[] = {
	{ "application_name", "" },
	{ "bytea_output", "hex" },
	{ "client_encoding", "UTF8" },
	{ "client_min_messages", "notice" },
	{ "datestyle", "ISO, MDY" },
	{ "default_transaction_isolation", "read committed" },
	{ "default_transaction_read_only", "off" },
	{ "extra_float_digits", "1" },
	{ "idle_in_transaction_session_timeout", "0" },
	{ "integer_datetimes", "on" },
	{ "intervalstyle", "postgres" },
	{ "lock_timeout", "0" },
	{ "search_path", "" },
	{ "server_encoding", "UTF8" },
	{ "server_version", "15.0" },
	{ "standard_conforming_strings", "on" },
	{ "statement_timeout", "0" },
	{ "timezone", "UTC" },
	{ "transaction_isolation", "read committed" },
};

/* Case does not matter: DateStyle, datestyle. */
static const struct own_setting *find_own_setting(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(own_settings); i++) {
		if (str_ieq(name, str_of(own_settings[i].name)))
			return &own_settings[i];
	}
	return NULL;
}

/* --- small commands --- */

static void do_tag(struct job *job) { job_finish(job); }

static void do_help(struct job *job)
{
	job->notice = "Console usage";
	job->notice_detail = command_help();
	job_finish(job);
}

static void on_rows(struct show_query *q)
{
	struct job *job = CONTAINER_OF(q, struct job, query);
	job->asked = false;
	job_finish(job);
}

/* Questions are refused once the process stops; the session ends a moment later. */
static void fail_stopping(struct job *job) { job_fail(job, SQLSTATE_ADMIN_SHUTDOWN, "the process is shutting down"); }

static void do_show(struct job *job)
{
	job->query.done = on_rows;
	job->asked = true;
	if (show_start(&job->query, job->call.table, job->worker->loop))
		return;
	job->asked = false;
	fail_stopping(job);
}

/* application_name is the client's own; the others never change. */
static void do_show_own(struct job *job)
{
	const struct own_setting *own = find_own_setting(str_of(job->call.name));
	const struct client *c = session_client(job->session);
	bool is_name = own && strcmp(own->name, "application_name") == 0;
	show_rows_init(&job->query.rows, job->call.columns, 1);
	show_text(&job->query.rows, is_name && c->application ? c->application : own ? own->value : "");
	job_finish(job);
}

/* --- commands for the main thread --- */

static void ask_main_to(struct job *job, void (*work)(struct ask *a), void (*done)(struct ask *a))
{
	job->ask = (struct ask){ .caller = job->worker->loop, .work = work, .done = done };
	job->asked = true;
	if (ask_main(&job->ask))
		return;
	job->asked = false;
	fail_stopping(job);
}

static void on_everywhere(void *arg)
{
	struct job *job = arg;
	job->asked = false;
	job_finish(job);
}

static void on_main_answer(struct ask *a) { on_everywhere(CONTAINER_OF(a, struct job, ask)); }

/* The workers have been sent new settings: answered when the last one has them. */
static void on_new_settings(struct ask *a)
{
	struct job *job = CONTAINER_OF(a, struct job, ask);
	if (!job->failed && ask_workers(job->worker->loop, NULL, on_everywhere, job))
		return;
	on_everywhere(job);
}

static void work_reload(struct ask *a)
{
	struct job *job = CONTAINER_OF(a, struct job, ask);
	job->failed = !lifecycle_reload(&job->err);
	ask_answer(a);
}

static void work_set(struct ask *a)
{
	struct job *job = CONTAINER_OF(a, struct job, ask);
	job->failed = !lifecycle_set(str_of(job->call.name), str_of(job->call.value), &job->notice, &job->err);
	ask_answer(a);
}

/* Answered first, so that whoever said it hears of it before being sent away. */
static void work_shutdown(struct ask *a)
{
	struct job *job = CONTAINER_OF(a, struct job, ask);
	enum lifecycle_shutdown how = (enum lifecycle_shutdown)job->call.number;
	ask_answer(a);
	lifecycle_shutdown(how, "SHUTDOWN");
}

static void do_reload(struct job *job) { ask_main_to(job, work_reload, on_new_settings); }
static void do_set(struct job *job) { ask_main_to(job, work_set, on_new_settings); }
static void do_shutdown(struct job *job) { ask_main_to(job, work_shutdown, on_main_answer); }

/* --- orders for databases --- */

static void order_worker(struct worker *w, void *arg)
{
	struct job *job = arg;
	db_order_apply(w, &job->order);
}

static void on_ordered(void *arg);

static void on_order_timer(struct loop_timer *t)
{
	struct job *job = CONTAINER_OF(t, struct job, timer);
	bool suspends = job->order.action == DB_SUSPEND || job->order.action == DB_COUNT_BUSY;
	if (suspends && loop_now_us(job->worker->loop) >= job->deadline_us) {
		job_fail(job, SQLSTATE_QUERY_CANCELED, "suspended, but %u statements still run after suspend_timeout",
		         job->order.left);
		return;
	}
	job->order.action = suspends ? DB_COUNT_BUSY : DB_COUNT;
	job->order.left = 0;
	job->asked = true;
	if (ask_workers(job->worker->loop, order_worker, on_ordered, job))
		return;
	job->asked = false;
	fail_stopping(job);
}

static void on_ordered(void *arg)
{
	struct job *job = arg;
	job->asked = false;
	if (!job->session || !job->order.left || !job->call.number) {
		job_finish(job);
		return;
	}
	loop_timer_init(&job->timer, job->worker->loop, on_order_timer);
	loop_timer_start(&job->timer, ORDER_LOOK_US);
}

enum order_wait { ORDER_ONLY, ORDER_AND_WAIT };

/* A name that no entry and no "*" serves would be obeyed silently and do nothing: a typo in a switchover script. */
static void start_order(struct job *job, enum db_action action, enum order_wait wait)
{
	const char *name = job->call.has_name ? job->call.name : NULL;
	const struct config *cfg = job->worker->runtime->config;
	if (name && !config_database(cfg, str_of(name))) {
		job_fail(job, SQLSTATE_INVALID_CATALOG_NAME, "no such database: %s", name);
		return;
	}
	if (action == DB_RESUME && name && orders_of(NULL) & (ORDER_PAUSED | ORDER_SUSPENDED)) {
		job_fail(job, SQLSTATE_NOT_IN_PREREQUISITE_STATE, "all databases are paused: RESUME them all");
		return;
	}
	job->order = (struct db_order){ .action = action, .database = name };
	db_order_note(&job->order);
	job->call.number = wait;
	job->deadline_us = loop_now_us(job->worker->loop) + cfg->suspend_timeout_us;
	job->asked = true;
	if (ask_workers(job->worker->loop, order_worker, on_ordered, job))
		return;
	job->asked = false;
	fail_stopping(job);
}

static void do_pause(struct job *job) { start_order(job, DB_PAUSE, ORDER_AND_WAIT); }
static void do_resume(struct job *job)
{
	if (lifecycle_phase() > LIFECYCLE_RUNNING)
		job_fail(job, SQLSTATE_NOT_IN_PREREQUISITE_STATE, "pooler is shutting down");
	else
		start_order(job, DB_RESUME, ORDER_ONLY);
}
static void do_reconnect(struct job *job) { start_order(job, DB_RECONNECT, ORDER_ONLY); }
static void do_suspend(struct job *job) { start_order(job, DB_SUSPEND, ORDER_AND_WAIT); }
static void do_disable(struct job *job) { start_order(job, DB_DISABLE, ORDER_ONLY); }
static void do_enable(struct job *job) { start_order(job, DB_ENABLE, ORDER_ONLY); }
static void do_kill(struct job *job) { start_order(job, DB_KILL, ORDER_ONLY); }
static void do_wait_close(struct job *job) { start_order(job, DB_COUNT, ORDER_AND_WAIT); }

/* May close the very session that asked: the job then finishes without one. */
static void kill_one(struct worker *w, void *arg)
{
	struct job *job = arg;
	struct client *c, *next;
	struct pgerr err;
	pgerr_set_fatal(&err, SQLSTATE_ADMIN_SHUTDOWN, "terminating connection due to administrator command");
	dormant_wake_all(w);
	for (c = TAILQ_FIRST(&w->clients); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->id != (uint64_t)job->call.number)
			continue;
		job->order.clients++;
		client_close(c, &err, "KILL_CLIENT");
	}
}

static void on_killed(void *arg)
{
	struct job *job = arg;
	job->asked = false;
	if (!job->order.clients)
		job_fail(job, SQLSTATE_UNDEFINED_OBJECT, "client not found: %lld", (long long)job->call.number);
	else
		job_finish(job);
}

static void do_kill_client(struct job *job)
{
	job->asked = true;
	if (ask_workers(job->worker->loop, kill_one, on_killed, job))
		return;
	job->asked = false;
	fail_stopping(job);
}

/* --- the table --- */

static const struct command commands[] = {
	{ "SHOW", "HELP", ADMIN_ROLE_STATS, ARG_NONE, do_help, "SHOW", NULL },
	{ "SHOW", NULL, ADMIN_ROLE_STATS, ARG_TABLE, do_show, "SHOW", NULL },
	{ "SHOW", NULL, ADMIN_ROLE_STATS, ARG_OWN_SHOW, do_show_own, "SHOW", NULL },
	{ "SELECT", NULL, ADMIN_ROLE_STATS, ARG_TABLE, do_show, "SELECT", NULL },
	{ "SET", NULL, ADMIN_ROLE_STATS, ARG_OWN_SETTING, do_tag, "SET", NULL },
	{ "SET", NULL, ADMIN_ROLE_ADMIN, ARG_SETTING, do_set, "SET",
	  "SET key = value - change a setting until the next reload" },
	{ "RELOAD", NULL, ADMIN_ROLE_ADMIN, ARG_NONE, do_reload, "RELOAD",
	  "RELOAD - read the configuration, certificates and users again" },
	{ "PAUSE", NULL, ADMIN_ROLE_ADMIN, ARG_OPT_DB, do_pause, "PAUSE",
	  "PAUSE [db] - let transactions end, close server connections, make clients wait" },
	{ "RESUME", NULL, ADMIN_ROLE_ADMIN, ARG_OPT_DB, do_resume, "RESUME", "RESUME [db] - end of PAUSE or KILL" },
	{ "RECONNECT", NULL, ADMIN_ROLE_ADMIN, ARG_OPT_DB, do_reconnect, "RECONNECT",
	  "RECONNECT [db] - replace every server connection as soon as it is free" },
	{ "WAIT_CLOSE", NULL, ADMIN_ROLE_ADMIN, ARG_OPT_DB, do_wait_close, "WAIT_CLOSE",
	  "WAIT_CLOSE [db] - wait until RECONNECT has replaced them all" },
	{ "SUSPEND", NULL, ADMIN_ROLE_ADMIN, ARG_NONE, do_suspend, "SUSPEND",
	  "SUSPEND - let statements end and make clients wait, keep server connections; ends with RESUME" },
	{ "DISABLE", NULL, ADMIN_ROLE_ADMIN, ARG_DB, do_disable, "DISABLE", "DISABLE db - nobody new may log in" },
	{ "ENABLE", NULL, ADMIN_ROLE_ADMIN, ARG_DB, do_enable, "ENABLE", "ENABLE db - end of DISABLE" },
	{ "KILL", NULL, ADMIN_ROLE_ADMIN, ARG_OPT_DB, do_kill, "KILL",
	  "KILL [db] - cut off clients and servers at once; new ones wait for RESUME" },
	{ "KILL_CLIENT", NULL, ADMIN_ROLE_ADMIN, ARG_NUMBER, do_kill_client, "KILL_CLIENT",
	  "KILL_CLIENT id - cut off one client; see SHOW CLIENTS" },
	{ "SHUTDOWN", NULL, ADMIN_ROLE_ADMIN, ARG_SHUTDOWN, do_shutdown, "SHUTDOWN",
	  "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS] - end the process" },
	{ "EXPLAIN", "ROUTE", ADMIN_ROLE_ADMIN, ARG_ROUTE, explain_route, "EXPLAIN",
	  "EXPLAIN ROUTE [ON db [AS user]] sql - where would this statement go, and why" },
	/* What drivers say by themselves; nothing here has transactions, but they need not know. */
	{ "BEGIN", NULL, ADMIN_ROLE_STATS, ARG_ANY, do_tag, "BEGIN", NULL },
	{ "START", "TRANSACTION", ADMIN_ROLE_STATS, ARG_ANY, do_tag, "START TRANSACTION", NULL },
	{ "COMMIT", NULL, ADMIN_ROLE_STATS, ARG_ANY, do_tag, "COMMIT", NULL },
	{ "END", NULL, ADMIN_ROLE_STATS, ARG_ANY, do_tag, "COMMIT", NULL },
	{ "ROLLBACK", NULL, ADMIN_ROLE_STATS, ARG_ANY, do_tag, "ROLLBACK", NULL },
	{ "ABORT", NULL, ADMIN_ROLE_STATS, ARG_ANY, do_tag, "ROLLBACK", NULL },
	{ "RESET", NULL, ADMIN_ROLE_STATS, ARG_ANY, do_tag, "RESET", NULL },
	{ "DISCARD", NULL, ADMIN_ROLE_STATS, ARG_ANY, do_tag, "DISCARD ALL", NULL },
	{ "DEALLOCATE", NULL, ADMIN_ROLE_STATS, ARG_ANY, do_tag, "DEALLOCATE", NULL },
};

void command_run(struct job *job, enum admin_role role)
{
	const struct command *cmd = job->call.command;
	bool admin_only = job->call.table && job->call.table->flags & SHOW_ADMIN_ONLY;
	if ((admin_only ? ADMIN_ROLE_ADMIN : cmd->role) > role) {
		job_fail(job, SQLSTATE_INSUFFICIENT_PRIVILEGE, "permission denied: %s%s%s needs a user of admin_users",
		         cmd->word, admin_only ? " " : "", admin_only ? job->call.table->name : "");
		return;
	}
	if (cmd->role == ADMIN_ROLE_ADMIN)
		log_info(NULL, "console: %s%s%s by \"%s\"", cmd->tag, job->call.has_name ? " " : "",
		         job->call.has_name ? job->call.name : "", session_user(job->session));
	job->tag = cmd->tag;
	cmd->run(job);
}

/* --- help --- */

static char *help_text; /* owned; made at first use by a worker, under help_once */
static pthread_once_t help_once = PTHREAD_ONCE_INIT;

/* From the tables themselves, so that it cannot be out of date. */
static void make_help(void)
{
	struct buf b = { 0 };
	bool ok = true;
	for (size_t i = 0; i < show_count(); i++) {
		char *line = mem_printf("\tSHOW %s - %s\n", show_at(i)->name, show_at(i)->help);
		ok = ok && buf_put(&b, line, strlen(line));
		mem_free(line);
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		char *line = commands[i].help ? mem_printf("\t%s\n", commands[i].help) : NULL;
		ok = ok && (!line || buf_put(&b, line, strlen(line)));
		mem_free(line);
	}
	help_text = mem_strndup(ok && b.data ? (char *)buf_head(&b) : "", ok ? buf_len(&b) : 0);
	buf_deinit(&b);
}

const char *command_help(void)
{
	pthread_once(&help_once, make_help);
	return help_text;
}

void command_help_free(void)
{
	mem_free(help_text);
	help_text = NULL;
}

/* --- reading a command --- */

struct reader {
	struct sql_lexer lx;
	struct sql_token tok; /* the one that comes next */
	const char *behind;   /* where the one before it ended: comments in between may be hints */
};

static void advance(struct reader *r)
{
	r->behind = r->tok.end;
	lexer_next(&r->lx, &r->tok);
}

static struct str token_text(const struct sql_token *t) { return (struct str){ t->p, (size_t)(t->end - t->p) }; }

static bool at_end(const struct reader *r) { return r->tok.kind == TOKEN_END; }

static bool is_punct(const struct reader *r, char c)
{
	return (r->tok.kind == TOKEN_PUNCT || r->tok.kind == TOKEN_OPERATOR) && r->tok.end - r->tok.p == 1 &&
	       *r->tok.p == c;
}

/* The end of the text, or ; and then the end. */
static bool take_end(struct reader *r)
{
	while (is_punct(r, ';'))
		advance(r);
	return at_end(r);
}

static bool take_word(struct reader *r, const char *word)
{
	if (r->tok.kind != TOKEN_WORD || !str_ieq(token_text(&r->tok), str_of(word)))
		return false;
	advance(r);
	return true;
}

/* Takes the quotes off a plain literal; '' inside is one '. */
static bool unquote(struct str text, char *out, size_t size)
{
	size_t n = 0;
	if (text.n < 2 || text.p[0] != '\'' || text.p[text.n - 1] != '\'')
		return false;
	for (size_t i = 1; i < text.n - 1; i++) {
		if (n + 1 >= size)
			return false;
		out[n++] = text.p[i];
		if (text.p[i] == '\'')
			i++;
	}
	out[n] = '\0';
	return true;
}

/* Unquoted names keep their case: [databases] is not SQL. */
static bool take_name(struct reader *r, char out[COMMAND_NAME_SIZE])
{
	bool ok = false;
	if (r->tok.kind == TOKEN_WORD)
		ok = str_copy(out, COMMAND_NAME_SIZE, token_text(&r->tok));
	else if (r->tok.kind == TOKEN_QUOTED)
		ok = sql_token_ident(&r->tok, out, COMMAND_NAME_SIZE);
	else if (r->tok.kind == TOKEN_STRING)
		ok = unquote(token_text(&r->tok), out, COMMAND_NAME_SIZE);
	if (ok)
		advance(r);
	return ok;
}

/* What is left of the text, without the ; at its end. */
static struct str rest_of(const struct reader *r)
{
	struct str s = str_trim((struct str){ r->behind, (size_t)(r->lx.end - r->behind) });
	while (s.n && s.p[s.n - 1] == ';')
		s = str_trim((struct str){ s.p, s.n - 1 });
	return s;
}

static bool bad_argument(struct pgerr *err, const char *what)
{
	pgerr_set(err, SQLSTATE_SYNTAX_ERROR, "%s", what);
	pgerr_hint(err, "SHOW HELP lists the commands.");
	return false;
}

static void suggest_table(struct str name, struct pgerr *err)
{
	char text[COMMAND_NAME_SIZE];
	const char *best = NULL;
	unsigned least = name.n < 6 ? 2 : 4; /* a word of one letter is close to everything */
	if (!str_copy(text, sizeof text, name))
		return;
	for (char *p = text; *p; p++)
		*p = (char)(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
	for (size_t i = 0; i < show_count(); i++) {
		unsigned d = str_distance(text, show_at(i)->name, least);
		if (d < least) {
			least = d;
			best = show_at(i)->name;
		}
	}
	if (best)
		pgerr_hint(err, "Did you mean SHOW %s?", best);
	else
		pgerr_hint(err, "SHOW HELP lists the tables.");
}

static bool read_table(struct reader *r, struct command_call *call, struct pgerr *err)
{
	if (r->tok.kind == TOKEN_WORD)
		call->table = show_find(token_text(&r->tok));
	if (!call->table) {
		pgerr_set(err, SQLSTATE_UNDEFINED_OBJECT, "there is no table \"%.*s\" to show",
		          (int)token_text(&r->tok).n, r->tok.p);
		suggest_table(token_text(&r->tok), err);
		return false;
	}
	call->columns = call->table->columns;
	call->n_columns = call->table->n_columns;
	advance(r);
	return true;
}

/* SHOW TIME ZONE is the one setting of two words. */
static bool read_own_show(struct reader *r, struct command_call *call)
{
	bool is_zone = take_word(r, "TIME") && take_word(r, "ZONE");
	const struct own_setting *own = is_zone                     ? find_own_setting(STR("timezone"))
	                                : r->tok.kind == TOKEN_WORD ? find_own_setting(token_text(&r->tok))
	                                                            : NULL;
	if (!own)
		return false;
	if (!is_zone)
		advance(r);
	(void)!str_copy(call->name, sizeof call->name, str_of(own->name));
	call->own_column = (struct show_column){ own->name, SHOW_TEXT };
	call->columns = &call->own_column;
	call->n_columns = 1;
	return true;
}

/* SET of something that drivers set; its value is not kept. */
static bool read_own_setting(struct reader *r)
{
	if (take_word(r, "SESSION"))
		(void)!take_word(r, "CHARACTERISTICS");
	else
		(void)!take_word(r, "LOCAL");
	static const char *const words[] = { "NAMES", "TIME", "AS", "TRANSACTION" };
	bool known = r->tok.kind == TOKEN_WORD && find_own_setting(token_text(&r->tok));
	for (size_t i = 0; i < ARRAY_LEN(words) && !known; i++)
		known = r->tok.kind == TOKEN_WORD && str_ieq(token_text(&r->tok), str_of(words[i]));
	return known;
}

static bool read_setting(struct reader *r, struct command_call *call, struct pgerr *err)
{
	char text[COMMAND_TEXT_MAX];
	if (!take_name(r, call->name))
		return bad_argument(err, "SET needs the name of a setting");
	call->has_name = true;
	/* The value is not SQL: *:9127 and 10ms need no quotes, and may look like an operator together with the = . */
	bool equals = r->tok.kind == TOKEN_OPERATOR && *r->tok.p == '=';
	const char *from = equals ? r->tok.p + 1 : r->tok.end;
	if (!equals && !(r->tok.kind == TOKEN_WORD && str_ieq(token_text(&r->tok), STR("TO"))))
		return bad_argument(err, "SET needs a value: SET key = value");
	struct str value = str_trim((struct str){ from, (size_t)(r->lx.end - from) });
	while (value.n && value.p[value.n - 1] == ';')
		value = str_trim((struct str){ value.p, value.n - 1 });
	if (unquote(value, text, sizeof text))
		value = str_of(text);
	call->value = mem_strndup(value.n ? value.p : "", value.n);
	return true;
}

/* PgBouncer's words; without one it is at once. */
static bool read_shutdown(struct reader *r, struct command_call *call)
{
	call->number = SHUTDOWN_NOW;
	if (take_word(r, "WAIT_FOR_SERVERS"))
		call->number = SHUTDOWN_WAIT_FOR_SERVERS;
	else if (take_word(r, "WAIT_FOR_CLIENTS"))
		call->number = SHUTDOWN_WAIT_FOR_CLIENTS;
	return take_end(r);
}

static bool read_route(struct reader *r, struct command_call *call, struct pgerr *err)
{
	if (take_word(r, "ON")) {
		call->has_name = take_name(r, call->name);
		if (!call->has_name)
			return bad_argument(err, "EXPLAIN ROUTE ON needs the name of a database");
		if (take_word(r, "AS") && !take_name(r, call->user))
			return bad_argument(err, "EXPLAIN ROUTE ... AS needs the name of a user");
	}
	struct str sql = rest_of(r);
	if (!sql.n)
		return bad_argument(err, "EXPLAIN ROUTE needs a statement");
	call->value = mem_strndup(sql.p, sql.n);
	call->columns = explain_route_columns;
	call->n_columns = explain_route_n_columns;
	return true;
}

/* Reads the arguments; false: they do not fit, and *err says how they should be. */
static bool read_arguments(const struct command *cmd, struct reader *r, struct command_call *call, struct pgerr *err)
{
	switch (cmd->shape) {
	case ARG_ANY:
		return true;
	case ARG_NONE:
		break;
	case ARG_OPT_DB:
		call->has_name = !at_end(r) && take_name(r, call->name);
		break;
	case ARG_DB:
		call->has_name = take_name(r, call->name);
		if (!call->has_name)
			return bad_argument(err, "the name of a database is needed here");
		break;
	case ARG_NUMBER:
		if (r->tok.kind != TOKEN_INTEGER || !str_to_i64(token_text(&r->tok), &call->number))
			return bad_argument(err, "invalid client pointer supplied: a number is needed here");
		advance(r);
		break;
	case ARG_TABLE:
		if (!read_table(r, call, err))
			return false;
		break;
	case ARG_OWN_SHOW:
		if (!read_own_show(r, call))
			return false;
		break;
	case ARG_OWN_SETTING:
		return read_own_setting(r);
	case ARG_SETTING:
		return read_setting(r, call, err);
	case ARG_SHUTDOWN:
		return read_shutdown(r, call) ||
		       bad_argument(err, "SHUTDOWN takes WAIT_FOR_SERVERS or WAIT_FOR_CLIENTS");
	case ARG_ROUTE:
		return read_route(r, call, err);
	}
	return take_end(r) || bad_argument(err, "something follows that does not belong to the command");
}

/* Pure: nothing is looked up but the tables of this file and of control/show. */
bool command_parse(struct str text, struct command_call *call, struct pgerr *err)
{
	struct reader start = { 0 };
	*call = (struct command_call){ 0 };
	if (text.n > COMMAND_TEXT_MAX)
		return bad_argument(err, "the command is too long");
	lexer_init(&start.lx, text, true);
	advance(&start);
	struct reader r = start;
	if (take_end(&r))
		return true;
	pgerr_set(err, SQLSTATE_SYNTAX_ERROR, "unknown command \"%.*s\"",
	          (int)(token_text(&start.tok).n < 64 ? token_text(&start.tok).n : 64), start.tok.p);
	pgerr_hint(err, "SHOW HELP lists the commands.");
	/* Several rows may have the same words; the first whose arguments fit counts, else the first one's complaint.
	 */
	bool complained = false;
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		const struct command *cmd = &commands[i];
		struct pgerr why;
		r = start;
		if (!take_word(&r, cmd->word) || (cmd->word2 && !take_word(&r, cmd->word2)))
			continue;
		command_call_free(call);
		pgerr_set(&why, SQLSTATE_SYNTAX_ERROR, "wrong arguments for %s", cmd->word);
		if (read_arguments(cmd, &r, call, &why)) {
			call->command = cmd;
			return true;
		}
		if (!complained || cmd->shape == ARG_SETTING)
			*err = why;
		complained = true;
	}
	command_call_free(call);
	return false;
}

void command_call_free(struct command_call *call)
{
	mem_free(call->value);
	*call = (struct command_call){ 0 };
}
