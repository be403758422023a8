/* cluster/early.c - see cluster/early.h. */
#include "cluster/early.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

enum { IDS_MAX = 1 << 16, ID_DIGITS = 20 };

static bool parse_id(const char **text, uint64_t *out)
{
	const char *p = *text;
	uint64_t value = 0;
	for (; *p >= '0' && *p <= '9' && p - *text < ID_DIGITS; p++) {
		if (value > (UINT64_MAX - 9) / 10)
			return false;
		value = value * 10 + (uint64_t)(*p - '0');
	}
	bool some = p > *text;
	*text = p;
	*out = value;
	return some;
}

bool early_parse_ids(const char *text, struct early_ids *ids)
{
	unsigned room = 0;
	*ids = (struct early_ids){ 0 };
	if (!*text)
		return true;
	for (;;) {
		uint64_t id;
		if (!parse_id(&text, &id) || (*text && *text != ',') || ids->n == IDS_MAX)
			break;
		if (ids->n == room) {
			room = room ? room * 2 : 16;
			ids->at = mem_realloc(ids->at, room * sizeof *ids->at);
		}
		ids->at[ids->n++] = id;
		if (!*text++)
			return true;
	}
	early_ids_free(ids);
	return false;
}

bool early_parse_snapshot(const char *text, struct early_snapshot *s)
{
	uint64_t xmin;
	*s = (struct early_snapshot){ 0 };
	if (!parse_id(&text, &xmin) || *text++ != ':' || !parse_id(&text, &s->xmax) || *text++ != ':' ||
	    !early_parse_ids(text, &s->xip)) {
		s->xmax = 0;
		return false;
	}
	return true;
}

void early_ids_free(struct early_ids *ids)
{
	mem_free(ids->at);
	*ids = (struct early_ids){ 0 };
}

void early_snapshot_free(struct early_snapshot *s)
{
	early_ids_free(&s->xip);
	s->xmax = 0;
}

/* The standby may not be asked for ids that it has not heard of (22023), hence the comparison with its own xmax, in a
 * CASE so that it comes first. */
char *early_question(const struct early_snapshot *s)
{
	size_t room = s->xip.n * (ID_DIGITS + 1) + 1, used = 0;
	char *ids = mem_alloc(room);
	ids[0] = '\0';
	for (unsigned i = 0; i < s->xip.n; i++)
		used += (size_t)snprintf(ids + used, room - used, "%s%" PRIu64, i ? "," : "", s->xip.at[i]);
	char *sql = mem_printf("SELECT coalesce(string_agg(x::text, ','), '') FROM (SELECT unnest('{%s}'::int8[]) AS x"
	                       " UNION ALL SELECT generate_series(%" PRIu64
	                       "::int8, pg_snapshot_xmax(pg_current_snapshot())::text::int8 - 1)) AS hidden"
	                       " WHERE CASE WHEN x < pg_snapshot_xmax(pg_current_snapshot())::text::int8"
	                       " THEN pg_xact_status(x::text::xid8) = 'committed' END",
	                       ids, s->xmax);
	mem_free(ids);
	return sql;
}

static bool is_shown(const struct early_snapshot *s, uint64_t id)
{
	for (unsigned i = 0; i < s->xip.n; i++) {
		if (s->xip.at[i] == id)
			return false;
	}
	return id < s->xmax;
}

bool early_settle(struct early_ids *pending, const struct early_snapshot *s)
{
	unsigned left = 0;
	for (unsigned i = 0; i < pending->n; i++) {
		if (!is_shown(s, pending->at[i]))
			pending->at[left++] = pending->at[i];
	}
	pending->n = left;
	return left == 0;
}
