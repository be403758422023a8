/* control/process.h - the process and its host: user, limits, pidfile, daemon, usable processors, service manager.
 *
 * Called by the main thread at start and end only.  Functions with (err, err_size) write a message without newline
 * there when they fail. */
#ifndef CONTROL_PROCESS_H
#define CONTROL_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "base/check.h"

/* Who to become; root must become somebody.  `user` "" means: stay. */
struct process_user {
	uid_t uid;
	gid_t gid;
	char *name; /* owned; NULL: stay as we are */
};
bool process_find_user(const char *user, struct process_user *out, char *err, size_t err_size) MUSTCHECK;
bool process_become(const struct process_user *user, char *err, size_t err_size) MUSTCHECK;
void process_user_free(struct process_user *user);

/* The process of this program that listens on the unix socket, by the kernel's account; 0: none.  Fails if it is
 * another program's. */
bool process_find_predecessor(const char *socket_dir, int port, pid_t *predecessor, char *err,
                              size_t err_size) MUSTCHECK;

/* Opens (and locks) the pidfile, before privileges are given up; refuses if the process named there lives on.
 * `predecessor`, if not NULL, gets that process's id, if there is one, and the file is shared with it (takeover). */
bool process_open_pidfile(const char *path, pid_t *predecessor, char *err, size_t err_size) MUSTCHECK;
void process_write_pidfile(void);
/* After a takeover the lock is the predecessor's until it ends: to be tried again while this returns false. */
bool process_lock_pidfile(void) MUSTCHECK;
void process_remove_pidfile(void);

/* Forks into the background; returns in the child.  Before any thread is started. */
bool process_daemonize(char *err, size_t err_size) MUSTCHECK;

/* Raises the limit of open files as far as it goes and returns it. */
unsigned long process_raise_file_limit(void);
/* Processors that this process may use: affinity and cgroup quota, rounded up; 1 to 16. */
int process_usable_cpus(void);
/* The same from the text of cgroup v2's cpu.max ("max 100000", "150000 100000"); 0: no limit. */
int process_cpu_quota(const char *cpu_max);

/* Tells systemd (NOTIFY_SOCKET), if it listens: "READY=1", "RELOADING=1", "STOPPING=1". */
void process_notify(const char *state);

#endif
