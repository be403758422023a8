/* proxy/simple.c - see proxy/simple.h.
 *
 * Describe is sent each time although its answer could be remembered: it costs the server a microsecond and a half, and
 * makes what the client is told true after DDL of others too. */
#include "proxy/simple.h"

#include <xxhash.h>
#include "base/mem.h"
#include "base/rules.h"
#include "emit_priv.h"
#include "proxy/database.h"
#include "proxy/pool.h"
#include "proxy/pstmt.h"
#include "proxy/unnamed.h"
#include "proxy/worker.h"
#include "sql/binds.h"
#include "sql/shapes.h"
#include "wire/msg.h"

enum {
	TEXT_MAX = 8 * 1024,
	OID_INT4 = 23,
	REST_REFUSED = 16, /* true executions behind one that was refused: its values may be odd, or all of them */
	OTHERWISE_MAX =
	    8, /* times in a row that a shape's columns were not those of its Query, until it is left alone */
};

struct simple_shape {
	struct shape_extra extra;
	struct worker *worker;  /* borrowed */
	struct stmt_text *text; /* owned reference; NULL: unfit, for good */
	unsigned n;             /* parameters */
	unsigned otherwise;
	uint64_t columns; /* hash of the RowDescription of true Queries; 0: not known */
	struct unnamed_use use;
};

/* --- which shapes --- */

static void forget_text(struct simple_shape *x)
{
	stmt_text_unref(&x->worker->texts, x->text);
	x->text = NULL;
}

static void free_extra(struct shape_extra *extra)
{
	struct simple_shape *x = CONTAINER_OF(extra, struct simple_shape, extra);
	forget_text(x);
	mem_free(x);
}

static struct simple_shape *known(const struct sql_shape *shape)
{
	struct shape_extra *extra = shape_extra(shape);
	return extra ? CONTAINER_OF(extra, struct simple_shape, extra) : NULL;
}

/* Of a Parse message: the text with its NUL, then the types. */
static struct stmt_text *intern(struct worker *w, const struct sql_binds *b)
{
	struct buf *body = &w->reply;
	buf_clear(body);
	uint16_t n = htobe16((uint16_t)b->n);
	if (!buf_put(body, b->text, b->text_n + 1) || !buf_put(body, &n, sizeof n))
		return NULL;
	for (unsigned i = 0; i < b->n; i++) {
		uint32_t type = b->v[i].string ? 0 : htobe32(OID_INT4);
		if (!buf_put(body, &type, sizeof type))
			return NULL;
	}
	return stmt_texts_intern(&w->texts, buf_head(body), buf_len(body));
}

/* Every literal has become a parameter, and each of these stands where it means the same. */
static bool is_fit(struct worker *w, const struct sql_binds *b)
{
	struct sqlparse_options plain = { .std_strings = true };
	const struct sql_facts *f = shape_facts(shapes_get(w->shapes, (struct str){ b->text, b->text_n }, plain, NULL));
	return unnamed_fits(f) && sql_facts_verb(f) == SQL_SELECT && f->n_binds == b->n;
}

/* The first look at a shape.  NULL: this Query says nothing of others, or memory has run out. */
static struct simple_shape *look_at(struct worker *w, struct sql_shape *shape, struct str sql)
{
	char text[TEXT_MAX];
	struct sql_binds b = { .text = text, .text_size = sizeof text };
	if (!sql_binds(sql, &b))
		return NULL;
	struct simple_shape *x = mem_try_alloc(sizeof *x);
	if (!x)
		return NULL;
	*x = (struct simple_shape){ .extra.free_fn = free_extra, .worker = w, .n = b.n };
	if (unnamed_fits(shape_facts(shape)) && is_fit(w, &b))
		x->text = intern(w, &b);
	if (shape_set_extra(shape, &x->extra))
		return x;
	free_extra(&x->extra);
	return NULL;
}

/* What the shape's Queries may be run by, or NULL. */
static struct simple_shape *fit_shape(const struct client *c, const struct segment *seg, struct str sql)
{
	bool readable = c->sql_options.std_strings && !c->sql_options.ascii_unsafe;
	if (c->tx != CTX_NONE || c->pins || !readable || !seg->facts_id || !seg->shape || !seg->verdict.proved)
		return NULL;
	struct simple_shape *x = known(seg->shape);
	if (!x)
		x = look_at(c->worker, seg->shape, sql);
	return x && x->text ? x : NULL;
}

/* --- to the server --- */

static void put_value(struct emit *e, const struct sql_bind *b)
{
	const char *p = b->value.p, *end = p + b->value.n, *quote;
	size_t n = b->value.n;
	for (const char *q = p; b->string && (q = memchr(q, '\'', (size_t)(end - q))); q += 2)
		n--; /* two of them are one */
	ww_u32(&e->ww, (uint32_t)n);
	while (b->string && (quote = memchr(p, '\'', (size_t)(end - p)))) {
		ww_bytes(&e->ww, p, (size_t)(quote + 1 - p));
		p = quote + 2;
	}
	ww_bytes(&e->ww, p, (size_t)(end - p));
}

static void put_bind(struct emit *e, const struct stmt_text *text, const struct sql_binds *b)
{
	ww_begin(&e->ww, MSG_BIND);
	ww_str(&e->ww, STR(""));
	ww_str(&e->ww, stmt_text_server_name(text));
	ww_u16(&e->ww, 0); /* formats: all text */
	ww_u16(&e->ww, (uint16_t)b->n);
	for (unsigned i = 0; i < b->n; i++)
		put_value(e, &b->v[i]);
	ww_u16(&e->ww, 0);
	ww_end(&e->ww);
}

/* at: the server's statement, or NULL to parse it. */
static enum emit_result send_bound(struct client *c, struct server *s, const struct segment *seg,
                                   struct simple_shape *x, struct sstmt *at, const struct sql_binds *b)
{
	struct emit e;
	unsigned tells = at ? 0 : REQF_TELLS;
	emit_begin(&e, c, s);
	if (!at) {
		at = emit_fresh_entry(&e, x->text, emit_settings(c));
		if (!at)
			return emit_finish(&e);
		unnamed_note_parsed(c, seg, at);
		emit_push(&e, REQ_PARSE, REQF_SERVER_STMT | REQF_SWALLOW | REQF_SIMPLE)->sstmt = at;
		emit_put_parse(&e, stmt_text_server_name(x->text), x->text);
	}
	at->runs++;
	emit_push(&e, REQ_BIND, REQF_SWALLOW | REQF_SIMPLE)->sstmt = at;
	put_bind(&e, x->text, b);
	emit_push(&e, REQ_DESCRIBE_PORTAL, REQF_SIMPLE | tells)->sstmt = at;
	msg_put_describe(&e.ww, MSG_TARGET_PORTAL, STR(""));
	emit_push(&e, REQ_EXECUTE, REQF_SIMPLE);
	msg_put_execute(&e.ww, STR(""), 0);
	emit_push(&e, REQ_SYNC, 0);
	msg_put_sync(&e.ww);
	/* As behind any Query.  The server's own unnamed statement is not touched. */
	client_stmts_set_unnamed(&c->stmts, &c->worker->texts, NULL);
	c->seg.next_msg = 1;
	return emit_finish(&e);
}

bool simple_try(struct client *c, struct server *s, const struct segment *seg, const uint8_t *p,
                enum emit_result *result)
{
	const struct segment_msg *m = &seg->msgs[0];
	struct str sql = { (const char *)p + m->off + FRAME_HEAD_BYTES, m->len - FRAME_HEAD_BYTES - 1 };
	struct sql_binds b = { .text = NULL };
	struct simple_shape *x = fit_shape(c, seg, sql);
	if (!x || !sql_binds(sql, &b) || b.n != x->n)
		return false;
	struct sstmt *at = server_stmts_find(&s->stmts, x->text, c->segment_no);
	bool current = unnamed_is_current(c, seg, at);
	/* Clients who know the same text by a name rely on its columns (columns.h): not to be parsed anew at will. */
	if (!current && at && at->columns)
		return false;
	c->seg.simple = true;
	c->seg.unnamed = x->columns ? (uint8_t)unnamed_turn(&x->use) : UNNAMED_TRUE;
	if (c->seg.unnamed == UNNAMED_SHARED)
		*result = send_bound(c, s, seg, x, current ? at : NULL, &b);
	else
		*result = emit_query(c, s, seg, p, REQF_TELLS);
	return true;
}

/* --- from the server --- */

struct unnamed_use *simple_use(const struct client *c)
{
	struct simple_shape *x = c->seg.shape ? known(c->seg.shape) : NULL;
	return x ? &x->use : NULL;
}

bool simple_told(struct client *c, const struct request *r, const uint8_t *body, size_t have, size_t len)
{
	uint64_t columns = have < len ? 0 : XXH3_64bits(body, len);
	struct simple_shape *x = c->seg.shape ? known(c->seg.shape) : NULL;
	if (!x)
		return r->kind == REQ_QUERY;
	if (r->kind == REQ_QUERY) {
		x->columns = columns;
		return true;
	}
	if (columns && columns == x->columns) {
		x->otherwise = 0;
		return true;
	}
	x->columns = 0; /* the next true Query tells, and then this is parsed and compared anew */
	r->sstmt->facts_id = 0;
	if (++x->otherwise >= OTHERWISE_MAX)
		forget_text(x);
	return false;
}

void simple_refused(struct client *c, const struct request *r)
{
	struct simple_shape *x = c->seg.shape ? known(c->seg.shape) : NULL;
	if (r->kind == REQ_BIND || r->kind == REQ_PARSE)
		r->sstmt->facts_id = 0; /* parsed anew before its next use */
	if (x && r->kind == REQ_PARSE)
		forget_text(x);
	else if (x)
		x->use.rest = REST_REFUSED;
}
