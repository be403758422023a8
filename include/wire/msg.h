/* wire/msg.h - the messages of the frontend/backend protocol 3.x: parsing and building, both directions.
 *
 * Parsers (msg_parse_*) take a body, that is, what follows the length word.  They accept exactly the documented
 * layout: a missing NUL, a short field or one byte too many gives false, which the caller answers with 08P01.  Parsed
 * structs borrow the body.  Lists (parameters, mechanisms) are not copied: the struct carries a reader over them that
 * has been checked whole, and msg_*_next() walks it.
 * Builders (msg_put_*) append to a wire_writer; ww_finish() tells whether it went well.
 * Layouts: PostgreSQL documentation, "Message Formats". */
#ifndef WIRE_MSG_H
#define WIRE_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/check.h"
#include "base/str.h"
#include "wire/codec.h"
#include "wire/frame.h"

enum {
	MSG_PROTOCOL_3_0 = 0x00030000,
	MSG_PROTOCOL_3_2 = 0x00030002,
	MSG_CANCEL_REQUEST_CODE = 80877102,
	MSG_SSL_REQUEST_CODE = 80877103,
	MSG_GSSENC_REQUEST_CODE = 80877104,
	MSG_CANCEL_KEY_MIN = 4,   /* exactly this before protocol 3.2 */
	MSG_CANCEL_KEY_MAX = 256, /* protocol 3.2 */
	MSG_MD5_SALT_BYTES = 4,
};

static inline unsigned msg_protocol_major(uint32_t code) { return code >> 16; }
static inline unsigned msg_protocol_minor(uint32_t code) { return code & 0xffffu; }

/* --- start-up packets --- */

enum msg_startup_kind {
	MSG_STARTUP, /* protocol 3.x: code and params are set */
	MSG_SSL_REQUEST,
	MSG_GSSENC_REQUEST,
	MSG_CANCEL_REQUEST, /* cancel is set */
	MSG_OTHER_PROTOCOL, /* another major version: only code is set; answer 0A000 */
};

struct msg_cancel {
	uint32_t pid;
	struct str key; /* borrowed; MSG_CANCEL_KEY_MIN to MSG_CANCEL_KEY_MAX bytes, not text */
};

struct msg_startup {
	enum msg_startup_kind kind;
	uint32_t code;
	struct wire_reader params; /* walk a copy with msg_startup_next() */
	struct msg_cancel cancel;
};

/* p, n: the whole packet, length word included (see startup_peek). */
bool msg_parse_startup(const uint8_t *p, size_t n, struct msg_startup *out) MUSTCHECK;
/* false at the end of the list. */
bool msg_startup_next(struct wire_reader *params, struct str *name, struct str *value);

/* --- from clients --- */

struct msg_query {
	struct str sql;
};
struct msg_parse {
	struct str name, sql;
	uint16_t type_count;
	const uint8_t *types; /* type_count big-endian oids */
};
/* Bind: only its names; rest is what follows them in the body (or in as much of it as was given). */
struct msg_bind {
	struct str portal, statement;
	size_t rest_offset;
};
/* The rest of a Bind. */
struct msg_bind_rest {
	uint16_t format_count, value_count, result_format_count;
	const uint8_t *formats, *result_formats; /* big-endian 16 bit codes */
	struct wire_reader values;               /* walk a copy with msg_bind_next() */
};
enum msg_target { MSG_TARGET_STATEMENT = 'S', MSG_TARGET_PORTAL = 'P' };
struct msg_describe {
	enum msg_target target;
	struct str name;
}; /* Close has the same layout */
struct msg_execute {
	struct str portal;
	uint32_t max_rows;
}; /* 0: all */
struct msg_sasl_initial {
	struct str mechanism;
	bool has_data;
	struct str data;
};

bool msg_parse_query(const uint8_t *body, size_t n, struct msg_query *out) MUSTCHECK;
bool msg_parse_parse(const uint8_t *body, size_t n, struct msg_parse *out) MUSTCHECK;
bool msg_parse_describe(const uint8_t *body, size_t n, struct msg_describe *out) MUSTCHECK;
bool msg_parse_close(const uint8_t *body, size_t n, struct msg_describe *out) MUSTCHECK;
bool msg_parse_execute(const uint8_t *body, size_t n, struct msg_execute *out) MUSTCHECK;
bool msg_parse_empty(const uint8_t *body, size_t n) MUSTCHECK; /* Sync, Flush, Terminate, CopyDone, ParseComplete... */
bool msg_parse_copy_fail(const uint8_t *body, size_t n, struct str *reason) MUSTCHECK;
bool msg_parse_password(const uint8_t *body, size_t n, struct str *password) MUSTCHECK;
bool msg_parse_sasl_initial(const uint8_t *body, size_t n, struct msg_sasl_initial *out) MUSTCHECK;
bool msg_parse_sasl_response(const uint8_t *body, size_t n, struct str *data) MUSTCHECK;

/* For bodies that are not all there (a Bind or Parse may be larger than any buffer): `have` of `body_len` bytes. */
enum frame_result msg_peek_bind(const uint8_t *body, size_t have, size_t body_len, struct msg_bind *out) MUSTCHECK;
enum frame_result msg_peek_parse_name(const uint8_t *body, size_t have, size_t body_len, struct str *name) MUSTCHECK;
/* p, n: what follows the names in a whole Bind. */
bool msg_parse_bind_rest(const uint8_t *p, size_t n, struct msg_bind_rest *out) MUSTCHECK;
/* One parameter value; value->p is NULL for SQL NULL.  false at the end of the list. */
bool msg_bind_next(struct wire_reader *values, struct str *value);

/* --- from servers --- */

#define MSG_AUTH_CODES(X)                                                                                              \
	X(OK, 0)                                                                                                       \
	X(KERBEROS_V5, 2)                                                                                              \
	X(CLEARTEXT, 3)                                                                                                \
	X(MD5, 5) X(GSS, 7) X(GSS_CONTINUE, 8) X(SSPI, 9) X(SASL, 10) X(SASL_CONTINUE, 11) X(SASL_FINAL, 12)
enum msg_auth_code {
#define MSG_AUTH_ENUM(id, code) MSG_AUTH_##id = code,
	MSG_AUTH_CODES(MSG_AUTH_ENUM)
#undef MSG_AUTH_ENUM
};
struct msg_auth {
	uint32_t code; /* an enum msg_auth_code, or something newer: then data is the rest of the body */
	uint8_t md5_salt[MSG_MD5_SALT_BYTES];
	struct str data;               /* SASL_CONTINUE, SASL_FINAL, GSS_CONTINUE */
	struct wire_reader mechanisms; /* SASL: walk a copy with msg_sasl_next() */
};
struct msg_parameter {
	struct str name, value;
};
struct msg_key_data {
	uint32_t pid;
	struct str key;
}; /* key: 4 to 256 bytes, not text */
struct msg_notification {
	uint32_t pid;
	struct str channel, payload;
};
struct msg_negotiate {
	uint32_t code;
	uint32_t count;
	struct wire_reader options; /* count names, by wr_cstr() */
};
enum msg_tx_status { MSG_TX_IDLE = 'I', MSG_TX_OPEN = 'T', MSG_TX_FAILED = 'E' };

bool msg_parse_auth(const uint8_t *body, size_t n, struct msg_auth *out) MUSTCHECK;
bool msg_sasl_next(struct wire_reader *mechanisms, struct str *name); /* false at the end of the list */
bool msg_parse_parameter_status(const uint8_t *body, size_t n, struct msg_parameter *out) MUSTCHECK;
bool msg_parse_key_data(const uint8_t *body, size_t n, struct msg_key_data *out) MUSTCHECK;
bool msg_parse_ready(const uint8_t *body, size_t n, enum msg_tx_status *out) MUSTCHECK;
bool msg_parse_notification(const uint8_t *body, size_t n, struct msg_notification *out) MUSTCHECK;
bool msg_parse_command_complete(const uint8_t *body, size_t n, struct str *tag) MUSTCHECK;
bool msg_parse_negotiate(const uint8_t *body, size_t n, struct msg_negotiate *out) MUSTCHECK;
/* Text columns of a DataRow; walk by msg_bind_next(). */
bool msg_parse_data_row(const uint8_t *body, size_t n, uint16_t *count, struct wire_reader *values) MUSTCHECK;

/* --- to servers --- */

struct msg_pair {
	struct str name, value;
};

void msg_put_startup(struct wire_writer *w, uint32_t code, const struct msg_pair *params, size_t count);
void msg_put_ssl_request(struct wire_writer *w);
void msg_put_cancel_request(struct wire_writer *w, uint32_t pid, struct str key);
void msg_put_query(struct wire_writer *w, struct str sql);
/* types: oids in host order, may be NULL when count is 0. */
void msg_put_parse(struct wire_writer *w, struct str name, struct str sql, const uint32_t *types, size_t count);
/* Text parameters (p == NULL: SQL NULL), results in text. */
void msg_put_bind(struct wire_writer *w, struct str portal, struct str statement, const struct str *values,
                  size_t count);
void msg_put_describe(struct wire_writer *w, enum msg_target target, struct str name);
void msg_put_close(struct wire_writer *w, enum msg_target target, struct str name);
void msg_put_execute(struct wire_writer *w, struct str portal, uint32_t max_rows);
void msg_put_sync(struct wire_writer *w);
void msg_put_flush(struct wire_writer *w);
void msg_put_terminate(struct wire_writer *w);
void msg_put_copy_fail(struct wire_writer *w, struct str reason);
void msg_put_password(struct wire_writer *w, struct str password);
void msg_put_sasl_initial(struct wire_writer *w, struct str mechanism, struct str data);
void msg_put_sasl_response(struct wire_writer *w, struct str data);

/* --- to clients --- */

struct msg_column {
	struct str name;
	uint32_t type_oid;
	int16_t type_bytes; /* -1: variable */
};

void msg_put_auth_ok(struct wire_writer *w);
void msg_put_auth_cleartext(struct wire_writer *w);
void msg_put_auth_md5(struct wire_writer *w, const uint8_t salt[MSG_MD5_SALT_BYTES]);
void msg_put_auth_sasl(struct wire_writer *w, const char *const *mechanisms, size_t count);
void msg_put_auth_sasl_continue(struct wire_writer *w, struct str data);
void msg_put_auth_sasl_final(struct wire_writer *w, struct str data);
void msg_put_parameter_status(struct wire_writer *w, struct str name, struct str value);
void msg_put_key_data(struct wire_writer *w, uint32_t pid, struct str key);
void msg_put_ready(struct wire_writer *w, enum msg_tx_status status);
void msg_put_command_complete(struct wire_writer *w, struct str tag);
void msg_put_row_description(struct wire_writer *w, const struct msg_column *columns, size_t count);
void msg_put_data_row(struct wire_writer *w, const struct str *values, size_t count); /* p == NULL: SQL NULL */
void msg_put_negotiate(struct wire_writer *w, uint32_t code, const struct str *options, size_t count);
void msg_put_notification(struct wire_writer *w, uint32_t pid, struct str channel, struct str payload);
void msg_put_empty_query(struct wire_writer *w);
void msg_put_parse_complete(struct wire_writer *w);
void msg_put_bind_complete(struct wire_writer *w);
void msg_put_close_complete(struct wire_writer *w);
void msg_put_no_data(struct wire_writer *w);

#endif
