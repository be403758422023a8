/* control/process.c - see control/process.h.
 *
 * sd_notify is one datagram to a socket that the environment names, so it is written out here instead of linking
 * libsystemd, which may be absent and brings a tree of libraries with it. */
#include "control/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/str.h"

enum { CPUS_MAX = 16 };

/* --- user --- */

bool process_find_user(const char *user, struct process_user *out, char *err, size_t err_size)
{
	*out = (struct process_user){ 0 };
	if (!*user) {
		if (geteuid() != 0)
			return true;
		snprintf(err, err_size, "refusing to run as root; set user= in the configuration or give -u USER");
		return false;
	}
	const struct passwd *pw = getpwnam(user);
	if (!pw) {
		snprintf(err, err_size, "user \"%s\" does not exist on this system", user);
		return false;
	}
	if (pw->pw_uid == 0) {
		snprintf(err, err_size, "user \"%s\" is root; name another one", user);
		return false;
	}
	if (pw->pw_uid == geteuid())
		return true;
	if (geteuid() != 0) {
		snprintf(err, err_size, "only root can become user \"%s\"", user);
		return false;
	}
	*out = (struct process_user){ pw->pw_uid, pw->pw_gid, mem_strdup(user) };
	return true;
}

bool process_become(const struct process_user *user, char *err, size_t err_size)
{
	if (!user->name)
		return true;
	/* Groups first: without root's rights they can no longer be given up. */
	if (initgroups(user->name, user->gid) < 0 || setgid(user->gid) < 0 || setuid(user->uid) < 0) {
		snprintf(err, err_size, "could not become user \"%s\": %s", user->name, strerror(errno));
		return false;
	}
	if (setuid(0) == 0) {
		snprintf(err, err_size, "could not give up root's rights for good");
		return false;
	}
	return true;
}

void process_user_free(struct process_user *user)
{
	mem_free(user->name);
	*user = (struct process_user){ 0 };
}

/* --- pidfile --- */

static struct {
	int fd;     /* -1: none */
	char *path; /* owned */
} pidfile = { .fd = -1 };

/* 0: no such process.  1 and less are never ours, and kill() would read them as something else. */
static pid_t pid_in(int fd)
{
	char text[32];
	int64_t pid;
	ssize_t n = pread(fd, text, sizeof text, 0);
	if (n <= 0 || !str_to_i64(str_trim((struct str){ text, (size_t)n }), &pid) || pid <= 1 || pid > INT32_MAX)
		return 0;
	return kill((pid_t)pid, 0) == 0 || errno == EPERM ? (pid_t)pid : 0;
}

bool process_open_pidfile(const char *path, pid_t *predecessor, char *err, size_t err_size)
{
	if (!*path)
		return true;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0) {
		snprintf(err, err_size, "could not open pidfile \"%s\": %s", path, strerror(errno));
		return false;
	}
	/* The lock tells a living process from a number that another program has got meanwhile. */
	bool taken = flock(fd, LOCK_EX | LOCK_NB) < 0;
	pid_t pid = taken ? pid_in(fd) : 0;
	if (taken && !predecessor) {
		snprintf(err, err_size, "pidfile \"%s\" belongs to a running process (%d)", path, (int)pid);
		close(fd);
		return false;
	}
	if (predecessor && pid)
		*predecessor = pid;
	pidfile.fd = fd;
	pidfile.path = mem_strdup(path);
	return true;
}

/* Only now, in the child of process_daemonize(): the parent's number would be wrong. */
void process_write_pidfile(void)
{
	char text[32];
	if (pidfile.fd < 0)
		return;
	int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
	if (ftruncate(pidfile.fd, 0) < 0 || pwrite(pidfile.fd, text, (size_t)n, 0) != n)
		return;
}

bool process_lock_pidfile(void) { return pidfile.fd < 0 || flock(pidfile.fd, LOCK_EX | LOCK_NB) == 0; }

void process_remove_pidfile(void)
{
	if (pidfile.fd < 0)
		return;
	/* A successor may have written its own number there. */
	char text[32];
	int64_t pid;
	ssize_t n = pread(pidfile.fd, text, sizeof text, 0);
	bool ours = n > 0 && str_to_i64(str_trim((struct str){ text, (size_t)n }), &pid) && pid == getpid();
	/* Where the folder does not let us remove it, it is left empty. */
	if (ours && unlink(pidfile.path) < 0 && ftruncate(pidfile.fd, 0) < 0)
		errno = 0;
	close(pidfile.fd);
	mem_free(pidfile.path);
	pidfile.fd = -1;
	pidfile.path = NULL;
}

/* --- predecessor --- */

/* What the kernel calls the program: a file of /proc of a few letters. */
static bool program_of(const char *process, char *name, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%s/comm", process);
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(name, (int)size, f);
	if (f)
		fclose(f);
	return ok;
}

/* SIGTERM will go to that process: it must be one like ourselves, and not whatever else has made such a socket. */
static bool is_our_kind(pid_t pid)
{
	char number[16], mine[64], other[64];
	snprintf(number, sizeof number, "%d", (int)pid);
	return pid > 1 && program_of("self", mine, sizeof mine) && program_of(number, other, sizeof other) &&
	       strcmp(mine, other) == 0;
}

bool process_find_predecessor(const char *socket_dir, int port, pid_t *predecessor, char *err, size_t err_size)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct ucred peer = { 0 };
	socklen_t len = sizeof peer;
	*predecessor = 0;
	int n = snprintf(to.sun_path, sizeof to.sun_path, "%s/.s.PGSQL.%d", socket_dir, port);
	if (socket_dir[0] != '/' || n < 0 || (size_t)n >= sizeof to.sun_path)
		return true;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool found = fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
	             getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0;
	if (fd >= 0)
		close(fd);
	if (!found)
		return true;
	if (is_our_kind(peer.pid)) {
		*predecessor = peer.pid;
		return true;
	}
	snprintf(err, err_size, "\"%s\" belongs to another program (process %d), which cannot be taken over from",
	         to.sun_path, (int)peer.pid);
	return false;
}

/* --- daemon --- */

/* One fork is enough: the child leads its session but never opens a terminal (all opens are of files and sockets). */
bool process_daemonize(char *err, size_t err_size)
{
	pid_t pid = fork();
	if (pid > 0)
		_exit(0);
	int null_fd = pid == 0 ? open("/dev/null", O_RDWR) : -1;
	/* The log goes to a file then: lifecycle.c insists on one. */
	if (null_fd < 0 || setsid() < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(null_fd, STDOUT_FILENO) < 0 ||
	    dup2(null_fd, STDERR_FILENO) < 0) {
		snprintf(err, err_size, "could not become a daemon: %s", strerror(errno));
		return false;
	}
	if (null_fd > STDERR_FILENO)
		close(null_fd);
	return true;
}

/* --- limits --- */

/* The soft limit is 1024 on most systems for the sake of select(), which is not used here. */
unsigned long process_raise_file_limit(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return 1024;
	if (r.rlim_cur < r.rlim_max) {
		struct rlimit more = { r.rlim_max, r.rlim_max };
		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			r = more;
	}
	return r.rlim_cur;
}

int process_cpu_quota(const char *cpu_max)
{
	char *end;
	long long quota = strtoll(cpu_max, &end, 10);
	if (end == cpu_max || quota <= 0)
		return 0; /* "max" */
	const char *rest = end;
	long long period = strtoll(rest, &end, 10);
	if (end == rest || period <= 0)
		period = 100000;
	long long cpus = quota / period + (quota % period != 0);
	return cpus > INT16_MAX ? 0 : (int)cpus;
}

/* The tightest quota on the path from this process's group to the root. */
static int cgroup_cpus(void)
{
	char group[512], path[1024], text[128];
	int least = 0;
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool found = false;
	while (f && !found && fgets(group, sizeof group, f))
		found = strncmp(group, "0::/", 4) == 0;
	if (f)
		fclose(f);
	if (!found)
		str_copy(group, sizeof group, STR("0::/"));
	char *dir = group + 3;
	dir[strcspn(dir, "\n")] = '\0';
	for (;;) {
		snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", strcmp(dir, "/") == 0 ? "" : dir);
		FILE *q = fopen(path, "re");
		int cpus = q && fgets(text, sizeof text, q) ? process_cpu_quota(text) : 0;
		if (q)
			fclose(q);
		if (cpus && (!least || cpus < least))
			least = cpus;
		char *slash = strrchr(dir, '/');
		if (!slash || !slash[1])
			return least;
		slash[slash == dir] = '\0';
	}
}

/* A container with half a processor on a host of 64 must not start 16 workers that throttle each other. */
int process_usable_cpus(void)
{
	cpu_set_t set;
	int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
	int quota = cgroup_cpus();
	if (quota && quota < cpus)
		cpus = quota;
	return cpus < 1 ? 1 : cpus > CPUS_MAX ? CPUS_MAX : cpus;
}

/* --- service manager --- */

/* Without an answer to wait for: a manager that is gone must not hold us up. */
void process_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	if (!path || (path[0] != '/' && path[0] != '@') || !str_copy(to.sun_path, sizeof to.sun_path, str_of(path)))
		return;
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	ssize_t sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to, len);
	(void)sent; /* nobody to tell */
	close(fd);
}
