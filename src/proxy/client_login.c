/* proxy/client_login.c - see proxy/client_login.h.
 *
 * Order of checks: the exchange of an unknown user looks like that of a known one (SCRAM with a mock verifier), and
 * whether a database exists is told only to who is who they say. */
#include "proxy/client_login.h"

#include <pwd.h>
#include <stdio.h>
#include <unistd.h>
#include <openssl/rand.h>
#include "auth/password.h"
#include "auth/scram.h"
#include "auth/userdb.h"
#include "base/mem.h"
#include "io/tls.h"
#include "proxy/cancel.h"
#include "proxy/database.h"
#include "proxy/params.h"
#include "proxy/relay.h"
#include "proxy/settings.h"
#include "proxy/worker.h"
#include "wire/msg.h"

enum { STARTUP_SETTINGS_MAX = 48 };

struct client_login {
	bool is_unix;
	bool gss_refused, tls_asked;
	bool sasl_started;
	bool is_replication;
	uint8_t key_len; /* of the cancel key: protocol 3.2 allows long ones */
	enum auth_exchange exchange;
	uint8_t salt[MD5_SALT_BYTES];
	struct scram_server scram;
	struct userdb *users;  /* owned reference */
	char *user, *database; /* owned */
	uint64_t since_us;
};

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

static void refuse(struct client *c, enum sqlstate id, const char *text)
{
	struct pgerr err;
	pgerr_set_fatal(&err, id, "%s", text);
	client_close(c, &err, text);
}

static struct wire_writer begin_reply(struct client *c)
{
	struct wire_writer ww;
	buf_clear(&c->worker->reply);
	ww_init(&ww, &c->worker->reply);
	return ww;
}

static bool send_reply(struct client *c, struct wire_writer *ww)
{
	if (!ww_finish(ww)) {
		client_close(c, NULL, "out of memory");
		return false;
	}
	return client_send(c, buf_head(&c->worker->reply), buf_len(&c->worker->reply));
}

/* --- TLS --- */

static void on_ssl_request(struct client *c)
{
	struct tls_ctx *ctx = c->worker->runtime->client_tls;
	/* Bytes behind an SSLRequest would have been sent in clear and be read as if encrypted (CVE-2021-3935). */
	if (buf_len(&c->in)) {
		refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "received unencrypted data after SSL request");
		return;
	}
	if (c->login->tls_asked || stream_is_tls(&c->stream)) {
		refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "SSL was requested twice");
		return;
	}
	c->login->tls_asked = true;
	if (!client_send(c, ctx && !c->login->is_unix ? "S" : "N", 1) || !ctx || c->login->is_unix)
		return;
	stream_want_read(&c->stream, false);
	client_set_state(c, CLIENT_TLS);
	if (!stream_start_tls_server(&c->stream, ctx))
		client_close(c, NULL, stream_last_error());
}

void client_login_tls_done(struct client *c)
{
	client_set_state(c, CLIENT_STARTUP);
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

/* One name and value of the start-up packet or its options; false: refused. */
static bool take_setting(struct client *c, struct str name, struct str value)
{
	struct params_table *t = &c->worker->params;
	struct pgerr err;
	if (conf_list_has(&c->worker->runtime->config->ignore_startup_parameters, name) && !settings_is_tracked(name))
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
		refuse(c, SQLSTATE_PROGRAM_LIMIT_EXCEEDED, "too many settings in the startup packet");
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
		refuse(c, SQLSTATE_SYNTAX_ERROR, "invalid command-line argument in start-up options");
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
			l->is_replication = is_replication_value(value);
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

static void begin_auth(struct client *c);

static void on_startup_message(struct client *c, const struct msg_startup *m)
{
	struct client_login *l = c->login;
	struct str unknown[UNKNOWN_OPTIONS_MAX];
	size_t n_unknown = 0;
	if (tls_is_missing(c)) {
		refuse(c, SQLSTATE_CONNECTION_REJECTED, "SSL required");
		return;
	}
	if (!take_params(c, m, unknown, &n_unknown))
		return;
	if (!l->user || !*l->user) {
		refuse(c, SQLSTATE_INVALID_AUTHORIZATION, "no PostgreSQL user name specified in startup packet");
		return;
	}
	if (!l->database || !*l->database) {
		mem_free(l->database);
		l->database = mem_strdup(l->user);
	}
	unsigned minor = msg_protocol_minor(m->code);
	if (minor >= 2)
		l->key_len = sizeof c->key;
	if (minor > 2 || n_unknown) {
		struct wire_writer ww = begin_reply(c);
		msg_put_negotiate(&ww, minor > 2 ? MSG_PROTOCOL_3_2 : m->code, unknown, n_unknown);
		if (!send_reply(c, &ww))
			return;
	}
	begin_auth(c);
}

static void on_cancel(struct client *c, const struct msg_cancel *m)
{
	client_set_state(c, CLIENT_CANCEL);
	cancel_request(m->pid, m->key);
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
		refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "invalid startup packet");
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
			refuse(c, SQLSTATE_PROTOCOL_VIOLATION,
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
	refuse(c, SQLSTATE_FEATURE_NOT_SUPPORTED, "unsupported frontend protocol");
	return false;
}

/* --- authentication --- */

static enum auth_method method_of(enum conf_auth_type type)
{
	switch (type) {
	case CONF_AUTH_TRUST:
	case CONF_AUTH_ANY:
		return AUTH_METHOD_TRUST;
	case CONF_AUTH_PLAIN:
		return AUTH_METHOD_PASSWORD;
	case CONF_AUTH_MD5:
		return AUTH_METHOD_MD5;
	case CONF_AUTH_SCRAM:
		return AUTH_METHOD_SCRAM;
	case CONF_AUTH_CERT:
		return AUTH_METHOD_CERT;
	case CONF_AUTH_PEER:
		return AUTH_METHOD_PEER;
	case CONF_AUTH_HBA:
		return AUTH_METHOD_HBA;
	}
	return AUTH_METHOD_REJECT;
}

/* What is stored of the user, or NULL. */
static const char *stored_secret(const struct client *c)
{
	const struct client_login *l = c->login;
	const struct conf_user *cu = config_user(c->worker->runtime->config, str_of(l->user));
	const struct userdb_user *u = userdb_find(l->users, str_of(l->user));
	if (u)
		return u->secret;
	return cu ? cu->password : NULL;
}

static void auth_failed(struct client *c)
{
	struct pgerr err;
	pgerr_set_fatal(&err, SQLSTATE_INVALID_PASSWORD, "password authentication failed for user \"%s\"",
	                c->login->user);
	client_close(c, &err, "password authentication failed");
}

static void auth_done(struct client *c);

static void ask_sasl(struct client *c)
{
	static const char *const plain[] = { SCRAM_MECHANISM };
	static const char *const both[] = { SCRAM_MECHANISM_PLUS, SCRAM_MECHANISM };
	struct wire_writer ww = begin_reply(c);
	bool tls = stream_is_tls(&c->stream);
	msg_put_auth_sasl(&ww, tls ? both : plain, tls ? 2 : 1);
	send_reply(c, &ww);
}

static void begin_exchange(struct client *c)
{
	struct client_login *l = c->login;
	struct wire_writer ww = begin_reply(c);
	switch (l->exchange) {
	case AUTH_EXCHANGE_NONE:
		auth_done(c);
		return;
	case AUTH_EXCHANGE_CLEARTEXT:
		msg_put_auth_cleartext(&ww);
		send_reply(c, &ww);
		return;
	case AUTH_EXCHANGE_MD5:
		if (RAND_bytes(l->salt, sizeof l->salt) != 1) {
			refuse(c, SQLSTATE_INTERNAL_ERROR, "no random bytes");
			return;
		}
		msg_put_auth_md5(&ww, l->salt);
		send_reply(c, &ww);
		return;
	case AUTH_EXCHANGE_SCRAM:
	case AUTH_EXCHANGE_SCRAM_MOCK:
		ask_sasl(c);
		return;
	case AUTH_EXCHANGE_REJECT:
		auth_failed(c);
	}
}

static bool certificate_fits(const struct client *c)
{
	char cn[256];
	return stream_is_tls(&c->stream) && tls_peer_cn(stream_ssl(&c->stream), cn, sizeof cn) &&
	       strcmp(cn, c->login->user) == 0;
}

/* The operating system's user at the other end of the unix socket has the name that the client says. */
static bool peer_fits(const struct client *c)
{
	uid_t uid;
	gid_t gid;
	pid_t pid;
	struct passwd pw, *found = NULL;
	char room[1024];
	return c->login->is_unix && net_peer_cred(c->stream.fd, &uid, &gid, &pid) &&
	       getpwuid_r(uid, &pw, room, sizeof room, &found) == 0 && found &&
	       strcmp(found->pw_name, c->login->user) == 0;
}

static bool console_by_socket(const struct client *c)
{
	uid_t uid;
	gid_t gid;
	pid_t pid;
	const char *u = c->login->user, *d = c->login->database;
	return c->login->is_unix && (strcmp(u, "pgbouncer") == 0 || strcmp(u, "pgweir") == 0) &&
	       (strcmp(d, "pgbouncer") == 0 || strcmp(d, "pgweir") == 0) &&
	       net_peer_cred(c->stream.fd, &uid, &gid, &pid) && uid == geteuid();
}

static void begin_auth(struct client *c)
{
	struct client_login *l = c->login;
	enum auth_method method = method_of(c->worker->runtime->config->auth_type);
	const char *secret = stored_secret(c);
	client_set_state(c, CLIENT_AUTH);
	if (console_by_socket(c)) {
		l->exchange = AUTH_EXCHANGE_NONE;
	} else if (method == AUTH_METHOD_CERT) {
		l->exchange = certificate_fits(c) ? AUTH_EXCHANGE_NONE : AUTH_EXCHANGE_REJECT;
	} else if (method == AUTH_METHOD_PEER) {
		l->exchange = peer_fits(c) ? AUTH_EXCHANGE_NONE : AUTH_EXCHANGE_REJECT;
	} else if (method == AUTH_METHOD_HBA) {
		l->exchange = AUTH_EXCHANGE_REJECT; /* runtime_new() has refused it */
	} else {
		enum secret_kind kind = secret ? secret_parse(str_of(secret)) : userdb_typical_kind(l->users);
		l->exchange = auth_exchange_pick(method, kind);
	}
	begin_exchange(c);
}

static bool make_verifier(struct client *c, struct scram_verifier *v, bool *is_mock)
{
	struct client_login *l = c->login;
	uint32_t iterations = (uint32_t)c->worker->runtime->config->scram_iterations;
	const struct userdb_user *u = userdb_find(l->users, str_of(l->user));
	const char *secret = stored_secret(c);
	*is_mock = false;
	if (l->exchange == AUTH_EXCHANGE_SCRAM && u && userdb_verifier(l->users, u, iterations, v))
		return true;
	if (l->exchange == AUTH_EXCHANGE_SCRAM && !u && secret && secret_parse(str_of(secret)) == SECRET_PLAIN)
		return scram_verifier_make(str_of(secret), iterations, v);
	*is_mock = true;
	return scram_verifier_mock(str_of(l->user), iterations, v);
}

static bool start_scram(struct client *c, const struct msg_sasl_initial *m)
{
	struct client_login *l = c->login;
	uint8_t binding[TLS_HASH_MAX];
	size_t binding_len = 0;
	struct scram_verifier v;
	struct scram_server_options o = { .verifier = &v, .mechanism = m->mechanism };
	o.binding_offered =
	    stream_is_tls(&c->stream) && tls_endpoint_own(stream_ssl(&c->stream), binding, &binding_len);
	o.binding_data = (struct str){ (char *)binding, binding_len };
	if (!make_verifier(c, &v, &o.is_mock) || !scram_server_init(&l->scram, &o)) {
		refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "client selected an invalid SASL authentication mechanism");
		return false;
	}
	l->sasl_started = true;
	return true;
}

static void on_sasl(struct client *c, const struct frame *f)
{
	struct client_login *l = c->login;
	struct msg_sasl_initial first;
	struct str in, out;
	if (!l->sasl_started) {
		if (!msg_parse_sasl_initial(f->body, f->body_len, &first)) {
			refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "invalid SASLInitialResponse message");
			return;
		}
		if (!start_scram(c, &first))
			return;
		in = first.has_data ? first.data : STR("");
	} else if (!msg_parse_sasl_response(f->body, f->body_len, &in)) {
		refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "invalid SASLResponse message");
		return;
	}
	enum scram_result r = scram_server_step(&l->scram, in, &out);
	if (r == SCRAM_FAILED) {
		if (scram_failure_is_protocol(l->scram.failure))
			refuse(c, SQLSTATE_PROTOCOL_VIOLATION, scram_failure_text(l->scram.failure));
		else
			auth_failed(c);
		return;
	}
	struct wire_writer ww = begin_reply(c);
	if (r == SCRAM_CONTINUE)
		msg_put_auth_sasl_continue(&ww, out);
	else
		msg_put_auth_sasl_final(&ww, out);
	if (!send_reply(c, &ww) || r != SCRAM_DONE)
		return;
	scram_keys_remember(str_of(l->user), &l->scram.verifier, l->scram.keys.client_key, l->scram.keys.server_key);
	auth_done(c);
}

static void on_password(struct client *c, const struct frame *f)
{
	struct client_login *l = c->login;
	const char *secret = stored_secret(c);
	struct str given, stored = str_of(secret ? secret : "");
	if (!msg_parse_password(f->body, f->body_len, &given)) {
		refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "invalid password packet");
		return;
	}
	bool right = l->exchange == AUTH_EXCHANGE_MD5 ? password_check_md5(stored, str_of(l->user), l->salt, given)
	                                              : password_check_clear(stored, str_of(l->user), given);
	if (right && secret)
		auth_done(c);
	else
		auth_failed(c);
}

/* --- in --- */

static bool is_console(const char *database)
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

static void auth_done(struct client *c)
{
	struct client_login *l = c->login;
	struct pgerr err;
	struct wire_writer ww = begin_reply(c);
	msg_put_auth_ok(&ww);
	if (is_console(l->database)) {
		if (send_reply(c, &ww))
			enter_console(c);
		return;
	}
	c->du = dbuser_get(c->worker, str_of(l->database), str_of(l->user), &err);
	if (!c->du) {
		client_close(c, &err, err.message);
		return;
	}
	if (c->worker->runtime->config->max_client_conn &&
	    workers_clients() > c->worker->runtime->config->max_client_conn) {
		refuse(c, SQLSTATE_TOO_MANY_CONNECTIONS, "no more connections allowed (max_client_conn)");
		return;
	}
	bool replication = l->is_replication;
	cancel_register(c, l->key_len);
	settings_start_session(c);
	if (!replication && !send_reply(c, &ww))
		return;
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
	while (c->state == CLIENT_AUTH && buf_len(&c->in)) {
		struct frame f;
		struct frame_head h;
		enum frame_result r = frame_peek(buf_head(&c->in), buf_len(&c->in), &h);
		if (r == FRAME_MORE)
			return;
		if (r == FRAME_BAD || h.type != MSG_PASSWORD || h.len > FRAME_LOGIN_BYTES_MAX) {
			refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "expected a password response");
			return;
		}
		if (frame_take(buf_head(&c->in), buf_len(&c->in), &f) != FRAME_OK)
			return;
		if (c->login->exchange == AUTH_EXCHANGE_SCRAM || c->login->exchange == AUTH_EXCHANGE_SCRAM_MOCK)
			on_sasl(c, &f);
		else
			on_password(c, &f);
		if (c->state == CLIENT_CLOSING)
			return;
		explicit_bzero(buf_head(&c->in), h.len);
		buf_consume(&c->in, h.len);
	}
}
