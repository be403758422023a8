/* proxy/orders.c - see proxy/orders.h. */
#include "proxy/orders.h"

#include <pthread.h>
#include <string.h>
#include <sys/queue.h>
#include "base/mem.h"

struct order {
	LIST_ENTRY(order) link;
	uint32_t flags;
	char database[];
};

static struct {
	pthread_mutex_t mutex; /* guards all of this */
	uint32_t for_all;
	LIST_HEAD(, order) list; /* only databases that have an order of their own */
} self = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static struct order *find(const char *database)
{
	struct order *o;
	LIST_FOREACH(o, &self.list, link)
	{
		if (strcmp(o->database, database) == 0)
			return o;
	}
	return NULL;
}

uint32_t orders_of(const char *database)
{
	pthread_mutex_lock(&self.mutex);
	const struct order *o = database ? find(database) : NULL;
	uint32_t flags = self.for_all | (o ? o->flags : 0);
	pthread_mutex_unlock(&self.mutex);
	return flags;
}

static void change(struct order *o, uint32_t set, uint32_t clear)
{
	o->flags = (o->flags & ~clear) | set;
	if (o->flags)
		return;
	LIST_REMOVE(o, link);
	mem_free(o);
}

static void change_all(uint32_t set, uint32_t clear)
{
	struct order *o, *next;
	self.for_all = (self.for_all & ~clear) | set;
	for (o = LIST_FIRST(&self.list); o; o = next) {
		next = LIST_NEXT(o, link);
		change(o, 0, clear);
	}
}

void orders_change(const char *database, uint32_t set, uint32_t clear)
{
	pthread_mutex_lock(&self.mutex);
	struct order *o = database ? find(database) : NULL;
	if (!database)
		change_all(set, clear);
	if (database && !o && set) {
		size_t n = strlen(database) + 1;
		o = mem_zalloc(sizeof *o + n);
		memcpy(o->database, database, n);
		LIST_INSERT_HEAD(&self.list, o, link);
	}
	if (o)
		change(o, set, clear);
	pthread_mutex_unlock(&self.mutex);
}
