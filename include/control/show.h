/* control/show.h - SHOW tables: a list of columns and a producer of rows; console, JSON and metrics read the same rows.
 *
 * A table is gathered in steps: begin on the asker's thread, collect on each worker's own thread (so that it may look
 * at that worker's clients and pools), finish on the asker's thread again.  All values are text; the type of a column
 * says how a client or JSON should read it.
 *
 * Columns that PgBouncer has stand first, in its order: its exporters read by name, but some break on a column that
 * is not at the end. */
#ifndef CONTROL_SHOW_H
#define CONTROL_SHOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/check.h"
#include "base/str.h"
#include "conf/config.h"

/* What SHOW VERSION and --version say; tools look for the version of PgBouncer that they know. */
#define SHOW_VERSION_TEXT "pgweir " PGWEIR_VERSION " (PgBouncer 1.25 compatible)"

struct loop;
struct usage_table;
struct worker;

#define SHOW_TYPES(X) X(TEXT, 25) X(INT, 23) X(BIGINT, 20) X(NUMERIC, 1700)
enum show_type {
#define SHOW_TYPE_ENUM(id, oid) SHOW_##id,
	SHOW_TYPES(SHOW_TYPE_ENUM)
#undef SHOW_TYPE_ENUM
};
uint32_t show_type_oid(enum show_type type);

struct show_column {
	const char *name;
	enum show_type type;
};

enum { SHOW_COLUMNS_MAX = 40 };

/* --- rows --- */
struct show_rows {
	const struct show_column *columns; /* borrowed, static */
	unsigned n_columns;
	struct buf bytes; /* owned: the values, each ending in NUL */
	size_t *cells;    /* owned: offset + 1 in bytes; 0 is NULL */
	size_t n_cells, cap;
};

void show_rows_init(struct show_rows *r, const struct show_column *columns, unsigned n_columns);
void show_rows_free(struct show_rows *r);
/* The next cells, row by row. */
void show_text(struct show_rows *r, const char *value); /* NULL: SQL NULL */
void show_u64(struct show_rows *r, uint64_t value);
void show_i64(struct show_rows *r, int64_t value);
void show_printf(struct show_rows *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* A point of CLOCK_MONOTONIC as PgBouncer writes it, "2024-01-31 12:00:00 UTC"; 0: NULL. */
void show_time(struct show_rows *r, uint64_t mono_us);

static inline size_t show_rows_count(const struct show_rows *r) { return r->n_columns ? r->n_cells / r->n_columns : 0; }
const char *show_cell(const struct show_rows *r, size_t row, unsigned column); /* borrowed; NULL: SQL NULL */

/* --- tables --- */
enum show_flags {
	SHOW_USES_USAGE = 1, /* collect and finish work on q->usage */
	SHOW_ADMIN_ONLY = 2, /* not for stats_users */
};
struct show_query;
struct show_table {
	const char *name; /* as in SHOW name */
	const char *help;
	const struct show_column *columns;
	unsigned n_columns;
	void (*collect)(struct worker *w, struct show_query *q); /* may be NULL */
	void (*finish)(struct show_query *q);                    /* may be NULL */
	unsigned flags;                                          /* enum show_flags */
};

/* One asking.  Embedded in the asker's struct; zeroed before show_start(). */
struct show_query {
	const struct show_table *table;
	struct show_rows rows;
	const struct config *config;        /* owned reference, there from the first collect on */
	struct usage_table *usage;          /* owned; only where the table uses it */
	void *data;                         /* what collect leaves for finish, which frees it */
	void (*done)(struct show_query *q); /* on the asker's loop; ends with show_query_free() */
};

const struct show_table *show_find(struct str name); /* NULL: no such table */
size_t show_count(void);
const struct show_table *show_at(size_t i); /* in the order of SHOW HELP */
bool show_start(struct show_query *q, const struct show_table *table, struct loop *asker) MUSTCHECK;
void show_query_free(struct show_query *q);

#endif
