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
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, MESSAGE_MAX_BYTES = 2048 };

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

static void put_json_string(struct line *l, const char *s)
{
	put(l, "\"");
	for (; *s && l->n < sizeof l->text - 16; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\')
			put(l, "\\%c", c);
		else if (c < 0x20)
			put(l, "\\u%04x", c);
		else
			put(l, "%c", c);
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

static void put_field(struct line *l, const char *name, const char *value)
{
	if (!value)
		return;
	put(l, ",\"%s\":", name);
	put_json_string(l, value);
}

static void format_json(struct line *l, enum log_level level, const struct log_subject *who, const char *message)
{
	put(l, "{\"time\":\"");
	put_time(l);
	put(l, "\",\"level\":\"%s\",\"pid\":%d", level_names[level], (int)getpid());
	if (who && who->kind)
		put(l, ",\"object\":\"%c-%u\"", who->kind, who->id);
	if (who) {
		put_field(l, "database", who->database);
		put_field(l, "user", who->user);
		put_field(l, "application", who->application);
		put_field(l, "peer", who->peer);
	}
	put_field(l, "message", message);
	put(l, "}");
}

static void format_text(struct line *l, enum log_level level, const struct log_subject *who, const char *message)
{
	put_time(l);
	put(l, " [%d] %s: ", (int)getpid(), level_names[level]);
	if (who && who->kind) {
		put(l, "[%c-%u %s/%s", who->kind, who->id, who->database ? who->database : "-",
		    who->user ? who->user : "-");
		if (who->application && *who->application)
			put(l, " app=%s", who->application);
		if (who->peer)
			put(l, " %s", who->peer);
		put(l, "] ");
	}
	put(l, "%s", message);
	/* A newline inside a name from the network must not forge a line of its own. */
	for (size_t i = 0; i < l->n; i++) {
		if ((unsigned char)l->text[i] < 0x20)
			l->text[i] = ' ';
	}
}

void log_line(enum log_level level, const struct log_subject *about, const char *fmt, ...)
{
	if (!log_enabled(level))
		return;
	int saved_errno = errno;
	char message[MESSAGE_MAX_BYTES];
	struct line l;
	va_list ap;
	l.n = 0;
	va_start(ap, fmt);
	vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	if (atomic_load(&line_format) == LOG_JSON)
		format_json(&l, level, about, message);
	else
		format_text(&l, level, about, message);
	l.text[l.n++] = '\n';
	ssize_t done = write(atomic_load(&sink_fd), l.text, l.n);
	(void)done;
	errno = saved_errno;
}

void check_failed(const char *expr, const char *file, int line, const char *func)
{
	log_fatal(NULL, "check failed: %s in %s at %s:%d", expr, func, file, line);
	abort();
}
