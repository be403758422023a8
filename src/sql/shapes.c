/* shapes.c - see sql/shapes.h.
 *
 * Eviction is a clock: a queue whose head leaves unless it was used since it was there last, in which case it goes to
 * the tail once more.  A hit writes one flag; a strict LRU would move list links on each query. */
#include "sql/shapes.h"
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
/* The key is a seeded hash already. */
#define HASH_FUNCTION(keyptr, keylen, hashv) memcpy(&(hashv), keyptr, sizeof(hashv))
#include <uthash.h>
#include "base/check.h"
#include "base/mem.h"
#include "base/rules.h"
#include "sql/catalog.h"
#include "sql/fingerprint.h"

enum { TEXT_MAX = 512, NO_CATALOG = 1, REFUSED_MAX = 4096 };
/* Behind a canonical text: settings that change what the same tokens mean. */
enum { MARK_BACKSLASH = 0x1e, MARK_ENCODING = 0x1f };

struct sql_shape {
	UT_hash_handle hh; /* in shapes.by_key */
	XXH128_hash_t key;
	TAILQ_ENTRY(sql_shape) link; /* in shapes.clock */
	unsigned refs;
	bool used;          /* since the clock's hand was here */
	bool refused;       /* by a standby */
	bool cached;        /* stands in by_key */
	uint64_t class_for; /* catalog_id() that class was made with, NO_CATALOG, or 0: none yet */
	struct route_class class;
	struct shape_use use;
	struct sql_facts *facts;   /* owned reference */
	struct shape_extra *extra; /* owned, or NULL; only while cached */
	struct sql_shape
	    *marker; /* owned reference: the cached shape that this parse of a literal-sensitive text is of */
	char text[];
};
TAILQ_HEAD(shape_queue, sql_shape);

/* What standbys have refused, whether its shape is in the cache or not. */
struct refused {
	UT_hash_handle hh; /* in shapes.refused, oldest first */
	XXH128_hash_t key;
};

struct shapes {
	struct sql_shape *by_key; /* each entry has a reference of ours */
	struct shape_queue clock;
	struct refused *refused; /* owned */
	struct sql_shape *loose; /* owned reference: the last shape that is in no cache */
	unsigned max_count;
	size_t max_bytes;
	struct shapes_stats stats;
	uint8_t canon[SQL_CANON_BYTES_MAX];
};

static size_t shape_bytes(const struct sql_shape *s) { return sizeof(*s) + strlen(s->text) + 1 + s->facts->bytes; }

/* --- shapes --- */

/* Where a literal ends is a guess in some encodings (a backslash may be half a character): then nothing is shown, since
 * this text goes to logs. */
static struct sql_shape *shape_new(struct sql_facts *facts, const uint8_t *canon, size_t n)
{
	char text[TEXT_MAX] = "(not shown: in an encoding that cannot be read for sure)";
	bool readable = !n || canon[n - 1] != MARK_ENCODING;
	if (n && canon[n - 1] == MARK_BACKSLASH)
		n--;
	size_t len = readable ? sql_canon_print(canon, n, text, sizeof(text)) : strlen(text);
	struct sql_shape *s = mem_zalloc(sizeof(*s) + len + 1);
	s->refs = 1;
	s->facts = facts;
	memcpy(s->text, text, len + 1);
	return s;
}

struct sql_shape *shape_ref(struct sql_shape *shape)
{
	CHECK(shape->refs > 0);
	shape->refs++;
	return shape;
}

void shape_unref(struct sql_shape *shape)
{
	while (shape) {
		CHECK(shape->refs > 0);
		if (--shape->refs > 0)
			return;
		struct sql_shape *marker = shape->marker;
		sql_facts_unref(shape->facts);
		mem_free(shape);
		shape = marker;
	}
}

const struct sql_facts *shape_facts(const struct sql_shape *shape) { return shape->facts; }
const char *shape_text(const struct sql_shape *shape) { return shape->text; }

/* A parse of its own is gone after the statement; the shape in the cache stays. */
struct shape_use *shape_use(struct sql_shape *shape) { return shape->marker ? &shape->marker->use : &shape->use; }

struct shape_extra *shape_extra(const struct sql_shape *shape) { return shape->extra; }

bool shape_set_extra(struct sql_shape *shape, struct shape_extra *extra)
{
	CHECK(!shape->extra);
	if (shape->cached)
		shape->extra = extra;
	return shape->cached;
}

void shape_use_sum(struct shape_use *to, const struct shape_use *from)
{
	to->calls += from->calls;
	to->errors += from->errors;
	to->to_replica += from->to_replica;
	to->us += from->us;
	to->wait_us += from->wait_us;
	to->rows += from->rows;
	to->bytes += from->bytes;
	if (from->max_us > to->max_us)
		to->max_us = from->max_us;
	histogram_sum(&to->latency, &from->latency);
}

void shapes_each_used(const struct shapes *s, shape_visitor *fn, void *arg)
{
	const struct sql_shape *shape;
	TAILQ_FOREACH(shape, &s->clock, link)
	{
		uint8_t key[SHAPE_KEY_BYTES];
		if (!shape->use.calls)
			continue;
		memcpy(key, &shape->key, sizeof key);
		fn(key, shape->text, &shape->use, arg);
	}
}

static bool is_refused(const struct sql_shape *s) { return s->refused || (s->marker && s->marker->refused); }

static void shape_classify(struct sql_shape *s, const struct catalog *catalog, uint64_t id)
{
	s->class = route_classify(s->facts, catalog);
	s->class_for = id;
	if (is_refused(s) && !s->class.follows)
		s->class.reason = REASON_REFUSED;
}

struct route_verdict shape_route(struct sql_shape *shape, const struct catalog *catalog,
                                 const struct route_policy *policy)
{
	uint64_t id = catalog ? catalog_id(catalog) : NO_CATALOG;
	if (UNLIKELY(shape->class_for != id))
		shape_classify(shape, catalog, id);
	return route_apply(&shape->class, policy);
}

bool shape_mark_refused(struct sql_shape *shape, const char sqlstate[5])
{
	static const char states[][6] = { "25006", "0A000", "55000", "XX000" };
	for (size_t i = 0; i < ARRAY_LEN(states) && !RULE_BROKEN(F1); i++) {
		if (memcmp(sqlstate, states[i], 5) != 0)
			continue;
		shape->refused = true;
		shape->class_for = 0;
		if (shape->marker)
			shape->marker->refused = true;
		return true;
	}
	return false;
}

bool shape_mark_refused_anywhere(struct sql_shape *shape, const char sqlstate[5])
{
	const uint32_t writes = SQL_F_WRITES | SQL_F_INTO | SQL_F_LOCKS_ROWS;
	const struct sql_facts *f = shape->facts;
	bool reads =
	    f->n_stmts == 1 && !(f->flags & writes) &&
	    (f->stmts[0].verb == SQL_SELECT || f->stmts[0].verb == SQL_COPY_TO || f->stmts[0].verb == SQL_EXPLAIN);
	return reads && !is_refused(shape) && shape_mark_refused(shape, sqlstate);
}

bool shape_key(const struct sql_shape *shape, uint8_t key[SHAPE_KEY_BYTES])
{
	const struct sql_shape *cached = shape->marker ? shape->marker : shape;
	memcpy(key, &cached->key, sizeof cached->key);
	return cached->key.low64 || cached->key.high64;
}

/* --- the cache --- */

static struct refused *find_refused(const struct shapes *s, XXH128_hash_t key)
{
	struct refused *r = NULL;
	if (s->refused)
		HASH_FIND(hh, s->refused, &key, sizeof key, r);
	return r;
}

static void forget_refused(struct shapes *s)
{
	struct refused *oldest = s->refused;
	HASH_DEL(s->refused, oldest);
	mem_free(oldest);
}

void shapes_note_refused(struct shapes *s, const uint8_t bytes[SHAPE_KEY_BYTES])
{
	struct sql_shape *shape;
	XXH128_hash_t key;
	memcpy(&key, bytes, sizeof key);
	HASH_FIND(hh, s->by_key, &key, sizeof(key), shape);
	if (shape) {
		shape->refused = true;
		shape->class_for = 0;
	}
	if (find_refused(s, key))
		return;
	if (s->refused && HASH_COUNT(s->refused) >= REFUSED_MAX)
		forget_refused(s);
	struct refused *r = mem_zalloc(sizeof *r);
	r->key = key;
	HASH_ADD(hh, s->refused, key, sizeof r->key, r);
}

struct shapes *shapes_new(unsigned max_count, size_t max_bytes)
{
	struct shapes *s = mem_alloc(sizeof(*s));
	CHECK(max_count > 0);
	s->by_key = NULL;
	s->refused = NULL;
	s->loose = NULL;
	s->max_count = max_count;
	s->max_bytes = max_bytes;
	s->stats = (struct shapes_stats){ 0 };
	TAILQ_INIT(&s->clock);
	return s;
}

static void shapes_drop(struct shapes *s, struct sql_shape *shape)
{
	HASH_DEL(s->by_key, shape);
	TAILQ_REMOVE(&s->clock, shape, link);
	s->stats.count--;
	s->stats.bytes -= shape_bytes(shape);
	shape->cached = false;
	if (shape->extra)
		shape->extra->free_fn(shape->extra);
	shape->extra = NULL;
	shape_unref(shape);
}

void shapes_free(struct shapes *s)
{
	if (!s)
		return;
	while (!TAILQ_EMPTY(&s->clock))
		shapes_drop(s, TAILQ_FIRST(&s->clock));
	shape_unref(s->loose);
	while (s->refused)
		forget_refused(s);
	mem_free(s);
}

struct shapes_stats shapes_stats(const struct shapes *s) { return s->stats; }

static void shapes_make_room(struct shapes *s)
{
	while (s->stats.count >= s->max_count || (s->stats.bytes > s->max_bytes && s->stats.count > 0)) {
		struct sql_shape *shape = TAILQ_FIRST(&s->clock);
		if (shape->used) {
			shape->used = false;
			TAILQ_REMOVE(&s->clock, shape, link);
			TAILQ_INSERT_TAIL(&s->clock, shape, link);
			continue;
		}
		s->stats.evicted++;
		shapes_drop(s, shape);
	}
}

static struct sql_shape *shapes_add(struct shapes *s, struct sql_shape *shape, XXH128_hash_t key)
{
	shapes_make_room(s);
	shape->key = key;
	shape->refused = find_refused(s, key) != NULL;
	shape->cached = true;
	HASH_ADD(hh, s->by_key, key, sizeof(shape->key), shape);
	TAILQ_INSERT_TAIL(&s->clock, shape, link);
	s->stats.count++;
	s->stats.bytes += shape_bytes(shape);
	return shape;
}

static struct sql_shape *shapes_keep_loose(struct shapes *s, struct sql_shape *shape)
{
	shape_unref(s->loose);
	s->loose = shape;
	return shape;
}

/* F5: what a literal-free key cannot tell apart is parsed each time; the cached shape only says so. */
static struct sql_shape *shapes_reparse(struct shapes *s, struct sql_shape *marker, struct str sql,
                                        struct sqlparse_options options, size_t n)
{
	struct sql_shape *shape = shape_new(sqlparse(sql, options), s->canon, n);
	shape->marker = shape_ref(marker);
	s->stats.reparsed++;
	return shapes_keep_loose(s, shape);
}

static void mark_options(uint8_t *canon, struct sql_canon *info, struct sqlparse_options options)
{
	if (info->backslash)
		canon[info->n++] = MARK_BACKSLASH;
	if (options.ascii_unsafe && info->high_bytes)
		canon[info->n++] = MARK_ENCODING;
}

struct sql_shape *shapes_get(struct shapes *s, struct str sql, struct sqlparse_options options,
                             struct sql_hint *hint_out)
{
	struct sql_canon info;
	struct sql_shape *shape;
	if (hint_out)
		(void)lexer_hint(sql, hint_out);
	if (UNLIKELY(sql.n > SQL_PARSE_BYTES_MAX)) {
		s->stats.misses++;
		struct str start = { sql.p, TEXT_MAX };
		sql_canon(start, options.std_strings, s->canon, &info);
		mark_options(s->canon, &info, options);
		return shapes_keep_loose(s, shape_new(sqlparse(sql, options), s->canon, info.n));
	}
	sql_canon(sql, options.std_strings, s->canon, &info);
	mark_options(s->canon, &info, options);
	XXH128_hash_t key = sql_canon_hash(s->canon, &info);
	HASH_FIND(hh, s->by_key, &key, sizeof(key), shape);
	if (LIKELY(shape != NULL)) {
		s->stats.hits++;
		shape->used = true;
		if (UNLIKELY((shape->facts->flags & SQL_F_LITERAL_SENSITIVE) && !RULE_BROKEN(F5)))
			return shapes_reparse(s, shape, sql, options, info.n);
		return shape;
	}
	s->stats.misses++;
	return shapes_add(s, shape_new(sqlparse(sql, options), s->canon, info.n), key);
}
