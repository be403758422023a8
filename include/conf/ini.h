/* conf/ini.h - reads an ini text with its %include files, line by line, and loses no byte of it.
 *
 *   [section]           "quoted name" = value          ; comment, # comment: only at the start of a line
 *   key = value         %include other.ini             (relative to the file that says so)
 *
 * The grammar is PgBouncer's: no inline comments, no continuation lines, a value reaches to the end of its line and may
 * hold any character but control bytes.  What cannot be read is an error with its place; reading goes on behind it. */
#ifndef CONF_INI_H
#define CONF_INI_H

#include <stddef.h>
#include "base/check.h"
#include "base/str.h"
#include "conf/errors.h"

/* One `key = value`.  Strings are borrowed for the call, without NUL bytes and trimmed; a quoted key comes unquoted.
 * place.file lives as long as the struct conf_ini. */
typedef void (*conf_ini_fn)(void *arg, struct config_place place, struct str section, struct str key, struct str value);

struct conf_ini {
	char **file_names; /* owned, each owned: what places point to */
	int n_file_names;
};

void conf_ini_deinit(struct conf_ini *ini);
/* Both report into errs and call fn for every readable entry, in order. */
void conf_ini_read_file(struct conf_ini *ini, const char *path, conf_ini_fn fn, void *arg, struct config_errors *errs);
void conf_ini_read_text(struct conf_ini *ini, const char *name, struct str text, conf_ini_fn fn, void *arg,
                        struct config_errors *errs);

#endif
