/* src/auth/fields.c - see src/auth/fields_priv.h. The grammar is that of PostgreSQL's hba.c. */
#include "fields_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

/* --- tokens --- */

void fields_error(struct reader *r, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(r->error, r->error_size, "%s:%u: ", r->path, r->line);
	if (n >= 0 && (size_t)n < r->error_size) {
		va_start(ap, fmt);
		(void)vsnprintf(r->error + n, r->error_size - (size_t)n, fmt, ap);
		va_end(ap);
	}
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v'; }

/* Skips comments too; only in a file named by @ can another line follow one. */
static void skip_blanks(struct reader *r)
{
	bool in_comment = false;
	for (; r->p < r->end; r->p++) {
		if (*r->p == '#')
			in_comment = true;
		else if (*r->p == '\n')
			in_comment = false;
		else if (!in_comment && !is_blank(*r->p))
			break;
	}
}

bool fields_at_end(struct reader *r)
{
	skip_blanks(r);
	return r->p == r->end;
}

/* Copies up to the token's end; "" inside quotes is one ". */
static bool copy_token(struct reader *r, char *out)
{
	bool in_quotes = false;
	while (r->p < r->end && (in_quotes || (!is_blank(*r->p) && *r->p != ',' && *r->p != '#'))) {
		char c = *r->p++;
		if (c == '\0')
			return fail(r, "zero byte");
		if (c != '"') {
			*out++ = c;
		} else if (in_quotes && r->p < r->end && *r->p == '"') {
			*out++ = '"';
			r->p++;
		} else {
			in_quotes = !in_quotes;
		}
	}
	*out = '\0';
	return in_quotes ? fail(r, "expected a double quote at the end of the line") : true;
}

bool fields_token(struct reader *r, const char *what, struct token *t)
{
	*t = (struct token){ .text = NULL };
	if (fields_at_end(r) || *r->p == ',')
		return fail(r, "expected %s", what);
	t->text = mem_alloc((size_t)(r->end - r->p) + 1);
	t->is_quoted = *r->p == '"';
	if (!copy_token(r, t->text))
		return false;
	if (!fields_at_end(r) && *r->p == ',') {
		t->comma_follows = true;
		r->p++;
	}
	return true;
}

bool fields_word(struct reader *r, const char *what, struct token *t)
{
	if (!fields_token(r, what, t))
		return false;
	return t->comma_follows ? fail(r, "%s must not be a list", what) : true;
}

bool fields_is_keyword(const struct token *t, const char *word) { return !t->is_quoted && strcmp(t->text, word) == 0; }

/* --- lines --- */

/* Copies the logical line at *p to out, without its backslashes and newlines; returns how many lines it had. */
static unsigned join_lines(const char **p, const char *end, char *out, size_t *n)
{
	unsigned lines = 0;
	bool joined = true;
	*n = 0;
	while (joined && *p < end) {
		const char *newline = memchr(*p, '\n', (size_t)(end - *p));
		const char *stop = newline ? newline : end;
		size_t len = (size_t)(stop - *p);
		if (len && (*p)[len - 1] == '\r')
			len--;
		joined = len && (*p)[len - 1] == '\\';
		if (joined)
			len--;
		memcpy(out + *n, *p, len);
		*n += len;
		*p = newline ? newline + 1 : end;
		lines++;
	}
	return lines;
}

static bool each_line(struct reader *r, struct str text, char *room, bool (*fn)(struct reader *r, void *arg), void *arg)
{
	const char *p = text.p, *end = text.p + text.n;
	unsigned line = 1;
	while (p < end) {
		size_t n;
		unsigned lines = join_lines(&p, end, room, &n);
		r->line = line;
		r->p = room;
		r->end = room + n;
		if (!fn(r, arg))
			return false;
		line += lines;
	}
	return true;
}

bool fields_each_line(struct reader *r, struct str text, bool (*fn)(struct reader *r, void *arg), void *arg)
{
	char *room = mem_alloc(text.n + 1);
	bool ok = text.n == 0 || each_line(r, text, room, fn, arg);
	mem_free(room);
	return ok;
}
