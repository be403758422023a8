/* conf/options.h - the option table: one row per key that pgweir knows, and all that is made from it.
 *
 * A row gives a key's name, type, range, default, the places where it may stand and where its value lives.  From the
 * rows come the parser and its messages, SHOW CONFIG, SET, the environment overrides, the reload diff and the full
 * commented conf/pgweir.ini.  So a new key is one row (src/conf/option_table.c) and one field (conf/config.h).
 *
 * The same word may be two rows when it means different things in different places: pool_size of a database is a
 * pool's size, pool_size of an application is a cap; hence every look-up names the scope. */
#ifndef CONF_OPTIONS_H
#define CONF_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/check.h"
#include "base/str.h"

struct config;
struct conf_overrides;

enum option_type {
	OPT_BOOL,     /* bool */
	OPT_INT,      /* int */
	OPT_OCTAL,    /* int, written in octal */
	OPT_SECONDS,  /* uint64_t microseconds; a bare number is seconds, decimals allowed (PgBouncer's keys) */
	OPT_DURATION, /* uint64_t microseconds; a bare number is milliseconds (our keys) */
	OPT_SIZE,     /* uint64_t bytes; kB, MB, GB and TB are powers of 1024 */
	OPT_ENUM,     /* int-sized enum, by the words of the row */
	OPT_STRING,   /* char *, owned by the struct it is in */
	OPT_LIST,     /* struct conf_list: words separated by commas */
	OPT_SECRET,   /* char *, owned; never shown, overwritten when freed */
};

/* Where a key may stand; a row has one or more. */
enum option_scope {
	SCOPE_GLOBAL = 1,
	SCOPE_DATABASE = 2,
	SCOPE_USER = 4,
	SCOPE_APPLICATION = 8,
	SCOPE_PEER = 16,
	SCOPE_SESSION = 32,   /* SET pgweir.x, and options=-c pgweir.x=... at start-up */
	SCOPE_STATEMENT = 64, /* a pgweir hint in a leading comment */
};

enum option_flag {
	OPTION_RESTART = 1,   /* cannot change on reload or by SET */
	OPTION_OTHER_WAY = 2, /* accepted and kept; pgweir does what it is for in another way (the help says which) */
};

#define OPTION_GROUPS(X)                                                                                               \
	X(LISTEN, "Listening and the process")                                                                         \
	X(ROUTING, "Routing and consistency")                                                                          \
	X(POOL, "Pools and limits")                                                                                    \
	X(CLUSTER, "Servers: roles, health and failover")                                                              \
	X(TIMEOUT, "Time-outs")                                                                                        \
	X(STATEMENTS, "Statements and parameters")                                                                     \
	X(AUTH, "Authentication")                                                                                      \
	X(TLS, "TLS")                                                                                                  \
	X(LOG, "Logging, statistics and the consoles")                                                                 \
	X(NET, "Network")                                                                                              \
	X(ENTRY, "Keys of one entry")

enum option_group {
#define OPTION_GROUP_ENUM(id, title) OPTION_GROUP_##id,
	OPTION_GROUPS(OPTION_GROUP_ENUM)
#undef OPTION_GROUP_ENUM
};

struct option_word {
	const char *word; /* NULL ends a list */
	int64_t value;
};

struct conf_list {
	char **items; /* owned, each owned; NULL while n is 0 */
	int n;
};

/* Offsets: 0 means "not there"; each of those structs begins with a field that is no option. */
struct conf_option {
	const char *name;
	enum option_group group;
	enum option_type type;
	unsigned scopes;                              /* SCOPE_* beyond global; global is told by global_offset */
	unsigned flags;                               /* OPTION_* */
	size_t global_offset;                         /* in struct config */
	size_t override_offset;                       /* in struct conf_overrides */
	size_t set_offset;                            /* the uint32_t of "is set" bits that goes with override_offset */
	unsigned override_bit;                        /* the bit in it */
	size_t entry_offset;                          /* in struct conf_database or struct conf_peer, by the scope */
	const char *default_text;                     /* NULL for a key that only overrides */
	int64_t min, max;                             /* numbers: in the stored unit */
	const struct option_word *words;              /* ENUM: the choices; numbers: words that stand for a number */
	bool (*check)(const char *value, char **why); /* more than the type says; *why is owned by the caller */
	const char *unit;                             /* of the range as it is told; NULL: by the type */
	const char *help;                             /* one sentence */
};

size_t options_count(void);
const struct conf_option *option_at(size_t i); /* table order, which is that of the generated file */
size_t option_index(const struct conf_option *o);
/* The row of a key where it may stand in `scope` (one SCOPE_*); aliases are resolved; NULL: unknown there. */
const struct conf_option *option_find(struct str name, enum option_scope scope);
/* The closest known key of that scope, or NULL when nothing is close. */
const char *option_suggest(struct str name, enum option_scope scope);
/* Takes part in SHOW CONFIG and SET. */
static inline bool option_is_global(const struct conf_option *o) { return o->global_offset != 0; }
bool option_allows(const struct conf_option *o, enum option_scope scope);

/* Writes the value into *field (of the row's type; an owned string or list there is replaced).  False leaves the field
 * alone and sets *why (owned by the caller) to a message that says what would be right. */
bool option_parse(const struct conf_option *o, struct str text, void *field, char **why) MUSTCHECK;
/* The value as one would write it; a secret reads "****".  Owned by the caller. */
char *option_format(const struct conf_option *o, const void *field) MUSTCHECK;
bool option_equal(const struct conf_option *o, const void *a, const void *b);
void option_copy(const struct conf_option *o, void *to, const void *from); /* to: uninitialised; deep */
void option_free(const struct conf_option *o, void *field);
/* "1 to 65535", "one of auto, primary, replica", or "" where everything is right.  Owned by the caller. */
char *option_range(const struct conf_option *o) MUSTCHECK;

/* Prints the full commented configuration file: every key with its help, range, unit and default. */
void options_print_ini(FILE *out);
/* pgweir.ini(5), for man. */
void options_print_man(FILE *out);

bool conf_list_has(const struct conf_list *list, struct str word); /* exact match */

#endif
