/* proxy/server_login.c - logging in to a PostgreSQL backend as client (protocol section 55.2.1).
 *
 *   connect -> [SSLRequest -> 'S' -> handshake | 'N'] -> StartupMessage -> Authentication* -> ParameterStatus*,
 *   BackendKeyData -> ReadyForQuery -> our own set-up query -> ReadyForQuery -> the pool
 *
 * Bytes that come in clear behind the answer to SSLRequest are an attack (CVE-2021-23214) and end the connection.
 * The set-up query reads what ParameterStatus does not tell (C2) and runs connect_query. */
#include "proxy/server.h"

#include <stdio.h>
#include "auth/password.h"
#include "auth/scram.h"
#include "auth/userdb.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rules.h"
#include "io/tls.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/notifiers.h"
#include "proxy/params.h"
#include "proxy/pool.h"
#include "proxy/relay.h"
#include "proxy/worker.h"
#include "sql/facts.h"
#include "wire/msg.h"

enum { LOGIN_BUFFER_MAX = 64 * 1024, STARTUP_PARAMS_MAX = 64 };

#define LOGIN_PHASES(X) X(SSL_ANSWER) X(AUTH) X(PARAMETERS) X(SETUP)
enum login_phase {
#define LOGIN_PHASE_ENUM(id) PHASE_##id,
	LOGIN_PHASES(LOGIN_PHASE_ENUM)
#undef LOGIN_PHASE_ENUM
};

struct server_login {
	enum login_phase phase;
	struct scram_client scram;
	bool scram_running;
	char *password; /* owned secret or NULL */
	struct tls_ctx
	    *tls;      /* owned reference or NULL: a reload may turn TLS off while the server's answer is awaited */
	char *learned; /* owned secret or NULL: from the client's login by auth_query */
};

static void fail(struct server *s, enum sqlstate id, const char *why)
{
	pgerr_set_fatal(&s->login_error, id, "cannot log in to server %s:%d: %s", s->pool->host->name,
	                s->pool->host->port, why);
	s->login_error_set = true;
	server_close(s, why);
}

static bool send_writer(struct server *s, struct wire_writer *ww)
{
	struct buf *out = ww->out;
	if (!ww_finish(ww)) {
		fail(s, SQLSTATE_OUT_OF_MEMORY, "out of memory");
		return false;
	}
	enum stream_sent sent = stream_send(&s->stream, buf_head(out), buf_len(out));
	buf_clear(out);
	if (sent == STREAM_BROKEN) {
		server_close(s, stream_last_error());
		return false;
	}
	return true;
}

static void open_writer(struct server *s, struct wire_writer *ww)
{
	struct buf *out = &s->pool->worker->out;
	buf_clear(out);
	ww_init(ww, out);
}

/* --- start-up --- */

/* C2: a standby's own defaults must not decide how a read runs there; with serializable every SELECT would fail.  One
 * statement by itself answers the same at any level below, and transactions say theirs aloud (emit.c). */
static size_t standby_defaults(struct msg_pair *pairs, size_t n)
{
	pairs[n++] = (struct msg_pair){ STR("default_transaction_isolation"), STR("read committed") };
	pairs[n++] = (struct msg_pair){ STR("default_transaction_deferrable"), STR("off") };
	return n;
}

static size_t startup_params(struct server *s, struct msg_pair *pairs)
{
	const struct dbuser *du = s->pool->du;
	const struct conf_database *conf = du->conf;
	size_t n = 0;
	pairs[n++] = (struct msg_pair){ STR("user"), str_of(du->server_user) };
	pairs[n++] = (struct msg_pair){ STR("database"), str_of(du->db->dbname) };
	if (conf->client_encoding)
		pairs[n++] = (struct msg_pair){ STR("client_encoding"), str_of(conf->client_encoding) };
	if (conf->datestyle)
		pairs[n++] = (struct msg_pair){ STR("datestyle"), str_of(conf->datestyle) };
	if (conf->timezone)
		pairs[n++] = (struct msg_pair){ STR("timezone"), str_of(conf->timezone) };
	if (host_role(s->pool->host) == HOST_REPLICA && !RULE_BROKEN(C2))
		n = standby_defaults(pairs, n);
	return n;
}

/* A replication client's server gets exactly what the client has sent. */
static size_t dedicated_params(const struct server *s, struct msg_pair *pairs)
{
	const struct params *start = s->client->startup;
	const struct dbuser *du = s->pool->du;
	size_t n = 0;
	pairs[n++] = (struct msg_pair){ STR("user"), str_of(du->server_user) };
	pairs[n++] = (struct msg_pair){ STR("database"), str_of(du->db->dbname) };
	if (s->client->application && *s->client->application)
		pairs[n++] = (struct msg_pair){ STR("application_name"), str_of(s->client->application) };
	for (unsigned i = 0; i < start->n && n < STARTUP_PARAMS_MAX; i++)
		pairs[n++] = (struct msg_pair){ str_of(start->items[i].name), str_of(start->items[i].value) };
	return n;
}

/* Opened for somebody: with that client's settings in the start-up packet a RESET on this backend leads back to them,
 * as on a private connection, and nothing needs to be set.  Only settings that a backend has accepted before: one bad
 * value must not keep a pool from opening connections. */
static size_t own_settings(struct server *s, struct msg_pair *pairs, size_t n)
{
	struct params_table *t = &s->pool->worker->params;
	const struct client *first = TAILQ_FIRST(&s->pool->waiters);
	/* A pool whose clients change with each transaction would have to close and open backends for it (pool.c,
	 * suits_start), so that there only who needs it has it. */
	bool session = s->pool->du->pool_mode == POOL_MODE_SESSION;
	bool own = first && (session ? dbuser_welcome_find(first->du, first->startup, first->facts_no) != NULL
	                             : first->seg.wants_own);
	own = own && first->base->n < STARTUP_PARAMS_MAX - n;
	s->nameless = own && first->nameless;
	struct params *settings = own ? params_ref(first->base) : NULL;
	if (!settings) {
		const char *tag = first ? params_get(first->profile, "application_name") : NULL;
		settings = params_with(t, t->empty, STR("application_name"), str_of(tag ? tag : "pgweir"));
	}
	for (unsigned i = 0; i < settings->n && n < STARTUP_PARAMS_MAX; i++) {
		if (!s->nameless || strcmp(settings->items[i].name, "application_name") != 0)
			pairs[n++] =
			    (struct msg_pair){ str_of(settings->items[i].name), str_of(settings->items[i].value) };
		if (strchr(settings->items[i].name, '.'))
			params_set(t, &s->custom, str_of(settings->items[i].name), STR(""));
	}
	params_unref(t, s->profile);
	params_unref(t, s->base);
	s->profile = settings;
	s->base = params_ref(settings);
	return n;
}

static void send_startup(struct server *s)
{
	struct msg_pair pairs[STARTUP_PARAMS_MAX];
	struct wire_writer ww;
	size_t n = s->dedicated ? dedicated_params(s, pairs) : startup_params(s, pairs);
	if (!s->dedicated)
		n = own_settings(s, pairs, n);
	open_writer(s, &ww);
	msg_put_startup(&ww, MSG_PROTOCOL_3_0, pairs, n);
	s->login->phase = PHASE_AUTH;
	server_set_state(s, SERVER_LOGIN);
	if (send_writer(s, &ww))
		stream_want_read(&s->stream, true);
}

static bool wants_tls(const struct server *s)
{
	enum conf_sslmode mode = s->pool->du->config->server_tls_sslmode;
	struct net_addr peer;
	if (!s->pool->worker->runtime->server_tls || mode == CONF_SSL_DISABLE)
		return false;
	if (net_peer_addr(s->stream.fd, &peer) && net_addr_is_unix(&peer))
		return false;
	return mode != CONF_SSL_ALLOW || s->pool->tls_needed;
}

void server_login_start(struct server *s)
{
	struct wire_writer ww;
	s->login = mem_zalloc(sizeof *s->login);
	if (!wants_tls(s)) {
		send_startup(s);
		return;
	}
	s->login->tls = tls_ctx_ref(s->pool->worker->runtime->server_tls);
	server_set_state(s, SERVER_TLS);
	open_writer(s, &ww);
	msg_put_ssl_request(&ww);
	if (send_writer(s, &ww))
		stream_want_read(&s->stream, true);
}

void server_login_tls_done(struct server *s) { send_startup(s); }

void server_login_free(struct server *s)
{
	struct server_login *l = s->login;
	if (!l)
		return;
	s->login = NULL;
	if (l->scram_running)
		scram_client_deinit(&l->scram);
	if (l->password)
		mem_free_secret(l->password, strlen(l->password));
	tls_ctx_unref(l->tls);
	if (l->learned)
		mem_free_secret(l->learned, strlen(l->learned));
	mem_free(l);
}

static void on_ssl_answer(struct server *s)
{
	uint8_t answer[2];
	ssize_t n = stream_read(&s->stream, answer, sizeof answer);
	if (n == STREAM_AGAIN)
		return;
	if (n <= 0) {
		fail(s, SQLSTATE_CONNECTION_FAILURE, "connection closed during TLS negotiation");
		return;
	}
	if (n > 1) {
		fail(s, SQLSTATE_PROTOCOL_VIOLATION, "received unencrypted data after SSL response");
		return;
	}
	if (answer[0] == 'S') {
		stream_want_read(&s->stream, false);
		if (!stream_start_tls_client(&s->stream, s->login->tls, s->pool->host->name))
			fail(s, SQLSTATE_CONNECTION_FAILURE, stream_last_error());
		return;
	}
	if (answer[0] != 'N' || s->pool->du->config->server_tls_sslmode >= CONF_SSL_REQUIRE) {
		fail(s, SQLSTATE_CONNECTION_FAILURE, "server does not support TLS, but server_tls_sslmode requires it");
		return;
	}
	send_startup(s);
}

/* --- authentication --- */

/* The password or other secret for this login, or NULL (then SCRAM keys of the client's own login may serve). */
static const char *login_secret(struct server *s)
{
	const struct dbuser *du = s->pool->du;
	if (du->conf->user && du->conf->password)
		return du->conf->password;
	const struct conf_user *cu = config_user(du->config, str_of(du->server_user));
	if (cu && cu->password)
		return cu->password;
	const struct userdb_user *u = userdb_find(s->pool->worker->runtime->users, str_of(du->server_user));
	if (u && (u->kind == SECRET_PLAIN || u->kind == SECRET_MD5))
		return u->secret;
	if (!s->login->learned)
		s->login->learned = learned_secret_lookup(str_of(du->server_user));
	return s->login->learned;
}

static void fail_no_secret(struct server *s, const char *method)
{
	char why[256];
	snprintf(why, sizeof why, "it asks for %s authentication, and there is no password for user \"%s\"", method,
	         s->pool->du->server_user);
	pgerr_set_fatal(&s->login_error, SQLSTATE_INVALID_PASSWORD, "cannot log in to server %s:%d: %s",
	                s->pool->host->name, s->pool->host->port, why);
	pgerr_hint(&s->login_error, "Give password= in [databases], a line in auth_file, or let clients log in with "
	                            "SCRAM so that their keys can be used.");
	s->login_error_set = true;
	server_close(s, why);
}

static void answer_cleartext(struct server *s)
{
	struct wire_writer ww;
	const char *secret = login_secret(s);
	if (!secret || secret_parse(str_of(secret)) != SECRET_PLAIN) {
		fail_no_secret(s, "password");
		return;
	}
	open_writer(s, &ww);
	msg_put_password(&ww, str_of(secret));
	send_writer(s, &ww);
}

static void answer_md5(struct server *s, const struct msg_auth *auth)
{
	struct wire_writer ww;
	char answer[MD5_TEXT_BYTES + 1];
	const char *secret = login_secret(s);
	if (!secret || !md5_answer(str_of(secret), str_of(s->pool->du->server_user), auth->md5_salt, answer)) {
		fail_no_secret(s, "md5");
		return;
	}
	open_writer(s, &ww);
	msg_put_password(&ww, str_of(answer));
	send_writer(s, &ww);
}

static struct scram_offer offer_of(const struct msg_auth *auth, bool has_binding)
{
	struct scram_offer offer = { .has_binding = has_binding };
	struct wire_reader list = auth->mechanisms;
	struct str name;
	while (msg_sasl_next(&list, &name))
		scram_offer_add(&offer, name);
	return offer;
}

static void start_scram(struct server *s, const struct msg_auth *auth)
{
	struct server_login *l = s->login;
	uint8_t binding[TLS_HASH_MAX];
	size_t binding_len = 0;
	bool bound = stream_is_tls(&s->stream) && tls_endpoint_peer(stream_ssl(&s->stream), binding, &binding_len);
	struct scram_offer offer = offer_of(auth, bound);
	struct scram_client_options o = { .binding_data = { (char *)binding, binding_len } };
	enum scram_choice choice = scram_choose(&offer, SCRAM_CHANNEL_PREFER, &o.binding);
	struct scram_keys keys;
	struct wire_writer ww;
	struct str first;
	const char *secret = login_secret(s);
	if (choice == SCRAM_CHOICE_NONE || l->scram_running) {
		fail(s, SQLSTATE_PROTOCOL_VIOLATION, "none of the server's SASL mechanisms is supported");
		return;
	}
	if (secret && secret_parse(str_of(secret)) == SECRET_PLAIN) {
		l->password = mem_strdup(secret);
		o.password = str_of(l->password);
	} else if (scram_keys_lookup(str_of(s->pool->du->server_user), &keys)) {
		o.keys = &keys;
	} else {
		fail_no_secret(s, "SCRAM");
		return;
	}
	l->scram_running = scram_client_init(&l->scram, &o);
	explicit_bzero(&keys, sizeof keys);
	if (!l->scram_running || scram_client_step(&l->scram, STR(""), &first) != SCRAM_CONTINUE) {
		fail(s, SQLSTATE_INTERNAL_ERROR, "SCRAM cannot start");
		return;
	}
	open_writer(s, &ww);
	msg_put_sasl_initial(&ww, choice == SCRAM_CHOICE_PLUS ? STR(SCRAM_MECHANISM_PLUS) : STR(SCRAM_MECHANISM),
	                     first);
	send_writer(s, &ww);
}

static void continue_scram(struct server *s, const struct msg_auth *auth)
{
	struct server_login *l = s->login;
	struct str answer;
	struct wire_writer ww;
	enum scram_result result = l->scram_running ? scram_client_step(&l->scram, auth->data, &answer) : SCRAM_FAILED;
	if (result == SCRAM_FAILED) {
		fail(s, SQLSTATE_INVALID_PASSWORD,
		     l->scram_running ? scram_failure_text(l->scram.failure) : "SCRAM message out of order");
		return;
	}
	if (result == SCRAM_DONE)
		return;
	open_writer(s, &ww);
	msg_put_sasl_response(&ww, answer);
	send_writer(s, &ww);
}

static void on_authentication(struct server *s, const struct frame *f)
{
	struct msg_auth auth;
	char why[64];
	if (!msg_parse_auth(f->body, f->body_len, &auth)) {
		fail(s, SQLSTATE_PROTOCOL_VIOLATION, "malformed Authentication message");
		return;
	}
	switch (auth.code) {
	case MSG_AUTH_OK:
		/* A server that never proved that it knows the password must not be trusted because it says OK. */
		if (s->login->scram_running && s->login->scram.state != SCRAM_STATE_DONE)
			fail(s, SQLSTATE_PROTOCOL_VIOLATION, "server skipped the end of SCRAM");
		else
			s->login->phase = PHASE_PARAMETERS;
		return;
	case MSG_AUTH_CLEARTEXT:
		answer_cleartext(s);
		return;
	case MSG_AUTH_MD5:
		answer_md5(s, &auth);
		return;
	case MSG_AUTH_SASL:
		start_scram(s, &auth);
		return;
	case MSG_AUTH_SASL_CONTINUE:
	case MSG_AUTH_SASL_FINAL:
		continue_scram(s, &auth);
		return;
	default:
		snprintf(why, sizeof why, "authentication method %u is not supported", auth.code);
		fail(s, SQLSTATE_FEATURE_NOT_SUPPORTED, why);
	}
}

/* --- parameters and set-up --- */

static const char setup_sql[] = "SELECT pg_catalog.current_setting('default_transaction_isolation'), "
                                "pg_catalog.current_setting('server_version_num'), "
                                "pg_catalog.current_setting('search_path')";

static void send_setup(struct server *s)
{
	struct wire_writer ww;
	char sql[1024];
	const char *connect_query = s->pool->du->conf->connect_query;
	snprintf(sql, sizeof sql, "%s%s%s", setup_sql, connect_query ? ";" : "", connect_query ? connect_query : "");
	s->login->phase = PHASE_SETUP;
	open_writer(s, &ww);
	msg_put_query(&ww, str_of(sql));
	send_writer(s, &ww);
}

static void on_setup_row(struct server *s, const struct frame *f)
{
	uint16_t n;
	struct wire_reader values;
	struct str isolation, version, search_path;
	char path[1024];
	if (s->default_isolation || !msg_parse_data_row(f->body, f->body_len, &n, &values) ||
	    !msg_bind_next(&values, &isolation) || !isolation.p || !msg_bind_next(&values, &version) ||
	    !msg_bind_next(&values, &search_path) || !search_path.p)
		return;
	/* One such server is enough: replicas are meant to be like the primary. */
	s->pool->du->odd_path |= !str_copy(path, sizeof path, search_path) || sql_path_is_odd(path);
	if (str_eq(isolation, STR("serializable")))
		s->default_isolation = 's';
	else if (str_eq(isolation, STR("repeatable read")))
		s->default_isolation = 'r';
	else if (str_eq(isolation, STR("read uncommitted")))
		s->default_isolation = 'u';
	else
		s->default_isolation = 'c';
}

static void login_done(struct server *s)
{
	struct dbuser *du = s->pool->du;
	char from[NET_NAME_SIZE];
	server_login_free(s);
	s->login_round = cluster_round(du->db->cluster);
	if (!s->is_replica)
		du->primary_isolation = s->default_isolation;
	if (du->config->log_connections)
		log_info(&((struct log_subject){
		             .kind = 'S', .id = s->id, .database = du->database, .user = du->server_user }),
		         "new connection to server (from %s): connected to %s:%d (%s), backend %u",
		         net_local_name(s->stream.fd, from, sizeof from), s->pool->host->name, s->pool->host->port,
		         s->is_replica ? "standby" : "primary", s->backend_pid);
	if (s->dedicated)
		relay_server_ready(s->client, s);
	else
		pool_on_server_ready(s);
}

static void on_ready(struct server *s)
{
	if (s->login->phase == PHASE_PARAMETERS && !s->dedicated)
		send_setup(s);
	else if (s->login->phase == PHASE_SETUP || s->dedicated)
		login_done(s);
	else
		fail(s, SQLSTATE_PROTOCOL_VIOLATION, "ReadyForQuery before authentication");
}

static void on_error(struct server *s, const struct frame *f)
{
	struct pgerr_fields e;
	struct pgerr *err = &s->login_error;
	pgerr_parse(f->body, f->body_len, &e);
	pgerr_set_fatal(err, SQLSTATE_CONNECTION_FAILURE, "%.*s", (int)e.message.n, e.message.p ? e.message.p : "");
	struct str code = pgerr_sqlstate(&e);
	(void)str_copy(err->sqlstate, sizeof err->sqlstate, code);
	if (e.detail.p)
		pgerr_detail(err, "%.*s", (int)e.detail.n, e.detail.p);
	s->login_error_set = true;
	/* With sslmode=allow a refusal by pg_hba.conf may only mean that it wants TLS. */
	if (s->pool->du->config->server_tls_sslmode == CONF_SSL_ALLOW && str_eq(code, STR("28000")))
		s->pool->tls_needed = !s->pool->tls_needed;
	if (str_eq(code, STR("28P01")))
		scram_keys_forget(str_of(s->pool->du->server_user));
	char why[sizeof err->message];
	snprintf(why, sizeof why, "%s", err->message);
	server_close(s, why);
}

static void on_key_data(struct server *s, const struct frame *f)
{
	struct msg_key_data k;
	if (!msg_parse_key_data(f->body, f->body_len, &k) || k.key.n > sizeof s->cancel_key) {
		fail(s, SQLSTATE_PROTOCOL_VIOLATION, "malformed BackendKeyData");
		return;
	}
	s->backend_pid = k.pid;
	notifier_remove(s->notifier);
	s->notifier = notifier_add(s->pool->host, k.pid);
	memcpy(s->cancel_key, k.key.p, k.key.n);
	s->cancel_key_len = (uint16_t)k.key.n;
}

static void on_status(struct server *s, const struct frame *f)
{
	struct msg_parameter p;
	if (!msg_parse_parameter_status(f->body, f->body_len, &p))
		fail(s, SQLSTATE_PROTOCOL_VIOLATION, "malformed ParameterStatus");
	else
		server_note_status(s, p.name, p.value);
}

static void on_message(struct server *s, const struct frame *f)
{
	switch (f->type) {
	case MSG_AUTHENTICATION:
		on_authentication(s, f);
		return;
	case MSG_ERROR_RESPONSE:
		on_error(s, f);
		return;
	case MSG_PARAMETER_STATUS:
		on_status(s, f);
		return;
	case MSG_BACKEND_KEY_DATA:
		on_key_data(s, f);
		return;
	case MSG_READY_FOR_QUERY:
		on_ready(s);
		return;
	case MSG_DATA_ROW:
		if (s->login->phase == PHASE_SETUP)
			on_setup_row(s, f);
		return;
	case MSG_NOTICE_RESPONSE:
	case MSG_ROW_DESCRIPTION:
	case MSG_COMMAND_COMPLETE:
	case MSG_EMPTY_QUERY_RESPONSE:
	case MSG_NOTIFICATION_RESPONSE:
		return;
	default:
		fail(s, SQLSTATE_PROTOCOL_VIOLATION, "unexpected message during login");
	}
}

static bool read_more(struct server *s)
{
	if (!buf_reserve(&s->part, 1024)) {
		fail(s, SQLSTATE_OUT_OF_MEMORY, "out of memory");
		return false;
	}
	ssize_t n = stream_read(&s->stream, buf_tail(&s->part), buf_room(&s->part));
	if (n == STREAM_AGAIN)
		return false;
	if (n <= 0) {
		char why[256];
		snprintf(why, sizeof why, "%s", n == STREAM_EOF ? "server closed the connection" : stream_last_error());
		server_close(s, why);
		return false;
	}
	s->part.tail += (size_t)n;
	return true;
}

void server_login_readable(struct server *s)
{
	if (s->state == SERVER_TLS) {
		on_ssl_answer(s);
		return;
	}
	if (!read_more(s))
		return;
	while (s->state == SERVER_LOGIN && s->login) {
		struct frame f;
		enum frame_result r = frame_take(buf_head(&s->part), buf_len(&s->part), &f);
		if (r == FRAME_BAD || (r == FRAME_MORE && buf_len(&s->part) > LOGIN_BUFFER_MAX)) {
			fail(s, SQLSTATE_PROTOCOL_VIOLATION, "malformed message during login");
			return;
		}
		if (r == FRAME_MORE)
			return;
		/* The last message may give the server away, to another thread even: it is not touched afterwards. */
		if (f.type == MSG_READY_FOR_QUERY && (s->login->phase == PHASE_SETUP || s->dedicated)) {
			s->part.head += FRAME_HEAD_BYTES + f.body_len;
			if (buf_len(&s->part) == 0)
				buf_deinit(&s->part);
			on_ready(s);
			return;
		}
		/* Taken before it is worked on: the last message makes the server ready, and then part must be empty.
		 */
		struct buf *part = &s->part;
		part->head += FRAME_HEAD_BYTES + f.body_len;
		on_message(s, &f);
	}
	if (s->state != SERVER_CLOSING && buf_len(&s->part) == 0)
		buf_deinit(&s->part);
}
