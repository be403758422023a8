/* proxy/pool.c - see proxy/pool.h.
 *
 * Idle servers are a stack: the most recently used one has the warmest caches on both sides, and the bottom ages out.
 * A server prepared for this client's settings is preferred among the top few, because a difference costs the server
 * a statement for each setting, as much as a short query does; without one it is the coldest of the few that is made
 * another's.  For the same reason a server that becomes free goes to the first who waits with its settings, as long as
 * nobody is overtaken by more than OVERTAKEN_MAX.  In simulation of 32 clients in four groups over ten servers, strict
 * order made three hand-overs in four a change of settings, a bound of 8 one in eight, one of 16 one in a hundred.
 * Nothing here knows the protocol. */
#include "proxy/pool.h"

#include <limits.h>
#include <pthread.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/mono.h"
#include "base/rules.h"
#include "cluster/dbfacts.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/limits.h"
#include "proxy/moving.h"
#include "proxy/params.h"
#include "proxy/relay.h"
#include "proxy/worker.h"

enum { SEQUENCE_LOOKS = 64, SUITABLE_LOOKS = 16, CONNECTING_MAX = 16, STRICT_QUEUE = 8, MOVE_US = 2 * MONO_MS };
enum { MATCH_LOOKS = 32, OVERTAKEN_MAX = 16 };

static struct pool_budget *budgets; /* uthash; guarded by budgets_mutex */
static pthread_mutex_t budgets_mutex = PTHREAD_MUTEX_INITIALIZER;

static struct pool_budget *budget_get(const char *key, size_t key_len)
{
	struct pool_budget *b;
	pthread_mutex_lock(&budgets_mutex);
	HASH_FIND(hh, budgets, key, key_len, b);
	if (!b) {
		b = mem_zalloc(sizeof *b + key_len);
		memcpy(b->key, key, key_len);
		b->key_len = key_len;
		HASH_ADD(hh, budgets, key, key_len, b);
	}
	b->refs++;
	pthread_mutex_unlock(&budgets_mutex);
	return b;
}

struct pool_budget *pool_budget_ref(struct pool_budget *b)
{
	pthread_mutex_lock(&budgets_mutex);
	b->refs++;
	pthread_mutex_unlock(&budgets_mutex);
	return b;
}

void pool_budget_unref(struct pool_budget *b)
{
	pthread_mutex_lock(&budgets_mutex);
	bool last = --b->refs == 0;
	if (last)
		HASH_DEL(budgets, b);
	pthread_mutex_unlock(&budgets_mutex);
	if (last)
		mem_free(b);
}

bool pool_budget_is_forgotten(const struct pool_budget *b)
{
	pthread_mutex_lock(&budgets_mutex);
	bool alone = b->refs == 1;
	pthread_mutex_unlock(&budgets_mutex);
	return alone;
}

size_t pool_budgets_count(void)
{
	pthread_mutex_lock(&budgets_mutex);
	size_t n = HASH_COUNT(budgets);
	pthread_mutex_unlock(&budgets_mutex);
	return n;
}

/* The key names what makes two connections interchangeable: client database and the pools' owner (they fix the
 * credentials) and the host object itself. */
static size_t make_key(char **out, const struct dbuser *du, const struct host *host)
{
	size_t n = du->key_len + sizeof host;
	char *key = mem_alloc(n);
	memcpy(key, du->key, du->key_len);
	memcpy(key + du->key_len, &host, sizeof host);
	*out = key;
	return n;
}

static COLD struct pool *find_or_add(struct dbuser *guest, struct host *host)
{
	struct dbuser *du = guest->owner;
	struct worker *w = du->worker;
	struct pool *p;
	char *key;
	size_t n = make_key(&key, du, host);
	HASH_FIND(hh, w->pools, key, n, p);
	if (!p) {
		p = mem_zalloc(sizeof *p + n);
		p->worker = w;
		p->du = du;
		p->host = host;
		p->budget = budget_get(key, n);
		TAILQ_INIT(&p->idle);
		TAILQ_INIT(&p->others);
		TAILQ_INIT(&p->waiters);
		p->key_len = n;
		memcpy(p->key, key, n);
		HASH_ADD(hh, w->pools, key, n, p);
		LIST_INSERT_HEAD(&w->pool_list, p, all);
	}
	mem_free(key);
	guest->pools[host->index] = p;
	return p;
}

struct pool *pool_get(struct dbuser *du, struct host *host)
{
	struct pool *p = du->pools[host->index];
	return LIKELY(p && p->host == host) ? p : find_or_add(du, host);
}

int pool_size(const struct pool *p) { return config_pool_size(p->du->config, p->du->conf, p->du->pool_user); }

/* --- applications with a pool_size --- */

/* What an application holds in the pool, over all workers. */
struct pool_app {
	char *name;          /* owned */
	struct limit *limit; /* owned reference */
	LIST_ENTRY(pool_app) link;
};

static struct pool_app *app_add(struct pool *p, const char *name)
{
	struct pool_app *a = mem_zalloc(sizeof *a);
	struct buf key = { 0 };
	CHECK(buf_put(&key, &p->budget, sizeof p->budget) && buf_put(&key, name, strlen(name)));
	a->name = mem_strdup(name);
	a->limit = limit_get(LIMIT_APPLICATION_SERVERS, buf_head(&key), buf_len(&key));
	buf_deinit(&key);
	LIST_INSERT_HEAD(&p->apps, a, link);
	return a;
}

/* NULL: the client's application has no limit. */
static struct limit *app_limit(struct pool *p, const struct client *c, int *most)
{
	struct pool_app *a;
	*most = 0;
	if (LIKELY(!c->conf_app))
		return NULL;
	*most = config_application_pool_size(c->conf_app);
	if (*most <= 0)
		return NULL;
	LIST_FOREACH(a, &p->apps, link)
	{
		if (strcmp(a->name, c->conf_app->name) == 0)
			return a->limit;
	}
	return app_add(p, c->conf_app->name)->limit;
}

static bool app_is_at_limit(struct pool *p, const struct client *c)
{
	int most;
	const struct limit *l = app_limit(p, c, &most);
	return l && limit_is_reached(l, most);
}

static bool app_take(struct pool *p, struct server *s, const struct client *c)
{
	int most;
	struct limit *l = app_limit(p, c, &most);
	if (l && !limit_take(&l->n, most))
		return false;
	s->application = l ? limit_ref(l) : NULL;
	return true;
}

static void app_leave(struct server *s)
{
	if (!s->application)
		return;
	limit_give_back(s->application);
	limit_unref(s->application);
	s->application = NULL;
}

/* The oldest of those who wait for a server and not for their own application's others. */
static COLD struct client *first_below_limit(struct pool *p)
{
	struct client *c = TAILQ_FIRST(&p->waiters);
	while (c && app_is_at_limit(p, c))
		c = TAILQ_NEXT(c, wait);
	return c;
}

/* Without a limited application here it is the oldest (a limit that only others have reached is met by app_take()). */
static inline struct client *first_waiter(struct pool *p)
{
	return LIKELY(LIST_EMPTY(&p->apps)) ? TAILQ_FIRST(&p->waiters) : first_below_limit(p);
}

static unsigned count_waiters(struct pool *p)
{
	unsigned n = 0;
	const struct client *c;
	if (LIST_EMPTY(&p->apps))
		return p->n_waiters;
	TAILQ_FOREACH(c, &p->waiters, wait)
	n += !app_is_at_limit(p, c);
	return n;
}

static void note_waiting(struct pool *p)
{
	struct client *first = first_waiter(p);
	atomic_store_explicit(&p->budget->waiting_since[p->worker->index], first ? first->wait_since_us : 0,
	                      memory_order_release);
}

static void note_idle(struct pool *p)
{
	atomic_store_explicit(&p->budget->idle[p->worker->index], p->n_idle, memory_order_relaxed);
}

/* --- handing out --- */

static void take_from_idle(struct pool *p, struct server *s)
{
	TAILQ_REMOVE(&p->idle, s, link);
	p->n_idle--;
	TAILQ_INSERT_TAIL(&p->others, s, link);
	p->n_others++;
	server_set_state(s, SERVER_LINKED);
	note_idle(p);
}

/* E7: RESET leads back to what stood in the backend's start-up packet.  One that was opened with a client's settings is
 * for whoever brings a value of its own for each of them. */
static bool suits_start(const struct server *s, const struct client *c)
{
	if (c->seg.wants_own)
		return s->base == c->base && s->nameless == c->nameless;
	return s->base->n <= 1 || s->base == c->base ||
	       (c->du->pool_mode != POOL_MODE_SESSION && params_are_among(s->base, c->base));
}

/* E7: ALTER ROLE and ALTER DATABASE SET are for sessions that begin later. */
static bool suits_defaults(const struct server *s, const struct client *c)
{
	return dbfacts_defaults_suit(c->du->facts, s->facts_no, c->facts_no) || RULE_BROKEN(E7);
}

/* E1: a name with a point, once set, cannot be taken away; it is no secret from a client that has it too. */
static bool suits(const struct server *s, const struct client *c)
{
	return !server_is_outdated(s) && suits_start(s, c) && suits_defaults(s, c) &&
	       (params_are_among(s->custom, c->custom) || RULE_BROKEN(E1));
}

/* E3: where currval() is asked for, a client gets the server that still has its values if that is free, and rather the
 * oldest idle one than another client's newest.  NULL: any will do. */
static COLD struct server *idle_by_sequences(struct pool *p, const struct client *c)
{
	struct server *s, *oldest = NULL;
	int looks = 0;
	for (s = TAILQ_FIRST(&p->idle); s && looks < SEQUENCE_LOOKS; looks++, s = TAILQ_NEXT(s, link)) {
		if (!suits(s, c))
			continue;
		if (s->sequences_of == c->id)
			return s;
		if (!oldest || oldest->sequences_of || !s->sequences_of)
			oldest = s;
	}
	return oldest;
}

static struct server *suitable_idle(struct pool *p, const struct client *c)
{
	if (UNLIKELY(c->du->owner->reads_sequences) && !RULE_BROKEN(E3))
		return idle_by_sequences(p, c);
	struct server *s, *coldest = NULL, *newer = NULL;
	int looks = 0;
	for (s = TAILQ_FIRST(&p->idle); s && (looks < SUITABLE_LOOKS || !coldest); looks++, s = TAILQ_NEXT(s, link)) {
		if (!suits(s, c))
			continue;
		if (UNLIKELY(!dbfacts_defaults_agree(c->du->facts, s->facts_no, c->facts_no)))
			newer = s; /* better than none (E7) */
		else if (s->profile == c->profile)
			return s;
		else
			coldest = s;
	}
	return coldest ? coldest : newer;
}

static bool wants_check(const struct pool *p, const struct server *s)
{
	const struct config *cfg = p->du->config;
	return *cfg->server_check_query &&
	       loop_now_us(p->worker->loop) - s->idle_since_us >= cfg->server_check_delay_us;
}

/* Comes back by pool_put(), to whoever has waited longest, or fails and is closed. */
static void begin_check(struct pool *p, struct server *s)
{
	const char *sql = p->du->config->server_check_query;
	s->checking = true;
	p->n_checking++;
	s->request_us = loop_now_us(p->worker->loop);
	server_run_reset(s, RESET_NOTHING, strcmp(sql, "<empty>") == 0 ? "" : sql);
}

void pool_check_done(struct server *s)
{
	s->checking = false;
	s->pool->n_checking--;
}

void pool_retire(struct pool *p, const char *why)
{
	struct server *s, *next;
	p->conn_epoch++;
	for (s = TAILQ_FIRST(&p->idle); s; s = next) {
		next = TAILQ_NEXT(s, link);
		s->expected_close = true;
		server_close(s, why);
	}
}

struct server *pool_take(struct pool *p, struct client *c)
{
	/* Whoever waits came first; a paused database hands out nothing. */
	if ((p->n_waiters && first_waiter(p)) || p->du->paused)
		return NULL;
	struct server *s = suitable_idle(p, c);
	if (!s || !app_take(p, s, c))
		return NULL;
	take_from_idle(p, s);
	if (!wants_check(p, s))
		return s;
	app_leave(s);
	begin_check(p, s);
	return NULL;
}

static COLD void refuse(struct pool *p, struct client *c)
{
	struct pgerr err = p->last_error;
	relay_server_refused(c, &err);
}

/* After a failed login, while nothing has changed. */
static bool is_resting(const struct pool *p, uint64_t now_us)
{
	return p->failing && now_us < p->retry_at_us && p->failed_epoch == cluster_role_epoch(p->du->db->cluster) &&
	       p->failed_identity == p->du->identity;
}

void pool_wait(struct pool *p, struct client *c)
{
	uint64_t now = loop_now_us(p->worker->loop);
	if (!p->n_others && is_resting(p, now)) {
		refuse(p, c);
		return;
	}
	client_set_state(c, CLIENT_WAIT_SERVER);
	c->pool = p;
	c->wait_since_us = now;
	c->wait_notified = false;
	c->turn = p->n_left + p->n_waiters;
	TAILQ_INSERT_TAIL(&p->waiters, c, wait);
	/* Who was the first of several is so still. */
	if (p->n_waiters++ == 0 || !LIST_EMPTY(&p->apps))
		note_waiting(p);
	if (now > p->full_until_us || p->n_idle)
		pool_grow(p);
}

void pool_unwait(struct pool *p, struct client *c)
{
	CHECK(c->pool == p);
	TAILQ_REMOVE(&p->waiters, c, wait);
	p->n_waiters--;
	p->n_left++;
	c->pool = NULL;
	note_waiting(p);
}

/* The worker that has waited longer for this pool than our own first client, or NULL.  First come, first served; but in
 * a long queue not for less than two milliseconds: a move costs a DISCARD ALL and all that the connection has prepared,
 * and where all workers have a queue nearly every release would be one. */
static struct worker *hungrier_worker(struct pool *p)
{
	const struct client *own = first_waiter(p);
	uint64_t oldest = own ? own->wait_since_us - (p->n_waiters > STRICT_QUEUE ? MOVE_US : 0) : UINT64_MAX;
	int at = -1;
	for (unsigned i = 0; i < workers_count(); i++) {
		uint64_t since = atomic_load_explicit(&p->budget->waiting_since[i], memory_order_relaxed);
		if (i != p->worker->index && since && since < oldest) {
			oldest = since;
			at = (int)i;
		}
	}
	return at < 0 ? NULL : workers_get((unsigned)at);
}

/* Who gets a server that has become free: the first in the queue, or the first of a few that it needs no change for. */
static struct client *next_waiter(struct pool *p, const struct server *s)
{
	struct client *first = first_waiter(p), *c = first;
	if (LIKELY(!first || s->profile == first->profile) || !LIST_EMPTY(&p->apps) ||
	    p->n_left - first->turn >= OVERTAKEN_MAX)
		return first;
	for (int looks = 0; c && looks < MATCH_LOOKS; looks++, c = TAILQ_NEXT(c, wait)) {
		if (c->profile == s->profile && suits(s, c))
			return c;
	}
	return first;
}

static bool serve_waiters(struct pool *p, struct server *s)
{
	struct client *c;
	while (!p->du->paused && (c = next_waiter(p, s))) {
		uint64_t waited = loop_now_us(p->worker->loop) - c->wait_since_us;
		if (server_is_outdated(s)) {
			s->expected_close = true;
			server_close(s, "database configuration changed"); /* the pool opens another one */
			return false;
		}
		if (!suits(s, c))
			return false; /* it may suit somebody else yet: pool_grow() makes room if there is need */
		if (!app_take(p, s, c))
			continue; /* another worker's client has been faster */
		pool_unwait(p, c);
		client_set_state(c, CLIENT_IDLE); /* it stands in no list now */
		p->use.waits++;
		p->use.wait_us += waited;
		c->du->stats.wait_us += waited;
		p->worker->stats.total.wait_us += waited;
		if (relay_server_ready(c, s))
			return true;
		app_leave(s);
	}
	return false;
}

void pool_put(struct pool *p, struct server *s)
{
	CHECK(s->client == NULL);
	app_leave(s);
	if (workers_count() > 1) {
		struct worker *other = hungrier_worker(p);
		if (other) {
			server_move_to(s, other);
			return;
		}
	}
	if (p->n_waiters && serve_waiters(p, s))
		return;
	if (s->state == SERVER_CLOSING)
		return;
	server_set_state(s, SERVER_IDLE);
	s->idle_since_us = loop_now_us(p->worker->loop);
	TAILQ_REMOVE(&p->others, s, link);
	p->n_others--;
	if (p->du->config->server_round_robin)
		TAILQ_INSERT_TAIL(&p->idle, s, link);
	else
		TAILQ_INSERT_HEAD(&p->idle, s, link);
	p->n_idle++;
	note_idle(p);
	if (UNLIKELY(p->n_waiters))
		pool_grow(p);
}

/* Waiters and free servers meet only here: otherwise a server that becomes free finds the waiters itself. */
void pool_resume(struct pool *p)
{
	struct client *c;
	struct server *s;
	unsigned bound = p->n_idle;
	while (bound-- && !p->du->paused && (c = first_waiter(p)) && (s = suitable_idle(p, c))) {
		take_from_idle(p, s);
		pool_put(p, s);
	}
	if (p->n_waiters)
		pool_grow(p);
}

/* --- growing --- */

static int size_now(const struct pool *p)
{
	int size = pool_size(p);
	const struct client *first = TAILQ_FIRST(&p->waiters);
	const struct config *cfg = p->du->config;
	uint64_t now = loop_now_us(p->worker->loop);
	int reserve = config_reserve_pool_size(cfg, p->du->conf, p->du->pool_user);
	if (size && reserve && first && cfg->reserve_pool_timeout_us &&
	    now - first->wait_since_us >= cfg->reserve_pool_timeout_us)
		size += reserve;
	return size;
}

/* --- making room under the limits that several pools share --- */

/* What an unused connection of another pool stands in the way of. */
struct evict {
	const struct limit *db;           /* NULL: any */
	const struct limit *user;         /* NULL: any */
	const struct pool_budget *budget; /* NULL: any */
};

static bool stands_in_the_way(const struct server *s, const struct evict *e)
{
	return (!e->db || s->db_servers == e->db) && (!e->user || s->user_servers == e->user) &&
	       (!e->budget || s->budget == e->budget);
}

/* Closes the one that has been idle longest; false: there is none. */
static bool evict_here(struct worker *w, const struct pool *taker, const struct evict *e)
{
	struct pool *p;
	struct server *oldest = NULL;
	LIST_FOREACH(p, &w->pool_list, all)
	{
		struct server *s = p == taker || p->n_waiters ? NULL : TAILQ_LAST(&p->idle, server_queue);
		if (s && stands_in_the_way(s, e) && (!oldest || s->idle_since_us < oldest->idle_since_us))
			oldest = s;
	}
	if (!oldest)
		return false;
	oldest->expected_close = true;
	server_close(oldest, "makes room for another pool");
	return true;
}

struct evict_msg {
	struct loop_msg msg;
	struct worker *w;
	struct evict evict;
};

static void on_evict(struct loop *loop, struct loop_msg *msg)
{
	struct evict_msg *m = CONTAINER_OF(msg, struct evict_msg, msg);
	(void)loop;
	(void)evict_here(m->w, NULL, &m->evict);
	mem_free(m);
}

/* The room that another worker makes is found at the next tick, by whoever comes first. */
static void ask_others_for_room(struct pool *p, struct evict e)
{
	for (unsigned i = 0; i < workers_count(); i++) {
		if (i == p->worker->index)
			continue;
		struct evict_msg *m = mem_zalloc(sizeof *m);
		*m = (struct evict_msg){ .msg.fn = on_evict, .w = workers_get(i), .evict = e };
		loop_post(m->w->loop, &m->msg);
	}
}

static bool make_room(struct pool *p, struct evict e)
{
	if (evict_here(p->worker, p, &e))
		return true;
	ask_others_for_room(p, e);
	return false;
}

/* For whom a connection is: who waits may have an unused one of another pool closed, a minimum may not. */
enum purpose { FOR_CLIENT, FOR_MINIMUM };

static bool take_of_database(struct pool *p, enum purpose why)
{
	const struct dbuser *du = p->du;
	int most = config_max_db_connections(du->config, du->conf, du->pool_user);
	if (limit_take(&du->db_servers->n, most))
		return true;
	return why == FOR_CLIENT && make_room(p, (struct evict){ .db = du->db_servers }) &&
	       limit_take(&du->db_servers->n, most);
}

static bool take_of_user(struct pool *p, enum purpose why)
{
	const struct dbuser *du = p->du;
	int most = config_max_user_connections(du->config, du->conf, config_user(du->config, str_of(du->server_user)));
	if (limit_take(&du->user_servers->n, most))
		return true;
	return why == FOR_CLIENT && make_room(p, (struct evict){ .user = du->user_servers }) &&
	       limit_take(&du->user_servers->n, most);
}

/* PgBouncer's words: that a reserve is needed is a sign that the pool is too small. */
static void log_reserve(const struct pool *p)
{
	struct log_subject about = { .kind = 'P', .database = p->du->database, .user = p->du->server_user };
	int size = pool_size(p);
	if (size && atomic_load(&p->budget->connections) > size)
		log_info(&about, "taking connection from reserve_pool");
}

/* One connection more may be opened for the pool; then it is counted. */
static bool budget_take(struct pool *p, enum purpose why)
{
	if (!limit_take(&p->budget->connections, size_now(p)))
		return false;
	if (take_of_database(p, why)) {
		if (take_of_user(p, why)) {
			log_reserve(p);
			return true;
		}
		limit_give_back(p->du->db_servers);
	}
	atomic_fetch_sub(&p->budget->connections, 1);
	return false;
}

struct donate_msg {
	struct loop_msg msg;
	struct worker *giver, *taker;
	size_t key_len;
	char key[];
};

static void on_donate(struct loop *loop, struct loop_msg *msg)
{
	(void)loop;
	struct donate_msg *m = CONTAINER_OF(msg, struct donate_msg, msg);
	struct pool *p;
	HASH_FIND(hh, m->giver->pools, m->key, m->key_len, p);
	struct server *s = p && !p->n_waiters ? TAILQ_LAST(&p->idle, server_queue) : NULL;
	if (s && atomic_load(&p->budget->waiting_since[m->taker->index])) {
		take_from_idle(p, s);
		server_move_to(s, m->taker);
	}
	mem_free(m);
}

/* Another worker's idle connection is better than none: ask for it.  False: there is none. */
static bool ask_for_donation(struct pool *p)
{
	for (unsigned i = 0; i < workers_count(); i++) {
		if (i == p->worker->index || !atomic_load_explicit(&p->budget->idle[i], memory_order_relaxed))
			continue;
		struct donate_msg *m = mem_zalloc(sizeof *m + p->key_len);
		*m = (struct donate_msg){
			.msg.fn = on_donate, .giver = workers_get(i), .taker = p->worker, .key_len = p->key_len
		};
		memcpy(m->key, p->key, p->key_len);
		loop_post(m->giver->loop, &m->msg);
		return true;
	}
	return false;
}

static void close_idle(struct server *s, const char *why);

/* An idle server that the first in the queue cannot use keeps it from getting one. */
static bool makes_room(struct pool *p)
{
	struct server *s = TAILQ_LAST(&p->idle, server_queue);
	const struct client *first = TAILQ_FIRST(&p->waiters);
	if (!s || !first || suits(s, first))
		return false;
	close_idle(s, "no use to the clients that wait");
	return true;
}

static bool may_connect_now(const struct pool *p) { return !is_resting(p, loop_now_us(p->worker->loop)); }

/* Whoever waits next need not ask again, until a server of the pool goes, or the next tick; where other workers have a
 * part in it, in this turn only. */
static void note_full(struct pool *p)
{
	int size = size_now(p);
	if (size > 0 && atomic_load_explicit(&p->budget->connections, memory_order_relaxed) >= size)
		p->full_until_us = workers_count() > 1 ? loop_now_us(p->worker->loop) : UINT64_MAX;
}

void pool_grow(struct pool *p)
{
	while (!p->du->paused && count_waiters(p) > p->n_connecting + p->n_checking &&
	       p->n_connecting < CONNECTING_MAX && may_connect_now(p)) {
		if (!budget_take(p, FOR_CLIENT)) {
			if (makes_room(p))
				return; /* and has called us */
			if (!ask_for_donation(p))
				note_full(p);
			return;
		}
		unsigned before = p->n_connecting;
		server_open(p);
		if (p->n_connecting <= before)
			return; /* failed at once; pool_on_server_failed() has seen to the waiters */
	}
}

bool pool_take_dedicated(struct pool *p)
{
	if (p->du->paused)
		return false;
	if (budget_take(p, FOR_CLIENT))
		return true;
	struct server *s = p->n_waiters ? NULL : TAILQ_LAST(&p->idle, server_queue);
	if (!s) {
		ask_others_for_room(p, (struct evict){ .budget = p->budget });
		return false;
	}
	close_idle(s, "evicted");
	return budget_take(p, FOR_CLIENT);
}

static int max_pinned(const struct pool *p)
{
	int limit = config_max_pinned(p->du->config, p->du->conf, p->du->pool_user);
	return limit < 0 ? pool_size(p) : limit;
}

bool pool_pin_if_roomy(struct server *s)
{
	int limit = max_pinned(s->pool);
	return (!limit || atomic_load(&s->pool->budget->pinned) < (limit + 1) / 2) && pool_pin(s);
}

bool pool_pin(struct server *s)
{
	struct pool *p = s->pool;
	if (s->pinned)
		return true;
	if (!limit_take(&p->budget->pinned, max_pinned(p)))
		return false;
	s->pinned = true;
	p->full_until_us = 0;
	atomic_fetch_sub(&p->budget->connections, 1);
	pool_grow(p);
	return true;
}

/* The same budget that it was taken from: the pool may have another by now. */
bool pool_unpin(struct server *s)
{
	if (!limit_take(&s->budget->connections, pool_size(s->pool)))
		return false;
	s->pinned = false;
	atomic_fetch_sub(&s->budget->pinned, 1);
	return true;
}

/* --- news of servers --- */

void pool_on_server_ready(struct server *s)
{
	struct pool *p = s->pool;
	p->n_connecting--;
	p->failing = false;
	server_set_state(s, SERVER_LINKED); /* logged in: a close from here on must not count as a failed login */
	pool_put(p, s);
}

/* A backend would not start with a client's settings, which it once has set by SET.  False: it was not tried. */
static bool give_up_own(struct pool *p, const struct server *s)
{
	struct client *c;
	bool some = false;
	TAILQ_FOREACH(c, &p->waiters, wait)
	{
		if (c->seg.wants_own && c->base == s->base) {
			some = true;
			c->seg.wants_own = c->shows_start = false;
		}
	}
	return some;
}

void pool_on_server_failed(struct server *s, const struct pgerr *err)
{
	struct pool *p = s->pool;
	struct client_queue refused = TAILQ_HEAD_INITIALIZER(refused);
	struct client *c;
	if (give_up_own(p, s))
		return;
	p->failing = true;
	p->last_error = *err;
	p->failed_epoch = cluster_role_epoch(p->du->db->cluster);
	p->failed_identity = s->identity;
	p->retry_at_us = loop_now_us(p->worker->loop) + p->du->config->server_login_retry_us;
	/* While other connections of the pool live, waiting clients will get one of those. */
	if (p->n_others - p->n_connecting > 0 || p->n_idle)
		return;
	while ((c = TAILQ_FIRST(&p->waiters))) {
		pool_unwait(p, c);
		TAILQ_INSERT_TAIL(&refused, c, wait);
	}
	/* relay_server_refused() may queue a client anew or close it: each leaves the list first. */
	while ((c = TAILQ_FIRST(&refused))) {
		TAILQ_REMOVE(&refused, c, wait);
		client_set_state(c, CLIENT_IDLE);
		relay_server_refused(c, err);
	}
}

void pool_on_server_gone(struct server *s)
{
	struct pool *p = s->pool;
	bool was_idle = s->state == SERVER_IDLE;
	if (was_idle) {
		TAILQ_REMOVE(&p->idle, s, link);
		p->n_idle--;
		note_idle(p);
	} else {
		TAILQ_REMOVE(&p->others, s, link);
		p->n_others--;
	}
	p->full_until_us = 0;
	app_leave(s);
	if (s->checking)
		pool_check_done(s);
	pool_uncount(s);
}

void pool_uncount(struct server *s)
{
	if (!s->surplus)
		atomic_fetch_sub(s->pinned ? &s->budget->pinned : &s->budget->connections, 1);
	limit_give_back(s->user_servers);
	limit_give_back(s->db_servers);
	limit_unref(s->user_servers);
	limit_unref(s->db_servers);
	s->user_servers = s->db_servers = NULL;
}

/* --- ageing --- */

static void close_idle(struct server *s, const char *why)
{
	s->expected_close = true;
	server_close(s, why);
}

/* min_pool_size is for pools with clients on this worker, and for a forced user's, which can be filled before the first
 * one comes.  Not for what "*" has made up: nobody could say when such pools are of no use any more. */
static int minimum(const struct pool *p)
{
	const struct dbuser *du = p->du;
	bool always = p->worker->index == 0 && du->conf->user && strcmp(du->conf->name, "*") != 0;
	if (du->owner != du || (!du->n_pool_clients && !always))
		return 0;
	return config_min_pool_size(du->config, du->conf, du->pool_user);
}

/* All workers' together, pinned ones apart. */
static int connections(const struct pool *p)
{
	return atomic_load_explicit(&p->budget->connections, memory_order_relaxed);
}

/* An idle one is not pinned. */
static bool is_one_too_many(struct server *s, int keep)
{
	s->surplus = limit_give_surplus(&s->budget->connections, keep);
	return s->surplus;
}

static void close_old(struct pool *p, uint64_t now_us)
{
	const struct config *cfg = p->du->config;
	uint64_t lifetime = config_server_lifetime_us(cfg, p->du->conf, p->du->pool_user);
	int keep = minimum(p), size = pool_size(p);
	int most = size ? size + config_reserve_pool_size(cfg, p->du->conf, p->du->pool_user) : INT_MAX;
	struct server *s, *next;
	for (s = TAILQ_FIRST(&p->idle); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (server_is_outdated(s))
			close_idle(s, "database configuration changed");
		else if (lifetime && now_us - s->connected_us >= lifetime)
			close_idle(s, "server lifetime over");
		else if (is_one_too_many(s, most))
			close_idle(s, "too many servers in the pool"); /* a reload has made it smaller */
		else if (cfg->server_idle_timeout_us && now_us - s->idle_since_us >= cfg->server_idle_timeout_us &&
		         is_one_too_many(s, keep))
			close_idle(s, "server idle timeout");
	}
}

/* Also one that does not answer server_check_query. */
static bool is_slow_login(const struct server *s, uint64_t now_us, uint64_t limit_us)
{
	if (s->checking)
		return now_us - s->request_us >= limit_us;
	bool logging_in = s->state == SERVER_CONNECTING || s->state == SERVER_TLS || s->state == SERVER_LOGIN;
	return logging_in && now_us - s->connected_us >= limit_us;
}

/* A server that accepts and never answers. */
static void expire_logins(struct pool *p, uint64_t now_us)
{
	uint64_t limit = p->du->config->server_connect_timeout_us;
	unsigned bound = p->n_others;
	while (limit && bound-- > 0) {
		struct server *s = TAILQ_FIRST(&p->others);
		while (s && !is_slow_login(s, now_us, limit))
			s = TAILQ_NEXT(s, link);
		if (!s)
			return;
		server_close(s, "server_connect_timeout"); /* changes the list: look from its start again */
	}
}

static void time_out_waiter(struct client *c, uint64_t limit_us)
{
	struct pgerr err;
	pgerr_set_fatal(&err, SQLSTATE_CONNECTION_REJECTED, "query_wait_timeout");
	pgerr_detail(&err, "No server connection became free within %llu ms.", (unsigned long long)(limit_us / 1000));
	client_close(c, &err, "query_wait_timeout");
}

static uint64_t wait_limit_us(const struct client *c)
{
	const struct dbuser *du = c->du;
	return config_query_wait_timeout_us(du->config, du->conf, du->conf_user, c->conf_app);
}

/* The oldest first, but applications may have time-outs of their own. */
static struct client *first_expired(const struct pool *p, uint64_t now_us)
{
	struct client *c;
	TAILQ_FOREACH(c, &p->waiters, wait)
	{
		uint64_t limit = wait_limit_us(c);
		if (limit && now_us - c->wait_since_us >= limit)
			return c;
	}
	return NULL;
}

/* Whoever closes a client looks from the start again: others may have left the list with it. */
static void expire_waiters(struct pool *p, uint64_t now_us)
{
	uint64_t notify = p->du->config->query_wait_notify_us;
	struct client *c;
	while ((c = first_expired(p, now_us)))
		time_out_waiter(c, wait_limit_us(c));
	for (c = TAILQ_FIRST(&p->waiters); notify && c;) {
		if (now_us - c->wait_since_us >= notify)
			client_notify_waiting(c);
		c = c->state == CLIENT_WAIT_SERVER ? TAILQ_NEXT(c, wait) : TAILQ_FIRST(&p->waiters);
	}
}

static void keep_minimum(struct pool *p)
{
	int keep = minimum(p);
	enum host_role role = host_role(p->host);
	if ((role != HOST_PRIMARY && role != HOST_REPLICA) || p->du->paused)
		return;
	while (connections(p) < keep && p->n_connecting < CONNECTING_MAX && may_connect_now(p)) {
		unsigned before = p->n_others;
		if (!budget_take(p, FOR_MINIMUM))
			return;
		server_open(p);
		if (p->n_others <= before)
			return;
	}
}

void pool_tick(struct pool *p, uint64_t now_us)
{
	p->full_until_us = 0;
	expire_waiters(p, now_us);
	expire_logins(p, now_us);
	if (host_role(p->host) != HOST_PRIMARY)
		moving_park_idle(p, now_us);
	close_old(p, now_us);
	keep_minimum(p);
	if (!p->n_waiters)
		return;
	if (!LIST_EMPTY(&p->apps))
		note_waiting(p); /* what other workers' clients hold has changed */
	pool_resume(p);
}

/* Fenced: what is committed there is lost.  Down, while there is a primary: it may hang, and then nothing that is under
 * way there ever ends by itself. */
static bool is_deserted(const struct pool *p)
{
	const struct host *primary = cluster_primary(p->du->db->cluster);
	enum host_role role = host_role(p->host);
	return (role == HOST_FENCED && !RULE_BROKEN(B7) && !RULE_BROKEN(C8)) ||
	       (role == HOST_DOWN && primary && primary != p->host);
}

void pool_follow_role(struct pool *p)
{
	struct client_queue elsewhere = TAILQ_HEAD_INITIALIZER(elsewhere);
	struct client *c;
	struct server *s;
	if (!is_deserted(p))
		return;
	while ((c = TAILQ_FIRST(&p->waiters))) {
		pool_unwait(p, c);
		TAILQ_INSERT_TAIL(&elsewhere, c, wait);
	}
	while ((c = TAILQ_FIRST(&elsewhere))) {
		TAILQ_REMOVE(&elsewhere, c, wait);
		client_set_state(c, CLIENT_IDLE);
		relay_request(c);
	}
	/* Those that are there now; each is off its list when it is closed. */
	unsigned bound = p->n_idle + p->n_others;
	while (bound-- > 0 && ((s = TAILQ_FIRST(&p->idle)) || (s = TAILQ_FIRST(&p->others))))
		close_idle(s, host_role(p->host) == HOST_FENCED ? "another server is the primary now"
		                                                : "the server is down");
}

static void pool_free(struct pool *p)
{
	struct pool_app *a;
	while ((a = LIST_FIRST(&p->apps))) {
		LIST_REMOVE(a, link);
		limit_unref(a->limit);
		mem_free(a->name);
		mem_free(a);
	}
	pool_budget_unref(p->budget);
	HASH_DEL(p->worker->pools, p);
	LIST_REMOVE(p, all);
	mem_free(p);
}

bool pool_is_used(const struct pool *p) { return p->n_idle || p->n_others || p->n_waiters; }

void pools_forget(const struct dbuser *du)
{
	struct pool *p, *next;
	for (p = LIST_FIRST(&du->worker->pool_list); p; p = next) {
		next = LIST_NEXT(p, all);
		if (p->du != du)
			continue;
		CHECK(!pool_is_used(p));
		pool_free(p);
	}
}

void pools_free(struct worker *w)
{
	struct pool *p, *next;
	HASH_ITER(hh, w->pools, p, next)
	{
		struct server *s;
		while ((s = TAILQ_FIRST(&p->idle)) || (s = TAILQ_FIRST(&p->others)))
			close_idle(s, "shutting down");
		pool_free(p);
	}
}
