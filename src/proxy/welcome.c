/* proxy/welcome.c - the first contact of a client with a server: its greeting, or a replication connection.
 *
 * What ParameterStatus tells a client must be what a backend with its settings would say, spelling included
 * (client_encoding "utf8" is reported as "UTF8").  So the first client with a set of settings waits for a backend that
 * has taken them; later ones get the same answer from the cache. */
#include "base/mem.h"
#include "proxy/cancel.h"
#include "proxy/database.h"
#include "proxy/emit.h"
#include "proxy/params.h"
#include "proxy/pool.h"
#include "proxy/relay_priv.h"
#include "proxy/worker.h"
#include "wire/msg.h"

void relay_welcome(struct client *c)
{
	struct params *status = dbuser_welcome_find(c->du, c->startup, c->facts_no);
	/* In session mode the greeting names the backend, which the client keeps from now on. */
	if (status && c->du->pool_mode != POOL_MODE_SESSION) {
		client_welcome(c, status);
		return;
	}
	c->seg = (struct client_segment){ .role = ROLE_PRIMARY,
		                          .welcome = true,
		                          .started_us = loop_now_us(c->worker->loop),
		                          .consistency = CONSISTENCY_EVENTUAL };
	/* Without a primary a replica says the same of these settings; reads shall go on. */
	if (!cluster_primary(c->du->db->cluster) && cluster_count_role(c->du->db->cluster, HOST_REPLICA))
		c->seg.role = ROLE_REPLICA;
	client_set_state(c, CLIENT_WELCOME);
	relay_request(c);
}

void relay_start_welcome(struct client *c, struct server *s)
{
	if (s->profile == c->profile) {
		relay_welcome_done(c, s, NULL);
		return;
	}
	c->seg.sent_us = loop_now_us(c->worker->loop);
	(void)emit_prelude_only(c, s);
}

void relay_welcome_done(struct client *c, struct server *s, const struct pgerr *err)
{
	struct pgerr copy;
	struct params *status = params_ref(s->status);
	server_settle_profile(s);
	c->seg.welcome = false;
	if (!err && c->du->pool_mode == POOL_MODE_SESSION) {
		(void)cancel_adopt_pid(c, s->backend_pid);
		c->kept[s->is_replica ? ROLE_REPLICA : ROLE_PRIMARY] = s;
		s->needs_reset_query = true;
		c->srv = NULL;
		client_welcome(c, status);
		params_unref(&c->worker->params, status);
		client_process(c);
		return;
	}
	relay_unlink(c);
	if (err) {
		copy = *err;
		copy.severity = PGERR_FATAL;
		client_close(c, &copy, copy.message);
	} else {
		if (s->identity == c->du->identity)
			dbuser_welcome_add(c->du, c->startup, status, s->facts_no);
		client_welcome(c, status);
	}
	params_unref(&s->pool->worker->params, status);
	server_release(s);
	if (c->state == CLIENT_IDLE)
		client_process(c);
}

/* --- replication --- */

void relay_start_raw(struct client *c)
{
	const struct dbuser *du = c->du;
	uint64_t now_us = loop_now_us(c->worker->loop);
	client_set_state(c, CLIENT_RAW);
	stream_want_read(&c->stream, false);
	c->primary_deadline_us = now_us + config_failover_timeout_us(du->config, du->conf, du->conf_user);
	c->wait_since_us = now_us;
	relay_try_raw(c, now_us);
}

void relay_try_raw(struct client *c, uint64_t now_us)
{
	struct host *host = cluster_primary(c->du->db->cluster);
	struct pgerr err;
	if (c->srv || !c->primary_deadline_us)
		return;
	const struct dbuser *du = c->du;
	uint64_t limit = config_query_wait_timeout_us(du->config, du->conf, du->conf_user, c->conf_app);
	struct pool *p = host ? pool_get(c->du, host) : NULL;
	if (p && pool_take_dedicated(p)) {
		c->primary_deadline_us = 0;
		c->srv = server_open_dedicated(p, c);
	} else if (p) {
		if (!limit || now_us - c->wait_since_us < limit)
			return;
		pgerr_set_fatal(&err, SQLSTATE_CONNECTION_REJECTED, "query_wait_timeout");
		client_close(c, &err, err.message);
	} else if (now_us >= c->primary_deadline_us) {
		pgerr_set_fatal(&err, SQLSTATE_CANNOT_CONNECT_NOW, "there is no primary to replicate from");
		client_close(c, &err, err.message);
	}
}

static void put_status(struct wire_writer *ww, const struct params *p)
{
	for (unsigned i = 0; i < p->n; i++)
		msg_put_parameter_status(ww, str_of(params_display_name(p->items[i].name)), str_of(p->items[i].value));
}

/* The server has let it in: from here on bytes pass through, whatever they say (G4). */
void relay_raw_ready(struct client *c, struct server *s)
{
	struct wire_writer ww;
	struct buf *out = &c->worker->reply;
	c->srv = s;
	server_set_state(s, SERVER_LINKED);
	buf_clear(out);
	ww_init(&ww, out);
	msg_put_auth_ok(&ww);
	put_status(&ww, s->status);
	msg_put_key_data(&ww, c->pid, (struct str){ (char *)c->key, c->key_len });
	msg_put_ready(&ww, MSG_TX_IDLE);
	if (!ww_finish(&ww)) {
		client_close(c, NULL, "out of memory");
		return;
	}
	if (client_send(c, buf_head(out), buf_len(out)))
		stream_want_read(&c->stream, true);
}

/* --- greeting --- */

void client_note_status(struct client *c, struct str name, struct str value)
{
	params_set(&c->worker->params, &c->view, name, value);
	if (str_ieq(name, STR("standard_conforming_strings")))
		c->sql_options.std_strings = str_eq(value, STR("on"));
	if (str_ieq(name, STR("client_encoding")))
		c->sql_options.ascii_unsafe = str_eq(value, STR("SJIS")) || str_eq(value, STR("BIG5")) ||
		                              str_eq(value, STR("GBK")) || str_eq(value, STR("UHC")) ||
		                              str_eq(value, STR("GB18030")) || str_eq(value, STR("JOHAB")) ||
		                              str_eq(value, STR("SHIFT_JIS_2004"));
}

static void put_login_notice(struct wire_writer *ww, const char *message)
{
	struct pgerr notice;
	if (!*message)
		return;
	pgerr_set(&notice, SQLSTATE_SUCCESSFUL_COMPLETION, "%s", message);
	notice.severity = PGERR_NOTICE;
	msg_put_error(ww, &notice);
}

/* AuthenticationOk belongs to it: in a write of its own it would wake the client twice. */
void client_welcome(struct client *c, struct params *status)
{
	struct wire_writer ww;
	struct buf *out = &c->worker->reply;
	const char *encoding = params_get(status, "client_encoding"),
	           *std = params_get(status, "standard_conforming_strings");
	params_unref(&c->worker->params, c->view);
	c->view = params_ref(status);
	client_note_status(c, STR("application_name"), str_of(c->application));
	client_note_status(c, STR("client_encoding"), str_of(encoding ? encoding : "UTF8"));
	client_note_status(c, STR("standard_conforming_strings"), str_of(std ? std : "on"));
	/* A client that may write must not take its server for a standby (target_session_attrs). */
	if (params_get(status, "in_hot_standby"))
		client_note_status(c, STR("in_hot_standby"), STR("off"));
	buf_clear(out);
	ww_init(&ww, out);
	msg_put_auth_ok(&ww);
	put_status(&ww, c->view);
	msg_put_key_data(&ww, c->pid, (struct str){ (char *)c->key, c->key_len });
	put_login_notice(&ww, c->worker->runtime->config->login_notify_message);
	msg_put_ready(&ww, MSG_TX_IDLE);
	if (!ww_finish(&ww)) {
		client_close(c, NULL, "out of memory");
		return;
	}
	client_set_state(c, CLIENT_IDLE);
	(void)!client_send(c, buf_head(out), buf_len(out));
}
