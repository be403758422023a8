/* proxy/pstmt.c - see proxy/pstmt.h.
 *
 * Texts are found by XXH3-128 of the Parse body and then compared byte by byte: a collision must not hand one client
 * another one's query.  Texts that nobody holds stay for a while, bounded in bytes, because drivers without a
 * statement cache send the same unnamed Parse again and again; in that steady state nothing is allocated. */
#include "proxy/pstmt.h"

#include <stdatomic.h>
#include <stdio.h>
#include "base/mem.h"

static _Atomic uint32_t next_text_id = 1;

void stmt_texts_init(struct stmt_texts *t, size_t max_unused_bytes, void (*shape_unref)(struct sql_shape *))
{
	*t = (struct stmt_texts){ .max_unused_bytes = max_unused_bytes, .shape_unref = shape_unref };
	TAILQ_INIT(&t->unused);
}

static void text_free(struct stmt_texts *t, struct stmt_text *s)
{
	HASH_DEL(t->by_key, s);
	if (s->shape)
		t->shape_unref(s->shape);
	mem_free(s);
}

static void drop_unused(struct stmt_texts *t, size_t limit)
{
	while (t->unused_bytes > limit) {
		struct stmt_text *s = TAILQ_FIRST(&t->unused);
		TAILQ_REMOVE(&t->unused, s, link);
		t->unused_bytes -= s->body_len;
		t->n_unused--;
		text_free(t, s);
	}
}

void stmt_texts_deinit(struct stmt_texts *t) { drop_unused(t, 0); }

struct stmt_text *stmt_text_ref(struct stmt_text *s)
{
	s->refs++;
	return s;
}

void stmt_text_unref(struct stmt_texts *t, struct stmt_text *s)
{
	if (!s)
		return;
	CHECK(s->refs > 0);
	if (--s->refs)
		return;
	TAILQ_INSERT_TAIL(&t->unused, s, link);
	t->unused_bytes += s->body_len;
	t->n_unused++;
	drop_unused(t, t->max_unused_bytes);
}

static struct stmt_text *text_new(struct stmt_texts *t, XXH128_hash_t key, const uint8_t *body, size_t n)
{
	struct stmt_text *s = mem_try_alloc(sizeof *s + n);
	if (!s)
		return NULL;
	*s = (struct stmt_text){
		.key = key,
		.refs = 1,
		.id = atomic_fetch_add(&next_text_id, 1),
		.body_len = (uint32_t)n,
		.sql_len = (uint32_t)strnlen((const char *)body, n),
	};
	stmt_text_make_name(s);
	memcpy(s->body, body, n);
	HASH_ADD(hh, t->by_key, key, sizeof s->key, s);
	return s;
}

struct stmt_text *stmt_texts_intern(struct stmt_texts *t, const uint8_t *body, size_t n)
{
	XXH128_hash_t key = XXH3_128bits(body, n);
	struct stmt_text *s;
	HASH_FIND(hh, t->by_key, &key, sizeof key, s);
	while (s && (s->body_len != n || memcmp(s->body, body, n) != 0)) {
		/* Two texts with one 128-bit hash: the later one lives under the next key. */
		key.low64++;
		HASH_FIND(hh, t->by_key, &key, sizeof key, s);
	}
	if (!s)
		return text_new(t, key, body, n);
	if (s->refs++ == 0) {
		TAILQ_REMOVE(&t->unused, s, link);
		t->unused_bytes -= s->body_len;
		t->n_unused--;
	}
	return s;
}

struct str stmt_text_sql(const struct stmt_text *s) { return (struct str){ (const char *)s->body, s->sql_len }; }

void stmt_text_make_name(struct stmt_text *s)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = sizeof PSTMT_PREFIX - 1;
	char *out = s->server_name;
	memcpy(out, PSTMT_PREFIX, n);
	int shift = 28;
	while (shift > 0 && (s->id >> shift & 15) == 0)
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		out[n++] = digits[s->id >> shift & 15];
	out[n] = '\0';
	s->server_name_len = (uint8_t)n;
}

/* --- a client's names --- */

static void cstmt_free(struct cstmt *s, struct stmt_texts *t)
{
	stmt_text_unref(t, s->text);
	mem_free(s);
}

void client_stmts_deinit(struct client_stmts *c, struct stmt_texts *t)
{
	struct cstmt *s, *next;
	c->last = NULL;
	HASH_ITER(hh, c->by_name, s, next)
	{
		HASH_DEL(c->by_name, s);
		while (s) {
			struct cstmt *older = s->older;
			cstmt_free(s, t);
			s = older;
		}
	}
	client_stmts_set_unnamed(c, t, NULL);
	client_stmts_clear_sent(c, t);
}

static struct cstmt *newest(const struct client_stmts *c, struct str name)
{
	struct cstmt *s;
	HASH_FIND(hh, c->by_name, name.p, name.n, s);
	return s;
}

static bool is_called(const struct cstmt *s, struct str name)
{
	return s->name_len == name.n && memcmp(s->name, name.p, name.n) == 0;
}

struct cstmt *client_stmts_find(const struct client_stmts *c, struct str name)
{
	struct cstmt *s = newest(c, name);
	return s && s->state != CSTMT_CLOSING ? s : NULL;
}

struct cstmt *client_stmts_recall(struct client_stmts *c, struct str name)
{
	if (!c->last || !is_called(c->last, name))
		c->last = newest(c, name);
	return c->last && c->last->state != CSTMT_CLOSING ? c->last : NULL;
}

struct cstmt *client_stmts_parse(struct client_stmts *c, struct str name, struct stmt_text *text)
{
	struct cstmt *s = mem_try_alloc(sizeof *s + name.n), *old = newest(c, name);
	if (!s)
		return NULL;
	*s = (struct cstmt){
		.older = old, .text = stmt_text_ref(text), .state = CSTMT_PARSING, .name_len = (uint32_t)name.n
	};
	memcpy(s->name, name.p, name.n);
	if (old)
		HASH_DEL(c->by_name, old);
	HASH_ADD(hh, c->by_name, name, s->name_len, s);
	c->last = s;
	return s;
}

/* Takes one entry out of its name's chain and frees it. */
void client_stmts_remove(struct client_stmts *c, struct stmt_texts *t, struct cstmt *s)
{
	struct cstmt *head = newest(c, (struct str){ s->name, s->name_len });
	CHECK(head);
	c->last = NULL;
	if (head == s) {
		HASH_DEL(c->by_name, s);
		if (s->older)
			HASH_ADD(hh, c->by_name, name, s->older->name_len, s->older);
	} else {
		struct cstmt *at = head;
		while (at->older != s) {
			at = at->older;
			CHECK(at);
		}
		at->older = s->older;
	}
	cstmt_free(s, t);
}

void client_stmts_parse_done(struct client_stmts *c, struct stmt_texts *t, struct cstmt *s, bool ok)
{
	CHECK(s->state != CSTMT_CONFIRMED);
	if (!ok && s->state == CSTMT_CLOSING)
		s->failed = true;
	else if (!ok)
		client_stmts_remove(c, t, s);
	else if (s->state == CSTMT_PARSING)
		s->state = CSTMT_CONFIRMED;
}

void client_stmts_close(struct cstmt *s) { s->state = CSTMT_CLOSING; }

void client_stmts_close_done(struct client_stmts *c, struct stmt_texts *t, struct cstmt *s, bool ok)
{
	CHECK(s->state == CSTMT_CLOSING);
	if (ok || s->failed)
		client_stmts_remove(c, t, s);
	else
		s->state = CSTMT_CONFIRMED;
}

/* What is on its way behind it lives on. */
void client_stmts_drop_confirmed(struct client_stmts *c, struct stmt_texts *t)
{
	struct cstmt *s, *next;
	HASH_ITER(hh, c->by_name, s, next)
	{
		if (s->state == CSTMT_CONFIRMED)
			client_stmts_remove(c, t, s);
	}
}

void client_stmts_set_sent(struct client_stmts *c, struct stmt_texts *t, struct stmt_text *text)
{
	if (text)
		stmt_text_ref(text);
	stmt_text_unref(t, c->sent);
	c->sent = text;
	c->has_sent = true;
	c->large = false;
}

void client_stmts_clear_sent(struct client_stmts *c, struct stmt_texts *t)
{
	if (!c->has_sent)
		return;
	stmt_text_unref(t, c->sent);
	c->sent = NULL;
	c->has_sent = false;
}

void client_stmts_set_unnamed(struct client_stmts *c, struct stmt_texts *t, struct stmt_text *text)
{
	if (text)
		stmt_text_ref(text);
	stmt_text_unref(t, c->unnamed);
	c->unnamed = text;
	c->unnamed_told = 0;
	c->large = false;
}

/* --- a backend's statements --- */

void server_stmts_init(struct server_stmts *s)
{
	*s = (struct server_stmts){ 0 };
	TAILQ_INIT(&s->lru);
}

void server_stmts_clear(struct server_stmts *s, struct stmt_texts *t)
{
	struct sstmt *e;
	while ((e = TAILQ_FIRST(&s->lru)))
		server_stmts_remove(s, t, e);
	mem_free(s->by_text);
	s->by_text = NULL;
	s->n_places = 0;
	server_stmts_set_unnamed(s, t, NULL);
}

/* With ten thousand statements on each of ten backends what a look-up costs is memory that is not in the cache.  So the
 * table is an array with no chains to walk (ids count up, which is as good as a hash), at most half full, and that a
 * statement was used is noted in itself, not by moving it in a queue between neighbours. */
static unsigned place_of(const struct server_stmts *s, const struct stmt_text *text)
{
	unsigned i = text->id & (s->n_places - 1);
	while (s->by_text[i] && s->by_text[i]->text != text)
		i = (i + 1) & (s->n_places - 1);
	return i;
}

struct sstmt *server_stmts_find(struct server_stmts *s, const struct stmt_text *text, uint32_t segment)
{
	struct sstmt *e = s->by_text ? s->by_text[place_of(s, text)] : NULL;
	if (!e)
		return NULL;
	e->used_in = segment;
	e->again = true;
	return e;
}

static bool make_place(struct server_stmts *s)
{
	unsigned n = s->n_places ? 2 * s->n_places : 16;
	struct sstmt *e;
	if (2 * (s->n + 1) <= s->n_places)
		return true;
	struct sstmt **places = mem_try_alloc(n * sizeof(struct sstmt *));
	if (!places)
		return false;
	memset(places, 0, n * sizeof(struct sstmt *));
	mem_free(s->by_text);
	s->by_text = places;
	s->n_places = n;
	TAILQ_FOREACH(e, &s->lru, lru)
	places[place_of(s, e->text)] = e;
	return true;
}

struct sstmt *server_stmts_add(struct server_stmts *s, struct stmt_text *text, uint32_t segment)
{
	struct sstmt *e = make_place(s) ? mem_try_alloc(sizeof *e) : NULL;
	if (!e)
		return NULL;
	*e = (struct sstmt){ .text = stmt_text_ref(text), .present = true, .used_in = segment };
	CHECK(!s->by_text[place_of(s, text)]);
	s->by_text[place_of(s, text)] = e;
	TAILQ_INSERT_TAIL(&s->lru, e, lru);
	s->n++;
	return e;
}

struct sstmt *server_stmts_victim(struct server_stmts *s, unsigned max, uint32_t segment)
{
	struct sstmt *e;
	if (s->n < max)
		return NULL;
	/* Each is put off once: at the second look none has `again`. */
	while ((e = TAILQ_FIRST(&s->lru)) && e->again) {
		e->again = false;
		TAILQ_REMOVE(&s->lru, e, lru);
		TAILQ_INSERT_TAIL(&s->lru, e, lru);
	}
	TAILQ_FOREACH(e, &s->lru, lru)
	{
		if (e->used_in != segment)
			return e;
	}
	return NULL;
}

/* Those behind it that would stand at its place, or before, move up: a look-up ends at the first free place. */
static void free_place(struct server_stmts *s, unsigned hole)
{
	unsigned mask = s->n_places - 1;
	for (unsigned i = (hole + 1) & mask; s->by_text[i]; i = (i + 1) & mask) {
		unsigned wish = s->by_text[i]->text->id & mask;
		if (((i - wish) & mask) < ((i - hole) & mask))
			continue;
		s->by_text[hole] = s->by_text[i];
		hole = i;
	}
	s->by_text[hole] = NULL;
}

void server_stmts_doubt(struct server_stmts *s)
{
	struct sstmt *e;
	TAILQ_FOREACH(e, &s->lru, lru)
	e->present = false;
}

void server_stmts_remove(struct server_stmts *s, struct stmt_texts *t, struct sstmt *e)
{
	free_place(s, place_of(s, e->text));
	TAILQ_REMOVE(&s->lru, e, lru);
	s->n--;
	stmt_text_unref(t, e->text);
	mem_free(e);
}

void server_stmts_set_unnamed(struct server_stmts *s, struct stmt_texts *t, struct stmt_text *text)
{
	s->unnamed_columns = 0;
	s->unnamed_no++;
	if (s->unnamed == text)
		return;
	if (text)
		stmt_text_ref(text);
	stmt_text_unref(t, s->unnamed);
	s->unnamed = text;
}
