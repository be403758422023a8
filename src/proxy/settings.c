/* proxy/settings.c - see proxy/settings.h. */
#include "proxy/settings.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>
#include <xxhash.h>
#include "base/mem.h"
#include "cluster/dbfacts.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/measure.h"
#include "proxy/worker.h"

/* GUC_REPORT settings that a client can change (guc_tables.c, 14 to 18). */
static const char *const reported[] = { "application_name",   "client_encoding",
	                                "datestyle",          "default_transaction_read_only",
	                                "intervalstyle",      "search_path",
	                                "timezone",           "standard_conforming_strings",
	                                "extra_float_digits", "scram_iterations" };
/* GUC_LIST_QUOTE: one quoted string would become one name with commas in it. */
static const char *const name_lists[] = { "search_path", "temp_tablespaces", "local_preload_libraries",
	                                  "session_preload_libraries" };

enum { NAME_BYTES_MAX = 63 }; /* NAMEDATALEN - 1 */

static bool is_one_of(struct str name, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (str_ieq(name, str_of(names[i])))
			return true;
	}
	return false;
}

bool settings_is_tracked(struct str name) { return is_one_of(name, reported, ARRAY_LEN(reported)); }

bool settings_name_is_valid(struct str name)
{
	for (size_t i = 0; i < name.n; i++) {
		unsigned char c = (unsigned char)name.p[i];
		if (!isalnum(c) && c != '_' && c != '.' && c != '$')
			return false;
	}
	return name.n > 0 && name.n < 128;
}

char *settings_clean_name(struct str name)
{
	size_t n = name.n < NAME_BYTES_MAX ? name.n : NAME_BYTES_MAX;
	char *s = mem_strndup(name.p, n);
	for (char *c = s; *c; c++) {
		if ((unsigned char)*c < 32 || (unsigned char)*c > 126)
			*c = '?';
	}
	return s;
}

/* --- options --- */

void settings_options_begin(struct settings_options *o, struct str options)
{
	char *text = mem_strndup(options.p, options.n);
	*o = (struct settings_options){ text, text, text + options.n, false };
}

void settings_options_end(struct settings_options *o) { mem_free(o->text); }

/* The next word, unescaped in place. */
static struct str next_word(struct settings_options *o)
{
	char *r = o->pos;
	while (r < o->end && isspace((unsigned char)*r))
		r++;
	char *start = r, *w = r;
	while (r < o->end && !isspace((unsigned char)*r)) {
		if (*r == '\\' && r + 1 < o->end)
			r++;
		*w++ = *r++;
	}
	o->pos = r;
	return (struct str){ start, (size_t)(w - start) };
}

bool settings_options_next(struct settings_options *o, struct str *name, struct str *value)
{
	struct str word = next_word(o);
	if (word.n == 0)
		return false;
	if (str_eq(word, STR("-c")))
		word = next_word(o);
	else if (str_has_prefix(word, STR("-c")) || str_has_prefix(word, STR("--")))
		word = (struct str){ word.p + 2, word.n - 2 };
	else
		word.n = 0;
	char *eq = word.n ? memchr(word.p, '=', word.n) : NULL;
	if (!eq) {
		o->bad = true;
		return false;
	}
	*name = (struct str){ word.p, (size_t)(eq - word.p) };
	*value = (struct str){ eq + 1, word.n - name->n - 1 };
	/* --option-name may be written with dashes (postgres.c). */
	for (char *c = (char *)word.p; c < eq; c++) {
		if (*c == '-')
			*c = '_';
	}
	return true;
}

/* --- session --- */

static void put_tag_part(const struct client *c, char what, char *out, size_t size)
{
	char host[NET_NAME_SIZE];
	const char *text = "";
	switch (what) {
	case 'a':
		text = c->application ? c->application : "";
		break;
	case 'u':
		text = c->du->user;
		break;
	case 'd':
		text = c->du->database;
		break;
	case 'h':
		text = net_addr_host(c->peer, host, sizeof host);
		break;
	case 'p':
		snprintf(host, sizeof host, "%u", (unsigned)net_addr_port(c->peer));
		text = host;
		break;
	case 'i':
		snprintf(host, sizeof host, "%d", c->du->config->peer_id);
		text = host;
		break;
	case '%':
		text = "%";
		break;
	default:
		break;
	}
	snprintf(out, size, "%s", text);
}

/* application_name_format with its letters replaced; owned by the caller. */
static char *make_tag(const struct client *c)
{
	const char *f = config_application_name_format(c->du->config, c->du->conf);
	char out[512];
	size_t n = 0;
	for (; *f && n < sizeof out - 1; f++) {
		if (*f == '%' && f[1]) {
			put_tag_part(c, *++f, out + n, sizeof out - n);
			n += strlen(out + n);
		} else {
			out[n++] = *f;
		}
	}
	return settings_clean_name((struct str){ out, n });
}

void settings_refresh_routing(struct client *c)
{
	struct conf_routing r = config_routing(c->du->config, c->du->conf, c->du->conf_user, c->conf_app);
	r = conf_routing_apply(r, &c->session_routing);
	c->routing = conf_routing_apply(r, &c->tx_routing);
}

void settings_follow_config(struct client *c)
{
	c->conf_app = c->application ? config_application(c->du->config, str_of(c->application)) : NULL;
	settings_refresh_routing(c);
	measure_client(c);
	const struct dbuser *du = c->du;
	c->shares_unnamed = du->config->max_prepared_statements > 0 &&
	                    config_unnamed_statement_cache(du->config, du->conf, du->conf_user, c->conf_app);
	c->shares_simple = du->config->max_prepared_statements > 0 &&
	                   config_simple_query_cache(du->config, du->conf, du->conf_user, c->conf_app);
	c->custom_unnamed =
	    config_unnamed_plan(du->config, du->conf, du->conf_user, c->conf_app) == UNNAMED_PLAN_CUSTOM;
}

/* D1: by these a statement's constants and names are read when it is parsed. */
static const char *const parsing[] = { "search_path",
	                               "datestyle",
	                               "intervalstyle",
	                               "timezone",
	                               "timezone_abbreviations",
	                               "standard_conforming_strings",
	                               "backslash_quote",
	                               "client_encoding",
	                               "transform_null_equals",
	                               "xmloption",
	                               "array_nulls",
	                               "role",
	                               "session_authorization",
	                               "default_text_search_config",
	                               "lc_monetary",
	                               "lc_numeric",
	                               "lc_time",
	                               "lc_messages",
	                               "session_replication_role",
	                               "row_security" };

static uint64_t parse_key(const struct params *p)
{
	uint64_t key = 0;
	for (unsigned i = 0; i < p->n; i++) {
		const struct param *x = &p->items[i];
		/* Sorted, so that the same settings have the same key. */
		if (strchr(x->name, '.') || is_one_of(str_of(x->name), parsing, ARRAY_LEN(parsing)))
			key = XXH3_64bits_withSeed(x->name, strlen(x->name),
			                           XXH3_64bits_withSeed(x->value, strlen(x->value), key));
	}
	return key;
}

void settings_adopt(struct client *c, struct params *session)
{
	struct params_table *t = &c->worker->params;
	const char *name = params_get(session, "application_name");
	struct params *old = c->session;
	c->session = params_ref(session);
	c->parse_key = parse_key(session);
	params_unref(t, old);
	if (name && strcmp(name, c->application) != 0) {
		mem_free(c->application);
		c->application = mem_strdup(name);
		settings_follow_config(c);
	}
	char *tag = make_tag(c);
	params_unref(t, c->profile);
	c->profile = params_with(t, session, STR("application_name"), str_of(tag));
	mem_free(tag);
}

void settings_start_session(struct client *c)
{
	struct params_table *t = &c->worker->params;
	const struct conf_database *conf = c->du->conf;
	settings_follow_config(c);
	c->facts_no = dbfacts_login_no(c->du->facts);
	c->nameless = !c->application && !conf->application_name;
	if (!c->application)
		c->application = mem_strdup(conf->application_name ? conf->application_name : "");
	measure_client(c);
	params_unref(t, c->custom);
	c->custom = params_ref(t->empty);
	for (unsigned i = 0; i < c->startup->n; i++) {
		if (strchr(c->startup->items[i].name, '.'))
			params_set(t, &c->custom, str_of(c->startup->items[i].name), STR(""));
	}
	params_unref(t, c->home);
	c->home = params_with(t, c->startup, STR("application_name"), str_of(c->application));
	settings_adopt(c, c->home);
	params_unref(t, c->base);
	c->base = params_ref(c->profile);
}

const char *settings_as_told(const struct client *c, const struct param *p)
{
	const char *tag;
	if (strcmp(p->name, "application_name") == 0) {
		tag = params_get(c->profile, "application_name");
		if (tag && strcmp(p->value, tag) == 0)
			return params_get(c->session, "application_name");
		tag = params_get(c->base, "application_name"); /* it was reset */
		return tag && strcmp(p->value, tag) == 0 ? params_get(c->home, "application_name") : p->value;
	}
	if (strcmp(p->name, "is_superuser") == 0 || strcmp(p->name, "session_authorization") == 0 ||
	    settings_is_tracked(str_of(p->name)))
		return p->value;
	return NULL;
}

/* --- difference --- */

bool settings_put_literal(struct buf *b, const char *value)
{
	bool ok = buf_put(b, " E'", 3);
	for (; *value && ok; value++) {
		char pair[2] = { *value, *value };
		ok = buf_put(b, pair, *value == '\'' || *value == '\\' ? 2 : 1);
	}
	return ok && buf_put(b, "'", 1);
}

static bool put_text(struct buf *b, const char *s) { return buf_put(b, s, strlen(s)); }

/* An identifier as SplitIdentifierString() reads it (varlena.c), copied without its quotes to out.  False: none, or one
 * that quote_identifier() would not write in this way. */
static bool next_identifier(const char **at, char out[NAME_BYTES_MAX + 1])
{
	const char *p = *at;
	bool quoted = *p == '"', needs_quotes = false;
	size_t n = 0;
	for (p += quoted; *p && (quoted ? *p != '"' || p[1] == '"' : *p != ','); p++) {
		bool plain = (*p >= 'a' && *p <= 'z') || *p == '_' || (n > 0 && *p >= '0' && *p <= '9');
		needs_quotes |= !plain;
		if (n == NAME_BYTES_MAX)
			return false;
		out[n++] = *p;
		p += *p == '"';
	}
	if (quoted && *p++ != '"')
		return false;
	out[n] = '\0';
	*at = p;
	return n > 0 && needs_quotes == quoted;
}

/* A list of names as SET would have written it is given as one literal for each; any other would not show as it was. */
static bool put_name_list(struct buf *b, const char *value)
{
	char name[NAME_BYTES_MAX + 1];
	bool ok = true, more = true;
	for (bool first = true; ok && more; first = false) {
		ok = next_identifier(&value, name) && (first || buf_put(b, ",", 1)) && settings_put_literal(b, name);
		more = *value != '\0';
		ok = ok && (!more || (value[0] == ',' && value[1] == ' '));
		value += more && ok ? 2 : 0;
	}
	return ok && buf_put(b, "", 1);
}

static bool put_set_config(struct buf *b, const struct param *p, bool local)
{
	return put_text(b, "SELECT pg_catalog.set_config(") && settings_put_literal(b, p->name) && put_text(b, ",") &&
	       settings_put_literal(b, p->value) && put_text(b, local ? ", true)" : ", false)") && buf_put(b, "", 1);
}

/* Parts of a name with points are quoted: they may be key words. */
static bool put_name(struct buf *b, const char *name)
{
	bool ok = true, points = strchr(name, '.');
	if (!points)
		return put_text(b, name);
	while (ok && name) {
		const char *point = strchr(name, '.');
		size_t n = point ? (size_t)(point - name) : strlen(name);
		ok =
		    buf_put(b, "\"", 1) && buf_put(b, name, n) && buf_put(b, "\"", 1) && (!point || buf_put(b, ".", 1));
		name = point ? point + 1 : NULL;
	}
	return ok;
}

bool settings_put_set(struct buf *b, const struct param *p, const struct params *among, bool local)
{
	const char *quotes = params_get(among, "quote_all_identifiers");
	buf_clear(b);
	if (!settings_name_is_valid(str_of(p->name)))
		return put_set_config(b, p, local);
	bool list = is_one_of(str_of(p->name), name_lists, ARRAY_LEN(name_lists));
	if (!put_text(b, local ? "SET LOCAL " : "SET ") || !put_name(b, p->name) || !put_text(b, " TO"))
		return false;
	if (!list)
		return settings_put_literal(b, p->value) && buf_put(b, "", 1);
	/* With quote_all_identifiers SET writes it in another way. */
	if ((!quotes || strcmp(quotes, "on") != 0) && put_name_list(b, p->value))
		return true;
	buf_clear(b);
	return put_set_config(b, p, local);
}

static bool put_reset(struct buf *b, const char *name)
{
	return put_text(b, "RESET ") && put_name(b, name) && buf_put(b, "", 1);
}

/* Who somebody is comes last, and is taken back first: what else differs may need the rights of the login. */
static const char *const identity[] = { "session_authorization", "role" };
enum diff_step {
	DIFF_RESET_AUTHORIZATION,
	DIFF_RESET_ROLE,
	DIFF_RESET_ALL,
	DIFF_OTHERS,
	DIFF_AUTHORIZATION,
	DIFF_ROLE,
	DIFF_END
};

static bool is_identity(const char *name) { return strcmp(name, identity[0]) == 0 || strcmp(name, identity[1]) == 0; }

/* What quote_all_identifiers is while search_path is set, which comes behind it. */
static const struct params *settings_of(const struct settings_diff *d)
{
	return params_get(d->to, "quote_all_identifiers") ? d->to : d->from;
}

/* The next of the settings that are not identity; *sql stays empty at the end. */
static bool diff_others(struct settings_diff *d, struct buf *sql)
{
	const struct params *a = d->from, *b = d->to;
	while (d->i < a->n || d->j < b->n) {
		int order = d->i == a->n ? 1 : d->j == b->n ? -1 : strcmp(a->items[d->i].name, b->items[d->j].name);
		const struct param *was = order <= 0 ? &a->items[d->i++] : NULL,
		                   *is = order >= 0 ? &b->items[d->j++] : NULL;
		if (is_identity(was ? was->name : is->name) || (was && is && strcmp(was->value, is->value) == 0))
			continue;
		/* Where the backend's own start leads to the same it shall show that it came from there (E7). */
		const char *start = is && d->base ? params_get(d->base, is->name) : NULL;
		return is && !(was && start && strcmp(start, is->value) == 0)
		           ? settings_put_set(sql, is, settings_of(d), false)
		           : put_reset(sql, was->name);
	}
	return false;
}

static bool diff_step(struct settings_diff *d, struct buf *sql)
{
	const char *value;
	switch ((enum diff_step)d->step) {
	case DIFF_RESET_AUTHORIZATION:
	case DIFF_RESET_ROLE:
		value = identity[d->step - DIFF_RESET_AUTHORIZATION];
		return (d->reset_all || params_get(d->from, value)) && put_reset(sql, value);
	case DIFF_RESET_ALL:
		return d->reset_all && buf_put(sql, "RESET ALL", sizeof "RESET ALL");
	case DIFF_OTHERS:
		return diff_others(d, sql);
	case DIFF_AUTHORIZATION:
	case DIFF_ROLE: {
		struct param p = { identity[d->step - DIFF_AUTHORIZATION], NULL };
		p.value = params_get(d->to, p.name);
		return p.value && settings_put_set(sql, &p, d->to, false);
	}
	case DIFF_END:
		break;
	}
	return false;
}

bool settings_diff_next(struct settings_diff *d, struct buf *sql)
{
	if (d->from == d->to && !d->reset_all)
		return false;
	while (d->step < DIFF_END) {
		buf_clear(sql);
		bool some = diff_step(d, sql);
		d->step += !some || d->step != DIFF_OTHERS;
		if (some)
			return true;
	}
	return false;
}

bool settings_differ_in_defaults(const struct params *from, const struct params *to)
{
	static const char *const names[] = { "default_transaction_isolation", "default_transaction_read_only",
		                             "default_transaction_deferrable", "transaction_timeout" };
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *was = params_get(from, names[i]), *is = params_get(to, names[i]);
		if ((was || is) && !(was && is && strcmp(was, is) == 0))
			return true;
	}
	return false;
}
