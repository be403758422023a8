/* conf/config.c - the snapshot: its life, its entries and the resolved values; see conf/config.h.
 *
 * Databases, users, applications and peers are four arrays of different structs that are filled, copied, compared and
 * freed in the same way, so one table (entry_kinds) says where each array is and the option table says what is in it.
 */
#include "conf/config.h"

#include <stdlib.h>

#include "base/mem.h"
#include "conf/conninfo.h"
#include "config_priv.h"
#include "options_priv.h"

#define KIND(section_, scope_, type, array, over_, noun_)                                                              \
	{                                                                                                              \
		.section = section_, .scope = scope_, .size = sizeof(type),                                            \
		.array_offset = offsetof(struct config, array), .count_offset = offsetof(struct config, n_##array),    \
		.over_offset = over_, .noun = noun_                                                                    \
	}

const struct entry_kind entry_kinds[ENTRY_KINDS] = {
	KIND("databases", SCOPE_DATABASE, struct conf_database, databases, offsetof(struct conf_database, over),
	     "database"),
	KIND("users", SCOPE_USER, struct conf_user, users, offsetof(struct conf_user, over), "user"),
	KIND("applications", SCOPE_APPLICATION, struct conf_application, applications,
	     offsetof(struct conf_application, over), "application"),
	KIND("peers", SCOPE_PEER, struct conf_peer, peers, 0, "peer"),
};

_Static_assert(offsetof(struct conf_database, name) == 0 && offsetof(struct conf_user, name) == 0 &&
                   offsetof(struct conf_application, name) == 0 && offsetof(struct conf_peer, name) == 0,
               "every entry begins with its name");

/* --- entries ------------------------------------------------------------------------------------------------------ */

static void **entry_array(const struct config *cfg, const struct entry_kind *kind)
{
	return (void **)((char *)(uintptr_t)cfg + kind->array_offset);
}

static int *entry_counter(const struct config *cfg, const struct entry_kind *kind)
{
	return (int *)((char *)(uintptr_t)cfg + kind->count_offset);
}

int entry_count(const struct config *cfg, const struct entry_kind *kind) { return *entry_counter(cfg, kind); }

void *entry_at(const struct config *cfg, const struct entry_kind *kind, int i)
{
	return (char *)*entry_array(cfg, kind) + (size_t)i * kind->size;
}

void *entry_find(const struct config *cfg, const struct entry_kind *kind, struct str name)
{
	for (int i = 0; i < entry_count(cfg, kind); i++) {
		void *entry = entry_at(cfg, kind, i);
		if (str_eq(str_of(entry_name(entry)), name))
			return entry;
	}
	return NULL;
}

struct conf_overrides *entry_overrides(const struct entry_kind *kind, const void *entry)
{
	return kind->over_offset ? (struct conf_overrides *)((char *)(uintptr_t)entry + kind->over_offset) : NULL;
}

void *entry_field(const struct entry_kind *kind, const void *entry, const struct conf_option *o, uint32_t **set)
{
	char *base = (char *)(uintptr_t)entry;
	*set = NULL;
	if (o->entry_offset)
		return base + o->entry_offset;
	*set = (uint32_t *)(base + kind->over_offset + o->set_offset);
	return base + kind->over_offset + o->override_offset;
}

bool entry_has(const struct entry_kind *kind, const void *entry, const struct conf_option *o)
{
	uint32_t *set;
	const void *field = entry_field(kind, entry, o, &set);
	if (set)
		return (*set >> o->override_bit) & 1u;
	switch (o->type) {
	case OPT_LIST:
		return ((const struct conf_list *)field)->n > 0;
	case OPT_STRING:
	case OPT_SECRET:
		return *(char *const *)field != NULL;
	case OPT_ENUM: /* the first word is the default */
		return *(const int *)field != 0;
	case OPT_INT: /* -1 is unset */
	case OPT_OCTAL:
		return *(const int *)field >= 0;
	case OPT_BOOL:
	case OPT_SECONDS:
	case OPT_DURATION:
	case OPT_SIZE:
		return true;
	}
	return true;
}

/* Every key of a kind that has a field of its own in the entry: those need copying and freeing. */
static const struct conf_option *next_entry_option(const struct entry_kind *kind, size_t *i)
{
	while (*i < options_count()) {
		const struct conf_option *o = option_at((*i)++);
		if (o->entry_offset && option_allows(o, kind->scope))
			return o;
	}
	return NULL;
}

static void free_fields(const struct entry_kind *kind, void *entry)
{
	const struct conf_option *o;
	for (size_t i = 0; (o = next_entry_option(kind, &i));)
		option_free(o, (char *)entry + o->entry_offset);
	if (kind->scope == SCOPE_DATABASE) {
		struct conf_database *db = entry;
		conf_hosts_free(db->hosts, db->n_hosts);
	}
	if (kind->scope == SCOPE_USER) {
		struct conf_user *user = entry;
		mem_free_secret(user->password, user->password ? strlen(user->password) : 0);
	}
}

void entry_reset(const struct entry_kind *kind, void *entry)
{
	char *name = *(char **)entry;
	free_fields(kind, entry);
	memset(entry, 0, kind->size);
	*(char **)entry = name;
	if (kind->scope == SCOPE_PEER) {
		struct conf_peer *peer = entry;
		peer->port = 6432;
		peer->pool_size = -1;
	}
}

void *entry_add(struct config *cfg, const struct entry_kind *kind, struct str name)
{
	void **array = entry_array(cfg, kind);
	int *n = entry_counter(cfg, kind);
	*array = mem_realloc(*array, (size_t)(*n + 1) * kind->size);
	void *entry = entry_at(cfg, kind, (*n)++);
	memset(entry, 0, kind->size);
	*(char **)entry = mem_strndup(name.p, name.n);
	entry_reset(kind, entry);
	return entry;
}

static void copy_hosts(struct conf_database *to, const struct conf_database *from)
{
	to->hosts = mem_zalloc((size_t)from->n_hosts * sizeof(*to->hosts));
	for (int i = 0; i < from->n_hosts; i++)
		to->hosts[i] = (struct conf_host){ mem_strdup(from->hosts[i].host), from->hosts[i].port };
}

static void copy_entry(const struct entry_kind *kind, void *to, const void *from)
{
	const struct conf_option *o;
	memcpy(to, from, kind->size);
	*(char **)to = mem_strdup(entry_name(from));
	for (size_t i = 0; (o = next_entry_option(kind, &i));)
		option_copy(o, (char *)to + o->entry_offset, (const char *)from + o->entry_offset);
	if (kind->scope == SCOPE_DATABASE)
		copy_hosts(to, from);
	if (kind->scope == SCOPE_USER) {
		const struct conf_user *user = from;
		((struct conf_user *)to)->password = user->password ? mem_strdup(user->password) : NULL;
	}
}

static int compare_names(const void *a, const void *b) { return strcmp(entry_name(a), entry_name(b)); }

void entries_sort(struct config *cfg)
{
	for (int k = 0; k < ENTRY_KINDS; k++) {
		int n = entry_count(cfg, &entry_kinds[k]);
		if (n > 1)
			qsort(entry_at(cfg, &entry_kinds[k], 0), (size_t)n, entry_kinds[k].size, compare_names);
	}
}

/* --- the snapshot's life ------------------------------------------------------------------------------------------ */

struct config *config_new(void)
{
	struct config *cfg = mem_zalloc(sizeof(*cfg));
	char *why = NULL;
	atomic_init(&cfg->refs, 1);
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		if (option_is_global(o))
			CHECK(option_parse(o, str_of(o->default_text), config_field(cfg, o), &why));
	}
	cfg->http_host = mem_strdup("");
	return cfg;
}

struct config *config_copy(const struct config *from)
{
	struct config *cfg = mem_alloc(sizeof(*cfg));
	memcpy(cfg, from, sizeof(*cfg));
	atomic_init(&cfg->refs, 1);
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		if (option_is_global(o))
			option_copy(o, config_field(cfg, o), config_field(from, o));
	}
	cfg->http_host = mem_strdup(from->http_host);
	for (int k = 0; k < ENTRY_KINDS; k++) {
		const struct entry_kind *kind = &entry_kinds[k];
		int n = entry_count(from, kind);
		*entry_array(cfg, kind) = n ? mem_alloc((size_t)n * kind->size) : NULL;
		for (int i = 0; i < n; i++)
			copy_entry(kind, entry_at(cfg, kind, i), entry_at(from, kind, i));
	}
	return cfg;
}

static void config_free(struct config *cfg)
{
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		if (option_is_global(o))
			option_free(o, config_field(cfg, o));
	}
	mem_free(cfg->http_host);
	for (int k = 0; k < ENTRY_KINDS; k++) {
		const struct entry_kind *kind = &entry_kinds[k];
		for (int i = 0; i < entry_count(cfg, kind); i++) {
			free_fields(kind, entry_at(cfg, kind, i));
			mem_free(*(char **)entry_at(cfg, kind, i));
		}
		mem_free(*entry_array(cfg, kind));
	}
	mem_free(cfg);
}

/* The counter is the one field of a published snapshot that changes. */
static atomic_int *refs_of(const struct config *cfg) { return &((struct config *)(uintptr_t)cfg)->refs; }

const struct config *config_ref(const struct config *cfg)
{
	int before = atomic_fetch_add_explicit(refs_of(cfg), 1, memory_order_relaxed);
	CHECK(before > 0);
	return cfg;
}

void config_unref(const struct config *cfg)
{
	if (!cfg)
		return;
	int before = atomic_fetch_sub_explicit(refs_of(cfg), 1, memory_order_acq_rel);
	CHECK(before > 0);
	if (before == 1)
		config_free((struct config *)(uintptr_t)cfg);
}

/* --- look-ups ----------------------------------------------------------------------------------------------------- */

static int compare_name(struct str name, const char *other)
{
	size_t n = strlen(other), least = name.n < n ? name.n : n;
	int c = least ? memcmp(name.p, other, least) : 0;
	return c ? c : (name.n > n) - (name.n < n);
}

/* Binary search: a process may serve thousands of databases, and every login looks one up. */
static const void *find_sorted(const struct config *cfg, const struct entry_kind *kind, struct str name)
{
	int lo = 0, hi = entry_count(cfg, kind);
	while (lo < hi) {
		int mid = lo + (hi - lo) / 2;
		const void *entry = entry_at(cfg, kind, mid);
		int c = compare_name(name, entry_name(entry));
		if (c == 0)
			return entry;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

const struct conf_database *config_database(const struct config *cfg, struct str name)
{
	const struct conf_database *db = find_sorted(cfg, &entry_kinds[0], name);
	return db ? db : find_sorted(cfg, &entry_kinds[0], STR("*"));
}

const struct conf_user *config_user(const struct config *cfg, struct str name)
{
	return find_sorted(cfg, &entry_kinds[1], name);
}

const struct conf_application *config_application(const struct config *cfg, struct str name)
{
	return find_sorted(cfg, &entry_kinds[2], name);
}

const struct conf_peer *config_peer(const struct config *cfg, int id)
{
	for (int i = 0; i < cfg->n_peers; i++) {
		if (cfg->peers[i].id == id)
			return &cfg->peers[i];
	}
	return NULL;
}

/* --- resolved values ---------------------------------------------------------------------------------------------- */

#define POOL_GETTER(type, field, global)                                                                               \
	type config_##field(const struct config *cfg, const struct conf_database *db, const struct conf_user *user)    \
	{                                                                                                              \
		if (user && conf_is_set(&user->over, field))                                                           \
			return user->over.field;                                                                       \
		return db && conf_is_set(&db->over, field) ? db->over.field : cfg->global;                             \
	}
CONF_POOL_KEYS(POOL_GETTER)

#define CLIENT_GETTER(type, field, global)                                                                             \
	type config_##field(const struct config *cfg, const struct conf_database *db, const struct conf_user *user,    \
	                    const struct conf_application *app)                                                        \
	{                                                                                                              \
		if (app && conf_is_set(&app->over, field))                                                             \
			return app->over.field;                                                                        \
		if (user && conf_is_set(&user->over, field))                                                           \
			return user->over.field;                                                                       \
		return db && conf_is_set(&db->over, field) ? db->over.field : cfg->global;                             \
	}
CONF_CLIENT_KEYS(CLIENT_GETTER)

struct conf_routing conf_routing_apply(struct conf_routing base, const struct conf_routing *more)
{
#define APPLY(type, field)                                                                                             \
	if (conf_is_set(more, field))                                                                                  \
		base.field = more->field;
	CONF_ROUTING_KEYS(APPLY)
#undef APPLY
	base.set |= more->set;
	return base;
}

struct conf_routing config_routing(const struct config *cfg, const struct conf_database *db,
                                   const struct conf_user *user, const struct conf_application *app)
{
	struct conf_routing r = { 0 };
#define FROM_GLOBAL(type, field)                                                                                       \
	r.field = cfg->field;                                                                                          \
	r.set |= 1u << CONF_SET_##field;
	CONF_ROUTING_KEYS(FROM_GLOBAL)
#undef FROM_GLOBAL
	if (db)
		r = conf_routing_apply(r, &db->over.routing);
	if (user)
		r = conf_routing_apply(r, &user->over.routing);
	return app ? conf_routing_apply(r, &app->over.routing) : r;
}

#define ROUTING_GETTER(type, field)                                                                                    \
	type config_##field(const struct config *cfg, const struct conf_database *db, const struct conf_user *user,    \
	                    const struct conf_application *app)                                                        \
	{                                                                                                              \
		return config_routing(cfg, db, user, app).field;                                                       \
	}
CONF_ROUTING_KEYS(ROUTING_GETTER)

int config_max_pinned(const struct config *cfg, const struct conf_database *db, const struct conf_user *user)
{
	int n = cfg->max_pinned;
	if (user && conf_is_set(&user->over, max_pinned))
		n = user->over.max_pinned;
	else if (db && conf_is_set(&db->over, max_pinned))
		n = db->over.max_pinned;
	return n < 0 ? config_pool_size(cfg, db, user) : n;
}

int config_application_pool_size(const struct conf_application *app)
{
	return app && conf_is_set(&app->over, application_pool_size) ? app->over.application_pool_size : 0;
}

int config_peer_pool_size(const struct config *cfg, const struct conf_peer *peer)
{
	return peer->pool_size < 0 ? cfg->default_pool_size : peer->pool_size;
}

const char *config_auth_user(const struct config *cfg, const struct conf_database *db)
{
	return db && db->auth_user ? db->auth_user : cfg->auth_user;
}

const char *config_auth_query(const struct config *cfg, const struct conf_database *db)
{
	return db && db->auth_query ? db->auth_query : cfg->auth_query;
}

const char *config_auth_dbname(const struct config *cfg, const struct conf_database *db)
{
	return db && db->auth_dbname ? db->auth_dbname : cfg->auth_dbname;
}

const char *config_application_name_format(const struct config *cfg, const struct conf_database *db)
{
	if (db && db->application_name_format)
		return db->application_name_format;
	if (cfg->application_name_add_host && strcmp(cfg->application_name_format, "%a") == 0)
		return "%a - %h:%p";
	return cfg->application_name_format;
}

enum log_level config_log_level(const struct config *cfg) { return cfg->verbose > 0 ? LOG_DEBUG : cfg->log_level; }

char *config_option_text(const struct config *cfg, const struct conf_option *o)
{
	CHECK(option_is_global(o));
	return option_format(o, config_field(cfg, o));
}

/* --- routing settings by name ------------------------------------------------------------------------------------- */

/* Offsets of the option table are those in struct conf_overrides, which holds a struct conf_routing. */
static void *routing_field(struct conf_routing *routing, const struct conf_option *o)
{
	return (char *)routing + o->override_offset - offsetof(struct conf_overrides, routing);
}

static const struct conf_option *routing_option(struct str key)
{
	const struct conf_option *o = option_find(key, SCOPE_SESSION);
	return o && o->set_offset == offsetof(struct conf_overrides, routing.set) ? o : NULL;
}

bool conf_routing_set(struct conf_routing *routing, enum option_scope scope, struct str key, struct str value,
                      char **why)
{
	const struct conf_option *o = routing_option(key);
	if (!o || !option_allows(o, scope)) {
		char *quoted = conf_quote(key), *suggestion = conf_did_you_mean(option_suggest(key, scope));
		*why = mem_printf("unknown setting %s%s", quoted, suggestion);
		mem_free(suggestion);
		mem_free(quoted);
		return false;
	}
	if (!option_parse(o, value, routing_field(routing, o), why))
		return false;
	routing->set |= 1u << o->override_bit;
	return true;
}

bool conf_routing_reset(struct conf_routing *routing, struct str key)
{
	const struct conf_option *o = routing_option(key);
	if (o)
		routing->set &= ~(1u << o->override_bit);
	return o != NULL;
}

char *conf_routing_show(const struct conf_routing *routing, struct str key)
{
	const struct conf_option *o = routing_option(key);
	struct conf_routing copy = *routing;
	return o ? option_format(o, routing_field(&copy, o)) : NULL;
}

bool conf_parse_route(struct str word, enum route_mode *out)
{
	int64_t v;
	if (!option_word_find(conf_route_words, str_trim(word), &v))
		return false;
	*out = (enum route_mode)v;
	return true;
}

bool conf_parse_consistency(struct str word, enum consistency *out)
{
	int64_t v;
	if (!option_word_find(conf_consistency_words, str_trim(word), &v))
		return false;
	*out = (enum consistency)v;
	return true;
}

const char *pool_mode_name(enum pool_mode mode) { return option_word_of(conf_pool_mode_words, (int)mode); }
const char *route_mode_name(enum route_mode mode) { return option_word_of(conf_route_words, (int)mode); }
const char *consistency_name(enum consistency level) { return option_word_of(conf_consistency_words, (int)level); }
const char *conf_auth_type_name(enum conf_auth_type type) { return option_word_of(conf_auth_type_words, (int)type); }
const char *conf_sslmode_name(enum conf_sslmode mode) { return option_word_of(conf_sslmode_words, (int)mode); }

const char *load_balance_hosts_name(enum load_balance_hosts mode)
{
	return option_word_of(conf_load_balance_words, (int)mode);
}
