/* control/listener.c - see control/listener.h.
 *
 * One thread accepts for all workers: with SO_REUSEPORT per worker the kernel would choose by a hash of the address,
 * and a worker with a thousand clients would get as many new ones as an idle one. */
#include "control/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <event2/event.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/mono.h"
#include "base/str.h"
#include "io/loop.h"
#include "io/net.h"
#include "proxy/worker.h"

enum {
	LISTENERS_MAX = NET_LISTEN_MAX + 1,
	ACCEPTS_PER_TURN = 128,      /* signals and other listeners get their turn in a storm of connections */
	EXHAUSTED_PAUSE_US = 100000, /* out of descriptors: accept() would fail again at once, for ever */
	RETIRE_US = 200 * 1000,
	SYSTEMD_FIRST_FD = 3,
};

struct listener {
	int fd;
	int backlog;
	bool is_unix;
	bool is_started;
	bool is_for_console; /* left over while clients are waited for */
	struct event ev;
	struct loop_timer pause;
	dev_t dev; /* of the unix socket's file as we made it; a successor's is another one */
	ino_t ino;
};

static struct listener listeners[LISTENERS_MAX];
static unsigned n_listeners;
static struct loop_timer retire_timer; /* until the sockets are closed */

/* --- opening --- */

static struct listener *add(int fd, bool is_unix, const struct net_listen_options *o)
{
	struct listener *l = &listeners[n_listeners++];
	*l = (struct listener){ .fd = fd, .backlog = o->backlog, .is_unix = is_unix };
	return l;
}

/* Tuned once on the listening socket: Linux hands it on to each connection, which saves five system calls per client.
 */
static struct net_listen_options options_of(const struct config *cfg, enum listener_mode mode)
{
	return (struct net_listen_options){
		.backlog = cfg->listen_backlog,
		.reuseport = cfg->so_reuseport || mode == LISTENER_TAKEOVER,
		.unix_mode = (mode_t)cfg->unix_socket_mode,
		.defer_accept_s = (int)(cfg->tcp_defer_accept_us / MONO_SEC),
		.tuning = { .nodelay = true,
		            .keepalive = cfg->tcp_keepalive,
		            .keepidle_s = (int)(cfg->tcp_keepidle_us / MONO_SEC),
		            .keepintvl_s = (int)(cfg->tcp_keepintvl_us / MONO_SEC),
		            .keepcnt = cfg->tcp_keepcnt,
		            .user_timeout_ms = cfg->tcp_user_timeout_ms,
		            .socket_buffer_bytes = (int)cfg->tcp_socket_buffer_bytes },
	};
}

static void log_listening(int fd)
{
	char name[NET_NAME_SIZE];
	log_info(NULL, "listening on %s", net_local_name(fd, name, sizeof name));
}

static char *join(const struct conf_list *list)
{
	char *text = mem_strdup("");
	for (int i = 0; i < list->n; i++) {
		char *longer = mem_printf("%s%s%s", text, i ? "," : "", list->items[i]);
		mem_free(text);
		text = longer;
	}
	return text;
}

/* Names are resolved here, blocking, since nothing runs yet. */
static bool open_tcp(const struct config *cfg, const struct net_listen_options *o, char *err, size_t err_size)
{
	int fds[NET_LISTEN_MAX];
	if (cfg->listen_addr.n == 0)
		return true;
	char *hosts = join(&cfg->listen_addr);
	int n = net_listen_tcp(hosts, (uint16_t)cfg->listen_port, o, fds, err, err_size);
	mem_free(hosts);
	for (int i = 0; i < n; i++)
		add(fds[i], false, o);
	return n >= 0;
}

/* The file is made by root, but must be removable by whom we become; in /tmp only its owner may do that. */
static bool give_away(const char *path, const struct config *cfg, uid_t owner, char *err, size_t err_size)
{
	gid_t group = (gid_t)-1;
	if (*cfg->unix_socket_group) {
		const struct group *gr = getgrnam(cfg->unix_socket_group);
		if (!gr) {
			snprintf(err, err_size, "unix_socket_group \"%s\" does not exist on this system",
			         cfg->unix_socket_group);
			return false;
		}
		group = gr->gr_gid;
	}
	if (lchown(path, owner, group) == 0)
		return true;
	snprintf(err, err_size, "could not set owner and group of \"%s\": %s", path, strerror(errno));
	return false;
}

static bool open_unix(const struct config *cfg, enum listener_mode mode, uid_t owner,
                      const struct net_listen_options *o, char *err, size_t err_size)
{
	struct stat st;
	const char *dir = cfg->unix_socket_dir;
	if (!*dir)
		return true;
	char *path = mem_printf("%s/.s.PGSQL.%d", dir, cfg->listen_port);
	bool is_file = dir[0] == '/';
	if (mode == LISTENER_TAKEOVER && is_file)
		unlink(path);
	int fd = net_listen_unix(dir, (uint16_t)cfg->listen_port, o, err, err_size);
	bool ok = fd >= 0;
	if (ok) {
		struct listener *l = add(fd, true, o);
		if (is_file && stat(path, &st) == 0) {
			l->dev = st.st_dev;
			l->ino = st.st_ino;
		}
	}
	if (ok && is_file)
		ok = give_away(path, cfg, owner, err, err_size);
	mem_free(path);
	return ok;
}

/* systemd's socket activation: descriptors 3 and up are already listening. */
static bool take_over_activated(const struct net_listen_options *o)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	int64_t p, n;
	if (!pid || !count || !str_to_i64(str_of(pid), &p) || p != getpid() || !str_to_i64(str_of(count), &n) || n < 1)
		return false;
	for (int fd = SYSTEMD_FIRST_FD; fd < SYSTEMD_FIRST_FD + n && n_listeners < LISTENERS_MAX; fd++) {
		struct net_addr addr;
		if (!net_local_addr(fd, &addr))
			continue;
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		net_tune(fd, &o->tuning);
		add(fd, net_addr_is_unix(&addr), o);
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	return n_listeners > 0;
}

bool listeners_open(const struct config *cfg, enum listener_mode mode, uid_t owner, char *err, size_t err_size)
{
	struct net_listen_options o = options_of(cfg, mode);
	if (!take_over_activated(&o) &&
	    (!open_tcp(cfg, &o, err, err_size) || !open_unix(cfg, mode, owner, &o, err, err_size))) {
		listeners_close();
		return false;
	}
	for (unsigned i = 0; i < n_listeners; i++)
		log_listening(listeners[i].fd);
	if (n_listeners > 0)
		return true;
	snprintf(err, err_size, "nothing to listen on: set listen_addr or unix_socket_dir");
	return false;
}

/* --- accepting --- */

/* Some descriptor may be free again. */
static void on_pause_over(struct loop_timer *t)
{
	struct listener *l = CONTAINER_OF(t, struct listener, pause);
	event_add(&l->ev, NULL);
}

/* Several per turn, since each turn costs an epoll_wait; a bound, since a storm must not keep SIGTERM waiting. */
static void accept_some(struct listener *l, unsigned max)
{
	for (unsigned i = 0; i < max; i++) {
		struct net_addr peer;
		int fd;
		switch (net_accept(l->fd, &fd, &peer)) {
		case NET_ACCEPTED:
			workers_accept(fd, &peer, l->is_unix);
			break;
		case NET_ACCEPT_AGAIN:
			return;
		case NET_ACCEPT_EXHAUSTED:
			log_warning(NULL, "cannot accept connections for a moment: %s", strerror(errno));
			event_del(&l->ev);
			loop_timer_start(&l->pause, EXHAUSTED_PAUSE_US);
			return;
		case NET_ACCEPT_FAILED:
			log_error(NULL, "a listening socket has failed: %s", strerror(errno));
			event_del(&l->ev);
			return;
		}
	}
}

static void on_connection(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	accept_some(arg, ACCEPTS_PER_TURN);
}

static void on_retired(struct loop_timer *t UNUSED) { listeners_leave_console(); }

void listeners_start(struct loop *loop)
{
	loop_timer_init(&retire_timer, loop, on_retired);
	for (unsigned i = 0; i < n_listeners; i++) {
		struct listener *l = &listeners[i];
		/* Who connects to a unix socket sees who called listen() last; that was root, or the parent of a
		 * daemon. */
		if (l->is_unix)
			(void)!listen(l->fd, l->backlog);
		CHECK(event_assign(&l->ev, loop_base(loop), l->fd, EV_READ | EV_PERSIST, on_connection, l) == 0);
		CHECK(event_add(&l->ev, NULL) == 0);
		loop_timer_init(&l->pause, loop, on_pause_over);
		l->is_started = true;
	}
}

/* After a takeover the name belongs to the successor. */
static bool has_its_file(const struct listener *l)
{
	struct net_addr addr;
	struct stat st;
	if (!l->is_unix || !l->ino || !net_local_addr(l->fd, &addr))
		return false;
	const struct sockaddr_un *un = (const struct sockaddr_un *)&addr.ss;
	return stat(un->sun_path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino;
}

static void close_one(struct listener *l)
{
	if (has_its_file(l))
		net_unlink_unix(l->fd);
	if (l->is_started) {
		/* Who is in the queue has been told by the kernel that it is connected. */
		accept_some(l, ACCEPTS_PER_TURN);
		event_del(&l->ev);
		loop_timer_stop(&l->pause);
	}
	close(l->fd);
	l->fd = -1;
}

bool listeners_are_open(void)
{
	for (unsigned i = 0; i < n_listeners; i++) {
		if (listeners[i].fd >= 0 && !listeners[i].is_for_console)
			return true;
	}
	return false;
}

void listeners_leave_console(void)
{
	loop_timer_stop(&retire_timer);
	for (unsigned i = 0; i < n_listeners; i++) {
		struct listener *l = &listeners[i];
		if (l->fd < 0 || l->is_for_console)
			continue;
		l->is_for_console = l->is_started && has_its_file(l);
		if (!l->is_for_console) {
			close_one(l);
			continue;
		}
		accept_some(l, ACCEPTS_PER_TURN);
		workers_serve_console_only();
	}
}

/* With TCP_DEFER_ACCEPT the kernel holds a connection back until it has data, and resets it when the socket closes. */
void listeners_retire(void)
{
	int off = 0;
	for (unsigned i = 0; i < n_listeners; i++) {
		if (listeners[i].fd >= 0 && !listeners[i].is_unix)
			(void)!setsockopt(listeners[i].fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &off, sizeof off);
	}
	if (retire_timer.loop && n_listeners > 0)
		loop_timer_start(&retire_timer, RETIRE_US);
	else
		listeners_leave_console();
}

void listeners_close(void)
{
	loop_timer_stop(&retire_timer);
	for (unsigned i = 0; i < n_listeners; i++) {
		if (listeners[i].fd >= 0)
			close_one(&listeners[i]);
	}
	n_listeners = 0;
}
