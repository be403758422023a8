/* proxy/notifiers.h - who sent a notification: a backend's pid to the pid that its client was told.
 *
 * A NotificationResponse names the backend that NOTIFY ran on.  Clients know each other by the pids of BackendKeyData,
 * so each server connection notes the last client for which it may have run a NOTIFY; any worker may ask.  The mapping
 * is that of the moment when the notification arrives here: when another client has notified, or may have, by the same
 * backend in between, it is that one's.
 *
 * Thread rule: add and remove at a server's login and end, take a mutex; note on the server's worker; find anywhere. */
#ifndef PROXY_NOTIFIERS_H
#define PROXY_NOTIFIERS_H

#include <stdatomic.h>
#include <stdint.h>
#include <uthash.h>
#include "base/check.h"

struct host;
struct segment;

struct notifier_key {
	uint32_t backend_pid, where; /* where: of the host's name and port */
};
struct notifier {
	UT_hash_handle hh;
	struct notifier_key key;
	_Atomic uint32_t client_pid; /* 0: none */
};

/* Owned by the caller, which gives it back to notifier_remove(). */
struct notifier *notifier_add(const struct host *host, uint32_t backend_pid) MUSTCHECK;
void notifier_remove(struct notifier *n); /* NULL is fine */
/* A segment of that client is being sent there. */
void notifier_note(struct notifier *n, uint32_t client_pid, const struct segment *seg);
/* The pid that the client was told; the backend's own if it is none of ours, or nobody's. */
uint32_t notifier_find(const struct host *host, uint32_t backend_pid);

#endif
