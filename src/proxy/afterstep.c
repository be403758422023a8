/* proxy/afterstep.c - see proxy/afterstep.h.
 *
 * It is not put into the client's own segment, though that would save a round trip: there it would run inside the
 * client's transaction, see what is not committed yet, and an error of it would undo the client's work. */
#include "proxy/afterstep.h"

#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/emit.h"
#include "proxy/pstmt.h"
#include "proxy/server.h"
#include "proxy/settings.h"
#include "proxy/worker.h"
#include "wire/msg.h"

static const struct after_part *const parts[AFTER_COUNT] = {
#define AFTER_PART(id, part) [AFTER_BIT_##id] = &part,
	AFTER_PARTS(AFTER_PART)
#undef AFTER_PART
};

/* SELECTs of all that is wanted, as one statement with its NUL. */
static bool put_query(struct buf *sql, const struct client *c, const struct server *s)
{
	bool ok = true, first = true;
	buf_clear(sql);
	for (unsigned i = 0; i < AFTER_COUNT && ok; i++) {
		if (!(c->after_wants >> i & 1u))
			continue;
		if (!first)
			ok = buf_put(sql, " UNION ALL ", 11);
		ok = ok && parts[i]->put_select(sql, c, s);
		first = false;
	}
	return ok && buf_put(sql, "", 1);
}

static void ask(struct client *c, struct server *s)
{
	struct buf *sql = &c->worker->reply;
	for (unsigned i = 0; i < AFTER_COUNT; i++) {
		if (c->after_wants >> i & 1u)
			parts[i]->begin(c, s);
	}
	if (put_query(sql, c, s))
		(void)emit_own_query(c, s, sql);
	else
		server_close(s, "out of memory");
}

bool afterstep_start(struct client *c)
{
	struct server *s = c->srv;
	/* A server that is closed when its client leaves is asked as long as the client keeps it. */
	if (!c->after_wants || s->state == SERVER_CLOSING || (s->dirty && !c->pins)) {
		c->after_wants = 0;
		return false;
	}
	c->seg.after = true;
	c->seg.after_failed = c->seg.after_torn = false;
	c->seg.sent_us = loop_now_us(c->worker->loop);
	client_set_state(c, CLIENT_ACTIVE);
	ask(c, s);
	return true;
}

void afterstep_row(struct client *c, struct server *s, const uint8_t *body, size_t have, size_t len)
{
	struct str letter, name, value;
	struct wire_reader values;
	uint16_t n;
	if (have < len || !msg_parse_data_row(body, have, &n, &values) || n != 3 || !msg_bind_next(&values, &letter) ||
	    !msg_bind_next(&values, &name) || !msg_bind_next(&values, &value) || letter.n != 1) {
		c->seg.after_torn = true;
		return;
	}
	for (unsigned i = 0; i < AFTER_COUNT; i++) {
		if ((c->after_wants >> i & 1u) && parts[i]->letter == *letter.p)
			parts[i]->row(c, s, name, value);
	}
}

bool afterstep_ready(struct client *c, struct server *s, bool failed)
{
	uint32_t wants = c->after_wants;
	bool ok = !failed && !c->seg.after_torn;
	if (!ok && !c->seg.after_failed) {
		/* Somebody may have deallocated it, or a cancel request has come late. */
		c->seg.after_failed = true;
		c->seg.after_torn = false;
		server_stmts_doubt(&s->stmts);
		ask(c, s);
		return false;
	}
	c->seg.after = false;
	c->after_wants = 0;
	for (unsigned i = 0; i < AFTER_COUNT && c->state != CLIENT_CLOSING; i++) {
		if (wants >> i & 1u)
			parts[i]->done(c, s, ok);
	}
	return true;
}

void afterstep_orphan(struct client *c, struct server *s)
{
	c->seg.after = false;
	c->after_wants = 0;
	if (s)
		s->suspect = true;
}
