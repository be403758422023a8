/* wire/codec.c - see wire/codec.h.
 *
 * The writer keeps offsets from the buffer's head and no pointers: the buffer may move or compact itself whenever it
 * grows, but what is readable stays in order, and nobody consumes while a message is being written. */
#include "wire/codec.h"

#include <string.h>

const uint8_t *wr_bytes(struct wire_reader *r, size_t n)
{
	if (r->failed || n > wr_left(r)) {
		r->failed = true;
		return NULL;
	}
	const uint8_t *p = r->pos;
	r->pos += n;
	return p;
}

uint8_t wr_u8(struct wire_reader *r)
{
	const uint8_t *p = wr_bytes(r, 1);
	return p ? *p : 0;
}

uint16_t wr_u16(struct wire_reader *r)
{
	const uint8_t *p = wr_bytes(r, 2);
	uint16_t v = 0;
	if (p)
		memcpy(&v, p, sizeof v);
	return be16toh(v);
}

uint32_t wr_u32(struct wire_reader *r)
{
	const uint8_t *p = wr_bytes(r, 4);
	return p ? frame_load_u32(p) : 0;
}

int16_t wr_i16(struct wire_reader *r) { return (int16_t)wr_u16(r); }
int32_t wr_i32(struct wire_reader *r) { return (int32_t)wr_u32(r); }

struct str wr_cstr(struct wire_reader *r)
{
	const uint8_t *nul = r->failed || r->pos == r->end ? NULL : memchr(r->pos, 0, wr_left(r));
	if (!nul) {
		r->failed = true;
		return STR("");
	}
	struct str s = { (const char *)r->pos, (size_t)(nul - r->pos) };
	r->pos = nul + 1;
	return s;
}

struct str wr_rest(struct wire_reader *r)
{
	if (r->failed)
		return STR("");
	struct str s = { (const char *)r->pos, wr_left(r) };
	r->pos = r->end;
	return s;
}

void ww_init(struct wire_writer *w, struct buf *out) { *w = (struct wire_writer){ .out = out, .undo = buf_len(out) }; }

bool ww_finish(struct wire_writer *w)
{
	DCHECK(!w->open);
	if (w->failed)
		w->out->tail = w->out->head + w->undo;
	return !w->failed;
}

void ww_bytes(struct wire_writer *w, const void *p, size_t n)
{
	if (!w->failed && !buf_put(w->out, p, n))
		w->failed = true;
}

void ww_u8(struct wire_writer *w, uint8_t v) { ww_bytes(w, &v, sizeof(v)); }

void ww_u16(struct wire_writer *w, uint16_t v)
{
	v = htobe16(v);
	ww_bytes(w, &v, sizeof(v));
}

void ww_u32(struct wire_writer *w, uint32_t v)
{
	v = htobe32(v);
	ww_bytes(w, &v, sizeof(v));
}

void ww_i32(struct wire_writer *w, int32_t v) { ww_u32(w, (uint32_t)v); }

void ww_begin(struct wire_writer *w, uint8_t type)
{
	DCHECK(!w->open);
	if (type)
		ww_u8(w, type);
	w->mark = buf_len(w->out);
	w->open = true;
	ww_u32(w, 0);
}

void ww_end(struct wire_writer *w)
{
	DCHECK(w->open);
	w->open = false;
	if (w->failed)
		return;
	size_t length = buf_len(w->out) - w->mark;
	if (length > FRAME_LENGTH_MAX) {
		w->failed = true;
		return;
	}
	uint32_t word = htobe32((uint32_t)length);
	memcpy(buf_head(w->out) + w->mark, &word, sizeof(word));
}

void ww_str(struct wire_writer *w, struct str s)
{
	if (s.n && memchr(s.p, 0, s.n))
		w->failed = true;
	ww_bytes(w, s.p, s.n);
	ww_u8(w, 0);
}

void ww_cstr(struct wire_writer *w, const char *z) { ww_str(w, str_of(z)); }

void ww_value(struct wire_writer *w, struct str s)
{
	if (!s.p) {
		ww_i32(w, -1);
		return;
	}
	if (s.n > FRAME_LENGTH_MAX)
		w->failed = true;
	ww_u32(w, (uint32_t)s.n);
	ww_bytes(w, s.p, s.n);
}
