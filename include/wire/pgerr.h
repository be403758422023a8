/* wire/pgerr.h - errors as PostgreSQL says them: the SQLSTATEs that pgweir uses, a struct for one that we report, and
 * a reader for one that a server sent.
 *
 * struct pgerr owns its texts in fixed arrays, so that it can be filled where memory has run out; a text that is too
 * long is cut between characters.  struct pgerr_fields borrows: fields point into the message, and any of them may be
 * missing (a backend that dies may send almost anything, and a hostile one will). */
#ifndef WIRE_PGERR_H
#define WIRE_PGERR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/check.h"
#include "base/str.h"
#include "wire/codec.h"

/* clang-format off */
#define SQLSTATES(X)                                                                                                   \
	X(SUCCESSFUL_COMPLETION, "00000", "successful_completion")                                                     \
	X(WARNING, "01000", "warning")                                                                                 \
	X(CONNECTION_EXCEPTION, "08000", "connection_exception")                                                       \
	X(CANNOT_CONNECT, "08001", "sqlclient_unable_to_establish_sqlconnection")                                      \
	X(CONNECTION_DOES_NOT_EXIST, "08003", "connection_does_not_exist")                                             \
	X(CONNECTION_REJECTED, "08004", "sqlserver_rejected_establishment_of_sqlconnection")                           \
	X(CONNECTION_FAILURE, "08006", "connection_failure")                                                           \
	X(TRANSACTION_UNKNOWN, "08007", "transaction_resolution_unknown")                                              \
	X(PROTOCOL_VIOLATION, "08P01", "protocol_violation")                                                           \
	X(FEATURE_NOT_SUPPORTED, "0A000", "feature_not_supported")                                                     \
	X(NUMERIC_OUT_OF_RANGE, "22003", "numeric_value_out_of_range")                                                 \
	X(INVALID_PARAMETER_VALUE, "22023", "invalid_parameter_value")                                                 \
	X(INVALID_TEXT_REPRESENTATION, "22P02", "invalid_text_representation")                                         \
	X(ACTIVE_SQL_TRANSACTION, "25001", "active_sql_transaction")                                                   \
	X(READ_ONLY_SQL_TRANSACTION, "25006", "read_only_sql_transaction")                                             \
	X(NO_ACTIVE_SQL_TRANSACTION, "25P01", "no_active_sql_transaction")                                             \
	X(IN_FAILED_SQL_TRANSACTION, "25P02", "in_failed_sql_transaction")                                             \
	X(IDLE_IN_TRANSACTION_TIMEOUT, "25P03", "idle_in_transaction_session_timeout")                                 \
	X(TRANSACTION_TIMEOUT, "25P04", "transaction_timeout")                                                         \
	X(INVALID_STATEMENT_NAME, "26000", "invalid_sql_statement_name")                                               \
	X(INVALID_AUTHORIZATION, "28000", "invalid_authorization_specification")                                       \
	X(INVALID_PASSWORD, "28P01", "invalid_password")                                                               \
	X(INVALID_CURSOR_NAME, "34000", "invalid_cursor_name")                                                         \
	X(INVALID_SAVEPOINT, "3B001", "invalid_savepoint_specification")                                               \
	X(INVALID_CATALOG_NAME, "3D000", "invalid_catalog_name")                                                       \
	X(INVALID_SCHEMA_NAME, "3F000", "invalid_schema_name")                                                         \
	X(SERIALIZATION_FAILURE, "40001", "serialization_failure")                                                     \
	X(DEADLOCK_DETECTED, "40P01", "deadlock_detected")                                                             \
	X(SYNTAX_ERROR_OR_ACCESS_RULE, "42000", "syntax_error_or_access_rule_violation")                               \
	X(INSUFFICIENT_PRIVILEGE, "42501", "insufficient_privilege")                                                   \
	X(SYNTAX_ERROR, "42601", "syntax_error")                                                                       \
	X(UNDEFINED_OBJECT, "42704", "undefined_object")                                                               \
	X(UNDEFINED_FUNCTION, "42883", "undefined_function")                                                           \
	X(UNDEFINED_TABLE, "42P01", "undefined_table")                                                                 \
	X(DUPLICATE_CURSOR, "42P03", "duplicate_cursor")                                                               \
	X(DUPLICATE_PREPARED_STATEMENT, "42P05", "duplicate_prepared_statement")                                       \
	X(INSUFFICIENT_RESOURCES, "53000", "insufficient_resources")                                                   \
	X(OUT_OF_MEMORY, "53200", "out_of_memory")                                                                     \
	X(TOO_MANY_CONNECTIONS, "53300", "too_many_connections")                                                       \
	X(CONFIGURATION_LIMIT_EXCEEDED, "53400", "configuration_limit_exceeded")                                       \
	X(PROGRAM_LIMIT_EXCEEDED, "54000", "program_limit_exceeded")                                                   \
	X(STATEMENT_TOO_COMPLEX, "54001", "statement_too_complex")                                                     \
	X(NOT_IN_PREREQUISITE_STATE, "55000", "object_not_in_prerequisite_state")                                      \
	X(LOCK_NOT_AVAILABLE, "55P03", "lock_not_available")                                                           \
	X(QUERY_CANCELED, "57014", "query_canceled")                                                                   \
	X(ADMIN_SHUTDOWN, "57P01", "admin_shutdown")                                                                   \
	X(CRASH_SHUTDOWN, "57P02", "crash_shutdown")                                                                   \
	X(CANNOT_CONNECT_NOW, "57P03", "cannot_connect_now")                                                           \
	X(DATABASE_DROPPED, "57P04", "database_dropped")                                                               \
	X(IDLE_SESSION_TIMEOUT, "57P05", "idle_session_timeout")                                                       \
	X(SYSTEM_ERROR, "58000", "system_error")                                                                       \
	X(IO_ERROR, "58030", "io_error")                                                                               \
	X(CONFIG_FILE_ERROR, "F0000", "config_file_error")                                                             \
	X(RAISE_EXCEPTION, "P0001", "raise_exception")                                                                 \
	X(INTERNAL_ERROR, "XX000", "internal_error")                                                                   \
	X(DATA_CORRUPTED, "XX001", "data_corrupted")
/* clang-format on */

enum sqlstate {
#define SQLSTATE_ENUM(id, code, name) SQLSTATE_##id,
	SQLSTATES(SQLSTATE_ENUM)
#undef SQLSTATE_ENUM
	    SQLSTATE_COUNT
};

/* clang-format off */
#define PGERR_SEVERITIES(X)                                                                                            \
	X(DEBUG, "DEBUG")                                                                                              \
	X(LOG, "LOG")                                                                                                  \
	X(INFO, "INFO")                                                                                                \
	X(NOTICE, "NOTICE") X(WARNING, "WARNING") X(ERROR, "ERROR") X(FATAL, "FATAL") X(PANIC, "PANI"                  \
	                                                                                       "C")
/* clang-format on */

enum pgerr_severity {
#define PGERR_SEVERITY_ENUM(id, name) PGERR_##id,
	PGERR_SEVERITIES(PGERR_SEVERITY_ENUM)
#undef PGERR_SEVERITY_ENUM
};

const char *sqlstate_code(enum sqlstate id); /* "08P01" */
const char *sqlstate_name(enum sqlstate id); /* "protocol_violation" */
bool sqlstate_find(struct str code, enum sqlstate *out) MUSTCHECK;
const char *pgerr_severity_name(enum pgerr_severity severity);

struct pgerr {
	enum pgerr_severity severity;
	char sqlstate[6];
	char message[512]; /* primary: short, lower case, no period */
	char detail[512];  /* "" when there is none; full sentences */
	char hint[256];    /* the same */
};

/* All of these accept err == NULL (nobody wants to know).  pgerr_set* start afresh; detail and hint add to it. */
void pgerr_set(struct pgerr *err, enum sqlstate id, const char *fmt, ...) PRINTF_LIKE(3, 4);       /* ERROR */
void pgerr_set_fatal(struct pgerr *err, enum sqlstate id, const char *fmt, ...) PRINTF_LIKE(3, 4); /* FATAL */
void pgerr_set_severity(struct pgerr *err, enum pgerr_severity severity, enum sqlstate id, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
void pgerr_detail(struct pgerr *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
void pgerr_hint(struct pgerr *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "invalid Bind message" and the like, 08P01: for a msg_parse_* that returned false. */
void pgerr_set_bad_message(struct pgerr *err, enum frame_side side, uint8_t type);
/* "unknown message type 0x.. from client", 08P01; or "unexpected Bind message" when the type is known. */
void pgerr_set_bad_type(struct pgerr *err, enum frame_side side, uint8_t type);

/* ErrorResponse, or NoticeResponse for what is below ERROR. */
void msg_put_error(struct wire_writer *w, const struct pgerr *err);
/* What PostgreSQL says of a prepared statement whose columns have changed: 0A000, and where in its sources. */
#define PGERR_ROUTINE_OF_OUTDATED_PLAN "RevalidateCachedQuery"
void msg_put_outdated_plan(struct wire_writer *w);

/* clang-format off */
#define PGERR_FIELDS(X)                                                                                                \
	X('S', severity)                                                                                               \
	X('V', severity_plain)                                                                                         \
	X('C', sqlstate)                                                                                               \
	X('M', message)                                                                                                \
	X('D', detail) X('H', hint) X('P', position) X('p', internal_position) X('q', internal_query) X('W', where)    \
	    X('s', schema) X('t', table) X('c', column) X('d', data_type) X('n', constraint) X('F', file) X('L', line) \
	        X('R', routine)
/* clang-format on */

/* An ErrorResponse or NoticeResponse of a server.  Borrowed; a missing field has p == NULL. */
struct pgerr_fields {
#define PGERR_FIELD_MEMBER(letter, name) struct str name;
	PGERR_FIELDS(PGERR_FIELD_MEMBER)
#undef PGERR_FIELD_MEMBER
	bool whole; /* the list's end was seen; else fields are those that were all there */
};

/* `have` of a body's bytes, which may be fewer than the whole: the caller's buffer may be smaller than an error
 * message.  Never fails; unknown fields are skipped, of a repeated one the first counts. */
void pgerr_parse(const uint8_t *body, size_t have, struct pgerr_fields *out);
/* Five characters, valid as an SQLSTATE; "XX000" when the server sent none or nonsense. */
struct str pgerr_sqlstate(const struct pgerr_fields *fields);
bool pgerr_is(const struct pgerr_fields *fields, enum sqlstate id);
bool pgerr_is_class(const struct pgerr_fields *fields, const char *class_code); /* "42", "57P0": a prefix */
/* The connection is lost after it (FATAL or PANIC), by V, else by S. */
bool pgerr_is_fatal(const struct pgerr_fields *fields);

#endif
