/* proxy/notifiers.h - who sent a notification: a backend's pid to the pid that its client was told.
 *
 * A NotificationResponse names the backend that NOTIFY ran on.  Clients know each other by the pids of BackendKeyData,
 * so each server connection notes the last client for which it may have run a NOTIFY; any worker may ask.  The mapping
 * is that of the moment when the notification arrives here: when another client has notified, or may have, by the same
 * backend in between, it is that one's.
 *
 * Who hears by the shared listening connection (listens.h) hears later, and must not take its own notification for
 * another's, nor the other way round.  So it is noted as well at which number of barriers the client has changed: a
 * notification is certainly of the one that is noted if a later barrier had been answered before it was heard.
 *
 * Thread rule: add and remove at a server's login and end, take a mutex; note on the server's worker; find anywhere. */
#ifndef PROXY_NOTIFIERS_H
#define PROXY_NOTIFIERS_H

#include <stdatomic.h>
#include <stdbool.h>
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
	_Atomic uint64_t since;      /* listening_number() when that changed; stored before client_pid */
};

/* Owned by the caller, which gives it back to notifier_remove(). */
struct notifier *notifier_add(const struct host *host, uint32_t backend_pid) MUSTCHECK;
void notifier_remove(struct notifier *n); /* NULL is fine */
/* Reads that call nothing notify nobody. */
bool notifier_may_notify(const struct segment *seg);
/* A segment of that client is being sent there. */
void notifier_note(struct notifier *n, uint32_t client_pid, const struct segment *seg);
/* The same, whatever the segment; true: all that is heard from now on behind the barrier `settled` of that backend is
 * certainly this client's. */
bool notifier_claim(struct notifier *n, uint32_t client_pid, uint64_t settled) MUSTCHECK;
/* The pid that the client was told; the backend's own if it is none of ours, or nobody's. */
uint32_t notifier_find(const struct host *host, uint32_t backend_pid);
/* The same for what was heard behind the barrier `settled`; the backend's own if it is not certain. */
uint32_t notifier_find_sure(const struct host *host, uint32_t backend_pid, uint64_t settled);

#endif
