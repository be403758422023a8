/* base/buf.h - a growable byte queue: bytes enter at the tail and leave at the head.
 *
 *   data        head            tail            cap
 *    |  consumed  |   readable    |   free space  |
 *
 * Invariant: head <= tail <= cap.  Owner: whoever embeds it.  All growth is by mem_try_*: a false return means that
 * the connection it belongs to must be closed, nothing else. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/check.h"

struct buf {
	uint8_t *data; /* owned; NULL while cap is 0 */
	size_t head, tail, cap;
};

static inline size_t buf_len(const struct buf *b) { return b->tail - b->head; }
static inline size_t buf_room(const struct buf *b) { return b->cap - b->tail; }
static inline uint8_t *buf_head(const struct buf *b) { return b->data + b->head; }
static inline uint8_t *buf_tail(const struct buf *b) { return b->data + b->tail; }

void buf_deinit(struct buf *b); /* frees the memory; b is empty and usable again */
static inline void buf_clear(struct buf *b) { b->head = b->tail = 0; }
bool buf_reserve(struct buf *b, size_t more) MUSTCHECK; /* room for `more` bytes behind the tail; may move bytes */
bool buf_put(struct buf *b, const void *p, size_t n) MUSTCHECK;
void buf_consume(struct buf *b, size_t n);

#endif
