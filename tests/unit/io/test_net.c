/* Sockets: addresses, listening, accepting, connecting, tuning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "io/net.h"

enum { PORT = 21000 };
static const struct net_listen_options DEFAULTS = { .backlog = 16 };
static char err[256];

static int listen_one(const char *host, uint16_t port, const struct net_listen_options *options)
{
	int fds[NET_LISTEN_MAX];
	int n = net_listen_tcp(host, port, options, fds, err, sizeof err);
	if (n < 0)
		print_message("%s\n", err);
	assert_int_equal(n, 1);
	return fds[0];
}

/* Both ends of a fresh connection to a listening socket. */
static void connect_pair(int listen_fd, int *client, int *server, struct net_addr *peer)
{
	struct net_addr to;
	assert_true(net_local_addr(listen_fd, &to));
	*client = net_connect(&to, err, sizeof err);
	assert_true(*client >= 0);
	struct pollfd wait[] = { { .fd = listen_fd, .events = POLLIN } };
	assert_int_equal(poll(wait, 1, 5000), 1);
	assert_int_equal(net_accept(listen_fd, server, peer), NET_ACCEPTED);
	struct pollfd ready = { .fd = *client, .events = POLLOUT };
	assert_int_equal(poll(&ready, 1, 5000), 1);
	assert_int_equal(net_connect_result(*client), 0);
}

static void test_addresses_parse_and_format(void **state UNUSED)
{
	static const struct {
		const char *host, *text, *bare;
		bool loopback;
	} rows[] = {
		{ "127.0.0.1", "127.0.0.1:5432", "127.0.0.1", true },
		{ "10.1.2.3", "10.1.2.3:5432", "10.1.2.3", false },
		{ "::1", "[::1]:5432", "::1", true },
		{ "[2001:db8::1]", "[2001:db8::1]:5432", "2001:db8::1", false },
		{ "/run/postgresql", "/run/postgresql/.s.PGSQL.5432", "unix", true },
		{ "@weir", "@weir/.s.PGSQL.5432", "unix", true },
	};
	char text[NET_NAME_SIZE];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct net_addr a, b;
		assert_true(net_addr_parse(rows[i].host, 5432, &a));
		assert_true(net_addr_parse(rows[i].host, 5432, &b));
		assert_string_equal(net_addr_format(&a, text, sizeof text), rows[i].text);
		assert_string_equal(net_addr_host(&a, text, sizeof text), rows[i].bare);
		assert_int_equal(net_addr_is_loopback(&a), rows[i].loopback);
		assert_int_equal(net_addr_port(&a), net_addr_is_unix(&a) ? 0 : 5432);
		assert_true(net_addr_equal(&a, &b));
		assert_true(net_addr_parse(rows[i].host, 5433, &b));
		assert_false(net_addr_equal(&a, &b));
	}
}

static void test_addresses_that_are_none(void **state UNUSED)
{
	static const char *const rows[] = { "",
		                            "localhost",
		                            "10.0.0.256",
		                            "[::1",
		                            "::1]",
		                            "1.2.3.4 ",
		                            "127.1",
		                            "010.0.0.1x",
		                            "*",
		                            "/0123456789012345678901234567890123456789012345678901234567890123456789"
		                            "01234567890123456789012345678901" };
	struct net_addr a, none = { 0 };
	char text[NET_NAME_SIZE];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_false(net_addr_parse(rows[i], 5432, &a));
		assert_int_equal(a.len, 0);
	}
	assert_string_equal(net_addr_format(&none, text, sizeof text), "?");
	assert_true(net_addr_equal(&none, &a));
	assert_string_equal(net_peer_name(-1, text, sizeof text), "?");
}

static void test_listen_accept_connect(void **state UNUSED)
{
	int listen_fd = listen_one("127.0.0.1", PORT, &DEFAULTS), client, server;
	struct net_addr peer, local;
	char a[NET_NAME_SIZE], b[NET_NAME_SIZE];

	connect_pair(listen_fd, &client, &server, &peer);
	assert_true(net_local_addr(client, &local));
	assert_true(net_addr_equal(&peer, &local));
	assert_string_equal(net_peer_name(server, a, sizeof a), net_local_name(client, b, sizeof b));
	assert_string_equal(net_local_name(server, a, sizeof a), "127.0.0.1:21000");
	assert_true(fcntl(server, F_GETFL) & O_NONBLOCK && fcntl(client, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(server, F_GETFD) & FD_CLOEXEC && fcntl(client, F_GETFD) & FD_CLOEXEC);
	close(server);
	assert_int_equal(net_accept(listen_fd, &server, &peer), NET_ACCEPT_AGAIN);
	assert_int_equal(net_accept(client, &server, &peer), NET_ACCEPT_FAILED);
	uid_t uid;
	gid_t gid;
	pid_t pid;
	assert_false(net_peer_cred(client, &uid, &gid, &pid));
	close(listen_fd);
	close(client);
}

static void test_listen_on_several_and_everywhere(void **state UNUSED)
{
	int fds[NET_LISTEN_MAX], more[NET_LISTEN_MAX];

	int n = net_listen_tcp(" 127.0.0.1 ,127.0.0.2", PORT + 1, &DEFAULTS, fds, err, sizeof err);
	assert_int_equal(n, 2);
	/* All or nothing: the second is taken, so the first must be free again afterwards. */
	assert_int_equal(net_listen_tcp("127.0.0.3,127.0.0.2", PORT + 1, &DEFAULTS, more, err, sizeof err), -1);
	assert_non_null(strstr(err, "\"127.0.0.2:21001\""));
	assert_non_null(strstr(err, "in use"));
	close(listen_one("127.0.0.3", PORT + 1, &DEFAULTS));
	close(fds[0]);
	close(fds[1]);
	n = net_listen_tcp("*", PORT + 2, &DEFAULTS, fds, err, sizeof err);
	assert_true(n == 1 || n == 2);
	while (n > 0)
		close(fds[--n]);
	assert_int_equal(net_listen_tcp("", PORT + 2, &DEFAULTS, fds, err, sizeof err), -1);
	assert_int_equal(net_listen_tcp("127.0.0.1,", PORT + 2, &DEFAULTS, fds, err, sizeof err), -1);
	assert_non_null(strstr(err, "empty address"));
	char many[2000];
	memset(many, 'x', sizeof many);
	many[sizeof many - 1] = '\0';
	assert_int_equal(net_listen_tcp(many, PORT + 2, &DEFAULTS, fds, err, sizeof err), -1);
	assert_non_null(strstr(err, "too long"));
	/* More than there is room for: none stays open. */
	many[0] = '\0';
	for (int i = 1; i <= NET_LISTEN_MAX + 1; i++)
		snprintf(many + strlen(many), sizeof many - strlen(many), "%s127.0.1.%d", i > 1 ? "," : "", i);
	assert_int_equal(net_listen_tcp(many, PORT + 2, &DEFAULTS, fds, err, sizeof err), -1);
	assert_non_null(strstr(err, "more than 64"));
	close(listen_one("127.0.1.1", PORT + 2, &DEFAULTS));
}

static void test_listen_reuseport_shares_the_port(void **state UNUSED)
{
	const struct net_listen_options shared = { .reuseport = true };
	int a = listen_one("127.0.0.1", PORT + 3, &shared), b = listen_one("127.0.0.1", PORT + 3, &shared);
	close(a);
	close(b);
}

static int get_int(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof value;
	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void test_tuning_of_the_listener_is_inherited(void **state UNUSED)
{
	const struct net_listen_options options = {
		.tuning = { .nodelay = true,
		            .keepalive = true,
		            .keepidle_s = 77,
		            .keepintvl_s = 7,
		            .keepcnt = 3,
		            .user_timeout_ms = 12345,
		            .socket_buffer_bytes = 65536 },
	};
	int listen_fd = listen_one("127.0.0.1", PORT + 4, &options), client, server;
	struct net_addr peer;

	connect_pair(listen_fd, &client, &server, &peer);
	assert_int_equal(get_int(server, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(get_int(server, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(get_int(server, IPPROTO_TCP, TCP_KEEPIDLE), 77);
	assert_int_equal(get_int(server, IPPROTO_TCP, TCP_KEEPINTVL), 7);
	assert_int_equal(get_int(server, IPPROTO_TCP, TCP_KEEPCNT), 3);
	assert_int_equal(get_int(server, IPPROTO_TCP, TCP_USER_TIMEOUT), 12345);
	assert_int_equal(get_int(server, SOL_SOCKET, SO_RCVBUF), 2 * 65536);
	assert_int_equal(get_int(client, IPPROTO_TCP, TCP_NODELAY), 0);
	net_tune(client, &options.tuning);
	assert_int_equal(get_int(client, IPPROTO_TCP, TCP_NODELAY), 1);
	close(listen_fd);
	close(client);
	close(server);
}

static void test_unix_socket_and_who_is_there(void **state UNUSED)
{
	char dir[] = "/tmp/pgweir-net-XXXXXX", path[80], name[NET_NAME_SIZE];
	const struct net_listen_options options = { .unix_mode = 0600, .tuning.nodelay = true };
	int client, server;
	struct net_addr peer;
	struct stat st;
	uid_t uid;
	gid_t gid;
	pid_t pid;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/.s.PGSQL.21005", dir);
	int listen_fd = net_listen_unix(dir, 21005, &options, err, sizeof err);
	assert_true(listen_fd >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(net_listen_unix(dir, 21005, &options, err, sizeof err), -1);
	assert_non_null(strstr(err, "in use"));
	connect_pair(listen_fd, &client, &server, &peer);
	assert_string_equal(net_addr_format(&peer, name, sizeof name), "unix");
	assert_string_equal(net_peer_name(client, name, sizeof name), path);
	assert_true(net_peer_cred(server, &uid, &gid, &pid));
	assert_int_equal(uid, getuid());
	assert_int_equal(gid, getgid());
	assert_int_equal(pid, getpid());
	close(client);
	close(server);
	close(listen_fd);
	/* Its process died without a word: the file is stale, and is replaced. */
	listen_fd = net_listen_unix(dir, 21005, &options, err, sizeof err);
	assert_true(listen_fd >= 0);
	net_unlink_unix(listen_fd);
	close(listen_fd);
	assert_int_equal(stat(path, &st), -1);
	/* A plain file is somebody else's. */
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(net_listen_unix(dir, 21005, &options, err, sizeof err), -1);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(net_listen_unix("relative", 21005, &options, err, sizeof err), -1);
}

static void test_unix_abstract_socket(void **state UNUSED)
{
	char dir[40];
	int client, server;
	struct net_addr peer;

	snprintf(dir, sizeof dir, "@pgweir-test-%d", (int)getpid());
	int listen_fd = net_listen_unix(dir, 21006, &DEFAULTS, err, sizeof err);
	assert_true(listen_fd >= 0);
	connect_pair(listen_fd, &client, &server, &peer);
	net_unlink_unix(listen_fd); /* nothing to remove */
	close(client);
	close(server);
	close(listen_fd);
}

/* The listener must be able to tell "nobody there" from "no descriptors left", or it spins at full CPU. */
static void test_accept_without_descriptors_is_exhausted(void **state UNUSED)
{
	int listen_fd = listen_one("127.0.0.1", PORT + 7, &DEFAULTS), server;
	struct rlimit old, low;
	struct net_addr to, peer;

	assert_true(net_local_addr(listen_fd, &to));
	int client = net_connect(&to, err, sizeof err);
	struct pollfd wait = { .fd = listen_fd, .events = POLLIN };
	assert_int_equal(poll(&wait, 1, 5000), 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)client + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	enum net_accepted got = net_accept(listen_fd, &server, &peer);
	assert_int_equal(net_connect(&to, err, sizeof err), -1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(got, NET_ACCEPT_EXHAUSTED);
	assert_int_equal(net_accept(listen_fd, &server, &peer), NET_ACCEPTED);
	close(server);
	close(client);
	close(listen_fd);
}

static void test_connect_refused(void **state UNUSED)
{
	struct net_addr to;
	assert_true(net_addr_parse("127.0.0.1", PORT + 8, &to));
	int fd = net_connect(&to, err, sizeof err);
	assert_true(fd >= 0);
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	assert_int_equal(poll(&wait, 1, 5000), 1);
	assert_int_equal(net_connect_result(fd), ECONNREFUSED);
	close(fd);
	assert_true(net_addr_parse("/nonexistent", PORT, &to));
	assert_int_equal(net_connect(&to, err, sizeof err), -1);
	assert_string_equal(err, "could not connect: No such file or directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_parse_and_format),
		cmocka_unit_test(test_addresses_that_are_none),
		cmocka_unit_test(test_listen_accept_connect),
		cmocka_unit_test(test_listen_on_several_and_everywhere),
		cmocka_unit_test(test_listen_reuseport_shares_the_port),
		cmocka_unit_test(test_tuning_of_the_listener_is_inherited),
		cmocka_unit_test(test_unix_socket_and_who_is_there),
		cmocka_unit_test(test_unix_abstract_socket),
		cmocka_unit_test(test_accept_without_descriptors_is_exhausted),
		cmocka_unit_test(test_connect_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
