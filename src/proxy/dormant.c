/* proxy/dormant.c - see proxy/dormant.h.
 *
 * The image of a client is its memory as words.  Of each word that differs from the template's, one byte says which of
 * its bytes differ, and these follow; a bit per word says which words.  Two clients of the same application differ in
 * numbers (id, pid, key, port) and in the low bytes of times and addresses: some 80 bytes.  When many more do, the
 * template has become old (or clients of another kind fall asleep), and a new one is made of the client at hand; rarely
 * enough (TEMPLATE_EVERY) for all templates together to be small beside those that use them. */
#include "proxy/dormant.h"

#include <string.h>
#include "base/mem.h"
#include "conf/config.h"
#include "proxy/cancel.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/lostcommit.h"
#include "proxy/relay_priv.h"
#include "proxy/worker.h"

/* In a test build every idle client sleeps at the next look: all tests are tests of this, too. */
#ifdef PGWEIR_TEST_BUILD
enum { DORMANT_AFTER_US = 1 };
#else
enum { DORMANT_AFTER_US = 2 * 1000 * 1000 };
#endif

enum { TEMPLATE_EVERY = 64, TEMPLATE_POOR_BYTES = 120 };

struct client_slot {
	struct client c;
	struct net_addr peer;
};

enum { WORDS = sizeof(struct client_slot) / 8, MAP_BYTES = (WORDS + 7) / 8, PACKED_MAX = MAP_BYTES + WORDS * 9 };
_Static_assert(sizeof(struct client_slot) % 8 == 0, "a slot is not made of words");

struct image {
	uint64_t words[WORDS];
};

struct dormant_template {
	unsigned refs;
	struct image image;
};

struct dormant {
	struct stream stream;
	TAILQ_ENTRY(dormant) link; /* worker->dormant.queue */
	struct worker *worker;
	struct dbuser *du;             /* borrowed from the worker, as the client's */
	struct dormant_template *base; /* owned reference */
	uint64_t until_us;             /* client_idle_timeout ends; 0: it has none */
	uint16_t n;                    /* bytes packed */
	uint8_t packed[];
};

void dormant_set_init(struct dormant_set *d)
{
	TAILQ_INIT(&d->queue);
	slab_init(&d->slots, sizeof(struct client_slot));
}

static void template_unref(struct dormant_template *t)
{
	if (t && --t->refs == 0)
		mem_free(t);
}

void dormant_set_deinit(struct dormant_set *d)
{
	CHECK(TAILQ_EMPTY(&d->queue));
	template_unref(d->base);
	slab_deinit(&d->slots);
}

/* --- memory of those awake --- */

static struct client_slot *slot_of(struct client *c) { return CONTAINER_OF(c, struct client_slot, c); }

struct client *client_memory_new(struct worker *w, const struct net_addr *peer)
{
	struct client_slot *slot = slab_get(&w->dormant.slots);
	slot->peer = *peer;
	slot->c.peer = &slot->peer;
	slot->c.worker = w;
	return &slot->c;
}

void client_memory_free(struct loop_grave *grave)
{
	struct client_slot *slot = slot_of(CONTAINER_OF(grave, struct client, grave));
	struct worker *w = slot->c.worker;
	explicit_bzero(slot, sizeof *slot);
	slab_put(&w->dormant.slots, slot);
}

/* --- packing --- */

/* What is no part of the client's meaning: where it lies, and what its stream takes along. */
static void image_of(struct client *c, struct image *out)
{
	struct client_slot copy;
	memcpy(&copy, slot_of(c), sizeof copy);
	memset(&copy.c.stream, 0, sizeof copy.c.stream);
	memset(&copy.c.grave, 0, sizeof copy.c.grave);
	memset(&copy.c.link, 0, sizeof copy.c.link);
	memset(&copy.c.wait, 0, sizeof copy.c.wait);
	copy.c.peer = NULL;
	memcpy(out, &copy, sizeof *out);
	explicit_bzero(copy.c.key, sizeof copy.c.key);
}

static uint8_t *pack_word(uint8_t *p, uint64_t difference)
{
	uint8_t *mask = p++;
	*mask = 0;
	for (unsigned i = 0; i < 8; i++) {
		uint8_t byte = (uint8_t)(difference >> 8 * i);
		if (!byte)
			continue;
		*mask |= (uint8_t)(1u << i);
		*p++ = byte;
	}
	return p;
}

static size_t pack(const struct image *image, const struct image *base, uint8_t out[PACKED_MAX])
{
	uint8_t *p = out + MAP_BYTES;
	memset(out, 0, MAP_BYTES);
	for (unsigned i = 0; i < WORDS; i++) {
		if (image->words[i] == base->words[i])
			continue;
		out[i / 8] |= (uint8_t)(1u << i % 8);
		p = pack_word(p, image->words[i] ^ base->words[i]);
	}
	return (size_t)(p - out);
}

static void unpack(const struct dormant *d, struct client_slot *slot)
{
	struct image image = d->base->image;
	const uint8_t *p = d->packed + MAP_BYTES;
	for (unsigned i = 0; i < WORDS; i++) {
		if (!(d->packed[i / 8] >> i % 8 & 1))
			continue;
		uint8_t mask = *p++;
		for (unsigned k = 0; k < 8; k++) {
			if (mask >> k & 1)
				image.words[i] ^= (uint64_t)*p++ << 8 * k;
		}
	}
	CHECK(p == d->packed + d->n);
	memcpy(slot, &image, sizeof *slot);
	explicit_bzero(&image, sizeof image);
	slot->c.peer = &slot->peer;
}

/* A template outlives its client: it is not to hold a key. */
static void new_template(struct dormant_set *d, const struct image *image)
{
	struct client_slot slot;
	template_unref(d->base);
	d->base = mem_zalloc(sizeof *d->base);
	d->base->refs = 1;
	memcpy(&slot, image, sizeof slot);
	explicit_bzero(slot.c.key, sizeof slot.c.key);
	memcpy(&d->base->image, &slot, sizeof slot);
	d->since_base = 0;
}

static size_t pack_by_template(struct dormant_set *d, struct client *c, uint8_t out[PACKED_MAX])
{
	struct image image;
	image_of(c, &image);
	if (!d->base)
		new_template(d, &image);
	size_t n = pack(&image, &d->base->image, out);
	if (n > TEMPLATE_POOR_BYTES && d->since_base >= TEMPLATE_EVERY) {
		new_template(d, &image);
		n = pack(&image, &d->base->image, out);
	}
	d->since_base++;
	explicit_bzero(&image, sizeof image);
	return n;
}

/* --- falling asleep --- */

static bool has_work(const struct client *c)
{
	return c->in.data || c->emitted || c->waiting || c->raw_left || c->raw_drop || c->fail_next || c->failure ||
	       c->skip_to_sync || c->busy || c->look_again || c->quiet_end || c->login || c->local || c->scopes ||
	       c->quiet || c->asked || c->listens || c->worker->segment_of == c;
}

/* What is left of the last one (its reference to a shape, its figures) sleeps along. */
static bool has_segment(const struct client *c)
{
	return c->seg.open || c->seg.after || c->seg.checking || c->stmts.has_sent;
}

static bool may_sleep(const struct client *c, uint64_t now_us)
{
	return c->state == CLIENT_IDLE && c->tx == CTX_NONE && c->copy == COPY_NONE && c->du && !c->srv &&
	       !c->kept[0] && !c->kept[1] && !c->pins && now_us - c->request_us >= DORMANT_AFTER_US && !has_work(c) &&
	       !has_segment(c) && !c->worker->draining && stream_may_move(&c->stream);
}

static void on_readable(struct stream *st);
static void on_drained(struct stream *st UNUSED) {}
static void on_open(struct stream *st UNUSED) {}
static void on_failed(struct stream *st, const char *why);
static const struct stream_ops dormant_ops = { on_readable, on_drained, on_open, on_failed };

bool dormant_try(struct client *c, uint64_t now_us)
{
	struct worker *w = c->worker;
	uint8_t packed[PACKED_MAX];
	if (!may_sleep(c, now_us))
		return false;
	lostcommit_free(c); /* of its last COMMIT, which has been answered */
	size_t n = pack_by_template(&w->dormant, c, packed);
	struct dormant *d = mem_zalloc(sizeof *d + n);
	uint64_t limit_us = config_client_idle_timeout_us(c->du->config, c->du->conf, c->du->conf_user, c->conf_app);
	d->worker = w;
	d->du = c->du;
	d->base = w->dormant.base;
	d->base->refs++;
	d->until_us = limit_us ? c->request_us + limit_us : 0;
	d->n = (uint16_t)n;
	memcpy(d->packed, packed, n);
	explicit_bzero(packed, n);
	stream_move(&d->stream, &c->stream, &dormant_ops, d);
	TAILQ_INSERT_TAIL(&w->dormant.queue, d, link);
	w->dormant.n++;
	w->dormant.n_limited += d->until_us != 0;
	w->dormant.bytes += sizeof *d + n;
	TAILQ_REMOVE(&w->clients, c, link);
	cancel_client_moved(c, NULL);
	c->grave.free_fn = client_memory_free;
	loop_bury(w->loop, &c->grave);
	return true;
}

/* --- waking up --- */

/* d is gone after this. */
static struct client *wake(struct dormant *d)
{
	struct worker *w = d->worker;
	struct client_slot *slot = slab_get(&w->dormant.slots);
	unpack(d, slot);
	client_take_stream(&slot->c, &d->stream);
	TAILQ_INSERT_TAIL(&w->clients, &slot->c, link);
	cancel_client_moved(&slot->c, &slot->c);
	TAILQ_REMOVE(&w->dormant.queue, d, link);
	w->dormant.n--;
	w->dormant.n_limited -= d->until_us != 0;
	w->dormant.bytes -= sizeof *d + d->n;
	template_unref(d->base);
	mem_free_secret(d, sizeof *d + d->n);
	return &slot->c;
}

/* Nothing is read here: the socket says once more that it is readable, and the client hears it. */
static void on_readable(struct stream *st) { (void)wake(st->owner); }

static void on_failed(struct stream *st, const char *why)
{
	struct client *c = wake(st->owner);
	client_close(c, NULL, why);
}

void dormant_wake_all(struct worker *w)
{
	struct dormant *d;
	while ((d = TAILQ_FIRST(&w->dormant.queue)))
		(void)wake(d);
}

void dormant_tick(struct worker *w, uint64_t now_us)
{
	struct dormant *d, *next;
	if (!w->dormant.n_limited)
		return;
	for (d = TAILQ_FIRST(&w->dormant.queue); d; d = next) {
		next = TAILQ_NEXT(d, link);
		if (d->until_us && now_us >= d->until_us)
			client_tick(wake(d), now_us);
	}
}

/* --- looking --- */

void dormant_count(const struct worker *w, void (*fn)(const struct dbuser *du, void *arg), void *arg)
{
	const struct dormant *d;
	TAILQ_FOREACH(d, &w->dormant.queue, link)
	fn(d->du, arg);
}

static const struct client *look_at(struct client_walk *walk)
{
	if (walk->at)
		return walk->at;
	if (!walk->asleep) {
		mem_free_secret(walk->copy, sizeof *walk->copy);
		walk->copy = NULL;
		return NULL;
	}
	if (!walk->copy)
		walk->copy = mem_zalloc(sizeof *walk->copy);
	unpack(walk->asleep, walk->copy);
	walk->copy->c.stream = walk->asleep->stream;
	return &walk->copy->c;
}

const struct client *client_walk_first(struct client_walk *walk, const struct worker *w)
{
	*walk =
	    (struct client_walk){ .w = w, .at = TAILQ_FIRST(&w->clients), .asleep = TAILQ_FIRST(&w->dormant.queue) };
	return look_at(walk);
}

const struct client *client_walk_next(struct client_walk *walk)
{
	if (walk->at)
		walk->at = TAILQ_NEXT(walk->at, link);
	else
		walk->asleep = TAILQ_NEXT(walk->asleep, link);
	return look_at(walk);
}
