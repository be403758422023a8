/* bench/l4.c - the floor: a forwarder of TCP connections that knows nothing of PostgreSQL.
 *
 *     l4 LISTEN_PORT:SERVER_PORT [LISTEN_PORT:SERVER_PORT ...]        (127.0.0.1 on both sides)
 *
 * Each client connection gets a server connection of its own, and each chunk that arrives costs one recv and one send:
 * a transaction of one query and one answer is therefore 4 system calls and a share of an epoll_wait. No proxy in user
 * space that copies through its own memory can do it with less, so a pooler's price is told as a ratio to this one.
 *
 * One thread, level-triggered epoll, one scratch buffer. An end owns a buffer only while its socket is full; then the
 * other end's read event is switched off, so that memory per connection is bounded.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SCRATCH_BYTES = 65536, EVENTS_PER_WAIT = 128 };

/* One socket. The two ends of a connection point at each other and die together. */
struct end {
	struct end *peer;    /* owned by the connection, freed with this one; NULL in a listener */
	unsigned char *rest; /* owned; what this socket did not take yet, NULL when nothing waits */
	size_t rest_len;
	size_t rest_done;
	int fd;
	uint32_t armed;       /* the epoll events asked for now */
	uint16_t server_port; /* listeners only */
	bool dead;            /* closed in this turn of the loop, freed at its end */
	struct end *next_dead;
};

static int epoll_fd;
static struct end *dead_ends;
static unsigned char scratch[SCRATCH_BYTES];

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

static void arm(struct end *e, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = e };

	if (e->armed != events && epoll_ctl(epoll_fd, EPOLL_CTL_MOD, e->fd, &ev) == 0)
		e->armed = events;
}

static struct end *end_new(int fd, uint32_t events)
{
	struct end *e = calloc(1, sizeof(*e));
	struct epoll_event ev = { .events = events, .data.ptr = e };

	if (!e)
		die("calloc");
	e->fd = fd;
	e->armed = events;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
	return e;
}

/* Events for a closed end may still stand in the array of this turn: it is only marked here. */
static void connection_close(struct end *e)
{
	struct end *both[2] = { e, e->peer };

	for (int i = 0; i < 2; i++) {
		if (!both[i] || both[i]->dead)
			continue;
		close(both[i]->fd);
		both[i]->dead = true;
		both[i]->next_dead = dead_ends;
		dead_ends = both[i];
	}
}

static void reap(void)
{
	while (dead_ends) {
		struct end *e = dead_ends;

		dead_ends = e->next_dead;
		free(e->rest);
		free(e);
	}
}

static struct sockaddr_in loopback(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

static void on_accept(struct end *listener)
{
	static const int one = 1;
	struct sockaddr_in to = loopback(listener->server_port);
	int client = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int server;

	if (client < 0)
		return;
	server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (server < 0 || (connect(server, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)) {
		close(client);
		if (server >= 0)
			close(server);
		return;
	}
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));

	struct end *c = end_new(client, EPOLLIN);
	struct end *s = end_new(server, EPOLLIN);

	c->peer = s;
	s->peer = c;
}

/* `to` did not take everything: keep the rest, and stop reading its peer until it is gone. */
static void keep_rest(struct end *to, const unsigned char *p, size_t n)
{
	to->rest = malloc(n);
	if (!to->rest)
		die("malloc");
	memcpy(to->rest, p, n);
	to->rest_len = n;
	to->rest_done = 0;
	arm(to, to->armed | EPOLLOUT);
	arm(to->peer, to->peer->armed & ~(uint32_t)EPOLLIN);
}

static void on_readable(struct end *from)
{
	ssize_t n = recv(from->fd, scratch, sizeof(scratch), 0);
	ssize_t sent;

	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			connection_close(from);
		return;
	}
	sent = send(from->peer->fd, scratch, (size_t)n, MSG_NOSIGNAL);
	if (sent < 0) {
		/* ENOTCONN cannot be seen: a socket that is still connecting says EAGAIN. */
		if (errno != EAGAIN && errno != EINTR) {
			connection_close(from);
			return;
		}
		sent = 0;
	}
	if (sent < n)
		keep_rest(from->peer, scratch + sent, (size_t)(n - sent));
}

static void on_writable(struct end *to)
{
	ssize_t n = send(to->fd, to->rest + to->rest_done, to->rest_len - to->rest_done, MSG_NOSIGNAL);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			connection_close(to);
		return;
	}
	to->rest_done += (size_t)n;
	if (to->rest_done < to->rest_len)
		return;
	free(to->rest);
	to->rest = NULL;
	arm(to, to->armed & ~(uint32_t)EPOLLOUT);
	arm(to->peer, to->peer->armed | EPOLLIN);
}

static void on_event(struct end *e, uint32_t events)
{
	if (e->dead)
		return;
	if (!e->peer) {
		on_accept(e);
		return;
	}
	if ((events & EPOLLOUT) && e->rest)
		on_writable(e);
	if (!e->dead && (events & EPOLLIN) && (e->armed & EPOLLIN))
		on_readable(e);
	else if (!e->dead && (events & (EPOLLERR | EPOLLHUP)))
		connection_close(e);
}

static void listen_on(const char *pair)
{
	static const int one = 1;
	char *colon;
	unsigned long from = strtoul(pair, &colon, 10);
	unsigned long to = *colon == ':' ? strtoul(colon + 1, NULL, 10) : 0;
	struct sockaddr_in a = loopback((uint16_t)from);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (from == 0 || from > 65535 || to == 0 || to > 65535) {
		fprintf(stderr, "l4: \"%s\" is not LISTEN_PORT:SERVER_PORT\n", pair);
		exit(2);
	}
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 4096) < 0)
		die(pair);
	end_new(fd, EPOLLIN)->server_port = (uint16_t)to;
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	struct rlimit files;

	if (argc < 2) {
		fprintf(stderr, "usage: l4 LISTEN_PORT:SERVER_PORT ...\n");
		return 2;
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGPIPE, SIG_IGN);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll_create1");
	for (int i = 1; i < argc; i++)
		listen_on(argv[i]);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, -1);

		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++)
			on_event(events[i].data.ptr, events[i].events);
		reap();
	}
}
