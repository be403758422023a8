/* proxy/client_login.c - see proxy/client_login.h.
 *
 * Order of checks: the exchange of an unknown user looks like that of a known one (SCRAM with a mock verifier), and
 * whether a database exists is told only to who is who they say. */
#include "client_login_priv.h"

#include <stdio.h>
#include <unistd.h>
#include "auth/userdb.h"
#include "base/mem.h"
#include "io/tls.h"
#include "proxy/cancel.h"
#include "proxy/database.h"
#include "proxy/limits.h"
#include "proxy/orders.h"
#include "proxy/params.h"
#include "proxy/relay.h"
#include "proxy/settings.h"
#include "proxy/worker.h"
#include "wire/msg.h"

enum { STARTUP_SETTINGS_MAX = 48 };

static const struct local_handler *local_handler;
void client_set_local_handler(const struct local_handler *handler) { local_handler = handler; }
const struct local_handler *client_local_handler(void) { return local_handler; }

void client_login_start(struct client *c, bool is_unix)
{
	struct client_login *l = mem_zalloc(sizeof *l);
	l->is_unix = is_unix;
	l->key_len = MSG_CANCEL_KEY_MIN;
	l->users = userdb_ref(c->worker->runtime->users);
	l->since_us = loop_now_us(c->worker->loop);
	c->login = l;
}

void client_login_free(struct client *c)
{
	struct client_login *l = c->login;
	if (!l)
		return;
	auth_forget(c);
	c->login = NULL;
	if (l->sasl_started)
		scram_server_deinit(&l->scram);
	userdb_unref(l->users);
	mem_free(l->user);
	mem_free(l->database);
	explicit_bzero(l, sizeof *l);
	mem_free(l);
}

bool client_login_is_too_old(const struct client *c, uint64_t now_us)
{
	uint64_t limit = c->worker->runtime->config->client_login_timeout_us;
	return c->login && limit && now_us - c->login->since_us >= limit;
}

void login_refuse(struct client *c, enum sqlstate id, const char *text)
{
	struct pgerr err;
	pgerr_set_fatal(&err, id, "%s", text);
	client_close(c, &err, text);
}

struct wire_writer login_begin_reply(struct client *c)
{
	struct wire_writer ww;
	buf_clear(&c->worker->reply);
	ww_init(&ww, &c->worker->reply);
	return ww;
}

bool login_send_reply(struct client *c, struct wire_writer *ww)
{
	if (!ww_finish(ww)) {
		client_close(c, NULL, "out of memory");
		return false;
	}
	return client_send(c, buf_head(&c->worker->reply), buf_len(&c->worker->reply));
}

/* --- TLS --- */

static void start_tls(struct client *c, struct tls_ctx *ctx)
{
	stream_want_read(&c->stream, false);
	client_set_state(c, CLIENT_TLS);
	if (!stream_start_tls_server(&c->stream, ctx))
		client_close(c, NULL, stream_last_error());
}

static void on_ssl_request(struct client *c)
{
	struct tls_ctx *ctx = c->worker->runtime->client_tls;
	/* Bytes behind an SSLRequest would have been sent in clear and be read as if encrypted (CVE-2021-3935). */
	if (buf_len(&c->in)) {
		login_refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "received unencrypted data after SSL request");
		return;
	}
	if (c->login->tls_asked || stream_is_tls(&c->stream)) {
		login_refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "SSL was requested twice");
		return;
	}
	c->login->tls_asked = true;
	if (!client_send(c, ctx && !c->login->is_unix ? "S" : "N", 1) || !ctx || c->login->is_unix)
		return;
	start_tls(c, ctx);
}

bool client_login_starts_with_tls(struct client *c)
{
	struct client_login *l = c->login;
	struct tls_ctx *ctx = c->worker->runtime->client_tls;
	uint8_t first;
	if (c->state != CLIENT_STARTUP || l->tls_asked || l->gss_refused || l->is_unix || !ctx || buf_len(&c->in) ||
	    stream_peek(&c->stream, &first, 1) != 1 || !startup_is_tls_hello(&first, 1))
		return false;
	l->tls_asked = l->tls_direct = true;
	start_tls(c, ctx);
	return true;
}

void client_login_tls_done(struct client *c)
{
	client_set_state(c, CLIENT_STARTUP);
	/* Without SSLRequest only this says that the client meant to speak to a PostgreSQL server. */
	if (c->login->tls_direct && !tls_alpn_agreed(stream_ssl(&c->stream))) {
		login_refuse(c, SQLSTATE_PROTOCOL_VIOLATION,
		             "received direct SSL connection request without ALPN protocol negotiation extension");
		return;
	}
	stream_want_read(&c->stream, true);
}

static bool tls_is_missing(const struct client *c)
{
	return c->worker->runtime->config->client_tls_sslmode >= CONF_SSL_REQUIRE && !c->login->is_unix &&
	       !stream_is_tls(&c->stream);
}

/* --- StartupMessage --- */

static bool is_replication_value(struct str v)
{
	static const char *const yes[] = { "true", "on", "yes", "1", "database" };
	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (str_ieq(v, str_of(yes[i])))
			return true;
	}
	return false;
}

/* To be dropped because the operator says so.  Not what PgBouncer keeps for each client, and so never ignores. */
static bool is_ignored(const struct client *c, struct str name)
{
	static const char *const kept[] = { "client_encoding",  "datestyle",
		                            "timezone",         "standard_conforming_strings",
		                            "application_name", "intervalstyle" };
	bool listed = conf_list_has(&c->worker->runtime->config->ignore_startup_parameters, name);
	for (size_t i = 0; i < ARRAY_LEN(kept) && listed; i++)
		listed = !str_ieq(name, str_of(kept[i]));
	return listed;
}

/* One name and value of the start-up packet or its options; false: refused. */
static bool take_setting(struct client *c, struct str name, struct str value)
{
	struct params_table *t = &c->worker->params;
	struct pgerr err;
	if (is_ignored(c, name))
		return true;
	if (str_has_prefix(name, STR("pgweir."))) {
		char *why = NULL;
		struct str key = { name.p + 7, name.n - 7 };
		if (conf_routing_set(&c->session_routing, SCOPE_SESSION, key, value, &why))
			return true;
		pgerr_set_fatal(&err, SQLSTATE_INVALID_PARAMETER_VALUE, "%s", why ? why : "invalid pgweir setting");
		mem_free(why);
		client_close(c, &err, "bad start-up setting");
		return false;
	}
	if (!settings_name_is_valid(name)) {
		pgerr_set_fatal(&err, SQLSTATE_UNDEFINED_OBJECT, "unrecognized configuration parameter \"%.*s\"",
		                (int)name.n, name.p);
		client_close(c, &err, "bad start-up setting");
		return false;
	}
	if (c->startup->n >= STARTUP_SETTINGS_MAX) {
		login_refuse(c, SQLSTATE_PROGRAM_LIMIT_EXCEEDED, "too many settings in the startup packet");
		return false;
	}
	params_set(t, &c->startup, name, value);
	return true;
}

static bool take_options(struct client *c, struct str options)
{
	struct settings_options o;
	struct str name, value;
	settings_options_begin(&o, options);
	while (settings_options_next(&o, &name, &value)) {
		if (!take_setting(c, name, value)) {
			settings_options_end(&o);
			return false;
		}
	}
	bool bad = o.bad;
	settings_options_end(&o);
	if (bad)
		login_refuse(c, SQLSTATE_SYNTAX_ERROR, "invalid command-line argument in start-up options");
	return !bad;
}

enum { UNKNOWN_OPTIONS_MAX = 32 };

static bool take_params(struct client *c, const struct msg_startup *m, struct str unknown[UNKNOWN_OPTIONS_MAX],
                        size_t *n_unknown)
{
	struct client_login *l = c->login;
	struct wire_reader list = m->params;
	struct str name, value;
	while (msg_startup_next(&list, &name, &value)) {
		if (str_eq(name, STR("user"))) {
			mem_free(l->user);
			l->user = mem_strndup(value.p, value.n);
		} else if (str_eq(name, STR("database"))) {
			mem_free(l->database);
			l->database = mem_strndup(value.p, value.n);
		} else if (str_eq(name, STR("replication"))) {
			l->is_replication = !RULE_BROKEN(G4) && is_replication_value(value);
			l->is_physical = l->is_replication && !str_ieq(value, STR("database"));
			if (l->is_replication)
				params_set(&c->worker->params, &c->startup, name, value);
		} else if (str_eq(name, STR("options"))) {
			if (!take_options(c, value))
				return false;
		} else if (str_eq(name, STR("application_name"))) {
			mem_free(c->application);
			c->application = settings_clean_name(value);
		} else if (str_has_prefix(name, STR("_pq_."))) {
			if (*n_unknown < UNKNOWN_OPTIONS_MAX)
				unknown[(*n_unknown)++] = name;
		} else if (!take_setting(c, name, value)) {
			return false;
		}
	}
	return true;
}

static void on_startup_message(struct client *c, const struct msg_startup *m)
{
	struct client_login *l = c->login;
	struct str unknown[UNKNOWN_OPTIONS_MAX];
	size_t n_unknown = 0;
	if (tls_is_missing(c)) {
		login_refuse(c, SQLSTATE_CONNECTION_REJECTED, "SSL required");
		return;
	}
	if (!take_params(c, m, unknown, &n_unknown))
		return;
	if (!l->user || !*l->user) {
		login_refuse(c, SQLSTATE_INVALID_AUTHORIZATION, "no PostgreSQL user name specified in startup packet");
		return;
	}
	if (!l->database || !*l->database) {
		mem_free(l->database);
		l->database = mem_strdup(l->user);
	}
	uint64_t most = c->worker->runtime->config->max_memory_bytes;
	if (most && !login_is_console(l->database) && workers_memory() > most) {
		login_refuse(c, SQLSTATE_OUT_OF_MEMORY, "no more connections allowed (max_memory)");
		return;
	}
	unsigned minor = msg_protocol_minor(m->code);
	if (minor >= 2)
		l->key_len = sizeof c->key;
	if (minor > 2 || n_unknown) {
		struct wire_writer ww = login_begin_reply(c);
		msg_put_negotiate(&ww, minor > 2 ? MSG_PROTOCOL_3_2 : m->code, unknown, n_unknown);
		if (!login_send_reply(c, &ww))
			return;
	}
	auth_begin(c);
}

static void on_cancel(struct client *c, const struct msg_cancel *m)
{
	client_set_state(c, CLIENT_CANCEL);
	cancel_request(c->worker, m->pid, m->key);
	client_close(c, NULL, NULL);
}

/* Returns false when it has to wait for more, or is through. */
static bool process_startup(struct client *c)
{
	size_t len;
	struct msg_startup m;
	const uint8_t *p = buf_head(&c->in);
	enum frame_result r = startup_peek(p, buf_len(&c->in), &len);
	if (r == FRAME_MORE || (r == FRAME_OK && len > buf_len(&c->in)))
		return false;
	if (r == FRAME_BAD || !msg_parse_startup(p, len, &m)) {
		login_refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "invalid startup packet");
		return false;
	}
	switch (m.kind) {
	case MSG_SSL_REQUEST:
		buf_consume(&c->in, len);
		on_ssl_request(c);
		return c->state == CLIENT_STARTUP;
	case MSG_GSSENC_REQUEST:
		buf_consume(&c->in, len);
		if (c->login->gss_refused || buf_len(&c->in)) {
			login_refuse(c, SQLSTATE_PROTOCOL_VIOLATION,
			             "received unencrypted data after GSSAPI encryption request");
			return false;
		}
		c->login->gss_refused = true;
		return client_send(c, "N", 1);
	case MSG_CANCEL_REQUEST:
		on_cancel(c, &m.cancel);
		return false;
	case MSG_STARTUP:
		on_startup_message(c, &m);
		if (c->state != CLIENT_CLOSING)
			buf_consume(&c->in, len);
		return c->state == CLIENT_AUTH;
	case MSG_OTHER_PROTOCOL:
		break;
	}
	login_refuse(c, SQLSTATE_FEATURE_NOT_SUPPORTED, "unsupported frontend protocol");
	return false;
}

/* --- in --- */

bool login_is_console(const char *database)
{
	return local_handler && (strcmp(database, "pgweir") == 0 || strcmp(database, "pgbouncer") == 0);
}

static void enter_console(struct client *c)
{
	struct pgerr err;
	if (!local_handler->open(c, c->login->user, &err)) {
		client_close(c, &err, err.message);
		return;
	}
	client_login_free(c);
	client_set_state(c, CLIENT_LOCAL);
	c->worker->stats.total.logins++;
}

static bool take_its_place(struct client *c)
{
	const struct dbuser *du = c->du;
	if (!limit_take(&du->db_clients->n, config_max_db_client_connections(du->config, du->conf, du->conf_user))) {
		login_refuse(c, SQLSTATE_TOO_MANY_CONNECTIONS,
		             "client connections exceeded (max_db_client_connections)");
		return false;
	}
	if (!limit_take(&du->user_clients->n,
	                config_max_user_client_connections(du->config, du->conf, du->conf_user))) {
		limit_give_back(du->db_clients);
		login_refuse(c, SQLSTATE_TOO_MANY_CONNECTIONS,
		             "client connections exceeded (max_user_client_connections)");
		return false;
	}
	c->counted = true;
	dbuser_client_came(c->du);
	return true;
}

/* PgBouncer's words, but only of those who have been let in. */
static void log_login(const struct client *c)
{
	const struct client_login *l = c->login;
	char tls[128], host[NET_NAME_SIZE] = "unix";
	struct log_subject about = { .kind = 'C', .id = c->id, .database = l->database, .user = l->user };
	if (!c->worker->runtime->config->log_connections)
		return;
	if (!l->is_unix)
		net_addr_format(c->peer, host, sizeof host);
	log_info(&about, "login attempt: db=%s user=%s tls=%s from %s", l->database, l->user,
	         stream_is_tls(&c->stream) ? tls_describe(stream_ssl(&c->stream), tls, sizeof tls) : "no", host);
}

void login_done(struct client *c)
{
	struct client_login *l = c->login;
	struct pgerr err;
	log_login(c);
	if (login_is_console(l->database)) {
		struct wire_writer ww = login_begin_reply(c);
		msg_put_auth_ok(&ww);
		if (login_send_reply(c, &ww))
			enter_console(c);
		return;
	}
	if (l->is_unix && workers_are_console_only()) {
		login_refuse(c, SQLSTATE_ADMIN_SHUTDOWN, "server shutting down");
		return;
	}
	if (orders_of(l->database) & ORDER_DISABLED) {
		pgerr_set_fatal(&err, SQLSTATE_NOT_IN_PREREQUISITE_STATE, "database \"%s\" is disabled", l->database);
		client_close(c, &err, "DISABLE");
		return;
	}
	c->du = dbuser_get(c->worker, str_of(l->database), str_of(l->user), &err);
	if (!c->du) {
		client_close(c, &err, err.message);
		return;
	}
	if (c->worker->runtime->config->max_client_conn &&
	    workers_clients() > c->worker->runtime->config->max_client_conn) {
		login_refuse(c, SQLSTATE_TOO_MANY_CONNECTIONS, "no more connections allowed (max_client_conn)");
		return;
	}
	if (!take_its_place(c))
		return;
	bool replication = l->is_replication;
	cancel_register(c, l->key_len);
	settings_start_session(c);
	client_login_free(c);
	c->worker->stats.total.logins++;
	c->du->stats.logins++;
	/* B2: what somebody else was told before this login must be seen by it. */
	c->pos = cluster_round(c->du->db->cluster);
	if (replication)
		relay_start_raw(c);
	else
		relay_welcome(c);
}

void client_login_process(struct client *c)
{
	while (c->state == CLIENT_STARTUP && process_startup(c))
		;
	while (c->state == CLIENT_AUTH && !c->login->lookup && buf_len(&c->in)) {
		struct frame f;
		struct frame_head h;
		enum frame_result r = frame_peek(buf_head(&c->in), buf_len(&c->in), &h);
		if (r == FRAME_MORE)
			return;
		if (r == FRAME_BAD || h.type != MSG_PASSWORD || h.len > FRAME_LOGIN_BYTES_MAX) {
			login_refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "expected a password response");
			return;
		}
		if (frame_take(buf_head(&c->in), buf_len(&c->in), &f) != FRAME_OK)
			return;
		auth_on_message(c, &f);
		if (c->state == CLIENT_CLOSING)
			return;
		explicit_bzero(buf_head(&c->in), h.len);
		buf_consume(&c->in, h.len);
	}
}
