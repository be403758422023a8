/* Streams: two ends on one loop, plain and TLS, with whole and chopped transfers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include "base/mem.h"
#include "base/mono.h"
#include "certs.h"
#include "io/loop.h"
#include "io/net.h"
#include "io/stream.h"
#include "io/tls.h"

enum { PORT = 21050, PATIENCE_US = 30 * 1000 * 1000, SCRATCH = 65536, TLS_OVERHEAD = 100 };

static struct loop *loop;
static struct identity server_id;
static struct tls_ctx *server_ctx, *client_ctx;
static uint8_t scratch[SCRATCH];
static char err[256];

/* One end.  Counts what comes, checks that it is the pattern of its peer, and does in callbacks what a test asks. */
struct end {
	struct stream s;
	struct loop_grave grave;
	size_t received, expected_at; /* position in the pattern */
	size_t read_size;             /* per stream_read(); 0: all of scratch */
	int readable, drained, opened, failed, eof, broken;
	char why[256];
	size_t to_send, sent; /* a writer that obeys STREAM_BLOCKED */
	size_t most_pending;
	enum { DO_NOTHING, DO_CLOSE, DO_DETACH, DO_REUSE, DO_MOVE } act; /* in the callback named by `on` */
	enum { ON_NOTHING, ON_READABLE, ON_DRAINED, ON_OPEN, ON_FAILED } on;
	bool ignore_input;
	struct end *heir; /* DO_MOVE: who gets the stream */
};

/* Bytes that tell where in the stream they belong: a table that repeats after a prime number of them. */
enum { PERIOD = 32749 };
static uint8_t table[PERIOD + SCRATCH];

static void make_pattern(void)
{
	for (size_t i = 0; i < sizeof table; i++)
		table[i] = (uint8_t)(i % PERIOD * 2654435761u >> 11);
}

static uint8_t pattern(size_t at) { return table[at % PERIOD]; }

static bool is_pattern(const uint8_t *p, size_t at, size_t n)
{
	CHECK(n <= SCRATCH);
	return memcmp(p, table + at % PERIOD, n) == 0;
}

static void fill(uint8_t *p, size_t at, size_t n)
{
	for (size_t take; n > 0; n -= take, p += take, at += take) {
		take = n < SCRATCH ? n : SCRATCH;
		memcpy(p, table + at % PERIOD, take);
	}
}

static const struct stream_ops OPS;

/* Returns true when the test's act took the stream away. */
static bool act(struct end *e, int on)
{
	if ((int)e->on != on || e->act == DO_NOTHING)
		return false;
	e->on = ON_NOTHING;
	if (e->act == DO_DETACH) {
		stream_detach(&e->s);
		return true;
	}
	if (e->act == DO_MOVE) {
		e->heir->expected_at = e->expected_at;
		e->heir->sent = e->sent;
		stream_move(&e->heir->s, &e->s, &OPS, e->heir);
		return true;
	}
	stream_close(&e->s);
	stream_close(&e->s);
	if (e->act == DO_REUSE) {
		int pair[2];
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
		stream_init_accepted(&e->s, loop, pair[0], &OPS, e);
		stream_want_read(&e->s, true);
		assert_int_equal(write(pair[1], "x", 1), 1);
		close(pair[1]);
		e->ignore_input = true;
	}
	return true;
}

static void take(struct end *e, size_t n)
{
	if (!e->ignore_input && !is_pattern(scratch, e->expected_at, n))
		fail_msg("of the %zu bytes at %zu some are wrong", n, e->expected_at);
	e->expected_at += n;
	e->received += n;
}

static void on_readable(struct stream *s)
{
	struct end *e = s->owner;
	e->readable++;
	if (act(e, ON_READABLE))
		return;
	ssize_t got = stream_read(s, scratch, e->read_size ? e->read_size : sizeof scratch);
	if (got > 0) {
		take(e, (size_t)got);
	} else if (got == STREAM_EOF) {
		e->eof++;
		stream_want_read(s, false);
	} else if (got == STREAM_ERROR) {
		e->broken++;
		snprintf(e->why, sizeof e->why, "%s", stream_last_error());
		stream_want_read(s, false);
	}
}

static void send_more(struct end *e)
{
	static uint8_t chunk[50000];

	while (e->sent < e->to_send) {
		size_t n = e->to_send - e->sent < sizeof chunk ? e->to_send - e->sent : sizeof chunk;
		fill(chunk, e->sent, n);
		enum stream_sent sent = stream_send(&e->s, chunk, n);
		assert_int_not_equal(sent, STREAM_BROKEN);
		e->sent += n;
		if (stream_pending(&e->s) > e->most_pending)
			e->most_pending = stream_pending(&e->s);
		assert_int_equal(sent == STREAM_BLOCKED, stream_pending(&e->s) > 0);
		if (sent == STREAM_BLOCKED)
			return;
	}
}

static void on_drained(struct stream *s)
{
	struct end *e = s->owner;
	e->drained++;
	assert_int_equal(stream_pending(s), 0);
	if (!act(e, ON_DRAINED))
		send_more(e);
}

static void on_open(struct stream *s)
{
	struct end *e = s->owner;
	e->opened++;
	assert_int_equal(s->state, STREAM_OPEN);
	act(e, ON_OPEN);
}

static void on_failed(struct stream *s, const char *why)
{
	struct end *e = s->owner;
	e->failed++;
	snprintf(e->why, sizeof e->why, "%s", why);
	act(e, ON_FAILED);
}

static const struct stream_ops OPS = { on_readable, on_drained, on_open, on_failed };

/* --- harness --- */

static int group_setup(void **state UNUSED)
{
	struct tls_options o = { .mode = TLS_REQUIRE };
	make_pattern();
	certs_setup();
	server_id = issue("server", "db.example", "DNS:db.example", NULL);
	client_ctx = tls_ctx_new_client(&o, err, sizeof err);
	o.cert_file = server_id.cert_file;
	o.key_file = server_id.key_file;
	server_ctx = tls_ctx_new_server(&o, err, sizeof err);
	return server_ctx && client_ctx ? 0 : -1;
}

static int group_teardown(void **state UNUSED)
{
	tls_ctx_unref(server_ctx);
	tls_ctx_unref(client_ctx);
	discard(&server_id);
	certs_teardown();
	return 0;
}

static int setup(void **state UNUSED)
{
	loop = loop_new("test");
	return 0;
}

static int teardown(void **state UNUSED)
{
#ifdef PGWEIR_TEST_BUILD
	stream_test_set_io(NULL);
#endif
	mem_fail_after(0);
	loop_free(loop);
	return 0;
}

#define RUN_UNTIL(condition)                                                                                           \
	do {                                                                                                           \
		uint64_t give_up_us = mono_now_us() + PATIENCE_US;                                                     \
		while (!(condition)) {                                                                                 \
			assert_true(mono_now_us() < give_up_us);                                                       \
			loop_turn(loop, LOOP_POLL);                                                                    \
		}                                                                                                      \
	} while (0)

/* Lets everything that is under way come to rest; no socket of a test needs longer. */
static void settle(void)
{
	for (int i = 0; i < 50; i++)
		loop_turn(loop, LOOP_POLL);
}

static struct end *new_end(void) { return mem_zalloc(sizeof(struct end)); }

static void free_end(struct loop_grave *grave) { mem_free(CONTAINER_OF(grave, struct end, grave)); }

/* As an owner does it: the memory goes at the end of the turn. */
static void release(struct end *e)
{
	stream_close(&e->s);
	e->grave.free_fn = free_end;
	loop_bury(loop, &e->grave);
}

static void pair_up(struct end **a, struct end **b)
{
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	*a = new_end();
	*b = new_end();
	stream_init_accepted(&(*a)->s, loop, pair[0], &OPS, *a);
	stream_init_accepted(&(*b)->s, loop, pair[1], &OPS, *b);
	stream_want_read(&(*a)->s, true);
	stream_want_read(&(*b)->s, true);
}

static void encrypt(struct end *server, struct end *client)
{
	int opened = server->opened + client->opened;
	assert_true(stream_start_tls_server(&server->s, server_ctx));
	assert_true(stream_start_tls_client(&client->s, client_ctx, "db.example"));
	assert_int_equal(client->opened + server->opened, opened); /* no callback from inside the call */
	RUN_UNTIL(server->s.state == STREAM_OPEN && client->s.state == STREAM_OPEN);
	assert_int_equal(server->opened + client->opened, opened + 2);
}

/* Every test that says (void **state) with a bool behind it runs plain and encrypted. */
static void pair_of_kind(void **state, struct end **a, struct end **b)
{
	pair_up(a, b);
	if (*(const bool *)*state)
		encrypt(*a, *b);
	assert_int_equal(stream_is_tls(&(*a)->s), *(const bool *)*state);
}

static enum stream_sent send_pattern(struct end *e, size_t n)
{
	uint8_t *p = mem_alloc(n);
	fill(p, e->sent, n);
	enum stream_sent sent = stream_send(&e->s, p, n);
	e->sent += n;
	mem_free(p);
	return sent;
}

/* --- plain and TLS alike --- */

static void test_bytes_go_both_ways(void **state)
{
	struct end *a, *b;
	pair_of_kind(state, &a, &b);
	assert_int_equal(send_pattern(a, 10), STREAM_SENT);
	assert_int_equal(send_pattern(b, 20000), STREAM_SENT);
	assert_int_equal(send_pattern(a, 0), STREAM_SENT);
	RUN_UNTIL(b->received == 10 && a->received == 20000);
	release(a);
	RUN_UNTIL(b->eof == 1);
	release(b);
}

static void test_sendv_is_one_stream_of_bytes(void **state)
{
	enum { BIG = 40000, PIECES = 6 };
	static const size_t sizes[PIECES] = { 5, 0, 1, BIG, 3, 700 };
	struct end *a, *b;
	struct iovec iov[PIECES];
	uint8_t *all = mem_alloc(BIG + 709);

	pair_of_kind(state, &a, &b);
	fill(all, 0, BIG + 709);
	size_t at = 0;
	for (int i = 0; i < PIECES; i++) {
		iov[i] = (struct iovec){ all + at, sizes[i] };
		at += sizes[i];
	}
	assert_int_not_equal(stream_sendv(&a->s, iov, PIECES), STREAM_BROKEN);
	mem_free(all);
	RUN_UNTIL(b->received == at);
	assert_int_equal(stream_sendv(&a->s, iov, 0), STREAM_SENT);
	release(a);
	release(b);
}

static void test_blocked_writer_of_50_mb_is_bounded_and_drains(void **state)
{
	struct end *a, *b;
	pair_of_kind(state, &a, &b);
	stream_want_read(&b->s, false);
	a->to_send = 50 * 1000 * 1000;
	send_more(a);
	settle();
	assert_int_equal(b->received, 0);
	assert_true(stream_pending(&a->s) > 0 && stream_pending(&a->s) <= 50000 + TLS_OVERHEAD);
	size_t stuck = a->sent;
	settle();
	assert_int_equal(a->sent, stuck);
	stream_want_read(&b->s, true);
	RUN_UNTIL(b->received == a->to_send);
	assert_true(a->most_pending <= 50000 + TLS_OVERHEAD);
	assert_true(a->drained > 0);
	assert_null(a->s.out);
	release(a);
	release(b);
}

static void test_blocked_sendv_keeps_the_rest_in_order(void **state)
{
	struct end *a, *b;
	uint8_t chunk[3000];
	struct iovec iov[3];

	pair_of_kind(state, &a, &b);
	stream_want_read(&b->s, false);
	for (int i = 0; i < 400; i++) {
		fill(chunk, a->sent, sizeof chunk);
		for (size_t k = 0; k < 3; k++)
			iov[k] = (struct iovec){ chunk + k * 1000, 1000 };
		assert_int_not_equal(stream_sendv(&a->s, iov, 3), STREAM_BROKEN);
		a->sent += sizeof chunk;
	}
	assert_true(stream_pending(&a->s) > 0);
	a->to_send = a->sent;
	stream_want_read(&b->s, true);
	RUN_UNTIL(b->received == a->sent);
	release(a);
	release(b);
}

/* An owner that reads in small bites gets all of it, although epoll knows nothing of what OpenSSL holds. */
static void test_small_bites_get_everything(void **state)
{
	struct end *a, *b;
	pair_of_kind(state, &a, &b);
	b->read_size = 100;
	for (int i = 0; i < 30; i++)
		assert_int_equal(send_pattern(a, 1000), STREAM_SENT);
	RUN_UNTIL(b->received == 30000);
	release(a);
	release(b);
}

static void test_pause_keeps_bytes_for_later(void **state)
{
	struct end *a, *b;
	pair_of_kind(state, &a, &b);
	stream_want_read(&b->s, false);
	assert_int_equal(send_pattern(a, 5000), STREAM_SENT);
	settle();
	assert_int_equal(b->readable, 0);
	stream_want_read(&b->s, true);
	RUN_UNTIL(b->received == 5000);
	release(a);
	release(b);
}

/* The pause comes when OpenSSL has taken all from the socket: only data_buffered() knows of the rest. */
static void on_readable_once(struct stream *s)
{
	on_readable(s);
	stream_want_read(s, false);
}

static void test_pause_in_the_middle_of_what_was_received(void **state)
{
	static const struct stream_ops one_at_a_time = { on_readable_once, on_drained, on_open, on_failed };
	struct end *a, *b;
	pair_of_kind(state, &a, &b);
	b->s.ops = &one_at_a_time;
	b->read_size = 10;
	assert_int_equal(send_pattern(a, 1000), STREAM_SENT);
	for (size_t n = 10; n <= 1000; n += 10) {
		RUN_UNTIL(b->received == n);
		settle();
		assert_int_equal(b->received, n);
		stream_want_read(&b->s, true);
	}
	release(a);
	release(b);
}

static void test_end_of_file_after_the_last_bytes(void **state)
{
	struct end *a, *b;
	pair_of_kind(state, &a, &b);
	assert_int_equal(send_pattern(a, 3000), STREAM_SENT);
	release(a);
	RUN_UNTIL(b->eof == 1);
	assert_int_equal(b->received, 3000);
	release(b);
}

static void test_write_to_a_peer_that_left_is_broken(void **state)
{
	struct end *a, *b;
	pair_of_kind(state, &a, &b);
	stream_want_read(&a->s, false);
	/* The peer's last words are still there to read after the write has failed. */
	assert_int_equal(send_pattern(b, 77), STREAM_SENT);
	release(b);
	assert_int_equal(stream_send(&a->s, "x", 1), STREAM_BROKEN);
	assert_non_null(strstr(stream_last_error(), "Broken pipe"));
	struct iovec iov = { (uint8_t[40000]){ 0 }, 40000 };
	assert_int_equal(stream_sendv(&a->s, &iov, 1), STREAM_BROKEN);
	assert_true(stream_is_open(&a->s));
	stream_want_read(&a->s, true);
	RUN_UNTIL(a->received == 77 && a->eof + a->broken == 1);
	assert_int_equal(a->failed, 0);
	release(a);
	stream_close(&a->s);
	assert_int_equal(stream_send(&a->s, "x", 1), STREAM_BROKEN);
	assert_string_equal(stream_last_error(), "could not send data: connection is closed");
	assert_int_equal(stream_sendv(&a->s, &iov, 1), STREAM_BROKEN);
}

static void test_delayed_write_that_fails_is_reported_once(void **state)
{
	struct end *a, *b;
	pair_of_kind(state, &a, &b);
	stream_want_read(&b->s, false);
	a->to_send = 10 * 1000 * 1000;
	send_more(a);
	a->to_send = 0;
	release(b);
	RUN_UNTIL(a->failed == 1);
	assert_int_equal(stream_pending(&a->s), 0);
	settle();
	assert_int_equal(a->failed, 1);
	assert_int_equal(a->drained, 0);
	release(a);
}

/* By either of the two allocations.  After it nothing more leaves: a message behind a hole would be a lie. */
static void test_out_of_memory_breaks_one_stream_only(void **state)
{
	for (unsigned long nth = 1; nth <= 2; nth++) {
		struct end *a, *b;
		enum stream_sent sent;
		pair_of_kind(state, &a, &b);
		stream_want_read(&b->s, false);
		mem_fail_after(nth);
		do {
			sent = send_pattern(a, 50000);
			assert_int_not_equal(sent, STREAM_BLOCKED);
		} while (sent == STREAM_SENT);
		mem_fail_after(0);
		assert_non_null(strstr(stream_last_error(), "Cannot allocate memory"));
		assert_int_equal(stream_pending(&a->s), 0);
		assert_int_equal(send_pattern(a, 10), STREAM_BROKEN);
		stream_want_read(&b->s, true);
		RUN_UNTIL(b->eof + b->broken == 1);
		assert_true(b->received < a->sent - 10);
		release(a);
		release(b);
	}
}

static void test_sendv_of_very_many_pieces(void **state)
{
	enum { PIECES = 3000 };
	struct end *a, *b;
	uint8_t bytes[PIECES];
	struct iovec iov[PIECES];

	pair_of_kind(state, &a, &b);
	fill(bytes, 0, PIECES);
	for (size_t i = 0; i < PIECES; i++)
		iov[i] = (struct iovec){ bytes + i, 1 };
	assert_int_not_equal(stream_sendv(&a->s, iov, PIECES), STREAM_BROKEN);
	RUN_UNTIL(b->received == PIECES);
	release(a);
	release(b);
}

static void test_detach_and_attach_keep_everything(void **state)
{
	struct end *a, *b;
	struct loop *other = loop_new("other");

	pair_of_kind(state, &a, &b);
	b->read_size = 10;
	b->act = DO_DETACH;
	b->on = ON_READABLE;
	stream_want_read(&a->s, false);
	assert_int_equal(send_pattern(a, 500), STREAM_SENT);
	RUN_UNTIL(b->readable == 1);
	b->to_send = 2 * 1000 * 1000;
	send_more(b); /* pending output moves along */
	assert_true(stream_pending(&b->s) > 0);
	stream_attach(&b->s, other);
	settle();
	assert_int_equal(b->received, 0);
	while (b->received < 500)
		loop_turn(other, LOOP_POLL);
	stream_want_read(&a->s, true);
	while (a->received < b->to_send) {
		loop_turn(loop, LOOP_POLL);
		loop_turn(other, LOOP_POLL);
	}
	/* Detached with bytes inside OpenSSL and nothing in the socket. */
	assert_int_equal(send_pattern(a, 500), STREAM_SENT);
	int before = b->readable;
	while (b->readable == before)
		loop_turn(other, LOOP_POLL);
	stream_detach(&b->s);
	stream_attach(&b->s, loop);
	RUN_UNTIL(b->received == 1000);
	release(a);
	release(b);
	loop_free(other);
}

/* Moved inside its own callback, before anything is read: the bytes come to the new owner; the old memory may go at
 * once. */
static void test_move_inside_on_readable(void **state)
{
	struct end *a, *b, *c = new_end();
	pair_of_kind(state, &a, &b);
	assert_int_equal(send_pattern(a, 100), STREAM_SENT);
	RUN_UNTIL(b->received == 100);
	assert_true(stream_may_move(&b->s));
	b->on = ON_READABLE;
	b->act = DO_MOVE;
	b->heir = c;
	assert_int_equal(send_pattern(a, 500), STREAM_SENT);
	RUN_UNTIL(c->received == 500);
	assert_int_equal(b->received, 100);
	assert_int_equal(b->s.state, STREAM_CLOSED);
	release(b);
	assert_int_equal(send_pattern(c, 300), STREAM_SENT);
	RUN_UNTIL(a->received == 300);
	assert_int_equal(send_pattern(a, 70000), STREAM_SENT);
	RUN_UNTIL(c->received == 70500);
	stream_close(&a->s);
	RUN_UNTIL(c->eof == 1);
	release(a);
	release(c);
}

/* From outside, with bytes in the socket that nobody has been told of; there and back without a pause. */
static void test_move_with_bytes_on_the_way(void **state)
{
	struct end *a, *b, *c = new_end();
	pair_of_kind(state, &a, &b);
	settle();
	assert_int_equal(send_pattern(a, 500), STREAM_SENT);
	stream_move(&c->s, &b->s, &OPS, c);
	stream_move(&b->s, &c->s, &OPS, b);
	stream_move(&c->s, &b->s, &OPS, c);
	RUN_UNTIL(c->received == 500);
	assert_int_equal(b->readable, 0);
	release(a);
	release(b);
	release(c);
}

static void test_what_may_not_move(void **state)
{
	struct end *a, *b;
	pair_of_kind(state, &a, &b);
	settle();
	assert_true(stream_may_move(&b->s));
	stream_want_read(&b->s, false);
	assert_false(stream_may_move(&b->s));
	stream_want_read(&b->s, true);
	stream_want_read(&a->s, false);
	b->to_send = 2 * 1000 * 1000;
	send_more(b); /* output waits */
	assert_false(stream_may_move(&b->s));
	stream_want_read(&a->s, true);
	RUN_UNTIL(a->received == b->to_send);
	if (stream_is_tls(&a->s)) {
		b->read_size = 10;
		assert_int_equal(send_pattern(a, 500), STREAM_SENT);
		RUN_UNTIL(b->readable > 0);
		assert_true(b->received < 500);
		assert_false(stream_may_move(&b->s)); /* the rest is inside OpenSSL */
		RUN_UNTIL(b->received == 500);
	}
	stream_detach(&b->s);
	assert_false(stream_may_move(&b->s));
	release(a);
	release(b);
}

static void close_on(void **state, int on)
{
	for (int what = DO_CLOSE; what <= DO_REUSE; what++) {
		struct end *a, *b;
		if (what == DO_DETACH)
			continue;
		pair_of_kind(state, &a, &b);
		a->on = on;
		a->act = what;
		if (on == ON_DRAINED) {
			stream_want_read(&b->s, false);
			a->to_send = 1000 * 1000;
			send_more(a);
			a->to_send = 0;
			stream_want_read(&b->s, true);
		} else {
			assert_int_equal(send_pattern(b, 40000), STREAM_SENT);
		}
		int expected = what == DO_REUSE ? STREAM_OPEN : STREAM_CLOSED;
		RUN_UNTIL(a->on == ON_NOTHING);
		assert_int_equal(a->s.state, expected);
		int readable = a->readable, drained = a->drained;
		settle();
		assert_int_equal(a->drained, drained);
		assert_int_equal(a->eof, what == DO_REUSE);
		if (what == DO_CLOSE)
			assert_int_equal(a->readable, readable);
		release(a);
		release(b);
	}
}

static void test_close_inside_on_readable(void **state) { close_on(state, ON_READABLE); }
static void test_close_inside_on_drained(void **state) { close_on(state, ON_DRAINED); }

/* The memory goes in the same turn, in every order: ASan looks on. */
static void on_readable_release(struct stream *s) { release(s->owner); }

static void test_release_inside_on_readable(void **state)
{
	static const struct stream_ops suicidal = { on_readable_release, on_drained, on_open, on_failed };
	struct end *a, *b;
	pair_of_kind(state, &a, &b);
	a->s.ops = &suicidal;
	assert_int_equal(send_pattern(b, 100), STREAM_SENT);
	RUN_UNTIL(b->eof + b->broken == 1); /* plain: unread bytes make it a reset */
	release(b);
}

/* --- plain only --- */

static void test_size_of_an_idle_stream(void **state UNUSED)
{
	print_message("sizeof(struct stream) = %zu, of which struct event %zu\n", sizeof(struct stream),
	              sizeof(struct event));
	assert_true(sizeof(struct stream) <= 200);
	struct end *a, *b;
	pair_up(&a, &b);
	send_pattern(a, 1000);
	RUN_UNTIL(b->received == 1000);
	assert_true(!a->s.out && !b->s.out && !a->s.tls);
	release(a);
	release(b);
}

static void test_states(void **state UNUSED)
{
	struct stream zeroed = { 0 };
	stream_close(&zeroed);
	assert_int_equal(stream_read(&zeroed, scratch, 1), STREAM_ERROR);
	assert_string_equal(stream_state_name(zeroed.state), "CLOSED");
	assert_string_equal(stream_state_name(STREAM_HANDSHAKE), "HANDSHAKE");
}

static int listen_here(struct net_addr *addr)
{
	int fds[NET_LISTEN_MAX];
	const struct net_listen_options options = { .reuseport = true };
	assert_int_equal(net_listen_tcp("127.0.0.1", PORT, &options, fds, err, sizeof err), 1);
	assert_true(net_local_addr(fds[0], addr));
	return fds[0];
}

static struct end *accept_end(int listen_fd)
{
	struct end *e = new_end();
	struct net_addr peer;
	int fd = -1;
	enum net_accepted got;
	do {
		got = net_accept(listen_fd, &fd, &peer);
	} while (got == NET_ACCEPT_AGAIN);
	assert_int_equal(got, NET_ACCEPTED);
	stream_init_accepted(&e->s, loop, fd, &OPS, e);
	stream_want_read(&e->s, true);
	return e;
}

static void test_connect_and_send_before_it_is_open(void **state UNUSED)
{
	struct net_addr addr;
	struct end *c = new_end();
	int listen_fd = listen_here(&addr);

	assert_true(stream_init_connect(&c->s, loop, &addr, &OPS, c, err, sizeof err));
	assert_int_equal(c->s.state, STREAM_CONNECTING);
	assert_int_equal(stream_read(&c->s, scratch, 1), STREAM_AGAIN);
	assert_int_equal(send_pattern(c, 8), STREAM_BLOCKED);
	struct iovec iov = { (uint8_t[]){ pattern(8) }, 1 };
	assert_int_equal(stream_sendv(&c->s, &iov, 1), STREAM_BLOCKED);
	assert_int_equal(c->opened, 0);
	RUN_UNTIL(c->opened == 1 && c->drained == 1);
	struct end *s = accept_end(listen_fd);
	RUN_UNTIL(s->received == 9);
	assert_int_equal(send_pattern(s, 100), STREAM_SENT); /* reading was never asked for: it waits */
	settle();
	assert_int_equal(c->readable, 0);
	stream_want_read(&c->s, true);
	RUN_UNTIL(c->received == 100);
	release(c);
	release(s);
	close(listen_fd);
}

static void connect_refused(int what)
{
	struct net_addr addr;
	struct end *c = new_end();

	assert_true(net_addr_parse("127.0.0.1", PORT + 1, &addr));
	assert_true(stream_init_connect(&c->s, loop, &addr, &OPS, c, err, sizeof err));
	assert_int_equal(send_pattern(c, 8), STREAM_BLOCKED);
	c->on = ON_FAILED;
	c->act = what;
	RUN_UNTIL(c->failed == 1);
	assert_string_equal(c->why, "could not connect: Connection refused");
	settle();
	assert_int_equal(c->failed, 1);
	if (what == DO_NOTHING) {
		assert_int_equal(c->s.state, STREAM_FAILED);
		assert_int_equal(stream_send(&c->s, "x", 1), STREAM_BROKEN);
		assert_int_equal(stream_read(&c->s, scratch, 1), STREAM_ERROR);
	}
	release(c);
}

static void test_connect_refused_fails_once(void **state UNUSED) { connect_refused(DO_NOTHING); }
static void test_close_inside_on_failed(void **state UNUSED) { connect_refused(DO_CLOSE); }
static void test_next_try_inside_on_failed(void **state UNUSED) { connect_refused(DO_REUSE); }

static void test_connect_that_fails_at_once(void **state UNUSED)
{
	struct net_addr addr;
	struct end *c = new_end();
	assert_true(net_addr_parse("/nonexistent", 5432, &addr));
	assert_false(stream_init_connect(&c->s, loop, &addr, &OPS, c, err, sizeof err));
	assert_int_equal(c->s.state, STREAM_CLOSED);
	release(c);
}

static void close_on_open(int what)
{
	struct net_addr addr;
	struct end *c = new_end();
	int listen_fd = listen_here(&addr);

	assert_true(stream_init_connect(&c->s, loop, &addr, &OPS, c, err, sizeof err));
	assert_int_equal(send_pattern(c, 8), STREAM_BLOCKED);
	c->on = ON_OPEN;
	c->act = what;
	RUN_UNTIL(c->opened == 1);
	settle();
	assert_int_equal(c->drained, 0);
	release(c);
	close(listen_fd);
}

static void test_close_inside_on_open(void **state UNUSED)
{
	close_on_open(DO_CLOSE);
	close_on_open(DO_REUSE);
}

static void test_reset_by_peer_is_an_error(void **state UNUSED)
{
	struct net_addr addr;
	struct end *c = new_end();
	int listen_fd = listen_here(&addr);
	const struct linger hard = { 1, 0 };

	assert_true(stream_init_connect(&c->s, loop, &addr, &OPS, c, err, sizeof err));
	stream_want_read(&c->s, true);
	struct end *s = accept_end(listen_fd);
	RUN_UNTIL(c->opened == 1);
	setsockopt(s->s.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
	release(s);
	RUN_UNTIL(c->broken == 1);
	assert_string_equal(c->why, "could not receive data: Connection reset by peer");
	release(c);
	close(listen_fd);
}

/* A last message in front of unread input: without the discard the close resets the connection under it. */
static void test_discard_input_saves_the_last_message(void **state UNUSED)
{
	struct net_addr addr;
	struct end *c = new_end();
	int listen_fd = listen_here(&addr);

	assert_true(stream_init_connect(&c->s, loop, &addr, &OPS, c, err, sizeof err));
	struct end *s = accept_end(listen_fd);
	stream_want_read(&s->s, false);
	RUN_UNTIL(c->opened == 1);
	assert_int_equal(send_pattern(c, 3000), STREAM_SENT);
	assert_int_equal(send_pattern(s, 50), STREAM_SENT);
	usleep(1000);
	stream_discard_input(&s->s);
	release(s);
	stream_want_read(&c->s, true);
	RUN_UNTIL(c->eof + c->broken == 1);
	assert_int_equal(c->eof, 1);
	assert_int_equal(c->received, 50);
	stream_discard_input(&c->s);
	release(c);
	close(listen_fd);
}

static void test_peek_leaves_the_bytes(void **state UNUSED)
{
	struct end *a, *b;
	uint8_t first = 0;
	pair_up(&a, &b);
	assert_int_equal(stream_peek(&b->s, &first, 1), STREAM_AGAIN);
	a->expected_at = 0;
	assert_int_equal(send_pattern(a, 5), STREAM_SENT);
	assert_int_equal(stream_peek(&b->s, &first, 1), 1);
	assert_int_equal(first, pattern(0));
	RUN_UNTIL(b->received == 5);
	release(a);
	assert_int_equal(stream_peek(&b->s, &first, 1), STREAM_EOF);
	release(b);
}

/* epoll refuses plain files: the only easy way to have it refuse a descriptor.  One in memory: on some file systems
 * (FUSE) files can be watched. */
static void test_socket_that_cannot_be_watched_fails(void **state UNUSED)
{
	struct end *a = new_end();
	stream_init_accepted(&a->s, loop, memfd_create("plain", MFD_CLOEXEC), &OPS, a);
	stream_want_read(&a->s, true);
	assert_int_equal(a->failed, 0);
	settle();
	assert_int_equal(a->failed, 1);
	assert_string_equal(a->why, "could not watch the socket");
	assert_int_equal(a->s.state, STREAM_FAILED);
	release(a);
}

static void test_release_fd_leaves_the_socket_open(void **state UNUSED)
{
	struct end *a, *b;
	pair_up(&a, &b);
	int fd = stream_release_fd(&a->s);
	assert_int_equal(a->s.state, STREAM_CLOSED);
	stream_init_accepted(&a->s, loop, fd, &OPS, a);
	assert_int_equal(send_pattern(a, 5), STREAM_SENT);
	RUN_UNTIL(b->received == 5);
	release(a);
	release(b);
}

/* Each wish is a system call at most once per callback, however often the owner changes its mind. */
static void on_readable_undecided(struct stream *s)
{
	struct end *e = s->owner;
	for (int i = 0; i < 9; i++)
		stream_want_read(s, i % 2);
	assert_true(s->armed);
	stream_want_read(s, true);
	(void)e;
	on_readable(s);
}

static void test_interest_is_settled_after_the_callback(void **state UNUSED)
{
	static const struct stream_ops undecided = { on_readable_undecided, on_drained, on_open, on_failed };
	struct end *a, *b;
	pair_up(&a, &b);
	b->s.ops = &undecided;
	assert_int_equal(send_pattern(a, 5), STREAM_SENT);
	RUN_UNTIL(b->received == 5);
	assert_true(b->s.armed);
	release(a);
	release(b);
}

/* --- TLS only --- */

static void test_tls_facts_are_there(void **state UNUSED)
{
	struct end *a, *b;
	char text[80];
	pair_up(&a, &b);
	assert_null(stream_ssl(&a->s));
	encrypt(a, b);
	assert_string_equal(tls_describe(stream_ssl(&a->s), text, sizeof text), "TLSv1.3/TLS_AES_256_GCM_SHA384");
	assert_true(tls_alpn_agreed(stream_ssl(&b->s)));
	release(a);
	release(b);
}

/* As PostgreSQL does it: the 'S' in clear just before, and the client's first message at once when open. */
static void on_open_and_send(struct stream *s)
{
	on_open(s);
	if (s->state == STREAM_OPEN)
		send_more(s->owner);
}

static void test_tls_first_message_right_behind_the_handshake(void **state UNUSED)
{
	static const struct stream_ops eager = { on_readable, on_drained, on_open_and_send, on_failed };
	struct end *a, *b;
	pair_up(&a, &b);
	b->s.ops = &eager;
	b->to_send = 100;
	encrypt(a, b);
	RUN_UNTIL(a->received == 100);
	release(a);
	release(b);
}

static void test_tls_output_before_the_handshake_leaves_first(void **state UNUSED)
{
	struct end *a, *b;
	pair_up(&a, &b);
	stream_want_read(&b->s, false);
	a->to_send = 1000 * 1000;
	send_more(a);
	a->to_send = a->sent;
	assert_true(stream_pending(&a->s) > 0);
	assert_true(stream_start_tls_server(&a->s, server_ctx));
	assert_int_equal(stream_send(&a->s, "x", 1), STREAM_BROKEN);
	assert_string_equal(stream_last_error(), "could not send data: TLS is being negotiated");
	stream_want_read(&b->s, true);
	RUN_UNTIL(b->received == a->to_send);
	assert_true(stream_start_tls_client(&b->s, client_ctx, NULL));
	RUN_UNTIL(a->opened == 1 && b->opened == 1);
	assert_int_equal(a->drained, 0); /* on_open says it all */
	assert_int_equal(send_pattern(a, 1000), STREAM_SENT);
	RUN_UNTIL(b->received == a->sent);
	release(a);
	release(b);
}

static void test_tls_handshake_with_no_tls_peer_fails(void **state UNUSED)
{
	struct end *a, *b;
	pair_up(&a, &b);
	assert_true(stream_start_tls_server(&a->s, server_ctx));
	assert_int_equal(stream_send(&b->s, "GET / HTTP/1.0\r\n\r\n", 18), STREAM_SENT);
	b->ignore_input = true;
	RUN_UNTIL(a->failed == 1);
	assert_string_equal(a->why, "TLS: http request");
	assert_int_equal(a->s.state, STREAM_FAILED);
	settle();
	assert_int_equal(a->failed, 1);
	release(a);
	release(b);
	pair_up(&a, &b);
	assert_true(stream_start_tls_client(&a->s, client_ctx, "db.example"));
	stream_want_read(&b->s, false);
	settle();
	stream_discard_input(&b->s);
	release(b);
	a->on = ON_FAILED;
	a->act = DO_CLOSE;
	RUN_UNTIL(a->failed == 1);
	assert_string_equal(a->why, "TLS: connection closed by peer");
	release(a);
}

static void test_tls_close_inside_on_open(void **state UNUSED)
{
	for (int what = DO_CLOSE; what <= DO_REUSE; what++) {
		struct end *a, *b;
		pair_up(&a, &b);
		a->on = ON_OPEN;
		a->act = what;
		assert_true(stream_start_tls_server(&a->s, server_ctx));
		assert_true(stream_start_tls_client(&b->s, client_ctx, NULL));
		RUN_UNTIL(a->opened == 1 && b->opened == 1);
		settle();
		if (what == DO_DETACH)
			assert_null(a->s.loop);
		release(a);
		release(b);
	}
}

static void test_tls_start_fails_without_memory(void **state UNUSED)
{
	struct end *a, *b;
	pair_up(&a, &b);
	mem_fail_after(1);
	assert_false(stream_start_tls_server(&a->s, server_ctx));
	assert_string_equal(stream_last_error(), "could not start TLS: out of memory");
	assert_true(stream_is_open(&a->s) && !stream_is_tls(&a->s));
	encrypt(a, b);
	release(a);
	release(b);
}

static void test_tls_verify_full_needs_a_host(void **state UNUSED)
{
	struct tls_options o = { .mode = TLS_VERIFY_FULL, .ca_file = server_id.cert_file };
	struct tls_ctx *strict = tls_ctx_new_client(&o, err, sizeof err);
	struct end *a, *b;

	pair_up(&a, &b);
	assert_false(stream_start_tls_client(&a->s, strict, NULL));
	assert_string_equal(stream_last_error(), "TLS mode \"verify-full\" needs a host name");
	assert_true(stream_is_open(&a->s));
	/* And with the wrong one both sides hear of it. */
	assert_true(stream_start_tls_client(&a->s, strict, "other.example"));
	assert_true(stream_start_tls_server(&b->s, server_ctx));
	RUN_UNTIL(a->failed == 1 && b->failed + b->broken == 1);
	assert_string_equal(a->why, "TLS: certificate verify failed: hostname mismatch");
	assert_non_null(strstr(b->why, "alert bad certificate"));
	tls_ctx_unref(strict);
	release(a);
	release(b);
}

static bool was_told_goodbye(struct end *e) { return SSL_get_shutdown(stream_ssl(&e->s)) & SSL_RECEIVED_SHUTDOWN; }

static void test_tls_close_says_goodbye_unless_output_is_stuck(void **state UNUSED)
{
	for (int stuck = 0; stuck < 2; stuck++) {
		struct end *a, *b;
		pair_up(&a, &b);
		encrypt(a, b);
		stream_want_read(&b->s, !stuck);
		a->to_send = stuck ? 1000 * 1000 : 10;
		send_more(a);
		assert_int_equal(stream_pending(&a->s) > 0, stuck);
		release(a);
		stream_want_read(&b->s, true);
		RUN_UNTIL(b->eof == 1);
		assert_int_equal(was_told_goodbye(b), !stuck);
		release(b);
	}
}

/* What another connection left in OpenSSL's per-thread queue of errors is not ours. */
static void test_tls_does_not_see_other_peoples_errors(void **state UNUSED)
{
	struct end *a, *b;
	pair_up(&a, &b);
	assert_true(stream_start_tls_server(&a->s, server_ctx));
	assert_true(stream_start_tls_client(&b->s, client_ctx, "db.example"));
	while (a->opened + b->opened < 2) {
		ERR_raise(ERR_LIB_USER, 1);
		loop_turn(loop, LOOP_POLL);
		assert_int_equal(a->failed + b->failed, 0);
	}
	for (int i = 0; i < 5; i++) {
		ERR_raise(ERR_LIB_USER, 1);
		assert_int_equal(send_pattern(a, 10), STREAM_SENT);
		ERR_raise(ERR_LIB_USER, 1);
		loop_turn(loop, LOOP_POLL);
		ERR_raise(ERR_LIB_USER, 1);
		assert_int_equal(stream_read(&b->s, scratch, 1), STREAM_AGAIN);
	}
	assert_int_equal(b->received, 50);
	ERR_clear_error();
	release(a);
	release(b);
}

/* One peer's full buffers do not stop the others: a turn serves only so much of what OpenSSL holds. */
static void test_tls_turn_is_bounded(void **state UNUSED)
{
	struct end *a, *b;
	pair_up(&a, &b);
	encrypt(a, b);
	b->read_size = 1;
	assert_int_equal(send_pattern(a, 1000), STREAM_SENT);
	while (b->received < 1000) {
		size_t before = b->received;
		loop_turn(loop, LOOP_WAIT); /* would hang if what is held were forgotten */
		assert_true(b->received - before <= 8);
	}
	release(a);
	release(b);
}

/* Cut in the middle of nothing, without close_notify: an end, not an error. */
static void test_tls_cut_without_goodbye_is_an_end(void **state UNUSED)
{
	struct end *a, *b;
	pair_up(&a, &b);
	encrypt(a, b);
	assert_int_equal(send_pattern(a, 10), STREAM_SENT);
	shutdown(a->s.fd, SHUT_RDWR);
	RUN_UNTIL(b->eof == 1);
	assert_int_equal(b->received, 10);
	release(a);
	release(b);
}

static void test_tls_rubbish_is_an_error(void **state UNUSED)
{
	static const uint8_t rubbish[] = { 23, 3,  3,  0,  40, 1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
		                           11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
		                           26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40 };
	struct end *a, *b;
	pair_up(&a, &b);
	encrypt(a, b);
	/* Behind good bytes in one segment: those come first, the error with the next call. */
	stream_want_read(&b->s, false);
	assert_int_equal(send_pattern(a, 10), STREAM_SENT);
	assert_int_equal(send(a->s.fd, rubbish, sizeof rubbish, 0), sizeof rubbish);
	stream_want_read(&b->s, true);
	RUN_UNTIL(b->broken == 1);
	assert_int_equal(b->received, 10);
	assert_int_equal(stream_send(&b->s, "x", 1), STREAM_BROKEN);
	release(a);
	release(b);
}

/* A KeyUpdate that asks for one back makes a reader write. */
static void test_tls_key_updates_under_a_blocked_socket(void **state UNUSED)
{
	struct end *a, *b;
	pair_up(&a, &b);
	encrypt(a, b);
	/* b cannot write (a does not read), and must answer key updates while it reads. */
	stream_want_read(&a->s, false);
	b->to_send = 3 * 1000 * 1000;
	send_more(b);
	assert_true(stream_pending(&b->s) > 0);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(SSL_key_update(stream_ssl(&a->s), SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_not_equal(send_pattern(a, 1000), STREAM_BROKEN);
		loop_turn(loop, LOOP_POLL);
	}
	settle();
	int calls = b->readable;
	settle();
	assert_true(b->readable - calls < 10); /* it waits, and does not spin */
	stream_want_read(&a->s, true);
	RUN_UNTIL(a->received == b->to_send && b->received == a->sent);
	release(a);
	release(b);
}

/* Each update is answered; a peer that asks for ever and never reads must not fill our memory. */
static void test_tls_key_update_flood_is_cut_off(void **state UNUSED)
{
	struct end *a, *b;
	pair_up(&a, &b);
	encrypt(a, b);
	stream_want_read(&a->s, false);
	b->to_send = 1000 * 1000;
	send_more(b);
	b->to_send = 0;
	size_t pending = stream_pending(&b->s);
	for (int i = 0; i < 100000 && b->broken == 0; i++) {
		assert_int_equal(SSL_key_update(stream_ssl(&a->s), SSL_KEY_UPDATE_REQUESTED), 1);
		if (stream_send(&a->s, "", 1) == STREAM_BROKEN)
			break;
		b->ignore_input = true;
		loop_turn(loop, LOOP_POLL);
		assert_true(stream_pending(&b->s) <= pending + 65536);
	}
	assert_int_equal(b->broken, 1);
	assert_string_equal(b->why, "TLS: No buffer space available");
	release(a);
	release(b);
}

#ifdef PGWEIR_TEST_BUILD
/* One recv() per wake-up, and none to hear EAGAIN: rule of the hot path. */
static int recv_calls;

static ssize_t counting_recv(int fd, void *p, size_t n, int flags)
{
	recv_calls++;
	return recv(fd, p, n, flags);
}

static int send_calls;

static ssize_t counting_send(int fd, const void *p, size_t n, int flags)
{
	send_calls++;
	return send(fd, p, n, flags);
}

static void test_one_recv_and_one_send_per_message(void **state)
{
	static const struct stream_test_io counting = { counting_recv, counting_send };
	struct end *a, *b;
	struct iovec iov[2];
	uint8_t bytes[200];

	pair_of_kind(state, &a, &b);
	settle();
	stream_test_set_io(&counting);
	for (int i = 1; i <= 20; i++) {
		recv_calls = send_calls = 0;
		fill(bytes, a->sent, sizeof bytes);
		iov[0] = (struct iovec){ bytes, 50 };
		iov[1] = (struct iovec){ bytes + 50, 150 };
		if (i % 2 == 0 || !stream_is_tls(&a->s)) /* the plain shim takes piece by piece */
			assert_int_equal(stream_send(&a->s, bytes, sizeof bytes), STREAM_SENT);
		else
			assert_int_equal(stream_sendv(&a->s, iov, 2), STREAM_SENT);
		a->sent += sizeof bytes;
		RUN_UNTIL(b->received == a->sent);
		settle();
		assert_int_equal(send_calls, 1);
		assert_int_equal(recv_calls, 1);
	}
	release(a);
	release(b);
}

/* Records that wait together come with one recv, in one on_readable. */
static void test_tls_batch_of_records_is_one_recv(void **state UNUSED)
{
	static const struct stream_test_io counting = { counting_recv, counting_send };
	struct end *a, *b;
	pair_up(&a, &b);
	encrypt(a, b);
	stream_want_read(&b->s, false);
	for (int i = 0; i < 20; i++)
		assert_int_equal(send_pattern(a, 100), STREAM_SENT);
	settle();
	recv_calls = b->readable = 0;
	stream_test_set_io(&counting);
	stream_want_read(&b->s, true);
	RUN_UNTIL(b->received == 2000);
	settle();
	assert_int_equal(recv_calls, 1);
	assert_int_equal(b->readable, 1);
	release(a);
	release(b);
}

/* A record and a half: that the rest is not there yet must be known without a system call. */
static size_t may_leave; /* bytes; then the socket is "full" */

static ssize_t rationed_send(int fd, const void *p, size_t n, int flags)
{
	n = n < may_leave ? n : may_leave;
	may_leave -= n;
	if (n > 0)
		return send(fd, p, n, flags);
	errno = EAGAIN;
	return -1;
}

static void test_tls_half_a_record_is_no_reason_to_read_again(void **state UNUSED)
{
	static const struct stream_test_io rationed = { counting_recv, rationed_send };
	struct end *a, *b;
	pair_up(&a, &b);
	encrypt(a, b);
	stream_test_set_io(&rationed);
	recv_calls = 0;
	may_leave = 200;
	assert_int_equal(send_pattern(a, 100), STREAM_SENT);
	assert_int_equal(send_pattern(a, 100), STREAM_BLOCKED);
	RUN_UNTIL(b->received == 100);
	settle();
	assert_int_equal(recv_calls, 1);
	may_leave = 1000;
	RUN_UNTIL(b->received == 200);
	settle();
	assert_int_equal(recv_calls, 2);
	release(a);
	release(b);
}

/* Chopped: every transfer is at most `bite` bytes, and every third one is refused. */
static size_t bite;
static unsigned refusals;

static ssize_t chopped_recv(int fd, void *p, size_t n, int flags)
{
	if (refusals++ % 3 == 2) {
		errno = refusals % 2 ? EAGAIN : EINTR;
		return -1;
	}
	return recv(fd, p, n < bite ? n : bite, flags);
}

static ssize_t chopped_send(int fd, const void *p, size_t n, int flags)
{
	if (refusals++ % 3 == 2) {
		errno = refusals % 2 ? EAGAIN : EINTR;
		return -1;
	}
	return send(fd, p, n < bite ? n : bite, flags);
}

static void test_chopped_transfers_lose_nothing(void **state)
{
	static const struct stream_test_io chopped = { chopped_recv, chopped_send };
	static const size_t bites[] = { 1, 2, 7, 4096 };

	for (size_t i = 0; i < ARRAY_LEN(bites); i++) {
		struct end *a, *b;
		uint8_t bytes[900];
		struct iovec iov[] = { { bytes, 5 }, { bytes + 5, 0 }, { bytes + 5, 895 } };
		bite = bites[i];
		refusals = 0;
		stream_test_set_io(&chopped);
		pair_of_kind(state, &a, &b); /* the handshake is chopped as well */
		a->to_send = b->to_send = bite < 4096 ? 20000 : 500000;
		b->read_size = 333;
		send_more(a);
		send_more(b);
		fill(bytes, a->to_send, sizeof bytes);
		RUN_UNTIL(b->received == a->to_send && a->received == b->to_send);
		assert_int_not_equal(stream_sendv(&a->s, iov, 3), STREAM_BROKEN);
		RUN_UNTIL(b->received == a->to_send + sizeof bytes);
		assert_int_equal(stream_pending(&a->s) + stream_pending(&b->s), 0);
		release(a);
		RUN_UNTIL(b->eof == 1);
		release(b);
	}
}

/* Run in a process of its own, see test_environment_chops_everything(). */
static void test_chopped_by_environment(void **state UNUSED)
{
	struct end *a, *b;
	pair_up(&a, &b);
	assert_int_equal(send_pattern(a, 10), STREAM_BLOCKED);
	assert_int_equal(stream_pending(&a->s), 7);
	struct iovec iov = { (uint8_t[]){ pattern(10), pattern(11) }, 2 };
	assert_int_equal(stream_sendv(&a->s, &iov, 1), STREAM_BLOCKED);
	assert_int_equal(stream_peek(&b->s, scratch, 100), 3);
	assert_int_equal(stream_read(&b->s, scratch, 2), 2);
	take(b, 2);
	RUN_UNTIL(b->received == 12);
	encrypt(a, b);
	a->sent = 12;
	assert_int_equal(send_pattern(a, 100), STREAM_BLOCKED);
	RUN_UNTIL(b->received == 112);
	release(a);
	release(b);
}

static void test_environment_chops_everything(void **state UNUSED)
{
	pid_t pid = fork();
	if (pid == 0) {
		setenv("PGWEIR_IO_CHOP", "3", 1);
		/* Its report would break into ours. */
		if (freopen("/dev/null", "w", stdout) && freopen("/dev/null", "w", stderr))
			execl("/proc/self/exe", "test_stream", "chopped", (char *)NULL);
		_exit(127);
	}
	int status = -1;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}
#endif

/* --- between threads --- */

struct hand_over {
	struct loop_msg msg;
	struct end *e;
	struct loop *to;
};

/* Thrown to and fro between two loops of two threads as messages, with data flowing all the time. */
static void on_hand_over(struct loop *here, struct loop_msg *msg)
{
	struct hand_over *h = CONTAINER_OF(msg, struct hand_over, msg);
	stream_attach(&h->e->s, here);
}

static struct loop *loops[2];
static struct hand_over transfer_msg;
static struct loop_msg stop_msg;
enum { JOURNEY = 200000 };

static void on_stop(struct loop *here, struct loop_msg *msg UNUSED) { loop_stop(here); }

static void on_readable_throw(struct stream *s)
{
	struct end *e = s->owner;
	struct loop *here = s->loop;
	uint8_t mine[1000];

	ssize_t got = stream_read(s, mine, sizeof mine);
	assert_true(got != STREAM_ERROR && got != STREAM_EOF);
	assert_true(got < 0 || is_pattern(mine, e->received, (size_t)got));
	e->received += got > 0 ? (size_t)got : 0;
	if (e->received == JOURNEY) {
		stream_close(s);
		loop_post(loops[here == loops[0]], &stop_msg);
		loop_stop(here);
		return;
	}
	struct loop *there = loops[here == loops[0]];
	stream_detach(s);
	loop_post(there, &transfer_msg.msg); /* from here on it is the other thread's */
}

static void *run_thread(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void test_stream_moves_between_threads_under_way(void **state)
{
	static const struct stream_ops thrower = { on_readable_throw, on_drained, on_open, on_failed };
	struct end *a, *b;
	pthread_t threads[2];

	pair_of_kind(state, &a, &b);
	b->s.ops = &thrower;
	transfer_msg = (struct hand_over){ .msg.fn = on_hand_over, .e = b };
	stop_msg = (struct loop_msg){ .fn = on_stop };
	for (int i = 0; i < 2; i++)
		loops[i] = loop_new("mover");
	stream_want_read(&a->s, false);
	stream_detach(&b->s);
	loop_post(loops[0], &transfer_msg.msg);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_thread, loops[i]), 0);
	a->to_send = JOURNEY;
	send_more(a);
	RUN_UNTIL(a->sent == JOURNEY && stream_pending(&a->s) == 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(b->received, JOURNEY);
	for (int i = 0; i < 2; i++)
		loop_free(loops[i]);
	release(a);
	release(b);
}

static bool plain = false, tls = true;

#define PLAIN(fn) cmocka_unit_test_prestate_setup_teardown(fn, setup, teardown, &plain)
#define BOTH(fn)                                                                                                       \
	PLAIN(fn), { #fn " (TLS)", fn, setup, teardown, &tls }

int main(int argc, char **argv)
{
#ifdef PGWEIR_TEST_BUILD
	if (argc == 2 && strcmp(argv[1], "chopped") == 0) {
		const struct CMUnitTest chopped[] = { PLAIN(test_chopped_by_environment) };
		return cmocka_run_group_tests(chopped, group_setup, group_teardown);
	}
#endif
	(void)argc;
	(void)argv;
	unsetenv("PGWEIR_IO_CHOP");
	const struct CMUnitTest tests[] = {
		PLAIN(test_size_of_an_idle_stream),
		PLAIN(test_states),
		BOTH(test_bytes_go_both_ways),
		BOTH(test_sendv_is_one_stream_of_bytes),
		BOTH(test_blocked_writer_of_50_mb_is_bounded_and_drains),
		BOTH(test_blocked_sendv_keeps_the_rest_in_order),
		BOTH(test_small_bites_get_everything),
		BOTH(test_pause_keeps_bytes_for_later),
		BOTH(test_pause_in_the_middle_of_what_was_received),
		BOTH(test_end_of_file_after_the_last_bytes),
		BOTH(test_write_to_a_peer_that_left_is_broken),
		BOTH(test_delayed_write_that_fails_is_reported_once),
		BOTH(test_out_of_memory_breaks_one_stream_only),
		BOTH(test_sendv_of_very_many_pieces),
		BOTH(test_detach_and_attach_keep_everything),
		BOTH(test_move_inside_on_readable),
		BOTH(test_move_with_bytes_on_the_way),
		BOTH(test_what_may_not_move),
		BOTH(test_close_inside_on_readable),
		BOTH(test_close_inside_on_drained),
		BOTH(test_release_inside_on_readable),
		PLAIN(test_connect_and_send_before_it_is_open),
		PLAIN(test_connect_refused_fails_once),
		PLAIN(test_close_inside_on_failed),
		PLAIN(test_next_try_inside_on_failed),
		PLAIN(test_connect_that_fails_at_once),
		PLAIN(test_close_inside_on_open),
		PLAIN(test_reset_by_peer_is_an_error),
		PLAIN(test_discard_input_saves_the_last_message),
		PLAIN(test_peek_leaves_the_bytes),
		PLAIN(test_socket_that_cannot_be_watched_fails),
		PLAIN(test_release_fd_leaves_the_socket_open),
		PLAIN(test_interest_is_settled_after_the_callback),
		PLAIN(test_tls_facts_are_there),
		PLAIN(test_tls_first_message_right_behind_the_handshake),
		PLAIN(test_tls_output_before_the_handshake_leaves_first),
		PLAIN(test_tls_handshake_with_no_tls_peer_fails),
		PLAIN(test_tls_close_inside_on_open),
		PLAIN(test_tls_start_fails_without_memory),
		PLAIN(test_tls_verify_full_needs_a_host),
		PLAIN(test_tls_close_says_goodbye_unless_output_is_stuck),
		PLAIN(test_tls_does_not_see_other_peoples_errors),
		PLAIN(test_tls_turn_is_bounded),
		PLAIN(test_tls_cut_without_goodbye_is_an_end),
		PLAIN(test_tls_rubbish_is_an_error),
		PLAIN(test_tls_key_updates_under_a_blocked_socket),
		PLAIN(test_tls_key_update_flood_is_cut_off),
#ifdef PGWEIR_TEST_BUILD
		BOTH(test_one_recv_and_one_send_per_message),
		PLAIN(test_tls_batch_of_records_is_one_recv),
		PLAIN(test_tls_half_a_record_is_no_reason_to_read_again),
		PLAIN(test_environment_chops_everything),
		BOTH(test_chopped_transfers_lose_nothing),
#endif
		BOTH(test_stream_moves_between_threads_under_way),
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
