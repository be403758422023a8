/* proxy/notifiers.c - see proxy/notifiers.h. */
#include "proxy/notifiers.h"

#include <pthread.h>
#include <string.h>
#include <xxhash.h>
#include "base/mem.h"
#include "cluster/listening.h"
#include "cluster/topology.h"
#include "proxy/segment.h"
#include "sql/facts.h"
#include "sql/shapes.h"

static struct {
	pthread_mutex_t mutex;   /* guards by_key */
	struct notifier *by_key; /* borrowed: the servers own them */
} self = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static struct notifier_key key_of(const struct host *host, uint32_t backend_pid)
{
	uint64_t where = XXH3_64bits_withSeed(host->name, strlen(host->name), (uint64_t)host->port);
	return (struct notifier_key){ .backend_pid = backend_pid, .where = (uint32_t)where };
}

struct notifier *notifier_add(const struct host *host, uint32_t backend_pid)
{
	struct notifier *n = mem_zalloc(sizeof *n), *old;
	n->key = key_of(host, backend_pid);
	pthread_mutex_lock(&self.mutex);
	/* A backend that has ended, and whose end is not known here yet. */
	HASH_FIND(hh, self.by_key, &n->key, sizeof n->key, old);
	if (old) {
		HASH_DEL(self.by_key, old);
		old->key.backend_pid = 0;
	}
	HASH_ADD(hh, self.by_key, key, sizeof n->key, n);
	pthread_mutex_unlock(&self.mutex);
	return n;
}

void notifier_remove(struct notifier *n)
{
	if (!n)
		return;
	pthread_mutex_lock(&self.mutex);
	if (n->key.backend_pid)
		HASH_DEL(self.by_key, n);
	pthread_mutex_unlock(&self.mutex);
	mem_free(n);
}

bool notifier_may_notify(const struct segment *seg)
{
	const struct sql_facts *f = seg->shape ? shape_facts(seg->shape) : NULL;
	return !f || seg->n_executed != 1 || f->functions.n || sql_facts_verb(f) != SQL_SELECT;
}

static void set(struct notifier *n, uint32_t client_pid)
{
	/* Who finds the new pid with the old number takes it for certain: so the number is stored first. */
	atomic_store(&n->since, listening_number());
	atomic_store(&n->client_pid, client_pid);
}

void notifier_note(struct notifier *n, uint32_t client_pid, const struct segment *seg)
{
	if (n && atomic_load_explicit(&n->client_pid, memory_order_relaxed) != client_pid && notifier_may_notify(seg))
		set(n, client_pid);
}

bool notifier_claim(struct notifier *n, uint32_t client_pid, uint64_t settled)
{
	if (atomic_load_explicit(&n->client_pid, memory_order_relaxed) != client_pid)
		set(n, client_pid);
	return settled > atomic_load_explicit(&n->since, memory_order_relaxed);
}

uint32_t notifier_find_sure(const struct host *host, uint32_t backend_pid, uint64_t settled)
{
	struct notifier_key key = key_of(host, backend_pid);
	struct notifier *n;
	uint32_t pid = 0;
	pthread_mutex_lock(&self.mutex);
	HASH_FIND(hh, self.by_key, &key, sizeof key, n);
	if (n) {
		pid = atomic_load(&n->client_pid);
		/* Read behind the pid: of two that are stored meanwhile the newer number counts. */
		if (settled <= atomic_load(&n->since))
			pid = 0;
	}
	pthread_mutex_unlock(&self.mutex);
	return pid ? pid : backend_pid;
}

uint32_t notifier_find(const struct host *host, uint32_t backend_pid)
{
	return notifier_find_sure(host, backend_pid, UINT64_MAX);
}
