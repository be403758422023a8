/* proxy/token.c - see proxy/token.h.
 *
 * A token that was taken is turned into a round at once: that of a sample which is at the token's position or behind
 * it. Any standby that has proved this round has replayed the token's position.  So nothing of it remains in the path
 * of a read.  A position of an older timeline than the primary's counts when the primary is known to have it
 * (cluster/history.h): what was written to a primary that was lost may be lost with it. */
#include "proxy/token.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/mem.h"
#include "base/mono.h"
#include "cluster/freshness.h"
#include "proxy/database.h"
#include "proxy/segment.h"
#include "sql/shapes.h"

struct token {
	uint64_t system_identifier, lsn;
	uint32_t timeline;
};

static bool parse_number(const char **text, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;
	const char *p = *text;
	for (; *p >= '0' && *p <= '9'; p++) {
		uint64_t digit = (uint64_t)(*p - '0');
		if (value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	bool some = p > *text && *p == ':';
	*text = p + 1;
	*out = value;
	return some;
}

static bool parse_token(const char *text, struct token *t)
{
	uint64_t timeline;
	if (!parse_number(&text, UINT64_MAX, &t->system_identifier) || !parse_number(&text, UINT32_MAX, &timeline) ||
	    timeline == 0)
		return false;
	t->timeline = (uint32_t)timeline;
	return wal_parse_lsn(text, &t->lsn);
}

static enum causal_look bad(struct pgerr *err, const char *detail)
{
	pgerr_set(err, SQLSTATE_INVALID_PARAMETER_VALUE, "invalid value for parameter \"pgweir.causal_token\"");
	pgerr_detail(err, "%s", detail);
	return CAUSAL_BAD;
}

/* For a sample later than `round`.  False: that has taken too long. */
static bool may_wait(struct client *c, uint64_t round)
{
	uint64_t now = mono_now_us();
	if (c->awaits != AWAIT_SAMPLE) {
		c->awaits = AWAIT_SAMPLE;
		c->need_round = round;
		c->fresh_deadline_us = now + config_failover_timeout_us(c->du->config, c->du->conf, c->du->conf_user);
	}
	return now < c->fresh_deadline_us;
}

static enum causal_look wait_or(struct client *c, uint64_t round, struct pgerr *err)
{
	if (may_wait(c, round))
		return CAUSAL_WAIT;
	pgerr_set(err, SQLSTATE_CANNOT_CONNECT_NOW, "there is no primary server");
	pgerr_detail(err, "None told its position within failover_timeout.");
	return CAUSAL_BAD;
}

static uint64_t newest_answer(const struct client *c) { return c->pos > c->read_round ? c->pos : c->read_round; }

static enum causal_look look_at_show(struct client *c, struct pgerr *err)
{
	uint64_t seen = newest_answer(c);
	if (cluster_last_sample(c->du->db->cluster).round > seen)
		return CAUSAL_READY;
	return wait_or(c, seen, err);
}

static enum causal_look look_at_set(struct client *c, const char *value, struct pgerr *err)
{
	struct cluster *cl = c->du->db->cluster;
	struct cluster_sample sample = cluster_last_sample(cl);
	struct token t;
	if (!parse_token(value, &t))
		return bad(err, "It is not what SHOW pgweir.causal_token says.");
	if (sample.round == 0)
		return wait_or(c, cluster_round(cl), err);
	if (t.system_identifier != sample.system_identifier)
		return bad(err, "It is of another database cluster.");
	if (t.timeline < sample.timeline)
		return history_has(sample.past, t.timeline, t.lsn)
		           ? CAUSAL_READY
		           : bad(err, "It is of an older timeline, and the primary is not known to have its position.");
	if (t.timeline == sample.timeline && t.lsn <= sample.lsn)
		return CAUSAL_READY;
	/* It may be newer than the sample, but not than one that is taken from now on. */
	if (c->awaits != AWAIT_SAMPLE || sample.round <= c->need_round)
		return wait_or(c, cluster_round(cl), err);
	return bad(err, t.timeline > sample.timeline ? "It is of a timeline that the primary has not reached."
	                                             : "It is of a position that the primary has not reached.");
}

static enum causal_look look(struct client *c, const struct segment *seg, struct pgerr *err)
{
	if (!(seg->flags & SQL_F_LOCAL_SETTING) || !seg->single)
		return CAUSAL_READY;
	const struct sql_stmt *stmt = &shape_facts(seg->shape)->stmts[0];
	if (!stmt->name || strcmp(stmt->name, "pgweir.causal_token") != 0)
		return CAUSAL_READY;
	if (stmt->verb == SQL_SHOW)
		return look_at_show(c, err);
	if ((stmt->verb == SQL_SET || stmt->verb == SQL_SET_LOCAL) && stmt->value)
		return look_at_set(c, stmt->value, err);
	return CAUSAL_READY;
}

enum causal_look token_look(struct client *c, const struct segment *seg, struct pgerr *err)
{
	enum causal_look found = look(c, seg, err);
	if (found != CAUSAL_WAIT)
		c->awaits = AWAIT_FRESH;
	return found;
}

char *token_show(struct client *c)
{
	struct cluster_sample s = cluster_last_sample(c->du->db->cluster);
	return mem_printf("%" PRIu64 ":%" PRIu32 ":%X/%X", s.system_identifier, s.timeline, (unsigned)(s.lsn >> 32),
	                  (unsigned)s.lsn);
}

void token_take(struct client *c)
{
	/* Fresh is who has proved a round later than pos. */
	uint64_t before = cluster_last_sample(c->du->db->cluster).round - 1;
	c->has_token = true;
	if (before > c->pos)
		c->pos = before;
}
