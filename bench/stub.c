/* bench/stub.c - a server that costs next to nothing: it says what PostgreSQL would say to a short SELECT, without a
 * look.
 *
 *     stub LISTEN_PORT:SERVER_PORT        (127.0.0.1 on both sides)
 *
 * Between the load generator and this one, the proxy is the bottleneck, so that its workers, pools and caches can be
 * compared.  Connections of the user "bench" are answered here: every statement returns one row.  All others (the
 * proxy's monitor) are forwarded to a real server, each by a thread of its own, so that the proxy finds a true primary.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
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

enum { IN_BYTES = 16384, OUT_BYTES = 65536, EVENTS_PER_WAIT = 256, SSL_REQUEST = 80877103, GSS_REQUEST = 80877104 };

struct conn {
	int fd;
	bool started;
	size_t have;
	unsigned char in[IN_BYTES];
};

static int epoll_fd;
static uint16_t server_port;
static unsigned char out[OUT_BYTES];
static size_t out_len;

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

static struct sockaddr_in loopback(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

static uint32_t word(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put(const void *p, size_t n)
{
	if (out_len + n > sizeof(out))
		die("answer too long");
	memcpy(out + out_len, p, n);
	out_len += n;
}

static void put_message(char type, const void *body, size_t n)
{
	uint32_t length = htonl((uint32_t)n + 4);
	put(&type, 1);
	put(&length, sizeof(length));
	put(body, n);
}

static void put_status(const char *name, const char *value)
{
	char body[128];
	int n = snprintf(body, sizeof(body), "%s%c%s", name, 0, value);
	put_message('S', body, (size_t)n + 1);
}

static const char row_description[] = "\0\1abalance\0\0\0\0\0\0\0\0\0\0\27\0\4\377\377\377\377\0";
static const char data_row[] = "\0\1\0\0\0\0011"; /* one column of one byte */

static void put_hello(void)
{
	put_message('R', "\0\0\0", 4);
	put_status("server_version", "15.0");
	put_status("server_encoding", "UTF8");
	put_status("client_encoding", "UTF8");
	put_status("DateStyle", "ISO, MDY");
	put_status("TimeZone", "UTC");
	put_status("IntervalStyle", "postgres");
	put_status("integer_datetimes", "on");
	put_status("standard_conforming_strings", "on");
	put_status("is_superuser", "off");
	put_status("session_authorization", "bench");
	put_status("application_name", "");
	put_status("default_transaction_read_only", "off");
	put_status("in_hot_standby", "off");
	put_message('K', "\0\0\0\1\0\0\0\1", 8);
	put_message('Z', "I", 1);
}

static void put_rows(bool described)
{
	if (described)
		put_message('T', row_description, sizeof(row_description)); /* its last NUL too */
	put_message('D', data_row, sizeof(data_row) - 1);
	put_message('C', "SELECT 1", 9);
}

/* SET, BEGIN and the like are of no consequence here, but for their tag. */
static bool is_select(const char *sql) { return strncasecmp(sql, "select", 6) == 0; }

static void answer(unsigned char type, const unsigned char *body)
{
	switch (type) {
	case 'Q':
		if (is_select((const char *)body))
			put_rows(true);
		else
			put_message('C', "SET", 4);
		put_message('Z', "I", 1);
		return;
	case 'P':
		put_message('1', "", 0);
		return;
	case 'B':
		put_message('2', "", 0);
		return;
	case 'D':
		if (*body == 'S')
			put_message('t', "\0", 2);
		put_message('T', row_description, sizeof(row_description)); /* its last NUL too */
		return;
	case 'E':
		put_rows(false);
		return;
	case 'C':
		put_message('3', "", 0);
		return;
	case 'S':
		put_message('Z', "I", 1);
		return;
	default:
		return;
	}
}

static void conn_close(struct conn *c)
{
	close(c->fd);
	free(c);
}

/* --- connections for the real server --- */

struct pipe_ends {
	int client, server;
};

static bool copy(int from, int to)
{
	unsigned char buf[16384];
	ssize_t n = recv(from, buf, sizeof(buf), 0);
	for (ssize_t done = 0, m; done < n; done += m) {
		if ((m = send(to, buf + done, (size_t)(n - done), MSG_NOSIGNAL)) <= 0)
			return false;
	}
	return n > 0;
}

static void *forward(void *arg)
{
	struct pipe_ends *e = arg;
	struct pollfd p[2] = { { .fd = e->client, .events = POLLIN }, { .fd = e->server, .events = POLLIN } };
	bool alive = true;
	while (alive && poll(p, 2, -1) >= 0) {
		for (int i = 0; i < 2 && alive; i++)
			alive = !p[i].revents || copy(p[i].fd, p[!i].fd);
	}
	close(e->client);
	close(e->server);
	free(e);
	return NULL;
}

static void hand_over(struct conn *c)
{
	struct sockaddr_in to = loopback(server_port);
	struct pipe_ends *e = malloc(sizeof(*e));
	pthread_t thread;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!e || fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
	    send(fd, c->in, c->have, MSG_NOSIGNAL) != (ssize_t)c->have) {
		free(e);
		if (fd >= 0)
			close(fd);
		conn_close(c);
		return;
	}
	*e = (struct pipe_ends){ c->fd, fd };
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
	free(c);
	if (pthread_create(&thread, NULL, forward, e) != 0)
		die("pthread_create");
	pthread_detach(thread);
}

/* --- start-up --- */

static bool is_bench(const unsigned char *packet, size_t n)
{
	for (size_t i = 8; i + 1 < n && packet[i];) {
		const char *name = (const char *)packet + i, *value = name + strlen(name) + 1;
		if (strcmp(name, "user") == 0)
			return strcmp(value, "bench") == 0;
		i += strlen(name) + strlen(value) + 2;
	}
	return false;
}

/* False: c is gone, or has become somebody else's. */
static bool start(struct conn *c)
{
	while (!c->started) {
		if (c->have < 8 || c->have < word(c->in))
			return true;
		uint32_t code = word(c->in + 4);
		size_t n = word(c->in);
		if (code == SSL_REQUEST || code == GSS_REQUEST) {
			if (send(c->fd, "N", 1, MSG_NOSIGNAL) != 1) {
				conn_close(c);
				return false;
			}
		} else if (!is_bench(c->in, n)) {
			hand_over(c);
			return false;
		} else {
			c->started = true;
			put_hello();
		}
		memmove(c->in, c->in + n, c->have -= n);
	}
	return true;
}

static void on_readable(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->have, sizeof(c->in) - c->have, 0);
	size_t done = 0;
	if (n <= 0) {
		conn_close(c);
		return;
	}
	c->have += (size_t)n;
	out_len = 0;
	if (!c->started && !start(c))
		return;
	while (c->started && c->have - done >= 5) {
		size_t len = word(c->in + done + 1) + 1;
		if (c->in[done] == 'X' || len > sizeof(c->in)) {
			conn_close(c);
			return;
		}
		if (c->have - done < len)
			break;
		answer(c->in[done], c->in + done + 5);
		done += len;
	}
	memmove(c->in, c->in + done, c->have -= done);
	if (out_len && send(c->fd, out, out_len, MSG_NOSIGNAL) != (ssize_t)out_len)
		conn_close(c);
}

static void on_accept(int listener)
{
	static const int one = 1;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct conn *c = calloc(1, sizeof(*c));
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
	if (fd < 0 || !c) {
		free(c);
		return;
	}
	c->fd = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
}

int main(int argc, char **argv)
{
	static const int one = 1;
	char *colon = argc == 2 ? strchr(argv[1], ':') : NULL;
	struct epoll_event events[EVENTS_PER_WAIT], ev = { .events = EPOLLIN };
	struct rlimit files;
	if (!colon) {
		fprintf(stderr, "usage: stub LISTEN_PORT:SERVER_PORT\n");
		return 2;
	}
	struct sockaddr_in a = loopback((uint16_t)atoi(argv[1]));
	server_port = (uint16_t)atoi(colon + 1);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGPIPE, SIG_IGN);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 4096) < 0)
		die(argv[1]);
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &ev);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, -1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				on_readable(events[i].data.ptr);
			else
				on_accept(listener);
		}
	}
}
