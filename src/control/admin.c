/* control/admin.c - console sessions: the protocol's side of the console.
 *
 * Simple and extended protocol, since drivers use either: psycopg and pgjdbc send Parse, Bind, Describe, Execute, Sync
 * for "SHOW STATS".  A portal holds its job, and the job its rows, so that Execute with a row limit works.  Messages
 * are taken one at a time; while a command is under way none is taken, so that answers keep their order. */
#include "control/admin.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "admin_priv.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/net.h"
#include "proxy/cancel.h"
#include "proxy/client.h"
#include "proxy/client_login.h"
#include "proxy/worker.h"
#include "wire/msg.h"

enum { OBJECTS_MAX = 256, CANCEL_KEY_BYTES = 4 };

/* A prepared statement: its text. */
struct statement {
	LIST_ENTRY(statement) link;
	char *name; /* owned; "" is the unnamed one */
	char *sql;  /* owned */
};

struct portal {
	LIST_ENTRY(portal) link;
	char *name;      /* owned; NULL: of a simple query, on no list */
	char *sql;       /* owned */
	struct job *job; /* owned once executed */
	bool executed;   /* the job has finished */
	size_t next_row;
	uint32_t max_rows; /* of the Execute under way; 0: all */
	bool binary[SHOW_COLUMNS_MAX];
};

struct local_session {
	struct client *c; /* borrowed: owns us */
	char *user;       /* owned */
	enum admin_role role;
	bool in_transaction;    /* said BEGIN */
	bool skip_to_sync;      /* an error in the extended protocol */
	struct portal *running; /* borrowed: whose command is under way; NULL: none */
	LIST_HEAD(, statement) statements;
	LIST_HEAD(, portal) portals;
	unsigned n_objects; /* statements and portals */
	struct buf out;     /* owned: the answer being put together */
};

const char *session_user(const struct local_session *s) { return s->user; }
struct client *session_client(const struct local_session *s) { return s->c; }
const char *admin_user(const struct client *c) { return c->local ? c->local->user : ""; }

/* --- jobs --- */

/* Its timer may be running, and its rows half made. */
static void job_free(struct job *job)
{
	loop_timer_stop(&job->timer);
	command_call_free(&job->call);
	show_query_free(&job->query);
	mem_free(job);
}

void job_abandon(struct job *job)
{
	job->session = NULL;
	if (!job->asked)
		job_free(job);
}

void job_fail(struct job *job, enum sqlstate id, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	pgerr_set(&job->err, id, "%s", text);
	job->failed = true;
	job_finish(job);
}

/* --- statements and portals --- */

static void statement_free(struct local_session *s, struct statement *st)
{
	LIST_REMOVE(st, link);
	s->n_objects--;
	mem_free(st->name);
	mem_free(st->sql);
	mem_free(st);
}

static void portal_free(struct local_session *s, struct portal *p)
{
	if (p->name) {
		LIST_REMOVE(p, link);
		s->n_objects--;
	}
	if (p->job)
		job_abandon(p->job);
	mem_free(p->name);
	mem_free(p->sql);
	mem_free(p);
}

static struct statement *find_statement(const struct local_session *s, struct str name)
{
	struct statement *st;
	LIST_FOREACH(st, &s->statements, link)
	{
		if (str_eq(str_of(st->name), name))
			return st;
	}
	return NULL;
}

static struct portal *find_portal(const struct local_session *s, struct str name)
{
	struct portal *p;
	LIST_FOREACH(p, &s->portals, link)
	{
		if (str_eq(str_of(p->name), name))
			return p;
	}
	return NULL;
}

/* As a server does at the end of a transaction, which here is every Sync. */
static void close_portals(struct local_session *s)
{
	struct portal *p;
	while ((p = LIST_FIRST(&s->portals)))
		portal_free(s, p);
}

/* --- output --- */

static struct wire_writer begin_out(struct local_session *s)
{
	struct wire_writer ww;
	buf_clear(&s->out);
	ww_init(&ww, &s->out);
	return ww;
}

/* False: the client, and s with it, is gone. */
static bool send_out(struct local_session *s, struct wire_writer *ww)
{
	struct client *c = s->c;
	if (!ww_finish(ww)) {
		client_close(c, NULL, "out of memory");
		return false;
	}
	bool ok = client_send(c, buf_head(&s->out), buf_len(&s->out));
	if (ok && s->out.cap > CLIENT_BLOCK_BYTES)
		buf_deinit(&s->out); /* a long list was shown: its memory is not kept */
	return ok;
}

static void put_ready(const struct local_session *s, struct wire_writer *ww)
{
	msg_put_ready(ww, s->in_transaction ? MSG_TX_OPEN : MSG_TX_IDLE);
}

/* An error outside of any command. */
static bool send_error(struct local_session *s, const struct pgerr *err, bool simple)
{
	struct wire_writer ww = begin_out(s);
	msg_put_error(&ww, err);
	if (simple)
		put_ready(s, &ww);
	else
		s->skip_to_sync = true;
	return send_out(s, &ww);
}

/* As msg_put_row_description(), with the formats that a Bind asked for. */
static void put_columns(struct wire_writer *ww, const struct show_column *columns, unsigned n, const bool *binary)
{
	if (!columns) {
		msg_put_no_data(ww);
		return;
	}
	ww_begin(ww, MSG_ROW_DESCRIPTION);
	ww_u16(ww, (uint16_t)n);
	for (unsigned i = 0; i < n; i++) {
		static const uint16_t sizes[] = {
			[SHOW_TEXT] = 0xffff, [SHOW_INT] = 4, [SHOW_BIGINT] = 8, [SHOW_NUMERIC] = 0xffff
		};
		ww_cstr(ww, columns[i].name);
		ww_u32(ww, 0);
		ww_u16(ww, 0);
		ww_u32(ww, show_type_oid(columns[i].type));
		ww_u16(ww, sizes[columns[i].type]);
		ww_i32(ww, -1);
		ww_u16(ww, binary ? binary[i] : 0);
	}
	ww_end(ww);
}

/* numeric_send(): digits of base 10000, the first with the greatest weight. */
static void put_binary_numeric(struct wire_writer *ww, uint64_t value)
{
	uint16_t digits[6], n = 0;
	for (uint64_t v = value; v; v /= 10000)
		digits[n++] = (uint16_t)(v % 10000);
	ww_i32(ww, 8 + 2 * n);
	ww_u16(ww, n);
	ww_u16(ww, (uint16_t)(n ? n - 1 : 0));
	ww_u16(ww, 0); /* positive */
	ww_u16(ww, 0); /* no digits behind the point */
	while (n)
		ww_u16(ww, digits[--n]);
}

/* pgjdbc asks for binary values after five executions, asyncpg always. */
static void put_value(struct wire_writer *ww, const char *value, enum show_type type, bool binary)
{
	int64_t n = 0;
	if (!value || !binary || type == SHOW_TEXT || !str_to_i64(str_of(value), &n)) {
		ww_value(ww, value ? str_of(value) : (struct str){ NULL, 0 });
		return;
	}
	if (type == SHOW_NUMERIC) {
		put_binary_numeric(ww, (uint64_t)n);
		return;
	}
	ww_i32(ww, type == SHOW_INT ? 4 : 8);
	if (type == SHOW_BIGINT)
		ww_u32(ww, (uint32_t)((uint64_t)n >> 32));
	ww_u32(ww, (uint32_t)n);
}

static void put_row(struct wire_writer *ww, const struct show_rows *r, size_t row, const bool *binary)
{
	ww_begin(ww, MSG_DATA_ROW);
	ww_u16(ww, (uint16_t)r->n_columns);
	for (unsigned i = 0; i < r->n_columns; i++)
		put_value(ww, show_cell(r, row, i), r->columns[i].type, binary[i]);
	ww_end(ww);
}

/* SHOW HELP: longer than what struct pgerr holds. */
static void put_notice(struct wire_writer *ww, const char *message, const char *detail)
{
	ww_begin(ww, MSG_NOTICE_RESPONSE);
	ww_u8(ww, 'S');
	ww_cstr(ww, "NOTICE");
	ww_u8(ww, 'V');
	ww_cstr(ww, "NOTICE");
	ww_u8(ww, 'C');
	ww_cstr(ww, "00000");
	ww_u8(ww, 'M');
	ww_cstr(ww, message);
	if (detail) {
		ww_u8(ww, 'D');
		ww_cstr(ww, detail);
	}
	ww_u8(ww, 0);
	ww_end(ww);
}

static void put_tag(struct wire_writer *ww, const struct portal *p)
{
	char tag[64];
	/* Drivers count the rows of a SELECT by its tag. */
	bool counts = strcmp(p->job->tag, "SELECT") == 0;
	snprintf(tag, sizeof tag, counts ? "%s %zu" : "%s", p->job->tag, show_rows_count(&p->job->query.rows));
	msg_put_command_complete(ww, str_of(tag));
}

/* Only the letter of ReadyForQuery follows: drivers that sent BEGIN check it before they send COMMIT. */
static void note_transaction(struct local_session *s, const char *tag)
{
	if (strcmp(tag, "BEGIN") == 0 || strcmp(tag, "START TRANSACTION") == 0)
		s->in_transaction = true;
	else if (strcmp(tag, "COMMIT") == 0 || strcmp(tag, "ROLLBACK") == 0)
		s->in_transaction = false;
}

/* Rows, as many as the Execute wants, and what ends them. */
static void put_result(struct local_session *s, struct wire_writer *ww, struct portal *p)
{
	const struct show_rows *r = &p->job->query.rows;
	size_t n = show_rows_count(r), end = n;
	if (p->max_rows && n - p->next_row > p->max_rows)
		end = p->next_row + p->max_rows;
	if (p->job->notice && p->next_row == 0)
		put_notice(ww, p->job->notice, p->job->notice_detail);
	for (; p->next_row < end; p->next_row++)
		put_row(ww, r, p->next_row, p->binary);
	if (end < n) {
		ww_begin(ww, MSG_PORTAL_SUSPENDED);
		ww_end(ww);
		return;
	}
	note_transaction(s, p->job->tag);
	put_tag(ww, p);
}

/* The portal's job has finished: says so. False: the client is gone. */
static bool answer(struct local_session *s, struct portal *p)
{
	struct job *job = p->job;
	bool simple = !p->name;
	if (job->failed) {
		struct pgerr err = job->err;
		if (simple)
			portal_free(s, p);
		return send_error(s, &err, simple);
	}
	struct wire_writer ww = begin_out(s);
	if (simple && job->call.columns)
		put_columns(&ww, job->query.rows.columns, job->query.rows.n_columns, NULL);
	put_result(s, &ww, p);
	if (simple) {
		put_ready(s, &ww);
		portal_free(s, p);
	}
	return send_out(s, &ww);
}

void job_finish(struct job *job)
{
	struct local_session *s = job->session;
	if (!s) {
		job_free(job);
		return;
	}
	struct portal *p = s->running;
	struct client *c = s->c;
	s->running = NULL;
	p->executed = true;
	if (answer(s, p))
		client_process(c); /* what has come meanwhile */
}

/* --- requests --- */

/* Starts the portal's command; the answer comes by job_finish().  The job is parsed already. */
static void run(struct local_session *s, struct portal *p)
{
	s->running = p;
	command_run(p->job, s->role);
}

/* Never moved: the answer's columns may point into its call. */
static struct job *new_job(struct local_session *s)
{
	struct job *job = mem_zalloc(sizeof *job);
	job->session = s;
	job->worker = s->c->worker;
	return job;
}

static bool send_empty(struct local_session *s, bool simple)
{
	struct wire_writer ww = begin_out(s);
	msg_put_empty_query(&ww);
	if (simple)
		put_ready(s, &ww);
	return send_out(s, &ww);
}

static void on_query(struct local_session *s, struct str sql)
{
	struct pgerr err;
	struct job *job = new_job(s);
	bool ok = command_parse(sql, &job->call, &err);
	if (!ok || !job->call.command) {
		job_free(job);
		(void)!(ok ? send_empty(s, true) : send_error(s, &err, true));
		return;
	}
	struct portal *p = mem_zalloc(sizeof *p);
	p->job = job;
	run(s, p);
}

/* A console client may not fill the worker's memory by names. */
static bool too_many(struct local_session *s)
{
	struct pgerr err;
	if (s->n_objects < OBJECTS_MAX)
		return false;
	pgerr_set(&err, SQLSTATE_PROGRAM_LIMIT_EXCEEDED, "too many prepared statements and portals on the console");
	(void)!send_error(s, &err, false);
	return true;
}

static void send_simple_reply(struct local_session *s, void (*put)(struct wire_writer *w))
{
	struct wire_writer ww = begin_out(s);
	put(&ww);
	(void)!send_out(s, &ww);
}

/* Errors of syntax are reported here, as by a server, although the text is read again by Execute. */
static void on_parse(struct local_session *s, const struct msg_parse *m)
{
	struct command_call call;
	struct pgerr err;
	struct statement *st = find_statement(s, m->name);
	if (st && m->name.n) {
		pgerr_set(&err, SQLSTATE_DUPLICATE_PREPARED_STATEMENT, "prepared statement \"%s\" already exists",
		          st->name);
		(void)!send_error(s, &err, false);
		return;
	}
	if (!command_parse(m->sql, &call, &err)) {
		(void)!send_error(s, &err, false);
		return;
	}
	command_call_free(&call);
	if (st)
		statement_free(s, st);
	if (too_many(s))
		return;
	st = mem_zalloc(sizeof *st);
	st->name = mem_strndup(m->name.n ? m->name.p : "", m->name.n);
	st->sql = mem_strndup(m->sql.n ? m->sql.p : "", m->sql.n);
	LIST_INSERT_HEAD(&s->statements, st, link);
	s->n_objects++;
	send_simple_reply(s, msg_put_parse_complete);
}

/* None given: text for all; one: the same for all; else one per column. */
static void read_formats(struct portal *p, const struct msg_bind_rest *rest)
{
	for (unsigned i = 0; i < SHOW_COLUMNS_MAX && rest->result_format_count; i++) {
		unsigned at = rest->result_format_count == 1 ? 0 : i;
		p->binary[i] = at < rest->result_format_count && rest->result_formats[2 * at + 1] == 1;
	}
}

static void on_bind(struct local_session *s, const struct msg_bind *m, const struct msg_bind_rest *rest)
{
	struct pgerr err;
	const struct statement *st = find_statement(s, m->statement);
	struct portal *old = find_portal(s, m->portal);
	if (!st)
		pgerr_set(&err, SQLSTATE_INVALID_STATEMENT_NAME, "prepared statement \"%.*s\" does not exist",
		          (int)m->statement.n, m->statement.p);
	else if (rest->value_count)
		pgerr_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED, "console commands take no parameters");
	else if (old && m->portal.n)
		pgerr_set(&err, SQLSTATE_DUPLICATE_CURSOR, "portal \"%s\" already exists", old->name);
	if (!st || rest->value_count || (old && m->portal.n)) {
		(void)!send_error(s, &err, false);
		return;
	}
	if (old)
		portal_free(s, old);
	if (too_many(s))
		return;
	struct portal *p = mem_zalloc(sizeof *p);
	p->name = mem_strndup(m->portal.n ? m->portal.p : "", m->portal.n);
	p->sql = mem_strdup(st->sql);
	read_formats(p, rest);
	LIST_INSERT_HEAD(&s->portals, p, link);
	s->n_objects++;
	send_simple_reply(s, msg_put_bind_complete);
}

static void no_such_portal(struct local_session *s, struct str name)
{
	struct pgerr err;
	pgerr_set(&err, SQLSTATE_INVALID_CURSOR_NAME, "portal \"%.*s\" does not exist", (int)name.n, name.p);
	(void)!send_error(s, &err, false);
}

static void on_describe(struct local_session *s, const struct msg_describe *m)
{
	struct command_call call;
	struct pgerr err;
	bool is_statement = m->target == MSG_TARGET_STATEMENT;
	const struct statement *st = is_statement ? find_statement(s, m->name) : NULL;
	const struct portal *p = is_statement ? NULL : find_portal(s, m->name);
	if (is_statement && !st) {
		pgerr_set(&err, SQLSTATE_INVALID_STATEMENT_NAME, "prepared statement \"%.*s\" does not exist",
		          (int)m->name.n, m->name.p);
		(void)!send_error(s, &err, false);
		return;
	}
	if (!is_statement && !p) {
		no_such_portal(s, m->name);
		return;
	}
	/* It was understood at Parse. */
	CHECK(command_parse(str_of(st ? st->sql : p->sql), &call, &err));
	struct wire_writer ww = begin_out(s);
	if (is_statement) {
		ww_begin(&ww, MSG_PARAMETER_DESCRIPTION);
		ww_u16(&ww, 0);
		ww_end(&ww);
	}
	put_columns(&ww, call.columns, call.n_columns, p ? p->binary : NULL);
	command_call_free(&call);
	(void)!send_out(s, &ww);
}

static void on_execute(struct local_session *s, const struct msg_execute *m)
{
	struct pgerr err;
	struct portal *p = find_portal(s, m->portal);
	if (!p) {
		no_such_portal(s, m->portal);
		return;
	}
	p->max_rows = m->max_rows;
	if (p->executed) {
		(void)!answer(s, p);
		return;
	}
	p->job = new_job(s);
	CHECK(command_parse(str_of(p->sql), &p->job->call, &err));
	if (p->job->call.command)
		run(s, p);
	else
		(void)!send_empty(s, false);
}

static void on_close(struct local_session *s, const struct msg_describe *m)
{
	struct statement *st = m->target == MSG_TARGET_STATEMENT ? find_statement(s, m->name) : NULL;
	struct portal *p = m->target == MSG_TARGET_PORTAL ? find_portal(s, m->name) : NULL;
	if (st)
		statement_free(s, st);
	if (p)
		portal_free(s, p);
	send_simple_reply(s, msg_put_close_complete);
}

static void on_sync(struct local_session *s)
{
	s->skip_to_sync = false;
	if (!s->in_transaction)
		close_portals(s);
	struct wire_writer ww = begin_out(s);
	put_ready(s, &ww);
	(void)!send_out(s, &ww);
}

/* False: not to be understood; the connection ends. */
static bool on_message(struct local_session *s, const struct frame *f)
{
	struct msg_query query;
	struct msg_parse parse;
	struct msg_bind bind;
	struct msg_bind_rest rest;
	struct msg_describe describe;
	struct msg_execute execute;
	if (s->skip_to_sync && f->type != MSG_SYNC && f->type != MSG_TERMINATE)
		return true;
	switch (f->type) {
	case MSG_QUERY:
		if (!msg_parse_query(f->body, f->body_len, &query))
			return false;
		on_query(s, query.sql);
		return true;
	case MSG_PARSE:
		if (!msg_parse_parse(f->body, f->body_len, &parse))
			return false;
		on_parse(s, &parse);
		return true;
	case MSG_BIND:
		if (msg_peek_bind(f->body, f->body_len, f->body_len, &bind) != FRAME_OK ||
		    !msg_parse_bind_rest(f->body + bind.rest_offset, f->body_len - bind.rest_offset, &rest))
			return false;
		on_bind(s, &bind, &rest);
		return true;
	case MSG_DESCRIBE:
		if (!msg_parse_describe(f->body, f->body_len, &describe))
			return false;
		on_describe(s, &describe);
		return true;
	case MSG_CLOSE:
		if (!msg_parse_close(f->body, f->body_len, &describe))
			return false;
		on_close(s, &describe);
		return true;
	case MSG_EXECUTE:
		if (!msg_parse_execute(f->body, f->body_len, &execute))
			return false;
		on_execute(s, &execute);
		return true;
	case MSG_FLUSH:
		return true; /* nothing is ever held back */
	case MSG_SYNC:
		on_sync(s);
		return true;
	case MSG_TERMINATE:
		client_close(s->c, NULL, "client closed the connection");
		return true;
	default:
		return false;
	}
}

/* What is not the protocol ends the session: after a bad length the next message cannot be found. */
static void end_session(struct client *c, uint8_t type)
{
	struct pgerr err;
	if (frame_type_is_known(FRAME_FROM_CLIENT, type))
		pgerr_set_bad_message(&err, FRAME_FROM_CLIENT, type);
	else
		pgerr_set_bad_type(&err, FRAME_FROM_CLIENT, type);
	err.severity = PGERR_FATAL;
	client_close(c, &err, err.message);
}

/* Takes one message. False: there is none, or none may be taken now. */
static bool take_message(struct client *c)
{
	struct local_session *s = c->local;
	struct frame_head h;
	struct frame f;
	if (!s || s->running)
		return false;
	enum frame_result r = frame_peek(buf_head(&c->in), buf_len(&c->in), &h);
	if (r == FRAME_MORE)
		return false;
	if (r == FRAME_BAD || h.len > SEGMENT_BYTES_MAX) {
		end_session(c, r == FRAME_BAD ? *buf_head(&c->in) : h.type);
		return false;
	}
	if (frame_take(buf_head(&c->in), buf_len(&c->in), &f) != FRAME_OK)
		return false;
	/* Consumed first: an answer may come at once and look for the next message.  The bytes stay where they are. */
	struct buf whole = c->in;
	buf_consume(&c->in, h.len);
	f.body = whole.data + whole.head + FRAME_HEAD_BYTES;
	if (!on_message(s, &f)) {
		end_session(c, h.type);
		return false;
	}
	return c->state == CLIENT_LOCAL;
}

/* c->in holds whatever has come; a message larger than it can hold is refused by take_message(). */
static void on_request(struct client *c)
{
	while (take_message(c))
		;
}

/* --- welcome --- */

/* The same test as at login, where it spares a password; the name alone, over TCP, means nothing. */
static bool is_owner_by_socket(const struct client *c, const char *user)
{
	uid_t uid;
	gid_t gid;
	pid_t pid;
	return net_addr_is_unix(c->peer) && (strcmp(user, "pgbouncer") == 0 || strcmp(user, "pgweir") == 0) &&
	       net_peer_cred(c->stream.fd, &uid, &gid, &pid) && uid == geteuid();
}

/* auth_type=any has no users that could be told apart: everybody is admin, as in PgBouncer. */
static bool role_of(const struct client *c, const char *user, enum admin_role *role)
{
	const struct config *cfg = c->worker->runtime->config;
	*role = ADMIN_ROLE_ADMIN;
	if (is_owner_by_socket(c, user) || conf_list_has(&cfg->admin_users, str_of(user)) ||
	    cfg->auth_type == CONF_AUTH_ANY)
		return true;
	*role = ADMIN_ROLE_STATS;
	return conf_list_has(&cfg->stats_users, str_of(user));
}

static bool welcome(struct local_session *s)
{
	const struct {
		const char *name, *value;
	} status[] = {
		/* PostgreSQL's version first, for drivers that read a number there; then PgBouncer's mark. */
		{ "server_version", "15.0 (pgweir " PGWEIR_VERSION ")/bouncer" },
		{ "server_encoding", "UTF8" },
		{ "client_encoding", "UTF8" },
		{ "standard_conforming_strings", "on" },
		{ "DateStyle", "ISO, MDY" },
		{ "IntervalStyle", "postgres" },
		{ "TimeZone", "UTC" },
		{ "integer_datetimes", "on" },
		{ "is_superuser", s->role == ADMIN_ROLE_ADMIN ? "on" : "off" },
		{ "session_authorization", s->user },
		{ "application_name", s->c->application ? s->c->application : "" },
	};
	struct client *c = s->c;
	cancel_register(c, CANCEL_KEY_BYTES);
	struct wire_writer ww = begin_out(s);
	for (size_t i = 0; i < ARRAY_LEN(status); i++)
		msg_put_parameter_status(&ww, str_of(status[i].name), str_of(status[i].value));
	msg_put_key_data(&ww, c->pid, (struct str){ (const char *)c->key, c->key_len });
	put_ready(s, &ww);
	return send_out(s, &ww);
}

static void on_close_client(struct client *c);

static _Atomic int n_sessions; /* of all workers */
int admin_sessions(void) { return atomic_load(&n_sessions); }

static bool on_open(struct client *c, const char *user, struct pgerr *err)
{
	enum admin_role role;
	if (!role_of(c, user, &role)) {
		pgerr_set_fatal(err, SQLSTATE_INSUFFICIENT_PRIVILEGE, "user \"%s\" may not use the console", user);
		pgerr_hint(err, "See admin_users and stats_users.");
		return false;
	}
	struct local_session *s = mem_zalloc(sizeof *s);
	s->c = c;
	s->user = mem_strdup(user);
	s->role = role;
	LIST_INIT(&s->statements);
	LIST_INIT(&s->portals);
	c->local = s;
	atomic_fetch_add(&n_sessions, 1);
	if (welcome(s))
		return true;
	/* It has left already, and not as a console client. */
	on_close_client(c);
	pgerr_set_fatal(err, SQLSTATE_CONNECTION_FAILURE, "connection to the client was lost");
	return false;
}

/* A command that has asked other threads goes on without us and frees itself. */
static void on_close_client(struct client *c)
{
	struct local_session *s = c->local;
	struct statement *st;
	if (!s)
		return;
	c->local = NULL;
	atomic_fetch_sub(&n_sessions, 1);
	if (s->running && !s->running->name)
		portal_free(s, s->running);
	close_portals(s);
	while ((st = LIST_FIRST(&s->statements)))
		statement_free(s, st);
	buf_deinit(&s->out);
	mem_free(s->user);
	mem_free(s);
}

static const struct local_handler handler = { on_open, on_request, on_close_client };

void admin_start(void) { client_set_local_handler(&handler); }

void admin_stop(void)
{
	client_set_local_handler(NULL);
	command_help_free();
}
