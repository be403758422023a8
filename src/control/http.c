/* control/http.c - see control/http.h.
 *
 * libevent's evhttp reads the request; the answer waits until the workers have been asked.  A client that leaves
 * meanwhile takes its struct evhttp_request with it, so the connection's close callback makes us forget it. */
#include "control/http.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include "base/log.h"
#include "base/mem.h"
#include "control/ask.h"
#include "control/page.h"
#include "control/report.h"
#include "control/show.h"
#include "control/show_tables.h"
#include "control/usage.h"
#include "io/loop.h"
#include "io/net.h"
#include "proxy/worker.h"

enum { REQUEST_TIMEOUT_S = 10, HEADERS_BYTES_MAX = 16 * 1024, BODY_BYTES_MAX = 16 * 1024, PENDING_MAX = 64 };

static struct {
	struct loop *loop;     /* owned; NULL: not started */
	struct evhttp *server; /* owned; used on the loop's thread only */
	pthread_t thread;
	int fds[NET_LISTEN_MAX];
	int n_fds;
	unsigned pending; /* requests that wait for the workers */
} self;

#define JSON_TYPE    "application/json"
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* One request under way. */
struct visit {
	struct evhttp_request *req;  /* borrowed; NULL once its connection is gone */
	const struct page *page;     /* static */
	struct usage_table *usage;   /* owned; of pages that want it */
	const struct config *config; /* owned reference, of the first worker */
	struct show_query query;     /* /api/status: the table being asked for */
	unsigned next_table;
	struct buf out; /* owned */
	bool failed;
};

struct page {
	const char *path;
	const char *type;
	bool (*make)(struct visit *v, bool *ok); /* false: no memory; *ok false: 503; NULL: tables */
	const struct status_table *tables;
	unsigned n_tables;
};

/* --- answering --- */

/* Nothing may be cached: a load balancer that reads yesterday's health is worse than none. */
static void send_body(struct evhttp_request *req, int code, const char *type, const void *body, size_t n)
{
	struct evbuffer *out = evhttp_request_get_output_buffer(req);
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evbuffer_add(out, body, n);
	evhttp_send_reply(req, code, code == HTTP_OK ? "OK" : "Error", NULL);
}

static void send_text(struct evhttp_request *req, int code, const char *text)
{
	send_body(req, code, "text/plain", text, strlen(text));
}

/* The request itself belongs to evhttp. */
static void visit_free(struct visit *v)
{
	usage_free(v->usage);
	config_unref(v->config);
	buf_deinit(&v->out);
	mem_free(v);
	self.pending--;
}

/* The connection may have gone while the workers were asked. */
static void finish(struct visit *v, bool ok)
{
	if (v->req) {
		evhttp_connection_set_closecb(evhttp_request_get_connection(v->req), NULL, NULL);
		if (v->failed)
			send_text(v->req, HTTP_INTERNAL, "out of memory\n");
		else
			send_body(v->req, ok ? HTTP_OK : HTTP_SERVUNAVAIL, v->page->type, buf_head(&v->out),
			          buf_len(&v->out));
	}
	visit_free(v);
}

static void on_gone(struct evhttp_connection *connection UNUSED, void *arg)
{
	struct visit *v = arg;
	v->req = NULL;
}

/* --- pages --- */

static bool make_health(struct visit *v, bool *ok) { return report_health(&v->out, v->usage, ok); }
static bool make_ready(struct visit *v, bool *ok) { return report_ready(&v->out, ok); }
static bool make_metrics(struct visit *v, bool *ok)
{
	*ok = true;
	return report_metrics(&v->out, v->usage, v->config);
}

/* SHOW tables that make up one answer: an object with a member for each. */
struct status_table {
	const char *key;
	const struct show_table *table;
};
static const struct status_table status_tables[] = {
	{ "version", &show_version }, { "state", &show_state }, { "databases", &show_databases },
	{ "pools", &show_pools },     { "stats", &show_stats }, { "servers", &show_replicas },
	{ "workers", &show_workers }, { "lists", &show_lists },
};
static const struct status_table live_tables[] = {
	{ "version", &show_version },     { "state", &show_state },     { "databases", &show_databases },
	{ "pools", &show_pools },         { "stats", &show_stats },     { "servers", &show_replicas },
	{ "latencies", &show_latencies }, { "queries", &show_queries }, { "applications", &show_applications },
};
static const struct page pages[] = {
	{ "/health", JSON_TYPE, make_health, NULL, 0 },
	{ "/ready", JSON_TYPE, make_ready, NULL, 0 },
	{ "/metrics", METRICS_TYPE, make_metrics, NULL, 0 },
	{ "/api/status", JSON_TYPE, NULL, status_tables, ARRAY_LEN(status_tables) },
	{ "/api/live", JSON_TYPE, NULL, live_tables, ARRAY_LEN(live_tables) },
};

static void ask_worker(struct worker *w, void *arg)
{
	struct visit *v = arg;
	if (!v->config)
		v->config = config_ref(w->runtime->config);
	usage_add_worker(v->usage, w);
}

static void on_asked(void *arg)
{
	struct visit *v = arg;
	bool ok = false;
	usage_sort(v->usage);
	v->failed = !v->page->make(v, &ok);
	finish(v, ok);
}

/* --- /api/...: several SHOW tables, one after the other --- */

static bool ask_next_table(struct visit *v);

static void put(struct visit *v, const char *text) { v->failed |= !buf_put(&v->out, text, strlen(text)); }

static void on_table(struct show_query *q)
{
	struct visit *v = CONTAINER_OF(q, struct visit, query);
	v->failed |= !report_table(&v->out, &q->rows);
	show_query_free(q);
	if (++v->next_table < v->page->n_tables) {
		if (!ask_next_table(v))
			finish(v, false);
		return;
	}
	put(v, "}\n");
	finish(v, true);
}

/* One at a time: two rounds over the workers at once would gain nothing and double what is held. */
static bool ask_next_table(struct visit *v)
{
	char key[64];
	const struct status_table *next = &v->page->tables[v->next_table];
	snprintf(key, sizeof key, "%s\"%s\": ", v->next_table ? ", " : "{", next->key);
	put(v, key);
	v->query = (struct show_query){ .done = on_table };
	return show_start(&v->query, next->table, self.loop);
}

/* --- requests --- */

static const struct page *find_page(const char *path)
{
	for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
		if (strcmp(path, pages[i].path) == 0)
			return &pages[i];
	}
	return NULL;
}

/* The page itself says nothing of this process: no worker is asked. */
static void send_page(struct evhttp_request *req)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	char nonce[PAGE_NONCE_SIZE], policy[256];
	struct buf out = { 0 };
	page_make_nonce(nonce);
	snprintf(policy, sizeof policy,
	         "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; connect-src 'self'; img-src data:; "
	         "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	         nonce, nonce);
	evhttp_add_header(headers, "Content-Security-Policy", policy);
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	evhttp_add_header(headers, "Referrer-Policy", "no-referrer");
	if (page_put(&out, nonce))
		send_body(req, HTTP_OK, "text/html; charset=utf-8", buf_head(&out), buf_len(&out));
	else
		send_text(req, HTTP_INTERNAL, "out of memory\n");
	buf_deinit(&out);
}

/* A bound on what may be under way: each visit costs every worker some microseconds. */
static void on_request(struct evhttp_request *req, void *arg UNUSED)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	const struct page *page = path ? find_page(path) : NULL;
	if (path && (strcmp(path, "/") == 0 || !*path)) {
		send_page(req);
		return;
	}
	if (!page) {
		send_text(req, HTTP_NOTFOUND, "not found: /, /health, /ready, /metrics and /api/status are here\n");
		return;
	}
	if (self.pending >= PENDING_MAX) {
		send_text(req, HTTP_SERVUNAVAIL, "too many requests\n");
		return;
	}
	struct visit *v = mem_zalloc(sizeof *v);
	*v = (struct visit){ .req = req, .page = page };
	self.pending++;
	evhttp_connection_set_closecb(evhttp_request_get_connection(req), on_gone, v);
	bool asked;
	if (page->tables) {
		asked = ask_next_table(v);
	} else {
		v->usage = usage_new();
		asked = ask_workers(self.loop, ask_worker, on_asked, v);
	}
	if (!asked)
		finish(v, false);
}

/* --- life --- */

/* A port below 1024 needs root, and a port that is taken should end the start, not show up in the log later. */
bool http_open(const struct config *cfg, char *err, size_t err_size)
{
	struct net_listen_options o = { .reuseport = cfg->so_reuseport };
	char why[256];
	if (!*cfg->http_addr)
		return true;
	int n = net_listen_tcp(cfg->http_host, (uint16_t)cfg->http_port, &o, self.fds, why, sizeof why);
	if (n < 0) {
		snprintf(err, err_size, "http_addr: %s", why);
		return false;
	}
	self.n_fds = n;
	return true;
}

static void *http_main(void *arg UNUSED)
{
	loop_run(self.loop);
	return NULL;
}

static void accept_on(int fd)
{
	char name[NET_NAME_SIZE];
	if (evhttp_accept_socket(self.server, fd) == 0)
		log_info(NULL, "HTTP on %s", net_local_name(fd, name, sizeof name));
	else
		log_error(NULL, "HTTP: could not use the socket");
}

void http_start(void)
{
	if (!self.n_fds)
		return;
	self.loop = loop_new("http");
	self.server = evhttp_new(loop_base(self.loop));
	CHECK(self.server);
	evhttp_set_allowed_methods(self.server, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
	evhttp_set_timeout(self.server, REQUEST_TIMEOUT_S);
	evhttp_set_max_headers_size(self.server, HEADERS_BYTES_MAX);
	evhttp_set_max_body_size(self.server, BODY_BYTES_MAX);
	evhttp_set_gencb(self.server, on_request, NULL);
	for (int i = 0; i < self.n_fds; i++)
		accept_on(self.fds[i]);
	CHECK(pthread_create(&self.thread, NULL, http_main, NULL) == 0);
}

static void on_stop(struct loop *loop, struct loop_msg *msg UNUSED) { loop_stop(loop); }

void http_stop(void)
{
	struct loop_msg stop = { .fn = on_stop };
	if (!self.loop)
		return;
	loop_post(self.loop, &stop);
	pthread_join(self.thread, NULL);
}

void http_free(void)
{
	if (self.loop) {
		evhttp_free(self.server); /* closes the sockets */
		loop_free(self.loop);
		self.loop = NULL;
	} else {
		for (int i = 0; i < self.n_fds; i++)
			close(self.fds[i]);
	}
	self.n_fds = 0;
}
