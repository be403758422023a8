/* proxy/pins.c - see proxy/pins.h. */
#include "proxy/pins.h"

#include <stdio.h>
#include "base/rules.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/pool.h"
#include "proxy/segment.h"
#include "proxy/server.h"
#include "proxy/worker.h"
#include "sql/facts.h"
#include "sql/shapes.h"
#include "wire/msg.h"

/* What can be asked for.  The namespace's own number stands for a look-up by name; everything in a temporary schema
 * depends on it. */
static const struct {
	uint32_t pin;
	const char *name, *test;
} probes[] = {
	{ SQL_PIN_TEMP, "TEMP",
	  "SELECT FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 2615::pg_catalog.oid"
	  " AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()" },
	{ SQL_PIN_HOLD_CURSOR, "HOLD_CURSOR", "SELECT FROM pg_catalog.pg_cursors WHERE is_holdable" },
	{ SQL_PIN_ADVISORY_LOCK, "ADVISORY_LOCK",
	  "SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'"
	  " AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()" },
	{ SQL_PIN_LISTEN, "LISTEN", "SELECT FROM pg_catalog.pg_listening_channels()" },
};
enum { PROBED = SQL_PIN_TEMP | SQL_PIN_HOLD_CURSOR | SQL_PIN_ADVISORY_LOCK | SQL_PIN_LISTEN };

uint32_t pins_that_last(const struct client *c, const struct server *s, uint32_t pins, bool failed)
{
	const uint32_t whatever = SQL_PIN_UNKNOWN | SQL_PIN_ADVISORY_LOCK | SQL_PIN_LOADED | SQL_PIN_CUSTOM |
	                          SQL_PIN_SETSEED | SQL_PIN_PREPARED;
	/* In a transaction that had failed before nothing has run. */
	if (failed && c->tx == CTX_FAILED && c->seg.shape && !(c->seg.flags & SQL_F_TX_CONTROL_INSIDE))
		return 0;
	if (failed && s->last_error_syntax)
		return pins & SQL_PIN_PREPARED; /* the server has told of that one */
	pins &= ~(uint32_t)SQL_PIN_SEQUENCE;    /* of the transaction, not of the statement: see below */
	return failed && c->seg.shape ? pins & whatever : pins;
}

void pins_mark_server(struct server *s, uint32_t pins)
{
	/* DISCARD ALL leaves nothing of these. */
	const uint32_t mended = SQL_PIN_HOLD_CURSOR | SQL_PIN_ADVISORY_LOCK | SQL_PIN_LISTEN | SQL_PIN_PREPARED |
	                        SQL_PIN_SETSEED | SQL_PIN_SEQUENCE;
	s->suspect |= pins != SQL_PIN_SEQUENCE; /* forgotten in front of the next client's transaction (E3) */
	s->seeded |= (pins & SQL_PIN_SETSEED) != 0;
	s->dirty |= (pins & ~mended) != 0;
}

/* --- currval() and lastval() (E3) ---
 *
 * What they say is of the session.  Once somebody of this user has asked for it, backends forget the last client's
 * values before the next one's transaction, and a client keeps its backend from a transaction that may have moved a
 * sequence to the end of the next one that does nothing of the kind.  That is a courtesy: without room for it the
 * answer is an error, never another client's value. */

static bool may_move_sequences(const struct client *c)
{
	const struct sql_facts *f = c->seg.shape ? shape_facts(c->seg.shape) : NULL;
	if (!f || (c->seg.flags & SQL_F_USES_SEQUENCE))
		return true;
	switch ((int)sql_facts_verb(f)) {
	case SQL_SELECT:
		/* A fixed result calls nothing but what is built in, and nextval() has a flag of its own. */
		return f->functions.n && !c->seg.proved && !(f->flags & SQL_F_FIXED_RESULT);
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_EXECUTE:
	case SQL_DO:
	case SQL_CALL:
	case SQL_EXPLAIN:
	case SQL_UNPARSED:
		return true;
	default:
		return false;
	}
}

bool pins_must_discard(const struct client *c, const struct server *s, const struct segment *seg)
{
	return s->sequences_of && s->sequences_of != c->id && !s->is_replica && !c->seg.open &&
	       s->tx != MSG_TX_FAILED && !RULE_BROKEN(E3) &&
	       (c->du->owner->reads_sequences || (seg->pins & (SQL_PIN_SEQUENCE | SQL_PIN_UNKNOWN)));
}

void pins_end_transaction(struct client *c, struct server *s)
{
	bool keeps = c->tx_sequences && c->du->owner->reads_sequences && s->sequences_of == c->id && !s->is_replica &&
	             c->du->pool_mode != POOL_MODE_SESSION;
	c->tx_sequences = false;
	if (!keeps) {
		c->pins &= ~(uint32_t)SQL_PIN_SEQUENCE;
		return;
	}
	if (!c->pins && !pool_pin_if_roomy(s))
		return;
	if (!c->pins)
		c->pinned_us = loop_now_us(c->worker->loop);
	c->pins |= SQL_PIN_SEQUENCE;
}

/* --- the end of a pin --- */

/* Only a read that calls nothing certainly ends nothing. */
static bool may_end_one(const struct client *c)
{
	const struct sql_facts *f = c->seg.shape ? shape_facts(c->seg.shape) : NULL;
	return !f || f->functions.n || sql_facts_verb(f) != SQL_SELECT;
}

void pins_note_segment(struct client *c, struct server *s)
{
	if (c->seg.pins & SQL_PIN_SEQUENCE)
		c->du->owner->reads_sequences = c->tx_sequences = true;
	if (may_move_sequences(c)) {
		s->sequences_of = c->id;
		c->tx_sequences = true;
	}
	if ((c->pins & PROBED) && c->du->pool_mode != POOL_MODE_SESSION && may_end_one(c) && !RULE_BROKEN(E2))
		c->after_wants |= AFTER_PINS;
}

/* --- the probe --- */

static void begin(struct client *c, struct server *s)
{
	(void)s;
	c->pins_asked = c->pins & PROBED;
	c->pins_found = 0;
}

static bool put_select(struct buf *sql, const struct client *c, const struct server *s)
{
	(void)s;
	bool first = true, ok = true;
	for (size_t i = 0; i < ARRAY_LEN(probes) && ok; i++) {
		char text[512];
		if (!(c->pins_asked & probes[i].pin))
			continue;
		int n = snprintf(text, sizeof text,
		                 "%sSELECT 'P'::pg_catalog.text, '%s', CASE WHEN EXISTS (%s) THEN 'yes' END",
		                 first ? "" : " UNION ALL ", probes[i].name, probes[i].test);
		ok = n > 0 && (size_t)n < sizeof text && buf_put(sql, text, (size_t)n);
		first = false;
	}
	return ok;
}

static void row(struct client *c, struct server *s, struct str name, struct str value)
{
	(void)s;
	for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
		if (value.p && str_eq(name, str_of(probes[i].name)))
			c->pins_found |= probes[i].pin;
	}
}

static void done(struct client *c, struct server *s, bool ok)
{
	(void)s;
	if (ok)
		c->pins &= ~(c->pins_asked & ~c->pins_found);
}

const struct after_part pins_after = { 'P', begin, put_select, row, done };
