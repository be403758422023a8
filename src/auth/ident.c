/* auth/ident.c - see auth/ident.h. */
#include "auth/ident.h"

#include <errno.h>
#include <regex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include "base/mem.h"
#include "fields_priv.h"
#include "file_priv.h"

struct line {
	char *map, *system_name, *role; /* owned; of a regular expression system_name is the text behind the / */
	regex_t regex;                  /* compiled while is_regex */
	bool is_regex;
	bool any_role;
	STAILQ_ENTRY(line) link;
};

struct ident {
	atomic_uint refs;
	STAILQ_HEAD(, line) lines; /* owned; in the file's order */
};

/* --- life --- */

static void line_free(struct line *l)
{
	if (l->is_regex)
		regfree(&l->regex);
	mem_free(l->map);
	mem_free(l->system_name);
	mem_free(l->role);
	mem_free(l);
}

struct ident *ident_ref(struct ident *ident)
{
	atomic_fetch_add_explicit(&ident->refs, 1, memory_order_relaxed);
	return ident;
}

void ident_unref(struct ident *ident)
{
	struct line *l;
	if (!ident || atomic_fetch_sub_explicit(&ident->refs, 1, memory_order_acq_rel) != 1)
		return;
	while ((l = STAILQ_FIRST(&ident->lines))) {
		STAILQ_REMOVE_HEAD(&ident->lines, link);
		line_free(l);
	}
	mem_free(ident);
}

/* --- asking --- */

/* The role as the line writes it, with what the first group has matched in the place of \1; false: does not fit. */
static bool role_is(const char *pattern, struct str group, struct str role)
{
	const char *at = strstr(pattern, "\\1");
	if (!at)
		return str_eq(str_of(pattern), role);
	struct str before = { pattern, (size_t)(at - pattern) }, after = str_of(at + 2);
	return role.n == before.n + group.n + after.n && str_has_prefix(role, before) &&
	       (group.n == 0 || memcmp(role.p + before.n, group.p, group.n) == 0) &&
	       (after.n == 0 || memcmp(role.p + before.n + group.n, after.p, after.n) == 0);
}

static bool line_fits(const struct line *l, const char *system_name, const char *role)
{
	regmatch_t m[2] = { { -1, -1 }, { -1, -1 } };
	if (!l->is_regex)
		return strcmp(l->system_name, system_name) == 0 && (l->any_role || strcmp(l->role, role) == 0);
	if (regexec(&l->regex, system_name, ARRAY_LEN(m), m, 0) != 0)
		return false;
	struct str group = { system_name, 0 };
	if (m[1].rm_so >= 0)
		group = (struct str){ system_name + m[1].rm_so, (size_t)(m[1].rm_eo - m[1].rm_so) };
	return l->any_role || role_is(l->role, group, str_of(role));
}

bool ident_has_map(const struct ident *ident, const char *map)
{
	const struct line *l;
	STAILQ_FOREACH(l, &ident->lines, link)
	{
		if (strcmp(l->map, map) == 0)
			return true;
	}
	return false;
}

bool ident_allows(const struct ident *ident, const char *map, const char *system_name, const char *role)
{
	const struct line *l;
	if (!map || !*map)
		return strcmp(system_name, role) == 0;
	if (!ident)
		return false;
	STAILQ_FOREACH(l, &ident->lines, link)
	{
		if (strcmp(l->map, map) == 0 && line_fits(l, system_name, role))
			return true;
	}
	return false;
}

/* --- reading --- */

static bool compile(struct reader *r, struct line *l)
{
	char why[128];
	int code = regcomp(&l->regex, l->system_name, REG_EXTENDED);
	if (code != 0) {
		regerror(code, &l->regex, why, sizeof why);
		return fail(r, "invalid regular expression \"%s\": %s", l->system_name, why);
	}
	l->is_regex = true;
	if (strstr(l->role, "\\1") && l->regex.re_nsub == 0)
		return fail(r, "\"%s\" needs a group in parentheses in \"/%s\"", l->role, l->system_name);
	return true;
}

static bool read_role(struct reader *r, struct line *l)
{
	struct token t;
	bool ok = fields_word(r, "a role", &t);
	if (ok && !t.is_quoted && (t.text[0] == '+' || t.text[0] == '/'))
		ok = fail(r, "role \"%s\" is not supported: expected a name, or all", t.text);
	if (ok) {
		l->any_role = fields_is_keyword(&t, "all");
		l->role = mem_strdup(t.text);
	}
	mem_free(t.text);
	return ok;
}

static bool read_system_name(struct reader *r, struct line *l, bool *is_regex)
{
	struct token t;
	bool ok = fields_word(r, "a system user", &t);
	*is_regex = ok && t.text[0] == '/';
	if (ok)
		l->system_name = mem_strdup(t.text + *is_regex);
	mem_free(t.text);
	return ok;
}

static bool read_line(struct reader *r, struct line *l)
{
	struct token t;
	bool is_regex;
	bool ok = fields_word(r, "the name of a map", &t);
	l->map = ok ? mem_strdup(t.text) : NULL;
	mem_free(t.text);
	if (!ok || !read_system_name(r, l, &is_regex) || !read_role(r, l))
		return false;
	if (!fields_at_end(r))
		return fail(r, "expected the end of the line behind the role");
	return !is_regex || compile(r, l);
}

static bool add_line(struct reader *r, void *arg)
{
	struct ident *ident = arg;
	if (fields_at_end(r))
		return true;
	struct line *l = mem_zalloc(sizeof(*l));
	if (!read_line(r, l)) {
		line_free(l);
		return false;
	}
	STAILQ_INSERT_TAIL(&ident->lines, l, link);
	return true;
}

struct ident *ident_parse(struct str text, const char *path, char *error, size_t error_size)
{
	struct reader r = { .path = path, .error = error, .error_size = error_size };
	struct ident *ident = mem_zalloc(sizeof(*ident));
	atomic_init(&ident->refs, 1);
	STAILQ_INIT(&ident->lines);
	if (fields_each_line(&r, text, add_line, ident))
		return ident;
	ident_unref(ident);
	return NULL;
}

struct ident *ident_load(const char *path, char *error, size_t error_size)
{
	struct ident *ident = NULL;
	struct buf text;
	if (auth_file_read(path, &text))
		ident = ident_parse((struct str){ (const char *)text.data, buf_len(&text) }, path, error, error_size);
	else
		snprintf(error, error_size, "could not read user map file \"%s\": %s", path, strerror(errno));
	auth_file_wipe(&text);
	return ident;
}
