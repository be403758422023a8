/* control/lifecycle.c - see control/lifecycle.h.
 *
 * Order of starting: what needs root or may fail (sockets, files, certificates) first, then the fork, then the threads.
 * Order of ending: no new clients, clients out, questions between threads answered (control/ask.h), threads joined, and
 * only then loops freed: whoever has posted a message may still be on his way out of loop_post() when it is read.
 * Signals are blocked in every thread but this one, whose libevent loop turns them into callbacks; so nothing here runs
 * in the restricted world of a signal handler. */
#include "control/lifecycle.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <event2/event.h>
#include "auth/scram.h"
#include "auth/userdb.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/mono.h"
#include "base/version.h"
#include "cluster/monitor.h"
#include "cluster/setup.h"
#include "control/admin.h"
#include "control/advice.h"
#include "control/ask.h"
#include "control/http.h"
#include "control/listener.h"
#include "control/db_order.h"
#include "control/process.h"
#include "control/stats_log.h"
#include "io/loop.h"
#include "proxy/client.h"
#include "proxy/worker.h"

enum { DRAIN_LOOK_US = 20 * 1000, LOCK_LOOK_US = 200 * 1000, FILES_BESIDE_CLIENTS = 64 };

static struct {
	struct loop *loop;       /* owned */
	struct runtime *runtime; /* owned reference: what new work gets */
	struct lifecycle_options options;
	_Atomic enum lifecycle_phase phase; /* read by any thread */
	struct loop_timer drain;
	struct loop_timer lock; /* after a takeover: until the predecessor has ended */
	bool drain_asked;       /* a round over the workers is under way */
	bool log_is_file;       /* who starts us does not see the log */
} self;

enum lifecycle_phase lifecycle_phase(void) { return self.phase; }

/* --- configuration --- */

static void log_errors(const struct config_errors *errs)
{
	static const enum log_level levels[] = {
		[CONFIG_NOTICE] = LOG_INFO, [CONFIG_WARNING] = LOG_WARNING, [CONFIG_ERROR] = LOG_ERROR
	};
	for (int i = 0; i < errs->n; i++)
		log_line(levels[errs->items[i].severity], NULL, "%s", errs->items[i].text);
	if (errs->n_dropped)
		log_warning(NULL, "%d more messages are not shown", errs->n_dropped);
}

/* -q must silence standard error even where no log file is set, as init scripts of PgBouncer expect. */
static const char *log_path(const struct config *cfg)
{
	if (*cfg->logfile)
		return cfg->logfile;
	return self.options.quiet ? "/dev/null" : NULL;
}

/* Also at each reload: whoever rotates logs moves the file away and sends SIGHUP.  The old file stays in use when
 * the new one cannot be opened. */
static bool open_log(const struct config *cfg, char *err, size_t err_size)
{
	if (log_open(log_path(cfg), cfg->log_format, config_log_level(cfg))) {
		self.log_is_file = log_path(cfg) != NULL;
		log_syslog("/dev/log", cfg->syslog ? cfg->syslog_ident : NULL, cfg->syslog_facility);
		return true;
	}
	snprintf(err, err_size, "could not open log file \"%s\": %s", cfg->logfile, strerror(errno));
	return false;
}

/* The monitor logs in by itself, since pass-through keeps no password: as monitor_user, else as auth_user, whose
 * password then stands in auth_file (only a plain one is of use: a SCRAM secret cannot log in). */
static void watch_servers(bool is_start)
{
	const struct config *cfg = self.runtime->config;
	const struct userdb_user *u = userdb_find(self.runtime->users, str_of(cfg->auth_user));
	struct cluster_setup setup;
	cluster_setup_options(&setup, cfg, u && u->kind == SECRET_PLAIN ? u->secret : NULL);
	if (is_start)
		monitor_start(&setup.options);
	else
		monitor_reconfigure(&setup.options);
	cluster_setup_watch(cfg);
}

/* So that "what did this reload do?" can be answered from the log; secrets come masked. */
static void log_changes(const struct config *old_cfg, const struct config *new_cfg)
{
	struct config_changes changes = config_diff(old_cfg, new_cfg);
	for (int i = 0; i < changes.n; i++) {
		const struct config_change *c = &changes.items[i];
		log_info(NULL, "[%s] %s: %s -> %s", c->section, c->key, c->old_text ? c->old_text : "(none)",
		         c->new_text ? c->new_text : "(none)");
	}
	config_changes_free(&changes);
}

/* Makes cfg (consumed) the configuration of the process.  tls_of: whose TLS contexts stay in use; NULL: new ones. */
static bool apply(struct config *cfg, const struct runtime *tls_of, struct pgerr *err)
{
	char why[512] = "";
	struct runtime *runtime = runtime_new_with_tls_of(cfg, tls_of, why, sizeof why), *old = self.runtime;
	if (!runtime) {
		log_error(NULL, "%s", why);
		pgerr_set(err, SQLSTATE_CONFIG_FILE_ERROR, "%s", why);
		return false;
	}
	log_changes(old->config, cfg);
	if (!open_log(cfg, why, sizeof why))
		log_error(NULL, "%s", why);
	self.runtime = runtime;
	workers_reconfigure(runtime);
	watch_servers(false);
	stats_log_configure(cfg);
	runtime_unref(old);
	return true;
}

/* PgBouncer's words, and why. */
static void reload_failed(struct pgerr *err, const char *why)
{
	char *reason = mem_strdup(why);
	pgerr_set(err, SQLSTATE_CONFIG_FILE_ERROR, "RELOAD failed, see logs for additional details");
	pgerr_detail(err, "%s", reason);
	mem_free(reason);
}

/* Read whole before anything is touched: a file with one bad line changes nothing. */
bool lifecycle_reload(struct pgerr *err)
{
	struct config_source source = self.options.source;
	struct config_errors errs = { 0 };
	const struct config *now = self.runtime->config;
	char *path = source.path ? mem_strdup(*now->conffile ? now->conffile : source.path) : NULL;
	process_notify("RELOADING=1");
	source.path = path;
	struct config *cfg = config_load(&source, &errs);
	if (cfg)
		config_keep_restart_keys(cfg, now, &errs);
	log_errors(&errs);
	bool ok = false;
	if (cfg) {
		ok = apply(cfg, NULL, err);
		if (!ok)
			reload_failed(err, err->message);
	} else {
		const char *first = "";
		for (int i = errs.n; i-- > 0;)
			first = errs.items[i].severity == CONFIG_ERROR ? errs.items[i].text : first;
		reload_failed(err, first);
		pgerr_hint(err, "The log has all %d errors; the old settings stay in force.", errs.n_errors);
	}
	if (ok)
		log_info(NULL, "configuration reloaded");
	else
		log_error(NULL, "configuration was not reloaded; the old settings stay in force");
	config_errors_free(&errs);
	mem_free(path);
	process_notify("READY=1");
	return ok;
}

/* The same way as a reload, with a copy that differs in one key: one path to test, and the same checks. */
static bool set_one(struct str key, struct str value, const struct runtime *tls_of, struct pgerr *err)
{
	char *why = NULL;
	struct config *cfg = config_copy(self.runtime->config);
	if (config_set(cfg, key, value, &why))
		return apply(cfg, tls_of, err);
	pgerr_set(err, SQLSTATE_INVALID_PARAMETER_VALUE, "%s", why);
	mem_free(why);
	config_unref(cfg);
	return false;
}

/* A key without its certificate is of no use, and the console sets one after the other. */
static bool is_half_of_a_pair(struct str key)
{
	static const char *const halves[] = { "client_tls_key_file", "client_tls_cert_file", "server_tls_key_file",
		                              "server_tls_cert_file" };
	for (size_t i = 0; i < ARRAY_LEN(halves); i++) {
		if (str_ieq(key, str_of(halves[i])))
			return true;
	}
	return false;
}

bool lifecycle_set(struct str key, struct str value, const char **notice, struct pgerr *err)
{
	if (set_one(key, value, NULL, err))
		return true;
	if (!is_half_of_a_pair(key) || !set_one(key, value, self.runtime, err))
		return false;
	*notice = "TLS settings could not be applied, still using old configuration";
	log_warning(NULL, "%s", *notice);
	return true;
}

/* --- shutdown --- */

/* In a transaction, in the middle of a request, or in a session (of session mode) that has a server; or at the console.
 */
static bool may_finish(const struct client *c)
{
	switch (c->state) {
	case CLIENT_IDLE:
		return c->tx != CTX_NONE || c->seg.open || client_has_session_server(c);
	case CLIENT_WAIT_FRESH:
	case CLIENT_WAIT_PRIMARY:
	case CLIENT_WAIT_QUIET:
	case CLIENT_WAIT_SERVER:
		return c->tx != CTX_NONE;
	case CLIENT_ACTIVE:
	case CLIENT_WAIT_OUTCOME:
	case CLIENT_WAIT_LISTEN:
	case CLIENT_LOCAL:
		return true;
	case CLIENT_STARTUP:
	case CLIENT_TLS:
	case CLIENT_AUTH:
	case CLIENT_WELCOME:
	case CLIENT_RAW:
	case CLIENT_CANCEL:
	case CLIENT_CLOSING:
	case CLIENT_STATE_COUNT:
		return false;
	}
	return false;
}

/* 57P01 is what PostgreSQL says at its own shutdown: drivers and pools know it and connect anew. */
static void send_away(struct worker *w, void *arg UNUSED)
{
	struct client *c, *next;
	struct pgerr err;
	w->draining = true; /* who is busy at every look leaves between two requests */
	pgerr_set_fatal(&err, SQLSTATE_ADMIN_SHUTDOWN, "terminating connection due to administrator command");
	dormant_wake_all(w);
	for (c = TAILQ_FIRST(&w->clients); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!may_finish(c))
			client_close(c, &err, "shutting down");
	}
}

static void on_sent_away(void *arg UNUSED) { self.drain_asked = false; }

/* Looks again and again because a transaction's end is seen on a worker, which should not have to know that somebody
 * waits for it. */
static void on_drain_look(struct loop_timer *t UNUSED)
{
	if (self.phase < LIFECYCLE_LEAVING || self.phase == LIFECYCLE_STOPPING)
		return;
	/* Who only looks on (the console) is not waited for. */
	if (workers_clients() <= admin_sessions() && !listeners_are_open()) {
		log_info(NULL, "all clients have left");
		self.phase = LIFECYCLE_STOPPING;
	} else if (self.phase == LIFECYCLE_DRAINING && !self.drain_asked) {
		self.drain_asked = ask_workers(self.loop, send_away, on_sent_away, NULL);
	}
}

void lifecycle_shutdown(enum lifecycle_shutdown how, const char *by)
{
	static const enum lifecycle_phase phases[] = {
		[SHUTDOWN_NOW] = LIFECYCLE_STOPPING,
		[SHUTDOWN_WAIT_FOR_SERVERS] = LIFECYCLE_DRAINING,
		[SHUTDOWN_WAIT_FOR_CLIENTS] = LIFECYCLE_LEAVING,
	};
	if (self.phase >= phases[how] && self.phase >= LIFECYCLE_LEAVING)
		how = SHUTDOWN_NOW; /* asked again: somebody has lost patience */
	self.phase = phases[how];
	process_notify("STOPPING=1");
	if (how == SHUTDOWN_NOW)
		log_info(NULL, "%s: shutting down now", by);
	else
		log_info(NULL, "%s: shutting down; %d clients are connected", by, workers_clients());
	if (how == SHUTDOWN_WAIT_FOR_CLIENTS)
		listeners_retire();
	else
		listeners_leave_console();
	loop_timer_start_periodic(&self.drain, DRAIN_LOOK_US);
	on_drain_look(NULL);
}

/* --- signals --- */

static void on_hup(void)
{
	struct pgerr err;
	(void)!lifecycle_reload(&err); /* the log has it */
}
static void on_term(void) { lifecycle_shutdown(SHUTDOWN_WAIT_FOR_CLIENTS, "SIGTERM"); }
static void on_int(void) { lifecycle_shutdown(SHUTDOWN_WAIT_FOR_SERVERS, "SIGINT"); }
static void on_quit(void) { lifecycle_shutdown(SHUTDOWN_NOW, "SIGQUIT"); }
static void order_all(enum db_action action, const char *by)
{
	if (self.phase > LIFECYCLE_RUNNING)
		log_info(NULL, "got %s while shutting down, ignoring", by);
	else
		db_order_all(self.loop, action);
}
static void on_usr1(void) { order_all(DB_PAUSE, "SIGUSR1"); }
static void on_usr2(void) { order_all(DB_RESUME, "SIGUSR2"); }

static const struct {
	int number;
	void (*fn)(void);
} signal_table[] = {
	{ SIGHUP, on_hup },   { SIGTERM, on_term }, { SIGINT, on_int },
	{ SIGQUIT, on_quit }, { SIGUSR1, on_usr1 }, { SIGUSR2, on_usr2 },
};
static struct event signal_events[ARRAY_LEN(signal_table)];

static void on_signal(evutil_socket_t number, short what UNUSED, void *arg UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(signal_table); i++) {
		if (signal_table[i].number == number)
			signal_table[i].fn();
	}
}

/* Inherited by the threads started under it; the main thread alone takes signals. */
static void block_signals(sigset_t *old)
{
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(signal_table); i++)
		sigaddset(&set, signal_table[i].number);
	pthread_sigmask(SIG_BLOCK, &set, old);
}

static void start_signals(void)
{
	for (size_t i = 0; i < ARRAY_LEN(signal_table); i++) {
		event_assign(&signal_events[i], loop_base(self.loop), signal_table[i].number, EV_SIGNAL | EV_PERSIST,
		             on_signal, NULL);
		CHECK(event_add(&signal_events[i], NULL) == 0);
	}
}

static void stop_signals(void)
{
	for (size_t i = 0; i < ARRAY_LEN(signal_table); i++)
		event_del(&signal_events[i]);
}

/* --- start --- */

static void on_lock_look(struct loop_timer *t)
{
	if (process_lock_pidfile())
		loop_timer_stop(t);
}

static void end_predecessor(pid_t predecessor)
{
	log_info(NULL, "taking over from process %d", (int)predecessor);
	if (kill(predecessor, SIGTERM) < 0)
		log_warning(NULL, "could not send SIGTERM to process %d: %s", (int)predecessor, strerror(errno));
	loop_timer_start_periodic(&self.lock, LOCK_LOOK_US);
}

/* A warning and no error: limits are often far above what will ever be used. */
static void check_file_limit(const struct config *cfg)
{
	unsigned long have = process_raise_file_limit();
	unsigned long need = (unsigned long)cfg->max_client_conn + FILES_BESIDE_CLIENTS;
	for (int i = 0; i < cfg->n_databases; i++) {
		const struct conf_database *db = &cfg->databases[i];
		int size = config_pool_size(cfg, db, NULL) + config_reserve_pool_size(cfg, db, NULL);
		need += (unsigned long)size * (unsigned long)db->n_hosts;
	}
	if (have < need)
		log_warning(NULL, "only %lu files may be open at once; max_client_conn and the pools may need %lu",
		            have, need);
}

/* A log file that root has made must stay writable when it is opened again. */
static void give_log_away(const struct config *cfg, const struct process_user *user)
{
	int fd = user->name && *cfg->logfile ? open(cfg->logfile, O_WRONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	if (fchown(fd, user->uid, (gid_t)-1) < 0)
		log_warning(NULL, "could not give the log file to \"%s\": %s", user->name, strerror(errno));
	close(fd);
}

/* All that may fail; consumes cfg.  The message is for standard error. */
static bool prepare(struct config *cfg, pid_t *predecessor, char *err, size_t err_size)
{
	const struct lifecycle_options *o = &self.options;
	struct process_user user = { 0 };
	bool ok = false;
	if (!process_find_user(cfg->user, &user, err, err_size) || !open_log(cfg, err, err_size) ||
	    (o->takeover &&
	     !process_find_predecessor(cfg->unix_socket_dir, cfg->listen_port, predecessor, err, err_size)))
		goto end;
	if (o->daemonize && !*cfg->logfile) {
		snprintf(err, err_size, "a daemon (-d) needs logfile");
		goto end;
	}
	give_log_away(cfg, &user);
	if (!process_open_pidfile(cfg->pidfile, o->takeover ? predecessor : NULL, err, err_size) ||
	    !listeners_open(cfg, o->takeover ? LISTENER_TAKEOVER : LISTENER_ALONE, user.name ? user.uid : (uid_t)-1,
	                    err, err_size) ||
	    !http_open(cfg, err, err_size))
		goto end;
	check_file_limit(cfg);
	ok = process_become(&user, err, err_size);
end:
	process_user_free(&user);
	if (ok)
		self.runtime = runtime_new(cfg, err, err_size);
	else
		config_unref(cfg);
	if (!self.runtime || !o->daemonize)
		return self.runtime != NULL;
	return process_daemonize(err, err_size);
}

/* The console must be known before the first client can be accepted, the monitor before the first one asks for
 * facts. */
static bool start_threads(void)
{
	const struct config *cfg = self.runtime->config;
	unsigned n = (unsigned)(cfg->workers ? cfg->workers : process_usable_cpus());
	sigset_t old;
	block_signals(&old);
	self.loop = loop_new("main");
	loop_timer_init(&self.drain, self.loop, on_drain_look);
	loop_timer_init(&self.lock, self.loop, on_lock_look);
	ask_start(self.loop);
	admin_start();
	watch_servers(true);
	bool ok = workers_start(self.runtime, n);
	if (ok) {
		stats_log_start(self.loop, cfg);
		advice_start(self.loop);
		http_start();
	} else {
		log_fatal(NULL, "could not start %u worker threads", n);
	}
	start_signals();
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ok)
		log_info(NULL, "pgweir %s started: %u workers, process %d", PGWEIR_VERSION, n, (int)getpid());
	return ok;
}

static void end_all(void)
{
	listeners_close();
	stats_log_stop();
	advice_stop();
	ask_stop();
	loop_timer_start_periodic(&self.drain, DRAIN_LOOK_US);
	while (!ask_is_quiet())
		loop_turn(self.loop, LOOP_WAIT);
	loop_timer_stop(&self.drain);
	loop_timer_stop(&self.lock);
	http_stop();
	workers_stop();
	http_free();
	monitor_stop();
	stop_signals();
	loop_free(self.loop);
	admin_stop();
	runtime_unref(self.runtime);
	scram_keys_forget_all();
	process_remove_pidfile();
	log_info(NULL, "stopped");
}

/* SIGPIPE would end the process when a client leaves at the wrong moment. */
int lifecycle_run(struct config *cfg, const struct lifecycle_options *options)
{
	char err[512] = "";
	pid_t predecessor = 0;
	self.options = *options;
	signal(SIGPIPE, SIG_IGN);
	if (!prepare(cfg, &predecessor, err, sizeof err)) {
		fprintf(stderr, "pgweir: %s\n", err);
		if (self.log_is_file)
			log_fatal(NULL, "%s", err);
		listeners_close();
		http_free();
		runtime_unref(self.runtime);
		process_remove_pidfile();
		return 1;
	}
	process_write_pidfile();
	if (!start_threads()) {
		/* Threads that did start cannot be ended one by one; the process's end takes them along. */
		listeners_close();
		process_remove_pidfile();
		return 1;
	}
	listeners_start(self.loop);
	if (predecessor)
		end_predecessor(predecessor);
	self.phase = LIFECYCLE_RUNNING;
	process_notify("READY=1");
	while (self.phase != LIFECYCLE_STOPPING)
		loop_turn(self.loop, LOOP_WAIT);
	end_all();
	return 0;
}
