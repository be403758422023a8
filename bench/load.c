/* bench/load.c - a load generator that costs little: clients that send one short SELECT after the other.
 *
 *     load PORT CLIENTS SECONDS simple|extended|prepared DATABASES TEXTS [WARM_UP]
 *
 * Client i logs in as "bench" to database "bench" (DATABASES 1) or "bench<i % DATABASES>".  simple and extended: each
 * query takes one of TEXTS texts in turn; prepared: each client prepares its share of TEXTS, and takes turns among
 * these.  After the log-ins and WARM_UP seconds (1) it counts, and prints one line of JSON:
 *
 *     {"transactions": n, "tps": n, "p50_us": n, "p99_us": n}
 *
 * With SIGUSR1 to its parent when counting begins, and again when it ends, so that the parent reads the CPU time of
 * others at the right moments. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IN_BYTES = 4096, EVENTS_PER_WAIT = 256, BUCKET_US = 20, BUCKETS = 50000 };
enum mode { SIMPLE, EXTENDED, PREPARED };

struct client {
	int fd;
	unsigned first, texts, turn; /* its own: texts from first on */
	uint64_t sent_ns;
	size_t have;
	unsigned char in[IN_BYTES];
};

struct worker {
	pthread_t thread;
	struct client *clients;
	unsigned n, offset;
	uint64_t count;
	uint32_t *latency;
};

static uint16_t port;
static unsigned clients, seconds, databases, texts;
static enum mode mode;
static atomic_bool counting, stopping;
static atomic_uint ready;

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- messages --- */

struct out {
	size_t n, at; /* at: of the open message's length */
	unsigned char p[1024];
};

static void begin(struct out *o, char type)
{
	if (type)
		o->p[o->n++] = (unsigned char)type;
	o->at = o->n;
	o->n += 4;
}

static void bytes(struct out *o, const void *p, size_t n)
{
	memcpy(o->p + o->n, p, n);
	o->n += n;
}

static void text(struct out *o, const char *s) { bytes(o, s, strlen(s) + 1); }

static void end(struct out *o)
{
	uint32_t n = htonl((uint32_t)(o->n - o->at));
	memcpy(o->p + o->at, &n, sizeof(n));
}

static void put_parse(struct out *o, const char *name, unsigned number)
{
	char sql[100];
	snprintf(sql, sizeof(sql), "SELECT abalance FROM pgbench_accounts AS a%u WHERE aid = $1", number);
	begin(o, 'P');
	text(o, name);
	text(o, sql);
	bytes(o, "\0", 2);
	end(o);
}

static void put_execution(struct out *o, const char *name, unsigned turn)
{
	char value[16];
	int n = snprintf(value, sizeof(value), "%u", turn % 100000 + 1);
	uint32_t len = htonl((uint32_t)n);
	begin(o, 'B');
	text(o, "");
	text(o, name);
	bytes(o, "\0\0\0\1", 4);
	bytes(o, &len, sizeof(len));
	bytes(o, value, (size_t)n);
	bytes(o, "\0", 2);
	end(o);
	bytes(o, "D\0\0\0\6P\0E\0\0\0\11\0\0\0\0\0S\0\0\0\4", 22);
}

static void put_query(struct out *o, unsigned number, unsigned turn)
{
	char sql[100];
	snprintf(sql, sizeof(sql), "SELECT abalance FROM pgbench_accounts AS a%u WHERE aid = %u", number,
	         turn % 100000 + 1);
	begin(o, 'Q');
	text(o, sql);
	end(o);
}

static void send_all(const struct client *c, const struct out *o)
{
	if (send(c->fd, o->p, o->n, MSG_NOSIGNAL) != (ssize_t)o->n)
		die("send");
}

static void send_next(struct client *c)
{
	struct out o = { 0 };
	char name[16] = "";
	unsigned number = c->first + c->turn++ % c->texts;
	if (mode == SIMPLE) {
		put_query(&o, number, c->turn);
	} else {
		if (mode == PREPARED)
			snprintf(name, sizeof(name), "s%u", number);
		else
			put_parse(&o, "", number);
		put_execution(&o, name, c->turn);
	}
	c->sent_ns = now_ns();
	send_all(c, &o);
}

/* The bytes that end an answer; nothing else in these has that shape. */
static bool is_ready(struct client *c)
{
	const unsigned char *tail = c->in + c->have - 6;
	return c->have >= 6 && memcmp(tail, "Z\0\0\0\5", 5) == 0;
}

static void wait_ready(struct client *c)
{
	do {
		ssize_t n = recv(c->fd, c->in + c->have, sizeof(c->in) - c->have, 0);
		if (n <= 0)
			die("recv at login");
		c->have += (size_t)n;
		if (c->in[0] == 'E') {
			fwrite(c->in, 1, c->have, stderr);
			exit(1);
		}
	} while (!is_ready(c));
	c->have = 0;
}

static void log_in(struct client *c, unsigned i)
{
	static const int one = 1;
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct out o = { 0 };
	char database[32] = "bench";
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die("connect");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (databases > 1)
		snprintf(database, sizeof(database), "bench%u", i % databases);
	begin(&o, 0);
	bytes(&o, "\0\3\0\0", 4);
	text(&o, "user");
	text(&o, "bench");
	text(&o, "database");
	text(&o, database);
	bytes(&o, "", 1);
	end(&o);
	send_all(c, &o);
	wait_ready(c);
	c->texts = mode == PREPARED ? (texts + clients - 1) / clients : texts;
	c->first = mode == PREPARED ? i * c->texts : 0;
	c->turn = mode == PREPARED ? 0 : i * 7919;
	for (unsigned k = 0; mode == PREPARED && k < c->texts; k++) {
		char name[16];
		struct out p = { 0 };
		snprintf(name, sizeof(name), "s%u", c->first + k);
		put_parse(&p, name, c->first + k);
		bytes(&p, "S\0\0\0\4", 5);
		send_all(c, &p);
		wait_ready(c);
	}
}

/* --- the load --- */

static void on_readable(struct worker *w, struct client *c)
{
	ssize_t n = recv(c->fd, c->in + c->have, sizeof(c->in) - c->have, 0);
	if (n <= 0)
		die("recv");
	c->have += (size_t)n;
	if (!is_ready(c))
		return;
	if (c->in[0] == 'E') {
		fwrite(c->in, 1, c->have, stderr);
		exit(1);
	}
	c->have = 0;
	if (atomic_load_explicit(&counting, memory_order_relaxed)) {
		uint64_t bucket = (now_ns() - c->sent_ns) / 1000 / BUCKET_US;
		w->count++;
		w->latency[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
	}
	send_next(c);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct epoll_event events[EVENTS_PER_WAIT];
	int ep = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < w->n; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &w->clients[i] };
		log_in(&w->clients[i], w->offset + i);
		if (epoll_ctl(ep, EPOLL_CTL_ADD, w->clients[i].fd, &ev) < 0)
			die("epoll_ctl");
	}
	atomic_fetch_add(&ready, 1);
	for (unsigned i = 0; i < w->n; i++)
		send_next(&w->clients[i]);
	while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
		int n = epoll_wait(ep, events, EVENTS_PER_WAIT, 100);
		for (int i = 0; i < n; i++)
			on_readable(w, events[i].data.ptr);
	}
	return NULL;
}

static unsigned quantile(const uint32_t *latency, uint64_t total, double q)
{
	uint64_t seen = 0;
	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += latency[i];
		if (seen >= (uint64_t)((double)total * q))
			return (i + 1) * BUCKET_US;
	}
	return BUCKETS * BUCKET_US;
}

int main(int argc, char **argv)
{
	static const char *const modes[] = { "simple", "extended", "prepared" };
	struct rlimit files;
	if (argc < 7) {
		fprintf(stderr,
		        "usage: load PORT CLIENTS SECONDS simple|extended|prepared DATABASES TEXTS [WARM_UP]\n");
		return 2;
	}
	port = (uint16_t)atoi(argv[1]);
	clients = (unsigned)atoi(argv[2]);
	seconds = (unsigned)atoi(argv[3]);
	while (mode < PREPARED && strcmp(argv[4], modes[mode]) != 0)
		mode++;
	databases = (unsigned)atoi(argv[5]);
	texts = (unsigned)atoi(argv[6]);
	unsigned threads = 1, warm_up = argc > 7 ? (unsigned)atoi(argv[7]) : 1;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	struct worker *w = calloc(threads, sizeof(*w));
	for (unsigned i = 0, at = 0; i < threads; i++) {
		w[i].n = (clients - at) / (threads - i);
		w[i].offset = at;
		w[i].clients = calloc(w[i].n, sizeof(*w[i].clients));
		w[i].latency = calloc(BUCKETS, sizeof(*w[i].latency));
		at += w[i].n;
		if (pthread_create(&w[i].thread, NULL, work, &w[i]) != 0)
			die("pthread_create");
	}
	while (atomic_load(&ready) < threads)
		usleep(10000);
	sleep(warm_up);
	uint64_t from = now_ns();
	atomic_store(&counting, true);
	kill(getppid(), SIGUSR1);
	sleep(seconds);
	atomic_store(&counting, false);
	kill(getppid(), SIGUSR1);
	double took = (double)(now_ns() - from) / 1e9;
	atomic_store(&stopping, true);
	uint64_t total = 0;
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(w[i].thread, NULL);
		total += w[i].count;
		for (unsigned k = 0; i > 0 && k < BUCKETS; k++)
			w[0].latency[k] += w[i].latency[k];
	}
	printf("{\"transactions\": %llu, \"tps\": %.0f, \"p50_us\": %u, \"p99_us\": %u}\n", (unsigned long long)total,
	       (double)total / took, quantile(w[0].latency, total, 0.5), quantile(w[0].latency, total, 0.99));
	return 0;
}
