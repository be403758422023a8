/* proxy/slow_text.c - see proxy/slow_text.h.  Nothing here runs unless a line is written. */
#include "proxy/slow_text.h"

#include <stdio.h>
#include <string.h>
#include "proxy/client.h"
#include "proxy/pstmt.h"
#include "wire/frame.h"
#include "wire/msg.h"

/* Of each value so much: a line of the log has an end too. */
enum { VALUE_BYTES_MAX = 200 };

static bool put_text(struct buf *b, const char *text) { return buf_put(b, text, strlen(text)); }

static bool set_text(struct buf *b, struct str text)
{
	buf_clear(b);
	return buf_put(b, text.p, text.n);
}

/* A quote is doubled, as in SQL; a cut value ends in dots. */
static bool put_value(struct buf *b, struct str value, bool binary)
{
	size_t n = value.n < VALUE_BYTES_MAX ? value.n : VALUE_BYTES_MAX;
	bool ok = true;
	if (!value.p)
		return put_text(b, "NULL");
	if (binary)
		return put_text(b, "(binary)");
	ok = put_text(b, "'");
	for (size_t i = 0; i < n && ok; i++)
		ok = buf_put(b, value.p[i] == '\'' ? "''" : &value.p[i], value.p[i] == '\'' ? 2 : 1);
	return ok && put_text(b, n < value.n ? "...'" : "'");
}

static bool is_binary(const struct msg_bind_rest *r, unsigned i)
{
	unsigned at = r->format_count == 1 ? 0 : i;
	return at < r->format_count && (r->formats[at * 2] || r->formats[at * 2 + 1]);
}

static bool put_values(struct buf *b, const struct msg_bind_rest *r)
{
	struct wire_reader values = r->values;
	struct str value;
	char name[16];
	bool ok = true;
	buf_clear(b);
	for (unsigned i = 0; i < r->value_count && ok && msg_bind_next(&values, &value); i++) {
		snprintf(name, sizeof name, "%s$%u = ", i ? ", " : "", i + 1);
		ok = put_text(b, name) && put_value(b, value, is_binary(r, i));
	}
	return ok;
}

/* A statement that an earlier segment has parsed; one of this segment is there already. */
static bool take_statement(const struct client *c, struct str name, struct buf *query)
{
	const struct cstmt *s = name.n ? client_stmts_find(&c->stmts, name) : NULL;
	const struct stmt_text *text = s ? s->text : c->stmts.unnamed;
	return !text || set_text(query, stmt_text_sql(text));
}

static bool take_message(const struct client *c, const struct frame *f, struct buf *query, struct buf *parameters)
{
	struct str sql;
	struct msg_parse p;
	struct msg_bind b;
	struct msg_bind_rest rest;
	switch (f->type) {
	case MSG_QUERY:
		sql = (struct str){ (const char *)f->body, f->body_len ? f->body_len - 1 : 0 };
		return set_text(query, sql);
	case MSG_PARSE:
		return msg_parse_parse(f->body, f->body_len, &p) && set_text(query, p.sql);
	case MSG_BIND:
		if (msg_peek_bind(f->body, f->body_len, f->body_len, &b) != FRAME_OK ||
		    !msg_parse_bind_rest(f->body + b.rest_offset, f->body_len - b.rest_offset, &rest))
			return false;
		return (buf_len(query) && !b.statement.n ? true : take_statement(c, b.statement, query)) &&
		       put_values(parameters, &rest);
	default:
		return true;
	}
}

bool slow_text_get(const struct client *c, struct buf *query, struct buf *parameters)
{
	const uint8_t *p = buf_head(&c->in);
	size_t left = c->seg.kept ? c->emitted : 0;
	struct frame f;
	bool ok = true;
	while (ok && left && frame_take(p, left, &f) == FRAME_OK) {
		size_t n = 1 + 4 + (size_t)f.body_len;
		ok = take_message(c, &f, query, parameters);
		p += n;
		left -= n;
	}
	return ok && buf_len(query) && buf_put(query, "", 1) && buf_put(parameters, "", 1);
}
