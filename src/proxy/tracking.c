/* proxy/tracking.c - see proxy/tracking.h. */
#include "proxy/tracking.h"

#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/params.h"
#include "proxy/relay_priv.h"
#include "proxy/server.h"
#include "proxy/settings.h"
#include "proxy/worker.h"
#include "sql/facts.h"

static bool put_text(struct buf *b, const char *s) { return buf_put(b, s, strlen(s)); }

uint32_t tracking_take_pins(struct client *c, uint32_t pins)
{
	const uint32_t settings = SQL_PIN_SETTING | SQL_PIN_ROLE;
	if ((pins & settings) && c->du->pool_mode != POOL_MODE_SESSION)
		c->after_wants |= AFTER_SETTINGS;
	return pins & ~settings;
}

/* --- what the backend says --- */

static void set_slot(struct params_table *t, struct params **slot, struct params *value)
{
	params_unref(t, *slot);
	*slot = value;
}

static void begin(struct client *c, struct server *s)
{
	(void)s;
	set_slot(&c->worker->params, &c->asked, params_ref(c->worker->params.empty));
}

static bool put_select(struct buf *sql, const struct client *c, const struct server *s)
{
	(void)c, (void)s;
	return put_text(sql, "SELECT 'S'::pg_catalog.text, name, setting FROM pg_catalog.pg_settings"
	                     " WHERE source OPERATOR(pg_catalog.=) 'session' OR name OPERATOR(pg_catalog.=)"
	                     " 'application_name'"
	                     " UNION ALL SELECT 'S', 'role', pg_catalog.current_setting('role')"
	                     " UNION ALL SELECT 'S', 'session_authorization', session_user");
}

static void row(struct client *c, struct server *s, struct str name, struct str value)
{
	if (!value.p || (str_ieq(name, STR("role")) && str_eq(value, STR("none"))) ||
	    (str_ieq(name, STR("session_authorization")) && str_eq(value, str_of(s->pool->du->server_user))))
		return;
	params_set(&c->worker->params, &c->asked, name, value);
}

/* The client's own settings, by what its backend has.  The backend was logged in without the client's start-up
 * settings: one that is not set there any more was reset, and would have gone back to its start-up value.  The name of
 * the application there is a tag of ours unless the client has set another. */
static struct params *own_settings(const struct client *c, const struct server *s)
{
	struct params_table *t = &c->worker->params;
	struct params *own = params_ref(c->home);
	const char *tag = s->profile ? params_get(s->profile, "application_name") : NULL;
	for (unsigned i = 0; i < c->asked->n; i++) {
		const struct param *p = &c->asked->items[i];
		const char *value = p->value;
		if (strcmp(p->name, "application_name") == 0 && tag && strcmp(tag, value) == 0)
			value = params_get(c->session, "application_name");
		params_set(t, &own, str_of(p->name), str_of(value));
	}
	return own;
}

static void done(struct client *c, struct server *s, bool ok)
{
	struct params_table *t = &c->worker->params;
	if (ok) {
		struct params *own = own_settings(c, s);
		set_slot(t, &s->pending, NULL);
		set_slot(t, &s->profile, params_ref(c->asked));
		settings_adopt(c, own);
		params_unref(t, own);
	} else {
		relay_pin(c, s, SQL_PIN_SETTING);
	}
	set_slot(t, &c->asked, NULL);
}

const struct after_part settings_after = { 'S', begin, put_select, row, done };
