/* proxy/limits.c - see proxy/limits.h. */
#include "proxy/limits.h"

#include <pthread.h>
#include <string.h>
#include "base/mem.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct limit *limits; /* owned; lock: mutex */

struct limit *limit_get(enum limit_kind kind, const void *name, size_t name_len)
{
	size_t key_len = name_len + 1;
	struct limit *l, *fresh = mem_zalloc(sizeof *fresh + key_len);
	fresh->key_len = key_len;
	fresh->key[0] = (char)kind;
	memcpy(fresh->key + 1, name, name_len);
	pthread_mutex_lock(&mutex);
	HASH_FIND(hh, limits, fresh->key, key_len, l);
	if (!l) {
		l = fresh;
		fresh = NULL;
		HASH_ADD(hh, limits, key, key_len, l);
	}
	l->refs++;
	pthread_mutex_unlock(&mutex);
	mem_free(fresh);
	return l;
}

struct limit *limit_ref(struct limit *l)
{
	pthread_mutex_lock(&mutex);
	l->refs++;
	pthread_mutex_unlock(&mutex);
	return l;
}

void limit_unref(struct limit *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&mutex);
	bool last = --l->refs == 0;
	if (last)
		HASH_DEL(limits, l);
	pthread_mutex_unlock(&mutex);
	if (last)
		mem_free(l);
}

size_t limits_count(void)
{
	pthread_mutex_lock(&mutex);
	size_t n = HASH_COUNT(limits);
	pthread_mutex_unlock(&mutex);
	return n;
}

void limits_free(void)
{
	struct limit *l, *next;
	HASH_ITER(hh, limits, l, next)
	{
		HASH_DEL(limits, l);
		mem_free(l);
	}
}
