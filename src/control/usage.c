/* control/usage.c - see control/usage.h. */
#include "control/usage.h"

#include <string.h>
#include "base/mem.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/pool.h"
#include "proxy/worker.h"
#include "sql/shapes.h"

void stats_block_add(struct stats_block *to, const struct stats_block *from)
{
#define STATS_ADD(name, help) to->name += from->name;
	STATS_COUNTERS(STATS_ADD)
#undef STATS_ADD
}

struct stats_block stats_block_since(const struct stats_block *to, const struct stats_block *from)
{
	struct stats_block d;
#define STATS_SUBTRACT(name, help) d.name = to->name - from->name;
	STATS_COUNTERS(STATS_SUBTRACT)
#undef STATS_SUBTRACT
	return d;
}

struct usage_table *usage_new(void) { return mem_zalloc(sizeof(struct usage_table)); }

void usage_free(struct usage_table *t)
{
	struct usage *u, *next;
	if (!t)
		return;
	HASH_ITER(hh, t->entries, u, next)
	{
		HASH_DEL(t->entries, u);
		mem_free(u);
	}
	struct usage_user *v, *next_user;
	HASH_ITER(hh, t->users, v, next_user)
	{
		HASH_DEL(t->users, v);
		mem_free(v);
	}
	mem_free(t);
}

static int compare(const struct usage *a, const struct usage *b)
{
	int by_database = strcmp(a->database, b->database);
	return by_database ? by_database : strcmp(a->user, b->user);
}

static int compare_users(const struct usage_user *a, const struct usage_user *b) { return strcmp(a->name, b->name); }

void usage_sort(struct usage_table *t)
{
	HASH_SORT(t->entries, compare);
	HASH_SORT(t->users, compare_users);
}

static void usage_sum(struct usage *to, const struct usage *from)
{
	to->clients += from->clients;
	to->waiting += from->waiting;
	for (int i = 0; i < SERVER_STATE_COUNT; i++)
		to->servers[i] += from->servers[i];
	to->n_servers += from->n_servers;
	to->pinned += from->pinned;
	if (from->max_wait_us > to->max_wait_us)
		to->max_wait_us = from->max_wait_us;
	stats_block_add(&to->stats, &from->stats);
	measures_sum(&to->measures, &from->measures);
}

void usage_bound(struct usage_table *t, unsigned max)
{
	static const char name[] = "(other)";
	struct usage *u, *next, *rest;
	unsigned n = 0;
	if (HASH_COUNT(t->entries) <= max)
		return;
	rest = mem_zalloc(sizeof *rest + 2 * sizeof name);
	memcpy(rest->key, name, sizeof name);
	memcpy(rest->key + sizeof name, name, sizeof name);
	rest->key_len = 2 * sizeof name;
	rest->database = rest->key;
	rest->user = rest->key + sizeof name;
	HASH_ITER(hh, t->entries, u, next)
	{
		if (n++ < max)
			continue;
		usage_sum(rest, u);
		HASH_DEL(t->entries, u);
		mem_free(u);
	}
	t->last_of = t->last = NULL;
	HASH_ADD(hh, t->entries, key, rest->key_len, rest);
}

/* dbusers of different workers with the same names meet in one entry. */
static struct usage *entry_of(struct usage_table *t, const struct dbuser *guest)
{
	const struct dbuser *du = guest->owner;
	struct usage *u;
	if (t->last_of == du)
		return t->last;
	HASH_FIND(hh, t->entries, du->key, du->key_len, u);
	t->last_of = du;
	t->last = u;
	if (u)
		return u;
	u = t->last = mem_zalloc(sizeof *u + du->key_len);
	memcpy(u->key, du->key, du->key_len);
	u->key_len = du->key_len;
	u->database = u->key;
	u->user = u->key + strlen(u->key) + 1;
	u->pool_mode = du->pool_mode;
	u->pool_size = config_pool_size(du->config, du->conf, du->pool_user);
	u->on_databases_account = du->conf->user != NULL;
	HASH_ADD(hh, t->entries, key, u->key_len, u);
	return u;
}

static void add_user(struct usage_table *t, const struct dbuser *du)
{
	struct usage_user *v;
	HASH_FIND_STR(t->users, du->user, v);
	if (!v) {
		size_t n = strlen(du->user) + 1;
		v = mem_zalloc(sizeof *v + n);
		memcpy(v->name, du->user, n);
		HASH_ADD_STR(t->users, name, v);
	}
	v->clients += du->n_clients;
}

static void add_dbuser(struct usage_table *t, const struct dbuser *du)
{
	add_user(t, du);
	struct usage *u = entry_of(t, du);
	u->paused |= du->paused;
	stats_block_add(&u->stats, &du->stats);
	measures_sum(&u->measures, &du->measures);
}

/* Times may be a turn old, so that a wait could seem to lie in the future. */
static void note_wait(struct usage *u, const struct client *c, uint64_t now_us)
{
	uint64_t waited = now_us - c->wait_since_us;
	u->waiting++;
	if (c->wait_since_us && c->wait_since_us < now_us && waited > u->max_wait_us)
		u->max_wait_us = waited;
}

static void note_pins(struct usage_table *t, const struct client *c, uint64_t now_us)
{
	uint64_t us = c->pinned_us < now_us ? now_us - c->pinned_us : 0;
	for (unsigned i = 0; i < SQL_PIN_COUNT; i++) {
		if (!(c->pins >> i & 1u))
			continue;
		t->pinned[i]++;
		if (us > t->pinned_for_us[i])
			t->pinned_for_us[i] = us;
	}
}

static void add_client(struct usage_table *t, const struct client *c, uint64_t now_us)
{
	t->clients++;
	if (c->state == CLIENT_LOCAL) {
		t->console_clients++;
		return;
	}
	if (!c->du) {
		t->login_clients++;
		return;
	}
	struct usage *u = entry_of(t, c->du);
	u->clients++;
	if (c->pins)
		note_pins(t, c, now_us);
	switch (c->state) {
	case CLIENT_WELCOME:
	case CLIENT_WAIT_FRESH:
	case CLIENT_WAIT_PRIMARY:
	case CLIENT_WAIT_QUIET:
	case CLIENT_WAIT_SERVER:
	case CLIENT_WAIT_OUTCOME:
	case CLIENT_WAIT_LISTEN:
		note_wait(u, c, now_us);
		break;
	case CLIENT_STARTUP:
	case CLIENT_TLS:
	case CLIENT_AUTH:
	case CLIENT_IDLE:
	case CLIENT_ACTIVE:
	case CLIENT_LOCAL:
	case CLIENT_RAW:
	case CLIENT_CANCEL:
	case CLIENT_CLOSING:
	case CLIENT_STATE_COUNT:
		break;
	}
}

/* Asleep is: logged in, idle, not pinned. */
static void add_dormant(const struct dbuser *du, void *arg)
{
	struct usage_table *t = arg;
	t->clients++;
	entry_of(t, du)->clients++;
}

static void add_server(struct usage_table *t, struct usage *u, const struct server *s)
{
	u->servers[s->state]++;
	u->n_servers++;
	u->pinned += s->pinned;
	t->servers++;
	t->idle_servers += s->state == SERVER_IDLE;
}

static void add_pool(struct usage_table *t, const struct pool *p)
{
	struct usage *u = entry_of(t, p->du);
	const struct server *s;
	t->server_pools++;
	TAILQ_FOREACH(s, &p->idle, link)
	add_server(t, u, s);
	TAILQ_FOREACH(s, &p->others, link)
	add_server(t, u, s);
}

/* Costs some tens of nanoseconds per client; no formatting happens here. */
void usage_add_worker(struct usage_table *t, struct worker *w)
{
	uint64_t now = loop_now_us(w->loop);
	struct shapes_stats shapes = shapes_stats(w->shapes);
	const struct client *c;
	const struct pool *p;
	for (struct dbuser *du = w->dbusers; du; du = du->hh.next)
		add_dbuser(t, du);
	TAILQ_FOREACH(c, &w->clients, link)
	add_client(t, c, now);
	dormant_count(w, add_dormant, t);
	t->dormant_clients += w->dormant.n;
	t->dormant_bytes += w->dormant.bytes;
	LIST_FOREACH(p, &w->pool_list, all)
	add_pool(t, p);
	stats_block_add(&t->total, &w->stats.total);
	t->cancels += w->stats.cancels;
	t->shape_hits += shapes.hits;
	t->shape_misses += shapes.misses;
	t->shape_evictions += shapes.evicted;
	t->shapes += shapes.count;
	t->shape_bytes += shapes.bytes;
}
