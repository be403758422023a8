/* io/stream.h - one duplex connection: bytes in, bytes out, in clear or through TLS.
 *
 * Owner: embedded in a client or server object of one loop; not thread-safe; moves in memory by stream_move() only.
 * Knows nothing of PostgreSQL.  While idle it owns no buffer: the reader brings the memory (a worker's scratch buffer),
 * and only output that the socket does not take is copied.  Backpressure is the owner's: STREAM_BLOCKED means "stop
 * feeding me until on_drained", and stream_want_read(s, false) leaves the bytes in the kernel.
 *
 *   init_accepted -----------------------------> OPEN --start_tls_*--> HANDSHAKE --(on_open)--> OPEN
 *   init_connect --> CONNECTING --(on_open)--> OPEN
 *   CONNECTING, HANDSHAKE --(on_failed)--> FAILED            any --stream_close--> CLOSED
 *   (OPEN --(on_failed)--> FAILED only where epoll has no memory to watch the socket)
 *
 * Every callback comes from the event loop or from a turn hook, never from inside a function called here; in every one
 * of them the owner may close, detach or start anew the same stream.  After stream_close() none comes; the memory must
 * stay until the end of the turn (loop_bury). */
#ifndef IO_STREAM_H
#define IO_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <event2/event_struct.h>
#include "base/buf.h"
#include "base/check.h"

struct loop;
struct net_addr;
struct ssl_st;
struct stream;
struct stream_tls;
struct tls_ctx;

#define STREAM_STATES(X)                                                                                               \
	X(CLOSED, "no socket; the state of zeroed memory")                                                             \
	X(CONNECTING, "connect() is under way")                                                                        \
	X(HANDSHAKE, "TLS is being negotiated")                                                                        \
	X(OPEN, "bytes flow")                                                                                          \
	X(FAILED, "connect or handshake failed; only stream_close() is left")
enum stream_state {
#define STREAM_STATE_ENUM(id, doc) STREAM_##id,
	STREAM_STATES(STREAM_STATE_ENUM)
#undef STREAM_STATE_ENUM
};
const char *stream_state_name(enum stream_state state);

/* All four must be set. */
struct stream_ops {
	/* There may be something to read: bytes, the end, or an error.  One stream_read() per call is enough: what it
	 * leaves behind, in the kernel or inside TLS, brings the next call. */
	void (*on_readable)(struct stream *s);
	/* Output that was STREAM_BLOCKED has left wholly.  May come unasked too (TLS answers its peer by itself). */
	void (*on_drained)(struct stream *s);
	void (*on_open)(struct stream *s); /* connect() succeeded, or the TLS handshake did: send now, blocked or not */
	/* Connect, handshake or a delayed write failed; why is valid until the next call of a function here.  The owner
	 * closes.  After a delayed write the stream is still OPEN for reading, so that the peer's last words (a
	 * server's FATAL) can be had with stream_read() before that; its pending output is gone. */
	void (*on_failed)(struct stream *s, const char *why);
};

struct stream {
	struct event ev;              /* of fd; armed as stream.c:wanted_events() says */
	struct loop *loop;            /* borrowed; NULL while closed or detached */
	const struct stream_ops *ops; /* borrowed, static */
	void *owner;                  /* borrowed; for the callbacks, never looked at here */
	struct stream_tls *tls;       /* owned; NULL while plain */
	struct buf *out;              /* owned; NULL unless output waits */
	bool *guard;                  /* borrowed from the stack of the callback under way, else NULL; see stream.c */
	int fd;                       /* owned; -1 while closed */
	enum stream_state state;      /* written by stream.c:set_state() only */
	bool want_read;               /* the owner's wish: stream_want_read() */
	bool armed;                   /* ev is with the loop */
};

/* A fresh or closed stream.  Reading is off at first: call stream_want_read(). */
void stream_init_accepted(struct stream *s, struct loop *loop, int fd, const struct stream_ops *ops, void *owner);
/* Later on_open or on_failed comes.  False with a message when it failed at once: the stream stays closed. */
bool stream_init_connect(struct stream *s, struct loop *loop, const struct net_addr *to, const struct stream_ops *ops,
                         void *owner, char *err, size_t err_size) MUSTCHECK;

/* Only when OPEN and plain; output still pending leaves in clear before.  Whoever calls this must have nothing unread
 * left over from before (bytes sent in clear after an SSLRequest are an attack).  on_open follows, or on_failed.
 * False: no memory, or a host that cannot be verified; stream_last_error() says which.  ctx is borrowed for the call.
 */
bool stream_start_tls_server(struct stream *s, struct tls_ctx *ctx) MUSTCHECK;
bool stream_start_tls_client(struct stream *s, struct tls_ctx *ctx, const char *host) MUSTCHECK;

enum { STREAM_EOF = 0, STREAM_AGAIN = -1, STREAM_ERROR = -2 };
/* Bytes read (> 0), STREAM_EOF, STREAM_AGAIN or STREAM_ERROR (stream_last_error()).  Plain: one recv.  TLS: as many
 * records as are there and fit, no recv more than that takes.  A connection cut without close_notify is an end, since
 * PostgreSQL's messages say themselves where they end. */
ssize_t stream_read(struct stream *s, void *p, size_t n) MUSTCHECK;
/* Looks at bytes without taking them; plain only.  As stream_read(). */
ssize_t stream_peek(struct stream *s, void *p, size_t n) MUSTCHECK;
void stream_want_read_slow(struct stream *s, bool want);
static inline void stream_want_read(struct stream *s, bool want)
{
	if (s->want_read != want)
		stream_want_read_slow(s, want);
}

enum stream_sent {
	STREAM_SENT,    /* it is with the kernel */
	STREAM_BLOCKED, /* accepted, but some is pending: stop feeding until on_drained */
	STREAM_BROKEN /* lost (stream_last_error()), and so is all that follows; the owner reads last words if it likes,
	               * and closes.  No on_failed comes for it. */
};
/* All or nothing is accepted, in order.  Also legal while CONNECTING: it leaves once open.  In HANDSHAKE: BROKEN. */
enum stream_sent stream_send(struct stream *s, const void *p, size_t n) MUSTCHECK;
enum stream_sent stream_sendv(struct stream *s, const struct iovec *iov, int count) MUSTCHECK;
/* Bytes that wait for the socket; with TLS their encrypted size. */
static inline size_t stream_pending(const struct stream *s) { return s->out ? buf_len(s->out) : 0; }

/* Idempotent; legal on zeroed memory and inside callbacks.  Says close_notify where that does not block. */
void stream_close(struct stream *s);
/* Throws away what the peer has sent so far.  Before a close that follows a last message: close() with unread bytes
 * sends a reset, which can destroy the message before the peer has read it. */
void stream_discard_input(struct stream *s);

/* Moving to another loop: detach on the old thread, hand over by a message, attach on the new one.  TLS state, pending
 * output and the wish to read move along.  Not while in HANDSHAKE or CONNECTING. */
void stream_detach(struct stream *s);
void stream_attach(struct stream *s, struct loop *loop);
/* Reads, and nothing is under way: no callback, no pending output, nothing inside TLS. */
bool stream_may_move(const struct stream *s);
/* To other memory (a closed stream), of another owner, on the same loop, without a system call.  `from` is closed then.
 * Legal in its callbacks; what came for it and was not read comes to `to`, by the next event. */
void stream_move(struct stream *to, struct stream *from, const struct stream_ops *ops, void *owner);
/* Gives up the socket, which stays open; the stream is closed then.  Plain and nothing pending only. */
int stream_release_fd(struct stream *s) MUSTCHECK;

static inline bool stream_is_open(const struct stream *s) { return s->state == STREAM_OPEN; }
static inline bool stream_is_tls(const struct stream *s) { return s->tls != NULL; }
struct ssl_st *stream_ssl(const struct stream *s); /* borrowed; NULL while plain; for tls_*() of io/tls.h */
/* Text of this thread's latest STREAM_ERROR, STREAM_BROKEN or false; valid until the next one. */
const char *stream_last_error(void);

#ifdef PGWEIR_TEST_BUILD
/* Replaces recv() and send() for every stream (NULL: the real ones), to make short transfers and EAGAIN at will.
 * The environment's PGWEIR_IO_CHOP=n limits every transfer to n bytes, for whole-program tests. */
struct stream_test_io {
	ssize_t (*recv)(int fd, void *p, size_t n, int flags);
	ssize_t (*send)(int fd, const void *p, size_t n, int flags);
};
void stream_test_set_io(const struct stream_test_io *io);
#endif

#endif
