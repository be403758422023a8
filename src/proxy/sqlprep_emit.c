/* proxy/sqlprep_emit.c - see proxy/sqlprep.h: brings a backend's names to what they are for the client.
 *
 * Names go by Close, not by DEALLOCATE: it takes no snapshot, so that it may stand in front of a BEGIN of any kind, and
 * does not fail when there is nothing. */
#include "proxy/sqlprep.h"

#include "base/rules.h"
#include "emit_priv.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/pool.h"
#include "proxy/segment.h"
#include "proxy/server.h"
#include "sql/prepared.h"
#include "sql/shapes.h"
#include "sqlprep_priv.h"
#include "wire/msg.h"

/* What a name is for the client. */
struct meaning {
	struct stmt_text *text; /* borrowed; NULL: nothing */
	bool from_sql;
	uint64_t made_for;
};

static struct str name_of(const struct plain_stmt *at) { return (struct str){ at->name, at->name_len }; }

static struct meaning meaning_of(const struct client *c, struct str name)
{
	const struct sqlname *n = sqlprep_find(c, name);
	if (n)
		return (struct meaning){ n->text, true, n->made_for };
	const struct cstmt *s = client_stmts_find(&c->stmts, name);
	return (struct meaning){ s ? s->text : NULL, false, emit_settings(c) };
}

/* A copy is right when its constants were read by the settings of the client's PREPARE, or by those of now. */
static bool is_there(const struct client *c, const struct plain_stmt *at, struct meaning m)
{
	return at && at->text && at->text == m.text && at->from_sql == m.from_sql &&
	       (at->made_for == m.made_for || at->made_for == emit_settings(c) || RULE_BROKEN(D1));
}

/* Nothing is to be closed of a client's own that we do not know. */
static bool is_settled(const struct client *c, const struct server *s, struct str name)
{
	const struct plain_stmt *at = plain_find(&s->plain, name);
	struct meaning m = meaning_of(c, name);
	return m.text ? is_there(c, at, m) : !at || (c->pins & SQL_PIN_PREPARED && !at->text);
}

bool sqlprep_lacks_name(const struct client *c, const struct server *s, struct str name)
{
	return sqlprep_find(c, name) && !is_settled(c, s, name);
}

static void put_close(struct emit *e, struct str name)
{
	emit_push(e, REQ_CLOSE, REQF_SWALLOW);
	msg_put_close(&e->ww, MSG_TARGET_STATEMENT, name);
}

/* A PREPARE of the client's that cannot be sent again. */
static bool is_only_there(const struct client *c, const struct plain_stmt *at)
{
	const struct sqlname *n = sqlprep_find(c, name_of(at));
	return n && !n->text;
}

static void make_room(struct emit *e)
{
	struct server *s = e->s;
	int max = s->pool->du->config->max_prepared_statements;
	unsigned n = s->plain.n;
	for (struct plain_stmt *at = TAILQ_FIRST(&s->plain.lru); at && n >= (max > 0 ? (unsigned)max : 1u);
	     at = TAILQ_NEXT(at, lru)) {
		if (at->used_in == e->c->segment_no)
			return;
		if (is_only_there(e->c, at))
			continue;
		put_close(e, name_of(at));
		plain_set(s, at, NULL, false, 0, true);
		n--;
	}
}

static void put_statement(struct emit *e, struct str name, struct meaning m)
{
	if (m.from_sql) {
		emit_inject(e, m.text, REQF_PRELUDE);
		return;
	}
	emit_push(e, REQ_PARSE, REQF_SWALLOW | REQF_PRELUDE);
	emit_put_parse(e, name, m.text);
}

bool sqlprep_put_name(struct emit *e, struct str name)
{
	struct server *s = e->s;
	struct plain_stmt *at = plain_find(&s->plain, name);
	struct meaning m = meaning_of(e->c, name);
	if (at)
		plain_touch(s, at, e->c->segment_no);
	if (is_settled(e->c, s, name))
		return false;
	if (at)
		put_close(e, name);
	else
		make_room(e);
	at = plain_add(s, name, e->c->segment_no);
	if (!at) {
		e->failed = true;
		return false;
	}
	if (m.text)
		put_statement(e, name, m);
	plain_set(s, at, m.text, m.from_sql, emit_settings(e->c), true);
	return m.text != NULL;
}

/* PostgreSQL counts the values before it says that the transaction has failed.  What may be parsed there and wants as
 * many as the client's statement has its error; it is never bound, because then one could run it. */
bool sqlprep_put_stand_in(struct emit *e, struct str name, unsigned n_values)
{
	enum { MOST = 64, OID_TEXT = 25 };
	uint32_t oids[MOST];
	const struct sqlname *n = sqlprep_find(e->c, name);
	unsigned wants =
	    n && n->text ? sql_prepared_params(stmt_text_sql(n->text), e->c->sql_options.std_strings) : n_values;
	if (wants == n_values || wants > MOST)
		return false;
	struct plain_stmt *at = plain_find(&e->s->plain, name);
	if (at)
		put_close(e, name);
	at = plain_add(e->s, name, e->c->segment_no);
	if (!at) {
		e->failed = true;
		return true;
	}
	for (unsigned i = 0; i < wants; i++)
		oids[i] = OID_TEXT;
	emit_push(e, REQ_PARSE, REQF_SWALLOW);
	msg_put_parse(&e->ww, name, STR("ROLLBACK"), oids, wants);
	plain_set(e->s, at, NULL, false, 0, true);
	return true;
}

void sqlprep_expect_parse(struct emit *e, struct str name, struct stmt_text *text)
{
	struct plain_stmt *at = plain_add(e->s, name, e->c->segment_no);
	if (at)
		plain_set(e->s, at, text, false, emit_settings(e->c), true);
	else
		e->failed = true;
}

/* Code may EXECUTE any name, and pg_prepared_statements shows all of them. */
static bool put_all_names(struct emit *e, bool shown)
{
	struct plain_stmt *at, *last = TAILQ_LAST(&e->s->plain.lru, plain_queue), *next;
	bool prepared = false;
	for (at = TAILQ_FIRST(&e->s->plain.lru); at; at = at == last ? NULL : next) {
		next = TAILQ_NEXT(at, lru);
		prepared |= sqlprep_put_name(e, name_of(at)); /* goes to the list's end */
	}
	for (struct sqlname *n = e->c->sqlnames; n; n = n->hh.next)
		prepared |= sqlprep_put_name(e, (struct str){ n->name, n->name_len });
	for (struct cstmt *s = shown ? e->c->stmts.by_name : NULL; s; s = s->hh.next) {
		if (s->state == CSTMT_CONFIRMED)
			prepared |= sqlprep_put_name(e, (struct str){ s->name, s->name_len });
	}
	return prepared;
}

static bool may_use_any(const struct client *c, const struct server *s, const struct segment *seg)
{
	return (c->sqlnames || s->plain.n) &&
	       (seg->flags & (SQL_F_MAY_TOUCH_SESSION | SQL_F_DYNAMIC) || seg->pins & SQL_PIN_UNKNOWN);
}

bool sqlprep_put_names(struct emit *e, const struct segment *seg)
{
	bool shown = seg->flags & SQL_F_SHOWS_PREPARED, prepared = false;
	if (e->s->tx == MSG_TX_FAILED)
		return false; /* nothing can be prepared, and nothing will be used */
	for (const struct mention *m = seg->mentions; m; m = STAILQ_NEXT(m, link)) {
		if (m->kind != MENTION_DEALLOCATE_ALL)
			prepared |= sqlprep_put_name(e, (struct str){ m->name, m->name_len });
	}
	if (shown || may_use_any(e->c, e->s, seg))
		prepared |= put_all_names(e, shown);
	return prepared;
}

void sqlprep_expect(struct emit *e, struct segment *seg)
{
	struct mention *m;
	while ((m = seg->mentions)) {
		seg->mentions = STAILQ_NEXT(m, link);
		m->used_in = e->c->segment_no;
		STAILQ_INSERT_TAIL(&e->s->plain.effects, m, link);
	}
}
