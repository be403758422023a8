/* auth/hba.c - see auth/hba.h.
 *
 * The grammar is that of PostgreSQL's hba.c: fields part at white space, items of a field at commas, "..." takes the
 * meaning from keywords and separators, # begins a comment, a backslash at the end joins a line with the next one.
 * Reading goes in three steps: logical line -> token -> rule.  Errors carry the number of the line where the rule
 * begins. */
#include "auth/hba.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include "base/mem.h"
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

/* --- tokens --- */

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

static void set_error(struct reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void set_error(struct reader *r, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(r->error, r->error_size, "%s:%u: ", r->path, r->line);
	if (n >= 0 && (size_t)n < r->error_size) {
		va_start(ap, fmt);
		(void)vsnprintf(r->error + n, r->error_size - (size_t)n, fmt, ap);
		va_end(ap);
	}
}
/* A macro, so that compilers and analyzers see that it is always false. */
#define fail(r, ...) (set_error(r, __VA_ARGS__), false)

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

static bool at_end(struct reader *r)
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

/* t->text is to be freed, also after a failure. */
static bool next_token(struct reader *r, const char *what, struct token *t)
{
	*t = (struct token){ .text = NULL };
	if (at_end(r) || *r->p == ',')
		return fail(r, "expected %s", what);
	t->text = mem_alloc((size_t)(r->end - r->p) + 1);
	t->is_quoted = *r->p == '"';
	if (!copy_token(r, t->text))
		return false;
	if (!at_end(r) && *r->p == ',') {
		t->comma_follows = true;
		r->p++;
	}
	return true;
}

/* A field that must have one item. */
static bool next_word(struct reader *r, const char *what, struct token *t)
{
	if (!next_token(r, what, t))
		return false;
	return t->comma_follows ? fail(r, "%s must not be a list", what) : true;
}

/* --- names --- */

enum which_names { DATABASE_NAMES, USER_NAMES };
static const char *const which_text[] = { "a database", "a user" };

static bool is_keyword(const struct token *t, const char *word) { return !t->is_quoted && strcmp(t->text, word) == 0; }

static enum name_kind name_kind(const struct token *t, enum which_names which)
{
	if (is_keyword(t, "all"))
		return NAME_ALL;
	if (which == DATABASE_NAMES && is_keyword(t, "sameuser"))
		return NAME_SAMEUSER;
	if (which == DATABASE_NAMES && is_keyword(t, "replication"))
		return NAME_REPLICATION;
	return NAME_EXACT;
}

/* What needs the server's catalog or its regular expressions. */
static bool name_is_supported(struct reader *r, const struct token *t, enum which_names which)
{
	if (t->is_quoted)
		return true;
	if (which == DATABASE_NAMES && (is_keyword(t, "samerole") || is_keyword(t, "samegroup")))
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
	bool ok = next_token(r, which_text[which], &t) && add_name(r, &t, which, list);
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
	while (ok && buf_len(&text) && !at_end(&inner))
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
	bool ok = next_word(r, "a prefix length or a network mask", &mask);
	if (ok && (!parse_address(mask.text, &family, out->mask) || family != out->family))
		ok = fail(r, "invalid network mask \"%s\"", mask.text);
	mem_free(mask.text);
	return ok;
}

static bool read_network(struct reader *r, struct network *out)
{
	struct token t;
	bool ok = next_word(r, "an address", &t);
	if (ok && is_keyword(&t, "all"))
		out->family = AF_UNSPEC;
	else if (ok && (is_keyword(&t, "samehost") || is_keyword(&t, "samenet")))
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
	bool ok = next_word(r, "a connection type", &t) && find_transports(r, t.text, rule, has_address);
	mem_free(t.text);
	return ok;
}

static bool method_fits_transport(struct reader *r, const struct rule *rule)
{
	if (rule->method == AUTH_METHOD_PEER && rule->transports != 1u << HBA_UNIX)
		return fail(r, "peer authentication is only supported on local sockets");
	if (rule->method == AUTH_METHOD_CERT && rule->transports != 1u << HBA_TCP_TLS)
		return fail(r, "cert authentication is only supported on hostssl connections");
	return true;
}

static bool read_method(struct reader *r, struct rule *rule)
{
	struct token t;
	bool ok = next_word(r, "an authentication method", &t);
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
	bool ok = next_word(r, "an option", &t);
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
	while (!at_end(r)) {
		if (!read_option(r, rule))
			return false;
	}
	return true;
}

static bool add_rule(struct hba *hba, struct reader *r)
{
	if (at_end(r))
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

static bool read_rules(struct hba *hba, struct str text, struct reader *r, char *room)
{
	const char *p = text.p, *end = text.p + text.n;
	unsigned line = 1;
	while (p < end) {
		size_t n;
		unsigned lines = join_lines(&p, end, room, &n);
		r->line = line;
		r->p = room;
		r->end = room + n;
		if (!add_rule(hba, r))
			return false;
		line += lines;
	}
	return true;
}

struct hba *hba_parse(struct str text, const char *path, char *error, size_t error_size)
{
	struct reader r = { .path = path, .error = error, .error_size = error_size };
	struct hba *hba = mem_zalloc(sizeof(*hba));
	char *room = mem_alloc(text.n + 1);
	atomic_init(&hba->refs, 1);
	STAILQ_INIT(&hba->rules);
	bool ok = text.n == 0 || read_rules(hba, text, &r, room);
	mem_free(room);
	if (ok)
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
