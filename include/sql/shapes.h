/* sql/shapes.h - statement text -> facts and class, parsed once per shape; a bounded cache of one worker.
 *
 *   text --lexer--> canonical text --hash--> shape { facts, class for the catalog seen last, refused? }
 *
 * A hit costs a scan of the text, one hash and one look-up, and allocates nothing.  Shapes whose literals say what
 * they are (F5) have a marker in the cache and are parsed each time.  Entries leave by a clock hand when there are too
 * many or they hold too much memory; whoever holds a reference keeps his.
 *
 * Owner: worker; not thread-safe. */
#ifndef SQL_SHAPES_H
#define SQL_SHAPES_H

#include <stdbool.h>
#include <stdint.h>
#include "base/histogram.h"
#include "base/str.h"
#include "sql/facts.h"
#include "sql/lexer.h"
#include "sql/route.h"
#include "sql/sqlparse.h"

struct shapes;
struct sql_shape;
struct catalog;

enum { SHAPES_DEFAULT_COUNT = 20000, SHAPES_DEFAULT_BYTES = 64 * 1024 * 1024 };

struct shapes_stats {
	uint64_t hits, misses, reparsed, evicted;
	size_t count, bytes;
};

/* What a shape's executions have cost; here because it shares the shape's life and bound. */
struct shape_use {
	uint64_t calls, errors, to_replica, us, wait_us, max_us, rows, bytes;
	struct histogram latency;
};
struct shape_sample {
	uint64_t us, wait_us, rows, bytes; /* us includes wait_us */
	bool failed, replica;
};
static inline void shape_use_add(struct shape_use *u, const struct shape_sample *s)
{
	u->calls++;
	u->errors += s->failed;
	u->to_replica += s->replica;
	u->us += s->us;
	u->wait_us += s->wait_us;
	u->rows += s->rows;
	u->bytes += s->bytes;
	if (s->us > u->max_us)
		u->max_us = s->us;
	histogram_add(&u->latency, s->us);
}
void shape_use_sum(struct shape_use *to, const struct shape_use *from);

/* What a higher layer knows of a shape; embedded in its own struct, which free_fn frees when the shape leaves the
 * cache. */
struct shape_extra {
	void (*free_fn)(struct shape_extra *extra);
};

struct shapes *shapes_new(unsigned max_count, size_t max_bytes) MUSTCHECK;
void shapes_free(struct shapes *s); /* NULL is fine; shapes that others hold live on */
struct shapes_stats shapes_stats(const struct shapes *s);

/* Never NULL.  Borrowed: valid until the next shapes_get() unless shape_ref() is called.  hint_out may be NULL; it
 * borrows the text. */
struct sql_shape *shapes_get(struct shapes *s, struct str sql, struct sqlparse_options options,
                             struct sql_hint *hint_out);

struct sql_shape *shape_ref(struct sql_shape *shape);
void shape_unref(struct sql_shape *shape);                          /* NULL is fine */
const struct sql_facts *shape_facts(const struct sql_shape *shape); /* borrowed */
/* The statement with ? for its literals; borrowed, cut at some hundred bytes. */
const char *shape_text(const struct sql_shape *shape);
/* Where its executions are counted; borrowed, lives as long as the shape. */
struct shape_use *shape_use(struct sql_shape *shape);
struct shape_extra *shape_extra(const struct sql_shape *shape); /* borrowed; NULL: none */
/* Takes it over, whose place must be empty; false: the shape is not in the cache, and nothing was taken. */
bool shape_set_extra(struct sql_shape *shape, struct shape_extra *extra) MUSTCHECK;
/* Every shape in the cache that was executed; key: equal for equal shapes of all workers. */
enum { SHAPE_KEY_BYTES = 16 };
typedef void shape_visitor(const uint8_t key[SHAPE_KEY_BYTES], const char *text, const struct shape_use *use,
                           void *arg);
void shapes_each_used(const struct shapes *s, shape_visitor *fn, void *arg);
/* Nanoseconds while the catalog is the one of the last call. */
struct route_verdict shape_route(struct sql_shape *shape, const struct catalog *catalog,
                                 const struct route_policy *policy);
/* A standby refused it (F1): from now on the primary.  False when the SQLSTATE does not say so about the statement
 * (only 25006, 0A000, 55000 and XX000 do). */
bool shape_mark_refused(struct sql_shape *shape, const char sqlstate[5]);
/* The primary itself has answered it so: there is no use in asking a standby first.  Reads only; false as above. */
bool shape_mark_refused_anywhere(struct sql_shape *shape, const char sqlstate[5]);
/* Its key, for shapes_note_refused() of other workers; false: it has none. */
bool shape_key(const struct sql_shape *shape, uint8_t key[SHAPE_KEY_BYTES]);
/* Another worker has marked the shape of that key: so is it here, now or when it comes (a bounded number of them). */
void shapes_note_refused(struct shapes *s, const uint8_t key[SHAPE_KEY_BYTES]);

#endif
