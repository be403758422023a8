/* cluster/listening.c - see cluster/listening.h.
 *
 *   hub      CONNECTING -> IDLE <-> BUSY (a batch)          any -> freed: lost, or nobody wants it
 *   channel  NEW (its LISTEN is under way) -> LIVE -> DYING (its UNLISTEN is) -> freed
 *
 * At the end of a batch come, in this order: the answers for its new channels; what was heard; all other answers.  What
 * stands behind a LISTEN in the answer of the server is that client's, and what a channel that was live already has
 * heard by then is not.
 *
 * A room outlives its worker's loop by the references that messages and hubs have to it; `mutex` lets nothing be posted
 * to a loop that its room has left. */
#include "cluster/listening.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/dbfacts.h"
#include "monitor_priv.h"

enum {
	CONNECT_TIMEOUT_US = 5 * MONO_SEC,
	COMMAND_TIMEOUT_US = 30 * MONO_SEC,
	LOOK_US = 100 * MONO_MS,
	BARRIER_US = MONO_SEC, /* without a question; it finds out whether the server is still there */
	IDLE_US = MONO_SEC,    /* a DROP DATABASE waits for five */
};

enum request_kind { ASK_BARRIER, ASK_CHANNEL, TELL_RELEASED, TELL_LEFT };

struct listening_request {
	struct loop_msg msg;
	struct listening_room *room; /* owned reference */
	enum request_kind kind;
	listening_fn fn; /* the room's thread; NULL: dropped */
	void *arg;
	struct listening_answer answer;
	uint64_t generation; /* TELL_RELEASED */
	STAILQ_ENTRY(listening_request) link;
	char channel[LISTENING_NAME_MAX + 1];
};
STAILQ_HEAD(request_list, listening_request);

struct listening_room {
	_Atomic unsigned refs;
	struct dbfacts *facts;           /* borrowed, for ever */
	struct loop *loop;               /* borrowed while not gone */
	const struct listening_ops *ops; /* static; NULL: it has left (room's thread) */
	void *arg;                       /* room's thread */
	bool gone;                       /* lock: mutex */
	struct hub *hub;                 /* monitor's thread; NULL: none */
	LIST_ENTRY(listening_room) link; /* hub->rooms */
};

/* What crosses to a room by itself. */
struct news {
	struct loop_msg msg;
	struct listening_room *room; /* owned reference */
	const struct host *host;
	uint32_t backend_pid;
	uint64_t settled;
	size_t channel_size; /* with its NUL; 0: lost */
	char text[];         /* channel, payload */
};

struct seat {
	struct listening_room *room; /* borrowed: it is on the hub's list */
	unsigned n;                  /* registrations */
	LIST_ENTRY(seat) link;
};
enum channel_state { CHANNEL_NEW, CHANNEL_LIVE, CHANNEL_DYING };
struct channel {
	UT_hash_handle hh;
	enum channel_state state;
	bool wanted; /* by a request of the batch that is being made */
	LIST_HEAD(, seat) seats;
	char name[LISTENING_NAME_MAX + 1];
};

struct hub {
	struct dbconn conn;
	struct dbfacts *facts; /* borrowed, for ever */
	struct host *host;     /* borrowed, for ever */
	uint64_t generation, sent,
	    settled;                /* numbers of barriers: of the running batch, of the newest that has ended */
	uint64_t batch_us, used_us; /* when the last batch ended; when there last was a channel or a request */
	struct request_list waiting, running; /* owned */
	struct channel *channels;             /* uthash; owned */
	LIST_HEAD(, listening_room) rooms;    /* owned references */
	LIST_ENTRY(hub) link;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct loop *) monitor_loop;
static _Atomic uint64_t number;

/* The rest belongs to the monitor's thread. */
static struct {
	struct monitor *m; /* borrowed; NULL: not running */
	LIST_HEAD(, hub) hubs;
	uint64_t generation;
	struct loop_timer timer;
} self;

static const char settings[] = "-c search_path=pg_catalog -c statement_timeout=0 -c jit=off";

uint64_t listening_number(void) { return atomic_load(&number); }

/* --- rooms --- */

static struct listening_room *room_ref(struct listening_room *room)
{
	atomic_fetch_add(&room->refs, 1);
	return room;
}

static void room_unref(struct listening_room *room)
{
	if (atomic_fetch_sub(&room->refs, 1) == 1)
		mem_free(room);
}

/* False: nobody is there; the message is still the caller's. */
static bool room_post(struct listening_room *room, struct loop_msg *msg)
{
	pthread_mutex_lock(&mutex);
	bool there = !room->gone;
	if (there)
		loop_post(room->loop, msg);
	pthread_mutex_unlock(&mutex);
	return there;
}

struct listening_room *listening_join(struct dbfacts *facts, struct loop *loop, const struct listening_ops *ops,
                                      void *arg)
{
	struct listening_room *room = mem_zalloc(sizeof *room);
	atomic_init(&room->refs, 1);
	room->facts = facts;
	room->loop = loop;
	room->ops = ops;
	room->arg = arg;
	return room;
}

/* --- requests --- */

static void request_free(struct listening_request *r)
{
	room_unref(r->room);
	mem_free(r);
}

static void on_answer(struct loop *loop, struct loop_msg *msg)
{
	struct listening_request *r = CONTAINER_OF(msg, struct listening_request, msg);
	(void)loop;
	if (r->fn)
		r->fn(r->arg, &r->answer);
	else if (r->kind == ASK_CHANNEL && r->answer.ok && r->room->ops)
		listening_release(r->room, r->channel, r->answer.generation);
	request_free(r);
}

static void answer(struct listening_request *r, const struct hub *h)
{
	if (h)
		r->answer = (struct listening_answer){ true, h->settled, h->generation };
	r->msg.fn = on_answer;
	if (!room_post(r->room, &r->msg))
		request_free(r);
}

static void on_ask(struct loop *loop, struct loop_msg *msg);

static struct listening_request *post(struct listening_room *room, enum request_kind kind, const char *channel,
                                      struct listening_request fields)
{
	struct listening_request *r = mem_alloc(sizeof *r);
	struct loop *to = atomic_load(&monitor_loop);
	*r = fields;
	r->room = room_ref(room);
	r->kind = kind;
	if (channel)
		(void)str_copy(r->channel, sizeof r->channel, str_of(channel));
	r->msg.fn = on_ask;
	if (to)
		loop_post(to, &r->msg);
	else if (kind == ASK_BARRIER || kind == ASK_CHANNEL)
		answer(r, NULL);
	else
		request_free(r);
	return r;
}

struct listening_request *listening_ask(struct listening_room *room, const char *channel, listening_fn fn, void *arg)
{
	return post(room, channel ? ASK_CHANNEL : ASK_BARRIER, channel,
	            (struct listening_request){ .fn = fn, .arg = arg });
}

void listening_drop(struct listening_request *r)
{
	if (r)
		r->fn = NULL;
}

void listening_release(struct listening_room *room, const char *channel, uint64_t generation)
{
	(void)post(room, TELL_RELEASED, channel, (struct listening_request){ .generation = generation });
}

void listening_leave(struct listening_room *room)
{
	pthread_mutex_lock(&mutex);
	room->gone = true;
	pthread_mutex_unlock(&mutex);
	room->ops = NULL;
	(void)post(room, TELL_LEFT, NULL, (struct listening_request){ 0 });
	room_unref(room);
}

/* --- news --- */

static void on_news(struct loop *loop, struct loop_msg *msg)
{
	struct news *n = CONTAINER_OF(msg, struct news, msg);
	struct listening_room *room = n->room;
	(void)loop;
	if (room->ops && n->channel_size) {
		const struct listening_heard h = { .host = n->host,
			                           .backend_pid = n->backend_pid,
			                           .settled = n->settled,
			                           .channel = n->text,
			                           .payload = n->text + n->channel_size };
		room->ops->on_heard(room->arg, &h);
	} else if (room->ops) {
		room->ops->on_lost(room->arg);
	}
	mem_free(n);
	room_unref(room);
}

static void send_news(struct listening_room *room, struct news *n)
{
	n->msg.fn = on_news;
	n->room = room_ref(room);
	if (room_post(room, &n->msg))
		return;
	room_unref(room);
	mem_free(n);
}

static void pass_on(const struct hub *h, struct listening_room *room, const PGnotify *heard)
{
	size_t channel = strlen(heard->relname) + 1, payload = strlen(heard->extra) + 1;
	struct news *n = mem_alloc(sizeof *n + channel + payload);
	*n = (struct news){
		.host = h->host, .backend_pid = (uint32_t)heard->be_pid, .settled = h->settled, .channel_size = channel
	};
	memcpy(n->text, heard->relname, channel);
	memcpy(n->text + channel, heard->extra, payload);
	send_news(room, n);
}

/* To those who were registered before; a seat that was taken by the batch at hand is one of a new channel. */
static void drain(struct hub *h)
{
	PGnotify *heard;
	while ((heard = PQnotifies(h->conn.pg))) {
		struct channel *ch;
		struct seat *s;
		HASH_FIND_STR(h->channels, heard->relname, ch);
		if (ch) {
			LIST_FOREACH(s, &ch->seats, link)
			pass_on(h, s->room, heard);
		}
		PQfreemem(heard);
	}
}

/* --- channels --- */

static struct channel *find_channel(const struct hub *h, const char *name)
{
	struct channel *ch;
	HASH_FIND_STR(h->channels, name, ch);
	return ch;
}

static void channel_free(struct hub *h, struct channel *ch)
{
	struct seat *s;
	while ((s = LIST_FIRST(&ch->seats))) {
		LIST_REMOVE(s, link);
		mem_free(s);
	}
	HASH_DEL(h->channels, ch);
	mem_free(ch);
}

static struct seat *find_seat(const struct channel *ch, const struct listening_room *room)
{
	struct seat *s;
	LIST_FOREACH(s, &ch->seats, link)
	{
		if (s->room == room)
			break;
	}
	return s;
}

static void seat_release(struct seat *s, unsigned n)
{
	s->n -= n < s->n ? n : s->n;
	if (s->n)
		return;
	LIST_REMOVE(s, link);
	mem_free(s);
}

static void register_there(struct hub *h, struct listening_request *r)
{
	struct channel *ch = find_channel(h, r->channel);
	CHECK(ch != NULL);
	struct seat *s = find_seat(ch, r->room);
	if (r->room->hub != h)
		return; /* it has left meanwhile */
	if (!s) {
		s = mem_zalloc(sizeof *s);
		s->room = r->room;
		LIST_INSERT_HEAD(&ch->seats, s, link);
	}
	s->n++;
}

/* --- the end of a hub --- */

static void answer_all(struct request_list *list)
{
	struct listening_request *r;
	while ((r = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, link);
		answer(r, NULL);
	}
}

static void room_leaves(struct listening_room *room)
{
	LIST_REMOVE(room, link);
	room->hub = NULL;
	room_unref(room);
}

/* Who is registered is told before the requests are answered: some of these are theirs. */
static void hub_free(struct hub *h, bool lost)
{
	struct channel *ch, *next;
	struct listening_room *room;
	HASH_ITER(hh, h->channels, ch, next)
	channel_free(h, ch);
	while ((room = LIST_FIRST(&h->rooms))) {
		struct news *n = lost ? mem_zalloc(sizeof *n) : NULL;
		if (n)
			send_news(room, n);
		room_leaves(room);
	}
	answer_all(&h->running);
	answer_all(&h->waiting);
	LIST_REMOVE(h, link);
	dbconn_close(&h->conn);
	mem_free(h);
}

static void lose(struct hub *h, const char *why)
{
	log_warning(NULL, "the connection that listens in database \"%s\" on %s:%d was lost: %s", h->facts->dbname,
	            h->host->name, h->host->port, why);
	hub_free(h, true);
}

/* --- batches --- */

static bool put_name(struct buf *sql, const char *verb, const char *name)
{
	bool ok = buf_put(sql, verb, strlen(verb)) && buf_put(sql, " \"", 2);
	for (const char *p = name; *p && ok; p++)
		ok = (*p != '"' || buf_put(sql, p, 1)) && buf_put(sql, p, 1);
	return ok && buf_put(sql, "\";", 2);
}

/* What the batch does; all requests that wait are in it. */
static bool put_batch(struct hub *h, struct buf *sql)
{
	struct channel *ch, *next;
	struct listening_request *r;
	bool ok = true;
	HASH_ITER(hh, h->channels, ch, next)
	ch->wanted = false;
	STAILQ_FOREACH(r, &h->running, link)
	{
		if (r->kind != ASK_CHANNEL)
			continue;
		ch = find_channel(h, r->channel);
		if (!ch) {
			ch = mem_zalloc(sizeof *ch);
			memcpy(ch->name, r->channel, sizeof ch->name);
			HASH_ADD_STR(h->channels, name, ch);
			ok = ok && put_name(sql, "LISTEN", ch->name);
		}
		ch->wanted = true;
	}
	HASH_ITER(hh, h->channels, ch, next)
	{
		if (ch->state != CHANNEL_LIVE || ch->wanted || !LIST_EMPTY(&ch->seats))
			continue;
		ch->state = CHANNEL_DYING;
		ok = ok && put_name(sql, "UNLISTEN", ch->name);
	}
	return ok && buf_put(sql, "", 1);
}

static void send_batch(struct hub *h)
{
	struct buf sql = { 0 };
	CHECK(h->conn.state == DBCONN_IDLE && STAILQ_EMPTY(&h->running));
	STAILQ_CONCAT(&h->running, &h->waiting);
	if (!put_batch(h, &sql)) {
		buf_deinit(&sql);
		lose(h, "out of memory");
		return;
	}
	h->sent = atomic_fetch_add(&number, 1) + 1;
	dbconn_query(&h->conn, (const char *)buf_head(&sql), mono_now_us() + COMMAND_TIMEOUT_US);
	buf_deinit(&sql);
}

static void answer_new(struct hub *h)
{
	struct listening_request *r;
	struct request_list rest = STAILQ_HEAD_INITIALIZER(rest);
	while ((r = STAILQ_FIRST(&h->running))) {
		STAILQ_REMOVE_HEAD(&h->running, link);
		struct channel *ch = r->kind == ASK_CHANNEL ? find_channel(h, r->channel) : NULL;
		if (!ch || ch->state != CHANNEL_NEW) {
			STAILQ_INSERT_TAIL(&rest, r, link);
			continue;
		}
		register_there(h, r);
		answer(r, h);
	}
	STAILQ_CONCAT(&h->running, &rest);
}

static void answer_rest(struct hub *h)
{
	struct listening_request *r;
	while ((r = STAILQ_FIRST(&h->running))) {
		STAILQ_REMOVE_HEAD(&h->running, link);
		if (r->kind == ASK_CHANNEL)
			register_there(h, r);
		answer(r, h);
	}
}

static void settle_channels(struct hub *h)
{
	struct channel *ch, *next;
	HASH_ITER(hh, h->channels, ch, next)
	{
		if (ch->state == CHANNEL_NEW)
			ch->state = CHANNEL_LIVE;
		else if (ch->state == CHANNEL_DYING)
			channel_free(h, ch);
	}
}

static bool has_unwanted(const struct hub *h)
{
	const struct channel *ch;
	for (ch = h->channels; ch; ch = ch->hh.next) {
		if (LIST_EMPTY(&ch->seats))
			return true;
	}
	return false;
}

static void pump(struct hub *h)
{
	if (h->conn.state == DBCONN_IDLE && (!STAILQ_EMPTY(&h->waiting) || has_unwanted(h)))
		send_batch(h);
}

static void on_result(struct dbconn *conn, const PGresult *res)
{
	struct hub *h = CONTAINER_OF(conn, struct hub, conn);
	ExecStatusType status = PQresultStatus(res);
	char line[256];
	if (status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY) {
		dbconn_one_line(PQresultErrorMessage(res), line, sizeof line);
		lose(h, line);
		return;
	}
	h->batch_us = mono_now_us();
	answer_new(h);
	drain(h);
	h->settled = h->sent;
	answer_rest(h);
	settle_channels(h);
	pump(h);
}

static void on_ready(struct dbconn *conn)
{
	struct hub *h = CONTAINER_OF(conn, struct hub, conn);
	if (dbconn_in_hot_standby(conn)) {
		lose(h, "it is no primary any more");
		return;
	}
	h->batch_us = mono_now_us();
	pump(h);
}

static void on_failed(struct dbconn *conn) { lose(CONTAINER_OF(conn, struct hub, conn), conn->error); }

static void on_notify(struct dbconn *conn) { drain(CONTAINER_OF(conn, struct hub, conn)); }

static const struct dbconn_ops ops = { on_ready, on_result, on_failed, on_notify };

/* --- opening --- */

static struct hub *find_hub(const struct dbfacts *facts)
{
	struct hub *h;
	LIST_FOREACH(h, &self.hubs, link)
	{
		if (h->facts == facts)
			break;
	}
	return h;
}

static void look_later(void)
{
	if (!loop_timer_is_running(&self.timer))
		loop_timer_start(&self.timer, LOOK_US);
}

/* NULL: there is no primary, or no way to it. */
static struct hub *open_hub(struct dbfacts *facts)
{
	struct host *primary = cluster_primary(facts->cluster);
	uint64_t now_us = mono_now_us();
	if (!primary)
		return NULL;
	struct hub *h = mem_zalloc(sizeof *h);
	h->facts = facts;
	h->host = primary;
	h->generation = ++self.generation;
	h->used_us = now_us;
	STAILQ_INIT(&h->waiting);
	STAILQ_INIT(&h->running);
	dbconn_init(&h->conn, self.m->loop, &ops);
	if (!dbfacts_connect(facts, self.m, primary, &h->conn, settings, now_us + CONNECT_TIMEOUT_US)) {
		mem_free(h);
		return NULL;
	}
	LIST_INSERT_HEAD(&self.hubs, h, link);
	look_later();
	return h;
}

static void forget_seats(struct hub *h, const struct listening_room *room)
{
	struct channel *ch, *next;
	HASH_ITER(hh, h->channels, ch, next)
	{
		struct seat *s = find_seat(ch, room);
		if (s)
			seat_release(s, s->n);
	}
}

/* A registration or a room has gone. */
static void on_told(struct listening_request *r)
{
	struct hub *h = r->room->hub;
	if (h && r->kind == TELL_LEFT) {
		forget_seats(h, r->room);
		room_leaves(r->room);
	} else if (h && r->generation == h->generation) {
		struct channel *ch = find_channel(h, r->channel);
		struct seat *s = ch ? find_seat(ch, r->room) : NULL;
		if (s)
			seat_release(s, 1);
	}
	if (h)
		pump(h);
	request_free(r);
}

static void on_ask(struct loop *loop, struct loop_msg *msg)
{
	struct listening_request *r = CONTAINER_OF(msg, struct listening_request, msg);
	struct listening_room *room = r->room;
	(void)loop;
	if (r->kind == TELL_LEFT || r->kind == TELL_RELEASED) {
		on_told(r);
		return;
	}
	struct hub *h = self.m ? find_hub(room->facts) : NULL;
	if (!h && self.m && r->kind == ASK_CHANNEL)
		h = open_hub(room->facts);
	if (!h) {
		answer(r, NULL);
		return;
	}
	if (!room->hub) {
		(void)room_ref(room);
		room->hub = h;
		LIST_INSERT_HEAD(&h->rooms, room, link);
	}
	STAILQ_INSERT_TAIL(&h->waiting, r, link);
	pump(h);
}

/* --- time --- */

/* May free the hub. */
static void look_at(struct hub *h, uint64_t now_us)
{
	const struct host *primary = cluster_primary(h->facts->cluster);
	bool wanted = h->channels || !STAILQ_EMPTY(&h->waiting) || !STAILQ_EMPTY(&h->running);
	if (primary && primary != h->host) {
		lose(h, "another server is the primary now");
		return;
	}
	if (dbconn_check_deadline(&h->conn, now_us))
		return;
	if (wanted)
		h->used_us = now_us;
	if (now_us - h->used_us >= IDLE_US)
		hub_free(h, false);
	else if (h->conn.state == DBCONN_IDLE && now_us - h->batch_us >= BARRIER_US)
		send_batch(h);
}

static void on_timer(struct loop_timer *t)
{
	uint64_t now_us = mono_now_us();
	struct hub *h, *next;
	(void)t;
	for (h = LIST_FIRST(&self.hubs); h; h = next) {
		next = LIST_NEXT(h, link);
		look_at(h, now_us);
	}
	if (!LIST_EMPTY(&self.hubs))
		look_later();
}

/* --- the monitor's side --- */

void listening_start(struct monitor *m)
{
	LIST_INIT(&self.hubs);
	self.m = m;
	loop_timer_init(&self.timer, m->loop, on_timer);
	atomic_store(&monitor_loop, m->loop);
}

void listening_stop(void)
{
	atomic_store(&monitor_loop, NULL);
	while (!LIST_EMPTY(&self.hubs))
		hub_free(LIST_FIRST(&self.hubs), false);
	loop_timer_stop(&self.timer);
	self.m = NULL;
}
