/* conf/options_priv.h - what the files of the conf layer share and nobody else needs. */
#ifndef CONF_OPTIONS_PRIV_H
#define CONF_OPTIONS_PRIV_H

#include <stdbool.h>
#include "base/str.h"
#include "conf/options.h"

struct conf_alias {
	const char *alias, *name; /* alias NULL ends the table */
};

extern const struct conf_option conf_option_table[];
extern const size_t conf_option_table_rows;
extern const struct conf_alias conf_aliases[];

extern const struct option_word conf_pool_mode_words[];
extern const struct option_word conf_route_words[];
extern const struct option_word conf_consistency_words[];
extern const struct option_word conf_load_balance_words[];
extern const struct option_word conf_auth_type_words[];
extern const struct option_word conf_sslmode_words[];

/* The word of a value, "?" for none. */
const char *option_word_of(const struct option_word *words, int64_t value);
bool option_word_find(const struct option_word *words, struct str word, int64_t *value) MUSTCHECK;

/* A value as it may stand in a message: quoted, cut when long, control bytes replaced.  Owned by the caller. */
char *conf_quote(struct str value) MUSTCHECK;

/* The suggestion part of a message: "; did you mean \"x\"?", or "".  Owned by the caller. */
char *conf_did_you_mean(const char *suggestion) MUSTCHECK;

/* "host:port", "[v6]:port", "*:port" or ":port".  "" is host "" and port 0. */
enum { HTTP_HOST_SIZE = 256 };
bool conf_split_host_port(const char *text, char host[HTTP_HOST_SIZE], int *port) MUSTCHECK;

#endif
