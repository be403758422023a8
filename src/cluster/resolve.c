/* cluster/resolve.c - see cluster/resolve.h. */
#include "cluster/resolve.h"

#include <stdio.h>
#include <string.h>
#include <event2/dns.h>
#include <event2/util.h>
#include "base/log.h"
#include "base/mem.h"

struct resolver {
	struct evdns_base *dns; /* owned */
};

struct resolve_request {
	resolve_fn fn;                  /* NULL: cancelled */
	void *arg;                      /* borrowed */
	struct resolve_request **where; /* the caller's pointer to this; NULL: cancelled */
	struct evdns_getaddrinfo_request *dns;
	bool started; /* resolve_start() has returned */
};

struct resolver *resolver_new(struct loop *loop, const char *resolv_conf)
{
	struct resolver *r = mem_zalloc(sizeof *r);
	r->dns = evdns_base_new(loop_base(loop), EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	CHECK(r->dns);
	/* Without a resolv.conf there are no name servers; names in /etc/hosts and addresses work all the same. */
	const char *path = resolv_conf && *resolv_conf ? resolv_conf : "/etc/resolv.conf";
	if (evdns_base_resolv_conf_parse(r->dns, DNS_OPTIONS_ALL, path) == 1 && path == resolv_conf)
		log_error(NULL, "could not read resolv_conf \"%s\"", path);
	return r;
}

void resolver_free(struct resolver *r)
{
	evdns_base_free(r->dns, 0);
	mem_free(r);
}

static void collect(struct evutil_addrinfo *list, struct resolve_answer *answer)
{
	for (struct evutil_addrinfo *ai = list; ai && answer->n < RESOLVE_MAX; ai = ai->ai_next) {
		if (ai->ai_addrlen > sizeof answer->addr[0].ss)
			continue;
		struct net_addr *to = &answer->addr[answer->n++];
		memset(to, 0, sizeof *to);
		memcpy(&to->ss, ai->ai_addr, ai->ai_addrlen);
		to->len = (socklen_t)ai->ai_addrlen;
	}
}

static void on_answer(int status, struct evutil_addrinfo *list, void *arg)
{
	struct resolve_request *q = arg;
	struct resolve_answer answer = { .n = 0 };
	if (status == 0)
		collect(list, &answer);
	if (list)
		evutil_freeaddrinfo(list);
	if (answer.n == 0)
		answer.error = status ? evutil_gai_strerror(status) : "name has no address";
	q->dns = NULL;
	if (q->where)
		*q->where = NULL;
	if (q->fn)
		q->fn(q->arg, &answer);
	if (q->started)
		mem_free(q);
	else
		q->where = NULL; /* resolve_start() frees it */
}

bool resolve_start(struct resolver *r, const char *host, int port, resolve_fn fn, void *arg,
                   struct resolve_request **request)
{
	struct resolve_answer answer = { .n = 0 };
	*request = NULL;
	if (net_addr_parse(host, (uint16_t)port, &answer.addr[0])) {
		answer.n = 1;
		fn(arg, &answer);
		return false;
	}
	struct evutil_addrinfo hints = { .ai_family = AF_UNSPEC,
		                         .ai_socktype = SOCK_STREAM,
		                         .ai_flags = EVUTIL_AI_ADDRCONFIG };
	char service[16];
	snprintf(service, sizeof service, "%d", port);
	struct resolve_request *q = mem_zalloc(sizeof *q);
	q->fn = fn;
	q->arg = arg;
	q->where = request;
	struct evdns_getaddrinfo_request *dns = evdns_getaddrinfo(r->dns, host, service, &hints, on_answer, q);
	if (!q->where) {
		mem_free(q);
		return false;
	}
	q->dns = dns;
	q->started = true;
	*request = q;
	return true;
}

void resolve_cancel(struct resolve_request *q)
{
	if (!q)
		return;
	if (q->where)
		*q->where = NULL;
	q->where = NULL;
	q->fn = NULL;
	if (q->dns)
		evdns_getaddrinfo_cancel(q->dns); /* on_answer() comes later and frees q */
}
