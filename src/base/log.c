/* base/log.c - see base/log.h.  One write() per line keeps lines of several threads whole without a lock; a reader
 * that has gone away (EPIPE) loses lines, never the proxy. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/str.h"

/* What one value may take of a line of JSON, so that all of them and the end of the line find room. */
enum { LINE_MAX_BYTES = 8192, MESSAGE_MAX_BYTES = 2048, NAME_ROOM = 300, MESSAGE_ROOM = 3000, FIELD_ROOM = 1200 };

static atomic_int sink_fd = STDERR_FILENO;
static atomic_int min_level = LOG_INFO;
static atomic_int line_format = LOG_TEXT;

static const char *const level_names[] = {
#define LOG_LEVEL_NAME(id, name) [LOG_##id] = (name),
	LOG_LEVELS(LOG_LEVEL_NAME)
#undef LOG_LEVEL_NAME
};

const char *log_level_name(enum log_level level) { return level_names[level]; }

bool log_level_parse(const char *name, enum log_level *out)
{
	for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
		if (strcasecmp(name, level_names[i]) == 0) {
			*out = (enum log_level)i;
			return true;
		}
	}
	return false;
}

bool log_open(const char *path, enum log_format format, enum log_level level)
{
	int fd = STDERR_FILENO;
	if (path && *path) {
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
		if (fd < 0)
			return false;
	}
	/* A line that another thread is writing may still use the old descriptor: dup2 keeps its number valid. */
	int old = atomic_load(&sink_fd);
	if (old != STDERR_FILENO && fd != STDERR_FILENO) {
		if (dup2(fd, old) < 0) {
			close(fd);
			return false;
		}
		close(fd);
	} else {
		atomic_store(&sink_fd, fd);
	}
	atomic_store(&line_format, (int)format);
	atomic_store(&min_level, (int)level);
	return true;
}

void log_set_level(enum log_level level) { atomic_store(&min_level, (int)level); }
bool log_enabled(enum log_level level) { return (int)level >= atomic_load_explicit(&min_level, memory_order_relaxed); }

struct line {
	char text[LINE_MAX_BYTES];
	size_t n;
};

static void put(struct line *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void put(struct line *l, const char *fmt, ...)
{
	va_list ap;
	size_t room = sizeof l->text - 1 - l->n; /* the last byte is kept for the newline */
	va_start(ap, fmt);
	int n = vsnprintf(l->text + l->n, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->n += (size_t)n < room ? (size_t)n : (room ? room - 1 : 0);
}

/* Names come from the network in any encoding; a line of JSON is UTF-8 whatever they are. */
static void put_json_string(struct line *l, const char *text, size_t room)
{
	size_t end = l->n + room;
	const unsigned char *s = (const unsigned char *)text;
	put(l, "\"");
	while (*s && l->n < end) {
		size_t n = str_utf8_length((const char *)s);
		if (*s == '"' || *s == '\\')
			put(l, "\\%c", *s);
		else if (*s < 0x20)
			put(l, "\\u%04x", *s);
		else if (n)
			put(l, "%.*s", (int)n, (const char *)s);
		else
			put(l, "\\ufffd");
		s += n ? n : 1;
	}
	put(l, "\"");
}

static void put_time(struct line *l)
{
	struct timespec ts;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	char stamp[32];
	strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
	put(l, "%s.%03ldZ", stamp, ts.tv_nsec / 1000000);
}

static void put_field(struct line *l, const char *name, const char *value, size_t room)
{
	if (!value)
		return;
	put(l, ",\"%s\":", name);
	put_json_string(l, value, room);
}

static void put_number(struct line *l, const struct log_field *f)
{
	if (f->kind == LOG_FIELD_MS)
		put(l, "%llu.%03llu", (unsigned long long)(f->number / 1000), (unsigned long long)(f->number % 1000));
	else
		put(l, "%llu", (unsigned long long)f->number);
}

/* What is said, and of whom. */
struct entry {
	enum log_level level;
	const struct log_subject *who; /* may be NULL */
	const char *message;
	const struct log_field *fields;
	size_t n_fields;
};

static void format_json(struct line *l, const struct entry *e)
{
	const struct log_subject *who = e->who;
	put(l, "{\"time\":\"");
	put_time(l);
	put(l, "\",\"level\":\"%s\",\"pid\":%d", level_names[e->level], (int)getpid());
	if (who && who->kind)
		put(l, ",\"object\":\"%c-%u\"", who->kind, who->id);
	if (who) {
		put_field(l, "database", who->database, NAME_ROOM);
		put_field(l, "user", who->user, NAME_ROOM);
		put_field(l, "application", who->application, NAME_ROOM);
		put_field(l, "peer", who->peer, NAME_ROOM);
	}
	put_field(l, "message", e->message, MESSAGE_ROOM);
	for (size_t i = 0; i < e->n_fields; i++) {
		const struct log_field *f = &e->fields[i];
		if (f->kind == LOG_FIELD_TEXT) {
			put_field(l, f->name, f->text, FIELD_ROOM);
		} else {
			put(l, ",\"%s\":", f->name);
			put_number(l, f);
		}
	}
	put(l, "}");
}

/* Spaces need quotes; a quote inside is written as in SQL. */
static void put_quoted(struct line *l, const char *text)
{
	if (*text && !strpbrk(text, " \"=")) {
		put(l, "%s", text);
		return;
	}
	put(l, "\"");
	for (; *text; text++)
		put(l, *text == '"' ? "\"\"" : "%c", *text);
	put(l, "\"");
}

/* Without time and process: syslog adds these itself. */
static void format_body(struct line *l, const struct entry *e)
{
	const struct log_subject *who = e->who;
	size_t start = l->n;
	put(l, "%s: ", level_names[e->level]);
	if (who && who->kind) {
		put(l, "[%c-%u %s/%s", who->kind, who->id, who->database ? who->database : "-",
		    who->user ? who->user : "-");
		if (who->application && *who->application)
			put(l, " app=%s", who->application);
		if (who->peer)
			put(l, " %s", who->peer);
		put(l, "] ");
	}
	put(l, "%s", e->message);
	for (size_t i = 0; i < e->n_fields; i++) {
		const struct log_field *f = &e->fields[i];
		if (f->kind == LOG_FIELD_TEXT && !f->text)
			continue;
		put(l, "%s%s=", i ? " " : ": ", f->name);
		if (f->kind == LOG_FIELD_TEXT)
			put_quoted(l, f->text);
		else
			put_number(l, f);
	}
	/* A newline inside a name from the network must not forge a line of its own. */
	for (size_t i = start; i < l->n; i++) {
		if ((unsigned char)l->text[i] < 0x20 || l->text[i] == 0x7f)
			l->text[i] = ' ';
	}
}

static void format_text(struct line *l, const struct entry *e)
{
	put_time(l);
	put(l, " [%d] ", (int)getpid());
	format_body(l, e);
}

/* --- syslog --- */

/* The C library's syslog() waits for a reader that is slow, with every worker behind it; this does not.  The socket
 * is not connected, so that a daemon that was restarted is found again. */
struct syslog_target {
	int fd;
	int facility;
	char ident[64];
	struct sockaddr_un to;
	struct syslog_target *older; /* kept: a line on another thread may be on its way there */
};
static _Atomic(struct syslog_target *) syslog_target;
static struct syslog_target *syslog_last; /* owned, with all older ones */

static int facility_number(const char *name)
{
	static const struct {
		const char *name;
		int number;
	} known[] = { { "user", 1 },    { "daemon", 3 },  { "auth", 4 },    { "authpriv", 10 },
		      { "local0", 16 }, { "local1", 17 }, { "local2", 18 }, { "local3", 19 },
		      { "local4", 20 }, { "local5", 21 }, { "local6", 22 }, { "local7", 23 } };
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (strcasecmp(name, known[i].name) == 0)
			return known[i].number;
	}
	return 3;
}

static bool is_same_target(const struct syslog_target *t, const char *path, const char *ident, int facility)
{
	return t && t->facility == facility && strcmp(t->ident, ident) == 0 && strcmp(t->to.sun_path, path) == 0;
}

void log_syslog(const char *path, const char *ident, const char *facility)
{
	struct syslog_target *t = syslog_last;
	int number = ident ? facility_number(facility) : 0;
	if (ident && !is_same_target(t, path, ident, number)) {
		t = mem_zalloc(sizeof *t);
		t->fd = syslog_last ? syslog_last->fd : socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		t->facility = number;
		snprintf(t->ident, sizeof t->ident, "%s", ident);
		t->to.sun_family = AF_UNIX;
		snprintf(t->to.sun_path, sizeof t->to.sun_path, "%s", path);
		t->older = syslog_last;
		syslog_last = t;
	}
	atomic_store(&syslog_target, ident ? t : NULL);
}

static void send_to_syslog(const struct entry *e)
{
	static const int severities[] = {
		[LOG_DEBUG] = 7, [LOG_INFO] = 6, [LOG_WARNING] = 4, [LOG_ERROR] = 3, [LOG_FATAL] = 2
	};
	const struct syslog_target *t = atomic_load(&syslog_target);
	struct line l = { .n = 0 };
	if (!t || t->fd < 0)
		return;
	put(&l, "<%d>%s[%d]: ", t->facility * 8 + severities[e->level], t->ident, (int)getpid());
	if (atomic_load(&line_format) == LOG_JSON)
		format_json(&l, e);
	else
		format_body(&l, e);
	ssize_t done =
	    sendto(t->fd, l.text, l.n, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&t->to, sizeof t->to);
	(void)done;
}

/* --- lines --- */

static void write_entry(const struct entry *e)
{
	int saved_errno = errno;
	struct line l;
	l.n = 0;
	if (atomic_load(&line_format) == LOG_JSON)
		format_json(&l, e);
	else
		format_text(&l, e);
	l.text[l.n++] = '\n';
	ssize_t done = write(atomic_load(&sink_fd), l.text, l.n);
	(void)done;
	send_to_syslog(e);
	errno = saved_errno;
}

void log_line(enum log_level level, const struct log_subject *about, const char *fmt, ...)
{
	if (!log_enabled(level))
		return;
	char message[MESSAGE_MAX_BYTES];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	struct entry e = { level, about, message, NULL, 0 };
	write_entry(&e);
}

void log_fields(enum log_level level, const struct log_subject *about, const char *message,
                const struct log_field *fields, size_t n)
{
	struct entry e = { level, about, message, fields, n };
	if (log_enabled(level))
		write_entry(&e);
}

void check_failed(const char *expr, const char *file, int line, const char *func)
{
	log_fatal(NULL, "check failed: %s in %s at %s:%d", expr, func, file, line);
	abort();
}
