/* proxy/client_auth.c - see proxy/client_login.h: by which method a client must prove who it is, and the exchange.
 *
 * The exchange of an unknown user looks like that of a known one (SCRAM with a mock verifier). */
#include "client_login_priv.h"

#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <openssl/rand.h>
#include "auth/hba.h"
#include "auth/ident.h"
#include "auth/userdb.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/auth_query.h"
#include "cluster/setup.h"
#include "io/tls.h"
#include "proxy/orders.h"
#include "proxy/worker.h"

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
	return cu && cu->password ? cu->password : l->found;
}

/* One text for every reason, so that it does not tell whether the user exists; where nothing but that is asked, it
 * does. */
static void auth_failed(struct client *c)
{
	if (c->login->method == AUTH_METHOD_TRUST && c->login->was_looked_up) {
		login_refuse(c, SQLSTATE_INVALID_AUTHORIZATION, "no such user");
		return;
	}
	const char *how = c->login->method == AUTH_METHOD_CERT    ? "certificate"
	                  : c->login->method == AUTH_METHOD_PEER  ? "peer"
	                  : c->login->method == AUTH_METHOD_TRUST ? "\"trust\""
	                                                          : "password";
	bool by_password = str_eq(str_of(how), STR("password"));
	struct pgerr err;
	pgerr_set_fatal(&err, by_password ? SQLSTATE_INVALID_PASSWORD : SQLSTATE_INVALID_AUTHORIZATION,
	                "%s authentication failed for user \"%s\"", how, c->login->user);
	client_close(c, &err, err.message);
}

static void ask_sasl(struct client *c)
{
	static const char *const plain[] = { SCRAM_MECHANISM };
	static const char *const both[] = { SCRAM_MECHANISM_PLUS, SCRAM_MECHANISM };
	struct wire_writer ww = login_begin_reply(c);
	bool tls = stream_is_tls(&c->stream);
	msg_put_auth_sasl(&ww, tls ? both : plain, tls ? 2 : 1);
	login_send_reply(c, &ww);
}

static void begin_exchange(struct client *c)
{
	struct client_login *l = c->login;
	struct wire_writer ww = login_begin_reply(c);
	switch (l->exchange) {
	case AUTH_EXCHANGE_NONE:
		login_done(c);
		return;
	case AUTH_EXCHANGE_CLEARTEXT:
		msg_put_auth_cleartext(&ww);
		login_send_reply(c, &ww);
		return;
	case AUTH_EXCHANGE_MD5:
		if (RAND_bytes(l->salt, sizeof l->salt) != 1) {
			login_refuse(c, SQLSTATE_INTERNAL_ERROR, "no random bytes");
			return;
		}
		msg_put_auth_md5(&ww, l->salt);
		login_send_reply(c, &ww);
		return;
	case AUTH_EXCHANGE_SCRAM:
	case AUTH_EXCHANGE_SCRAM_MOCK:
		ask_sasl(c);
		return;
	case AUTH_EXCHANGE_REJECT:
		auth_failed(c);
	}
}

/* The certificate was verified, and its name may be the user by the rule's map. */
static bool certificate_fits(const struct client *c, const char *map)
{
	char cn[256];
	return stream_is_tls(&c->stream) && tls_peer_cn(stream_ssl(&c->stream), cn, sizeof cn) &&
	       ident_allows(c->worker->runtime->idents, map, cn, c->login->user);
}

/* The operating system's user at the other end of the unix socket may be the user that the client says. */
static bool peer_fits(const struct client *c, const char *map)
{
	uid_t uid;
	gid_t gid;
	pid_t pid;
	struct passwd pw, *found = NULL;
	char room[1024];
	return c->login->is_unix && net_peer_cred(c->stream.fd, &uid, &gid, &pid) &&
	       getpwuid_r(uid, &pw, room, sizeof room, &found) == 0 && found &&
	       ident_allows(c->worker->runtime->idents, map, found->pw_name, c->login->user);
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

/* As PostgreSQL says it, without a hint at who exists. */
static void refuse_by_rules(struct client *c, const struct hba_verdict *v)
{
	const struct client_login *l = c->login;
	char host[NET_NAME_SIZE] = "[local]";
	struct pgerr err;
	if (!l->is_unix)
		net_addr_host(c->peer, host, sizeof host);
	pgerr_set_fatal(&err, SQLSTATE_INVALID_AUTHORIZATION, "%s host \"%s\", user \"%s\", database \"%s\", %s",
	                v->matched ? "auth_hba_file rejects connection for" : "no entry in auth_hba_file for", host,
	                l->user, l->is_physical ? "replication" : l->database,
	                stream_is_tls(&c->stream) ? "SSL encryption" : "no encryption");
	client_close(c, &err, err.message);
}

static struct hba_verdict ask_rules(const struct client *c)
{
	const struct client_login *l = c->login;
	const struct hba_query q = {
		.transport = l->is_unix                  ? HBA_UNIX
		             : stream_is_tls(&c->stream) ? HBA_TCP_TLS
		                                         : HBA_TCP_PLAIN,
		.addr = l->is_unix ? NULL : (const struct sockaddr *)&c->peer->ss,
		.database = str_of(l->database),
		.user = str_of(l->user),
		.is_physical_replication = l->is_physical,
	};
	return hba_match(c->worker->runtime->hba, &q);
}

/* --- auth_query --- */

/* Of the secret that auth_query found last, for whomever it does not find. */
static _Atomic int last_kind_found = SECRET_SCRAM;

static enum secret_kind typical_kind(const struct client *c)
{
	return c->login->was_looked_up ? (enum secret_kind)atomic_load(&last_kind_found)
	                               : userdb_typical_kind(c->login->users);
}

/* auth_dbname for this client; "": none. */
static const char *query_entry_name(const struct client *c)
{
	const struct config *cfg = c->worker->runtime->config;
	const struct conf_database *db = config_database(cfg, str_of(c->login->database));
	return login_is_console(c->login->database) ? cfg->auth_dbname : config_auth_dbname(cfg, db);
}

/* The entry in whose database the query runs, or NULL: there is none for this client. */
static const struct conf_database *query_entry(const struct client *c)
{
	const struct config *cfg = c->worker->runtime->config;
	const char *name = query_entry_name(c);
	if (!*name && login_is_console(c->login->database))
		return NULL; /* "*" does not mean it */
	return config_database(cfg, str_of(*name ? name : c->login->database));
}

/* False: auth_dbname is of no use, and the client has been told so in PgBouncer's words.  That is no secret: it does
 * not depend on the user. */
static bool query_database_is_usable(struct client *c)
{
	const struct config *cfg = c->worker->runtime->config;
	const struct conf_database *db = config_database(cfg, str_of(c->login->database));
	const char *name = query_entry_name(c);
	struct pgerr err;
	if (!*name || (!*cfg->auth_user && !(db && *config_auth_user(cfg, db))))
		return true;
	if (login_is_console(name) || !config_database(cfg, str_of(name))) {
		if (login_is_console(name))
			log_error(NULL, "cannot use the reserved \"%s\" database as an auth_dbname", name);
		else
			log_error(NULL, "authentication database \"%s\" is not configured", name);
		login_refuse(c, SQLSTATE_CONFIG_FILE_ERROR, "bouncer config error");
		return false;
	}
	if (!(orders_of(name) & ORDER_DISABLED))
		return true;
	pgerr_set_fatal(&err, SQLSTATE_NOT_IN_PREREQUISITE_STATE, "authentication database \"%s\" is disabled", name);
	client_close(c, &err, "DISABLE");
	return false;
}

/* auth_user's own password, if one is known in clear. */
static const char *password_of(const struct client *c, const char *auth_user, const struct conf_database *entry)
{
	const struct config *cfg = c->worker->runtime->config;
	const struct userdb_user *u = userdb_find(c->login->users, str_of(auth_user));
	if (u && u->kind == SECRET_PLAIN)
		return u->secret;
	if (strcmp(cfg->monitor_user, auth_user) == 0)
		return cfg->monitor_password;
	return entry->user && strcmp(entry->user, auth_user) == 0 ? entry->password : NULL;
}

static void on_looked_up(void *arg, enum auth_query_result result, const char *secret);

/* Asks the server, if there is somebody to ask as. */
static bool begin_lookup(struct client *c)
{
	struct client_login *l = c->login;
	const struct config *cfg = c->worker->runtime->config;
	const struct conf_database *entry = query_entry(c);
	const char *auth_user = entry ? config_auth_user(cfg, entry) : "";
	struct cluster *cluster = *auth_user ? cluster_of_database(entry) : NULL;
	/* What an unknown user is asked for must not tell whether the database exists either. */
	l->was_looked_up = *auth_user || *cfg->auth_user;
	if (!cluster)
		return false;
	const char *name = login_is_console(l->database)     ? cfg->auth_dbname
	                   : *config_auth_dbname(cfg, entry) ? config_auth_dbname(cfg, entry)
	                                                     : l->database;
	const struct auth_query q = {
		.cluster = cluster,
		.login = { auth_user, password_of(c, auth_user, entry), entry->dbname ? entry->dbname : name },
		.sql = config_auth_query(cfg, entry),
		.user = l->user,
	};
	l->lookup = auth_query_ask(&q, c->worker->loop, on_looked_up, c);
	return true;
}

void auth_forget(struct client *c)
{
	struct client_login *l = c->login;
	auth_query_cancel(l->lookup);
	l->lookup = NULL;
	mem_free_secret(l->found, l->found ? strlen(l->found) : 0);
	l->found = NULL;
}

/* The server login will need what the client's own login has shown to be right.  A SCRAM secret is of no use there; the
 * keys of the exchange are, and have been kept. */
static void keep_found(const struct client *c)
{
	const struct client_login *l = c->login;
	if (l->found && secret_parse(str_of(l->found)) != SECRET_SCRAM)
		learned_secret_remember(str_of(l->user), l->found);
}

/* --- the exchange begins --- */

/* With trust no secret is looked at, but where there is a list of users it must have the name, as in PgBouncer: a
 * forced user= would let everybody in who can reach the port. */
static bool is_listed(const struct client *c)
{
	const struct config *cfg = c->worker->runtime->config;
	bool has_list = *cfg->auth_file || c->login->was_looked_up;
	return !has_list || cfg->auth_type == CONF_AUTH_ANY || c->login->is_known || stored_secret(c);
}

static bool needs_secret(enum auth_method method)
{
	return method == AUTH_METHOD_TRUST || method == AUTH_METHOD_PASSWORD || method == AUTH_METHOD_MD5 ||
	       method == AUTH_METHOD_SCRAM;
}

/* The method is known: what to ask the client for? */
static void pick_exchange(struct client *c, const char *map)
{
	struct client_login *l = c->login;
	const char *secret = stored_secret(c);
	if (l->method == AUTH_METHOD_CERT) {
		l->exchange = certificate_fits(c, map) ? AUTH_EXCHANGE_NONE : AUTH_EXCHANGE_REJECT;
	} else if (l->method == AUTH_METHOD_PEER) {
		l->exchange = peer_fits(c, map) ? AUTH_EXCHANGE_NONE : AUTH_EXCHANGE_REJECT;
	} else if (l->method == AUTH_METHOD_TRUST && !is_listed(c)) {
		l->exchange = AUTH_EXCHANGE_REJECT;
	} else {
		enum secret_kind kind = secret ? secret_parse(str_of(secret)) : typical_kind(c);
		l->exchange = auth_exchange_pick(l->method, kind);
	}
	begin_exchange(c);
}

void auth_begin(struct client *c)
{
	struct client_login *l = c->login;
	const struct config *cfg = c->worker->runtime->config;
	struct hba_verdict v = { true, method_of(cfg->auth_type), 0, NULL };
	client_set_state(c, CLIENT_AUTH);
	if (console_by_socket(c)) {
		l->exchange = AUTH_EXCHANGE_NONE;
		begin_exchange(c);
		return;
	}
	if (v.method == AUTH_METHOD_HBA)
		v = ask_rules(c);
	l->method = v.method;
	if (v.method == AUTH_METHOD_REJECT)
		refuse_by_rules(c, &v);
	else if (!needs_secret(v.method) || cfg->auth_type == CONF_AUTH_ANY || stored_secret(c))
		pick_exchange(c, v.map);
	else if (query_database_is_usable(c) && !begin_lookup(c)) /* else on_looked_up() goes on */
		pick_exchange(c, v.map);
}

static void on_looked_up(void *arg, enum auth_query_result result, const char *secret)
{
	struct client *c = arg;
	c->login->lookup = NULL;
	if (result == AUTH_QUERY_FAILED) {
		login_refuse(c, SQLSTATE_CONNECTION_FAILURE, "bouncer config error: the user could not be looked up");
		return;
	}
	c->login->is_known = result == AUTH_QUERY_NO_SECRET;
	if (result == AUTH_QUERY_FOUND) {
		c->login->found = mem_strdup(secret);
		atomic_store(&last_kind_found, (int)secret_parse(str_of(secret)));
	}
	pick_exchange(c, NULL);
	client_process(c);
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
	enum secret_kind kind = !u && secret ? secret_parse(str_of(secret)) : SECRET_NONE;
	if (l->exchange == AUTH_EXCHANGE_SCRAM && kind == SECRET_PLAIN)
		return scram_verifier_make(str_of(secret), iterations, v);
	if (l->exchange == AUTH_EXCHANGE_SCRAM && kind == SECRET_SCRAM)
		return scram_verifier_parse(str_of(secret), v);
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
		login_refuse(c, SQLSTATE_PROTOCOL_VIOLATION,
		             "client selected an invalid SASL authentication mechanism");
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
			login_refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "invalid SASLInitialResponse message");
			return;
		}
		if (!start_scram(c, &first))
			return;
		in = first.has_data ? first.data : STR("");
	} else if (!msg_parse_sasl_response(f->body, f->body_len, &in)) {
		login_refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "invalid SASLResponse message");
		return;
	}
	enum scram_result r = scram_server_step(&l->scram, in, &out);
	if (r == SCRAM_FAILED) {
		if (scram_failure_is_protocol(l->scram.failure))
			login_refuse(c, SQLSTATE_PROTOCOL_VIOLATION, scram_failure_text(l->scram.failure));
		else
			auth_failed(c);
		return;
	}
	struct wire_writer ww = login_begin_reply(c);
	if (r == SCRAM_CONTINUE)
		msg_put_auth_sasl_continue(&ww, out);
	else
		msg_put_auth_sasl_final(&ww, out);
	if (!login_send_reply(c, &ww) || r != SCRAM_DONE)
		return;
	scram_keys_remember(str_of(l->user), &l->scram.verifier, l->scram.keys.client_key, l->scram.keys.server_key);
	keep_found(c);
	login_done(c);
}

static void on_password(struct client *c, const struct frame *f)
{
	struct client_login *l = c->login;
	const char *secret = stored_secret(c);
	struct str given, stored = str_of(secret ? secret : "");
	if (!msg_parse_password(f->body, f->body_len, &given)) {
		login_refuse(c, SQLSTATE_PROTOCOL_VIOLATION, "invalid password packet");
		return;
	}
	bool right = l->exchange == AUTH_EXCHANGE_MD5 ? password_check_md5(stored, str_of(l->user), l->salt, given)
	                                              : password_check_clear(stored, str_of(l->user), given);
	if (!right || !secret) {
		auth_failed(c);
		return;
	}
	keep_found(c);
	login_done(c);
}

void auth_on_message(struct client *c, const struct frame *f)
{
	if (c->login->exchange == AUTH_EXCHANGE_SCRAM || c->login->exchange == AUTH_EXCHANGE_SCRAM_MOCK)
		on_sasl(c, f);
	else
		on_password(c, f);
}
