/* proxy/columns.c - see proxy/columns.h.
 *
 * Every copy of a statement on a server has the columns of its Parse or fails, so that what one Describe of it has said
 * holds for all clients and for the whole of its life. */
#include "proxy/columns.h"

#include <string.h>
#include <xxhash.h>
#include "base/rules.h"
#include "proxy/client.h"
#include "proxy/segment.h"
#include "proxy/server.h"
#include "wire/frame.h"
#include "wire/msg.h"

enum { COLUMNS_NONE = 1 };

uint64_t columns_hash(const uint8_t *body, size_t have, size_t len)
{
	/* Behind a name: table (4) and column number (2), type (4), its length (2) and modifier (4), format (2). */
	enum { TABLE_BYTES = 6, TYPE_BYTES = 10, BEHIND_NAME = 18, COUNT_BYTES = 2 };
	uint64_t hash = COLUMNS_NONE;
	if (!body)
		return hash;
	if (have < len || len < COUNT_BYTES)
		return 0;
	for (const uint8_t *p = body + COUNT_BYTES, *end = body + len; p < end;) {
		const uint8_t *nul = memchr(p, 0, (size_t)(end - p));
		if (!nul || end - nul < 1 + BEHIND_NAME)
			return 0;
		hash = XXH3_64bits_withSeed(p, (size_t)(nul - p), hash);
		hash = XXH3_64bits_withSeed(nul + 1 + TABLE_BYTES, TYPE_BYTES, hash);
		p = nul + 1 + BEHIND_NAME;
	}
	return hash ? hash : COLUMNS_NONE;
}

void columns_learn(struct server *s, const struct request *r, uint64_t columns)
{
	struct client *c = s->client;
	bool shown = c && !(r->flags & REQF_SWALLOW);
	if (r->flags & REQF_OF_UNNAMED) {
		if (r->unnamed_no == s->stmts.unnamed_no)
			s->stmts.unnamed_columns = columns;
		if (shown)
			c->stmts.unnamed_told = columns;
		return;
	}
	if (r->sstmt)
		r->sstmt->columns = columns;
	if (shown && r->cstmt)
		r->cstmt->told = columns;
}

void columns_forget_told(struct server *s, const struct cstmt *told)
{
	for (uint32_t i = 0; i < requests_len(&s->reqs); i++) {
		struct request *r = requests_at(&s->reqs, i);
		if (r->flags & REQF_COLUMNS && (!told || r->cstmt == told))
			r->cstmt = NULL;
	}
}

void columns_forget_copy(struct server *s, const struct sstmt *copy)
{
	for (uint32_t i = 0; i < requests_len(&s->reqs); i++) {
		struct request *r = requests_at(&s->reqs, i);
		if (r->flags & REQF_COLUMNS && !(r->flags & REQF_OF_UNNAMED) && r->sstmt == copy)
			r->sstmt = NULL;
	}
}

/* A Describe whose answer the client had before the segment was run again has told it nothing new. */
static bool is_shown_anew(const struct client *c, unsigned i)
{
	return !c->seg.retried || c->seg.next_msg + i >= c->seg.shown_msgs;
}

/* Something in front of the Bind makes the statement or says what its columns are. */
static bool is_told_before(const struct client *c, const struct segment *seg, unsigned bind)
{
	for (unsigned i = 0; i < bind; i++) {
		const struct segment_msg *m = &seg->msgs[i];
		bool names = m->type == MSG_PARSE || (m->type == MSG_CLOSE && m->target == MSG_TARGET_STATEMENT) ||
		             (m->type == MSG_DESCRIBE && m->target == MSG_TARGET_STATEMENT && is_shown_anew(c, i));
		if (names && str_eq(m->name, seg->msgs[bind].name))
			return true;
	}
	return false;
}

/* The client asks for the portal's columns before its rows come. */
static bool is_told_behind(const struct client *c, const struct segment *seg, unsigned bind)
{
	struct str portal = seg->msgs[bind].portal;
	for (unsigned i = bind + 1; i < seg->n; i++) {
		const struct segment_msg *m = &seg->msgs[i];
		if (m->type == MSG_DESCRIBE && m->target == MSG_TARGET_PORTAL && str_eq(m->name, portal))
			return is_shown_anew(c, i);
		if ((m->type == MSG_EXECUTE || m->type == MSG_BIND) && str_eq(m->portal, portal))
			return false;
	}
	return false;
}

uint64_t columns_relied_on(struct client *c, const struct segment *seg, unsigned i)
{
	const struct segment_msg *m = &seg->msgs[i];
	uint64_t told;
	if (m->type != MSG_BIND || !m->text || RULE_BROKEN(D3))
		return 0;
	if (m->name.n) {
		const struct cstmt *s = client_stmts_recall(&c->stmts, m->name);
		told = s ? s->told : 0;
	} else {
		told = c->stmts.unnamed_told;
	}
	if (!told || is_told_before(c, seg, i) || is_told_behind(c, seg, i))
		return 0;
	return told;
}

bool columns_are_relied_on(const struct client *c)
{
	const uint8_t *p = buf_head(&c->in), *end = p + c->emitted;
	struct frame_head h;
	bool relies = false, parsed = false;
	for (; p < end && frame_peek(p, (size_t)(end - p), &h) == FRAME_OK && h.len <= (size_t)(end - p); p += h.len) {
		struct msg_bind bind;
		size_t body = h.len - FRAME_HEAD_BYTES;
		if (h.type == MSG_DESCRIBE)
			return false;
		parsed |= h.type == MSG_PARSE;
		if (h.type != MSG_BIND || msg_peek_bind(p + FRAME_HEAD_BYTES, body, body, &bind) != FRAME_OK)
			continue;
		const struct cstmt *s = bind.statement.n ? client_stmts_find(&c->stmts, bind.statement) : NULL;
		relies |= bind.statement.n ? s && s->told : !parsed;
	}
	return relies;
}
