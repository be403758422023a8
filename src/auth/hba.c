/* auth/hba.c - see auth/hba.h.
 *
 * How a file falls into lines and tokens is in fields.c; this is about what the tokens of a rule mean. */
#include "auth/hba.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include "base/mem.h"
#include "fields_priv.h"
#include "file_priv.h"

enum name_kind {
	NAME_EXACT,
	NAME_ALL,
	NAME_SAMEUSER,    /* database only: has the user's name */
	NAME_REPLICATION, /* database only */
};

struct name {
	enum name_kind kind;
	char *text; /* owned; NULL unless NAME_EXACT */
	STAILQ_ENTRY(name) link;
};
STAILQ_HEAD(name_list, name);

/* Bits of the transports that a rule's first word speaks of. */
#define TRANSPORTS(X)                                                                                                  \
	X("local", 1u << HBA_UNIX)                                                                                     \
	X("host", 1u << HBA_TCP_PLAIN | 1u << HBA_TCP_TLS)                                                             \
	X("hostssl", 1u << HBA_TCP_TLS)                                                                                \
	X("hostnossl", 1u << HBA_TCP_PLAIN)                                                                            \
	X("hostgssenc", 0u) /* legal, but nobody reaches us that way */                                                \
	X("hostnogssenc", 1u << HBA_TCP_PLAIN | 1u << HBA_TCP_TLS)

static const struct {
	const char *word;
	unsigned transports;
} rule_words[] = {
#define RULE_WORD(word, transports) { word, transports },
	TRANSPORTS(RULE_WORD)
#undef RULE_WORD
};

struct network {
	int family; /* AF_UNSPEC: every address */
	uint8_t bytes[16], mask[16];
};

struct rule {
	unsigned transports;
	struct name_list databases, users; /* owned */
	struct network network;
	enum auth_method method;
	char *map; /* owned; NULL: none */
	unsigned line;
	STAILQ_ENTRY(rule) link;
};

struct hba {
	atomic_uint refs;
	size_t count;
	STAILQ_HEAD(, rule) rules; /* owned; in the file's order */
};

/* --- life --- */

static void names_free(struct name_list *list)
{
	struct name *name;
	while ((name = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, link);
		mem_free(name->text);
		mem_free(name);
	}
}

static void rule_free(struct rule *rule)
{
	names_free(&rule->databases);
	names_free(&rule->users);
	mem_free(rule->map);
	mem_free(rule);
}

struct hba *hba_ref(struct hba *hba)
{
	atomic_fetch_add_explicit(&hba->refs, 1, memory_order_relaxed);
	return hba;
}

void hba_unref(struct hba *hba)
{
	struct rule *rule;
	if (!hba || atomic_fetch_sub_explicit(&hba->refs, 1, memory_order_acq_rel) != 1)
		return;
	while ((rule = STAILQ_FIRST(&hba->rules))) {
		STAILQ_REMOVE_HEAD(&hba->rules, link);
		rule_free(rule);
	}
	mem_free(hba);
}

size_t hba_count(const struct hba *hba) { return hba->count; }

struct hba_verdict hba_rule(const struct hba *hba, size_t i)
{
	const struct rule *rule = STAILQ_FIRST(&hba->rules);
	while (i-- > 0 && rule)
		rule = STAILQ_NEXT(rule, link);
	CHECK(rule);
	return (struct hba_verdict){ true, rule->method, rule->line, rule->map };
}

/* --- match --- */

static bool database_fits(const struct name *name, const struct hba_query *q)
{
	switch (name->kind) {
	case NAME_REPLICATION:
		return q->is_physical_replication;
	case NAME_ALL:
		return !q->is_physical_replication;
	case NAME_SAMEUSER:
		return !q->is_physical_replication && str_eq(q->database, q->user);
	case NAME_EXACT:
		return !q->is_physical_replication && str_eq(q->database, str_of(name->text));
	}
	return false;
}

static bool any_database_fits(const struct rule *rule, const struct hba_query *q)
{
	const struct name *name;
	STAILQ_FOREACH(name, &rule->databases, link)
	{
		if (database_fits(name, q))
			return true;
	}
	return false;
}

static bool any_user_fits(const struct rule *rule, const struct hba_query *q)
{
	const struct name *name;
	STAILQ_FOREACH(name, &rule->users, link)
	{
		if (name->kind == NAME_ALL || str_eq(q->user, str_of(name->text)))
			return true;
	}
	return false;
}

/* Bytes of an address; an IPv4 client of an IPv6 socket is an IPv4 client. */
static const uint8_t *address_bytes(const struct sockaddr *addr, int *family)
{
	*family = addr ? addr->sa_family : AF_UNSPEC;
	if (*family == AF_INET)
		return (const uint8_t *)&((const struct sockaddr_in *)(const void *)addr)->sin_addr;
	if (*family != AF_INET6)
		return NULL;
	const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr;
	if (!IN6_IS_ADDR_V4MAPPED(six))
		return six->s6_addr;
	*family = AF_INET;
	return six->s6_addr + 12;
}

static bool network_fits(const struct network *network, const struct sockaddr *addr)
{
	int family;
	if (network->family == AF_UNSPEC)
		return true;
	const uint8_t *bytes = address_bytes(addr, &family);
	if (!bytes || family != network->family)
		return false;
	size_t n = family == AF_INET ? 4 : 16;
	for (size_t i = 0; i < n; i++) {
		if ((bytes[i] ^ network->bytes[i]) & network->mask[i])
			return false;
	}
	return true;
}

struct hba_verdict hba_match(const struct hba *hba, const struct hba_query *query)
{
	const struct rule *rule;
	STAILQ_FOREACH(rule, &hba->rules, link)
	{
		if ((rule->transports >> query->transport & 1u) && any_database_fits(rule, query) &&
		    any_user_fits(rule, query) && network_fits(&rule->network, query->addr))
			return (struct hba_verdict){ true, rule->method, rule->line, rule->map };
	}
	return (struct hba_verdict){ false, AUTH_METHOD_REJECT, 0, NULL };
}

/* --- names --- */

enum which_names { DATABASE_NAMES, USER_NAMES };
static const char *const which_text[] = { "a database", "a user" };

static enum name_kind name_kind(const struct token *t, enum which_names which)
{
	if (fields_is_keyword(t, "all"))
		return NAME_ALL;
	if (which == DATABASE_NAMES && fields_is_keyword(t, "sameuser"))
		return NAME_SAMEUSER;
	if (which == DATABASE_NAMES && fields_is_keyword(t, "replication"))
		return NAME_REPLICATION;
	return NAME_EXACT;
}

/* What needs the server's catalog or its regular expressions. */
static bool name_is_supported(struct reader *r, const struct token *t, enum which_names which)
{
	if (t->is_quoted)
		return true;
	if (which == DATABASE_NAMES && (fields_is_keyword(t, "samerole") || fields_is_keyword(t, "samegroup")))
		return fail(r, "\"%s\" is not supported: role membership is not known here", t->text);
	if (which == USER_NAMES && t->text[0] == '+')
		return fail(r, "\"%s\" is not supported: role membership is not known here", t->text);
	if (t->text[0] == '/')
		return fail(r, "\"%s\" is not supported: regular expressions are not supported here", t->text);
	return true;
}

static bool add_names_of_file(struct reader *r, const char *file, enum which_names which, struct name_list *list);

static bool add_name(struct reader *r, const struct token *t, enum which_names which, struct name_list *list)
{
	if (!t->is_quoted && t->text[0] == '@' && t->text[1] != '\0')
		return add_names_of_file(r, t->text + 1, which, list);
	if (!name_is_supported(r, t, which))
		return false;
	struct name *name = mem_zalloc(sizeof(*name));
	name->kind = name_kind(t, which);
	if (name->kind == NAME_EXACT)
		name->text = mem_strdup(t->text);
	STAILQ_INSERT_TAIL(list, name, link);
	return true;
}

static bool add_next_name(struct reader *r, enum which_names which, struct name_list *list, bool *more)
{
	struct token t;
	bool ok = fields_token(r, which_text[which], &t) && add_name(r, &t, which, list);
	*more = t.comma_follows;
	mem_free(t.text);
	return ok;
}

/* In such a file white space parts names as well as commas do. */
static bool add_names_of_file(struct reader *r, const char *file, enum which_names which, struct name_list *list)
{
	enum { DEPTH_MAX = 10 };
	const char *slash = strrchr(r->path, '/');
	char *path =
	    file[0] == '/' || !slash ? mem_strdup(file) : mem_printf("%.*s/%s", (int)(slash - r->path), r->path, file);
	struct buf text = { 0 };
	bool more, ok = r->depth < DEPTH_MAX || fail(r, "files named by @ are nested too deep");
	if (ok && !auth_file_read(path, &text))
		ok = fail(r, "could not read \"%s\": %s", path, strerror(errno));
	struct reader inner = *r;
	inner.p = (const char *)text.data;
	inner.end = inner.p + buf_len(&text);
	inner.path = path;
	inner.line = 1; /* of the file as a whole */
	inner.depth++;
	while (ok && buf_len(&text) && !fields_at_end(&inner))
		ok = add_next_name(&inner, which, list, &more);
	auth_file_wipe(&text);
	mem_free(path);
	return ok;
}

static bool read_names(struct reader *r, enum which_names which, struct name_list *list)
{
	bool more = true;
	while (more) {
		if (!add_next_name(r, which, list, &more))
			return false;
	}
	return true;
}

/* --- addresses --- */

static bool parse_address(const char *text, int *family, uint8_t bytes[16])
{
	*family = strchr(text, ':') ? AF_INET6 : AF_INET;
	return inet_pton(*family, text, bytes) == 1;
}

static bool set_prefix(struct network *network, const char *text)
{
	int64_t bits, most = network->family == AF_INET ? 32 : 128;
	if (text[0] < '0' || text[0] > '9' || !str_to_i64(str_of(text), &bits) || bits > most)
		return false;
	for (size_t i = 0; i < sizeof(network->mask); i++) {
		int64_t left = bits - (int64_t)i * 8;
		network->mask[i] = left >= 8 ? 0xff : left <= 0 ? 0 : (uint8_t)(0xff << (8 - left));
	}
	return true;
}

/* Address and prefix in one word, or the mask in a word of its own. */
static bool read_mask(struct reader *r, char *address, struct network *out)
{
	struct token mask;
	int family;
	char *slash = strchr(address, '/');
	if (slash)
		*slash = '\0';
	if (!parse_address(address, &out->family, out->bytes))
		return fail(r, "\"%s\" is not an IP address; host names are not supported here", address);
	if (slash)
		return set_prefix(out, slash + 1) || fail(r, "invalid prefix length \"%s\"", slash + 1);
	bool ok = fields_word(r, "a prefix length or a network mask", &mask);
	if (ok && (!parse_address(mask.text, &family, out->mask) || family != out->family))
		ok = fail(r, "invalid network mask \"%s\"", mask.text);
	mem_free(mask.text);
	return ok;
}

static bool read_network(struct reader *r, struct network *out)
{
	struct token t;
	bool ok = fields_word(r, "an address", &t);
	if (ok && fields_is_keyword(&t, "all"))
		out->family = AF_UNSPEC;
	else if (ok && (fields_is_keyword(&t, "samehost") || fields_is_keyword(&t, "samenet")))
		ok = fail(r, "\"%s\" is not supported here; write the networks", t.text);
	else if (ok)
		ok = read_mask(r, t.text, out);
	mem_free(t.text);
	return ok;
}

/* --- rules --- */

static bool find_transports(struct reader *r, const char *word, struct rule *rule, bool *has_address)
{
	for (size_t i = 0; i < ARRAY_LEN(rule_words); i++) {
		if (strcmp(word, rule_words[i].word) == 0) {
			rule->transports = rule_words[i].transports;
			*has_address = rule->transports != 1u << HBA_UNIX;
			return true;
		}
	}
	return fail(r, "expected local, host, hostssl, hostnossl, hostgssenc or hostnogssenc, not \"%s\"", word);
}

static bool read_transports(struct reader *r, struct rule *rule, bool *has_address)
{
	struct token t;
	bool ok = fields_word(r, "a connection type", &t) && find_transports(r, t.text, rule, has_address);
	mem_free(t.text);
	return ok;
}

static bool method_fits_transport(struct reader *r, const struct rule *rule)
{
	if (rule->method == AUTH_METHOD_PEER && rule->transports != 1u << HBA_UNIX)
		return fail(r, "peer authentication is only supported on local sockets");
	/* PgBouncer takes "host" too; who comes without TLS has no certificate to show, and is refused. */
	if (rule->method == AUTH_METHOD_CERT && !(rule->transports & 1u << HBA_TCP_TLS))
		return fail(r, "cert authentication is only supported on hostssl connections");
	return true;
}

static bool read_method(struct reader *r, struct rule *rule)
{
	struct token t;
	bool ok = fields_word(r, "an authentication method", &t);
	/* "any" and "hba" are auth_types, "plain" a PgBouncer word: none of them stands in such a file. */
	if (ok && (!auth_method_parse(str_of(t.text), &rule->method) || rule->method == AUTH_METHOD_ANY ||
	           rule->method == AUTH_METHOD_HBA || strcmp(t.text, "plain") == 0))
		ok = fail(r,
		          "authentication method \"%s\" is not supported: expected trust, reject, md5, password, "
		          "scram-sha-256, cert or peer",
		          t.text);
	mem_free(t.text);
	return ok && method_fits_transport(r, rule);
}

static bool read_option(struct reader *r, struct rule *rule)
{
	struct token t;
	bool ok = fields_word(r, "an option", &t);
	if (ok && strncmp(t.text, "map=", 4) == 0 && t.text[4] != '\0' &&
	    (rule->method == AUTH_METHOD_PEER || rule->method == AUTH_METHOD_CERT)) {
		mem_free(rule->map);
		rule->map = mem_strdup(t.text + 4);
	} else if (ok) {
		ok = fail(r, "option \"%s\" is not supported with method %s", t.text, auth_method_name(rule->method));
	}
	mem_free(t.text);
	return ok;
}

static bool read_rule(struct reader *r, struct rule *rule)
{
	bool has_address = false;
	if (!read_transports(r, rule, &has_address) || !read_names(r, DATABASE_NAMES, &rule->databases) ||
	    !read_names(r, USER_NAMES, &rule->users))
		return false;
	if (has_address && !read_network(r, &rule->network))
		return false;
	if (!read_method(r, rule))
		return false;
	while (!fields_at_end(r)) {
		if (!read_option(r, rule))
			return false;
	}
	return true;
}

static bool add_rule(struct reader *r, void *arg)
{
	struct hba *hba = arg;
	if (fields_at_end(r))
		return true;
	struct rule *rule = mem_zalloc(sizeof(*rule));
	STAILQ_INIT(&rule->databases);
	STAILQ_INIT(&rule->users);
	rule->network.family = AF_UNSPEC;
	rule->line = r->line;
	if (!read_rule(r, rule)) {
		rule_free(rule);
		return false;
	}
	STAILQ_INSERT_TAIL(&hba->rules, rule, link);
	hba->count++;
	return true;
}

struct hba *hba_parse(struct str text, const char *path, char *error, size_t error_size)
{
	struct reader r = { .path = path, .error = error, .error_size = error_size };
	struct hba *hba = mem_zalloc(sizeof(*hba));
	atomic_init(&hba->refs, 1);
	STAILQ_INIT(&hba->rules);
	if (fields_each_line(&r, text, add_rule, hba))
		return hba;
	hba_unref(hba);
	return NULL;
}

struct hba *hba_load(const char *path, char *error, size_t error_size)
{
	struct hba *hba = NULL;
	struct buf text;
	if (auth_file_read(path, &text))
		hba = hba_parse((struct str){ (const char *)text.data, buf_len(&text) }, path, error, error_size);
	else
		snprintf(error, error_size, "could not read rule file \"%s\": %s", path, strerror(errno));
	auth_file_wipe(&text);
	return hba;
}
