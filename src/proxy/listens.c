/* proxy/listens.c - see proxy/listens.h. */
#include "proxy/listens.h"

#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>
#include "base/mem.h"
#include "base/rules.h"
#include "cluster/listening.h"
#include "proxy/client.h"
#include "proxy/consistency.h"
#include "proxy/database.h"
#include "proxy/notifiers.h"
#include "proxy/params.h"
#include "proxy/relay_priv.h"
#include "proxy/worker.h"
#include "sql/shapes.h"
#include "wire/msg.h"

enum {
	OUTPUT_PENDING_MAX = 64 * 1024,
	WAITING_BYTES_MAX = 4 * 1024 * 1024, /* of notifications for one client */
};

enum awaits { AWAIT_NOTHING, AWAIT_CHANNEL, AWAIT_START, AWAIT_READY };

/* A worker's part of a database's listening connection. */
struct listens_room {
	struct listening_room *shared;  /* owned: left at the end */
	struct dbfacts *facts;          /* borrowed, for ever */
	struct heard_channel *channels; /* uthash; owned */
	LIST_HEAD(, listens) clients;
	uint64_t settled; /* number of the newest barrier that has been answered */
	struct listens_room *next;
};

/* A registration: one client, one channel. */
struct ear {
	struct listens *of;
	struct heard_channel *channel;
	uint64_t generation;
	LIST_ENTRY(ear) of_channel, of_client;
};
LIST_HEAD(ear_list, ear);

struct heard_channel {
	UT_hash_handle hh;
	struct ear_list ears;
	char name[LISTENING_NAME_MAX + 1];
};

/* An UNLISTEN of the transaction under way. */
struct ending {
	SLIST_ENTRY(ending) link;
	bool all;
	char name[LISTENING_NAME_MAX + 1];
};

struct listens {
	struct client *c;
	struct listens_room *room;
	struct ear_list ears; /* owned */
	unsigned n;
	bool declined; /* there was no shared connection to be had: LISTEN pins from then on */
	enum awaits awaits;
	struct listening_request *request; /* while it awaits something */
	char wanted[LISTENING_NAME_MAX + 1];
	SLIST_HEAD(, ending) endings; /* owned */
	struct buf waiting;           /* NotificationResponses whose time has not come */
	LIST_ENTRY(listens) link;
};

/* --- decisions --- */

/* What is heard comes in UTF-8. */
static bool reads_utf8(const struct client *c)
{
	const char *encoding = params_get(c->view, "client_encoding");
	return encoding && strcmp(encoding, "UTF8") == 0;
}

/* Its own backend may listen as well, and would say everything twice, or in another order. */
static bool has_own_ear(const struct client *c)
{
	return (c->pins & (SQL_PIN_LISTEN | SQL_PIN_UNKNOWN)) || c->du->pool_mode == POOL_MODE_SESSION;
}

bool listens_may_share(const struct client *c, const char *channel)
{
	bool offered = c->du->config->shared_listen || listens_count(c);
	return LIKELY(!offered) ? false
	                        : c->tx == CTX_NONE && channel && strlen(channel) < LISTENING_NAME_MAX &&
	                              !has_own_ear(c) && reads_utf8(c) && !(c->listens && c->listens->declined);
}

bool listens_may_end(const struct client *c) { return c->tx == CTX_NONE && listens_count(c) && !has_own_ear(c); }

static bool has_executed(const struct client *c)
{
	const struct request_queue *q = &c->srv->reqs;
	for (uint32_t i = 0; i < requests_len(q); i++) {
		if (requests_at(q, i)->kind != REQ_FLUSH)
			return true; /* or may do so still */
	}
	return c->seg.done_rows || c->srv->error_seen;
}

bool listens_takes_over(const struct client *c, const struct segment *seg)
{
	if (LIKELY(!c->du->config->shared_listen && !c->listens) || !seg->single || c->pins || has_executed(c))
		return false;
	const struct sql_stmt *stmt = &shape_facts(seg->shape)->stmts[0];
	return stmt->verb == SQL_LISTEN ? listens_may_share(c, stmt->name)
	                                : stmt->verb == SQL_UNLISTEN && listens_may_end(c);
}

unsigned listens_count(const struct client *c) { return c->listens ? c->listens->n : 0; }

bool listens_is_waiting(const struct client *c) { return c->listens && c->listens->awaits != AWAIT_NOTHING; }

bool listens_is_elsewhere(const struct client *c) { return c->listens->n && c->listens->room->facts != c->du->facts; }

bool listens_holds(const struct client *c, char status)
{
	return c->listens->n && status == MSG_TX_IDLE && !RULE_BROKEN(G2);
}

/* --- registrations --- */

static struct ear *find_ear(const struct listens *l, const char *channel)
{
	struct ear *e;
	LIST_FOREACH(e, &l->ears, of_client)
	{
		if (strcmp(e->channel->name, channel) == 0)
			break;
	}
	return e;
}

static void add_ear(struct listens *l, const char *channel, uint64_t generation)
{
	struct listens_room *room = l->room;
	struct heard_channel *ch;
	struct ear *e = mem_zalloc(sizeof *e);
	HASH_FIND_STR(room->channels, channel, ch);
	if (!ch) {
		ch = mem_zalloc(sizeof *ch);
		(void)str_copy(ch->name, sizeof ch->name, str_of(channel));
		HASH_ADD_STR(room->channels, name, ch);
	}
	e->of = l;
	e->channel = ch;
	e->generation = generation;
	LIST_INSERT_HEAD(&ch->ears, e, of_channel);
	LIST_INSERT_HEAD(&l->ears, e, of_client);
	l->n++;
}

static void remove_ear(struct ear *e)
{
	struct listens *l = e->of;
	struct heard_channel *ch = e->channel;
	listening_release(l->room->shared, ch->name, e->generation);
	LIST_REMOVE(e, of_channel);
	LIST_REMOVE(e, of_client);
	l->n--;
	if (LIST_EMPTY(&ch->ears)) {
		HASH_DEL(l->room->channels, ch);
		mem_free(ch);
	}
	mem_free(e);
}

void listens_end_one(struct client *c, const char *channel)
{
	struct ear *e, *next;
	for (e = LIST_FIRST(&c->listens->ears); e; e = next) {
		next = LIST_NEXT(e, of_client);
		if (!channel || strcmp(e->channel->name, channel) == 0)
			remove_ear(e);
	}
}

static void forget_endings(struct listens *l)
{
	struct ending *e;
	while ((e = SLIST_FIRST(&l->endings))) {
		SLIST_REMOVE_HEAD(&l->endings, link);
		mem_free(e);
	}
}

void listens_free(struct client *c)
{
	struct listens *l = c->listens;
	if (!l)
		return;
	listening_drop(l->request);
	listens_end_one(c, NULL);
	forget_endings(l);
	buf_deinit(&l->waiting);
	LIST_REMOVE(l, link);
	mem_free(l);
	c->listens = NULL;
}

/* --- UNLISTEN in a transaction, or among other statements --- */

static void note_ending(struct listens *l, const char *channel)
{
	struct ending *e = mem_zalloc(sizeof *e);
	e->all = channel == NULL;
	if (channel)
		(void)str_copy(e->name, sizeof e->name, str_of(channel));
	SLIST_INSERT_HEAD(&l->endings, e, link);
}

void listens_note_done(struct client *c, bool failed)
{
	const struct sql_facts *f = c->seg.shape ? shape_facts(c->seg.shape) : NULL;
	if (failed || !f)
		return;
	for (unsigned i = 0; i < f->n_stmts; i++) {
		switch ((int)f->stmts[i].verb) {
		case SQL_UNLISTEN:
			note_ending(c->listens, f->stmts[i].name);
			break;
		case SQL_DISCARD_ALL:
			note_ending(c->listens, NULL);
			break;
		case SQL_ROLLBACK:
		case SQL_ROLLBACK_TO:
			/* Which of them it takes back is not looked into: rather one notification too many. */
			forget_endings(c->listens);
			break;
		default:
			break;
		}
	}
}

void listens_end_transaction(struct client *c, bool committed)
{
	const struct ending *e;
	if (committed) {
		SLIST_FOREACH(e, &c->listens->endings, link)
		listens_end_one(c, e->all ? NULL : e->name);
	}
	forget_endings(c->listens);
}

/* --- what is heard --- */

static void give_up(struct client *c, enum sqlstate id, const char *text)
{
	struct pgerr err;
	pgerr_set_fatal(&err, id, "%s", text);
	client_close(c, &err, text);
}

/* Idle for the client itself: nothing of an answer is under way, and no transaction is open. */
static bool may_send(const struct client *c)
{
	return c->state == CLIENT_IDLE && c->tx == CTX_NONE && !c->skip_to_sync &&
	       stream_pending(&c->stream) <= OUTPUT_PENDING_MAX;
}

/* B2: as any other word of the primary.  False: the client has gone. */
static bool send_now(struct client *c, const uint8_t *p, size_t n)
{
	struct host *primary = cluster_primary(c->du->db->cluster);
	consistency_note_answer(c, primary ? primary : &c->du->db->cluster->hosts[0], true);
	return client_send(c, p, n);
}

static bool send_waiting(struct client *c)
{
	struct listens *l = c->listens;
	if (buf_len(&l->waiting) == 0)
		return true;
	if (!send_now(c, buf_head(&l->waiting), buf_len(&l->waiting)))
		return false;
	buf_deinit(&l->waiting);
	return true;
}

void listens_flush(struct client *c)
{
	if (buf_len(&c->listens->waiting) && may_send(c))
		(void)send_waiting(c);
}

static bool is_ascii(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] & 0x80)
			return false;
	}
	return true;
}

/* One whole message; body: of it, behind the pid. */
static void take(struct client *c, const uint8_t *p, size_t n, size_t body)
{
	struct listens *l = c->listens;
	if (UNLIKELY(!reads_utf8(c)) && !is_ascii(p + body, n - body)) {
		give_up(c, SQLSTATE_FEATURE_NOT_SUPPORTED,
		        "cannot say a notification in this client_encoding to a session that listens by a shared "
		        "connection");
		return;
	}
	if (may_send(c)) {
		(void)(send_waiting(c) && send_now(c, p, n));
		return;
	}
	if (buf_len(&l->waiting) + n > WAITING_BYTES_MAX)
		give_up(c, SQLSTATE_OUT_OF_MEMORY, "too many notifications wait for the end of the transaction");
	else if (!buf_put(&l->waiting, p, n))
		client_close(c, NULL, "out of memory");
}

static void on_heard(void *arg, const struct listening_heard *h)
{
	struct listens_room *room = arg;
	struct heard_channel *ch;
	struct wire_writer ww;
	struct buf out = { 0 };
	enum { BODY = 9 }; /* type, length, pid */
	struct ear *e, *next;
	HASH_FIND_STR(room->channels, h->channel, ch);
	if (!ch)
		return;
	ww_init(&ww, &out);
	msg_put_notification(&ww, notifier_find_sure(h->host, h->backend_pid, h->settled), str_of(h->channel),
	                     str_of(h->payload));
	bool ok = ww_finish(&ww);
	/* Whoever is closed takes his own ear along, and with the last one the channel. */
	for (e = LIST_FIRST(&ch->ears); e; e = next) {
		next = LIST_NEXT(e, of_channel);
		if (ok)
			take(e->of->c, buf_head(&out), buf_len(&out), BODY);
		else
			client_close(e->of->c, NULL, "out of memory");
	}
	buf_deinit(&out);
}

static void on_lost(void *arg)
{
	struct listens_room *room = arg;
	struct listens *l, *next;
	for (l = LIST_FIRST(&room->clients); l; l = next) {
		next = LIST_NEXT(l, link);
		if (l->n)
			give_up(l->c, SQLSTATE_ADMIN_SHUTDOWN,
			        "the connection to the server that listens for this session was lost");
	}
}

static const struct listening_ops room_ops = { on_heard, on_lost };

bool listens_has(const struct client *c, const uint8_t *body, size_t n)
{
	const uint8_t *channel = body + sizeof(uint32_t);
	if (n < sizeof(uint32_t) || !memchr(channel, '\0', n - sizeof(uint32_t)))
		return false;
	return find_ear(c->listens, (const char *)channel) != NULL;
}

/* --- rooms --- */

static struct listens_room *room_of(struct client *c)
{
	struct worker *w = c->worker;
	struct listens_room *room;
	for (room = w->listen_rooms; room && room->facts != c->du->facts; room = room->next)
		;
	if (room)
		return room;
	room = mem_zalloc(sizeof *room);
	room->facts = c->du->facts;
	room->shared = listening_join(room->facts, w->loop, &room_ops, room);
	room->next = w->listen_rooms;
	w->listen_rooms = room;
	return room;
}

void listens_rooms_free(struct worker *w)
{
	struct listens_room *room;
	while ((room = w->listen_rooms)) {
		CHECK(LIST_EMPTY(&room->clients) && !room->channels);
		w->listen_rooms = room->next;
		listening_leave(room->shared);
		mem_free(room);
	}
}

static void begin(struct client *c)
{
	if (c->listens)
		return;
	struct listens *l = mem_zalloc(sizeof *l);
	l->c = c;
	l->room = room_of(c);
	LIST_INIT(&l->ears);
	SLIST_INIT(&l->endings);
	LIST_INSERT_HEAD(&l->room->clients, l, link);
	c->listens = l;
}

/* --- waiting --- */

static void on_answer(void *arg, const struct listening_answer *answer);

static void ask(struct listens *l, enum awaits awaits, const char *channel)
{
	CHECK(l->awaits == AWAIT_NOTHING);
	l->awaits = awaits;
	l->request = listening_ask(l->room->shared, channel, on_answer, l);
}

static void wait_idle(struct client *c)
{
	client_set_state(c, CLIENT_WAIT_LISTEN);
	c->seg.started_us = c->wait_since_us = loop_now_us(c->worker->loop);
}

bool listens_waits(struct client *c, const struct segment *seg)
{
	if (!seg->single)
		return false;
	const struct sql_stmt *stmt = &shape_facts(seg->shape)->stmts[0];
	if (stmt->verb != SQL_LISTEN || (c->listens && find_ear(c->listens, stmt->name)))
		return false;
	begin(c);
	(void)str_copy(c->listens->wanted, sizeof c->listens->wanted, str_of(stmt->name));
	wait_idle(c);
	ask(c->listens, AWAIT_CHANNEL, stmt->name);
	return true;
}

bool listens_delays(struct client *c, struct server *s, const struct segment *seg)
{
	struct listens *l = c->listens;
	if (!l->n || s->is_replica || !s->notifier || c->seg.repeats || !notifier_may_notify(seg) || RULE_BROKEN(G2) ||
	    notifier_claim(s->notifier, c->pid, l->room->settled))
		return false;
	stream_want_read(&s->stream, false);
	ask(l, AWAIT_START, NULL);
	return true;
}

void listens_hold(struct client *c)
{
	if (c->srv && c->state == CLIENT_ACTIVE)
		stream_want_read(&c->srv->stream, false);
	else
		wait_idle(c);
	ask(c->listens, AWAIT_READY, NULL);
}

bool listens_on_server_lost(struct client *c, const char *why)
{
	struct listens *l = c->listens;
	enum awaits awaited = l->awaits;
	struct pgerr err;
	listening_drop(l->request);
	l->request = NULL;
	l->awaits = AWAIT_NOTHING;
	if (awaited != AWAIT_READY)
		return false;
	/* All is known but whether something has been notified: so the session ends, as it would if this were heard. */
	relay_unlink(c);
	pgerr_set_fatal(&err, SQLSTATE_ADMIN_SHUTDOWN, "connection to the server was lost");
	client_close(c, &err, why);
	return true;
}

static bool say_ready(struct client *c)
{
	static const uint8_t ready[] = { MSG_READY_FOR_QUERY, 0, 0, 0, 5, MSG_TX_IDLE };
	return send_waiting(c) && client_send(c, ready, sizeof ready);
}

static void on_ready(struct client *c)
{
	if (!say_ready(c))
		return;
	if (c->state == CLIENT_ACTIVE) {
		reply_ready(c);
		return;
	}
	client_set_state(c, CLIENT_IDLE);
	c->request_us = loop_now_us(c->worker->loop);
	client_process(c);
}

static void on_answer(void *arg, const struct listening_answer *answer)
{
	struct listens *l = arg;
	struct client *c = l->c;
	enum awaits awaited = l->awaits;
	l->request = NULL;
	l->awaits = AWAIT_NOTHING;
	if (answer->ok)
		l->room->settled = answer->settled;
	if (awaited == AWAIT_CHANNEL) {
		if (answer->ok)
			add_ear(l, l->wanted, answer->generation);
		else
			l->declined = true;
		client_set_state(c, CLIENT_IDLE);
		client_process(c);
		return;
	}
	if (!answer->ok && l->n) {
		on_lost(l->room);
		return;
	}
	if (awaited == AWAIT_READY) {
		on_ready(c);
		return;
	}
	stream_want_read(&c->srv->stream, true);
	relay_start(c, c->srv);
	client_process(c);
}
