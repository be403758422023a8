/* base/buf.c - see base/buf.h.  Growth doubles, so n appended bytes are copied O(n) times in all. */
#include "base/buf.h"

#include <string.h>
#include "base/mem.h"

enum { BUF_MIN = 256 };

void buf_deinit(struct buf *b)
{
	mem_free(b->data);
	*b = (struct buf){ 0 };
}

static void compact(struct buf *b)
{
	if (b->head == 0)
		return;
	memmove(b->data, b->data + b->head, b->tail - b->head);
	b->tail -= b->head;
	b->head = 0;
}

bool buf_reserve(struct buf *b, size_t more)
{
	if (buf_room(b) >= more)
		return true;
	if (b->data)
		compact(b);
	if (buf_room(b) >= more)
		return true;
	size_t need, cap = b->cap ? b->cap : BUF_MIN;
	if (__builtin_add_overflow(b->tail, more, &need) || need > SIZE_MAX / 2)
		return false;
	while (cap < need)
		cap *= 2;
	uint8_t *p = mem_try_realloc(b->data, cap);
	if (!p)
		return false;
	b->data = p;
	b->cap = cap;
	return true;
}

bool buf_put(struct buf *b, const void *p, size_t n)
{
	if (n == 0)
		return true;
	if (!buf_reserve(b, n))
		return false;
	memcpy(b->data + b->tail, p, n);
	b->tail += n;
	return true;
}

void buf_consume(struct buf *b, size_t n)
{
	CHECK(n <= buf_len(b));
	b->head += n;
	if (b->head == b->tail)
		buf_clear(b);
}
