/* src/cluster/monitor.c - the monitor's thread: options, the clusters that it watches, its timer; see
 * cluster/monitor.h.
 *
 * The loop's own timers are good to a few milliseconds; a standby catches up in a quarter of one.  So this thread has
 * one timerfd, armed for whatever is due first. */
#include "cluster/monitor.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <event2/event.h>
#include "base/log.h"
#include "base/mem.h"
#include "monitor_priv.h"

/* Guards the_monitor and pending; not held while the monitor works. */
static pthread_mutex_t state_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct monitor *the_monitor; /* NULL while it does not run */

/* An order for the monitor's thread. */
struct order {
	struct loop_msg msg;
	void (*run)(struct monitor *m, struct order *o);
	struct monitor *m; /* borrowed; set as it is posted */
	struct cluster *c; /* borrowed or NULL */
	struct dbconn_identity identity;
	uint64_t interval_us, connect_timeout_us, dns_ttl_us, facts_refresh_us;
	STAILQ_ENTRY(order) link;
};
static STAILQ_HEAD(, order) pending = STAILQ_HEAD_INITIALIZER(pending); /* given before the start */

/* --- timer --- */

void mon_arm(struct monitor *m)
{
	uint64_t due_us = UINT64_MAX;
	struct mon_cluster *mc;
	LIST_FOREACH(mc, &m->clusters, link)
	{
		if (mc->due_us < due_us)
			due_us = mc->due_us;
	}
	if (due_us == m->armed_us)
		return;
	m->armed_us = due_us;
	struct itimerspec at = { .it_value = { 0, 0 } }; /* zero disarms */
	if (due_us != UINT64_MAX) {
		/* At least 1 ns: what is due already must still fire. */
		at.it_value.tv_sec = (time_t)(due_us / MONO_SEC);
		at.it_value.tv_nsec = (long)(due_us % MONO_SEC * 1000) + 1;
	}
	CHECK(timerfd_settime(m->timer_fd, TFD_TIMER_ABSTIME, &at, NULL) == 0);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct monitor *m = arg;
	struct mon_cluster *mc;
	uint64_t expirations;
	(void)what;
	ssize_t n = read(fd, &expirations, sizeof expirations);
	(void)n;
	m->armed_us = UINT64_MAX;
	uint64_t now_us = mono_now_us();
	LIST_FOREACH(mc, &m->clusters, link)
	{
		if (mc->due_us <= now_us)
			mon_cluster_step(mc, now_us);
	}
	mon_arm(m);
}

static void on_wake(struct loop *loop, struct loop_msg *msg)
{
	struct cluster *c = CONTAINER_OF(msg, struct cluster, wake);
	struct mon_cluster *mc = c->monitor;
	(void)loop;
	atomic_store_explicit(&c->woken, false, memory_order_seq_cst);
	if (!mc)
		return; /* nobody has asked us to watch it */
	mon_cluster_step(mc, mono_now_us());
	mon_arm(mc->m);
}

/* --- orders --- */

static void order_free(struct order *o)
{
	dbconn_identity_free(&o->identity);
	mem_free(o);
}

static void watch(struct monitor *m, struct order *o)
{
	struct mon_cluster *mc = o->c->monitor;
	if (mc) {
		/* A reload may bring other credentials; connections made with the old ones stay until they break. */
		if (o->identity.login.user)
			dbconn_identity_set(&mc->fallback, &o->identity.login, NULL);
		return;
	}
	mc = mem_zalloc(sizeof *mc);
	mc->m = m;
	mc->c = o->c;
	mc->verdict = VERDICT_EARLY;
	dbconn_identity_set(&mc->fallback, &o->identity.login, NULL);
	for (unsigned i = 0; i < mc->c->n_hosts; i++)
		mon_host_init(&mc->hosts[i], mc, i);
	o->c->monitor = mc;
	pthread_mutex_lock(&m->status_mutex);
	LIST_INSERT_HEAD(&m->clusters, mc, link);
	pthread_mutex_unlock(&m->status_mutex);
	mon_cluster_step(mc, mono_now_us());
}

static void cluster_close(struct monitor *m, struct mon_cluster *mc)
{
	pthread_mutex_lock(&m->status_mutex);
	LIST_REMOVE(mc, link);
	pthread_mutex_unlock(&m->status_mutex);
	for (unsigned i = 0; i < mc->c->n_hosts; i++)
		mon_host_close(&mc->hosts[i]);
	mon_early_forget_all(mc);
	mc->c->monitor = NULL;
	dbconn_identity_free(&mc->fallback);
	mem_free(mc);
}

static void unwatch(struct monitor *m, struct order *o)
{
	static const enum host_role unknown[CLUSTER_MAX_HOSTS]; /* zero is HOST_UNKNOWN */
	if (!o->c->monitor)
		return;
	cluster_close(m, o->c->monitor);
	for (unsigned i = 0; i < o->c->n_hosts; i++)
		atomic_store_explicit(&o->c->hosts[i].fresh_round, 0, memory_order_seq_cst);
	cluster_publish_roles(o->c, unknown, NULL);
}

static void take_numbers(struct monitor *m, const struct order *o)
{
	m->interval_us = o->interval_us;
	m->connect_timeout_us = o->connect_timeout_us;
	m->dns_ttl_us = o->dns_ttl_us;
	m->facts_refresh_us = o->facts_refresh_us;
}

static void reconfigure(struct monitor *m, struct order *o)
{
	struct mon_cluster *mc;
	bool same = dbconn_identity_equal(&m->identity, &o->identity);
	take_numbers(m, o);
	dbconn_identity_set(&m->identity, &o->identity.login, &o->identity.tls);
	uint64_t now_us = mono_now_us();
	LIST_FOREACH(mc, &m->clusters, link)
	{
		for (unsigned i = 0; i < mc->c->n_hosts; i++) {
			mc->hosts[i].probe_us = now_us;
			if (!same)
				mon_host_reconnect(&mc->hosts[i], "reconnecting with the new settings");
		}
		mon_cluster_step(mc, now_us);
	}
}

static void on_order(struct loop *loop, struct loop_msg *msg)
{
	struct order *o = CONTAINER_OF(msg, struct order, msg);
	struct monitor *m = o->m;
	(void)loop;
	o->run(m, o);
	order_free(o);
	mon_arm(m);
}

static struct order *order_options(const struct monitor_options *options)
{
	struct order *o = mem_zalloc(sizeof *o);
	o->msg.fn = on_order;
	o->run = reconfigure;
	dbconn_identity_set(&o->identity, &options->login, &options->tls);
	o->interval_us = options->interval_us ? options->interval_us : 200 * MONO_MS;
	o->connect_timeout_us = options->connect_timeout_us;
	o->dns_ttl_us = options->dns_ttl_us ? options->dns_ttl_us : 15 * MONO_SEC;
	o->facts_refresh_us = options->facts_refresh_us ? options->facts_refresh_us : 60 * MONO_SEC;
	return o;
}

static void post_locked(struct order *o)
{
	o->m = the_monitor;
	loop_post(o->m->loop, &o->msg);
}

static void order_cluster(struct cluster *c, const struct monitor_login *login,
                          void (*run_fn)(struct monitor *m, struct order *o))
{
	struct order *o = mem_zalloc(sizeof *o);
	o->msg.fn = on_order;
	o->run = run_fn;
	o->c = c;
	dbconn_identity_set(&o->identity, login, NULL);
	pthread_mutex_lock(&state_mutex);
	if (the_monitor)
		post_locked(o);
	else
		STAILQ_INSERT_TAIL(&pending, o, link);
	pthread_mutex_unlock(&state_mutex);
}

void monitor_watch(struct cluster *c, const struct monitor_login *fallback) { order_cluster(c, fallback, watch); }

void monitor_unwatch(struct cluster *c) { order_cluster(c, NULL, unwatch); }

void monitor_reconfigure(const struct monitor_options *options)
{
	struct order *o = order_options(options);
	pthread_mutex_lock(&state_mutex);
	if (the_monitor)
		post_locked(o);
	else
		order_free(o);
	pthread_mutex_unlock(&state_mutex);
}

/* --- thread --- */

static void *run(void *arg)
{
	struct monitor *m = arg;
	pthread_setname_np(pthread_self(), "monitor");
	loop_run(m->loop);
	return NULL;
}

static struct monitor *monitor_new(const struct monitor_options *options)
{
	struct monitor *m = mem_zalloc(sizeof *m);
	struct order *o = order_options(options);
	LIST_INIT(&m->clusters);
	take_numbers(m, o);
	dbconn_identity_set(&m->identity, &o->identity.login, &o->identity.tls);
	order_free(o);
	pthread_mutex_init(&m->status_mutex, NULL);
	m->loop = loop_new("monitor");
	m->resolver = resolver_new(m->loop, options->resolv_conf);
	m->armed_us = UINT64_MAX;
	m->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	CHECK(m->timer_fd >= 0);
	event_assign(&m->timer_event, loop_base(m->loop), m->timer_fd, EV_READ | EV_PERSIST, on_timer, m);
	event_add(&m->timer_event, NULL);
	return m;
}

void monitor_start(const struct monitor_options *options)
{
	struct monitor *m = monitor_new(options);
	pthread_mutex_lock(&state_mutex);
	CHECK(!the_monitor);
	the_monitor = m;
	while (!STAILQ_EMPTY(&pending)) {
		struct order *o = STAILQ_FIRST(&pending);
		STAILQ_REMOVE_HEAD(&pending, link);
		post_locked(o);
	}
	pthread_mutex_unlock(&state_mutex);
	cluster_set_monitor(m->loop, on_wake);
	dbfacts_loader_start(m);
	auth_query_start(m);
	outcome_start(m);
	listening_start(m);
	int error = pthread_create(&m->thread, NULL, run, m);
	if (error) {
		log_fatal(NULL, "could not start the monitor's thread: %s", strerror(error));
		CHECK(error == 0);
	}
}

static void monitor_free(struct monitor *m)
{
	while (!LIST_EMPTY(&m->clusters))
		cluster_close(m, LIST_FIRST(&m->clusters));
	event_del(&m->timer_event);
	close(m->timer_fd);
	resolver_free(m->resolver);
	loop_free(m->loop);
	dbconn_identity_free(&m->identity);
	pthread_mutex_destroy(&m->status_mutex);
	mem_free(m);
}

void monitor_stop(void)
{
	struct monitor *m = the_monitor;
	if (!m)
		return;
	cluster_set_monitor(NULL, NULL);
	loop_stop(m->loop);
	pthread_join(m->thread, NULL);
	pthread_mutex_lock(&state_mutex);
	the_monitor = NULL;
	pthread_mutex_unlock(&state_mutex);
	loop_turn(m->loop, LOOP_POLL); /* orders that came late; now nobody can post another */
	dbfacts_loader_stop();
	auth_query_stop();
	outcome_stop();
	listening_stop();
	monitor_free(m);
}

void monitor_status(void (*fn)(const struct monitor_row *row, void *arg), void *arg)
{
	struct mon_cluster *mc;
	pthread_mutex_lock(&state_mutex);
	struct monitor *m = the_monitor;
	if (m)
		pthread_mutex_lock(&m->status_mutex);
	pthread_mutex_unlock(&state_mutex);
	if (!m)
		return;
	LIST_FOREACH(mc, &m->clusters, link)
	{
		for (unsigned i = 0; i < mc->c->n_hosts; i++)
			fn(&mc->hosts[i].row, arg);
	}
	pthread_mutex_unlock(&m->status_mutex);
}
