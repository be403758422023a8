/* control/http.h - the HTTP server: /health, /ready, /metrics, /api/status, and the live page at / with its /api/live.
 *
 * One thread with a loop of its own, so that a slow scraper delays neither queries nor the monitor; what it shows it
 * asks the workers for, as the console does.  Off unless http_addr is set.  It shows no literal, no names of
 * clients' hosts and no setting, and changes nothing: it needs no password, but belongs on a private address. */
#ifndef CONTROL_HTTP_H
#define CONTROL_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include "base/check.h"
#include "conf/config.h"

/* Opens the socket, before privileges are given up.  True also when http_addr is not set. */
bool http_open(const struct config *cfg, char *err, size_t err_size) MUSTCHECK;
void http_start(void); /* once the workers run */
/* Ends the thread; after ask_stop(), when ask_is_quiet(). */
void http_stop(void);
/* After the workers' threads have ended: one of them may still be about to wake our loop for an answer long read.
 * Idempotent; also closes sockets that were only opened. */
void http_free(void);

#endif
