/* cluster/topology.c - see cluster/topology.h.
 *
 * Lock order: registry_mutex and listeners_mutex and address_mutex are leaves; none is held while another is taken or
 * a callback of another layer runs (cluster_each() excepted, which says so). */
#include "cluster/topology.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, cluster) registry = LIST_HEAD_INITIALIZER(registry);

static pthread_mutex_t listeners_mutex = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, cluster_listener) listeners = LIST_HEAD_INITIALIZER(listeners);

/* One for all hosts: it is taken when a data connection is made, and by the monitor when it has made one. */
static pthread_mutex_t address_mutex = PTHREAD_MUTEX_INITIALIZER;

/* Where cluster_wake_monitor() posts to; the function is set before the loop is published. */
static _Atomic(struct loop *) monitor_loop;
static void (*monitor_fn)(struct loop *loop, struct loop_msg *msg);

const char *host_role_name(enum host_role role)
{
	static const char *const names[] = {
#define HOST_ROLE_NAME(id, name, doc) [HOST_##id] = (name),
		HOST_ROLES(HOST_ROLE_NAME)
#undef HOST_ROLE_NAME
	};
	return names[role];
}

/* --- registry --- */

static int compare_specs(const void *a, const void *b)
{
	const struct host_spec *x = a, *y = b;
	int order = strcmp(x->name, y->name);
	return order ? order : (x->port > y->port) - (x->port < y->port);
}

/* Sorts the specs and drops duplicates; 0 when there are too many. */
static unsigned sort_specs(const struct host_spec *specs, unsigned n, struct host_spec *out)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < n; i++) {
		bool seen = false;
		for (unsigned k = 0; k < kept && !seen; k++)
			seen = compare_specs(&out[k], &specs[i]) == 0;
		if (seen)
			continue;
		if (kept == CLUSTER_MAX_HOSTS)
			return 0;
		out[kept++] = specs[i];
	}
	qsort(out, kept, sizeof *out, compare_specs);
	return kept;
}

static bool has_hosts(const struct cluster *c, const struct host_spec *specs, unsigned n)
{
	if (c->n_hosts != n)
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (c->hosts[i].port != specs[i].port || strcmp(c->hosts[i].name, specs[i].name) != 0)
			return false;
	}
	return true;
}

static char *make_label(const struct cluster *c)
{
	char *label = mem_strdup("");
	for (unsigned i = 0; i < c->n_hosts; i++) {
		char *longer = mem_printf("%s%s%s:%d", label, i ? "," : "", c->hosts[i].name, c->hosts[i].port);
		mem_free(label);
		label = longer;
	}
	return label;
}

static struct cluster *cluster_new(const struct host_spec *specs, unsigned n)
{
	struct cluster *c = mem_zalloc(sizeof *c);
	c->n_hosts = n;
	c->hosts = mem_zalloc(n * sizeof *c->hosts);
	for (unsigned i = 0; i < n; i++) {
		struct host *h = &c->hosts[i];
		h->name = mem_strdup(specs[i].name);
		h->port = specs[i].port;
		h->index = i;
		h->cluster = c;
		atomic_init(&h->weight, 1);
		atomic_init(&h->role, HOST_UNKNOWN);
		h->address = mem_zalloc(sizeof *h->address);
	}
	/* Rounds begin at 1, so that a need of 0 ("nothing seen yet") is met by any proof and by nothing unproved. */
	atomic_init(&c->round, 0);
	c->label = make_label(c);
	return c;
}

struct cluster *cluster_find_or_add(const struct host_spec *specs, unsigned n)
{
	struct host_spec sorted[CLUSTER_MAX_HOSTS];
	struct cluster *c;
	n = sort_specs(specs, n, sorted);
	if (n == 0)
		return NULL;
	pthread_mutex_lock(&registry_mutex);
	LIST_FOREACH(c, &registry, link)
	{
		if (has_hosts(c, sorted, n))
			break;
	}
	if (!c) {
		c = cluster_new(sorted, n);
		LIST_INSERT_HEAD(&registry, c, link);
	}
	pthread_mutex_unlock(&registry_mutex);
	return c;
}

void cluster_each(void (*fn)(struct cluster *c, void *arg), void *arg)
{
	struct cluster *c;
	pthread_mutex_lock(&registry_mutex);
	LIST_FOREACH(c, &registry, link)
	fn(c, arg);
	pthread_mutex_unlock(&registry_mutex);
}

struct host *cluster_find_host(struct cluster *c, const char *name, int port)
{
	for (unsigned i = 0; i < c->n_hosts; i++) {
		if (c->hosts[i].port == port && strcmp(c->hosts[i].name, name) == 0)
			return &c->hosts[i];
	}
	return NULL;
}

void cluster_forget_all(void)
{
	pthread_mutex_lock(&registry_mutex);
	while (!LIST_EMPTY(&registry)) {
		struct cluster *c = LIST_FIRST(&registry);
		LIST_REMOVE(c, link);
		for (unsigned i = 0; i < c->n_hosts; i++) {
			mem_free(c->hosts[i].address);
			mem_free(c->hosts[i].name);
		}
		mem_free(c->hosts);
		mem_free(c->label);
		mem_free(c);
	}
	pthread_mutex_unlock(&registry_mutex);
}

/* --- roles --- */

unsigned cluster_count_role(const struct cluster *c, enum host_role role)
{
	unsigned count = 0;
	for (unsigned i = 0; i < c->n_hosts; i++)
		count += host_role(&c->hosts[i]) == role;
	return count;
}

bool cluster_publish_roles(struct cluster *c, const enum host_role role[], struct host *primary)
{
	CHECK(!primary || (primary->cluster == c && role[primary->index] == HOST_PRIMARY));
	bool changed = cluster_primary(c) != primary;
	/* A reader may see the parts apart: losing the old primary first makes it wait rather than write there. */
	if (changed)
		atomic_store_explicit(&c->primary, NULL, memory_order_release);
	for (unsigned i = 0; i < c->n_hosts; i++)
		changed |=
		    atomic_exchange_explicit(&c->hosts[i].role, (int)role[i], memory_order_acq_rel) != (int)role[i];
	atomic_store_explicit(&c->primary, primary, memory_order_release);
	if (!changed)
		return false;
	atomic_fetch_add_explicit(&c->role_epoch, 1, memory_order_acq_rel);
	cluster_notify(NEWS_ROLES);
	return true;
}

/* --- rounds --- */

uint64_t cluster_begin_round(struct cluster *c)
{
	return atomic_fetch_add_explicit(&c->round, 1, memory_order_seq_cst) + 1;
}

/* True when it was lower. */
static bool raise_to(_Atomic uint64_t *at, uint64_t value)
{
	uint64_t old = atomic_load_explicit(at, memory_order_seq_cst);
	while (old < value) {
		if (atomic_compare_exchange_weak_explicit(at, &old, value, memory_order_seq_cst, memory_order_seq_cst))
			return true;
	}
	return false;
}

void cluster_want_round(struct cluster *c, uint64_t need_round, uint64_t until_us)
{
	raise_to(&c->want_until_us, until_us);
	bool newer = raise_to(&c->want_round, need_round);
	/* While it serves somebody the monitor looks at want_until_us by itself; a round that nobody has asked for yet
	 * is what it must be told of.  So there is one message per round, however many wait. */
	if (newer || !atomic_load_explicit(&c->serving, memory_order_seq_cst))
		cluster_wake_monitor(c);
}

void cluster_want_sample(struct cluster *c, uint64_t round, uint64_t until_us)
{
	raise_to(&c->want_sample_until_us, until_us);
	(void)raise_to(&c->want_sample_round, round);
	cluster_wake_monitor(c);
}

void cluster_publish_sample(struct cluster *c, const struct cluster_sample *sample)
{
	atomic_fetch_add_explicit(&c->sample_turn, 1, memory_order_seq_cst);
	atomic_store_explicit(&c->sample_round, sample->round, memory_order_seq_cst);
	atomic_store_explicit(&c->sample_lsn, sample->lsn, memory_order_seq_cst);
	atomic_store_explicit(&c->sample_system, sample->system_identifier, memory_order_seq_cst);
	atomic_store_explicit(&c->sample_timeline, sample->timeline, memory_order_seq_cst);
	for (unsigned i = 0; i < HISTORY_MAX; i++) {
		atomic_store_explicit(&c->past_timeline[i], sample->past[i].timeline, memory_order_seq_cst);
		atomic_store_explicit(&c->past_lsn[i], sample->past[i].lsn, memory_order_seq_cst);
	}
	atomic_fetch_add_explicit(&c->sample_turn, 1, memory_order_seq_cst);
}

struct cluster_sample cluster_last_sample(struct cluster *c)
{
	struct cluster_sample s;
	uint32_t turn;
	do {
		turn = atomic_load_explicit(&c->sample_turn, memory_order_seq_cst);
		s.round = atomic_load_explicit(&c->sample_round, memory_order_seq_cst);
		s.lsn = atomic_load_explicit(&c->sample_lsn, memory_order_seq_cst);
		s.system_identifier = atomic_load_explicit(&c->sample_system, memory_order_seq_cst);
		s.timeline = atomic_load_explicit(&c->sample_timeline, memory_order_seq_cst);
		for (unsigned i = 0; i < HISTORY_MAX; i++) {
			s.past[i].timeline = atomic_load_explicit(&c->past_timeline[i], memory_order_seq_cst);
			s.past[i].lsn = atomic_load_explicit(&c->past_lsn[i], memory_order_seq_cst);
		}
	} while (turn % 2 || turn != atomic_load_explicit(&c->sample_turn, memory_order_seq_cst));
	return s;
}

void cluster_want_shown(struct cluster *c, uint64_t round, uint64_t until_us)
{
	raise_to(&c->want_shown_until_us, until_us);
	(void)raise_to(&c->want_shown_round, round);
	cluster_wake_monitor(c);
}

void cluster_report_suspect(struct cluster *c, struct host *h)
{
	if (!atomic_exchange_explicit(&h->suspect, true, memory_order_seq_cst))
		cluster_wake_monitor(c);
}

void cluster_wake_monitor(struct cluster *c)
{
	struct loop *loop = atomic_load_explicit(&monitor_loop, memory_order_acquire);
	/* The monitor clears `woken` before it reads what is wanted, so what was stored before this is seen by it. */
	if (!loop || atomic_exchange_explicit(&c->woken, true, memory_order_seq_cst))
		return;
	c->wake.fn = monitor_fn;
	loop_post(loop, &c->wake);
}

void cluster_set_monitor(struct loop *loop, void (*fn)(struct loop *loop, struct loop_msg *msg))
{
	CHECK(!loop || fn);
	if (loop)
		monitor_fn = fn;
	atomic_store_explicit(&monitor_loop, loop, memory_order_release);
}

/* --- addresses --- */

bool host_address(const struct host *h, struct net_addr *out, uint32_t *epoch)
{
	pthread_mutex_lock(&address_mutex);
	*out = *h->address;
	*epoch = atomic_load_explicit(&h->address_epoch, memory_order_relaxed);
	pthread_mutex_unlock(&address_mutex);
	return out->len > 0;
}

void host_publish_address(struct host *h, const struct net_addr *addr)
{
	DCHECK(addr->len > 0);
	pthread_mutex_lock(&address_mutex);
	if (!net_addr_equal(h->address, addr)) {
		*h->address = *addr;
		atomic_fetch_add_explicit(&h->address_epoch, 1, memory_order_release);
	}
	pthread_mutex_unlock(&address_mutex);
}

/* --- listeners --- */

static void deliver(struct loop *loop, struct loop_msg *msg)
{
	struct cluster_listener *l = CONTAINER_OF(msg, struct cluster_listener, msg);
	(void)loop;
	/* Cleared first: news that comes while on_change() looks around is worth another message. */
	atomic_store_explicit(&l->posted, false, memory_order_seq_cst);
	l->on_change(l->arg);
}

void cluster_listener_add(struct cluster_listener *l)
{
	CHECK(l->loop && l->on_change);
	l->msg.fn = deliver;
	pthread_mutex_lock(&listeners_mutex);
	LIST_INSERT_HEAD(&listeners, l, link);
	pthread_mutex_unlock(&listeners_mutex);
}

void cluster_listener_remove(struct cluster_listener *l)
{
	pthread_mutex_lock(&listeners_mutex);
	LIST_REMOVE(l, link);
	pthread_mutex_unlock(&listeners_mutex);
}

void cluster_notify(enum cluster_news news)
{
	struct cluster_listener *l;
	pthread_mutex_lock(&listeners_mutex);
	LIST_FOREACH(l, &listeners, link)
	{
		if (news == NEWS_ROUND && !atomic_load_explicit(&l->waiting, memory_order_seq_cst))
			continue;
		if (!atomic_exchange_explicit(&l->posted, true, memory_order_seq_cst))
			loop_post(l->loop, &l->msg);
	}
	pthread_mutex_unlock(&listeners_mutex);
}
