/* conf/conninfo.c - see conf/conninfo.h. */
#include "conf/conninfo.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <string.h>

#include "base/mem.h"
#include "options_priv.h"

enum { DEFAULT_PORT = 5432, HOSTS_MAX = 64 };

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static struct str skip_blanks(struct str s)
{
	while (s.n && is_blank(s.p[0]))
		s = (struct str){ s.p + 1, s.n - 1 };
	return s;
}

static struct str skip(struct str s, size_t n) { return (struct str){ s.p + n, s.n - n }; }

void conf_pair_free(struct conf_pair *pair)
{
	mem_free_secret(pair->value, pair->value_len);
	pair->value = NULL;
}

/* s begins behind the opening quote.  Returns how many bytes it took, the closing quote too; 0: there is none. */
static size_t read_quoted(struct str s, char *out, size_t *out_len)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\'') {
			if (i + 1 == s.n || s.p[i + 1] != '\'') {
				*out_len = n;
				return i + 1;
			}
			i++;
		}
		out[n++] = s.p[i];
	}
	return 0;
}

static size_t read_plain(struct str s, char *out, size_t *out_len)
{
	size_t n = 0;
	for (; n < s.n && !is_blank(s.p[n]); n++)
		out[n] = s.p[n];
	*out_len = n;
	return n;
}

static enum conf_pair_result bad_pair(struct conf_pair *pair, char **why, const char *what)
{
	char *key = conf_quote(pair->key);
	conf_pair_free(pair);
	*why = mem_printf("%s %s", key, what);
	mem_free(key);
	return CONF_PAIR_ERROR;
}

enum conf_pair_result conf_pair_next(struct str *rest, struct conf_pair *pair, char **why)
{
	struct str s = skip_blanks(*rest);
	size_t n = 0, used;
	*pair = (struct conf_pair){ .value = NULL };
	*why = NULL;
	if (s.n == 0)
		return CONF_PAIR_END;
	while (n < s.n && s.p[n] != '=' && !is_blank(s.p[n]))
		n++;
	pair->key = (struct str){ s.p, n };
	s = skip_blanks(skip(s, n));
	if (n == 0 || s.n == 0 || s.p[0] != '=')
		return bad_pair(pair, why,
		                n ? "has no value; write key=value, and a value with blanks in single quotes"
		                  : "is no key: there is nothing before =");
	s = skip_blanks(skip(s, 1));
	pair->value = mem_alloc(s.n + 1);
	if (s.n && s.p[0] == '\'') {
		used = read_quoted(skip(s, 1), pair->value, &pair->value_len) + 1;
		if (used == 1)
			return bad_pair(pair, why, "has a value whose closing quote is missing");
		if (used < s.n && !is_blank(s.p[used]))
			return bad_pair(pair, why,
			                "has text right behind its closing quote; a quote in a value is doubled");
	} else {
		used = read_plain(s, pair->value, &pair->value_len);
	}
	pair->value[pair->value_len] = '\0';
	*rest = skip(s, used);
	return CONF_PAIR_OK;
}

/* --- hosts -------------------------------------------------------------------------------------------------------- */

/* The next item of a list with commas; moves *list behind it. */
static struct str next_item(const char **list)
{
	size_t n = strcspn(*list, ",");
	struct str item = str_trim((struct str){ *list, n });
	*list += n + ((*list)[n] ? 1 : 0);
	return item;
}

static int count_items(const char *list)
{
	int n = 1;
	for (; *list; list++)
		n += *list == ',';
	return n;
}

static bool parse_ports(const char *list, int n_hosts, int *ports, char **why)
{
	int n = list ? count_items(list) : 1;
	if (n != 1 && n != n_hosts) {
		*why = mem_printf("%d ports for %d host%s; give one port, or one for each host", n, n_hosts,
		                  n_hosts == 1 ? "" : "s");
		return false;
	}
	for (int i = 0; i < n; i++) {
		struct str item = list ? next_item(&list) : (struct str){ NULL, 0 };
		int64_t v = DEFAULT_PORT;
		if (item.n && !str_to_i64(item, &v)) {
			/* Not shown: in a URI that lost its "@" the password stands where the port should. */
			*why = mem_strdup("this is not a port; use 1 to 65535");
			return false;
		}
		if (v < 1 || v > 65535) {
			*why = mem_printf("%" PRId64 " is out of range; use 1 to 65535", v);
			return false;
		}
		ports[i] = (int)v;
	}
	for (int i = n; i < n_hosts; i++)
		ports[i] = ports[0];
	return true;
}

static bool refuse_host(struct str item, const char *what, char **why)
{
	char *quoted = conf_quote(item);
	*why = mem_printf("%s %s", quoted, what);
	mem_free(quoted);
	return false;
}

static bool check_host(struct str item, char **why)
{
	const char *colon = item.n ? memchr(item.p, ':', item.n) : NULL;
	if (item.n && (item.p[0] == '/' || item.p[0] == '@'))
		return true;
	if (colon && !memchr(colon + 1, ':', item.n - (size_t)(colon + 1 - item.p)))
		return refuse_host(item, "is not a host name; write the port as port=", why);
	for (size_t i = 0; i < item.n; i++) {
		if (is_blank(item.p[i]))
			return refuse_host(item, "is not a host name; hosts are separated by commas", why);
	}
	return true;
}

void conf_hosts_free(struct conf_host *hosts, int n_hosts)
{
	for (int i = 0; i < n_hosts; i++)
		mem_free(hosts[i].host);
	mem_free(hosts);
}

/* [::1] is ::1. */
static struct str without_brackets(struct str s)
{
	bool has = s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']';
	return has ? (struct str){ s.p + 1, s.n - 2 } : s;
}

bool conf_parse_hosts(const char *host, const char *port, const char *default_host, struct conf_host **hosts,
                      int *n_hosts, const char **key, char **why)
{
	int ports[HOSTS_MAX], n = host ? count_items(host) : 1;
	*key = "host";
	if (n > HOSTS_MAX) {
		*why = mem_printf("%d hosts; at most %d are possible", n, HOSTS_MAX);
		return false;
	}
	for (const char *p = host; p && *p;) {
		if (!check_host(without_brackets(next_item(&p)), why))
			return false;
	}
	*key = "port";
	if (!parse_ports(port && *port ? port : NULL, n, ports, why))
		return false;
	*hosts = mem_zalloc((size_t)n * sizeof(**hosts));
	*n_hosts = n;
	for (int i = 0; i < n; i++) {
		struct str item = host ? without_brackets(next_item(&host)) : (struct str){ NULL, 0 };
		(*hosts)[i].host = item.n ? mem_strndup(item.p, item.n) : mem_strdup(default_host);
		(*hosts)[i].port = ports[i];
	}
	return true;
}

/* --- URIs --------------------------------------------------------------------------------------------------------- */

/* libpq's messages quote what they complain about, up to the whole string with its password: only what stands before
 * the first quoted part is ours to show. */
static char *safe_message(const char *libpq)
{
	size_t n = libpq ? strcspn(libpq, "\"\n") : 0;
	struct str head = str_trim((struct str){ libpq, n });
	while (head.n && (head.p[head.n - 1] == ':' || head.p[head.n - 1] == '('))
		head = str_trim((struct str){ head.p, head.n - 1 });
	return mem_printf(
	    "the connection string is not understood (%.*s ...); write postgresql://user:password@host1:5432,"
	    "host2:5433/database, with special characters as %%XX",
	    (int)head.n, head.n ? head.p : "");
}

bool conf_parse_uri(const char *uri, conf_uri_fn fn, void *arg, char **why)
{
	char *message = NULL;
	PQconninfoOption *options = PQconninfoParse(uri, &message);
	if (!options) {
		*why = message ? safe_message(message) : mem_strdup("out of memory");
		PQfreemem(message);
		return false;
	}
	for (const PQconninfoOption *o = options; o->keyword; o++) {
		if (o->val)
			fn(arg, o->keyword, o->val);
	}
	PQconninfoFree(options);
	return true;
}
