/* io/net.c - see io/net.h.
 *
 * Listening is all or nothing: a proxy that has silently lost one of its configured addresses looks healthy and is
 * not.  The one exception is '*', where a host without IPv6 is normal.  IPv6 sockets are always IPV6_V6ONLY, so that
 * '*' can bind both families on one port and "::" never means more than it says. */
#include "io/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/str.h"

enum { DEFAULT_BACKLOG = 128 };

/* Writes the message and returns -1, what every function here says on failure. */
static int fail(char *err, size_t err_size, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int fail(char *err, size_t err_size, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(err, err_size, fmt, ap);
	va_end(ap);
	return -1;
}

/* --- addresses ---
 *
 * The kernel's sockaddr is kept as it is, and only ever compared by its meaning.  For a unix socket the length is part
 * of the name: an abstract one may hold NUL bytes, a nameless one (most clients) has no path at all. */

static const struct sockaddr_in *in4(const struct net_addr *a) { return (const void *)&a->ss; }
static const struct sockaddr_in6 *in6(const struct net_addr *a) { return (const void *)&a->ss; }
static const struct sockaddr_un *un(const struct net_addr *a) { return (const void *)&a->ss; }

static size_t unix_path_len(const struct net_addr *a) { return a->len - offsetof(struct sockaddr_un, sun_path); }

/* A path that does not fit (107 bytes) is refused and not cut: it would be another socket. */
static bool parse_unix(const char *dir, uint16_t port, struct net_addr *out)
{
	struct sockaddr_un *sun = (void *)&out->ss;
	int n = snprintf(sun->sun_path, sizeof sun->sun_path, "%s/.s.PGSQL.%u", dir, port);

	if (n < 0 || (size_t)n >= sizeof sun->sun_path)
		return false;
	sun->sun_family = AF_UNIX;
	/* An abstract name has a length and no NUL at its end; a path is counted with its NUL. */
	out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + (dir[0] == '@' ? 0 : 1));
	if (dir[0] == '@')
		sun->sun_path[0] = '\0';
	return true;
}

static bool strip_brackets(const char *host, char *out, size_t size)
{
	struct str s = str_of(host);
	if (s.n >= 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
		s = (struct str){ s.p + 1, s.n - 2 };
	return str_copy(out, size, s);
}

/* Strictly four decimal numbers: getaddrinfo() also takes "127.1", octal and trailing junk. */
static bool parse_ipv4(const char *host, uint16_t port, struct net_addr *out)
{
	struct sockaddr_in *sin = (void *)&out->ss;

	if (inet_pton(AF_INET, host, &sin->sin_addr) != 1)
		return false;
	sin->sin_family = AF_INET;
	sin->sin_port = htons(port);
	out->len = sizeof *sin;
	return true;
}

/* Not inet_pton(): a link-local address needs its scope ("fe80::1%eth0"). */
static bool parse_ipv6(const char *host, uint16_t port, struct net_addr *out)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		                  .ai_family = AF_INET6,
		                  .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	char service[8];

	snprintf(service, sizeof service, "%u", port);
	if (getaddrinfo(host, service, &hints, &found) != 0)
		return false;
	memcpy(&out->ss, found->ai_addr, found->ai_addrlen);
	out->len = found->ai_addrlen;
	freeaddrinfo(found);
	return true;
}

bool net_addr_parse(const char *host, uint16_t port, struct net_addr *out)
{
	char bare[NET_NAME_SIZE];

	*out = (struct net_addr){ 0 };
	if (host[0] == '/' || host[0] == '@')
		return parse_unix(host, port, out);
	if (!strip_brackets(host, bare, sizeof bare))
		return false;
	return strchr(bare, ':') ? parse_ipv6(bare, port, out) : parse_ipv4(bare, port, out);
}

/* Bounded by the length that the kernel gave: it need not end in NUL. */
static const char *format_unix(const struct net_addr *addr, char *out, size_t size)
{
	size_t n = unix_path_len(addr);
	const char *path = un(addr)->sun_path;

	if (n == 0)
		snprintf(out, size, "unix");
	else if (path[0] == '\0')
		snprintf(out, size, "@%.*s", (int)(n - 1), path + 1);
	else
		snprintf(out, size, "%.*s", (int)n, path);
	return out;
}

const char *net_addr_host(const struct net_addr *addr, char *out, size_t size)
{
	if (net_addr_is_unix(addr))
		snprintf(out, size, "unix");
	else if (addr->len == 0 ||
	         getnameinfo((const void *)&addr->ss, addr->len, out, (socklen_t)size, NULL, 0, NI_NUMERICHOST) != 0)
		snprintf(out, size, "?");
	return out;
}

const char *net_addr_format(const struct net_addr *addr, char *out, size_t size)
{
	char host[NET_NAME_SIZE];

	if (net_addr_is_unix(addr))
		return format_unix(addr, out, size);
	net_addr_host(addr, host, sizeof host);
	if (addr->len == 0)
		snprintf(out, size, "?");
	else
		snprintf(out, size, addr->ss.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host, net_addr_port(addr));
	return out;
}

uint16_t net_addr_port(const struct net_addr *addr)
{
	if (addr->len > 0 && addr->ss.ss_family == AF_INET)
		return ntohs(in4(addr)->sin_port);
	if (addr->len > 0 && addr->ss.ss_family == AF_INET6)
		return ntohs(in6(addr)->sin6_port);
	return 0;
}

bool net_addr_equal(const struct net_addr *a, const struct net_addr *b)
{
	if (a->len == 0 || b->len == 0)
		return a->len == b->len;
	if (a->ss.ss_family != b->ss.ss_family)
		return false;
	/* Not memcmp() of the whole: the kernel need not zero the padding. */
	switch (a->ss.ss_family) {
	case AF_INET:
		return in4(a)->sin_port == in4(b)->sin_port && in4(a)->sin_addr.s_addr == in4(b)->sin_addr.s_addr;
	case AF_INET6:
		return in6(a)->sin6_port == in6(b)->sin6_port && in6(a)->sin6_scope_id == in6(b)->sin6_scope_id &&
		       memcmp(&in6(a)->sin6_addr, &in6(b)->sin6_addr, sizeof in6(a)->sin6_addr) == 0;
	case AF_UNIX:
		return a->len == b->len && memcmp(un(a)->sun_path, un(b)->sun_path, unix_path_len(a)) == 0;
	default:
		return false;
	}
}

bool net_addr_is_loopback(const struct net_addr *addr)
{
	if (net_addr_is_unix(addr))
		return true;
	if (addr->len > 0 && addr->ss.ss_family == AF_INET)
		return ntohl(in4(addr)->sin_addr.s_addr) >> 24 == 127;
	return addr->len > 0 && addr->ss.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6(addr)->sin6_addr);
}

/* --- tuning --- */

static void set_option(int fd, int level, int name, int value)
{
	/* A hint to the kernel: a connection without it still works, so failing is not worth a message each. */
	(void)setsockopt(fd, level, name, &value, sizeof value);
}

static void set_unless_zero(int fd, int level, int name, int value)
{
	if (value > 0)
		set_option(fd, level, name, value);
}

static bool is_unix_socket(int fd)
{
	int domain = AF_UNSPEC;
	socklen_t len = sizeof domain;
	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX;
}

void net_tune(int fd, const struct net_tuning *tuning)
{
	set_unless_zero(fd, SOL_SOCKET, SO_SNDBUF, tuning->socket_buffer_bytes);
	set_unless_zero(fd, SOL_SOCKET, SO_RCVBUF, tuning->socket_buffer_bytes);
	if (is_unix_socket(fd))
		return;
	if (tuning->nodelay)
		set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (tuning->keepalive) {
		set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
		set_unless_zero(fd, IPPROTO_TCP, TCP_KEEPIDLE, tuning->keepidle_s);
		set_unless_zero(fd, IPPROTO_TCP, TCP_KEEPINTVL, tuning->keepintvl_s);
		set_unless_zero(fd, IPPROTO_TCP, TCP_KEEPCNT, tuning->keepcnt);
	}
	set_unless_zero(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, tuning->user_timeout_ms);
	set_unless_zero(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, tuning->unsent_bytes);
}

/* --- listening --- */

/* Close-on-exec from birth: a takeover executes the next binary while other threads open sockets. */
static int new_socket(int family) { return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

/* Consumes fd: returned listening, or closed with err written. */
static int bind_and_listen(int fd, const struct net_addr *addr, const struct net_listen_options *options, char *err,
                           size_t err_size)
{
	char name[NET_NAME_SIZE];

	if (bind(fd, (const void *)&addr->ss, addr->len) != 0) {
		fail(err, err_size, "could not bind to \"%s\": %s", net_addr_format(addr, name, sizeof name),
		     strerror(errno));
	} else if (listen(fd, options->backlog > 0 ? options->backlog : DEFAULT_BACKLOG) != 0) {
		fail(err, err_size, "could not listen on \"%s\": %s", net_addr_format(addr, name, sizeof name),
		     strerror(errno));
	} else {
		return fd;
	}
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static int listen_inet(const struct net_addr *addr, const struct net_listen_options *options, char *err,
                       size_t err_size)
{
	int fd = new_socket(addr->ss.ss_family);

	if (fd < 0)
		return fail(err, err_size, "could not create socket: %s", strerror(errno));
	/* Or a restart would have to wait for the old connections' TIME_WAIT. */
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (options->reuseport)
		set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (addr->ss.ss_family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	set_unless_zero(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, options->defer_accept_s);
	net_tune(fd, &options->tuning);
	fd = bind_and_listen(fd, addr, options, err, err_size);
	/* Who binds to the port without saying so too still finds it in use; a successor (-R) of the same user may
	 * join. */
	if (fd >= 0)
		set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	return fd;
}

/* Where the sockets of one net_listen_tcp() gather. */
struct listening {
	int *fds; /* borrowed from the caller */
	int count;
	uint16_t port;
	const struct net_listen_options *options;
	char *err;
	size_t err_size;
};

static bool add_listener(struct listening *l, const struct net_addr *addr)
{
	if (l->count == NET_LISTEN_MAX) {
		fail(l->err, l->err_size, "more than %d addresses to listen on", NET_LISTEN_MAX);
		return false;
	}
	int fd = listen_inet(addr, l->options, l->err, l->err_size);
	if (fd < 0)
		return false;
	l->fds[l->count++] = fd;
	return true;
}

static bool listen_everywhere(struct listening *l)
{
	struct net_addr v4, v6;

	CHECK(net_addr_parse("0.0.0.0", l->port, &v4) && net_addr_parse("::", l->port, &v6));
	if (!add_listener(l, &v4))
		return false;
	/* No IPv6 on this host, or switched off for all its addresses, is no error here. */
	return add_listener(l, &v6) || errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL;
}

/* A name may stand for several addresses; each is listened on. */
static bool listen_host(struct listening *l, const char *host)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *found;
	char service[8];
	bool ok = true;

	snprintf(service, sizeof service, "%u", l->port);
	int rc = getaddrinfo(host, service, &hints, &found);
	if (rc != 0) {
		fail(l->err, l->err_size, "could not resolve \"%s\": %s", host, gai_strerror(rc));
		return false;
	}
	for (struct addrinfo *ai = found; ai && ok; ai = ai->ai_next) {
		struct net_addr addr = { .len = ai->ai_addrlen };
		memcpy(&addr.ss, ai->ai_addr, ai->ai_addrlen);
		ok = add_listener(l, &addr);
	}
	freeaddrinfo(found);
	return ok;
}

static bool listen_item(struct listening *l, struct str item)
{
	char host[NI_MAXHOST], bare[NI_MAXHOST];

	if (item.n == 0) {
		fail(l->err, l->err_size, "empty address in the list of addresses to listen on");
		return false;
	}
	if (!str_copy(host, sizeof host, item) || !strip_brackets(host, bare, sizeof bare)) {
		fail(l->err, l->err_size, "address to listen on is too long");
		return false;
	}
	return strcmp(bare, "*") == 0 ? listen_everywhere(l) : listen_host(l, bare);
}

int net_listen_tcp(const char *hosts, uint16_t port, const struct net_listen_options *options, int fds[NET_LISTEN_MAX],
                   char *err, size_t err_size)
{
	struct listening l = { .fds = fds, .port = port, .options = options, .err = err, .err_size = err_size };
	const char *item = hosts;

	for (;;) {
		size_t n = strcspn(item, ",");
		if (!listen_item(&l, str_trim((struct str){ item, n }))) {
			while (l.count > 0)
				close(fds[--l.count]);
			return -1;
		}
		if (item[n] == '\0')
			return l.count;
		item += n + 1;
	}
}

/* A file that refuses connections was left by a process that died; one that answers is in use.  Anything that is no
 * socket is somebody's file: bind() shall fail on it. */
static bool remove_stale_socket(const struct net_addr *addr)
{
	struct stat st;
	const char *path = un(addr)->sun_path;

	if (path[0] == '\0' || lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return true;
	int fd = new_socket(AF_UNIX);
	if (fd < 0)
		return true;
	bool refused = connect(fd, (const void *)&addr->ss, addr->len) != 0 && errno == ECONNREFUSED;
	close(fd);
	return refused && unlink(path) == 0;
}

int net_listen_unix(const char *dir, uint16_t port, const struct net_listen_options *options, char *err,
                    size_t err_size)
{
	struct net_addr addr = { 0 };
	const char *path = un(&addr)->sun_path;

	if ((dir[0] != '/' && dir[0] != '@') || !net_addr_parse(dir, port, &addr))
		return fail(err, err_size, "unix socket directory \"%s\" is not absolute or too long", dir);
	if (!remove_stale_socket(&addr))
		return fail(err, err_size, "unix socket \"%s\" is in use by another process", path);
	int fd = new_socket(AF_UNIX);
	if (fd < 0)
		return fail(err, err_size, "could not create unix socket: %s", strerror(errno));
	net_tune(fd, &options->tuning);
	fd = bind_and_listen(fd, &addr, options, err, err_size);
	if (fd >= 0 && path[0] != '\0' && chmod(path, options->unix_mode ? options->unix_mode : 0777) != 0) {
		fail(err, err_size, "could not set permissions of \"%s\": %s", path, strerror(errno));
		net_unlink_unix(fd);
		close(fd);
		return -1;
	}
	return fd;
}

void net_unlink_unix(int fd)
{
	struct net_addr addr;
	if (net_local_addr(fd, &addr) && net_addr_is_unix(&addr) && unix_path_len(&addr) > 0 &&
	    un(&addr)->sun_path[0] != '\0')
		(void)unlink(un(&addr)->sun_path);
}

/* --- accepting and connecting --- */

/* Out of descriptors is told apart, since the event is level-triggered: the connection stays in the backlog, and a
 * listener that just tries again uses a whole CPU for it. */
static enum net_accepted accept_failure(int error)
{
	switch (error) {
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		return NET_ACCEPT_EXHAUSTED;
	case EBADF:
	case EINVAL:
	case ENOTSOCK:
	case EOPNOTSUPP:
	case EFAULT:
		return NET_ACCEPT_FAILED;
	default:
		/* EAGAIN, ECONNABORTED, EPERM (a firewall), and the network errors that accept(2) says Linux hands on
		 * from the connection that was waiting. */
		return NET_ACCEPT_AGAIN;
	}
}

enum net_accepted net_accept(int listen_fd, int *fd, struct net_addr *peer)
{
	peer->len = sizeof peer->ss;
	do {
		*fd = accept4(listen_fd, (void *)&peer->ss, &peer->len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (*fd < 0 && errno == EINTR);
	if (*fd >= 0)
		return NET_ACCEPTED;
	peer->len = 0;
	return accept_failure(errno);
}

/* Names no address in its message: the caller knows whom it calls, and logs it with the rest. */
int net_connect(const struct net_addr *to, char *err, size_t err_size)
{
	int fd = new_socket(to->ss.ss_family), rc;

	if (fd < 0)
		return fail(err, err_size, "could not create socket: %s", strerror(errno));
	rc = connect(fd, (const void *)&to->ss, to->len);
	/* An interrupted connect() goes on in the background, as one in progress does (POSIX). */
	if (rc == 0 || errno == EINPROGRESS || errno == EINTR)
		return fd;
	/* EAGAIN: a unix socket whose backlog is full, where the kernel does not queue us. */
	fail(err, err_size, "could not connect: %s",
	     errno == EAGAIN ? "too many connections wait there" : strerror(errno));
	close(fd);
	return -1;
}

int net_connect_result(int fd)
{
	int error = 0;
	socklen_t len = sizeof error;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? error : errno;
}

/* --- who is there --- */

bool net_peer_addr(int fd, struct net_addr *out)
{
	*out = (struct net_addr){ .len = sizeof out->ss };
	if (getpeername(fd, (void *)&out->ss, &out->len) == 0)
		return true;
	out->len = 0;
	return false;
}

bool net_local_addr(int fd, struct net_addr *out)
{
	*out = (struct net_addr){ .len = sizeof out->ss };
	if (getsockname(fd, (void *)&out->ss, &out->len) == 0)
		return true;
	out->len = 0;
	return false;
}

const char *net_peer_name(int fd, char *out, size_t size)
{
	struct net_addr addr;
	(void)!net_peer_addr(fd, &addr); /* no address is formatted as "?" */
	return net_addr_format(&addr, out, size);
}

const char *net_local_name(int fd, char *out, size_t size)
{
	struct net_addr addr;
	(void)!net_local_addr(fd, &addr);
	return net_addr_format(&addr, out, size);
}

bool net_peer_cred(int fd, uid_t *uid, gid_t *gid, pid_t *pid)
{
	struct ucred cred;
	socklen_t len = sizeof cred;

	if (!is_unix_socket(fd) || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
		return false;
	*uid = cred.uid;
	*gid = cred.gid;
	*pid = cred.pid;
	return true;
}
