/* io/net.h - sockets: listen, accept, connect, tune, name.
 *
 * Stateless functions over file descriptors; all sockets made here are non-blocking and close-on-exec.  Addresses are
 * numeric; only net_listen_tcp() resolves names (at start-up, where blocking is fine).
 * A unix socket is named by its directory, as in libpq: "/run/postgresql" or "@name" (abstract) with port 5432 is
 * "/run/postgresql/.s.PGSQL.5432" or "\0name/.s.PGSQL.5432".
 * Functions with (err, err_size) write a message without newline there when they fail. */
#ifndef IO_NET_H
#define IO_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include "base/check.h"

struct net_addr {
	struct sockaddr_storage ss;
	socklen_t len; /* 0: no address */
};

enum {
	NET_NAME_SIZE = 128, /* room for any text that net_addr_format() writes */
	NET_LISTEN_MAX = 64  /* listening sockets that one call of net_listen_tcp() may return */
};

/* Numeric IPv4 or IPv6 (with or without brackets, with scope), or a unix socket's directory. */
bool net_addr_parse(const char *host, uint16_t port, struct net_addr *out) MUSTCHECK;
/* "10.0.0.1:5432", "[::1]:5432", "/run/x/.s.PGSQL.5432", "@x/.s.PGSQL.5432", "unix" for a nameless peer. */
const char *net_addr_format(const struct net_addr *addr, char *out, size_t size);
/* The host part alone: "10.0.0.1", "::1", "unix"; for SHOW tables and pg_hba messages. */
const char *net_addr_host(const struct net_addr *addr, char *out, size_t size);
uint16_t net_addr_port(const struct net_addr *addr); /* 0 for a unix socket */
bool net_addr_equal(const struct net_addr *a, const struct net_addr *b);
static inline bool net_addr_is_unix(const struct net_addr *a) { return a->len > 0 && a->ss.ss_family == AF_UNIX; }
bool net_addr_is_loopback(const struct net_addr *addr); /* 127/8, ::1, or a unix socket */

/* Zero of a number means: leave the kernel's value. */
struct net_tuning {
	bool nodelay, keepalive;
	int keepidle_s, keepintvl_s, keepcnt;
	int user_timeout_ms;
	int socket_buffer_bytes;
	int unsent_bytes; /* the kernel keeps no more than this beyond what the peer makes room for; 0: as it likes */
};
/* Linux hands all of these from a listening socket on to what it accepts: tune the listener, not each client.
 * On a unix socket only the buffer size means anything. */
void net_tune(int fd, const struct net_tuning *tuning);

struct net_listen_options {
	int backlog;        /* 0: 128 */
	bool reuseport;     /* several processes may share the port (takeover); not for unix sockets */
	mode_t unix_mode;   /* 0: 0777 */
	int defer_accept_s; /* 0: off */
	struct net_tuning tuning;
};
/* hosts: a list with commas of addresses, names or '*' (every IPv4 and IPv6 address).  Fills fds and returns how many,
 * or -1; all or nothing. */
int net_listen_tcp(const char *hosts, uint16_t port, const struct net_listen_options *options, int fds[NET_LISTEN_MAX],
                   char *err, size_t err_size) MUSTCHECK;
/* Returns the socket or -1.  A socket file that nobody listens on any more is replaced. */
int net_listen_unix(const char *dir, uint16_t port, const struct net_listen_options *options, char *err,
                    size_t err_size) MUSTCHECK;
/* Removes the file of a listening unix socket, if fd is one; does not close it.  Not on takeover by a successor. */
void net_unlink_unix(int fd);

enum net_accepted {
	NET_ACCEPTED,
	NET_ACCEPT_AGAIN,     /* nobody is waiting, or whoever was has gone: wait for the next event */
	NET_ACCEPT_EXHAUSTED, /* this host ran out (descriptors, memory): stop listening for a moment, or it spins */
	NET_ACCEPT_FAILED     /* the listening socket itself is unusable; errno says why */
};
enum net_accepted net_accept(int listen_fd, int *fd, struct net_addr *peer) MUSTCHECK;

/* Starts to connect; returns the socket or -1.  Writable means that it is decided: net_connect_result(). */
int net_connect(const struct net_addr *to, char *err, size_t err_size) MUSTCHECK;
int net_connect_result(int fd); /* 0 or the errno of the connect */

bool net_peer_addr(int fd, struct net_addr *out) MUSTCHECK;
bool net_local_addr(int fd, struct net_addr *out) MUSTCHECK;
const char *net_peer_name(int fd, char *out, size_t size); /* net_addr_format() of it; "?" when it is gone */
const char *net_local_name(int fd, char *out, size_t size);
/* Who is at the other end of a unix socket, as the kernel noted when it connected. */
bool net_peer_cred(int fd, uid_t *uid, gid_t *gid, pid_t *pid) MUSTCHECK;

#endif
