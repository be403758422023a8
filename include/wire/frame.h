/* wire/frame.h - where one message ends and the next begins.
 *
 *   regular message:   type (1) | length (4, counts itself) | body (length - 4)
 *   start-up packet:             length (4, counts itself) | code (4) | rest      (no type byte)
 *
 * Pure and without allocation: functions look at bytes that somebody else holds, and say FRAME_MORE when they need
 * more of them.  The hot path calls frame_peek() only: it forwards a body without having seen all of it.
 * The type tables are one X-macro per direction; names, phases and the MSG_* constants come from the same rows. */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include <endian.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "base/check.h"

enum frame_side { FRAME_FROM_CLIENT, FRAME_FROM_SERVER };
enum frame_result {
	FRAME_OK,
	FRAME_MORE, /* so far correct, but not all is there */
	FRAME_BAD,  /* no later byte can make it right: 08P01 and close */
};

enum {
	FRAME_HEAD_BYTES = 5,            /* type and length word */
	FRAME_LENGTH_MIN = 4,            /* the length word counts itself */
	FRAME_LENGTH_MAX = 0x7fffffff,   /* it is signed on the server's side */
	STARTUP_HEAD_BYTES = 8,          /* length word and code */
	STARTUP_BYTES_MAX = 10000 + 4,   /* MAX_STARTUP_PACKET_LENGTH of PostgreSQL, without the length word */
	FRAME_LOGIN_BYTES_MAX = 0x10000, /* for callers: longest message to accept from a peer not yet authenticated */
};

/* When a message may come.  A mask: ReadyForQuery ends the login and every query. */
enum frame_phase { FRAME_IN_LOGIN = 1, FRAME_IN_QUERY = 2, FRAME_IN_COPY = 4 };
#define FRAME_AFTER_LOGIN (FRAME_IN_QUERY | FRAME_IN_COPY)
#define FRAME_ANY_TIME    (FRAME_IN_LOGIN | FRAME_AFTER_LOGIN)

/* COPY messages are legal outside of COPY: a client learns too late that its COPY has failed, and servers drop them. */
#define FRAME_CLIENT_TYPES(X)                                                                                          \
	X(BIND, 'B', "Bind", FRAME_IN_QUERY)                                                                           \
	X(CLOSE, 'C', "Close", FRAME_IN_QUERY)                                                                         \
	X(COPY_DATA_IN, 'd', "CopyData", FRAME_AFTER_LOGIN)                                                            \
	X(COPY_DONE_IN, 'c', "CopyDone", FRAME_AFTER_LOGIN)                                                            \
	X(COPY_FAIL, 'f', "CopyFail", FRAME_AFTER_LOGIN)                                                               \
	X(DESCRIBE, 'D', "Describe", FRAME_IN_QUERY)                                                                   \
	X(EXECUTE, 'E', "Execute", FRAME_IN_QUERY)                                                                     \
	X(FLUSH, 'H', "Flush", FRAME_AFTER_LOGIN)                                                                      \
	X(FUNCTION_CALL, 'F', "FunctionCall", FRAME_IN_QUERY)                                                          \
	X(PARSE, 'P', "Parse", FRAME_IN_QUERY)                                                                         \
	X(PASSWORD, 'p', "PasswordMessage", FRAME_IN_LOGIN) /* also SASL*Response, by the Authentication* before */    \
	X(QUERY, 'Q', "Query", FRAME_IN_QUERY)                                                                         \
	X(SYNC, 'S', "Sync", FRAME_AFTER_LOGIN)                                                                        \
	X(TERMINATE, 'X', "Terminate", FRAME_AFTER_LOGIN)

#define FRAME_SERVER_TYPES(X)                                                                                          \
	X(AUTHENTICATION, 'R', "Authentication", FRAME_IN_LOGIN)                                                       \
	X(BACKEND_KEY_DATA, 'K', "BackendKeyData", FRAME_IN_LOGIN)                                                     \
	X(BIND_COMPLETE, '2', "BindComplete", FRAME_IN_QUERY)                                                          \
	X(CLOSE_COMPLETE, '3', "CloseComplete", FRAME_IN_QUERY)                                                        \
	X(COMMAND_COMPLETE, 'C', "CommandComplete", FRAME_AFTER_LOGIN)                                                 \
	X(COPY_BOTH_RESPONSE, 'W', "CopyBothResponse", FRAME_IN_QUERY)                                                 \
	X(COPY_DATA_OUT, 'd', "CopyData", FRAME_IN_COPY)                                                               \
	X(COPY_DONE_OUT, 'c', "CopyDone", FRAME_IN_COPY)                                                               \
	X(COPY_IN_RESPONSE, 'G', "CopyInResponse", FRAME_IN_QUERY)                                                     \
	X(COPY_OUT_RESPONSE, 'H', "CopyOutResponse", FRAME_IN_QUERY)                                                   \
	X(DATA_ROW, 'D', "DataRow", FRAME_IN_QUERY)                                                                    \
	X(EMPTY_QUERY_RESPONSE, 'I', "EmptyQueryResponse", FRAME_IN_QUERY)                                             \
	X(ERROR_RESPONSE, 'E', "ErrorResponse", FRAME_ANY_TIME)                                                        \
	X(FUNCTION_CALL_RESPONSE, 'V', "FunctionCallResponse", FRAME_IN_QUERY)                                         \
	X(NEGOTIATE_PROTOCOL_VERSION, 'v', "NegotiateProtocolVersion", FRAME_IN_LOGIN)                                 \
	X(NO_DATA, 'n', "NoData", FRAME_IN_QUERY)                                                                      \
	X(NOTICE_RESPONSE, 'N', "NoticeResponse", FRAME_ANY_TIME)                                                      \
	X(NOTIFICATION_RESPONSE, 'A', "NotificationResponse", FRAME_AFTER_LOGIN)                                       \
	X(PARAMETER_DESCRIPTION, 't', "ParameterDescription", FRAME_IN_QUERY)                                          \
	X(PARAMETER_STATUS, 'S', "ParameterStatus", FRAME_ANY_TIME)                                                    \
	X(PARSE_COMPLETE, '1', "ParseComplete", FRAME_IN_QUERY)                                                        \
	X(PORTAL_SUSPENDED, 's', "PortalSuspended", FRAME_IN_QUERY)                                                    \
	X(READY_FOR_QUERY, 'Z', "ReadyForQuery", FRAME_ANY_TIME)                                                       \
	X(ROW_DESCRIPTION, 'T', "RowDescription", FRAME_IN_QUERY)

#define FRAME_TYPE_ENUM(id, byte, name, phases) MSG_##id = byte,
enum frame_client_type { FRAME_CLIENT_TYPES(FRAME_TYPE_ENUM) };
enum frame_server_type { FRAME_SERVER_TYPES(FRAME_TYPE_ENUM) };
#undef FRAME_TYPE_ENUM

struct frame_head {
	uint8_t type;
	size_t len; /* of the whole message: FRAME_HEAD_BYTES + body */
};

/* A message that is wholly there. */
struct frame {
	uint8_t type;
	uint32_t body_len;
	const uint8_t *body; /* borrowed from the bytes given to frame_take() */
};

static inline uint32_t frame_load_u32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

/* max_packet_size: the longest message that is let through, its length word included; FRAME_LENGTH_MAX at first.  One
 * for the process, set by whoever loads the configuration; a reader may see the old one for a moment. */
extern _Atomic uint32_t frame_length_limit;

/* Reads a header from the n bytes at p.  The whole message is there if and only if h->len <= n. */
static inline enum frame_result frame_peek(const uint8_t *p, size_t n, struct frame_head *h)
{
	if (UNLIKELY(n < FRAME_HEAD_BYTES))
		return FRAME_MORE;
	uint32_t length = frame_load_u32(p + 1);
	if (UNLIKELY(length - FRAME_LENGTH_MIN >
	             atomic_load_explicit(&frame_length_limit, memory_order_relaxed) - FRAME_LENGTH_MIN))
		return FRAME_BAD; /* the subtraction wraps for 0 to 3, so that one comparison checks both bounds */
	h->type = p[0];
	h->len = (size_t)length + 1;
	return FRAME_OK;
}

/* FRAME_OK when a whole message stands at p; it takes FRAME_HEAD_BYTES + f->body_len bytes. */
enum frame_result frame_take(const uint8_t *p, size_t n, struct frame *f) MUSTCHECK;

/* Length of the start-up packet at p, length word included.  FRAME_BAD below 8 and above STARTUP_BYTES_MAX.  The
 * packet is all there if and only if *len <= n. */
enum frame_result startup_peek(const uint8_t *p, size_t n, size_t *len) MUSTCHECK;

/* A TLS record header where a start-up packet is due: TLS without SSLRequest, as of PostgreSQL 17.  One byte tells,
 * since a start-up packet of 0x16...... bytes would be far beyond the bound. */
static inline bool startup_is_tls_hello(const uint8_t *p, size_t n) { return n > 0 && p[0] == 0x16; }

bool frame_type_is_known(enum frame_side side, uint8_t type);
/* Is the type known, and legal in (one of) these phases? */
bool frame_type_is_allowed(enum frame_side side, uint8_t type, unsigned phases);
/* Never NULL; "unknown message" for a type that is not in the table. */
const char *frame_type_name(enum frame_side side, uint8_t type);

#endif
