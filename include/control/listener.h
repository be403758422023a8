/* control/listener.h - the listening sockets, and how connections get from them to the workers.
 *
 * Main thread only.  Opened before privileges are given up, started once the workers run. */
#ifndef CONTROL_LISTENER_H
#define CONTROL_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "base/check.h"
#include "conf/config.h"

struct loop;

/* How to meet a process that already listens there. */
enum listener_mode {
	LISTENER_ALONE,
	LISTENER_TAKEOVER /* it is about to end: share the port with it, take the unix socket's name from it */
};

/* All or nothing.  Sockets that systemd hands over (LISTEN_FDS) take the place of the configured ones.
 * owner: of the unix socket's file; (uid_t)-1: whoever makes it. */
bool listeners_open(const struct config *cfg, enum listener_mode mode, uid_t owner, char *err,
                    size_t err_size) MUSTCHECK;
void listeners_start(struct loop *loop);
/* Takes what is still in the kernel's queues, then closes.  Idempotent. */
void listeners_close(void);
/* The same, a moment later: another process on the port takes new clients, and nobody who has just been connected here,
 * or has not sent his first bytes yet, is reset. */
void listeners_retire(void);
/* The same as listeners_close(), but leaves the unix socket to console clients (workers_serve_console_only()), unless a
 * successor has taken its name: who waits for the end of a process wants to look into it. */
void listeners_leave_console(void);
bool listeners_are_open(void); /* for clients */

#endif
