/* proxy/settings.h - a client's settings: read from its start-up packet, and brought to a backend as SQL.
 *
 * A backend is brought from one set of settings to another by single utility statements (SET x TO 'v', RESET x), which
 * take no snapshot, so that they may stand in front of a BEGIN of any isolation level in the same write.  A list of
 * names (search_path) that was not written by SET goes through set_config(), which does take one: whoever runs it sees
 * to it that it is committed first. */
#ifndef PROXY_SETTINGS_H
#define PROXY_SETTINGS_H

#include <stdbool.h>
#include "base/buf.h"
#include "base/str.h"
#include "proxy/params.h"

struct client;

bool settings_is_tracked(struct str name);    /* reported by PostgreSQL, so a client may rely on it */
bool settings_name_is_valid(struct str name); /* letters, digits, _ $ and dots: safe in a SET */
char *settings_clean_name(struct str name);   /* application_name as PostgreSQL 15 keeps it (pg_clean_ascii); owned */

/* The start-up packet's options: "-c name=value", "--name=value", blanks escaped by backslash (pg_split_opts). */
struct settings_options {
	char *text; /* owned copy with the escapes taken out */
	char *pos, *end;
	bool bad; /* something else than a setting stands there */
};
void settings_options_begin(struct settings_options *o, struct str options);
bool settings_options_next(struct settings_options *o, struct str *name, struct str *value); /* borrowed from o */
void settings_options_end(struct settings_options *o);

/* After login: the client's routing, tag and profile. */
void settings_start_session(struct client *c);
/* The session's settings are these now, application_name being the client's own. */
void settings_adopt(struct client *c, struct params *session);
/* The configuration behind the client has been replaced. */
void settings_follow_config(struct client *c);
/* Routing after a change of the session's or transaction's settings. */
void settings_refresh_routing(struct client *c);

/* What the client is told of a backend's ParameterStatus; NULL: that is not its business. */
const char *settings_as_told(const struct client *c, const struct param *p);

/* Sets one setting, for the transaction when local; cleared first, with its NUL.  False: no memory. */
bool settings_put_set(struct buf *b, const struct param *p, const struct params *among, bool local);
bool settings_put_literal(struct buf *b, const char *value); /* " E'value'" */

/* Walks the difference: what must be done to a backend with settings `from` so that it has `to`. */
struct settings_diff {
	const struct params *from, *to; /* borrowed */
	const struct params *base;      /* borrowed; what RESET leads to as far as it is known; may be NULL */
	bool reset_all;                 /* what stands now is not known: RESET ALL first, which leads to `from` */
	unsigned step, i, j;
};
/* The next statement's SQL in *sql (cleared first; NUL behind it); false at the end or when memory ran out. */
bool settings_diff_next(struct settings_diff *d, struct buf *sql);
/* In what a transaction takes over when it begins: such a difference is no good to a statement in the same one. */
bool settings_differ_in_defaults(const struct params *from, const struct params *to);

#endif
