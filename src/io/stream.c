/* io/stream.c - see io/stream.h.
 *
 * One struct event per stream.  What it waits for is not switched on and off here and there, but derived from the
 * state by wanted_events() and put into effect by update_interest(), which costs no system call when nothing changed;
 * inside the stream's own callbacks it runs once, at their end.
 *
 * TLS goes through a BIO of our own.  Reading, it knows when the socket is dry (a recv that filled less than its buffer
 * took all there was), so OpenSSL's "is there more?" after each record is answered without a system call.  Writing, it
 * takes everything: what the socket refuses joins s->out as ciphertext, so OpenSSL never waits for the socket, and
 * flushing is the same for plain and TLS.  (The textbook way, SSL_write() again after "want write", was tried first:
 * OpenSSL 3.0 ends the connection with "bad length" when a KeyUpdate comes in between, which it must answer.)
 * OpenSSL may hold input that epoll knows nothing of: data_buffered() says so, and on_readable is then called again,
 * some rounds at once, the rest by a hook at the end of the turn, so that one busy peer does not starve the others.
 *
 * The guard: while a callback of stream s is under way, s->guard points to a flag on the stack of whoever called it.
 * stream_close() and stream_detach() clear that flag, and nothing of s is touched after a callback that cleared it:
 * by then s may be closed, in use anew, or the property of another thread. */
#include "io/stream.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <event2/event.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include "base/mem.h"
#include "io/loop.h"
#include "io/net.h"
#include "io/tls.h"

enum {
	READ_ROUNDS = 4,     /* calls of on_readable in a row for what OpenSSL holds */
	TLS_RECORD = 16384,  /* most that one record carries */
	DISCARD_ROUNDS = 16, /* times DISCARD_BYTES: what stream_discard_input() takes at most */
	DISCARD_BYTES = 16384,
	ANSWERS_MAX = 65536, /* bytes that a peer which does not read may make OpenSSL answer */
};

enum tls_end { END_NONE, END_CLEAN, END_ERROR };

struct stream_tls {
	SSL *ssl;              /* owned, with its BIO */
	struct stream *s;      /* borrowed: the stream that owns this */
	struct loop_hook hook; /* first step of a client's handshake; more rounds of on_readable */
	enum tls_end end;      /* of the input; seen by OpenSSL */
	int error;             /* errno of a failed transfer, or 0 */
	unsigned answer_bytes; /* that reading has added to s->out since that was empty */
	bool reading;          /* SSL_read_ex() is on the stack: what it writes are answers */
	bool end_told;         /* stream_read() has returned the end */
	bool dry;              /* the socket was emptied; cleared by the next readable event */
	bool starved;          /* OpenSSL asked for bytes in vain: what it holds is less than a record */
	bool cut;              /* recv() said end of file */
	bool broken;           /* the connection is beyond a close_notify */
};

/* Per thread and not per stream: it is read right after the call that failed, and idle streams stay small. */
static _Thread_local char last_error[256];

static COLD void set_error(const char *what, const char *why)
{
	snprintf(last_error, sizeof last_error, "%s%s%s", what, why[0] ? ": " : "", why);
}

const char *stream_last_error(void) { return last_error; }

/* --- states --- */

static const char *const STATE_NAMES[] = {
#define STREAM_STATE_NAME(id, doc) [STREAM_##id] = #id,
	STREAM_STATES(STREAM_STATE_NAME)
#undef STREAM_STATE_NAME
};

const char *stream_state_name(enum stream_state state) { return STATE_NAMES[state]; }

#define TO(id) (1u << STREAM_##id)
static const unsigned EDGES[] = {
	[STREAM_CLOSED] = TO(CONNECTING) | TO(OPEN),
	[STREAM_CONNECTING] = TO(OPEN) | TO(FAILED) | TO(CLOSED),
	[STREAM_HANDSHAKE] = TO(OPEN) | TO(FAILED) | TO(CLOSED),
	[STREAM_OPEN] = TO(HANDSHAKE) | TO(FAILED) | TO(CLOSED),
	[STREAM_FAILED] = TO(CLOSED),
};
#undef TO

/* The only writer of ->state. */
static void set_state(struct stream *s, enum stream_state state)
{
	CHECK(EDGES[s->state] & 1u << state);
	s->state = state;
}

/* --- system calls, with the tests' finger in them ---
 *
 * Every byte of every stream passes here, plain or encrypted.  A test build asks two variables first; in a release
 * build the wrappers vanish. */

#ifdef PGWEIR_TEST_BUILD
static struct stream_test_io test_io;
static size_t chop; /* most bytes per transfer; 0: any */

void stream_test_set_io(const struct stream_test_io *io) { test_io = io ? *io : (struct stream_test_io){ 0 }; }

/* Before main(), so that no thread needs to agree with another on who reads the environment. */
__attribute__((constructor)) static void read_chop(void)
{
	const char *value = getenv("PGWEIR_IO_CHOP");
	chop = value ? strtoul(value, NULL, 10) : 0;
}

static size_t chopped(size_t n) { return chop && n > chop ? chop : n; }

static ssize_t sys_recv(int fd, void *p, size_t n, int flags)
{
	return test_io.recv ? test_io.recv(fd, p, n, flags) : recv(fd, p, chopped(n), flags);
}

static ssize_t sys_send(int fd, const void *p, size_t n)
{
	return test_io.send ? test_io.send(fd, p, n, MSG_NOSIGNAL) : send(fd, p, chopped(n), MSG_NOSIGNAL);
}

/* With a finger in it only the first piece goes: a short write like any other. */
static ssize_t sys_sendmsg(int fd, const struct msghdr *msg)
{
	if (!test_io.send && !chop)
		return sendmsg(fd, msg, MSG_NOSIGNAL);
	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		if (msg->msg_iov[i].iov_len > 0)
			return sys_send(fd, msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len);
	}
	return 0;
}
#elif defined(SYS_recvfrom) && defined(SYS_sendto)
/* Not by libc's recv() and send(): these are cancellation points, and switch cancellation on and off around each call
 * (50 instructions and two atomic ones).  No thread of ours is ever cancelled. */
static ssize_t sys_recv(int fd, void *p, size_t n, int flags)
{
	return syscall(SYS_recvfrom, fd, p, n, flags, NULL, NULL);
}
static ssize_t sys_send(int fd, const void *p, size_t n)
{
	return syscall(SYS_sendto, fd, p, n, MSG_NOSIGNAL, NULL, 0);
}
#else
static ssize_t sys_recv(int fd, void *p, size_t n, int flags) { return recv(fd, p, n, flags); }
static ssize_t sys_send(int fd, const void *p, size_t n) { return send(fd, p, n, MSG_NOSIGNAL); }
#endif
#ifndef PGWEIR_TEST_BUILD
static ssize_t sys_sendmsg(int fd, const struct msghdr *msg) { return sendmsg(fd, msg, MSG_NOSIGNAL); }
#endif

static bool is_again(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

static ssize_t io_recv(int fd, void *p, size_t n, int flags)
{
	ssize_t got;
	do {
		got = sys_recv(fd, p, n, flags);
	} while (got < 0 && errno == EINTR);
	return got;
}

static ssize_t io_send(int fd, const void *p, size_t n)
{
	ssize_t sent;
	do {
		sent = sys_send(fd, p, n);
	} while (sent < 0 && errno == EINTR);
	return sent;
}

/* --- raw output: what the socket does not take waits in s->out ---
 *
 *   plain:  stream_send() -------------------> send_or_keep() --> socket
 *   TLS:    stream_send() --> SSL_write_ex() --> bio_write() --> send_or_keep() --> socket
 *                                                                      |              ^
 *                                                                      +--> s->out ---+  flush(), when writable
 *
 * s->out exists only while something waits: its pointer is the flag for "blocked". */

static void drop_output(struct stream *s)
{
	if (!s->out)
		return;
	buf_deinit(s->out);
	mem_free(s->out);
	s->out = NULL;
	if (s->tls)
		s->tls->answer_bytes = 0;
}

/* False with errno, and then the direction is shut: an owner that went on sending in spite of STREAM_BROKEN would put
 * whole messages behind a hole, and the peer would take them for something else. */
static COLD bool keep(struct stream *s, const void *p, size_t n)
{
	if (n == 0)
		return true;
	if (!s->out) {
		s->out = mem_try_alloc(sizeof *s->out);
		if (s->out)
			*s->out = (struct buf){ 0 };
	}
	if (s->out && buf_put(s->out, p, n))
		return true;
	drop_output(s);
	(void)shutdown(s->fd, SHUT_WR);
	errno = ENOMEM;
	return false;
}

/* A stream of KeyUpdates, each asking for one back, from a peer that never reads would fill our memory. */
static bool may_answer(struct stream_tls *t, size_t n)
{
	if (!t->reading || !t->s->out)
		return true;
	t->answer_bytes += (unsigned)n;
	return t->answer_bytes <= ANSWERS_MAX;
}

/* What has left; less than n means blocked.  -1 with errno when the connection is broken. */
static ssize_t send_some(struct stream *s, const void *p, size_t n)
{
	ssize_t sent = io_send(s->fd, p, n);

	if (UNLIKELY(sent < 0))
		return is_again(errno) ? 0 : -1;
	return sent;
}

/* Nothing may overtake what waits already; before the connect is done everything waits. */
static bool may_send_now(const struct stream *s) { return !s->out && s->state != STREAM_CONNECTING; }

static bool send_or_keep(struct stream *s, const void *p, size_t n)
{
	ssize_t done = may_send_now(s) && n > 0 ? send_some(s, p, n) : 0;

	if (LIKELY(done == (ssize_t)n))
		return true;
	return done >= 0 && keep(s, (const uint8_t *)p + done, n - (size_t)done);
}

/* --- the BIO between OpenSSL and the socket --- */

/* dry: do not ask the socket again before it said that it is readable.  A recv that came back short has emptied it; if
 * more arrives a moment later, or the end, the level-triggered event tells.  OpenSSL asks for a whole buffer at a time
 * (read_ahead), so a short answer is the normal case and the call that would only say EAGAIN is saved.
 * starved: what OpenSSL has left over is no whole record, so asking it again is in vain. */
static int bio_read(BIO *bio, char *p, int n)
{
	struct stream_tls *t = BIO_get_data(bio);
	ssize_t got = -1;

	BIO_clear_retry_flags(bio);
	errno = EAGAIN;
	if (!t->dry)
		got = io_recv(t->s->fd, p, (size_t)n, 0);
	if (got > 0) {
		t->dry = got < n;
		t->starved = false;
	} else if (got == 0) {
		t->cut = true;
	} else if (is_again(errno)) {
		t->dry = t->starved = true;
		BIO_set_retry_read(bio);
	} else {
		t->error = errno;
	}
	return (int)got;
}

/* Takes all or breaks: OpenSSL never sees a socket that is full. */
static int bio_write(BIO *bio, const char *p, int n)
{
	struct stream_tls *t = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	errno = ENOBUFS;
	if (may_answer(t, (size_t)n) && send_or_keep(t->s, p, (size_t)n))
		return n;
	t->error = errno;
	return -1;
}

/* BIO_CTRL_EOF is answered 0 too, although the end may have come: OpenSSL would make an error of it, where ours is to
 * tell an end from an error (t->cut). */
static long bio_ctrl(BIO *bio UNUSED, int command, long number UNUSED, void *pointer UNUSED)
{
	return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;

static void make_bio_method(void)
{
	bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pgweir stream");
	CHECK(bio_method);
	CHECK(BIO_meth_set_read(bio_method, bio_read) && BIO_meth_set_write(bio_method, bio_write) &&
	      BIO_meth_set_ctrl(bio_method, bio_ctrl));
}

static bool set_bio(struct stream_tls *t)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_bio_method);
	BIO *bio = BIO_new(bio_method);
	if (!bio)
		return false;
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio); /* one reference serves both directions */
	return true;
}

/* --- from OpenSSL's return codes to ours --- */

enum outcome { TLS_DONE, TLS_WANT_READ, TLS_WANT_WRITE, TLS_ENDED, TLS_BROKEN };

static void set_tls_error(struct stream_tls *t, const char *what)
{
	char why[200];

	if (t->error)
		set_error(what, strerror(t->error));
	else if (t->cut && ERR_peek_error() == 0)
		set_error(what, "connection closed by peer");
	else {
		tls_error_text(t->ssl, why, sizeof why);
		set_error(what, why);
	}
	ERR_clear_error();
}

/* The one place that reads SSL_get_error().  After TLS_ENDED and TLS_BROKEN the error text is set: an end is none for a
 * reader, but it is for a handshake or a write. */
static enum outcome outcome_of(struct stream_tls *t, int rc)
{
	switch (SSL_get_error(t->ssl, rc)) {
	case SSL_ERROR_NONE:
		return TLS_DONE;
	case SSL_ERROR_WANT_READ:
		return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		set_error("TLS", "connection closed by peer");
		return TLS_ENDED;
	default:
		t->broken = true;
		/* Cut off without close_notify, as many drivers do: an end too. */
		bool just_cut = t->cut && !t->error && ERR_peek_error() == 0;
		set_tls_error(t, "TLS");
		return just_cut ? TLS_ENDED : TLS_BROKEN;
	}
}

/* OpenSSL holds something that stream_read() would return now, with no event to say so. */
static bool data_buffered(const struct stream *s)
{
	const struct stream_tls *t = s->tls;

	if (!t || s->state != STREAM_OPEN)
		return false;
	if (t->end != END_NONE)
		return !t->end_told;
	return !t->starved && SSL_has_pending(t->ssl);
}

/* --- interest --- */

static void on_event(evutil_socket_t fd, short what, void *arg);

static short wanted_events(const struct stream *s)
{
	short out = s->out ? EV_WRITE : 0;

	switch (s->state) {
	case STREAM_CLOSED:
	case STREAM_FAILED:
		return 0;
	case STREAM_CONNECTING:
		return EV_WRITE;
	case STREAM_HANDSHAKE:
		return (short)(EV_READ | out);
	case STREAM_OPEN:
		return (short)((s->want_read ? EV_READ : 0) | out);
	}
	return 0;
}

/* event_assign() clears all of ev: only while it is not armed. */
static void assign_event(struct stream *s, short what)
{
	CHECK(event_assign(&s->ev, loop_base(s->loop), s->fd, (short)(what | EV_PERSIST), on_event, s) == 0);
}

static void disarm(struct stream *s)
{
	event_del(&s->ev);
	s->armed = false;
}

/* The state that nearly all are in nearly always, and in which ev is right. */
static bool reads_on(const struct stream *s)
{
	return s->state == STREAM_OPEN && s->want_read && s->armed && !s->out &&
	       (s->ev.ev_events & (EV_READ | EV_WRITE)) == EV_READ;
}

/* Brings ev in line with wanted_events().  Changing it is two epoll_ctl() (2.6 us a pair, more than all else here), so
 * the owner should leave reading on where it can, and bytes that come too early be parked. */
static void update_interest(struct stream *s)
{
	/* In its own callback once at the end (leave()): a worker may change its mind several times there. */
	if (!s->loop || s->guard)
		return;
	if (LIKELY(reads_on(s)))
		return;
	short assigned = s->ev.ev_events & (EV_READ | EV_WRITE), wanted = wanted_events(s);
	if (wanted == (s->armed ? assigned : 0))
		return;
	if (s->armed)
		disarm(s);
	if (!wanted)
		return;
	if (wanted != assigned)
		assign_event(s, wanted);
	if (event_add(&s->ev, NULL) == 0)
		s->armed = true;
	else
		event_active(&s->ev, EV_TIMEOUT, 0); /* out of kernel memory; on_event() says so (there is no timer) */
}

void stream_want_read_slow(struct stream *s, bool want)
{
	s->want_read = want;
	update_interest(s);
	if (want && s->loop && !s->guard && data_buffered(s))
		loop_at_turn_end(s->loop, &s->tls->hook);
}

/* --- output --- */

static bool may_write(const struct stream *s)
{
	if (LIKELY(s->state == STREAM_OPEN || s->state == STREAM_CONNECTING))
		return true;
	set_error("could not send data",
	          s->state == STREAM_HANDSHAKE ? "TLS is being negotiated" : "connection is closed");
	return false;
}

static __attribute__((noinline)) bool tls_write(struct stream_tls *t, const uint8_t *p, size_t n)
{
	while (n > 0) {
		size_t taken = 0;
		ERR_clear_error();
		int rc = SSL_write_ex(t->ssl, p, n, &taken);
		/* There is nothing to wait for: the BIO takes all, and we do not renegotiate. */
		if (rc != 1) {
			set_error("TLS", "could not send data");
			(void)outcome_of(t, rc);
			return false;
		}
		p += taken;
		n -= taken;
	}
	return true;
}

static bool plain_write(struct stream *s, const void *p, size_t n)
{
	if (LIKELY(send_or_keep(s, p, n)))
		return true;
	set_error("could not send data", strerror(errno));
	return false;
}

static enum stream_sent sent_so_far(struct stream *s)
{
	if (LIKELY(!s->out))
		return STREAM_SENT;
	update_interest(s);
	return STREAM_BLOCKED;
}

/* sent: what send() said, with its errno. */
static COLD enum stream_sent plain_rest(struct stream *s, const void *p, size_t n, ssize_t sent)
{
	size_t done = sent < 0 ? 0 : (size_t)sent;
	if ((sent < 0 && !is_again(errno)) || !keep(s, (const uint8_t *)p + done, n - done)) {
		set_error("could not send data", strerror(errno));
		return STREAM_BROKEN;
	}
	return sent_so_far(s);
}

static __attribute__((noinline)) enum stream_sent send_slowly(struct stream *s, const void *p, size_t n)
{
	if (!may_write(s) || !(s->tls ? tls_write(s->tls, p, n) : plain_write(s, p, n)))
		return STREAM_BROKEN;
	return sent_so_far(s);
}

/* Plain, nothing waits, and the socket takes all: so it is nearly always. */
enum stream_sent stream_send(struct stream *s, const void *p, size_t n)
{
	if (UNLIKELY(s->state != STREAM_OPEN || s->tls || s->out || n == 0))
		return send_slowly(s, p, n);
	ssize_t done = io_send(s->fd, p, n);
	if (LIKELY(done == (ssize_t)n))
		return STREAM_SENT;
	return plain_rest(s, p, n, done);
}

/* Small pieces share a record: each costs 22 to 29 bytes, a system call here and one at the peer. */
static enum stream_sent send_gathered(struct stream *s, const struct iovec *iov, int count)
{
	uint8_t chunk[TLS_RECORD];
	size_t filled = 0;

	for (int i = 0; i < count; i++) {
		const uint8_t *p = iov[i].iov_base;
		for (size_t left = iov[i].iov_len, take; left > 0; left -= take, p += take) {
			take = left < sizeof chunk - filled ? left : sizeof chunk - filled;
			memcpy(chunk + filled, p, take);
			filled += take;
			if (filled < sizeof chunk)
				continue;
			if (stream_send(s, chunk, filled) == STREAM_BROKEN)
				return STREAM_BROKEN;
			filled = 0;
		}
	}
	return stream_send(s, chunk, filled);
}

static bool plain_writev(struct stream *s, const struct iovec *iov, int count, size_t *done)
{
	/* The kernel refuses more pieces than IOV_MAX; the rest is kept then, as if the socket had not taken it. */
	struct msghdr msg = { .msg_iov = (struct iovec *)iov,
		              .msg_iovlen = (size_t)(count < IOV_MAX ? count : IOV_MAX) };
	ssize_t sent;

	do {
		sent = sys_sendmsg(s->fd, &msg);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return is_again(errno);
	*done = (size_t)sent;
	return true;
}

static bool keep_rest(struct stream *s, const struct iovec *iov, int count, size_t done)
{
	for (int i = 0; i < count; i++) {
		size_t skip = done < iov[i].iov_len ? done : iov[i].iov_len;
		done -= skip;
		if (!keep(s, (const uint8_t *)iov[i].iov_base + skip, iov[i].iov_len - skip))
			return false;
	}
	return true;
}

enum stream_sent stream_sendv(struct stream *s, const struct iovec *iov, int count)
{
	size_t done = 0;

	if (!may_write(s))
		return STREAM_BROKEN;
	if (s->tls)
		return send_gathered(s, iov, count);
	if ((may_send_now(s) && !plain_writev(s, iov, count, &done)) || !keep_rest(s, iov, count, done)) {
		set_error("could not send data", strerror(errno));
		return STREAM_BROKEN;
	}
	return sent_so_far(s);
}

/* --- callbacks: each of these returns at once after one that cleared *alive --- */

static void fail(struct stream *s, const char *why)
{
	set_state(s, STREAM_FAILED);
	drop_output(s);
	s->ops->on_failed(s, why);
}

/* One send for all that waits; what does not go now waits for the next event.  In HANDSHAKE what waits is the rest of
 * a flight, or of what was sent in clear before. */
static void flush(struct stream *s)
{
	ssize_t done = send_some(s, buf_head(s->out), buf_len(s->out));

	if (done < 0) {
		set_error("could not send data", strerror(errno));
		/* Without output the stream waits for no event that would fail again, and still reads. */
		drop_output(s);
		if (s->state == STREAM_OPEN)
			s->ops->on_failed(s, last_error);
		else
			fail(s, last_error);
		return;
	}
	buf_consume(s->out, (size_t)done);
	if (buf_len(s->out) > 0)
		return;
	drop_output(s);
	/* In HANDSHAKE nobody may send: on_open will tell. */
	if (s->state == STREAM_OPEN)
		s->ops->on_drained(s);
}

/* The owner's stream_read() may leave bytes inside OpenSSL, which no event will tell of; leave() puts off the rest. */
static void deliver(struct stream *s, const bool *alive)
{
	for (int round = 0; round < READ_ROUNDS; round++) {
		s->ops->on_readable(s);
		if (!*alive || !s->want_read || !data_buffered(s))
			return;
	}
}

/* The stream has become OPEN, for the first time or through TLS. */
static void opened(struct stream *s, const bool *alive)
{
	set_state(s, STREAM_OPEN);
	s->ops->on_open(s);
	if (*alive && s->state == STREAM_OPEN && s->out)
		flush(s);
}

static void finish_connect(struct stream *s, const bool *alive)
{
	int error = net_connect_result(s->fd);

	if (error == 0) {
		opened(s, alive);
		return;
	}
	set_error("could not connect", strerror(error));
	fail(s, last_error);
}

static void handshake(struct stream *s, short what, const bool *alive)
{
	if (what & EV_WRITE && s->out)
		flush(s);
	if (!*alive || s->state != STREAM_HANDSHAKE)
		return;
	ERR_clear_error();
	switch (outcome_of(s->tls, SSL_do_handshake(s->tls->ssl))) {
	case TLS_DONE:
		opened(s, alive);
		return;
	case TLS_WANT_READ:
	case TLS_WANT_WRITE:
		return;
	case TLS_ENDED:
	case TLS_BROKEN:
		s->tls->broken = true;
		fail(s, last_error);
		return;
	}
}

static void transfer(struct stream *s, short what, const bool *alive)
{
	if (what & EV_WRITE && s->out)
		flush(s);
	/* on_drained may have begun a handshake, to which these bytes belong. */
	if (*alive && what & EV_READ && s->want_read && s->state == STREAM_OPEN)
		deliver(s, alive);
}

/* The end of every entry from the loop; with alive false s may be anything by now, and is not looked at. */
static void leave(struct stream *s, bool alive)
{
	if (!alive)
		return;
	s->guard = NULL;
	if (LIKELY(!s->tls && reads_on(s)))
		return;
	update_interest(s);
	/* More than READ_ROUNDS took; or a client's first message that came in one segment with the end of its
	 * handshake; or the owner, having paused, wants to go on. */
	if (s->want_read && data_buffered(s))
		loop_at_turn_end(s->loop, &s->tls->hook);
}

static void on_event(evutil_socket_t fd UNUSED, short what, void *arg)
{
	struct stream *s = arg;
	bool alive = true;

	s->guard = &alive;
	if (LIKELY(what == EV_READ && s->state == STREAM_OPEN && !s->tls && s->want_read)) {
		s->ops->on_readable(s);
		leave(s, alive);
		return;
	}
	if (s->tls && what & EV_READ)
		s->tls->dry = false;
	if (what & EV_TIMEOUT && s->state != STREAM_FAILED)
		fail(s, "could not watch the socket"); /* without events it would hang silently */
	else if (s->state == STREAM_CONNECTING)
		finish_connect(s, &alive);
	else if (s->state == STREAM_HANDSHAKE)
		handshake(s, what, &alive);
	else
		transfer(s, what, &alive);
	leave(s, alive);
}

static void on_hook(struct loop_hook *hook)
{
	struct stream *s = CONTAINER_OF(hook, struct stream_tls, hook)->s;
	bool alive = true;

	s->guard = &alive;
	if (s->state == STREAM_HANDSHAKE)
		handshake(s, 0, &alive);
	else if (s->want_read && data_buffered(s))
		deliver(s, &alive);
	leave(s, alive);
}

/* --- beginning --- */

/* The memory may be fresh (zeroed) or have been a stream before; what it was then is forgotten whole. */
static void init(struct stream *s, struct loop *loop, int fd, const struct stream_ops *ops, void *owner)
{
	CHECK(s->state == STREAM_CLOSED);
	*s = (struct stream){ .loop = loop, .ops = ops, .owner = owner, .fd = fd };
	assign_event(s, EV_READ);
}

void stream_init_accepted(struct stream *s, struct loop *loop, int fd, const struct stream_ops *ops, void *owner)
{
	init(s, loop, fd, ops, owner);
	set_state(s, STREAM_OPEN);
}

bool stream_init_connect(struct stream *s, struct loop *loop, const struct net_addr *to, const struct stream_ops *ops,
                         void *owner, char *err, size_t err_size)
{
	int fd = net_connect(to, err, err_size);

	if (fd < 0)
		return false;
	/* Done at once, as a unix socket is, or not: on_open comes from the loop in both cases. */
	init(s, loop, fd, ops, owner);
	set_state(s, STREAM_CONNECTING);
	update_interest(s);
	return true;
}

static void free_tls(struct stream_tls *t)
{
	SSL_free(t->ssl);
	mem_free(t);
}

static bool start_tls(struct stream *s, struct tls_ctx *ctx, const char *host)
{
	CHECK(s->state == STREAM_OPEN && !s->tls);
	struct stream_tls *t = mem_try_alloc(sizeof *t);
	if (!t) {
		set_error("could not start TLS", "out of memory");
		return false;
	}
	*t = (struct stream_tls){ .s = s, .hook.fn = on_hook, .dry = true };
	t->ssl = tls_ssl_new(ctx, host, last_error, sizeof last_error);
	if (!t->ssl || !set_bio(t)) {
		if (t->ssl)
			set_error("could not start TLS", "out of memory");
		free_tls(t);
		return false;
	}
	s->tls = t;
	set_state(s, STREAM_HANDSHAKE);
	update_interest(s);
	return true;
}

/* The client speaks first; its first bytes, there already or not, come as an event. */
bool stream_start_tls_server(struct stream *s, struct tls_ctx *ctx) { return start_tls(s, ctx, NULL); }

bool stream_start_tls_client(struct stream *s, struct tls_ctx *ctx, const char *host)
{
	if (!start_tls(s, ctx, host))
		return false;
	/* Put off, so that no callback comes from inside this call. */
	loop_at_turn_end(s->loop, &s->tls->hook);
	return true;
}

SSL *stream_ssl(const struct stream *s) { return s->tls ? s->tls->ssl : NULL; }

/* --- input --- */

/* After a recv() that has given nothing. */
static COLD ssize_t read_error(void)
{
	if (is_again(errno))
		return STREAM_AGAIN;
	set_error("could not receive data", strerror(errno));
	return STREAM_ERROR;
}

static ssize_t plain_read(struct stream *s, void *p, size_t n, int flags)
{
	ssize_t got = io_recv(s->fd, p, n, flags);

	return LIKELY(got >= 0) ? got /* 0 is STREAM_EOF */ : read_error();
}

/* What SSL_read_ex() said instead of giving bytes.  An end behind bytes is told by the next call. */
static ssize_t stop_reading(struct stream_tls *t, enum outcome outcome, size_t got)
{
	switch (outcome) {
	case TLS_DONE:
	case TLS_WANT_READ:
	case TLS_WANT_WRITE:
		return got > 0 ? (ssize_t)got : STREAM_AGAIN;
	case TLS_ENDED:
		t->end = END_CLEAN;
		break;
	case TLS_BROKEN:
		t->end = END_ERROR;
		break;
	}
	if (got > 0)
		return (ssize_t)got;
	t->end_told = true;
	return t->end == END_CLEAN ? STREAM_EOF : STREAM_ERROR;
}

static __attribute__((noinline)) ssize_t tls_read(struct stream_tls *t, uint8_t *p, size_t n)
{
	size_t got = 0;

	if (t->end == END_ERROR && !t->end_told)
		set_tls_error(t, "TLS");
	if (t->end != END_NONE) {
		t->end_told = true;
		return t->end == END_CLEAN ? STREAM_EOF : STREAM_ERROR;
	}
	do {
		size_t more = 0;
		ERR_clear_error();
		t->reading = true;
		int rc = SSL_read_ex(t->ssl, p + got, n - got, &more);
		t->reading = false;
		if (rc != 1)
			return stop_reading(t, outcome_of(t, rc), got);
		got += more;
	} while (got < n && SSL_has_pending(t->ssl));
	return (ssize_t)got;
}

static __attribute__((noinline)) ssize_t read_slowly(struct stream *s, void *p, size_t n)
{
	if (UNLIKELY(s->state != STREAM_OPEN)) {
		set_error("could not receive data", "connection is not open");
		return s->state == STREAM_CLOSED || s->state == STREAM_FAILED ? STREAM_ERROR : STREAM_AGAIN;
	}
	ssize_t got = tls_read(s->tls, p, n);
	/* The answer to a KeyUpdate may have joined the output. */
	update_interest(s);
	return got;
}

ssize_t stream_read(struct stream *s, void *p, size_t n)
{
	DCHECK(n > 0);
	return LIKELY(s->state == STREAM_OPEN && !s->tls) ? plain_read(s, p, n, 0) : read_slowly(s, p, n);
}

ssize_t stream_peek(struct stream *s, void *p, size_t n)
{
	CHECK(s->state == STREAM_OPEN && !s->tls);
	return plain_read(s, p, n, MSG_PEEK);
}

void stream_discard_input(struct stream *s)
{
	char trash[DISCARD_BYTES];

	if (s->state == STREAM_CLOSED)
		return;
	for (int i = 0; i < DISCARD_ROUNDS; i++) {
		if (io_recv(s->fd, trash, sizeof trash, 0) <= 0)
			return;
	}
}

/* --- moving and ending --- */

static void end_callback(struct stream *s)
{
	if (!s->guard)
		return;
	*s->guard = false;
	s->guard = NULL;
}

static void leave_loop(struct stream *s)
{
	end_callback(s);
	if (!s->loop)
		return;
	disarm(s);
	if (s->tls)
		loop_cancel_hook(s->loop, &s->tls->hook);
	s->loop = NULL;
}

void stream_detach(struct stream *s)
{
	CHECK(s->state == STREAM_OPEN && s->loop);
	leave_loop(s);
}

void stream_attach(struct stream *s, struct loop *loop)
{
	CHECK(s->state == STREAM_OPEN && !s->loop);
	s->loop = loop;
	assign_event(s, EV_READ);
	update_interest(s);
	if (s->want_read && data_buffered(s))
		loop_at_turn_end(loop, &s->tls->hook);
}

bool stream_may_move(const struct stream *s) { return s->loop && reads_on(s) && !s->guard && !data_buffered(s); }

void stream_move(struct stream *to, struct stream *from, const struct stream_ops *ops, void *owner)
{
	bool armed = from->armed;

	CHECK(to->state == STREAM_CLOSED && from->loop && !from->out);
	end_callback(from);
	*to = *from;
	to->ops = ops;
	to->owner = owner;
	to->armed = false;
	if (to->tls)
		to->tls->s = to;
	assign_event(to, EV_READ);
	/* Two events of one socket for a moment: libevent has nothing to tell epoll then. */
	update_interest(to);
	if (armed)
		disarm(from);
	set_state(from, STREAM_CLOSED);
	from->loop = NULL;
	from->tls = NULL;
	from->fd = -1;
	from->want_read = false;
}

static int let_go(struct stream *s)
{
	int fd = s->fd;

	leave_loop(s);
	drop_output(s);
	s->fd = -1;
	s->want_read = false;
	set_state(s, STREAM_CLOSED);
	return fd;
}

int stream_release_fd(struct stream *s)
{
	CHECK(s->state == STREAM_OPEN && !s->tls && !s->out);
	return let_go(s);
}

static void say_close_notify(struct stream *s)
{
	/* Behind half a record it would be rubbish; after a failure OpenSSL forbids it; and it may not block. */
	if (s->state != STREAM_OPEN || s->out || s->tls->broken)
		return;
	ERR_clear_error();
	(void)SSL_shutdown(s->tls->ssl);
	ERR_clear_error();
}

void stream_close(struct stream *s)
{
	if (s->state == STREAM_CLOSED)
		return;
	struct stream_tls *t = s->tls;
	if (t)
		say_close_notify(s);
	int fd = let_go(s);
	s->tls = NULL;
	if (t)
		free_tls(t);
	close(fd);
}
