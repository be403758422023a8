/* proxy/measure.c - see proxy/measure.h. */
#include "proxy/measure.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/mono.h"
#include "io/net.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/pool.h"
#include "proxy/server.h"
#include "proxy/slow_text.h"
#include "proxy/worker.h"

static const char *const error_classes[] = {
#define ERROR_CLASS_NAME(text) text,
	ERROR_CLASSES(ERROR_CLASS_NAME)
#undef ERROR_CLASS_NAME
};

const char *error_class_name(unsigned at) { return error_classes[at]; }

static unsigned error_class(const char sqlstate[5])
{
	unsigned at = 0;
	while (at < ERROR_CLASS_COUNT - 1 && memcmp(error_classes[at], sqlstate, 2) != 0)
		at++;
	return at;
}

/* --- applications --- */

static void application_free(struct worker *w, struct application *a)
{
	HASH_DEL(w->applications, a);
	mem_free(a);
}

/* A place in the table: of an application that has no client any more. */
static bool make_room(struct worker *w)
{
	struct application *a, *next;
	if (HASH_COUNT(w->applications) < APPLICATIONS_MAX)
		return true;
	HASH_ITER(hh, w->applications, a, next)
	{
		if (a->clients)
			continue;
		application_free(w, a);
		return true;
	}
	return false;
}

static struct application *application_get(struct worker *w, const char *name)
{
	struct application *a;
	HASH_FIND_STR(w->applications, name, a);
	if (a)
		return a;
	if (!make_room(w)) {
		/* One more than the bound, for all who find no place. */
		if (strcmp(name, "(other)") != 0)
			return application_get(w, "(other)");
	}
	size_t n = strlen(name) + 1;
	a = mem_zalloc(sizeof *a + n);
	memcpy(a->name, name, n);
	HASH_ADD_KEYPTR(hh, w->applications, a->name, n - 1, a);
	return a;
}

void measure_client_gone(struct client *c)
{
	if (c->measured_as)
		c->measured_as->clients--;
	c->measured_as = NULL;
}

void measure_client(struct client *c)
{
	const struct dbuser *du = c->du;
	c->log_min_us = config_log_min_duration_us(du->config, du->conf, du->conf_user, c->conf_app);
	const char *name = c->application ? c->application : "";
	if (c->measured_as && strcmp(c->measured_as->name, name) == 0)
		return;
	/* Before the old place is given up: it may be "(other)" already. */
	struct application *a = application_get(c->worker, name);
	if (a == c->measured_as)
		return;
	measure_client_gone(c);
	c->measured_as = a;
	c->measured_as->clients++;
	c->measured_as->logins++;
}

void measures_sum(struct measures *to, const struct measures *from)
{
	for (int role = 0; role < 2; role++) {
		histogram_sum(&to->latency[role], &from->latency[role]);
		to->latency_us[role] += from->latency_us[role];
	}
	histogram_sum(&to->wait, &from->wait);
	to->waiting_us += from->waiting_us;
	for (unsigned i = 0; i < ERROR_CLASS_COUNT; i++)
		to->errors[i] += from->errors[i];
	for (unsigned i = 0; i < SQL_PIN_COUNT; i++)
		to->pins[i] += from->pins[i];
}

void measures_free(struct worker *w)
{
	struct application *a, *next;
	HASH_ITER(hh, w->applications, a, next)
	application_free(w, a);
}

/* --- segments --- */

static const char *text_of(const struct client *c)
{
	return c->seg.shape ? shape_text(c->seg.shape) : "(several statements, or one that is too large to be read)";
}

/* When everything is slow at once, writing of it must not make it slower: so many lines a second from each worker, and
 * then how many were left out.  Not where all lines were asked for (log_min_duration = 0). */
static bool may_log_slow(struct client *c)
{
	struct slow_log *log = &c->worker->slow_log;
	uint64_t second = loop_now_us(c->worker->loop) / MONO_SEC;
	if (log->second != second && log->left_out)
		log_info(NULL, "%u more slow queries were not logged", log->left_out);
	if (log->second != second)
		*log = (struct slow_log){ .second = second };
	if (c->log_min_us == 0 || log->lines++ < SLOW_LINES_MAX)
		return true;
	log->left_out++;
	return false;
}

/* Literals are not in the text; with SQL in hand, names of tables and columns are all that it tells.  Unless the
 * operator has asked for more. */
static void log_slow(const struct client *c, const struct server *s, const struct shape_sample *x)
{
	struct log_subject about = client_subject(c);
	struct buf query = { 0 }, parameters = { 0 };
	bool literally = c->du->config->log_literals && slow_text_get(c, &query, &parameters);
	char peer[NET_NAME_SIZE], server[NET_NAME_SIZE];
	about.peer = net_addr_format(c->peer, peer, sizeof peer);
	snprintf(server, sizeof server, "%s:%d", s->pool->host->name, s->pool->host->port);
	const struct log_field fields[] = {
		{ "duration_ms", NULL, x->us, LOG_FIELD_MS },
		{ "wait_ms", NULL, x->wait_us, LOG_FIELD_MS },
		{ "server", server, 0, LOG_FIELD_TEXT },
		{ "route", x->replica ? "replica" : "primary", 0, LOG_FIELD_TEXT },
		{ "reason", route_reason_name(c->seg.reason), 0, LOG_FIELD_TEXT },
		{ "retried", c->seg.retried ? "yes" : NULL, 0, LOG_FIELD_TEXT },
		{ "failed", x->failed ? "yes" : NULL, 0, LOG_FIELD_TEXT },
		{ "rows", NULL, x->rows, LOG_FIELD_NUMBER },
		{ "bytes", NULL, x->bytes, LOG_FIELD_NUMBER },
		{ "query", literally ? (const char *)buf_head(&query) : text_of(c), 0, LOG_FIELD_TEXT },
		{ "parameters", literally && buf_len(&parameters) > 1 ? (const char *)buf_head(&parameters) : NULL, 0,
		  LOG_FIELD_TEXT },
	};
	log_fields(LOG_INFO, &about, "slow query", fields, ARRAY_LEN(fields));
	buf_deinit(&query);
	buf_deinit(&parameters);
}

void measure_segment(struct client *c, const struct server *s, bool failed)
{
	struct dbuser *du = c->du;
	uint64_t started = c->seg.started_us;
	struct shape_sample x = { .us = loop_now_us(c->worker->loop) - started,
		                  .wait_us = c->seg.sent_us - started,
		                  .rows = c->seg.rows,
		                  .bytes = c->sent_bytes - c->seg.sent_before,
		                  .failed = failed,
		                  .replica = s->is_replica };
	histogram_add(&du->measures.latency[x.replica], x.us);
	du->measures.latency_us[x.replica] += x.us;
	histogram_add(&du->measures.wait, x.wait_us);
	du->measures.waiting_us += x.wait_us;
	if (c->measured_as)
		shape_use_add(&c->measured_as->use, &x);
	shape_use_add(c->seg.shape ? shape_use(c->seg.shape) : &c->worker->other_use, &x);
	if (UNLIKELY(x.us >= c->log_min_us) && may_log_slow(c))
		log_slow(c, s, &x);
}

void measure_error(struct client *c, const char sqlstate[5])
{
	c->worker->stats.total.errors++;
	if (!c->du)
		return;
	c->du->stats.errors++;
	c->du->measures.errors[error_class(sqlstate)]++;
	if (c->measured_as)
		c->measured_as->errors++;
}

void measure_pins(struct client *c, uint32_t pins)
{
	for (unsigned bit = 0; bit < SQL_PIN_COUNT; bit++)
		c->du->measures.pins[bit] += pins >> bit & 1u;
}
