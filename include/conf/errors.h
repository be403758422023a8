/* conf/errors.h - what is wrong with a configuration, all of it and not only the first thing.
 *
 * Each entry is a finished line "file:line: key: message" (parts that do not apply are left out), ready for standard
 * error, the log and the console.  No entry ever holds the value of a secret.
 *
 * Owner: whoever loads a configuration; one thread.  Start from the all-zero value. */
#ifndef CONF_ERRORS_H
#define CONF_ERRORS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/check.h"

/* ERROR refuses the configuration; WARNING is probably a mistake; NOTICE tells how a key is understood here. */
enum config_severity { CONFIG_NOTICE, CONFIG_WARNING, CONFIG_ERROR };

struct config_error {
	enum config_severity severity;
	char *text; /* owned */
};

/* Where a setting comes from.  Borrowed for the call. */
struct config_place {
	const char *file; /* path, or "environment", "command line"; NULL: nowhere in particular */
	int line;         /* 0: none */
};

enum { CONFIG_ERRORS_MAX = 200 }; /* entries kept; later ones are only counted */

struct config_errors {
	struct config_error *items; /* owned */
	int n;                      /* entries in items, of every severity */
	int n_errors;               /* how many errors there were, those that are not kept included */
	int n_dropped;              /* entries that are not kept */
};

void config_errors_free(struct config_errors *errs); /* empties it; the struct itself is the caller's */
const char *config_severity_name(enum config_severity severity);

/* key may be NULL. */
void config_errors_add(struct config_errors *errs, enum config_severity severity, struct config_place place,
                       const char *key, const char *fmt, ...) PRINTF_LIKE(5, 6);

#endif
