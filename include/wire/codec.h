/* wire/codec.h - typed reading and writing of message bodies, with sticky errors.
 *
 * Reader: three words over borrowed bytes.  A short read sets `failed` and yields zero or the empty string, so that a
 * parser reads all its fields in a row and asks once, at the end.  Every comparison has the form n > end - pos, which
 * cannot overflow, however long a length from the network claims to be.
 *
 * Writer: appends whole messages to a struct buf.  After ww_init() come any number of ww_begin ... ww_end, then one
 * ww_finish(), which says whether all of it went well; if not, the buffer is as it was before ww_init(), so that half
 * a message can never be sent.  Failures are: no memory, a body above 2 GB, a string with a NUL inside (it would
 * break the message into other fields: an injection). */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/check.h"
#include "base/str.h"
#include "wire/frame.h"

struct wire_reader {
	const uint8_t *pos, *end; /* borrowed; pos <= end */
	bool failed;              /* set by the first short read, never cleared */
};

static inline void wr_init(struct wire_reader *r, const void *p, size_t n)
{
	/* NULL + 0 is undefined in C, and an empty body is legal. */
	const uint8_t *start = n ? p : (const uint8_t *)"";
	*r = (struct wire_reader){ start, start + n, false };
}
static inline size_t wr_left(const struct wire_reader *r) { return (size_t)(r->end - r->pos); }
/* Nothing went wrong and nothing is left over. */
static inline bool wr_done(const struct wire_reader *r) { return !r->failed && r->pos == r->end; }

/* The next n bytes; NULL (and failed) when there are fewer. */
const uint8_t *wr_bytes(struct wire_reader *r, size_t n);
uint8_t wr_u8(struct wire_reader *r);
uint16_t wr_u16(struct wire_reader *r);
uint32_t wr_u32(struct wire_reader *r);
int16_t wr_i16(struct wire_reader *r);
int32_t wr_i32(struct wire_reader *r);
struct str wr_cstr(struct wire_reader *r); /* up to the next NUL, which is skipped; borrowed */
struct str wr_rest(struct wire_reader *r); /* all that is left; borrowed */

struct wire_writer {
	struct buf *out; /* borrowed; nobody else may touch it between ww_init and ww_finish */
	size_t undo;     /* readable bytes at ww_init: what a failure goes back to */
	size_t mark;     /* offset from the buffer's head of the open message's length word */
	bool open;       /* set by ww_begin, cleared by ww_end */
	bool failed;     /* set by any failure, never cleared */
};

void ww_init(struct wire_writer *w, struct buf *out);
bool ww_finish(struct wire_writer *w) MUSTCHECK; /* false: nothing was added; close the connection */

void ww_begin(struct wire_writer *w, uint8_t type); /* type 0: a start-up packet, without type byte */
void ww_end(struct wire_writer *w);                 /* back-fills the length */
void ww_u8(struct wire_writer *w, uint8_t v);
void ww_u16(struct wire_writer *w, uint16_t v);
void ww_u32(struct wire_writer *w, uint32_t v);
void ww_i32(struct wire_writer *w, int32_t v);
void ww_bytes(struct wire_writer *w, const void *p, size_t n);
void ww_str(struct wire_writer *w, struct str s);   /* bytes and NUL */
void ww_cstr(struct wire_writer *w, const char *z); /* the same; NULL counts as "" */
void ww_value(struct wire_writer *w, struct str s); /* length word and bytes; s.p == NULL is SQL NULL (-1) */

#endif
