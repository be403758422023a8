/* base/slab.h - objects of one size, in pages of their own that go back to the system.
 *
 * malloc() puts small things between large ones that live as short as they like, and one that stays keeps its page.
 * Here a chunk of SLAB_CHUNK bytes holds nothing but objects of this slab, and is unmapped once it holds none (but for
 * one that is kept at hand).  Under a memory checker each object is an allocation of its own, or it would see nothing.
 *
 * Owner: one thread.  Running out of memory ends the process, as in mem_alloc(). */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>
#include "base/check.h"

enum { SLAB_CHUNK = 64 * 1024 };

struct slab_chunk;
struct slab {
	size_t size;                       /* of an object; a multiple of 16 */
	LIST_HEAD(, slab_chunk) with_room; /* those from which objects were given back last come first */
	struct slab_chunk *spare;          /* owned: an empty one, or NULL */
	size_t used;                       /* objects out */
	bool separate;                     /* by mem_alloc(): under a memory checker; a test may say otherwise */
};

void slab_init(struct slab *s, size_t size); /* size: at most an eighth of a chunk */
void slab_deinit(struct slab *s);            /* all objects must have come back */
void *slab_get(struct slab *s) MUSTCHECK;    /* zeroed; never NULL */
void slab_put(struct slab *s, void *object);

#endif
