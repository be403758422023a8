/* base/slab.c - see base/slab.h.  A chunk is aligned to its size, so that an object's address tells its chunk. */
#include "base/slab.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "base/mem.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SEPARATE = 1 };
#else
enum { SEPARATE = 0 };
#endif

enum { HEAD_BYTES = 64, ALIGNMENT = 16 };

struct slab_chunk {
	LIST_ENTRY(slab_chunk) link; /* slab.with_room, while it has some */
	void *free;                  /* stack of objects that came back */
	uint32_t used, fresh;        /* objects out; first one that was never out */
};

static size_t per_chunk(const struct slab *s) { return (SLAB_CHUNK - HEAD_BYTES) / s->size; }

void slab_init(struct slab *s, size_t size)
{
	_Static_assert(sizeof(struct slab_chunk) <= HEAD_BYTES, "the head of a chunk does not fit");
	*s = (struct slab){ .size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, .separate = SEPARATE };
	CHECK(s->size > 0 && s->size <= SLAB_CHUNK / 8);
	LIST_INIT(&s->with_room);
}

static void unmap(void *p, size_t n) { CHECK(n == 0 || munmap(p, n) == 0); }

/* Twice as much is mapped, and what lies before and behind the aligned part given back. */
static struct slab_chunk *map_chunk(void)
{
	uint8_t *p = mmap(NULL, 2 * SLAB_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		fprintf(stderr, "FATAL: out of memory (%d bytes)\n", SLAB_CHUNK);
		abort();
	}
	size_t before = (SLAB_CHUNK - (uintptr_t)p % SLAB_CHUNK) % SLAB_CHUNK;
	unmap(p, before);
	unmap(p + before + SLAB_CHUNK, SLAB_CHUNK - before);
	return (struct slab_chunk *)(void *)(p + before);
}

static struct slab_chunk *chunk_with_room(struct slab *s)
{
	struct slab_chunk *k = LIST_FIRST(&s->with_room);
	if (k)
		return k;
	k = s->spare ? s->spare : map_chunk();
	s->spare = NULL;
	LIST_INSERT_HEAD(&s->with_room, k, link);
	return k;
}

static void *take(struct slab *s, struct slab_chunk *k)
{
	void *object = k->free;
	if (object) {
		memcpy(&k->free, object, sizeof k->free);
		memset(object, 0, s->size);
	} else {
		object = (uint8_t *)k + HEAD_BYTES + k->fresh++ * s->size; /* zeroed by the system */
	}
	if (++k->used == per_chunk(s))
		LIST_REMOVE(k, link);
	return object;
}

void *slab_get(struct slab *s)
{
	s->used++;
	return s->separate ? mem_zalloc(s->size) : take(s, chunk_with_room(s));
}

/* The spare one keeps its pages: with few objects, each that comes and goes may be the only one. */
static void retire(struct slab *s, struct slab_chunk *k)
{
	LIST_REMOVE(k, link);
	if (s->spare)
		unmap(k, SLAB_CHUNK);
	else
		s->spare = k;
}

void slab_put(struct slab *s, void *object)
{
	CHECK(s->used > 0);
	s->used--;
	if (s->separate) {
		mem_free(object);
		return;
	}
	uint8_t *p = object;
	struct slab_chunk *k = (struct slab_chunk *)(void *)(p - (uintptr_t)p % SLAB_CHUNK);
	if (k->used-- == per_chunk(s))
		LIST_INSERT_HEAD(&s->with_room, k, link);
	memcpy(object, &k->free, sizeof k->free);
	k->free = object;
	if (k->used == 0)
		retire(s, k);
}

void slab_deinit(struct slab *s)
{
	CHECK(s->used == 0 && LIST_EMPTY(&s->with_room));
	if (s->spare)
		unmap(s->spare, SLAB_CHUNK);
	s->spare = NULL;
}
