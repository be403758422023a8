/* proxy/settings.c - see proxy/settings.h. */
#include "proxy/settings.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>
#include "base/mem.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/measure.h"
#include "proxy/worker.h"

/* GUC_REPORT settings that a client can change (guc_tables.c, 14 to 18). */
static const char *const reported[] = { "application_name",  "client_encoding",
	                                "datestyle",         "default_transaction_read_only",
	                                "intervalstyle",     "search_path",
	                                "timezone",          "standard_conforming_strings",
	                                "extra_float_digits" };
/* GUC_LIST_QUOTE: one quoted string would become one name with commas in it. */
static const char *const name_lists[] = { "search_path", "temp_tablespaces", "local_preload_libraries",
	                                  "session_preload_libraries" };

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
	enum { NAME_BYTES_MAX = 63 };
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
}

void settings_start_session(struct client *c)
{
	struct params_table *t = &c->worker->params;
	const struct conf_database *conf = c->du->conf;
	settings_follow_config(c);
	if (!c->application)
		c->application = mem_strdup(conf->application_name ? conf->application_name : "");
	measure_client(c);
	char *tag = make_tag(c);
	params_unref(t, c->profile);
	c->profile = params_with(t, c->startup, STR("application_name"), str_of(tag));
	mem_free(tag);
}

/* --- difference --- */

static bool put_literal(struct buf *b, const char *value)
{
	bool ok = buf_put(b, " E'", 3);
	for (; *value && ok; value++) {
		char pair[2] = { *value, *value };
		ok = buf_put(b, pair, *value == '\'' || *value == '\\' ? 2 : 1);
	}
	return ok && buf_put(b, "'", 1);
}

static bool put_text(struct buf *b, const char *s) { return buf_put(b, s, strlen(s)); }

static bool put_set(struct buf *b, const struct param *p)
{
	if (is_one_of(str_of(p->name), name_lists, ARRAY_LEN(name_lists)))
		return put_text(b, "SELECT pg_catalog.set_config('") && put_text(b, p->name) && put_text(b, "',") &&
		       put_literal(b, p->value) && buf_put(b, ", false)", 9);
	return put_text(b, "SET ") && put_text(b, p->name) && put_text(b, " TO") && put_literal(b, p->value) &&
	       buf_put(b, "", 1);
}

static bool put_reset(struct buf *b, const struct param *p)
{
	return put_text(b, "RESET ") && put_text(b, p->name) && buf_put(b, "", 1);
}

bool settings_diff_next(struct settings_diff *d, struct buf *sql)
{
	const struct params *a = d->from, *b = d->to;
	buf_clear(sql);
	if (d->reset_all) {
		d->reset_all = false;
		return buf_put(sql, "RESET ALL", sizeof "RESET ALL");
	}
	while (d->i < a->n || d->j < b->n) {
		int order = d->i == a->n ? 1 : d->j == b->n ? -1 : strcmp(a->items[d->i].name, b->items[d->j].name);
		if (order < 0)
			return put_reset(sql, &a->items[d->i++]);
		if (order > 0)
			return put_set(sql, &b->items[d->j++]);
		const struct param *was = &a->items[d->i++], *is = &b->items[d->j++];
		if (strcmp(was->value, is->value) != 0)
			return put_set(sql, is);
	}
	return false;
}

bool settings_differ_in_tag_only(const struct params *from, const struct params *to)
{
	unsigned i = 0, j = 0;
	while (i < from->n || j < to->n) {
		bool from_tag = i < from->n && strcmp(from->items[i].name, "application_name") == 0;
		bool to_tag = j < to->n && strcmp(to->items[j].name, "application_name") == 0;
		i += from_tag;
		j += to_tag;
		if (from_tag || to_tag)
			continue;
		if (i == from->n || j == to->n || strcmp(from->items[i].name, to->items[j].name) != 0 ||
		    strcmp(from->items[i].value, to->items[j].value) != 0)
			return false;
		i++;
		j++;
	}
	return true;
}

bool settings_needs_own_step(const struct params *from, const struct params *to)
{
	for (size_t i = 0; i < ARRAY_LEN(name_lists); i++) {
		const char *was = params_get(from, name_lists[i]), *is = params_get(to, name_lists[i]);
		if (is && (!was || strcmp(was, is) != 0))
			return true;
	}
	return false;
}
