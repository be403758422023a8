/* proxy/database.c - see proxy/database.h. */
#include "proxy/database.h"

#include <pthread.h>
#include <xxhash.h>
#include "base/buf.h"
#include "base/mem.h"
#include "cluster/dbfacts.h"
#include "cluster/monitor.h"
#include "cluster/setup.h"
#include "proxy/orders.h"
#include "proxy/limits.h"
#include "proxy/params.h"
#include "proxy/pool.h"
#include "proxy/worker.h"
#include "sql/catalog.h"

static LIST_HEAD(, shared_db) shared_dbs = LIST_HEAD_INITIALIZER(shared_dbs);
static pthread_mutex_t shared_mutex = PTHREAD_MUTEX_INITIALIZER;

struct shared_db *shared_db_get(struct cluster *cluster, const char *dbname)
{
	struct shared_db *db;
	pthread_mutex_lock(&shared_mutex);
	LIST_FOREACH(db, &shared_dbs, link)
	{
		if (db->cluster == cluster && strcmp(db->dbname, dbname) == 0)
			break;
	}
	if (!db) {
		db = mem_zalloc(sizeof *db);
		db->cluster = cluster;
		db->dbname = mem_strdup(dbname);
		LIST_INSERT_HEAD(&shared_dbs, db, link);
	}
	db->refs++;
	pthread_mutex_unlock(&shared_mutex);
	return db;
}

static void shared_db_free(struct shared_db *db)
{
	for (unsigned i = 0; db->welcomes && i < WELCOMES_MAX; i++) {
		mem_free(db->welcomes[i].user);
		mem_free(db->welcomes[i].profile);
		mem_free(db->welcomes[i].status);
	}
	mem_free(db->welcomes);
	mem_free(db->dbname);
	mem_free(db);
}

void shared_db_unref(struct shared_db *db)
{
	if (!db)
		return;
	pthread_mutex_lock(&shared_mutex);
	bool last = --db->refs == 0;
	if (last)
		LIST_REMOVE(db, link);
	pthread_mutex_unlock(&shared_mutex);
	if (last)
		shared_db_free(db);
}

size_t shared_dbs_count(void)
{
	const struct shared_db *db;
	size_t n = 0;
	pthread_mutex_lock(&shared_mutex);
	LIST_FOREACH(db, &shared_dbs, link)
	n++;
	pthread_mutex_unlock(&shared_mutex);
	return n;
}

/* The lists of the configuration as one text of names. */
static char *join(const struct conf_list *global, const struct conf_list *own)
{
	struct buf b = { 0 };
	const struct conf_list *lists[] = { global, own };
	bool ok = true;
	for (int l = 0; l < 2; l++) {
		for (int i = 0; i < lists[l]->n && ok; i++)
			ok = buf_put(&b, lists[l]->items[i], strlen(lists[l]->items[i])) && buf_put(&b, " ", 1);
	}
	char *text = mem_strndup(ok && buf_len(&b) ? (const char *)buf_head(&b) : "", ok ? buf_len(&b) : 0);
	buf_deinit(&b);
	return text;
}

static struct dbfacts *facts_of(const struct config *cfg, const struct conf_database *conf, struct cluster *cluster,
                                const char *dbname, const struct monitor_login *login)
{
	struct dbfacts *facts = dbfacts_find_or_add(cluster, dbname, login);
	char *reads = join(&cfg->read_only_functions, &conf->read_only_functions);
	char *writes = join(&cfg->write_functions, &conf->write_functions);
	struct catalog_options options = { reads, writes };
	dbfacts_configure(facts, &options);
	dbfacts_want(facts);
	mem_free(reads);
	mem_free(writes);
	return facts;
}

void dbuser_follow_orders(struct dbuser *du)
{
	du->paused = (orders_of(du->database) & (ORDER_PAUSED | ORDER_SUSPENDED)) != 0;
}

static void set_no_such_database(struct pgerr *err, const char *name)
{
	pgerr_set_fatal(err, SQLSTATE_INVALID_CATALOG_NAME, "no such database: %s", name);
}

static uint64_t hash_text(uint64_t seed, const char *text)
{
	return XXH64(text ? text : "", text ? strlen(text) + 1 : 0, seed + (text != NULL));
}

/* Of all that makes a server connection what it is, besides its host. */
static uint64_t identity_of(const struct config *cfg, const struct conf_database *conf, const char *entry,
                            const char *dbname, const char *server_user)
{
	/* The entry's name too: what one entry may do must not answer for another one's password or rights. */
	const char *const texts[] = {
		entry,
		conf->password,
		dbname,
		server_user,
		conf->client_encoding,
		conf->datestyle,
		conf->timezone,
		conf->connect_query,
		conf_sslmode_name(cfg->server_tls_sslmode),
		cfg->server_tls_ca_file,
		cfg->server_tls_cert_file,
		cfg->server_tls_key_file,
		cfg->server_tls_protocols,
		cfg->server_tls_ciphers,
		cfg->server_tls13_ciphers,
	};
	uint64_t hash = 0;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		hash = hash_text(hash, texts[i]);
	return hash;
}

static void leave_owner(struct dbuser *du)
{
	if (!du->owner)
		return;
	du->owner->n_guests -= du->owner != du;
	du->owner->n_pool_clients -= du->n_clients;
	du->owner = NULL;
}

static void forget_welcomes(struct dbuser *du)
{
	for (unsigned i = 0; i < du->n_welcomes; i++) {
		params_unref(&du->worker->params, du->welcomes[i].profile);
		params_unref(&du->worker->params, du->welcomes[i].status);
		du->welcomes[i] = (struct welcome){ 0 };
	}
	du->n_welcomes = du->next_welcome = 0;
}

/* What backends have said of themselves holds for those that are opened in the same way. */
static void set_identity(struct dbuser *du, uint64_t identity)
{
	if (identity != du->identity)
		forget_welcomes(du);
	du->identity = identity;
}

/* The new one first: with the same name it is the same counter, whatever it counts meanwhile. */
static void take_limit(struct limit **at, enum limit_kind kind, const char *name)
{
	struct limit *old = *at;
	*at = limit_get(kind, name, strlen(name));
	limit_unref(old);
}

static struct dbuser *find_or_add(struct worker *w, struct str database, struct str user, struct pgerr *err);

/* Pools of an owner that it had before age out by their time-outs. */
static void set_owner(struct dbuser *du, const char *forced)
{
	struct pgerr err;
	struct dbuser *owner = du;
	if (forced && strcmp(forced, du->user) != 0)
		owner = find_or_add(du->worker, str_of(du->database), str_of(forced), &err);
	CHECK(owner); /* the entry of [databases] is there: it has just been found */
	if (owner == du->owner)
		return;
	leave_owner(du);
	du->owner = owner;
	owner->n_guests += owner != du;
	owner->n_pool_clients += du->n_clients;
	memset(du->pools, 0, sizeof du->pools);
}

/* Takes what the configuration says now; old pools of another cluster age out by their time-outs. */
static bool resolve(struct dbuser *du, const struct config *cfg, struct pgerr *err)
{
	const struct conf_database *conf = config_database(cfg, str_of(du->database));
	struct cluster *cluster = conf ? cluster_of_database(conf) : NULL;
	if (!cluster) {
		set_no_such_database(err, du->database);
		return false;
	}
	const struct conf_user *user = config_user(cfg, str_of(du->user));
	const char *dbname = conf->dbname ? conf->dbname : du->database;
	struct monitor_login login = { conf->user, conf->password, NULL };
	if (!login.user && user) {
		login.user = user->name;
		login.password = user->password;
	}
	monitor_watch(cluster, &login);
	config_unref(du->config);
	du->config = config_ref(cfg);
	du->conf = conf;
	du->conf_user = user;
	struct shared_db *old_db = du->db;
	du->db = shared_db_get(cluster, dbname);
	shared_db_unref(old_db);
	login.dbname = dbname;
	du->facts = facts_of(cfg, conf, cluster, dbname, &login);
	mem_free(du->server_user);
	du->server_user = mem_strdup(conf->user ? conf->user : du->user);
	du->pool_user = config_user(cfg, str_of(du->server_user));
	du->pool_mode = config_pool_mode(cfg, conf, du->pool_user);
	take_limit(&du->user_servers, LIMIT_USER_SERVERS, du->server_user);
	take_limit(&du->db_servers, LIMIT_DATABASE_SERVERS, du->database);
	take_limit(&du->user_clients, LIMIT_USER_CLIENTS, du->user);
	take_limit(&du->db_clients, LIMIT_DATABASE_CLIENTS, du->database);
	set_identity(du, identity_of(cfg, conf, du->database, dbname, du->server_user));
	dbuser_follow_orders(du);
	set_owner(du, conf->user);
	return true;
}

static void dbuser_free(struct dbuser *du)
{
	struct worker *w = du->worker;
	HASH_DEL(w->dbusers, du);
	forget_welcomes(du);
	limit_unref(du->user_servers);
	limit_unref(du->db_servers);
	limit_unref(du->user_clients);
	limit_unref(du->db_clients);
	shared_db_unref(du->db);
	catalog_unref(du->catalog);
	config_unref(du->config);
	mem_free(du->database);
	mem_free(du->user);
	mem_free(du->server_user);
	mem_free(du);
}

static struct dbuser *find_or_add(struct worker *w, struct str database, struct str user, struct pgerr *err)
{
	size_t key_len = database.n + user.n + 2;
	char *key = mem_zalloc(key_len);
	memcpy(key, database.p, database.n);
	memcpy(key + database.n + 1, user.p, user.n);
	struct dbuser *du;
	HASH_FIND(hh, w->dbusers, key, key_len, du);
	if (!du) {
		du = mem_zalloc(sizeof *du + key_len);
		du->worker = w;
		du->key_len = key_len;
		memcpy(du->key, key, key_len);
		du->database = mem_strndup(database.p, database.n);
		du->user = mem_strndup(user.p, user.n);
		du->last_used_us = loop_now_us(w->loop);
		HASH_ADD(hh, w->dbusers, key, key_len, du);
		if (!resolve(du, w->runtime->config, err)) {
			dbuser_free(du);
			du = NULL;
		}
	}
	mem_free(key);
	return du;
}

struct dbuser *dbuser_get(struct worker *w, struct str database, struct str user, struct pgerr *err)
{
	struct dbuser *du = find_or_add(w, database, user, err);
	if (du && du->gone) {
		set_no_such_database(err, du->database);
		return NULL;
	}
	return du;
}

void dbuser_client_came(struct dbuser *du)
{
	du->n_clients++;
	du->owner->n_pool_clients++;
}

void dbuser_client_left(struct dbuser *du)
{
	du->n_clients--;
	du->owner->n_pool_clients--;
}

const struct catalog *dbuser_catalog(struct dbuser *du, bool *proved)
{
	uint64_t version = du->catalog_version;
	*proved = dbfacts_refresh(du->facts, &du->catalog_version, &du->catalog);
	if (UNLIKELY(version != du->catalog_version) && du->catalog)
		du->owner->reads_sequences |= catalog_reads_sequences(du->catalog);
	return du->catalog;
}

/* E7: what a backend has said that started with older settings of its role is not for a newer client. */
static struct params *find_own(struct dbuser *du, const struct params *profile, uint32_t facts_no)
{
	for (unsigned i = 0; i < du->n_welcomes; i++) {
		const struct welcome *w = &du->welcomes[i];
		if (w->profile == profile && dbfacts_defaults_suit(du->facts, w->facts_no, facts_no))
			return w->status;
	}
	return NULL;
}

static void add_own(struct dbuser *du, struct params *profile, struct params *status, uint32_t facts_no);

/* What another worker has learned; a new reference or NULL. */
static struct params *find_shared(struct dbuser *du, const struct params *profile, uint32_t facts_no,
                                  uint32_t *servers_no)
{
	struct params *status = NULL;
	pthread_mutex_lock(&shared_mutex);
	for (unsigned i = 0; du->db->welcomes && i < WELCOMES_MAX && !status; i++) {
		const struct shared_welcome *w = &du->db->welcomes[i];
		if (w->user && strcmp(w->user, du->user) == 0 && w->identity == du->identity &&
		    w->profile_len == profile->key_len && memcmp(w->profile, profile->key, profile->key_len) == 0 &&
		    dbfacts_defaults_suit(du->facts, w->facts_no, facts_no)) {
			status = params_from_key(&du->worker->params, w->status, w->status_len);
			*servers_no = w->facts_no;
		}
	}
	pthread_mutex_unlock(&shared_mutex);
	return status;
}

struct params *dbuser_welcome_find(struct dbuser *du, struct params *profile, uint32_t facts_no)
{
	uint32_t servers_no = 0;
	struct params *status = find_own(du, profile, facts_no);
	if (status)
		return status;
	status = find_shared(du, profile, facts_no, &servers_no);
	if (!status)
		return NULL;
	add_own(du, profile, status, servers_no);
	params_unref(&du->worker->params, status);
	return find_own(du, profile, facts_no);
}

static char *copy_key(const struct params *p)
{
	char *copy = mem_alloc(p->key_len);
	memcpy(copy, p->key, p->key_len);
	return copy;
}

static void add_shared(struct dbuser *du, const struct params *profile, const struct params *status, uint32_t facts_no)
{
	struct shared_db *db = du->db;
	pthread_mutex_lock(&shared_mutex);
	if (!db->welcomes)
		db->welcomes = mem_zalloc(WELCOMES_MAX * sizeof *db->welcomes);
	struct shared_welcome *w = &db->welcomes[db->next_welcome++ % WELCOMES_MAX];
	mem_free(w->user);
	mem_free(w->profile);
	mem_free(w->status);
	*w = (struct shared_welcome){ mem_strdup(du->user), du->identity,    copy_key(profile), copy_key(status),
		                      profile->key_len,     status->key_len, facts_no };
	pthread_mutex_unlock(&shared_mutex);
}

void dbuser_welcome_add(struct dbuser *du, struct params *profile, struct params *status, uint32_t facts_no)
{
	add_own(du, profile, status, facts_no);
	if (workers_count() > 1)
		add_shared(du, profile, status, facts_no);
}

static void add_own(struct dbuser *du, struct params *profile, struct params *status, uint32_t facts_no)
{
	struct params_table *t = &du->worker->params;
	struct welcome *at = NULL;
	for (unsigned i = 0; i < du->n_welcomes && !at; i++) {
		if (du->welcomes[i].profile == profile)
			at = &du->welcomes[i];
	}
	if (!at && du->n_welcomes < WELCOMES_MAX)
		at = &du->welcomes[du->n_welcomes++];
	if (!at)
		at = &du->welcomes[du->next_welcome++ % WELCOMES_MAX];
	struct welcome old = *at;
	*at = (struct welcome){ params_ref(profile), params_ref(status), facts_no };
	params_unref(t, old.profile);
	params_unref(t, old.status);
}

void dbusers_reconfigure(struct worker *w)
{
	struct dbuser *du, *next;
	HASH_ITER(hh, w->dbusers, du, next)
	{
		struct pgerr err;
		/* A database that has gone from the file keeps its old meaning until its clients have left. */
		du->gone = !resolve(du, w->runtime->config, &err);
		if (du->gone)
			log_info(NULL, "database \"%s\" is no longer configured", du->database);
	}
}

/* Where reads go to replicas, these get their share before the first one comes too. */
static void fill(struct worker *w, const struct conf_database *conf)
{
	struct pgerr err;
	struct dbuser *du = dbuser_get(w, str_of(conf->name), str_of(conf->user), &err);
	if (!du || config_min_pool_size(du->config, conf, du->pool_user) <= 0)
		return;
	const struct cluster *cluster = du->db->cluster;
	bool replicas = config_routing(du->config, conf, du->conf_user, NULL).route != ROUTE_MODE_PRIMARY;
	for (unsigned i = 0; i < cluster->n_hosts; i++) {
		enum host_role role = host_role(&cluster->hosts[i]);
		if (role == HOST_PRIMARY || (replicas && role == HOST_REPLICA))
			(void)pool_get(du, &cluster->hosts[i]);
	}
}

void dbusers_fill(struct worker *w)
{
	const struct config *cfg = w->runtime->config;
	for (int i = 0; i < cfg->n_databases; i++) {
		const struct conf_database *conf = &cfg->databases[i];
		if (conf->user && strcmp(conf->name, "*") != 0 && config_min_pool_size(cfg, conf, NULL) > 0)
			fill(w, conf);
	}
}

static uint64_t idle_limit_us(const struct dbuser *du)
{
	const struct config *cfg = du->worker->runtime->config;
	bool made_up = du->gone || strcmp(du->conf->name, "*") == 0;
	uint64_t limit = cfg->pool_idle_timeout_us;
	if (made_up && cfg->autodb_idle_timeout_us && (!limit || cfg->autodb_idle_timeout_us < limit))
		limit = cfg->autodb_idle_timeout_us;
	return limit;
}

void dbusers_age(struct worker *w, uint64_t now_us)
{
	struct dbuser *du, *next;
	struct pool *p;
	LIST_FOREACH(p, &w->pool_list, all)
	{
		if (pool_is_used(p))
			p->du->last_used_us = now_us;
	}
	HASH_ITER(hh, w->dbusers, du, next)
	{
		uint64_t limit = idle_limit_us(du);
		if (du->n_clients || du->n_guests)
			du->last_used_us = now_us;
		if (!limit || now_us - du->last_used_us < limit)
			continue;
		pools_forget(du);
		leave_owner(du);
		dbuser_free(du);
	}
}

void dbusers_free(struct worker *w)
{
	struct dbuser *du, *next;
	HASH_ITER(hh, w->dbusers, du, next) { dbuser_free(du); }
}
