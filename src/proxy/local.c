/* proxy/local.c - see proxy/local.h. */
#include "proxy/local.h"

#include "base/mem.h"
#include "base/rules.h"
#include "proxy/database.h"
#include "proxy/emit.h"
#include "proxy/listens.h"
#include "proxy/measure.h"
#include "proxy/params.h"
#include "proxy/pool.h"
#include "proxy/pstmt.h"
#include "proxy/relay_priv.h"
#include "proxy/replay.h"
#include "proxy/scopes.h"
#include "proxy/settings.h"
#include "proxy/sqlprep.h"
#include "proxy/token.h"
#include "proxy/tracking.h"
#include "proxy/worker.h"
#include "sql/shapes.h"
#include "wire/msg.h"

enum { OID_TEXT = 25 };

/* What one statement answers. */
struct answer {
	const char *tag;           /* NULL: EmptyQueryResponse */
	char *column;              /* owned: SHOW's column, or NULL */
	char *value;               /* owned */
	char *error;               /* owned: instead of all that */
	const struct params *news; /* borrowed or NULL: what the client is told of its settings at the end */
};

char local_tx_status(const struct client *c)
{
	switch (c->tx) {
	case CTX_NONE:
		return 'I';
	case CTX_DEFERRED:
	case CTX_OPEN:
		return 'T';
	case CTX_FAILED:
	case CTX_LOST:
		return 'E';
	}
	return 'I';
}

/* --- what the statement does --- */

void local_forget_transaction(struct client *c, bool committed)
{
	c->tx = CTX_NONE;
	c->begin = (struct sql_begin){ 0 };
	c->xact_us = 0;
	c->tx_flags = 0;
	c->txf = (struct client_tx_facts){ 0 };
	tracking_forget(c);
	scopes_end(c, committed);
	replay_reset(c);
	if (c->listens)
		listens_end_transaction(c, committed);
}

static void merge_modes(struct sql_begin *begin, const struct sql_begin *more)
{
	if (more->isolation != SQL_ISO_UNSET)
		begin->isolation = more->isolation;
	if (more->read_only != SQL_UNSET)
		begin->read_only = more->read_only;
	if (more->deferrable != SQL_UNSET)
		begin->deferrable = more->deferrable;
}

static void do_setting(struct client *c, const struct sql_stmt *stmt, struct answer *a)
{
	struct str key = str_of(stmt->name);
	struct conf_routing *at = stmt->verb == SQL_SET_LOCAL ? &c->tx_routing : &c->session_routing;
	if (str_has_prefix(key, STR("pgweir.")))
		key = (struct str){ key.p + 7, key.n - 7 };
	if (str_eq(key, STR("causal_token"))) {
		a->tag = stmt->verb == SQL_SHOW ? "SHOW" : stmt->verb == SQL_RESET ? "RESET" : "SET";
		if (stmt->verb == SQL_SHOW) {
			a->column = mem_strdup(stmt->name);
			a->value = token_show(c);
		} else if (stmt->verb != SQL_RESET && stmt->value) {
			token_take(c);
		}
		return;
	}
	if (stmt->verb == SQL_SHOW && strcmp(stmt->name, "application_name") == 0) {
		a->tag = "SHOW";
		a->column = mem_strdup(stmt->name);
		a->value = mem_strdup(params_get(c->view, "application_name"));
		return;
	}
	if (stmt->verb == SQL_SHOW) {
		a->tag = "SHOW";
		a->column = mem_strdup(stmt->name);
		a->value = conf_routing_show(&c->routing, key);
		if (!a->value)
			a->error = mem_printf("unrecognized configuration parameter \"%s\"", stmt->name);
		return;
	}
	a->tag = stmt->verb == SQL_RESET ? "RESET" : "SET";
	bool reset = stmt->verb == SQL_RESET || !stmt->value;
	scopes_save(c);
	if (stmt->verb == SQL_SET_LOCAL && c->tx == CTX_NONE)
		return; /* no transaction: it would be forgotten at once */
	if (reset ? !conf_routing_reset(at, key)
	          : !conf_routing_set(at, SCOPE_SESSION, key, str_of(stmt->value), &a->error)) {
		if (!a->error)
			a->error = mem_printf("unrecognized configuration parameter \"%s\"", stmt->name);
		return;
	}
	settings_refresh_routing(c);
}

/* E1: names with a point stay, and are empty. */
static void discard_settings(struct client *c)
{
	struct params_table *t = &c->worker->params;
	struct params *home = params_union(t, c->custom, c->home);
	settings_adopt(c, home);
	params_unref(t, home);
}

static struct answer perform(struct client *c, const struct segment *seg)
{
	struct answer a = { 0 };
	if (!seg->shape)
		return a;
	const struct sql_stmt *stmt = &shape_facts(seg->shape)->stmts[0];
	switch ((int)stmt->verb) {
	case SQL_BEGIN:
		a.tag = stmt->begin.start ? "START TRANSACTION" : "BEGIN";
		replay_reset(c);
		c->tx = CTX_DEFERRED;
		c->begin = stmt->begin;
		c->xact_us = loop_now_us(c->worker->loop);
		break;
	case SQL_SET_TRANSACTION:
		a.tag = "SET";
		merge_modes(&c->begin, &stmt->begin);
		break;
	case SQL_COMMIT:
	case SQL_ROLLBACK:
		a.tag = c->tx == CTX_LOST || stmt->verb == SQL_ROLLBACK ? "ROLLBACK" : "COMMIT";
		local_forget_transaction(c, strcmp(a.tag, "COMMIT") == 0);
		c->worker->stats.total.xacts++;
		c->du->stats.xacts++;
		break;
	case SQL_LISTEN:
		a.tag = "LISTEN";
		break;
	case SQL_UNLISTEN:
		a.tag = "UNLISTEN";
		listens_end_one(c, stmt->name);
		break;
	case SQL_PREPARE_TRANSACTION:
		a.tag = "ROLLBACK"; /* it has failed: on a standby, or with its server */
		if (c->srv)
			relay_give_back(c);
		local_forget_transaction(c, false);
		c->worker->stats.total.xacts++;
		c->du->stats.xacts++;
		break;
	case SQL_DISCARD_ALL:
		a.tag = "DISCARD ALL";
		if (c->listens)
			listens_end_one(c, NULL);
		discard_settings(c);
		client_stmts_deinit(&c->stmts, &c->worker->texts);
		sqlprep_clear_client(c);
		a.news = dbuser_welcome_find(c->du, c->startup, c->facts_no);
		break;
	case SQL_EMPTY:
		break;
	default:
		do_setting(c, stmt, &a);
	}
	return a;
}

/* --- how it is said --- */

static void put_columns(struct wire_writer *ww, const struct answer *a)
{
	if (!a->column) {
		msg_put_no_data(ww);
		return;
	}
	struct msg_column col = { str_of(a->column), OID_TEXT, -1 };
	msg_put_row_description(ww, &col, 1);
}

static void put_result(struct wire_writer *ww, const struct answer *a)
{
	if (a->column) {
		struct str value = str_of(a->value);
		msg_put_data_row(ww, &value, 1);
	}
	if (a->tag)
		msg_put_command_complete(ww, str_of(a->tag));
	else
		msg_put_empty_query(ww);
}

/* An error that was made here fails the transaction: one that is open on a server is made to fail there too. */
static void fail_transaction(struct client *c)
{
	if (c->tx == CTX_DEFERRED)
		c->tx = CTX_LOST;
	if (c->tx != CTX_OPEN || !c->srv || c->state != CLIENT_IDLE)
		return;
	c->tx = CTX_FAILED;
	(void)emit_failure(c, c->srv);
}

static void put_error(struct client *c, struct wire_writer *ww, const char *text)
{
	struct pgerr err;
	pgerr_set(&err, SQLSTATE_INVALID_PARAMETER_VALUE, "%s", text);
	msg_put_error(ww, &err);
	measure_error(c, err.sqlstate);
	fail_transaction(c);
}

static void apply_parse(struct client *c, const struct segment_msg *m)
{
	struct stmt_texts *t = &c->worker->texts;
	if (m->name.n == 0) {
		client_stmts_set_unnamed(&c->stmts, t, m->text);
		return;
	}
	struct cstmt *s = client_stmts_parse(&c->stmts, m->name, m->text);
	if (s)
		client_stmts_parse_done(&c->stmts, t, s, true);
}

static void apply_close(struct client *c, const struct segment_msg *m)
{
	struct stmt_texts *t = &c->worker->texts;
	if (m->target != MSG_TARGET_STATEMENT)
		return;
	if (m->name.n == 0) {
		client_stmts_set_unnamed(&c->stmts, t, NULL);
		return;
	}
	struct cstmt *s = client_stmts_find(&c->stmts, m->name);
	sqlprep_close(c, m->name);
	if (!s)
		return;
	client_stmts_close(s);
	client_stmts_close_done(&c->stmts, t, s, true);
}

static bool put_message(struct client *c, struct wire_writer *ww, const struct segment_msg *m, const struct answer *a)
{
	switch (m->type) {
	case MSG_PARSE:
		apply_parse(c, m);
		msg_put_parse_complete(ww);
		return true;
	case MSG_BIND:
		msg_put_bind_complete(ww);
		return true;
	case MSG_CLOSE:
		apply_close(c, m);
		msg_put_close_complete(ww);
		return true;
	case MSG_DESCRIBE:
		if (m->target == MSG_TARGET_STATEMENT) {
			ww_begin(ww, MSG_PARAMETER_DESCRIPTION);
			ww_u16(ww, 0);
			ww_end(ww);
		}
		put_columns(ww, a);
		return true;
	case MSG_EXECUTE:
		if (a->error) {
			put_error(c, ww, a->error);
			return false;
		}
		put_result(ww, a);
		return true;
	case MSG_QUERY:
		/* A simple query drops the unnamed statement (C3), whoever answers it. */
		client_stmts_set_unnamed(&c->stmts, &c->worker->texts, NULL);
		if (a->error) {
			put_error(c, ww, a->error);
			return false;
		}
		if (a->column)
			put_columns(ww, a);
		put_result(ww, a);
		return true;
	default:
		return true;
	}
}

/* A Parse of a name that the client has, or NULL. */
static const struct segment_msg *duplicate(const struct client *c, const struct segment *seg)
{
	for (unsigned i = 0; i < seg->n; i++) {
		const struct segment_msg *m = &seg->msgs[i];
		if (m->type == MSG_PARSE && m->name.n && (sqlprep_find(c, m->name) || sqlprep_meaning(c, m->name)))
			return m;
	}
	return NULL;
}

/* What ParameterStatus says of a session like the client's at its start. */
static void put_news(struct client *c, struct wire_writer *ww, const struct params *status)
{
	for (unsigned i = 0; i < status->n; i++) {
		const struct param *p = &status->items[i];
		const char *known = params_get(c->view, p->name), *value = p->value;
		if (strcmp(p->name, "application_name") == 0)
			value = c->application;
		else if (!settings_as_told(c, p))
			continue;
		if (known && strcmp(known, value) == 0)
			continue;
		msg_put_parameter_status(ww, str_of(params_display_name(p->name)), str_of(value));
		client_note_status(c, str_of(p->name), str_of(value));
	}
}

static bool finish(struct client *c, struct wire_writer *ww)
{
	struct buf *out = ww->out;
	char status = local_tx_status(c);
	bool held = UNLIKELY(c->listens != NULL) && listens_holds(c, status);
	if (!held)
		msg_put_ready(ww, (enum msg_tx_status)status);
	c->worker->stats.total.local_answers++;
	if (!ww_finish(ww)) {
		client_close(c, NULL, "out of memory");
		return false;
	}
	if (buf_len(out) && !client_send(c, buf_head(out), buf_len(out)))
		return false;
	if (held)
		listens_hold(c);
	return true;
}

bool local_answer(struct client *c, const struct segment *seg)
{
	struct wire_writer ww;
	struct pgerr err;
	const struct segment_msg *twice = duplicate(c, seg);
	if (twice) {
		pgerr_set(&err, SQLSTATE_DUPLICATE_PREPARED_STATEMENT, "prepared statement \"%.*s\" already exists",
		          (int)twice->name.n, twice->name.p);
		return local_reject(c, seg->end, &err);
	}
	struct answer a = perform(c, seg);
	buf_clear(&c->worker->reply);
	ww_init(&ww, &c->worker->reply);
	for (unsigned i = 0; i < seg->n && put_message(c, &ww, &seg->msgs[i], &a); i++)
		;
	if (a.news)
		put_news(c, &ww, a.news);
	mem_free(a.column);
	mem_free(a.value);
	mem_free(a.error);
	return finish(c, &ww);
}

bool local_reject(struct client *c, enum segment_end end, const struct pgerr *err)
{
	struct wire_writer ww;
	struct buf *out = &c->worker->reply;
	buf_clear(out);
	ww_init(&ww, out);
	msg_put_error(&ww, err);
	measure_error(c, err->sqlstate);
	fail_transaction(c);
	if (end == SEGMENT_SYNC || end == SEGMENT_QUERY || end == SEGMENT_FCALL)
		return finish(c, &ww);
	/* ReadyForQuery comes with the client's Sync; what stands before it is skipped (protocol section 55.2.3). */
	c->skip_to_sync = true;
	if (!ww_finish(&ww)) {
		client_close(c, NULL, "out of memory");
		return false;
	}
	return client_send(c, buf_head(out), buf_len(out));
}
