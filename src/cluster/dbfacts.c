/* cluster/dbfacts.c - see cluster/dbfacts.h.
 *
 * A load is a row of steps on one connection, each begun by the result of the one before:
 *
 *     BEGIN + prologue -> catalog_queries[0] -> ... -> catalog_queries[n-1] -> role settings -> COMMIT
 *     -> publish, close
 *
 * Lock order: facts_mutex (the list) before a database's own mutex. */
#include "cluster/dbfacts.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "monitor_priv.h"
#include "sql/catalog.h"

enum {
	DDL_QUIET_US = 20 * MONO_MS, /* a load begins this long after the last DDL ... */
	DDL_GAP_US = 200 * MONO_MS,  /* ... but no later than this after the first, nor sooner after the last load */
	RETRY_MIN_US = MONO_SEC,
	RETRY_MAX_US = 60 * MONO_SEC,
	CONNECT_DEADLINE_US = 10 * MONO_SEC,
	LOAD_DEADLINE_US = 30 * MONO_SEC,
	DEADLINE_CHECK_US = MONO_SEC,
	HUSH_MAX_US = 2 * MONO_SEC
};

enum loader_state { LOADER_IDLE, LOADER_LOADING };
struct dbfacts_loader {
	struct dbfacts *f;                           /* borrowed: owns this */
	struct dbconn_identity identity;             /* guarded by f->mutex */
	char *read_only_functions, *write_functions; /* owned or NULL; guarded by f->mutex */
	struct monitor *m;                           /* borrowed; NULL until the loader has seen it */
	enum loader_state state;
	struct dbconn conn;
	struct loop_timer timer;         /* for the next load; while idle it always runs once there was one */
	struct catalog_builder *builder; /* owned; NULL while not loading */
	unsigned step;
	uint32_t no;             /* of this load */
	const struct host *host; /* of the last load; borrowed, only ever compared */
	uint64_t found_hash,
	    defaults_hash; /* E7: of pg_db_role_setting, in this load and in the last one that ended well */
	uint64_t seq;      /* ddl_seq as this load began */
	struct load_history history;
	uint64_t hushed_us; /* since when it is put off; 0: it is not */
	char logged[256];
};

static pthread_mutex_t facts_mutex = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, dbfacts) all_facts = LIST_HEAD_INITIALIZER(all_facts);
static struct monitor *loader_monitor; /* guarded by facts_mutex */
static _Atomic(struct loop *) loader_loop;

static const char settings[] =
    "-c search_path=pg_catalog -c default_transaction_read_only=on -c statement_timeout=30s "
    "-c lock_timeout=10s -c idle_in_transaction_session_timeout=60s -c jit=off -c DateStyle=ISO";

/* E7: settings that new backends of this database start with. */
static const char role_settings_sql[] =
    "SELECT s.setdatabase::pg_catalog.text, s.setrole::pg_catalog.text, "
    "pg_catalog.array_to_string(s.setconfig, E'\\n') FROM pg_catalog.pg_db_role_setting s "
    "WHERE s.setdatabase OPERATOR(pg_catalog.=) 0 OR s.setdatabase OPERATOR(pg_catalog.=) "
    "(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) "
    "ORDER BY 1, 2";

static void on_wake(struct loop *loop, struct loop_msg *msg);
static void on_timer(struct loop_timer *timer);
static void begin_load(struct dbfacts_loader *l);
static void end_load(struct dbfacts_loader *l);

/* --- any thread --- */

static void wake_loader(struct dbfacts *f)
{
	struct loop *loop = atomic_load_explicit(&loader_loop, memory_order_acquire);
	if (loop && !atomic_exchange_explicit(&f->woken, true, memory_order_seq_cst))
		loop_post(loop, &f->wake);
}

static struct dbfacts *dbfacts_new(struct cluster *c, const char *dbname)
{
	struct dbfacts *f = mem_zalloc(sizeof *f);
	f->cluster = c;
	f->dbname = mem_strdup(dbname);
	atomic_init(&f->ddl_seq, 1);
	pthread_mutex_init(&f->mutex, NULL);
	f->wake.fn = on_wake;
	f->loader = mem_zalloc(sizeof *f->loader);
	f->loader->f = f;
	return f;
}

/* With facts_mutex held. */
static struct dbfacts *find(struct cluster *c, const char *dbname)
{
	struct dbfacts *f;
	LIST_FOREACH(f, &all_facts, link)
	{
		if (f->cluster == c && strcmp(f->dbname, dbname) == 0)
			break;
	}
	return f;
}

struct dbfacts *dbfacts_find(struct cluster *c, const char *dbname)
{
	pthread_mutex_lock(&facts_mutex);
	struct dbfacts *f = find(c, dbname);
	pthread_mutex_unlock(&facts_mutex);
	return f;
}

/* The loader says that it loads before it looks here, and this the other way round: one of them sees the other. */
bool dbfacts_hush(struct dbfacts *f, uint64_t us)
{
	uint64_t until_us = mono_now_us() + us;
	if (atomic_load(&f->quiet_until_us) < until_us)
		atomic_store(&f->quiet_until_us, until_us);
	return !atomic_load(&f->loading);
}

struct dbfacts *dbfacts_find_or_add(struct cluster *c, const char *dbname, const struct monitor_login *login)
{
	pthread_mutex_lock(&facts_mutex);
	struct dbfacts *f = find(c, dbname);
	if (!f) {
		f = dbfacts_new(c, dbname);
		LIST_INSERT_HEAD(&all_facts, f, link);
	}
	pthread_mutex_unlock(&facts_mutex);
	if (login && login->user) {
		pthread_mutex_lock(&f->mutex);
		dbconn_identity_set(&f->loader->identity, login, NULL);
		pthread_mutex_unlock(&f->mutex);
	}
	return f;
}

static bool replace_text(char **at, const char *value)
{
	if (str_eq(str_of(*at), str_of(value)))
		return false;
	mem_free(*at);
	*at = value ? mem_strdup(value) : NULL;
	return true;
}

void dbfacts_configure(struct dbfacts *f, const struct catalog_options *options)
{
	pthread_mutex_lock(&f->mutex);
	bool changed = replace_text(&f->loader->read_only_functions, options->read_only_functions);
	changed |= replace_text(&f->loader->write_functions, options->write_functions);
	pthread_mutex_unlock(&f->mutex);
	if (changed && atomic_load(&f->version) > 0)
		dbfacts_note_ddl(f, DDL_OF_CODE);
}

/* proved_seq is read first: DDL that is noted in between makes the answer false, never true. */
bool dbfacts_is_proved(const struct dbfacts *f)
{
	uint64_t proved = atomic_load_explicit(&f->proved_seq, memory_order_acquire);
	return proved >= atomic_load_explicit(&f->ddl_seq, memory_order_seq_cst);
}

void dbfacts_want(struct dbfacts *f)
{
	if (!atomic_load_explicit(&f->used, memory_order_relaxed))
		atomic_store_explicit(&f->used, true, memory_order_relaxed);
	if (!dbfacts_is_proved(f))
		wake_loader(f);
}

static COLD void note_used(struct dbfacts *f)
{
	atomic_store_explicit(&f->used, true, memory_order_seq_cst);
	if (!dbfacts_is_proved(f))
		wake_loader(f); /* it went to sleep while nobody used the database */
}

static COLD void fetch_catalog(struct dbfacts *f, uint64_t *version, struct catalog **catalog)
{
	pthread_mutex_lock(&f->mutex);
	struct catalog *newest = f->current ? catalog_ref(f->current) : NULL;
	*version = atomic_load_explicit(&f->version, memory_order_relaxed);
	pthread_mutex_unlock(&f->mutex);
	catalog_unref(*catalog);
	*catalog = newest;
}

bool dbfacts_refresh(struct dbfacts *f, uint64_t *version, struct catalog **catalog)
{
	/* "Proved" is about the newest catalog, so it is asked before the newest catalog is fetched. */
	bool proved = dbfacts_is_proved(f);
	if (UNLIKELY(!atomic_load_explicit(&f->used, memory_order_relaxed)))
		note_used(f);
	if (UNLIKELY(atomic_load_explicit(&f->version, memory_order_acquire) != *version))
		fetch_catalog(f, version, catalog);
	return proved && *catalog;
}

/* --- settings of roles and databases (E7) ---
 *
 * A change that load n has found was made between what load n - 1 saw and what load n saw.  A client that has logged in
 * before load n - 1 began is older than it.  Of one that has logged in since then nobody knows, and it counts as newer,
 * since that is what most logins behind a change expect.  A backend is known to be newer when it was begun after load n
 * had ended; of those in between nobody knows either, and they are for older clients.  A standby's backend that is
 * begun then may still start with the old settings if the standby is behind; but a client that has logged in behind the
 * load reads on a standby only that has replayed what was there at its login (B2). */

static bool is_newer_client(uint64_t change, uint32_t login_no) { return login_no >= (uint32_t)(change >> 32); }

static bool is_newer_server(uint64_t change, uint32_t open_no) { return open_no >= (uint32_t)change; }

static COLD bool suit_all_changes(const struct dbfacts *f, uint32_t n, uint32_t open_no, uint32_t login_no)
{
	bool newer_than_one = n <= DBFACTS_CHANGES; /* older ones are forgotten, and who is older than all with them */
	for (unsigned i = 0; i < DBFACTS_CHANGES; i++) {
		uint64_t change = atomic_load(&f->defaults_changed[i]);
		newer_than_one |= is_newer_server(change, open_no);
		if (is_newer_client(change, login_no) && !is_newer_server(change, open_no))
			return false;
	}
	return newer_than_one;
}

static uint64_t newest_change(const struct dbfacts *f, uint32_t n)
{
	return n ? atomic_load(&f->defaults_changed[(n - 1) % DBFACTS_CHANGES]) : 0;
}

bool dbfacts_defaults_suit(const struct dbfacts *f, uint32_t open_no, uint32_t login_no)
{
	uint32_t n = atomic_load(&f->n_defaults_changed);
	return LIKELY(is_newer_server(newest_change(f, n), open_no)) || suit_all_changes(f, n, open_no, login_no);
}

bool dbfacts_defaults_agree(const struct dbfacts *f, uint32_t open_no, uint32_t login_no)
{
	uint64_t change = newest_change(f, atomic_load(&f->n_defaults_changed));
	return is_newer_client(change, login_no) ? is_newer_server(change, open_no)
	                                         : open_no < (uint32_t)(change >> 32);
}

/* Those who log in from here on need a backend that is begun from here on. */
static void note_end_of_load(struct dbfacts_loader *l)
{
	struct dbfacts *f = l->f;
	uint32_t before = atomic_load(&f->loads_done), n = atomic_load(&f->n_defaults_changed);
	atomic_store(&f->loads_done, l->no);
	if (before && l->found_hash != l->defaults_hash) {
		atomic_store(&f->defaults_changed[n % DBFACTS_CHANGES], (uint64_t)before << 32 | l->no);
		atomic_store(&f->n_defaults_changed, n + 1);
	}
	l->defaults_hash = l->found_hash;
}

void dbfacts_note_ddl(struct dbfacts *f, enum ddl_kind kind)
{
	uint64_t seq = atomic_fetch_add_explicit(&f->ddl_seq, 1, memory_order_seq_cst) + 1;
	uint64_t code = atomic_load(&f->code_seq);
	while (kind == DDL_OF_CODE && code < seq && !atomic_compare_exchange_weak(&f->code_seq, &code, seq))
		;
	wake_loader(f);
}

bool dbfacts_code_is_proved(const struct dbfacts *f)
{
	uint64_t proved = atomic_load_explicit(&f->proved_seq, memory_order_acquire);
	return proved >= atomic_load_explicit(&f->code_seq, memory_order_seq_cst);
}

/* --- the monitor's thread: when --- */

static void schedule(struct dbfacts_loader *l, uint64_t at_us, uint64_t now_us)
{
	loop_timer_start(&l->timer, at_us > now_us ? at_us - now_us : 0);
}

/* What has failed at a server that was the primary says nothing of the one that is it now. */
static void forget_other_primary(struct load_history *h, uint32_t role_epoch)
{
	if (h->role_epoch != role_epoch)
		h->failures = 0;
}

uint64_t dbfacts_next_load(struct load_history *h, uint32_t role_epoch, uint64_t now_us)
{
	forget_other_primary(h, role_epoch);
	if (h->failures > 0)
		return h->begun_us + RETRY_MIN_US; /* somebody asks again: try, but not in a loop */
	if (h->begun_us == 0)
		return now_us;
	if (h->asked_us == 0)
		h->asked_us = now_us;
	uint64_t at_us = now_us + DDL_QUIET_US;
	if (at_us > h->asked_us + DDL_GAP_US)
		at_us = h->asked_us + DDL_GAP_US;
	return at_us < h->begun_us + DDL_GAP_US ? h->begun_us + DDL_GAP_US : at_us;
}

uint64_t dbfacts_retry_in(struct load_history *h, uint32_t role_epoch)
{
	uint64_t delay_us = RETRY_MIN_US << (h->failures < 6 ? h->failures : 6);
	h->failures++;
	forget_other_primary(h, role_epoch);
	if (h->failures == 0)
		return DDL_GAP_US;
	return delay_us < RETRY_MAX_US ? delay_us : RETRY_MAX_US;
}

/* Something is unproved: when does the next load begin? */
static void plan_load(struct dbfacts_loader *l, uint64_t now_us)
{
	atomic_store_explicit(&l->f->used, true, memory_order_seq_cst);
	schedule(l, dbfacts_next_load(&l->history, cluster_role_epoch(l->f->cluster), now_us), now_us);
}

static void on_wake(struct loop *loop, struct loop_msg *msg)
{
	struct dbfacts *f = CONTAINER_OF(msg, struct dbfacts, wake);
	struct dbfacts_loader *l = f->loader;
	atomic_store_explicit(&f->woken, false, memory_order_seq_cst);
	if (!l->m) {
		pthread_mutex_lock(&facts_mutex);
		l->m = loader_monitor;
		pthread_mutex_unlock(&facts_mutex);
		if (!l->m)
			return; /* the monitor is being stopped */
		loop_timer_init(&l->timer, loop, on_timer);
	}
	if (l->state == LOADER_LOADING && l->host != cluster_primary(f->cluster))
		end_load(l); /* it would wait for a server that may not answer any more */
	if (l->state == LOADER_IDLE && !dbfacts_is_proved(f))
		plan_load(l, mono_now_us());
}

static void on_timer(struct loop_timer *timer)
{
	struct dbfacts_loader *l = CONTAINER_OF(timer, struct dbfacts_loader, timer);
	if (l->state == LOADER_LOADING) {
		if (!dbconn_check_deadline(&l->conn, mono_now_us()))
			loop_timer_start(timer, DEADLINE_CHECK_US);
		return;
	}
	/* Nobody has looked at it for a whole period: it is not kept up to date any more, and says so.  Whoever looks
	 * next finds `used` false and wakes us. */
	if (atomic_exchange_explicit(&l->f->used, false, memory_order_seq_cst))
		begin_load(l);
	else
		atomic_store_explicit(&l->f->proved_seq, 0, memory_order_release);
}

/* --- the monitor's thread: how --- */

static void end_load(struct dbfacts_loader *l)
{
	catalog_build_abort(l->builder);
	l->builder = NULL;
	dbconn_close(&l->conn);
	l->state = LOADER_IDLE;
	atomic_store(&l->f->loading, false);
}

static void retry_later(struct dbfacts_loader *l, uint64_t delay_us)
{
	end_load(l);
	loop_timer_start(&l->timer, delay_us);
}

static void fail_load(struct dbfacts_loader *l, const char *why)
{
	if (strcmp(l->logged, why) != 0) {
		str_copy(l->logged, sizeof l->logged, str_of(why));
		log_warning(NULL, "facts of database \"%s\" could not be loaded, its statements go to the primary: %s",
		            l->f->dbname, why);
	}
	retry_later(l, dbfacts_retry_in(&l->history, cluster_role_epoch(l->f->cluster)));
}

static void publish(struct dbfacts_loader *l, struct catalog *fresh)
{
	struct dbfacts *f = l->f;
	struct catalog *old = fresh;
	pthread_mutex_lock(&f->mutex);
	/* The same facts again: workers keep what they have derived from them. */
	if (!f->current || catalog_digest(f->current) != catalog_digest(fresh)) {
		old = f->current;
		f->current = fresh;
		atomic_fetch_add_explicit(&f->version, 1, memory_order_release);
	}
	pthread_mutex_unlock(&f->mutex);
	catalog_unref(old);
	atomic_store_explicit(&f->proved_seq, l->seq, memory_order_release);
}

static void finish_load(struct dbfacts_loader *l)
{
	uint64_t now_us = mono_now_us();
	struct catalog *fresh = catalog_build_finish(l->builder);
	l->builder = NULL;
	publish(l, fresh);
	note_end_of_load(l);
	if (l->logged[0])
		log_info(NULL, "facts of database \"%s\" are loaded again", l->f->dbname);
	log_debug(NULL, "facts of database \"%s\": version %" PRIu64 ", loaded in %" PRIu64 " us", l->f->dbname,
	          atomic_load(&l->f->version), now_us - l->history.begun_us);
	l->history.failures = 0;
	l->logged[0] = '\0';
	end_load(l);
	if (dbfacts_is_proved(l->f))
		loop_timer_start(&l->timer, l->m->facts_refresh_us);
	else
		plan_load(l, now_us);
}

static bool add_rows(struct dbfacts_loader *l, unsigned query, const PGresult *res)
{
	enum { COLUMNS_MAX = 32 };
	const char *values[COLUMNS_MAX];
	int columns = PQnfields(res);
	if (columns != catalog_queries[query].columns || columns > COLUMNS_MAX)
		return false;
	for (int row = 0; row < PQntuples(res); row++) {
		for (int i = 0; i < columns; i++)
			values[i] = PQgetisnull(res, row, i) ? NULL : PQgetvalue(res, row, i);
		if (!catalog_build_add_row(l->builder, query, columns, values))
			return false;
	}
	return true;
}

static void note_role_settings(struct dbfacts_loader *l, const PGresult *res)
{
	XXH64_hash_t hash = 1;
	for (int row = 0; row < PQntuples(res); row++) {
		for (int i = 0; i < PQnfields(res); i++)
			hash = XXH64(PQgetvalue(res, row, i), (size_t)PQgetlength(res, row, i) + 1, hash);
	}
	l->found_hash = hash;
}

/* Step 0 is BEGIN and the prologue, step i+1 is query i, the last one the role settings. */
static void send_step(struct dbfacts_loader *l)
{
	uint64_t deadline_us = mono_now_us() + LOAD_DEADLINE_US;
	if (l->step == 0) {
		char *sql = mem_printf("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; %s", catalog_prologue);
		dbconn_query(&l->conn, sql, deadline_us);
		mem_free(sql);
	} else if (l->step <= catalog_queries_count) {
		dbconn_query(&l->conn, catalog_queries[l->step - 1].sql, deadline_us);
	} else if (l->step == catalog_queries_count + 1) {
		dbconn_query(&l->conn, role_settings_sql, deadline_us);
	} else {
		dbconn_query(&l->conn, "COMMIT", deadline_us); /* who waits for quiet need not wait for its end */
	}
}

static void on_result(struct dbconn *conn, const PGresult *res)
{
	struct dbfacts_loader *l = CONTAINER_OF(conn, struct dbfacts_loader, conn);
	ExecStatusType status = PQresultStatus(res);
	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
		char why[sizeof l->logged];
		dbconn_one_line(PQresultErrorMessage(res), why, sizeof why);
		fail_load(l, why);
		return;
	}
	if (l->step > catalog_queries_count + 1) {
		finish_load(l);
		return;
	}
	if (l->step == catalog_queries_count + 1) {
		note_role_settings(l, res);
	} else if (l->step > 0 && !add_rows(l, l->step - 1, res)) {
		fail_load(l, "the catalog has rows of an unexpected shape");
		return;
	}
	l->step++;
	send_step(l);
}

static void on_failed(struct dbconn *conn)
{
	struct dbfacts_loader *l = CONTAINER_OF(conn, struct dbfacts_loader, conn);
	fail_load(l, conn->error);
}

/* Reads ddl_seq before the snapshot is taken: a DDL noted later may or may not be in it, and is not counted. */
static void on_ready(struct dbconn *conn)
{
	struct dbfacts_loader *l = CONTAINER_OF(conn, struct dbfacts_loader, conn);
	struct dbfacts *f = l->f;
	l->seq = atomic_load_explicit(&f->ddl_seq, memory_order_seq_cst);
	pthread_mutex_lock(&f->mutex);
	struct catalog_options options = {
		.read_only_functions = l->read_only_functions,
		.write_functions = l->write_functions,
	};
	l->builder = catalog_build_start(&options);
	pthread_mutex_unlock(&f->mutex);
	l->step = 0;
	send_step(l);
}

static const struct dbconn_ops ops = { .on_ready = on_ready, .on_result = on_result, .on_failed = on_failed };

/* Somebody wants quiet: a bit later then. */
static bool is_put_off(struct dbfacts_loader *l, uint64_t now_us)
{
	atomic_store(&l->f->loading, true);
	uint64_t quiet_us = atomic_load(&l->f->quiet_until_us);
	bool later = quiet_us > now_us && (!l->hushed_us || now_us - l->hushed_us < HUSH_MAX_US);
	if (!later) {
		l->hushed_us = 0;
		return false;
	}
	if (!l->hushed_us)
		l->hushed_us = now_us;
	atomic_store(&l->f->loading, false);
	atomic_store_explicit(&l->f->used, true, memory_order_seq_cst);
	schedule(l, quiet_us, now_us);
	return true;
}

bool dbfacts_connect(struct dbfacts *f, struct monitor *m, const struct host *h, struct dbconn *conn,
                     const char *options, uint64_t deadline_us)
{
	struct net_addr addr;
	uint32_t epoch;
	if (!host_address(h, &addr, &epoch)) {
		(void)str_copy(conn->error, sizeof conn->error, STR("the address of the server is not known"));
		return false;
	}
	pthread_mutex_lock(&f->mutex);
	struct dbconn_settings s = {
		.host = h->name,
		.addr = &addr,
		.port = h->port,
		.login = monitor_login_merge(&m->identity.login, &f->loader->identity.login),
		.tls = m->identity.tls,
		.options = options,
	};
	s.login.dbname = f->dbname;
	bool opened = dbconn_open(conn, &s, deadline_us);
	pthread_mutex_unlock(&f->mutex);
	return opened;
}

static void begin_load(struct dbfacts_loader *l)
{
	struct monitor *m = l->m;
	struct dbfacts *f = l->f;
	struct host *h = cluster_primary(f->cluster);
	struct net_addr addr;
	uint32_t epoch;
	uint64_t now_us = mono_now_us();
	if (is_put_off(l, now_us))
		return;
	if (!h || !host_address(h, &addr, &epoch)) {
		retry_later(l, RETRY_MIN_US / 4);
		return;
	}
	l->state = LOADER_LOADING;
	l->host = h;
	l->history.role_epoch = cluster_role_epoch(f->cluster);
	l->history.begun_us = now_us;
	l->no = atomic_fetch_add(&f->loads_begun, 1) + 1;
	l->history.asked_us = 0;
	dbconn_init(&l->conn, m->loop, &ops);
	bool opened = dbfacts_connect(f, m, h, &l->conn, settings, now_us + CONNECT_DEADLINE_US);
	if (opened)
		loop_timer_start(&l->timer, DEADLINE_CHECK_US);
	else
		fail_load(l, l->conn.error);
}

/* --- the monitor's side --- */

void dbfacts_distrust(struct cluster *c)
{
	struct dbfacts *f;
	pthread_mutex_lock(&facts_mutex);
	LIST_FOREACH(f, &all_facts, link)
	{
		if (f->cluster == c)
			dbfacts_note_ddl(f, DDL_OF_CODE);
	}
	pthread_mutex_unlock(&facts_mutex);
}

void dbfacts_loader_start(struct monitor *m)
{
	struct dbfacts *f;
	pthread_mutex_lock(&facts_mutex);
	loader_monitor = m;
	atomic_store_explicit(&loader_loop, m->loop, memory_order_release);
	LIST_FOREACH(f, &all_facts, link)
	{
		if (atomic_load_explicit(&f->used, memory_order_relaxed))
			wake_loader(f);
	}
	pthread_mutex_unlock(&facts_mutex);
}

void dbfacts_loader_stop(void)
{
	struct dbfacts *f;
	pthread_mutex_lock(&facts_mutex);
	atomic_store_explicit(&loader_loop, NULL, memory_order_release);
	loader_monitor = NULL;
	LIST_FOREACH(f, &all_facts, link)
	{
		struct dbfacts_loader *l = f->loader;
		if (!l->m)
			continue;
		end_load(l);
		loop_timer_stop(&l->timer);
		l->m = NULL;
	}
	pthread_mutex_unlock(&facts_mutex);
}
