/* conf/conninfo.h - connection strings: "key=value key='quoted value'" pairs, host lists, and URIs by libpq.
 *
 * Quoting of pairs is PgBouncer's: a value with blanks stands in single quotes, a quote in it is doubled, a backslash
 * is an ordinary character.  (libpq's own reader takes backslashes as escapes, which would change the passwords of
 * existing files.)  The connection string on the command line is libpq's in full, read by PQconninfoParse. */
#ifndef CONF_CONNINFO_H
#define CONF_CONNINFO_H

#include <stdbool.h>
#include "base/check.h"
#include "base/str.h"
#include "conf/config.h"

struct conf_pair {
	struct str key; /* borrowed from the text */
	char *value;    /* owned by the caller: conf_pair_free() */
	size_t value_len;
};

enum conf_pair_result { CONF_PAIR_OK, CONF_PAIR_END, CONF_PAIR_ERROR };

/* The next pair; moves *rest on.  ERROR: *why is owned by the caller and names no value. */
enum conf_pair_result conf_pair_next(struct str *rest, struct conf_pair *pair, char **why) MUSTCHECK;
void conf_pair_free(struct conf_pair *pair);

/* host= and port= lists (NULL: not given) as hosts.  default_host stands where no host is given.  False: *why is owned
 * by the caller, *key tells which of the two is wrong. */
bool conf_parse_hosts(const char *host, const char *port, const char *default_host, struct conf_host **hosts,
                      int *n_hosts, const char **key, char **why) MUSTCHECK;
void conf_hosts_free(struct conf_host *hosts, int n_hosts);

/* Calls fn for each parameter that a URI or conninfo string gives.  False: *why is owned by the caller, without the
 * string or any part of it that may be a password. */
typedef void (*conf_uri_fn)(void *arg, const char *key, const char *value);
bool conf_parse_uri(const char *uri, conf_uri_fn fn, void *arg, char **why) MUSTCHECK;

#endif
