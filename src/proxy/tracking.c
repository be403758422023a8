/* proxy/tracking.c - see proxy/tracking.h. */
#include "proxy/tracking.h"

#include <xxhash.h>
#include "base/rules.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/params.h"
#include "proxy/relay_priv.h"
#include "proxy/server.h"
#include "proxy/settings.h"
#include "proxy/worker.h"
#include "sql/facts.h"
#include "wire/msg.h"

static bool put_text(struct buf *b, const char *s) { return buf_put(b, s, strlen(s)); }

static void set_slot(struct params_table *t, struct params **slot, struct params *value)
{
	params_unref(t, *slot);
	*slot = value;
}

void tracking_note_names(struct client *c, struct server *s, struct params *names)
{
	struct params_table *t = &c->worker->params;
	if (!params_are_among(names, s->custom))
		set_slot(t, &s->custom, params_union(t, s->custom, names));
	if (params_are_among(names, c->custom))
		return;
	set_slot(t, &c->maybe_custom, c->maybe_custom ? params_union(t, c->maybe_custom, names) : params_ref(names));
	if (c->du->pool_mode != POOL_MODE_SESSION)
		c->after_wants |= AFTER_SETTINGS;
}

void tracking_note(struct client *c, struct server *s, const struct segment *seg)
{
	if (seg->names)
		tracking_note_names(c, s, seg->names);
	/* What is parsed from here to the end of the transaction is for this client alone (D1). */
	uint64_t place[] = { c->id, c->segment_no, c->parse_key };
	c->odd_key = XXH3_64bits(place, sizeof place) | 1;
}

uint32_t tracking_take(struct client *c, uint32_t flags, uint32_t pins)
{
	const uint32_t settings = SQL_PIN_SETTING | SQL_PIN_ROLE | SQL_PIN_RESETS;
	bool asks = (pins & settings & ~(uint32_t)SQL_PIN_RESETS) || (flags & SQL_F_RESETS_SETTINGS);
	if (asks && c->du->pool_mode != POOL_MODE_SESSION && !RULE_BROKEN(E2))
		c->after_wants |= AFTER_SETTINGS;
	return pins & ~settings;
}

/* What a reset does to one of the client's start-up values. */
static bool is_reset_by(const struct sql_stmt *reset, const struct param *p)
{
	bool role = strcmp(p->name, "role") == 0;
	switch ((int)reset->verb) {
	case SQL_RESET_ALL:
		return !role && strcmp(p->name, "session_authorization") != 0;
	case SQL_DISCARD_ALL:
		return true;
	case SQL_RESET:
		/* RESET SESSION AUTHORIZATION is RESET ROLE too (guc.c, set_config_option). */
		return str_ieq(str_of(reset->name), str_of(p->name)) ||
		       (role && str_ieq(str_of(reset->name), STR("session_authorization")));
	case SQL_SET_LOCAL:
		return !reset->value && str_ieq(str_of(reset->name), str_of(p->name));
	default:
		return false;
	}
}

bool tracking_home_next(const struct client *c, const struct sql_stmt *reset, unsigned *i, struct buf *sql)
{
	while (*i < c->base->n) {
		const struct param *p = &c->base->items[(*i)++];
		if (is_reset_by(reset, p))
			return settings_put_set(sql, p, c->profile, reset->verb == SQL_SET_LOCAL);
	}
	return false;
}

bool tracking_resets_home(const struct client *c, const struct server *s, const struct sql_stmt *stmt)
{
	if (s->base == c->base || RULE_BROKEN(E7))
		return false;
	for (unsigned i = 0; i < c->base->n; i++) {
		if (is_reset_by(stmt, &c->base->items[i]))
			return true;
	}
	return false;
}

bool tracking_puts_back(const struct client *c, const struct server *s, uint32_t pins)
{
	return (pins & SQL_PIN_RESETS) && s->base != c->base && s->tx != MSG_TX_FAILED && !RULE_BROKEN(E7);
}

static bool put_pair(struct buf *sql, const struct param *p, bool first)
{
	return put_text(sql, first ? "(" : ",(") && settings_put_literal(sql, p->name) && put_text(sql, "::text,") &&
	       settings_put_literal(sql, p->value) && put_text(sql, "::text)");
}

/* What the backend started with may be what the client has set; then nothing tells whether it was reset. */
static bool is_told_apart(const struct client *c, const struct server *s, const char *name)
{
	const char *start = params_get(s->base, name), *now = params_get(c->profile, name);
	return !start || !now || strcmp(start, now) != 0;
}

/* Whether a name with a point was reset only its being empty tells. */
bool tracking_put_back(const struct client *c, const struct server *s, struct buf *sql)
{
	bool ok = put_text(sql, "SELECT pg_catalog.set_config(v.n, v.v, false) FROM (VALUES "), first = true;
	for (unsigned i = 0; i < c->base->n && ok; i++) {
		if (!is_told_apart(c, s, c->base->items[i].name))
			continue;
		ok = put_pair(sql, &c->base->items[i], first);
		first = false;
	}
	if (first)
		ok = ok && put_text(sql, "(NULL::text, NULL::text)");
	return ok &&
	       put_text(sql, ") v(n, v) WHERE EXISTS (SELECT FROM pg_catalog.pg_settings s"
	                     " WHERE pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) v.n"
	                     " AND s.source OPERATOR(pg_catalog.<>) 'session'"
	                     " AND (s.context OPERATOR(pg_catalog.=) 'user' OR"
	                     " pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on'))"
	                     " OR (pg_catalog.strpos(v.n, '.') OPERATOR(pg_catalog.>) 0"
	                     " AND pg_catalog.current_setting(v.n, true) OPERATOR(pg_catalog.=) '')") &&
	       buf_put(sql, "", 1);
}

void tracking_forget(struct client *c)
{
	c->after_wants = 0;
	c->odd_key = 0;
	set_slot(&c->worker->params, &c->maybe_custom, NULL);
}

/* --- what the backend says --- */

static void begin(struct client *c, struct server *s)
{
	(void)s;
	set_slot(&c->worker->params, &c->asked, params_ref(c->worker->params.empty));
}

/* The list of settings does not tell of these (E1). */
static bool put_custom(struct buf *sql, const struct params *names)
{
	bool ok = true;
	for (unsigned i = 0; i < names->n && ok; i++)
		ok = put_text(sql, " UNION ALL SELECT 'S',") && settings_put_literal(sql, names->items[i].name) &&
		     put_text(sql, ", pg_catalog.current_setting(") &&
		     settings_put_literal(sql, names->items[i].name) && put_text(sql, ", true)");
	return ok;
}

static bool put_select(struct buf *sql, const struct client *c, const struct server *s)
{
	(void)s;
	bool ok = put_text(sql, "SELECT 'S'::pg_catalog.text, name, setting FROM pg_catalog.pg_settings"
	                        " WHERE source OPERATOR(pg_catalog.=) 'session' OR name OPERATOR(pg_catalog.=)"
	                        " 'application_name'"
	                        " UNION ALL SELECT 'S', 'role', pg_catalog.current_setting('role')"
	                        " UNION ALL SELECT 'S', 'session_authorization', session_user");
	ok = ok && put_custom(sql, c->custom);
	return ok && (!c->maybe_custom || put_custom(sql, c->maybe_custom));
}

/* Of the transaction that the question itself is in, not of the session; transaction_timeout is of the session. */
static bool is_of_transaction(struct str name)
{
	return str_ieq(name, STR("transaction_isolation")) || str_ieq(name, STR("transaction_read_only")) ||
	       str_ieq(name, STR("transaction_deferrable"));
}

static void row(struct client *c, struct server *s, struct str name, struct str value)
{
	if (is_of_transaction(name))
		return;
	bool no_role = str_ieq(name, STR("role")) && str_eq(value, STR("none"));
	if (!value.p || (no_role && !params_get(c->base, "role")) ||
	    (str_ieq(name, STR("session_authorization")) && str_eq(value, str_of(s->pool->du->server_user))))
		return;
	params_set(&c->worker->params, &c->asked, name, value);
}

/* The client's name for what its backend has, which is a tag of ours unless the client has set another. */
static const char *application_of(const struct client *c, const char *tag, const char *value)
{
	const char *start = params_get(c->base, "application_name");
	if (tag && strcmp(tag, value) == 0)
		return params_get(c->session, "application_name");
	return start && strcmp(start, value) == 0 ? params_get(c->home, "application_name") : value;
}

/* The client's own settings, by what its backend has.  The backend was logged in without the client's start-up
 * settings: one that is not set there any more was reset, and would have gone back to its start-up value. */
static struct params *own_settings(const struct client *c, const struct server *s)
{
	struct params_table *t = &c->worker->params;
	struct params *own = params_ref(c->home);
	const char *tag = s->profile ? params_get(s->profile, "application_name") : NULL;
	for (unsigned i = 0; i < c->asked->n; i++) {
		const struct param *p = &c->asked->items[i];
		const char *value = p->value;
		if (strcmp(p->name, "application_name") == 0)
			value = application_of(c, tag, value);
		params_set(t, &own, str_of(p->name), str_of(value));
	}
	return own;
}

/* Which of the names with a point exist now: an error may have come before one was made. */
static void take_custom(struct client *c)
{
	const struct params *maybe = c->maybe_custom;
	for (unsigned i = 0; maybe && i < maybe->n; i++) {
		if (params_get(c->asked, maybe->items[i].name))
			params_set(&c->worker->params, &c->custom, str_of(maybe->items[i].name), STR(""));
	}
}

static void done(struct client *c, struct server *s, bool ok)
{
	struct params_table *t = &c->worker->params;
	if (ok) {
		struct params *own = own_settings(c, s);
		take_custom(c);
		set_slot(t, &s->pending, NULL);
		set_slot(t, &s->profile, params_union(t, s->base, c->asked));
		settings_adopt(c, own);
		params_unref(t, own);
	} else {
		relay_pin(c, s, SQL_PIN_SETTING);
	}
	set_slot(t, &c->asked, NULL);
	set_slot(t, &c->maybe_custom, NULL);
}

const struct after_part settings_after = { 'S', begin, put_select, row, done };
