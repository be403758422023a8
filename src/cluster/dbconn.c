/* cluster/dbconn.c - see cluster/dbconn.h.
 *
 * While connecting, libpq may close its socket and open another with the same number (sslmode=prefer falling back, a
 * second address), so the event is one-shot there and made anew for each step; epoll would lose the new socket
 * otherwise.  From then on one persistent read event serves all commands. */
#include "cluster/dbconn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <event2/event.h>
#include "base/mem.h"
#include "base/str.h"
#include "io/loop.h"

static void on_connecting(evutil_socket_t fd, short what, void *arg);
static void on_connected(evutil_socket_t fd, short what, void *arg);

void dbconn_init(struct dbconn *c, struct loop *loop, const struct dbconn_ops *ops)
{
	*c = (struct dbconn){ .loop = loop, .ops = ops, .watched = -1 };
}

void dbconn_one_line(const char *message, char *out, size_t size)
{
	struct str s = str_trim(str_of(message));
	const char *end = s.n ? memchr(s.p, '\n', s.n) : NULL;
	if (end)
		s.n = (size_t)(end - s.p);
	str_copy(out, size, s);
}

/* With verbose errors a message of the server reads "FATAL:  28P01: text". */
static void find_sqlstate(const char *message, char out[6])
{
	out[0] = '\0';
	for (const char *p = strstr(message, ":  "); p; p = strstr(p + 3, ":  ")) {
		size_t n = strspn(p + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
		if (n == 5 && p[8] == ':') {
			memcpy(out, p + 3, 5);
			out[5] = '\0';
			return;
		}
	}
}

static void forget_result(struct dbconn *c)
{
	PQclear(c->result);
	c->result = NULL;
}

void dbconn_close(struct dbconn *c)
{
	if (c->state == DBCONN_CLOSED)
		return;
	event_del(&c->event);
	if (c->watched >= 0)
		close(c->watched);
	c->watched = -1;
	forget_result(c);
	PQfinish(c->pg);
	c->pg = NULL;
	c->state = DBCONN_CLOSED;
	c->deadline_us = 0;
}

static void note_failure(struct dbconn *c, const char *message)
{
	dbconn_one_line(message, c->error, sizeof c->error);
	find_sqlstate(c->error, c->sqlstate);
	c->timed_out = false;
	c->needs_password = c->pg && PQconnectionNeedsPassword(c->pg);
}

static void fail(struct dbconn *c, const char *message)
{
	note_failure(c, message);
	dbconn_close(c);
	c->ops->on_failed(c);
}

static void ignore_notice(void *arg, const PGresult *res)
{
	(void)arg;
	(void)res;
}

/* Never the waiting kind of anything: Kerberos may look names up, so it is off. */
static PGconn *start(const struct dbconn_settings *s)
{
	char port[16], hostaddr[NET_NAME_SIZE];
	snprintf(port, sizeof port, "%d", s->port);
	const char *addr = NULL;
	if (s->addr && !net_addr_is_unix(s->addr))
		addr = net_addr_host(s->addr, hostaddr, sizeof hostaddr);
	const struct {
		const char *key, *value;
	} rows[] = {
		{ "host", s->host },
		{ "hostaddr", addr },
		{ "port", port },
		{ "user", s->login.user },
		{ "password", s->login.password },
		{ "dbname", s->login.dbname },
		{ "sslmode", s->tls.sslmode },
		{ "sslrootcert", s->tls.ca_file },
		{ "sslcert", s->tls.cert_file },
		{ "sslkey", s->tls.key_file },
		{ "ssl_min_protocol_version", s->tls.min_protocol },
		{ "ssl_max_protocol_version", s->tls.max_protocol },
		{ "options", s->options },
		{ "application_name", "pgweir-monitor" },
		{ "client_encoding", "UTF8" },
		{ "gssencmode", "disable" },
	};
	const char *keys[ARRAY_LEN(rows) + 1], *values[ARRAY_LEN(rows) + 1];
	unsigned n = 0;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!rows[i].value || !*rows[i].value)
			continue;
		keys[n] = rows[i].key;
		values[n++] = rows[i].value;
	}
	keys[n] = values[n] = NULL;
	return PQconnectStartParams(keys, values, 0);
}

/* Never while the event is pending: the base would keep a descriptor that is not ours any more. */
static void await(struct dbconn *c, short what)
{
	DCHECK(c->pg && PQsocket(c->pg) >= 0);
	event_assign(&c->event, loop_base(c->loop), PQsocket(c->pg), what, on_connecting, c);
	event_add(&c->event, NULL);
}

/* libpq closes its socket inside a call that fails, while our event is pending; the number may be another thread's by
 * the time the event is taken back.  So the event watches a duplicate that only we close. */
static bool watch(struct dbconn *c)
{
	c->watched = fcntl(PQsocket(c->pg), F_DUPFD_CLOEXEC, 0);
	if (c->watched < 0)
		return false;
	event_assign(&c->event, loop_base(c->loop), c->watched, EV_READ | EV_PERSIST, on_connected, c);
	event_add(&c->event, NULL);
	return true;
}

bool dbconn_open(struct dbconn *c, const struct dbconn_settings *settings, uint64_t deadline_us)
{
	CHECK(c->state == DBCONN_CLOSED);
	c->pg = start(settings);
	if (!c->pg || PQstatus(c->pg) == CONNECTION_BAD || PQsocket(c->pg) < 0) {
		note_failure(c, c->pg ? PQerrorMessage(c->pg) : "out of memory");
		PQfinish(c->pg);
		c->pg = NULL;
		return false;
	}
	PQsetNoticeReceiver(c->pg, ignore_notice, NULL);
	PQsetErrorVerbosity(c->pg, PQERRORS_VERBOSE);
	c->state = DBCONN_CONNECTING;
	c->deadline_us = deadline_us;
	await(c, EV_WRITE);
	return true;
}

static void on_connecting(evutil_socket_t fd, short what, void *arg)
{
	struct dbconn *c = arg;
	(void)fd;
	(void)what;
	DCHECK(c->state == DBCONN_CONNECTING);
	PostgresPollingStatusType status = PQconnectPoll(c->pg);
	switch (status) {
	case PGRES_POLLING_READING:
		await(c, EV_READ);
		return;
	case PGRES_POLLING_WRITING:
		await(c, EV_WRITE);
		return;
	case PGRES_POLLING_OK:
		break;
	case PGRES_POLLING_FAILED:
	case PGRES_POLLING_ACTIVE:
		fail(c, PQerrorMessage(c->pg));
		return;
	}
	if (!watch(c)) {
		fail(c, strerror(errno));
		return;
	}
	PQsetnonblocking(c->pg, 1); /* from here on PQflush() may leave something for later */
	c->state = DBCONN_IDLE;
	c->deadline_us = 0;
	c->ops->on_ready(c);
}

static bool is_error(const PGresult *res)
{
	ExecStatusType status = PQresultStatus(res);
	return status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_EMPTY_QUERY;
}

/* Keeps the last result, but the first error. */
static void keep_result(struct dbconn *c, PGresult *res)
{
	if (c->result && is_error(c->result)) {
		PQclear(res);
		return;
	}
	forget_result(c);
	c->result = res;
}

/* Reports a finished command; the owner may do anything in on_result(). */
static void finish_command(struct dbconn *c)
{
	PGresult *res = c->result;
	DCHECK(c->state == DBCONN_BUSY);
	c->result = NULL;
	c->state = DBCONN_IDLE;
	c->deadline_us = 0;
	c->ops->on_result(c, res);
	PQclear(res);
}

static void collect_results(struct dbconn *c)
{
	while (!PQisBusy(c->pg)) {
		PGresult *res = PQgetResult(c->pg);
		if (res) {
			keep_result(c, res);
			continue;
		}
		if (PQstatus(c->pg) == CONNECTION_BAD)
			fail(c, c->result ? PQresultErrorMessage(c->result) : PQerrorMessage(c->pg));
		else
			finish_command(c);
		return;
	}
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
	struct dbconn *c = arg;
	(void)fd;
	(void)what;
	if (!PQconsumeInput(c->pg)) {
		fail(c, PQerrorMessage(c->pg));
		return;
	}
	if (c->state == DBCONN_BUSY) {
		if (PQflush(c->pg) < 0)
			fail(c, PQerrorMessage(c->pg));
		else
			collect_results(c);
		return;
	}
	/* Idle: ParameterStatus, or a message that ends the connection. Let libpq parse it. */
	if (!PQisBusy(c->pg) && PQstatus(c->pg) == CONNECTION_BAD)
		fail(c, PQerrorMessage(c->pg));
	else if (c->ops->on_notify)
		c->ops->on_notify(c);
}

/* A failure to send is told by the socket: the next read reports it, so that no callback runs inside a call. */
static void after_send(struct dbconn *c, int sent, uint64_t deadline_us)
{
	CHECK(c->state == DBCONN_IDLE);
	c->state = DBCONN_BUSY;
	c->deadline_us = deadline_us;
	if (!sent || PQflush(c->pg) < 0)
		event_active(&c->event, EV_READ, 0);
}

void dbconn_query(struct dbconn *c, const char *sql, uint64_t deadline_us)
{
	after_send(c, PQsendQuery(c->pg, sql), deadline_us);
}

void dbconn_query_with(struct dbconn *c, const char *sql, const char *value, uint64_t deadline_us)
{
	after_send(c, PQsendQueryParams(c->pg, sql, 1, NULL, &value, NULL, NULL, 0), deadline_us);
}

void dbconn_execute(struct dbconn *c, const char *prepared, uint64_t deadline_us)
{
	after_send(c, PQsendQueryPrepared(c->pg, prepared, 0, NULL, NULL, NULL, 0), deadline_us);
}

bool dbconn_check_deadline(struct dbconn *c, uint64_t now_us)
{
	if (c->state == DBCONN_CLOSED || c->deadline_us == 0 || now_us < c->deadline_us)
		return false;
	note_failure(c, c->state == DBCONN_CONNECTING ? "timed out while connecting"
	                                              : "timed out while waiting for an answer");
	c->timed_out = true;
	dbconn_close(c);
	c->ops->on_failed(c);
	return true;
}

bool dbconn_was_refused(const struct dbconn *c)
{
	/* invalid authorization, invalid catalog name, insufficient privilege, insufficient resources */
	static const char *const classes[] = { "28", "3D", "42", "53" };
	for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
		if (strncmp(c->sqlstate, classes[i], 2) == 0)
			return true;
	}
	return c->needs_password;
}

bool dbconn_in_hot_standby(const struct dbconn *c)
{
	const char *value = c->pg ? PQparameterStatus(c->pg, "in_hot_standby") : NULL;
	return value && strcmp(value, "on") == 0;
}

/* --- identities --- */

static void replace(const char **at, const char *value)
{
	mem_free((void *)(uintptr_t)*at);
	*at = value && *value ? mem_strdup(value) : NULL;
}

static void replace_secret(const char **at, const char *value)
{
	if (*at)
		mem_free_secret((void *)(uintptr_t)*at, strlen(*at));
	*at = value && *value ? mem_strdup(value) : NULL;
}

void dbconn_identity_set(struct dbconn_identity *id, const struct monitor_login *login, const struct monitor_tls *tls)
{
	static const struct monitor_login no_login;
	static const struct monitor_tls no_tls;
	login = login ? login : &no_login;
	tls = tls ? tls : &no_tls;
	replace(&id->login.user, login->user);
	replace_secret(&id->login.password, login->password);
	replace(&id->login.dbname, login->dbname);
	replace(&id->tls.sslmode, tls->sslmode);
	replace(&id->tls.ca_file, tls->ca_file);
	replace(&id->tls.cert_file, tls->cert_file);
	replace(&id->tls.key_file, tls->key_file);
	replace(&id->tls.min_protocol, tls->min_protocol);
	replace(&id->tls.max_protocol, tls->max_protocol);
}

void dbconn_identity_free(struct dbconn_identity *id) { dbconn_identity_set(id, NULL, NULL); }

static bool same(const char *a, const char *b) { return str_eq(str_of(a), str_of(b)); }

bool dbconn_identity_equal(const struct dbconn_identity *a, const struct dbconn_identity *b)
{
	return same(a->login.user, b->login.user) && same(a->login.password, b->login.password) &&
	       same(a->login.dbname, b->login.dbname) && same(a->tls.sslmode, b->tls.sslmode) &&
	       same(a->tls.ca_file, b->tls.ca_file) && same(a->tls.cert_file, b->tls.cert_file) &&
	       same(a->tls.key_file, b->tls.key_file) && same(a->tls.min_protocol, b->tls.min_protocol) &&
	       same(a->tls.max_protocol, b->tls.max_protocol);
}

struct monitor_login monitor_login_merge(const struct monitor_login *own, const struct monitor_login *fallback)
{
	struct monitor_login merged = *own;
	if (!merged.user || !*merged.user) {
		merged.user = fallback->user;
		merged.password = fallback->password;
	} else if ((!merged.password || !*merged.password) && fallback->user && same(merged.user, fallback->user)) {
		merged.password = fallback->password;
	}
	if (!merged.dbname || !*merged.dbname)
		merged.dbname = fallback->dbname;
	return merged;
}
