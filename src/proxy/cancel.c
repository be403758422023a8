/* proxy/cancel.c - see proxy/cancel.h. */
#include "proxy/cancel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include "base/mem.h"
#include "io/stream.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/peers.h"
#include "proxy/pool.h"
#include "proxy/server.h"
#include "proxy/worker.h"
#include "wire/msg.h"

enum {
	SHARDS = 64,
	FIRST_PID = 4194305, /* PostgreSQL's own end at 4194304 (PID_MAX_LIMIT of 64-bit Linux) */
	LAST_PID = 0x7fffffff,
};

/* One for each client, so it is small: a table of chains of our own, not uthash (56 bytes an entry). */
struct entry {
	struct entry *next;
	struct worker *worker; /* borrowed, for ever */
	struct client *client; /* touched on its worker's thread only; NULL while it is asleep */
	uint32_t pid;
	uint8_t key_len;
	uint8_t key[];
};

static struct shard {
	pthread_mutex_t mutex;
	struct entry **chains; /* n_chains of them, a power of 2; owned, with what they hold */
	uint32_t n_chains, n;
} shards[SHARDS];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic uint32_t next_pid = FIRST_PID;

static void init_shards(void)
{
	for (int i = 0; i < SHARDS; i++)
		pthread_mutex_init(&shards[i].mutex, NULL);
}

static struct shard *shard_of(uint32_t pid)
{
	pthread_once(&once, init_shards);
	return &shards[pid % SHARDS];
}

static uint32_t new_pid(void)
{
	uint32_t pid = atomic_fetch_add(&next_pid, 1);
	if (pid < LAST_PID)
		return pid;
	atomic_store(&next_pid, FIRST_PID + 1);
	return FIRST_PID;
}

/* Where the pointer to it stands, or that to NULL at the chain's end; NULL: there is no table yet. */
static struct entry **place_of(const struct shard *s, uint32_t pid)
{
	if (!s->chains)
		return NULL;
	struct entry **p = &s->chains[pid / SHARDS & (s->n_chains - 1)];
	while (*p && (*p)->pid != pid)
		p = &(*p)->next;
	return p;
}

static struct entry *find(const struct shard *s, uint32_t pid)
{
	struct entry **p = place_of(s, pid);
	return p ? *p : NULL;
}

static void grow(struct shard *s)
{
	struct shard old = *s;
	s->n_chains = old.n_chains ? 2 * old.n_chains : 4;
	s->chains = mem_zalloc(s->n_chains * sizeof(struct entry *));
	for (uint32_t i = 0; i < old.n_chains; i++) {
		for (struct entry *e = old.chains[i], *next; e; e = next) {
			struct entry **p = place_of(s, e->pid);
			next = e->next;
			e->next = NULL;
			*p = e;
		}
	}
	mem_free(old.chains);
}

static bool put_in(struct entry *e)
{
	struct shard *s = shard_of(e->pid);
	pthread_mutex_lock(&s->mutex);
	if (s->n == s->n_chains)
		grow(s);
	struct entry **p = place_of(s, e->pid);
	bool is_free = !*p;
	if (is_free) {
		e->next = NULL;
		*p = e;
		s->n++;
	}
	pthread_mutex_unlock(&s->mutex);
	return is_free;
}

static struct entry *take_out(uint32_t pid)
{
	struct shard *s = shard_of(pid);
	pthread_mutex_lock(&s->mutex);
	struct entry **p = place_of(s, pid), *e = p ? *p : NULL;
	if (e) {
		*p = e->next;
		if (--s->n == 0) {
			mem_free(s->chains);
			s->chains = NULL;
			s->n_chains = 0;
		}
	}
	pthread_mutex_unlock(&s->mutex);
	return e;
}

void cancel_register(struct client *c, uint8_t key_len)
{
	struct entry *e = mem_zalloc(sizeof *e + key_len);
	CHECK(key_len <= sizeof c->key && RAND_bytes(c->key, key_len) == 1);
	c->key_len = key_len;
	memcpy(e->key, c->key, key_len);
	e->key_len = key_len;
	e->worker = c->worker;
	e->client = c;
	do {
		e->pid = new_pid();
	} while (!put_in(e));
	c->pid = e->pid;
}

bool cancel_adopt_pid(struct client *c, uint32_t pid)
{
	struct entry *e = take_out(c->pid);
	CHECK(e);
	e->pid = pid;
	bool adopted = put_in(e);
	if (!adopted) {
		e->pid = c->pid;
		CHECK(put_in(e));
	}
	c->pid = e->pid;
	return adopted;
}

void cancel_client_moved(const struct client *c, struct client *to)
{
	struct shard *s = shard_of(c->pid);
	pthread_mutex_lock(&s->mutex);
	struct entry *e = find(s, c->pid);
	if (e)
		e->client = to;
	pthread_mutex_unlock(&s->mutex);
}

void cancel_unregister(struct client *c)
{
	if (!c->pid)
		return;
	struct entry *e = take_out(c->pid);
	if (e)
		mem_free_secret(e, sizeof *e + e->key_len);
	c->pid = 0;
}

/* --- to the client's worker --- */

struct cancel_msg {
	struct loop_msg msg;
	uint32_t pid;
	uint8_t key[32];
	uint8_t key_len;
	struct worker *worker;
};

static void cancel_client(struct client *c)
{
	struct pgerr err;
	switch ((int)c->state) {
	case CLIENT_WAIT_FRESH:
	case CLIENT_WAIT_PRIMARY:
	case CLIENT_WAIT_QUIET:
	case CLIENT_WAIT_SERVER:
		if (c->seg.welcome)
			return;
		pgerr_set(&err, SQLSTATE_QUERY_CANCELED, "canceling statement due to user request");
		client_fail_segment(c, &err);
		return;
	case CLIENT_ACTIVE:
	case CLIENT_RAW:
		if (c->srv && !c->seg.after)
			cancel_server(c->srv, c->srv);
		return;
	default:
		return;
	}
}

static struct entry *find_locked(struct shard *s, uint32_t pid, const uint8_t *key, size_t key_len)
{
	struct entry *e = find(s, pid);
	return e && e->key_len == key_len && CRYPTO_memcmp(e->key, key, key_len) == 0 ? e : NULL;
}

static void on_cancel(struct loop *loop, struct loop_msg *msg)
{
	struct cancel_msg *m = CONTAINER_OF(msg, struct cancel_msg, msg);
	struct shard *s = shard_of(m->pid);
	(void)loop;
	/* The client may have left since: only this thread unregisters it, so the pointer holds until we return. */
	pthread_mutex_lock(&s->mutex);
	struct entry *e = find_locked(s, m->pid, m->key, m->key_len);
	struct client *c = NULL;
	if (e && e->worker == m->worker) {
		c = e->client;
		m->worker->stats.cancels++;
	}
	pthread_mutex_unlock(&s->mutex);
	mem_free(m);
	if (c)
		cancel_client(c);
}

static void hand_on(struct worker *w, uint32_t pid, struct str key);

void cancel_request(struct worker *at, uint32_t pid, struct str key)
{
	struct shard *s = shard_of(pid);
	struct worker *w = NULL;
	bool from_peer = peers_take_mark(&key);
	if (key.n > 32)
		return;
	pthread_mutex_lock(&s->mutex);
	struct entry *e = find_locked(s, pid, (const uint8_t *)key.p, key.n);
	if (e)
		w = e->worker;
	pthread_mutex_unlock(&s->mutex);
	if (!w && !from_peer)
		hand_on(at, pid, key);
	if (!w)
		return;
	struct cancel_msg *m = mem_zalloc(sizeof *m);
	*m = (struct cancel_msg){ .msg.fn = on_cancel, .pid = pid, .key_len = (uint8_t)key.n, .worker = w };
	memcpy(m->key, key.p, key.n);
	loop_post(w->loop, &m->msg);
}

/* --- to the server --- */

struct cancel_conn {
	struct stream stream;
	struct loop_grave grave;
	struct loop_timer timer;
	struct worker *worker;
	struct server *fence;         /* borrowed; NULL once the server has gone */
	LIST_ENTRY(cancel_conn) link; /* worker->cancels */
	int peer;                     /* id of the peer that it goes to; 0: to a server */
	uint32_t pid;
	uint16_t key_len;
	uint8_t key[256];
	bool closed;
};

static void conn_free(struct loop_grave *grave) { mem_free(CONTAINER_OF(grave, struct cancel_conn, grave)); }

/* Delivered, or failed: either way it can reach the backend no more. */
static void conn_close(struct cancel_conn *k)
{
	struct server *s = k->fence;
	if (k->closed)
		return;
	k->closed = true;
	LIST_REMOVE(k, link);
	loop_timer_stop(&k->timer);
	stream_close(&k->stream);
	k->grave.free_fn = conn_free;
	loop_bury(k->worker->loop, &k->grave);
	if (!s)
		return;
	s->cancels--;
	if (s->cancels == 0 && s->state == SERVER_FENCED)
		server_release(s);
}

static void conn_readable(struct stream *st)
{
	uint8_t byte;
	if (stream_read(st, &byte, 1) != STREAM_AGAIN)
		conn_close(st->owner); /* the postmaster closes once it has sent the signal */
}

static void conn_open(struct stream *st)
{
	struct cancel_conn *k = st->owner;
	struct buf out = { 0 };
	struct wire_writer ww;
	ww_init(&ww, &out);
	msg_put_cancel_request(&ww, k->pid, (struct str){ (char *)k->key, k->key_len });
	bool sent = ww_finish(&ww) && stream_send(st, buf_head(&out), buf_len(&out)) != STREAM_BROKEN;
	buf_deinit(&out);
	if (sent)
		stream_want_read(st, true);
	else
		conn_close(k);
}

static void conn_failed(struct stream *st, const char *why)
{
	(void)why;
	conn_close(st->owner);
}
static void conn_drained(struct stream *st) { (void)st; }
static void conn_timeout(struct loop_timer *t) { conn_close(CONTAINER_OF(t, struct cancel_conn, timer)); }

static const struct stream_ops conn_ops = { conn_readable, conn_drained, conn_open, conn_failed };

/* Connects; NULL: that failed at once. */
static struct cancel_conn *conn_new(struct worker *w, const struct net_addr *to, uint32_t pid, struct str key)
{
	struct cancel_conn *k = mem_zalloc(sizeof *k);
	uint64_t limit_us = w->runtime->config->cancel_wait_timeout_us;
	char err[128];
	CHECK(key.n <= sizeof k->key);
	k->worker = w;
	k->pid = pid;
	k->key_len = (uint16_t)key.n;
	memcpy(k->key, key.p, key.n);
	loop_timer_init(&k->timer, w->loop, conn_timeout);
	if (!stream_init_connect(&k->stream, w->loop, to, &conn_ops, k, err, sizeof err)) {
		mem_free(k);
		return NULL;
	}
	if (limit_us)
		loop_timer_start(&k->timer, limit_us);
	LIST_INSERT_HEAD(&w->cancels, k, link);
	return k;
}

static int count_to_peer(const struct worker *w, int id)
{
	const struct cancel_conn *k;
	int n = 0;
	LIST_FOREACH(k, &w->cancels, link)
	n += k->peer == id;
	return n;
}

static void hand_on(struct worker *w, uint32_t pid, struct str key)
{
	const struct peers *peers = w->runtime->peers;
	uint8_t marked[32 + PEER_MARK_BYTES];
	memcpy(marked, key.p, key.n);
	peers_put_mark(marked, key.n);
	for (unsigned i = 0; i < peers->n; i++) {
		const struct peer *to = &peers->list[i];
		if (to->pool_size && count_to_peer(w, to->id) >= to->pool_size)
			continue;
		struct cancel_conn *k =
		    conn_new(w, &to->addr, pid, (struct str){ (char *)marked, key.n + PEER_MARK_BYTES });
		if (k)
			k->peer = to->id;
	}
}

void cancel_server(struct server *s, struct server *fence)
{
	struct net_addr addr;
	uint32_t epoch;
	if (!s->cancel_key_len || !host_address(s->pool->host, &addr, &epoch) || epoch != s->address_epoch)
		return;
	struct str key = { (char *)s->cancel_key, s->cancel_key_len };
	struct cancel_conn *k = conn_new(s->pool->worker, &addr, s->backend_pid, key);
	if (!k)
		return;
	k->fence = fence;
	if (fence)
		fence->cancels++;
}

void cancels_free(struct worker *w)
{
	struct cancel_conn *k;
	while ((k = LIST_FIRST(&w->cancels)))
		conn_close(k);
}

void cancel_forget_server(struct server *s)
{
	struct cancel_conn *k;
	LIST_FOREACH(k, &s->pool->worker->cancels, link)
	{
		if (k->fence == s)
			k->fence = NULL;
	}
	s->cancels = 0;
}
