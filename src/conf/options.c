/* conf/options.c - the type rules of the option table: find, parse, format, compare, copy, free.
 *
 * One switch per operation over enum option_type; the rows themselves are in option_table.c.  Look-ups are linear:
 * there are some 150 rows and they are looked up by name only while a configuration is read or typed. */
#include "conf/options.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "conf/config.h"
#include "options_priv.h"

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit time_units[] = {
	{ "us", 1 }, { "ms", 1000 }, { "s", 1000000 }, { "min", 60000000 }, { NULL, 0 }
};
static const struct unit size_units[] = { { "B", 1 },           { "kB", 1ull << 10 }, { "MB", 1ull << 20 },
	                                  { "GB", 1ull << 30 }, { "TB", 1ull << 40 }, { NULL, 0 } };

/* --- look-up ------------------------------------------------------------------------------------------------------ */

size_t options_count(void) { return conf_option_table_rows; }

const struct conf_option *option_at(size_t i)
{
	CHECK(i < conf_option_table_rows);
	return &conf_option_table[i];
}

size_t option_index(const struct conf_option *o) { return (size_t)(o - conf_option_table); }

bool option_allows(const struct conf_option *o, enum option_scope scope)
{
	return scope == SCOPE_GLOBAL ? option_is_global(o) : (o->scopes & scope) != 0;
}

const struct conf_option *option_find(struct str name, enum option_scope scope)
{
	for (const struct conf_alias *a = conf_aliases; a->alias; a++) {
		if (str_ieq(name, str_of(a->alias)))
			name = str_of(a->name);
	}
	for (size_t i = 0; i < conf_option_table_rows; i++) {
		const struct conf_option *o = &conf_option_table[i];
		if (option_allows(o, scope) && str_ieq(name, str_of(o->name)))
			return o;
	}
	return NULL;
}

const char *option_suggest(struct str name, enum option_scope scope)
{
	char typed[64];
	const char *best = NULL;
	unsigned limit = name.n < 6 ? 2 : 3; /* beyond that the words have nothing to do with each other */
	if (!str_copy(typed, sizeof(typed), name))
		return NULL;
	for (size_t i = 0; i < conf_option_table_rows; i++) {
		const struct conf_option *o = &conf_option_table[i];
		size_t n = strlen(o->name);
		if (!option_allows(o, scope) || name.n > n + limit || n > name.n + limit)
			continue;
		unsigned distance = str_distance(typed, o->name, limit);
		if (distance <= limit && distance < n) {
			best = o->name;
			limit = distance ? distance - 1 : 0;
		}
	}
	return best;
}

const char *option_word_of(const struct option_word *words, int64_t value)
{
	for (; words->word; words++) {
		if (words->value == value)
			return words->word;
	}
	return "?";
}

bool option_word_find(const struct option_word *words, struct str word, int64_t *value)
{
	for (; words->word; words++) {
		if (str_ieq(word, str_of(words->word))) {
			*value = words->value;
			return true;
		}
	}
	return false;
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

char *conf_quote(struct str value)
{
	enum { SHOWN = 60 };
	char *out = mem_alloc(SHOWN + sizeof("\"...\""));
	size_t n = value.n < SHOWN ? value.n : SHOWN, at = 0;
	out[at++] = '"';
	for (size_t i = 0; i < n; i++)
		out[at++] = (unsigned char)value.p[i] < ' ' || value.p[i] == 0x7f ? '?' : value.p[i];
	for (int i = 0; i < 3 && value.n > SHOWN; i++)
		out[at++] = '.';
	out[at++] = '"';
	out[at] = '\0';
	return out;
}

char *conf_did_you_mean(const char *suggestion)
{
	return suggestion ? mem_printf("; did you mean \"%s\"?", suggestion) : mem_strdup("");
}

static char *words_text(const struct option_word *words, const char *before)
{
	char *text = mem_strdup(before);
	int64_t last = INT64_MIN;
	for (const struct option_word *w = words; w->word; w++) {
		char *longer = mem_printf("%s%s%s", text, last == INT64_MIN ? "" : ", ", w->word);
		mem_free(text);
		text = longer;
		last = w->value;
	}
	return text;
}

/* The largest unit that the value is a whole number of: 200ms, 30s, 2min. */
static char *with_unit(uint64_t value, const struct unit *units, uint64_t least)
{
	const struct unit *best = NULL;
	for (const struct unit *u = units; u->name; u++) {
		if (u->factor >= least && value % u->factor == 0)
			best = u;
	}
	return value && best ? mem_printf("%" PRIu64 "%s", value / best->factor, best->name)
	                     : mem_printf("%" PRIu64, value);
}

static char *seconds_text(uint64_t us)
{
	char fraction[8] = "";
	if (us % 1000000) {
		snprintf(fraction, sizeof(fraction), ".%06u", (unsigned)(us % 1000000));
		for (size_t n = strlen(fraction); fraction[n - 1] == '0'; n--)
			fraction[n - 1] = '\0';
	}
	return mem_printf("%" PRIu64 "%s", us / 1000000, fraction);
}

static char *number_text(const struct conf_option *o, int64_t value)
{
	if (o->type == OPT_SECONDS)
		return seconds_text((uint64_t)value);
	if (o->type == OPT_DURATION)
		return with_unit((uint64_t)value, time_units, 1);
	if (o->type == OPT_SIZE)
		return with_unit((uint64_t)value, size_units, 1u << 20); /* 4096 reads better than 4kB here */
	return mem_printf(o->type == OPT_OCTAL ? "0%" PRIo64 : "%" PRId64, value);
}

static const char *unit_hint(const struct conf_option *o)
{
	if (o->type == OPT_SECONDS)
		return " seconds";
	if (o->type == OPT_DURATION)
		return " (in us, ms, s or min; a bare number is ms)";
	if (o->type == OPT_SIZE)
		return " (in bytes, kB, MB, GB or TB)";
	if (o->type == OPT_OCTAL)
		return " (octal)";
	return "";
}

static char *number_range(const struct conf_option *o)
{
	char *lo = number_text(o, o->min), *hi = number_text(o, o->max);
	bool unbounded = o->max >= INT32_MAX * (int64_t)1000000 || o->max == INT64_MAX;
	char *words = o->words ? words_text(o->words, "") : mem_strdup("");
	char *unit = o->unit ? mem_printf(" %s", o->unit) : mem_strdup(unit_hint(o));
	char *text = unbounded ? mem_printf("%s%s%s or more%s", words, *words ? " or " : "", lo, unit)
	                       : mem_printf("%s%s%s to %s%s", words, *words ? " or " : "", lo, hi, unit);
	mem_free(unit);
	mem_free(lo);
	mem_free(hi);
	mem_free(words);
	return text;
}

char *option_range(const struct conf_option *o)
{
	switch (o->type) {
	case OPT_BOOL:
		return mem_strdup("0 or 1");
	case OPT_INT:
	case OPT_OCTAL:
	case OPT_SECONDS:
	case OPT_DURATION:
	case OPT_SIZE:
		return number_range(o);
	case OPT_ENUM:
		return words_text(o->words, "one of ");
	case OPT_STRING:
	case OPT_LIST:
	case OPT_SECRET:
		return mem_strdup("");
	}
	return mem_strdup("");
}

static const char *type_noun(const struct conf_option *o)
{
	switch (o->type) {
	case OPT_BOOL:
		return "a boolean";
	case OPT_INT:
		return "a whole number";
	case OPT_OCTAL:
		return "an octal number";
	case OPT_SECONDS:
	case OPT_DURATION:
		return "a time";
	case OPT_SIZE:
		return "a size";
	case OPT_ENUM:
		return "a choice";
	case OPT_STRING:
	case OPT_LIST:
	case OPT_SECRET:
		return "text";
	}
	return "";
}

static bool refuse(const struct conf_option *o, struct str text, const char *what, char **why)
{
	char *value = conf_quote(text), *range = option_range(o);
	*why = mem_printf("%s is %s%s; use %s", value, what[0] ? what : "not ", what[0] ? "" : type_noun(o), range);
	mem_free(value);
	mem_free(range);
	return false;
}

static bool refuse_type(const struct conf_option *o, struct str text, char **why) { return refuse(o, text, "", why); }

static bool refuse_word(const struct conf_option *o, struct str text, char **why)
{
	char *value = conf_quote(text), *range = option_range(o), typed[32];
	const char *near = NULL;
	for (const struct option_word *w = o->words; w->word && !near; w++) {
		unsigned limit = strlen(w->word) > 5 ? 2 : 1;
		if (str_copy(typed, sizeof(typed), text) && str_distance(typed, w->word, limit) <= limit)
			near = w->word;
	}
	char *suggestion = conf_did_you_mean(near);
	*why = mem_printf("%s is not %s%s", value, range, suggestion);
	mem_free(suggestion);
	mem_free(value);
	mem_free(range);
	return false;
}

/* --- numbers ------------------------------------------------------------------------------------------------------ */

enum number_result { NUMBER_OK, NUMBER_BAD, NUMBER_TOO_BIG };

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static const struct unit *find_unit(struct str name, const struct unit *units)
{
	for (; units->name; units++) {
		if (str_ieq(name, str_of(units->name)))
			return units;
	}
	return NULL;
}

/* "1.5 s" in the stored unit: digits, at most one dot, an optional unit. */
static enum number_result parse_scaled(struct str s, const struct unit *units, uint64_t bare_factor, int64_t *out)
{
	uint64_t whole = 0, factor = bare_factor, total, fraction = 0, divisor = 1;
	bool big = false;
	size_t i = 0, digits = 0;
	for (; i < s.n && is_digit(s.p[i]); i++, digits++)
		big |= __builtin_mul_overflow(whole, 10u, &whole) ||
		       __builtin_add_overflow(whole, (uint64_t)(s.p[i] - '0'), &whole);
	if (i < s.n && s.p[i] == '.') {
		for (i++; i < s.n && is_digit(s.p[i]); i++, digits++) {
			if (divisor < 1000000000) {
				fraction = fraction * 10 + (uint64_t)(s.p[i] - '0');
				divisor *= 10;
			}
		}
	}
	struct str unit = str_trim((struct str){ s.p + i, s.n - i });
	if (unit.n) {
		const struct unit *u = find_unit(unit, units);
		if (!u)
			return NUMBER_BAD;
		factor = u->factor;
	}
	if (!digits)
		return NUMBER_BAD;
	/* In 128 bits, since a terabyte times nine digits is beyond 64. */
	uint64_t part = (uint64_t)((unsigned __int128)fraction * factor / divisor);
	if (big || __builtin_mul_overflow(whole, factor, &total) || __builtin_add_overflow(total, part, &total) ||
	    total > INT64_MAX)
		return NUMBER_TOO_BIG;
	*out = (int64_t)total;
	return NUMBER_OK;
}

static enum number_result parse_octal(struct str s, int64_t *out)
{
	int64_t v = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '7')
			return NUMBER_BAD;
		if (v > INT32_MAX)
			return NUMBER_TOO_BIG;
		v = v * 8 + (s.p[i] - '0');
	}
	*out = v;
	return s.n ? NUMBER_OK : NUMBER_BAD;
}

static enum number_result parse_int(struct str s, int64_t *out)
{
	if (str_to_i64(s, out))
		return NUMBER_OK;
	size_t i = 0;
	while (i < s.n && is_digit(s.p[i]))
		i++;
	return s.n && i == s.n ? NUMBER_TOO_BIG : NUMBER_BAD;
}

static bool parse_number(const struct conf_option *o, struct str text, int64_t *out, char **why)
{
	enum number_result result = NUMBER_BAD;
	bool negative = text.n > 1 && text.p[0] == '-';
	struct str s = negative ? (struct str){ text.p + 1, text.n - 1 } : text;
	int64_t v = 0;
	if (o->words && option_word_find(o->words, text, out))
		return true;
	if (o->type == OPT_SECONDS)
		result = parse_scaled(s, time_units, 1000000, &v);
	else if (o->type == OPT_DURATION)
		result = parse_scaled(s, time_units, 1000, &v);
	else if (o->type == OPT_SIZE)
		result = parse_scaled(s, size_units, 1, &v);
	else if (o->type == OPT_OCTAL)
		result = parse_octal(s, &v);
	else
		result = parse_int(s, &v);
	if (result == NUMBER_BAD)
		return refuse_type(o, text, why);
	v = negative ? -v : v;
	if (result == NUMBER_TOO_BIG || v < o->min || v > o->max)
		return refuse(o, text, "out of range", why);
	*out = v;
	return true;
}

static bool parse_bool(struct str s, bool *out)
{
	static const struct option_word words[] = { { "1", 1 },    { "0", 0 },     { "on", 1 },  { "off", 0 },
		                                    { "true", 1 }, { "false", 0 }, { "yes", 1 }, { "no", 0 },
		                                    { "t", 1 },    { "f", 0 },     { "y", 1 },   { "n", 0 },
		                                    { NULL, 0 } };
	int64_t v;
	if (!option_word_find(words, s, &v))
		return false;
	*out = v != 0;
	return true;
}

/* --- values ------------------------------------------------------------------------------------------------------- */

static void list_free(struct conf_list *list)
{
	for (int i = 0; i < list->n; i++)
		mem_free(list->items[i]);
	mem_free(list->items);
	*list = (struct conf_list){ NULL, 0 };
}

static void list_add(struct conf_list *list, struct str word)
{
	list->items = mem_realloc(list->items, (size_t)(list->n + 1) * sizeof(*list->items));
	list->items[list->n++] = mem_strndup(word.p, word.n);
}

static struct conf_list list_parse(struct str s)
{
	struct conf_list list = { NULL, 0 };
	while (s.n) {
		const char *comma = memchr(s.p, ',', s.n);
		size_t n = comma ? (size_t)(comma - s.p) : s.n;
		struct str word = str_trim((struct str){ s.p, n });
		if (word.n)
			list_add(&list, word);
		n += comma ? 1 : 0;
		s = (struct str){ s.p + n, s.n - n };
	}
	return list;
}

static char *list_text(const struct conf_list *list)
{
	char *text = mem_strdup(list->n ? list->items[0] : "");
	for (int i = 1; i < list->n; i++) {
		char *longer = mem_printf("%s, %s", text, list->items[i]);
		mem_free(text);
		text = longer;
	}
	return text;
}

bool conf_list_has(const struct conf_list *list, struct str word)
{
	for (int i = 0; i < list->n; i++) {
		if (str_eq(word, str_of(list->items[i])))
			return true;
	}
	return false;
}

static void secret_free(char *secret) { mem_free_secret(secret, secret ? strlen(secret) : 0); }

static bool run_check(const struct conf_option *o, struct str text, char **why)
{
	if (!o->check)
		return true;
	char *value = mem_strndup(text.p ? text.p : "", text.n);
	bool ok = o->check(value, why);
	mem_free(value);
	return ok;
}

static bool parse_word(const struct conf_option *o, struct str text, int64_t *out, char **why)
{
	return option_word_find(o->words, text, out) || refuse_word(o, text, why);
}

static void store_string(struct str text, char **field)
{
	char *copy = mem_strndup(text.p ? text.p : "", text.n);
	mem_free(*field);
	*field = copy;
}

bool option_parse(const struct conf_option *o, struct str text, void *field, char **why)
{
	int64_t v;
	struct str value = o->type == OPT_SECRET ? text : str_trim(text);
	*why = NULL;
	if (text.n && memchr(text.p, '\0', text.n)) {
		*why = mem_strdup("the value holds a NUL byte");
		return false;
	}
	if (!run_check(o, value, why))
		return false;
	switch (o->type) {
	case OPT_BOOL:
		return parse_bool(value, field) || refuse_type(o, value, why);
	case OPT_INT:
	case OPT_OCTAL:
		if (!parse_number(o, value, &v, why))
			return false;
		*(int *)field = (int)v;
		return true;
	case OPT_ENUM:
		if (!parse_word(o, value, &v, why))
			return false;
		*(int *)field = (int)v;
		return true;
	case OPT_SECONDS:
	case OPT_DURATION:
	case OPT_SIZE:
		if (!parse_number(o, value, &v, why))
			return false;
		*(uint64_t *)field = (uint64_t)v;
		return true;
	case OPT_STRING:
		store_string(value, field);
		return true;
	case OPT_LIST:
		list_free(field);
		*(struct conf_list *)field = list_parse(value);
		return true;
	case OPT_SECRET:
		secret_free(*(char **)field);
		*(char **)field = mem_strndup(value.p ? value.p : "", value.n);
		return true;
	}
	return false;
}

static char *format_number(const struct conf_option *o, int64_t value)
{
	for (const struct option_word *w = o->words; w && w->word; w++) {
		if (w->value == value)
			return mem_strdup(w->word);
	}
	return number_text(o, value);
}

char *option_format(const struct conf_option *o, const void *field)
{
	switch (o->type) {
	case OPT_BOOL:
		return mem_strdup(*(const bool *)field ? "1" : "0");
	case OPT_INT:
	case OPT_OCTAL:
		return format_number(o, *(const int *)field);
	case OPT_ENUM:
		return mem_strdup(option_word_of(o->words, *(const int *)field));
	case OPT_SECONDS:
	case OPT_DURATION:
	case OPT_SIZE:
		return format_number(o, (int64_t) * (const uint64_t *)field);
	case OPT_STRING: {
		const char *s = *(char *const *)field;
		return mem_strdup(s ? s : "");
	}
	case OPT_LIST:
		return list_text(field);
	case OPT_SECRET: {
		const char *s = *(char *const *)field;
		return mem_strdup(s && *s ? "****" : "");
	}
	}
	return mem_strdup("");
}

static bool string_equal(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

static bool list_equal(const struct conf_list *a, const struct conf_list *b)
{
	for (int i = 0; a->n == b->n && i < a->n; i++) {
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	}
	return a->n == b->n;
}

bool option_equal(const struct conf_option *o, const void *a, const void *b)
{
	switch (o->type) {
	case OPT_BOOL:
		return *(const bool *)a == *(const bool *)b;
	case OPT_INT:
	case OPT_OCTAL:
	case OPT_ENUM:
		return *(const int *)a == *(const int *)b;
	case OPT_SECONDS:
	case OPT_DURATION:
	case OPT_SIZE:
		return *(const uint64_t *)a == *(const uint64_t *)b;
	case OPT_STRING:
	case OPT_SECRET:
		return string_equal(*(char *const *)a, *(char *const *)b);
	case OPT_LIST:
		return list_equal(a, b);
	}
	return false;
}

static void list_copy(struct conf_list *to, const struct conf_list *from)
{
	*to = (struct conf_list){ NULL, 0 };
	for (int i = 0; i < from->n; i++)
		list_add(to, str_of(from->items[i]));
}

void option_copy(const struct conf_option *o, void *to, const void *from)
{
	switch (o->type) {
	case OPT_BOOL:
		*(bool *)to = *(const bool *)from;
		return;
	case OPT_INT:
	case OPT_OCTAL:
	case OPT_ENUM:
		*(int *)to = *(const int *)from;
		return;
	case OPT_SECONDS:
	case OPT_DURATION:
	case OPT_SIZE:
		*(uint64_t *)to = *(const uint64_t *)from;
		return;
	case OPT_STRING:
	case OPT_SECRET: {
		const char *s = *(char *const *)from;
		*(char **)to = s ? mem_strdup(s) : NULL;
		return;
	}
	case OPT_LIST:
		list_copy(to, from);
		return;
	}
}

void option_free(const struct conf_option *o, void *field)
{
	switch (o->type) {
	case OPT_BOOL:
	case OPT_INT:
	case OPT_OCTAL:
	case OPT_ENUM:
	case OPT_SECONDS:
	case OPT_DURATION:
	case OPT_SIZE:
		return;
	case OPT_STRING:
		mem_free(*(char **)field);
		*(char **)field = NULL;
		return;
	case OPT_SECRET:
		secret_free(*(char **)field);
		*(char **)field = NULL;
		return;
	case OPT_LIST:
		list_free(field);
		return;
	}
}

/* --- host:port ---------------------------------------------------------------------------------------------------- */

bool conf_split_host_port(const char *text, char host[HTTP_HOST_SIZE], int *port)
{
	int64_t v;
	const char *colon = strrchr(text, ':');
	struct str name;
	host[0] = '\0';
	*port = 0;
	if (!*text)
		return true;
	if (!colon || !str_to_i64(str_of(colon + 1), &v) || v < 1 || v > 65535)
		return false;
	name = (struct str){ text, (size_t)(colon - text) };
	if (name.n > 2 && name.p[0] == '[' && name.p[name.n - 1] == ']')
		name = (struct str){ name.p + 1, name.n - 2 };
	else if (memchr(name.p, ':', name.n))
		return false; /* a bare IPv6 address: which colon is it? */
	if (name.n == 0)
		name = STR("*");
	*port = (int)v;
	return str_copy(host, HTTP_HOST_SIZE, name);
}
