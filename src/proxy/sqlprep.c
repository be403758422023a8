/* proxy/sqlprep.c - see proxy/sqlprep.h: the two tables, and what changes them. */
#include "proxy/sqlprep.h"

#include "base/mem.h"
#include "emit_priv.h"
#include "proxy/client.h"
#include "proxy/columns.h"
#include "proxy/pool.h"
#include "proxy/segment.h"
#include "proxy/server.h"
#include "proxy/worker.h"
#include "sql/prepared.h"
#include "sqlprep_priv.h"

/* --- a client's names --- */

struct sqlname *sqlprep_find(const struct client *c, struct str name)
{
	struct sqlname *n;
	if (!c->sqlnames)
		return NULL;
	HASH_FIND(hh, c->sqlnames, name.p, name.n, n);
	return n;
}

struct stmt_text *sqlprep_meaning(const struct client *c, struct str name)
{
	const struct sqlname *n = sqlprep_find(c, name);
	const struct cstmt *s = n ? NULL : client_stmts_find(&c->stmts, name);
	return n ? n->inner : s ? s->text : NULL;
}

static void name_remove(struct client *c, struct sqlname *n)
{
	HASH_DEL(c->sqlnames, n);
	stmt_text_unref(&c->worker->texts, n->text);
	stmt_text_unref(&c->worker->texts, n->inner);
	mem_free(n);
}

void sqlprep_close(struct client *c, struct str name)
{
	struct sqlname *n = sqlprep_find(c, name);
	if (n)
		name_remove(c, n);
}

void sqlprep_clear_client(struct client *c)
{
	while (c->sqlnames)
		name_remove(c, c->sqlnames);
}

static bool name_add(struct client *c, const struct mention *m)
{
	sqlprep_close(c, (struct str){ m->name, m->name_len });
	struct sqlname *n = mem_try_alloc(sizeof *n + m->name_len);
	if (!n)
		return false;
	*n = (struct sqlname){ .text = m->text ? stmt_text_ref(m->text) : NULL,
		               .inner = m->text ? stmt_text_ref(m->inner) : NULL,
		               .made_for = m->made_for,
		               .name_len = m->name_len };
	memcpy(n->name, m->name, m->name_len);
	HASH_ADD(hh, c->sqlnames, name, n->name_len, n);
	return true;
}

/* --- a backend's --- */

void sqlprep_init_server(struct server *s)
{
	s->plain = (struct plain_stmts){ 0 };
	TAILQ_INIT(&s->plain.lru);
	STAILQ_INIT(&s->plain.effects);
}

struct plain_stmt *plain_find(const struct plain_stmts *p, struct str name)
{
	struct plain_stmt *at;
	HASH_FIND(hh, p->by_name, name.p, name.n, at);
	return at;
}

static struct stmt_texts *texts_of(const struct server *s) { return &s->pool->worker->texts; }

static void set_tentative(struct plain_stmts *p, struct plain_stmt *at, bool on)
{
	p->n_tentative += (unsigned)on - (unsigned)at->tentative;
	at->tentative = on;
}

static void plain_remove(struct server *s, struct plain_stmt *at)
{
	HASH_DEL(s->plain.by_name, at);
	TAILQ_REMOVE(&s->plain.lru, at, lru);
	s->plain.n--;
	set_tentative(&s->plain, at, false);
	stmt_text_unref(texts_of(s), at->text);
	mem_free(at);
}

void plain_touch(struct server *s, struct plain_stmt *at, uint32_t segment)
{
	at->used_in = segment;
	TAILQ_REMOVE(&s->plain.lru, at, lru);
	TAILQ_INSERT_TAIL(&s->plain.lru, at, lru);
}

void plain_set(struct server *s, struct plain_stmt *at, struct stmt_text *text, bool from_sql, uint64_t made_for,
               bool tentative)
{
	if (text)
		stmt_text_ref(text);
	stmt_text_unref(texts_of(s), at->text);
	at->text = text;
	at->from_sql = from_sql;
	at->made_for = made_for;
	set_tentative(&s->plain, at, tentative);
}

struct plain_stmt *plain_add(struct server *s, struct str name, uint32_t segment)
{
	struct plain_stmt *at = plain_find(&s->plain, name);
	if (!at) {
		at = mem_try_alloc(sizeof *at + name.n);
		if (!at)
			return NULL;
		*at = (struct plain_stmt){ .name_len = (uint32_t)name.n };
		memcpy(at->name, name.p, name.n);
		HASH_ADD(hh, s->plain.by_name, name, at->name_len, at);
		TAILQ_INSERT_TAIL(&s->plain.lru, at, lru);
		s->plain.n++;
	}
	plain_touch(s, at, segment);
	return at;
}

static void plain_forget(struct server *s, struct str name)
{
	struct plain_stmt *at = plain_find(&s->plain, name);
	if (at)
		plain_remove(s, at);
}

void sqlprep_doubt_name(struct server *s, struct str name)
{
	struct plain_stmt *at = plain_find(&s->plain, name);
	if (at)
		plain_set(s, at, NULL, false, 0, false);
}

void sqlprep_doubt(struct server *s)
{
	struct plain_stmt *at;
	TAILQ_FOREACH(at, &s->plain.lru, lru)
	plain_set(s, at, NULL, false, 0, false);
}

static void plain_clear(struct server *s)
{
	struct plain_stmt *at;
	s->plain.unknown = false;
	while ((at = TAILQ_FIRST(&s->plain.lru)))
		plain_remove(s, at);
}

/* --- mentions --- */

static void mention_free(struct stmt_texts *t, struct mention *m)
{
	stmt_text_unref(t, m->text);
	stmt_text_unref(t, m->inner);
	mem_free(m);
}

static void queue_free(struct stmt_texts *t, struct mention_queue *q)
{
	struct mention *m;
	while ((m = STAILQ_FIRST(q))) {
		STAILQ_REMOVE_HEAD(q, link);
		mention_free(t, m);
	}
}

void sqlprep_drop_mentions(struct worker *w, struct segment *seg)
{
	while (seg->mentions) {
		struct mention *m = seg->mentions;
		seg->mentions = STAILQ_NEXT(m, link);
		mention_free(&w->texts, m);
	}
}

/* The queue is short; the order counts. */
static struct mention *mention_new(struct segment *seg, enum mention_kind kind, struct str name)
{
	struct mention **tail = &seg->mentions, *m;
	for (; (m = *tail); tail = &STAILQ_NEXT(m, link)) {
		if (kind == MENTION_USE && m->kind == MENTION_USE && str_eq(name, (struct str){ m->name, m->name_len }))
			return m;
	}
	m = mem_try_alloc(sizeof *m + name.n);
	if (!m)
		return NULL;
	*m = (struct mention){ .kind = kind, .name_len = (uint32_t)name.n };
	if (name.n)
		memcpy(m->name, name.p, name.n);
	*tail = m;
	return m;
}

bool sqlprep_mention(struct segment *seg, enum mention_kind kind, struct str name)
{
	return mention_new(seg, kind, name) != NULL;
}

/* A Parse body of the text: without parameter types. */
static struct stmt_text *text_of(struct worker *w, struct str sql)
{
	struct buf *body = &w->reply;
	buf_clear(body);
	return buf_put(body, sql.p, sql.n) && buf_put(body, "\0\0", 3)
	           ? stmt_texts_intern(&w->texts, buf_head(body), buf_len(body))
	           : NULL;
}

bool sqlprep_mention_prepare(struct client *c, struct segment *seg, struct str name, struct str sql)
{
	struct mention *m = mention_new(seg, MENTION_PREPARE, name);
	if (!m || !sql.n)
		return m != NULL;
	struct str inner = sql_prepared_statement(sql, c->sql_options.std_strings);
	m->text = text_of(c->worker, sql);
	m->inner = text_of(c->worker, inner);
	m->made_for = emit_settings(c);
	return m->text && m->inner;
}

/* --- what the server says --- */

/* The next effect of that kind.  What stands before it did not come to pass. */
static struct mention *next_effect(struct server *s, enum mention_kind kind)
{
	struct mention *m;
	while ((m = STAILQ_FIRST(&s->plain.effects))) {
		STAILQ_REMOVE_HEAD(&s->plain.effects, link);
		if (m->kind == kind)
			return m;
		mention_free(texts_of(s), m);
	}
	return NULL;
}

/* The session has something that we could not make again. */
static void pin(struct server *s)
{
	if (s->client)
		s->client->seg.pins |= SQL_PIN_PREPARED;
}

/* ... and of which we do not know the name: DEALLOCATE ALL is its only end. */
static void pin_by_unknown(struct server *s)
{
	s->plain.unknown = true;
	pin(s);
}

/* A name is gone.  Was it the last that only this backend has? */
static void end_pin(struct server *s, struct client *c)
{
	const struct sqlname *n = c->sqlnames;
	while (n && n->text)
		n = n->hh.next;
	if (n || s->plain.unknown)
		return;
	c->pins &= ~(uint32_t)SQL_PIN_PREPARED;
	c->seg.pins &= ~(uint32_t)SQL_PIN_PREPARED;
}

static void on_prepared(struct server *s)
{
	struct mention *m = next_effect(s, MENTION_PREPARE);
	if (!m) {
		pin_by_unknown(s);
		return;
	}
	struct plain_stmt *at = plain_add(s, (struct str){ m->name, m->name_len }, m->used_in);
	if (at)
		plain_set(s, at, m->text, true, m->made_for, false);
	if (!at || (s->client && !name_add(s->client, m)))
		pin_by_unknown(s);
	else if (!m->text)
		pin(s);
	mention_free(texts_of(s), m);
}

static void on_deallocated(struct server *s, enum mention_kind kind)
{
	struct mention *m = next_effect(s, kind);
	if (!m) {
		sqlprep_doubt(s);
		pin_by_unknown(s);
		return;
	}
	struct str name = { m->name, m->name_len };
	plain_forget(s, name);
	if (s->client) {
		struct cstmt *parsed = client_stmts_find(&s->client->stmts, name);
		if (!sqlprep_find(s->client, name) && parsed && parsed->state == CSTMT_CONFIRMED) {
			columns_forget_told(s, parsed);
			client_stmts_remove(&s->client->stmts, texts_of(s), parsed);
		}
		sqlprep_close(s->client, name);
		end_pin(s, s->client);
	}
	mention_free(texts_of(s), m);
}

static void on_all_gone(struct server *s)
{
	struct mention *m = next_effect(s, MENTION_DEALLOCATE_ALL);
	plain_clear(s);
	if (s->client) {
		sqlprep_clear_client(s->client);
		columns_forget_told(s, NULL);
		client_stmts_drop_confirmed(&s->client->stmts, texts_of(s));
		s->client->pins &= ~(uint32_t)SQL_PIN_PREPARED;
		s->client->seg.pins &= ~(uint32_t)SQL_PIN_PREPARED;
	}
	if (m)
		mention_free(texts_of(s), m);
}

void sqlprep_on_complete(struct server *s, struct str tag)
{
	if (str_eq(tag, STR("PREPARE")))
		on_prepared(s);
	else if (str_eq(tag, STR("DEALLOCATE")))
		on_deallocated(s, MENTION_DEALLOCATE);
	else if (str_eq(tag, STR("DEALLOCATE ALL")) || str_eq(tag, STR("DISCARD ALL")))
		on_all_gone(s);
}

void sqlprep_on_closed(struct server *s) { on_deallocated(s, MENTION_CLOSE); }

void sqlprep_on_error(struct server *s)
{
	struct plain_stmt *at;
	if (!s->plain.n_tentative)
		return;
	TAILQ_FOREACH(at, &s->plain.lru, lru)
	{
		if (at->tentative)
			plain_set(s, at, NULL, false, 0, true);
	}
}

void sqlprep_on_ready(struct server *s)
{
	struct plain_stmt *at, *next;
	queue_free(texts_of(s), &s->plain.effects);
	for (at = s->plain.n_tentative ? TAILQ_FIRST(&s->plain.lru) : NULL; at; at = next) {
		next = TAILQ_NEXT(at, lru);
		if (!at->tentative)
			continue;
		set_tentative(&s->plain, at, false);
		if (!at->text && !s->error_seen)
			plain_remove(s, at); /* closed, and nothing in its place */
	}
}

/* PostgreSQL puts the name between quotation marks, in every language some pair of them. */
bool sqlprep_is_missing(const struct server *s, struct str message)
{
	const struct client *c = s->client;
	struct plain_stmt *at;
	TAILQ_FOREACH_REVERSE(at, &s->plain.lru, plain_queue, lru)
	{
		if (at->used_in != c->segment_no)
			return false;
		if (at->text && sqlprep_meaning(c, (struct str){ at->name, at->name_len }) && at->name_len &&
		    memmem(message.p, message.n, at->name, at->name_len))
			return true;
	}
	return false;
}

void sqlprep_note_left(struct server *s)
{
	s->plain.unknown = false;
	sqlprep_doubt(s);
}

void sqlprep_clear_server(struct server *s)
{
	queue_free(texts_of(s), &s->plain.effects);
	plain_clear(s);
}
