/* proxy/worker.c - see proxy/worker.h. */
#include "proxy/worker.h"

#include <stdio.h>
#include <unistd.h>
#include "auth/hba.h"
#include "auth/ident.h"
#include "auth/userdb.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/balance.h"
#include "cluster/monitor.h"
#include "io/tls.h"
#include "proxy/cancel.h"
#include "proxy/client.h"
#include "proxy/consistency.h"
#include "proxy/database.h"
#include "proxy/limits.h"
#include "proxy/listens.h"
#include "proxy/measure.h"
#include "proxy/peers.h"
#include "proxy/relay.h"
#include "proxy/settings.h"
#include "sql/shapes.h"
#include "wire/frame.h"
#include "wire/pgerr.h"

enum {
	TICK_US = 100 * 1000,
	AGE_TICKS = 10,
/* clients' time-outs are looked at this many ticks apart */
#ifdef PGWEIR_TEST_BUILD
	CLIENT_TICKS = 1, /* and who is idle falls asleep as early as can be */
#else
	CLIENT_TICKS = 5,
#endif
	FREE_BLOCKS_MAX = 256,
	TEXTS_UNUSED_BYTES_MAX = 4 * 1024 * 1024,
};

static struct worker *workers;
static unsigned n_workers;
static atomic_bool stopping; /* what crosses threads from now on is dropped */

/* --- runtime --- */

static struct tls_ctx *make_tls(const struct config *cfg, bool client_side, char *err, size_t err_size, bool *failed)
{
	struct tls_options o = { 0 };
	*failed = false;
	if (client_side) {
		o = (struct tls_options){ .mode = (enum tls_mode)cfg->client_tls_sslmode,
			                  .key_file = cfg->client_tls_key_file,
			                  .cert_file = cfg->client_tls_cert_file,
			                  .ca_file = cfg->client_tls_ca_file,
			                  .protocols = cfg->client_tls_protocols,
			                  .ciphers = cfg->client_tls_ciphers,
			                  .tls13_ciphers = cfg->client_tls13_ciphers,
			                  .no_dhe = str_ieq(str_of(cfg->client_tls_dheparams), STR("none")),
			                  .curves = cfg->client_tls_ecdhcurve };
	} else {
		o = (struct tls_options){ .mode = (enum tls_mode)cfg->server_tls_sslmode,
			                  .key_file = cfg->server_tls_key_file,
			                  .cert_file = cfg->server_tls_cert_file,
			                  .ca_file = cfg->server_tls_ca_file,
			                  .protocols = cfg->server_tls_protocols,
			                  .ciphers = cfg->server_tls_ciphers,
			                  .tls13_ciphers = cfg->server_tls13_ciphers };
	}
	if (o.mode == TLS_DISABLE)
		return NULL;
	struct tls_ctx *ctx =
	    client_side ? tls_ctx_new_server(&o, err, err_size) : tls_ctx_new_client(&o, err, err_size);
	*failed = ctx == NULL;
	return ctx;
}

/* What PostgreSQL would only say at the first login that the rule decides is said at once. */
static bool check_rule(const struct hba_verdict *v, const struct runtime *r, char *err, size_t err_size)
{
	const struct config *cfg = r->config;
	/* Where certificates are not a must they are checked all the same if there is an authority, see io/tls.h. */
	bool checked = cfg->client_tls_sslmode != CONF_SSL_DISABLE &&
	               (*cfg->client_tls_ca_file || cfg->client_tls_sslmode >= CONF_SSL_VERIFY_CA);
	if (v->method == AUTH_METHOD_CERT && !checked) {
		snprintf(err, err_size, "%s:%u: cert needs client_tls_sslmode and client_tls_ca_file",
		         cfg->auth_hba_file, v->line);
		return false;
	}
	if (v->map && !(r->idents && ident_has_map(r->idents, v->map))) {
		snprintf(err, err_size, "%s:%u: there is no map \"%s\" in auth_ident_file", cfg->auth_hba_file, v->line,
		         v->map);
		return false;
	}
	return true;
}

static bool load_rules(struct runtime *r, char *err, size_t err_size)
{
	const struct config *cfg = r->config;
	if (*cfg->auth_ident_file && !(r->idents = ident_load(cfg->auth_ident_file, err, err_size)))
		return false;
	if (cfg->auth_type != CONF_AUTH_HBA)
		return true;
	r->hba = hba_load(cfg->auth_hba_file, err, err_size);
	for (size_t i = 0; r->hba && i < hba_count(r->hba); i++) {
		struct hba_verdict v = hba_rule(r->hba, i);
		if (!check_rule(&v, r, err, err_size))
			return false;
	}
	return r->hba != NULL;
}

static bool load_tls(struct runtime *r, const struct runtime *other, char *err, size_t err_size)
{
	bool failed;
	if (other) {
		r->client_tls = other->client_tls ? tls_ctx_ref(other->client_tls) : NULL;
		r->server_tls = other->server_tls ? tls_ctx_ref(other->server_tls) : NULL;
		return true;
	}
	r->client_tls = make_tls(r->config, true, err, err_size, &failed);
	if (!failed)
		r->server_tls = make_tls(r->config, false, err, err_size, &failed);
	return !failed;
}

struct runtime *runtime_new_with_tls_of(const struct config *config, const struct runtime *other, char *err,
                                        size_t err_size)
{
	struct runtime *r = mem_zalloc(sizeof *r);
	atomic_init(&r->refs, 1);
	r->config = config;
	r->peers = peers_new(config);
	r->users = *config->auth_file ? userdb_load(config->auth_file, err, err_size) : userdb_new_empty();
	if (!r->users)
		goto fail;
	if (!load_rules(r, err, err_size) || !load_tls(r, other, err, err_size))
		goto fail;
	return r;
fail:
	runtime_unref(r);
	return NULL;
}

struct runtime *runtime_new(const struct config *config, char *err, size_t err_size)
{
	return runtime_new_with_tls_of(config, NULL, err, err_size);
}

struct runtime *runtime_ref(struct runtime *r)
{
	atomic_fetch_add(&r->refs, 1);
	return r;
}

void runtime_unref(struct runtime *r)
{
	if (!r || atomic_fetch_sub(&r->refs, 1) != 1)
		return;
	config_unref(r->config);
	userdb_unref(r->users);
	hba_unref(r->hba);
	ident_unref(r->idents);
	peers_free(r->peers);
	tls_ctx_unref(r->client_tls);
	tls_ctx_unref(r->server_tls);
	mem_free(r);
}

/* --- blocks --- */

bool worker_block_get(struct worker *w, struct buf *b)
{
	void *block = w->free_blocks;
	if (block) {
		memcpy(&w->free_blocks, block, sizeof w->free_blocks);
		w->n_free_blocks--;
	} else {
		block = mem_try_alloc(CLIENT_BLOCK_BYTES);
	}
	*b = (struct buf){ .data = block, .cap = block ? CLIENT_BLOCK_BYTES : 0 };
	return block != NULL;
}

void worker_block_put(struct worker *w, struct buf *b)
{
	if (b->cap == CLIENT_BLOCK_BYTES && w->n_free_blocks < FREE_BLOCKS_MAX) {
		memcpy(b->data, &w->free_blocks, sizeof w->free_blocks);
		w->free_blocks = b->data;
		w->n_free_blocks++;
		*b = (struct buf){ 0 };
	} else {
		buf_deinit(b);
	}
}

uint64_t worker_random(struct worker *w) { return balance_random(&w->rng); }

/* --- events --- */

static void wake_role_waiters(struct worker *w)
{
	unsigned n = 0;
	struct client *c;
	TAILQ_FOREACH(c, &w->role_wait, wait)
	n++;
	while (n-- && (c = TAILQ_FIRST(&w->role_wait))) {
		if (!cluster_primary(c->du->db->cluster)) {
			TAILQ_REMOVE(&w->role_wait, c, wait);
			TAILQ_INSERT_TAIL(&w->role_wait, c, wait);
			continue;
		}
		TAILQ_REMOVE(&w->role_wait, c, wait);
		client_set_state(c, CLIENT_IDLE);
		relay_request(c);
	}
}

static void on_cluster_change(void *arg)
{
	struct worker *w = arg;
	struct pool *p;
	LIST_FOREACH(p, &w->pool_list, all)
	pool_follow_role(p);
	consistency_wake(w);
	wake_role_waiters(w);
	LIST_FOREACH(p, &w->pool_list, all)
	{
		if (p->n_waiters)
			pool_grow(p);
	}
}

static void tick_clients(struct worker *w, uint64_t now)
{
	struct client *c, *next;
	for (c = TAILQ_FIRST(&w->clients); c; c = next) {
		next = TAILQ_NEXT(c, link);
		client_tick(c, now);
		if (c->state == CLIENT_IDLE)
			(void)!dormant_try(c, now);
	}
	dormant_tick(w, now);
}

static _Atomic uint64_t memory_bytes;

uint64_t workers_memory(void) { return atomic_load_explicit(&memory_bytes, memory_order_relaxed); }

static void look_at_memory(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	if (f && fscanf(f, "%*u %llu", &pages) == 1)
		atomic_store(&memory_bytes, pages * (uint64_t)sysconf(_SC_PAGESIZE));
	if (f)
		fclose(f);
}

static void on_tick(struct loop_timer *t)
{
	struct worker *w = CONTAINER_OF(t, struct worker, tick);
	uint64_t now = loop_now_us(w->loop);
	struct pool *p;
	LIST_FOREACH(p, &w->pool_list, all)
	pool_tick(p, now);
	if (w->ticks++ % CLIENT_TICKS == 0)
		tick_clients(w, now);
	if (w->ticks % AGE_TICKS == 0 && w->index == 0 && w->runtime->config->max_memory_bytes)
		look_at_memory();
	if (w->ticks % AGE_TICKS == 0 && w->index == 0)
		dbusers_fill(w);
	if (w->ticks % AGE_TICKS == 0)
		dbusers_age(w, now);
	wake_role_waiters(w);
}

/* --- what one worker learns for all --- */

struct refusal {
	struct loop_msg msg;
	struct worker *to; /* borrowed, for ever */
	uint8_t key[SHAPE_KEY_BYTES];
};

static void on_refusal(struct loop *loop, struct loop_msg *msg)
{
	struct refusal *r = CONTAINER_OF(msg, struct refusal, msg);
	(void)loop;
	shapes_note_refused(r->to->shapes, r->key);
	mem_free(r);
}

void workers_tell_refused(struct worker *own, const struct sql_shape *shape)
{
	uint8_t key[SHAPE_KEY_BYTES];
	if (!shape_key(shape, key))
		return;
	shapes_note_refused(own->shapes, key);
	for (unsigned i = 0; i < n_workers; i++) {
		if (&workers[i] == own)
			continue;
		struct refusal *r = mem_zalloc(sizeof *r);
		r->msg.fn = on_refusal;
		r->to = &workers[i];
		memcpy(r->key, key, sizeof key);
		loop_post(workers[i].loop, &r->msg);
	}
}

/* --- life --- */

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	loop_run(w->loop);
	return NULL;
}

static void worker_init(struct worker *w, unsigned index, struct runtime *runtime)
{
	char name[32];
	snprintf(name, sizeof name, "worker-%u", index);
	w->index = index;
	w->runtime = runtime_ref(runtime);
	w->loop = loop_new(name);
	w->shapes = shapes_new(SHAPES_DEFAULT_COUNT, SHAPES_DEFAULT_BYTES);
	stmt_texts_init(&w->texts, TEXTS_UNUSED_BYTES_MAX, shape_unref);
	params_table_init(&w->params);
	LIST_INIT(&w->pool_list);
	LIST_INIT(&w->cancels);
	TAILQ_INIT(&w->clients);
	dormant_set_init(&w->dormant);
	TAILQ_INIT(&w->fresh_wait);
	TAILQ_INIT(&w->role_wait);
	segment_scratch_init(&w->scan);
	w->scratch = (uint8_t *)mem_alloc(WORKER_SCRATCH_HEAD + WORKER_SCRATCH_BYTES) + WORKER_SCRATCH_HEAD;
	w->rng = ((uint64_t)getpid() << 32) ^ index ^ loop_now_us(w->loop);
	loop_timer_init(&w->tick, w->loop, on_tick);
	loop_timer_init(&w->fresh_timer, w->loop, consistency_on_timer);
	loop_timer_start_periodic(&w->tick, TICK_US);
	w->listener.loop = w->loop;
	w->listener.on_change = on_cluster_change;
	w->listener.arg = w;
	cluster_listener_add(&w->listener);
}

/* What is not looked up in the configuration on the path of a query. */
static void apply_globals(const struct config *cfg)
{
	atomic_store(&frame_length_limit, (uint32_t)cfg->max_packet_size_bytes);
}

bool workers_start(struct runtime *runtime, unsigned n)
{
	apply_globals(runtime->config);
	workers = mem_zalloc(n * sizeof *workers);
	n_workers = n;
	for (unsigned i = 0; i < n; i++)
		worker_init(&workers[i], i, runtime);
	for (unsigned i = 0; i < n; i++) {
		if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
			return false;
	}
	return true;
}

struct stop_msg {
	struct loop_msg msg;
	struct worker *w;
};

static void on_stop(struct loop *loop, struct loop_msg *msg)
{
	struct stop_msg *m = CONTAINER_OF(msg, struct stop_msg, msg);
	struct worker *w = m->w;
	struct client *c;
	struct pgerr err;
	mem_free(m);
	pgerr_set_fatal(&err, SQLSTATE_ADMIN_SHUTDOWN, "terminating connection due to administrator command");
	dormant_wake_all(w);
	while ((c = TAILQ_FIRST(&w->clients)))
		client_close(c, &err, "shutting down");
	pools_free(w);
	loop_stop(loop);
}

static void worker_free(struct worker *w)
{
	cluster_listener_remove(&w->listener);
	loop_timer_stop(&w->tick);
	loop_timer_stop(&w->fresh_timer);
	cancels_free(w);
	listens_rooms_free(w);
	loop_free(w->loop);
	dormant_set_deinit(&w->dormant);
	dbusers_free(w);
	measures_free(w);
	shapes_free(w->shapes); /* holds texts (simple.h), and these hold shapes that live on */
	stmt_texts_deinit(&w->texts);
	params_table_deinit(&w->params);
	mem_free(w->scratch - WORKER_SCRATCH_HEAD);
	buf_deinit(&w->out);
	buf_deinit(&w->reply);
	while (w->free_blocks) {
		struct buf b;
		(void)!worker_block_get(w, &b);
		buf_deinit(&b);
	}
	segment_waiting_free_all(w);
	runtime_unref(w->runtime);
}

void workers_stop(void)
{
	atomic_store(&stopping, true);
	for (unsigned i = 0; i < n_workers; i++) {
		struct stop_msg *m = mem_zalloc(sizeof *m);
		*m = (struct stop_msg){ .msg.fn = on_stop, .w = &workers[i] };
		loop_post(workers[i].loop, &m->msg);
	}
	for (unsigned i = 0; i < n_workers; i++)
		pthread_join(workers[i].thread, NULL);
	for (unsigned i = 0; i < n_workers; i++)
		worker_free(&workers[i]);
	mem_free(workers);
	workers = NULL;
	n_workers = 0;
	limits_free();
}

static _Atomic bool console_only;
void workers_serve_console_only(void) { atomic_store(&console_only, true); }
bool workers_are_console_only(void) { return atomic_load_explicit(&console_only, memory_order_relaxed); }

unsigned workers_count(void) { return n_workers; }
struct worker *workers_get(unsigned index) { return &workers[index]; }

int workers_clients(void)
{
	int n = 0;
	for (unsigned i = 0; i < n_workers; i++)
		n += atomic_load_explicit(&workers[i].n_clients, memory_order_relaxed);
	return n;
}

/* --- new clients --- */

struct accept_msg {
	struct loop_msg msg;
	struct worker *w;
	struct net_addr peer;
	int fd;
	bool is_unix;
};

static void on_accept(struct loop *loop, struct loop_msg *msg)
{
	struct accept_msg *m = CONTAINER_OF(msg, struct accept_msg, msg);
	(void)loop;
	if (atomic_load(&stopping))
		close(m->fd);
	else
		client_accept(m->w, m->fd, &m->peer, m->is_unix);
	mem_free(m);
}

void workers_accept(int fd, const struct net_addr *peer, bool is_unix)
{
	struct worker *least = &workers[0];
	for (unsigned i = 1; i < n_workers; i++) {
		if (atomic_load(&workers[i].n_clients) < atomic_load(&least->n_clients))
			least = &workers[i];
	}
	struct accept_msg *m = mem_zalloc(sizeof *m);
	*m = (struct accept_msg){ .msg.fn = on_accept, .w = least, .peer = *peer, .fd = fd, .is_unix = is_unix };
	atomic_fetch_add(&least->n_clients, 1);
	loop_post(least->loop, &m->msg);
}

/* --- reload --- */

struct reload_msg {
	struct loop_msg msg;
	struct worker *w;
	struct runtime *runtime;
};

static void on_reload(struct loop *loop, struct loop_msg *msg)
{
	struct reload_msg *m = CONTAINER_OF(msg, struct reload_msg, msg);
	struct runtime *old = m->w->runtime;
	(void)loop;
	m->w->runtime = m->runtime;
	dbusers_reconfigure(m->w);
	struct client *c;
	dormant_wake_all(m->w);
	TAILQ_FOREACH(c, &m->w->clients, link)
	{
		if (c->du)
			settings_follow_config(c);
	}
	runtime_unref(old);
	mem_free(m);
}

void workers_reconfigure(struct runtime *runtime)
{
	apply_globals(runtime->config);
	for (unsigned i = 0; i < n_workers; i++) {
		struct reload_msg *m = mem_zalloc(sizeof *m);
		*m = (struct reload_msg){ .msg.fn = on_reload, .w = &workers[i], .runtime = runtime_ref(runtime) };
		loop_post(workers[i].loop, &m->msg);
	}
}

/* --- asking all workers --- */

struct collect {
	struct loop_msg msg;
	struct loop *caller;
	unsigned at;
	void (*fn)(struct worker *w, void *arg);
	void (*done)(void *arg);
	void *arg;
};

static void on_collect(struct loop *loop, struct loop_msg *msg);

static void collect_next(struct collect *k)
{
	if (atomic_load(&stopping)) {
		mem_free(k);
		return;
	}
	k->msg.fn = on_collect;
	loop_post(k->at < n_workers ? workers[k->at].loop : k->caller, &k->msg);
}

static void on_collect(struct loop *loop, struct loop_msg *msg)
{
	struct collect *k = CONTAINER_OF(msg, struct collect, msg);
	(void)loop;
	if (k->at < n_workers) {
		k->fn(&workers[k->at++], k->arg);
		collect_next(k);
		return;
	}
	k->done(k->arg);
	mem_free(k);
}

void workers_collect(struct loop *caller, void (*fn)(struct worker *w, void *arg), void (*done)(void *arg), void *arg)
{
	struct collect *k = mem_zalloc(sizeof *k);
	*k = (struct collect){ .caller = caller, .fn = fn, .done = done, .arg = arg };
	collect_next(k);
}
