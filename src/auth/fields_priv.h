/* src/auth/fields_priv.h - what pg_hba.conf and pg_ident.conf have in common: lines of fields.
 *
 * Fields part at white space, items of a field at commas, "..." takes the meaning from keywords and separators, #
 * begins a comment, a backslash at the end joins a line with the next one.  Reading goes in three steps: logical line
 * -> token -> rule.  Errors carry the number of the line where the rule begins. */
#ifndef AUTH_FIELDS_PRIV_H
#define AUTH_FIELDS_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include "base/check.h"
#include "base/str.h"

struct reader {
	const char *p, *end; /* borrowed: what is left of the logical line, or of a file named by @ */
	const char *path;    /* borrowed */
	unsigned line;
	unsigned depth; /* of files named by @ in such files */
	char *error;    /* borrowed */
	size_t error_size;
};

struct token {
	char *text;         /* owned */
	bool is_quoted;     /* begins with a quote: never a keyword */
	bool comma_follows; /* more items of the same field */
};

void fields_error(struct reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* A macro, so that compilers and analyzers see that it is always false. */
#define fail(r, ...) (fields_error(r, __VA_ARGS__), false)

/* Nothing but blanks and comments is left. */
bool fields_at_end(struct reader *r);
/* t->text is to be freed, also after a failure. */
bool fields_token(struct reader *r, const char *what, struct token *t) MUSTCHECK;
/* A field that must have one item. */
bool fields_word(struct reader *r, const char *what, struct token *t) MUSTCHECK;
bool fields_is_keyword(const struct token *t, const char *word);

/* Calls fn for each logical line of text; stops at the first false and returns it. r: path, error and error_size. */
bool fields_each_line(struct reader *r, struct str text, bool (*fn)(struct reader *r, void *arg), void *arg) MUSTCHECK;

#endif
