/* base/log.h - levels, sinks, text or JSON lines.
 *
 * Thread-safe: a line is formatted on the caller's stack and leaves in one write().  Nothing here is on the path of a
 * query: callers test log_enabled() first.  Never pass a password or an SQL literal. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/check.h"

#define LOG_LEVELS(X) X(DEBUG, "debug") X(INFO, "info") X(WARNING, "warning") X(ERROR, "error") X(FATAL, "fatal")

enum log_level {
#define LOG_LEVEL_ENUM(id, name) LOG_##id,
	LOG_LEVELS(LOG_LEVEL_ENUM)
#undef LOG_LEVEL_ENUM
};
enum log_format { LOG_TEXT, LOG_JSON };

/* Who a line is about; every field may be NULL.  Borrowed for the call. */
struct log_subject {
	char kind;   /* 'C' client, 'S' server, 0 none */
	unsigned id; /* per-process object number, never a pointer */
	const char *database, *user, *application, *peer;
};

/* path NULL: standard error.  May be called again (SIGHUP reopens the file). Returns false with errno set when the
 * file cannot be opened; the old sink stays. */
bool log_open(const char *path, enum log_format format, enum log_level level) MUSTCHECK;
void log_set_level(enum log_level level);
const char *log_level_name(enum log_level level);
bool log_level_parse(const char *name, enum log_level *out) MUSTCHECK;
bool log_enabled(enum log_level level);
void log_line(enum log_level level, const struct log_subject *about, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Facts of a line by name: key=value behind the message, fields of their own in JSON. */
enum log_field_kind { LOG_FIELD_TEXT, LOG_FIELD_NUMBER, LOG_FIELD_MS };
struct log_field {
	const char *name, *text; /* TEXT; NULL: left out */
	uint64_t number;         /* NUMBER; MS: microseconds, written as milliseconds */
	enum log_field_kind kind;
};
void log_fields(enum log_level level, const struct log_subject *about, const char *message,
                const struct log_field *fields, size_t n);

/* Lines go to syslog too; ident NULL: no more.  path: its socket, "/dev/log".  Never waits: what the socket does not
 * take at once is lost there.  One thread at a time. */
void log_syslog(const char *path, const char *ident, const char *facility);

#define log_debug(about, ...)   (log_enabled(LOG_DEBUG) ? log_line(LOG_DEBUG, about, __VA_ARGS__) : (void)0)
#define log_info(about, ...)    log_line(LOG_INFO, about, __VA_ARGS__)
#define log_warning(about, ...) log_line(LOG_WARNING, about, __VA_ARGS__)
#define log_error(about, ...)   log_line(LOG_ERROR, about, __VA_ARGS__)
#define log_fatal(about, ...)   log_line(LOG_FATAL, about, __VA_ARGS__)

#endif
