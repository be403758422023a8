/* conf/config_load.c - builds a configuration from a file, a connection string, the environment and the command line;
 * see conf/config.h.
 *
 * Nothing stops at the first mistake: every line is read, each mistake becomes an entry of struct config_errors, and
 * only at the end it is decided whether there is a configuration.  A key that is given twice takes its last value, as
 * in PgBouncer, but is warned about with both places. */
#include <stdlib.h>

#include "base/mem.h"
#include "conf/config.h"
#include "conf/conninfo.h"
#include "conf/ini.h"
#include "config_priv.h"
#include "options_priv.h"

enum { NAME_BYTES_MAX = 63, PEER_ID_MAX = 65535 }; /* PostgreSQL's NAMEDATALEN - 1 */

struct loader {
	struct config *cfg;
	struct config_errors *errs;
	struct config_place *at;                    /* owned: place of each global option, by option_index() */
	struct config_place *entry_at[ENTRY_KINDS]; /* owned: place of each entry, by its index */
	struct config_place bad_section;            /* where an unknown section was complained about */
	char *bad_section_name;                     /* owned */
};

/* Each message is made by a function that returns an owned string; this adds it and frees it. */
static void add_owned(struct loader *l, struct config_place place, const char *key, char *message)
{
	config_errors_add(l->errs, CONFIG_ERROR, place, key, "%s", message);
	mem_free(message);
}

static char *place_name(struct config_place place)
{
	return place.line ? mem_printf("%s:%d", place.file, place.line) : mem_strdup(place.file);
}

static void warn_twice(struct loader *l, struct config_place now, struct config_place before, const char *key)
{
	char *where = place_name(before);
	config_errors_add(l->errs, CONFIG_WARNING, now, key, "given again; this replaces what %s says", where);
	mem_free(where);
}

/* --- one key ------------------------------------------------------------------------------------------------------ */

static void unknown_key(struct loader *l, struct config_place place, struct str key, enum option_scope scope,
                        const char *section)
{
	static const struct {
		enum option_scope scope;
		const char *section;
	} elsewhere[] = { { SCOPE_GLOBAL, "[pgweir]" },
		          { SCOPE_DATABASE, "[databases]" },
		          { SCOPE_USER, "[users]" },
		          { SCOPE_APPLICATION, "[applications]" } };
	char *quoted = conf_quote(key), *suggestion = conf_did_you_mean(option_suggest(key, scope));
	const char *other = NULL;
	for (size_t i = 0; i < ARRAY_LEN(elsewhere) && !*suggestion && !other; i++) {
		if (option_find(key, elsewhere[i].scope))
			other = elsewhere[i].section;
	}
	config_errors_add(l->errs, CONFIG_ERROR, place, NULL, "%s: unknown key in [%s]%s%s%s", quoted, section,
	                  suggestion, other ? "; it belongs to " : "", other ? other : "");
	mem_free(suggestion);
	mem_free(quoted);
}

/* Kept, but done in another way here: say so once somebody relies on it. */
static void note_other_way(struct loader *l, struct config_place place, const struct conf_option *o, const void *field)
{
	char *value = option_format(o, field);
	if ((o->flags & OPTION_OTHER_WAY) && (!o->default_text || strcmp(value, o->default_text) != 0))
		config_errors_add(l->errs, CONFIG_NOTICE, place, o->name, "accepted without effect: %s", o->help);
	mem_free(value);
}

static void set_global(struct loader *l, struct config_place place, const struct conf_option *o, struct str value)
{
	struct config_place *at = &l->at[option_index(o)];
	char *why;
	/* The environment and the command line are there to override; only a repetition in one source is suspect. */
	if (at->file && at->line && place.line)
		warn_twice(l, place, *at, o->name);
	*at = place;
	if (!option_parse(o, value, config_field(l->cfg, o), &why)) {
		add_owned(l, place, o->name, why);
		return;
	}
	note_other_way(l, place, o, config_field(l->cfg, o));
}

static void global_line(struct loader *l, struct config_place place, struct str key, struct str value)
{
	const struct conf_option *o = option_find(key, SCOPE_GLOBAL);
	if (o)
		set_global(l, place, o, value);
	else
		unknown_key(l, place, key, SCOPE_GLOBAL, "pgweir");
}

/* --- one entry ---------------------------------------------------------------------------------------------------- */

static bool check_name(struct loader *l, struct config_place place, const struct entry_kind *kind, struct str name)
{
	int64_t id;
	char *quoted = conf_quote(name);
	const char *problem = NULL;
	if (name.n > NAME_BYTES_MAX)
		problem = "is longer than the 63 bytes that PostgreSQL allows for a name";
	else if (kind->scope == SCOPE_DATABASE && (str_eq(name, STR("pgbouncer")) || str_eq(name, STR("pgweir"))))
		problem = "is the name of the admin console; use another one";
	else if (kind->scope == SCOPE_PEER && (!str_to_i64(name, &id) || id < 1 || id > PEER_ID_MAX))
		problem = "is not a peer id; use 1 to 65535";
	else if (kind->scope != SCOPE_DATABASE && str_eq(name, STR("*")))
		problem = "is possible in [databases] only";
	if (problem)
		config_errors_add(l->errs, CONFIG_ERROR, place, NULL, "[%s]: %s %s", kind->section, quoted, problem);
	mem_free(quoted);
	return !problem;
}

/* The entry of that name, empty; its place is remembered. */
static void *begin_entry(struct loader *l, struct config_place place, const struct entry_kind *kind, struct str name)
{
	ptrdiff_t k = kind - entry_kinds;
	void *entry = entry_find(l->cfg, kind, name);
	int i = entry ? (int)(((char *)entry - (char *)entry_at(l->cfg, kind, 0)) / (ptrdiff_t)kind->size)
	              : entry_count(l->cfg, kind);
	if (entry) {
		if (place.line && l->entry_at[k][i].line)
			warn_twice(l, place, l->entry_at[k][i], entry_name(entry));
		entry_reset(kind, entry);
	} else {
		entry = entry_add(l->cfg, kind, name);
		l->entry_at[k] = mem_realloc(l->entry_at[k], (size_t)(i + 1) * sizeof(*l->entry_at[k]));
	}
	l->entry_at[k][i] = place;
	return entry;
}

/* `key` is the option as the file names it: its name or an alias. */
static void set_in_entry(struct loader *l, struct config_place place, const struct entry_kind *kind, void *entry,
                         const struct conf_option *o, struct str key, struct str value)
{
	uint32_t *set;
	void *field = entry_field(kind, entry, o, &set);
	char *why, *where = mem_printf("%s %s: %.*s", kind->noun, entry_name(entry), (int)key.n, key.p);
	if (!option_parse(o, value, field, &why))
		add_owned(l, place, where, why);
	else if (set)
		*set |= 1u << o->override_bit;
	else
		note_other_way(l, place, o, field);
	mem_free(where);
}

static void set_pair(struct loader *l, struct config_place place, const struct entry_kind *kind, void *entry,
                     const struct conf_pair *pair)
{
	const struct conf_option *o = option_find(pair->key, kind->scope);
	if (o)
		set_in_entry(l, place, kind, entry, o, pair->key, (struct str){ pair->value, pair->value_len });
	else
		unknown_key(l, place, pair->key, kind->scope, kind->section);
}

static void uri_pair(void *arg, const char *key, const char *value);

struct uri_target {
	struct loader *loader;
	struct config_place place;
	struct conf_database *db; /* borrowed; NULL: global keys may be meant too */
};

static bool is_uri(struct str s)
{
	return str_has_prefix(s, STR("postgresql://")) || str_has_prefix(s, STR("postgres://"));
}

/* name = postgresql://... is the same as the keys that the URI stands for. */
static void uri_entry(struct loader *l, struct config_place place, struct conf_database *db, struct str value)
{
	struct uri_target target = { l, place, db };
	char *why, *uri = mem_strndup(value.p, value.n);
	if (!conf_parse_uri(uri, uri_pair, &target, &why))
		add_owned(l, place, db->name, why);
	mem_free_secret(uri, value.n);
}

static void check_peer(struct loader *l, struct config_place place, struct conf_peer *peer)
{
	int64_t id = 0;
	(void)!str_to_i64(str_of(peer->name), &id); /* check_name() has seen it */
	peer->id = (int)id;
	if (!peer->host)
		config_errors_add(l->errs, CONFIG_ERROR, place, peer->name, "a peer needs host=");
}

static void entry_line(struct loader *l, struct config_place place, const struct entry_kind *kind, struct str name,
                       struct str value)
{
	struct conf_pair pair;
	enum conf_pair_result result;
	char *why;
	if (!check_name(l, place, kind, name))
		return;
	void *entry = begin_entry(l, place, kind, name);
	if (kind->scope == SCOPE_DATABASE && is_uri(value)) {
		uri_entry(l, place, entry, value);
		return;
	}
	while ((result = conf_pair_next(&value, &pair, &why)) == CONF_PAIR_OK) {
		set_pair(l, place, kind, entry, &pair);
		conf_pair_free(&pair);
	}
	if (result == CONF_PAIR_ERROR)
		add_owned(l, place, entry_name(entry), why);
	if (kind->scope == SCOPE_PEER)
		check_peer(l, place, entry);
}

/* --- lines of a file ---------------------------------------------------------------------------------------------- */

static const char *suggest_section(struct str section)
{
	static const char *const known[] = { "pgweir", "pgbouncer", "databases", "users", "applications", "peers" };
	char typed[48];
	for (size_t i = 0; i < ARRAY_LEN(known) && str_copy(typed, sizeof(typed), section); i++) {
		if (str_distance(typed, known[i], 3) <= 3)
			return known[i];
	}
	return NULL;
}

/* Complains once per section, not once per line of it. */
static void unknown_section(struct loader *l, struct config_place place, struct str section)
{
	if (l->bad_section_name && str_eq(str_of(l->bad_section_name), section))
		return;
	mem_free(l->bad_section_name);
	l->bad_section_name = mem_strndup(section.p, section.n);
	char *quoted = conf_quote(section), *suggestion = conf_did_you_mean(suggest_section(section));
	config_errors_add(l->errs, CONFIG_ERROR, place, NULL,
	                  section.n ? "unknown section %s%s"
	                            : "%sa key before the first section; begin with [databases] or [pgweir]%s",
	                  section.n ? quoted : "", suggestion);
	mem_free(suggestion);
	mem_free(quoted);
}

static void on_line(void *arg, struct config_place place, struct str section, struct str key, struct str value)
{
	struct loader *l = arg;
	if (str_ieq(section, STR("pgweir")) || str_ieq(section, STR("pgbouncer"))) {
		global_line(l, place, key, value);
		return;
	}
	for (int k = 0; k < ENTRY_KINDS; k++) {
		if (str_ieq(section, str_of(entry_kinds[k].section))) {
			entry_line(l, place, &entry_kinds[k], key, value);
			return;
		}
	}
	unknown_section(l, place, section);
}

/* --- a connection string ------------------------------------------------------------------------------------------ */

/* libpq's names of what is a global key here. */
static const struct {
	const char *libpq, *ours;
} uri_globals[] = {
	{ "sslmode", "server_tls_sslmode" },
	{ "sslrootcert", "server_tls_ca_file" },
	{ "sslcert", "server_tls_cert_file" },
	{ "sslkey", "server_tls_key_file" },
	{ "keepalives", "tcp_keepalive" },
	{ "keepalives_idle", "tcp_keepidle" },
	{ "keepalives_count", "tcp_keepcnt" },
	{ "keepalives_interval", "tcp_keepintvl" },
	{ "connect_timeout", "server_connect_timeout" },
	{ "tcp_user_timeout", "tcp_user_timeout" },
};

static const char *const uri_ignored[] = { "target_session_attrs",
	                                   "load_balance_hosts",
	                                   "fallback_application_name",
	                                   "channel_binding",
	                                   "gssencmode",
	                                   "krbsrvname",
	                                   "sslsni",
	                                   "sslcompression" };

static bool uri_global(struct uri_target *t, const char *key, const char *value)
{
	for (size_t i = 0; i < ARRAY_LEN(uri_globals); i++) {
		if (strcmp(key, uri_globals[i].libpq) != 0)
			continue;
		if (t->place.line) /* in [databases]: one line must not change all the others */
			config_errors_add(t->loader->errs, CONFIG_ERROR, t->place, key,
			                  "cannot stand in the URI of one database; use %s in [pgweir]",
			                  uri_globals[i].ours);
		else
			set_global(t->loader, t->place, option_find(str_of(uri_globals[i].ours), SCOPE_GLOBAL),
			           str_of(value));
		return true;
	}
	return false;
}

static void uri_pair(void *arg, const char *key, const char *value)
{
	struct uri_target *t = arg;
	if (uri_global(t, key, value))
		return;
	for (size_t i = 0; i < ARRAY_LEN(uri_ignored); i++) {
		if (strcmp(key, uri_ignored[i]) == 0) {
			config_errors_add(
			    t->loader->errs, CONFIG_NOTICE, t->place, key,
			    "ignored in a connection string: pgweir finds roles and chooses hosts itself");
			return;
		}
	}
	if (strcmp(key, "hostaddr") == 0)
		key = "host";
	const struct conf_option *o = option_find(str_of(key), SCOPE_DATABASE);
	if (o)
		set_in_entry(t->loader, t->place, &entry_kinds[0], t->db, o, str_of(key), str_of(value));
	else
		config_errors_add(t->loader->errs, CONFIG_ERROR, t->place, key, "not supported in a connection string");
}

/* Clients log in with the user and password of the connection string. */
static void add_uri_user(struct loader *l, struct config_place place, const struct conf_database *db)
{
	if (!db->user)
		return;
	struct conf_user *user = entry_find(l->cfg, &entry_kinds[1], str_of(db->user));
	if (!user)
		user = begin_entry(l, place, &entry_kinds[1], str_of(db->user));
	mem_free_secret(user->password, user->password ? strlen(user->password) : 0);
	user->password = db->password ? mem_strdup(db->password) : NULL;
	if (!db->password)
		config_errors_add(
		    l->errs, CONFIG_WARNING, place, db->user,
		    "the connection string has no password; clients need auth_file, auth_query or another auth_type");
}

/* The database of a connection string, and "*" with the same hosts.  A name is only a copy of "*" that says it. */
static void load_uri(struct loader *l, const char *uri)
{
	struct config_place place = { "connection string", 0 };
	struct uri_target target = { l, place, begin_entry(l, place, &entry_kinds[0], STR("*")) };
	char *why;
	if (!conf_parse_uri(uri, uri_pair, &target, &why)) {
		add_owned(l, place, NULL, why);
		return;
	}
	char *dbname = target.db->dbname, *host = target.db->host, *port = target.db->port;
	target.db->dbname = NULL;
	add_uri_user(l, place, target.db);
	if (dbname && *dbname && check_name(l, place, &entry_kinds[0], str_of(dbname)) && strcmp(dbname, "*") != 0) {
		struct conf_database *named = begin_entry(l, place, &entry_kinds[0], str_of(dbname));
		const struct conf_database *all = entry_find(l->cfg, &entry_kinds[0], STR("*"));
		named->host = host ? mem_strdup(host) : NULL;
		named->port = port ? mem_strdup(port) : NULL;
		named->user = all->user ? mem_strdup(all->user) : NULL;
		named->password = all->password ? mem_strdup(all->password) : NULL;
		named->application_name = all->application_name ? mem_strdup(all->application_name) : NULL;
		named->client_encoding = all->client_encoding ? mem_strdup(all->client_encoding) : NULL;
	}
	mem_free(dbname);
}

/* --- the environment and the command line ------------------------------------------------------------------------- */

static void load_env_var(struct loader *l, struct str name, const char *value)
{
	char where[80];
	const struct conf_option *o = option_find(name, SCOPE_GLOBAL);
	const char *near = o ? NULL : option_suggest(name, SCOPE_GLOBAL);
	struct config_place place = { "environment", 0 };
	if (o) {
		set_global(l, place, o, str_of(value));
	} else if (near) { /* others are not ours to judge: orchestrators make PGWEIR_SERVICE_HOST and the like */
		snprintf(where, sizeof(where), "PGWEIR_%.*s", (int)(name.n < 60 ? name.n : 60), name.p);
		config_errors_add(l->errs, CONFIG_WARNING, place, where, "ignored; did you mean the key \"%s\"?", near);
	}
}

static void load_env(struct loader *l, const char *const *env)
{
	static const char prefix[] = "PGWEIR_";
	for (; env && *env; env++) {
		const char *equals = strchr(*env, '=');
		if (equals && strncmp(*env, prefix, sizeof(prefix) - 1) == 0) {
			const char *name = *env + sizeof(prefix) - 1;
			load_env_var(l, (struct str){ name, (size_t)(equals - name) }, equals + 1);
		}
	}
}

static void load_settings(struct loader *l, const char *const *settings)
{
	struct config_place place = { "command line", 0 };
	for (; settings && *settings; settings++) {
		const char *equals = strchr(*settings, '=');
		if (equals)
			global_line(l, place, str_trim((struct str){ *settings, (size_t)(equals - *settings) }),
			            str_of(equals + 1));
		else
			config_errors_add(l->errs, CONFIG_ERROR, place, *settings, "expected key=value");
	}
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

static void loader_init(struct loader *l, struct config_errors *errs)
{
	*l = (struct loader){ .cfg = config_new(), .errs = errs };
	l->at = mem_zalloc(options_count() * sizeof(*l->at));
}

/* Sorting comes last: until then the places of entries go by their index. */
static struct config *loader_finish(struct loader *l, int errors_before)
{
	struct config *cfg = l->cfg;
	config_derive(cfg, l->entry_at[0], l->errs);
	config_validate(cfg, l->at, l->errs);
	entries_sort(cfg);
	mem_free(l->at);
	mem_free(l->bad_section_name);
	for (int k = 0; k < ENTRY_KINDS; k++)
		mem_free(l->entry_at[k]);
	if (l->errs->n_errors == errors_before)
		return cfg;
	config_unref(cfg);
	return NULL;
}

static void set_default(struct loader *l, const char *key, const char *value)
{
	const struct conf_option *o = option_find(str_of(key), SCOPE_GLOBAL);
	char *why;
	CHECK(o && option_parse(o, str_of(value), config_field(l->cfg, o), &why));
}

struct config *config_load(const struct config_source *source, struct config_errors *errs)
{
	struct loader l;
	struct conf_ini ini = { NULL, 0 };
	int errors_before = errs->n_errors;
	loader_init(&l, errs);
	if (source->uri) {
		set_default(&l, "pool_mode", "transaction");
		set_default(&l, "listen_addr", "127.0.0.1");
	}
	if (source->path) {
		set_default(&l, "conffile", source->path);
		conf_ini_read_file(&ini, source->path, on_line, &l, errs);
	}
	if (source->uri)
		load_uri(&l, source->uri);
	load_env(&l, source->env);
	load_settings(&l, source->settings);
	struct config *cfg = loader_finish(&l, errors_before);
	conf_ini_deinit(&ini);
	return cfg;
}

struct config *config_load_text(const char *name, const char *text, size_t len, struct config_errors *errs)
{
	struct loader l;
	struct conf_ini ini = { NULL, 0 };
	int errors_before = errs->n_errors;
	loader_init(&l, errs);
	conf_ini_read_text(&ini, name, (struct str){ text, len }, on_line, &l, errs);
	struct config *cfg = loader_finish(&l, errors_before);
	conf_ini_deinit(&ini);
	return cfg;
}

/* --- derived fields and rules between keys ------------------------------------------------------------------------ */

static void derive_hosts(const struct config *cfg, struct conf_database *db, struct config_place place,
                         struct config_errors *errs)
{
	const char *socket_dir = *cfg->unix_socket_dir ? cfg->unix_socket_dir : "/tmp", *key;
	struct conf_host *hosts;
	int n;
	char *why;
	if (!conf_parse_hosts(db->host, db->port, socket_dir, &hosts, &n, &key, &why)) {
		config_errors_add(errs, CONFIG_ERROR, place, NULL, "database %s: %s: %s", db->name, key, why);
		mem_free(why);
		return;
	}
	conf_hosts_free(db->hosts, db->n_hosts);
	db->hosts = hosts;
	db->n_hosts = n;
}

void config_derive(struct config *cfg, const struct config_place *db_at, struct config_errors *errs)
{
	char host[HTTP_HOST_SIZE];
	mem_free(cfg->http_host);
	if (!conf_split_host_port(cfg->http_addr, host, &cfg->http_port))
		host[0] = '\0'; /* cannot be: the option's own check has seen it */
	cfg->http_host = mem_strdup(host);
	for (int i = 0; i < cfg->n_databases; i++) {
		struct config_place nowhere = { NULL, 0 };
		derive_hosts(cfg, &cfg->databases[i], db_at ? db_at[i] : nowhere, errs);
	}
}

struct validation {
	const struct config *cfg;
	const struct config_place *at; /* by option_index(), or NULL */
	struct config_errors *errs;
};

static void object(const struct validation *v, enum config_severity severity, const char *key, const char *message)
{
	const struct conf_option *o = option_find(str_of(key), SCOPE_GLOBAL);
	struct config_place nowhere = { NULL, 0 };
	CHECK(o);
	config_errors_add(v->errs, severity, v->at ? v->at[option_index(o)] : nowhere, key, "%s", message);
}

static void validate_tls(const struct validation *v)
{
	const struct config *c = v->cfg;
	if (c->client_tls_sslmode != CONF_SSL_DISABLE && (!*c->client_tls_key_file || !*c->client_tls_cert_file))
		object(v, CONFIG_ERROR, "client_tls_sslmode",
		       "TLS from clients needs client_tls_key_file and client_tls_cert_file");
	if (c->client_tls_sslmode >= CONF_SSL_VERIFY_CA && !*c->client_tls_ca_file)
		object(v, CONFIG_ERROR, "client_tls_sslmode", "verify-ca and verify-full need client_tls_ca_file");
	/* SET (without places) can only set one after the other. */
	if (v->at && !*c->server_tls_key_file != !*c->server_tls_cert_file)
		object(v, CONFIG_ERROR, *c->server_tls_key_file ? "server_tls_key_file" : "server_tls_cert_file",
		       "server_tls_key_file and server_tls_cert_file go together");
	if (c->auth_type == CONF_AUTH_CERT && c->client_tls_sslmode != CONF_SSL_VERIFY_FULL)
		object(v, CONFIG_ERROR, "auth_type", "cert needs client_tls_sslmode = verify-full");
}

/* The console has no auth_query to answer. */
static void validate_auth_dbname(const struct validation *v)
{
	struct str name = str_of(v->cfg->auth_dbname);
	if (str_eq(name, STR("pgbouncer")) || str_eq(name, STR("pgweir")))
		config_errors_add(v->errs, CONFIG_ERROR,
		                  v->at ? v->at[option_index(option_find(STR("auth_dbname"), SCOPE_GLOBAL))]
		                        : (struct config_place){ NULL, 0 },
		                  "auth_dbname", "cannot use the reserved \"%s\" database as an auth_dbname",
		                  v->cfg->auth_dbname);
}

static void validate_listening(const struct validation *v)
{
	const struct config *c = v->cfg;
	if (c->listen_addr.n == 0 && !*c->unix_socket_dir)
		object(v, CONFIG_WARNING, "listen_addr",
		       "there is nothing to listen on unless the service manager passes sockets; set listen_addr or "
		       "unix_socket_dir");
	if (c->peer_id && !config_peer(c, c->peer_id) && c->n_peers)
		object(v, CONFIG_WARNING, "peer_id", "this process does not stand in [peers] itself");
	if (c->auth_type == CONF_AUTH_HBA && !*c->auth_hba_file)
		object(v, CONFIG_ERROR, "auth_type", "hba needs auth_hba_file");
	if (c->default_pool_size && c->min_pool_size > c->default_pool_size)
		object(v, CONFIG_WARNING, "min_pool_size", "is greater than default_pool_size, which bounds it");
	if (c->so_reuseport && !c->peer_id)
		object(v, CONFIG_WARNING, "so_reuseport",
		       "without peer_id and [peers] a cancel request may reach the wrong process and be lost");
}

void config_validate(const struct config *cfg, const struct config_place *at, struct config_errors *errs)
{
	struct validation v = { cfg, at, errs };
	validate_tls(&v);
	validate_listening(&v);
	validate_auth_dbname(&v);
}

/* --- SET ---------------------------------------------------------------------------------------------------------- */

union any_field {
	bool b;
	int i;
	uint64_t u;
	char *s;
	struct conf_list l;
};

static char *first_error(const struct config_errors *errs)
{
	for (int i = 0; i < errs->n; i++) {
		if (errs->items[i].severity == CONFIG_ERROR)
			return mem_strdup(errs->items[i].text);
	}
	return mem_strdup("the setting does not fit the others");
}

static bool set_and_validate(struct config *copy, const struct conf_option *o, struct str value, char **why)
{
	struct config_errors errs = { 0 };
	union any_field before;
	void *field = config_field(copy, o);
	option_copy(o, &before, field);
	if (!option_parse(o, value, field, why)) {
		option_free(o, &before);
		return false;
	}
	config_validate(copy, NULL, &errs);
	bool ok = errs.n_errors == 0;
	if (!ok) {
		*why = first_error(&errs);
		option_free(o, field);
		option_copy(o, field, &before);
	}
	option_free(o, &before);
	config_errors_free(&errs);
	return ok;
}

bool config_set(struct config *copy, struct str key, struct str value, char **why)
{
	const struct conf_option *o = option_find(key, SCOPE_GLOBAL);
	if (o && !(o->flags & OPTION_RESTART))
		return set_and_validate(copy, o, value, why);
	char *quoted = conf_quote(key), *suggestion = conf_did_you_mean(o ? NULL : option_suggest(key, SCOPE_GLOBAL));
	*why = o ? mem_printf("%s cannot be changed without a restart", quoted)
	         : mem_printf("unknown key %s%s", quoted, suggestion);
	mem_free(suggestion);
	mem_free(quoted);
	return false;
}
