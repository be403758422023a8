/* control/lifecycle.h - the main thread: start, signals, reload, shutdown.
 *
 *   STARTING -> RUNNING -> (LEAVING | DRAINING) -> STOPPING -> end of lifecycle_run()
 *
 *   LEAVING   nobody new is accepted; clients may go on as long as they like (SHUTDOWN WAIT_FOR_CLIENTS)
 *   DRAINING  nobody new is accepted; a client is sent away as soon as no server works for it (WAIT_FOR_SERVERS)
 *   STOPPING  everything ends now
 *
 * Signals (one table in lifecycle.c):
 *   HUP   reload the configuration, the certificates and auth_file; reopen the log file
 *   TERM  LEAVING, as in PgBouncer since 1.23.  A second one: STOPPING
 *   INT   DRAINING, also from LEAVING.  A second one: STOPPING
 *   QUIT  STOPPING
 *   USR1  PAUSE, USR2  RESUME, of all databases
 *
 * Functions below lifecycle_run() are for the console: main thread only (by ask_main()). */
#ifndef CONTROL_LIFECYCLE_H
#define CONTROL_LIFECYCLE_H

#include <stdbool.h>
#include "base/check.h"
#include "base/str.h"
#include "conf/config.h"
#include "wire/pgerr.h"

enum lifecycle_phase {
	LIFECYCLE_STARTING,
	LIFECYCLE_RUNNING,
	LIFECYCLE_LEAVING,
	LIFECYCLE_DRAINING,
	LIFECYCLE_STOPPING
};

struct lifecycle_options {
	struct config_source source; /* what a reload reads again; its strings live as long as the process */
	bool daemonize;              /* -d */
	bool quiet;                  /* -q: nothing to standard error once started */
	bool takeover; /* -R: share the port with the running process, then have it end with its clients */
};

/* Runs the proxy until it is told to stop; returns the exit status.  Consumes cfg. */
int lifecycle_run(struct config *cfg, const struct lifecycle_options *options);

enum lifecycle_phase lifecycle_phase(void); /* any thread */
/* SIGHUP, RELOAD.  False: *err says why (and all of it went to the log), and the old settings stay. */
bool lifecycle_reload(struct pgerr *err) MUSTCHECK;
/* SET key = value, until the next reload. */
/* *notice: static, or NULL; what is to be said of a change that could not be made use of yet. */
bool lifecycle_set(struct str key, struct str value, const char **notice, struct pgerr *err) MUSTCHECK;

enum lifecycle_shutdown { SHUTDOWN_NOW, SHUTDOWN_WAIT_FOR_SERVERS, SHUTDOWN_WAIT_FOR_CLIENTS };
void lifecycle_shutdown(enum lifecycle_shutdown how, const char *by);

#endif
