/* wire/frame.c - see wire/frame.h.  The table is indexed by side and type byte, so that a look-up is one load; it is
 * made of the same rows as the MSG_* constants, so that a type cannot have a constant and no name. */
#include "wire/frame.h"

_Atomic uint32_t frame_length_limit = FRAME_LENGTH_MAX;

struct type_row {
	const char *name; /* static text; NULL: no such message */
	uint8_t phases;
};

#define TYPE_ROW(id, byte, text, when) [byte] = { text, when },
static const struct type_row types[2][256] = {
	[FRAME_FROM_CLIENT] = { FRAME_CLIENT_TYPES(TYPE_ROW) },
	[FRAME_FROM_SERVER] = { FRAME_SERVER_TYPES(TYPE_ROW) },
};
#undef TYPE_ROW

enum frame_result frame_take(const uint8_t *p, size_t n, struct frame *f)
{
	struct frame_head h;
	enum frame_result result = frame_peek(p, n, &h);
	if (result != FRAME_OK)
		return result;
	if (h.len > n)
		return FRAME_MORE;
	*f = (struct frame){ h.type, (uint32_t)(h.len - FRAME_HEAD_BYTES), p + FRAME_HEAD_BYTES };
	return FRAME_OK;
}

enum frame_result startup_peek(const uint8_t *p, size_t n, size_t *len)
{
	if (n < sizeof(uint32_t))
		return FRAME_MORE;
	uint32_t length = frame_load_u32(p);
	if (length < STARTUP_HEAD_BYTES || length > STARTUP_BYTES_MAX)
		return FRAME_BAD;
	*len = length;
	return FRAME_OK;
}

bool frame_type_is_known(enum frame_side side, uint8_t type) { return types[side][type].name != NULL; }

bool frame_type_is_allowed(enum frame_side side, uint8_t type, unsigned phases)
{
	return (types[side][type].phases & phases) != 0;
}

const char *frame_type_name(enum frame_side side, uint8_t type)
{
	const char *name = types[side][type].name;
	return name ? name : "unknown message";
}
