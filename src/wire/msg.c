/* wire/msg.c - see wire/msg.h.  A parser reads all its fields and asks once, by wr_done(), whether they were there and
 * nothing else was; what a list claims about its length is checked by walking it before anybody else may. */
#include "wire/msg.h"

/* --- start-up packets --- */

bool msg_startup_next(struct wire_reader *params, struct str *name, struct str *value)
{
	*name = wr_cstr(params);
	if (params->failed || name->n == 0)
		return false; /* the empty name is the terminator */
	*value = wr_cstr(params);
	return !params->failed;
}

/* The last byte must be the terminator and stand where the last pair ends. */
static bool startup_params_are_valid(struct wire_reader r)
{
	struct str name, value;
	while (msg_startup_next(&r, &name, &value))
		;
	return wr_done(&r);
}

static bool parse_cancel(struct wire_reader *r, struct msg_cancel *out)
{
	out->pid = wr_u32(r);
	out->key = wr_rest(r);
	return wr_done(r) && out->key.n >= MSG_CANCEL_KEY_MIN && out->key.n <= MSG_CANCEL_KEY_MAX;
}

bool msg_parse_startup(const uint8_t *p, size_t n, struct msg_startup *out)
{
	struct wire_reader r;
	wr_init(&r, p, n);
	uint32_t length = wr_u32(&r);
	*out = (struct msg_startup){ .kind = MSG_OTHER_PROTOCOL, .code = wr_u32(&r) };
	wr_init(&out->params, NULL, 0);
	if (r.failed || length != n || n > STARTUP_BYTES_MAX)
		return false;
	if (out->code == MSG_CANCEL_REQUEST_CODE) {
		out->kind = MSG_CANCEL_REQUEST;
		return parse_cancel(&r, &out->cancel);
	}
	if (out->code == MSG_SSL_REQUEST_CODE || out->code == MSG_GSSENC_REQUEST_CODE) {
		out->kind = out->code == MSG_SSL_REQUEST_CODE ? MSG_SSL_REQUEST : MSG_GSSENC_REQUEST;
		return wr_done(&r);
	}
	if (msg_protocol_major(out->code) != msg_protocol_major(MSG_PROTOCOL_3_0))
		return true; /* its layout is unknown to us */
	out->kind = MSG_STARTUP;
	out->params = r;
	return startup_params_are_valid(r);
}

/* --- from clients --- */

bool msg_parse_query(const uint8_t *body, size_t n, struct msg_query *out)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	out->sql = wr_cstr(&r);
	return wr_done(&r);
}

bool msg_parse_parse(const uint8_t *body, size_t n, struct msg_parse *out)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	out->name = wr_cstr(&r);
	out->sql = wr_cstr(&r);
	out->type_count = wr_u16(&r);
	out->types = wr_bytes(&r, (size_t)out->type_count * sizeof(uint32_t));
	return wr_done(&r);
}

static bool parse_describe(const uint8_t *body, size_t n, struct msg_describe *out)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	uint8_t target = wr_u8(&r);
	out->target = target == MSG_TARGET_PORTAL ? MSG_TARGET_PORTAL : MSG_TARGET_STATEMENT;
	out->name = wr_cstr(&r);
	return wr_done(&r) && target == (uint8_t)out->target;
}

bool msg_parse_describe(const uint8_t *body, size_t n, struct msg_describe *out)
{
	return parse_describe(body, n, out);
}

bool msg_parse_close(const uint8_t *body, size_t n, struct msg_describe *out) { return parse_describe(body, n, out); }

bool msg_parse_execute(const uint8_t *body, size_t n, struct msg_execute *out)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	out->portal = wr_cstr(&r);
	out->max_rows = wr_u32(&r);
	return wr_done(&r);
}

bool msg_parse_empty(const uint8_t *body, size_t n)
{
	(void)body;
	return n == 0;
}

/* Bodies that are one string. */
static bool parse_string(const uint8_t *body, size_t n, struct str *out)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	*out = wr_cstr(&r);
	return wr_done(&r);
}

bool msg_parse_copy_fail(const uint8_t *body, size_t n, struct str *reason) { return parse_string(body, n, reason); }
bool msg_parse_password(const uint8_t *body, size_t n, struct str *password) { return parse_string(body, n, password); }

/* A length word and that many bytes; -1 is NULL.  Any other negative length is nonsense. */
static bool read_value(struct wire_reader *r, struct str *value)
{
	*value = (struct str){ NULL, 0 };
	int32_t n = wr_i32(r);
	if (n == -1)
		return !r->failed;
	if (n < 0)
		r->failed = true;
	if (r->failed)
		return false;
	*value = (struct str){ (const char *)wr_bytes(r, (size_t)n), (size_t)n };
	return !r->failed;
}

bool msg_parse_sasl_initial(const uint8_t *body, size_t n, struct msg_sasl_initial *out)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	out->mechanism = wr_cstr(&r);
	bool ok = read_value(&r, &out->data);
	out->has_data = out->data.p != NULL;
	return ok && wr_done(&r);
}

bool msg_parse_sasl_response(const uint8_t *body, size_t n, struct str *data)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	*data = wr_rest(&r);
	return true;
}

/* A reader over a part of a body came to its end: is that the body's fault, or is the rest yet to come? */
static enum frame_result peek_result(const struct wire_reader *r, size_t have, size_t body_len)
{
	if (!r->failed)
		return FRAME_OK;
	return have < body_len ? FRAME_MORE : FRAME_BAD;
}

enum frame_result msg_peek_bind(const uint8_t *body, size_t have, size_t body_len, struct msg_bind *out)
{
	struct wire_reader r;
	wr_init(&r, body, have);
	out->portal = wr_cstr(&r);
	out->statement = wr_cstr(&r);
	out->rest_offset = have - wr_left(&r);
	return peek_result(&r, have, body_len);
}

enum frame_result msg_peek_parse_name(const uint8_t *body, size_t have, size_t body_len, struct str *name)
{
	struct wire_reader r;
	wr_init(&r, body, have);
	*name = wr_cstr(&r);
	return peek_result(&r, have, body_len);
}

bool msg_bind_next(struct wire_reader *values, struct str *value)
{
	return wr_left(values) > 0 && read_value(values, value);
}

/* Skips count values and hands out a reader over them. */
static void read_values(struct wire_reader *r, uint16_t count, struct wire_reader *values)
{
	const uint8_t *start = r->pos;
	struct str value;
	for (unsigned i = 0; i < count; i++) {
		if (!read_value(r, &value))
			break;
	}
	wr_init(values, start, r->failed ? 0 : (size_t)(r->pos - start));
}

bool msg_parse_bind_rest(const uint8_t *p, size_t n, struct msg_bind_rest *out)
{
	struct wire_reader r;
	wr_init(&r, p, n);
	out->format_count = wr_u16(&r);
	out->formats = wr_bytes(&r, (size_t)out->format_count * sizeof(uint16_t));
	out->value_count = wr_u16(&r);
	read_values(&r, out->value_count, &out->values);
	out->result_format_count = wr_u16(&r);
	out->result_formats = wr_bytes(&r, (size_t)out->result_format_count * sizeof(uint16_t));
	return wr_done(&r);
}

/* --- from servers --- */

bool msg_sasl_next(struct wire_reader *mechanisms, struct str *name)
{
	*name = wr_cstr(mechanisms);
	return !mechanisms->failed && name->n > 0;
}

/* AuthenticationSASL: names, then an empty one, then nothing. */
static bool parse_mechanisms(struct wire_reader r, struct wire_reader *out)
{
	struct str name;
	*out = r;
	while (msg_sasl_next(&r, &name))
		;
	return wr_done(&r);
}

bool msg_parse_auth(const uint8_t *body, size_t n, struct msg_auth *out)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	*out = (struct msg_auth){ .code = wr_u32(&r), .data = STR("") };
	wr_init(&out->mechanisms, NULL, 0);
	if (r.failed)
		return false;
	if (out->code == MSG_AUTH_SASL)
		return parse_mechanisms(r, &out->mechanisms);
	if (out->code == MSG_AUTH_MD5) {
		const uint8_t *salt = wr_bytes(&r, sizeof(out->md5_salt));
		if (salt)
			memcpy(out->md5_salt, salt, sizeof(out->md5_salt));
		return wr_done(&r);
	}
	out->data = wr_rest(&r);
	/* These four have no more to say; of a code newer than us nothing is known. */
	bool is_bare = out->code == MSG_AUTH_OK || out->code == MSG_AUTH_CLEARTEXT ||
	               out->code == MSG_AUTH_KERBEROS_V5 || out->code == MSG_AUTH_GSS;
	return !is_bare || out->data.n == 0;
}

bool msg_parse_parameter_status(const uint8_t *body, size_t n, struct msg_parameter *out)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	out->name = wr_cstr(&r);
	out->value = wr_cstr(&r);
	return wr_done(&r);
}

bool msg_parse_key_data(const uint8_t *body, size_t n, struct msg_key_data *out)
{
	struct wire_reader r;
	struct msg_cancel same_layout;
	wr_init(&r, body, n);
	bool ok = parse_cancel(&r, &same_layout);
	*out = (struct msg_key_data){ same_layout.pid, same_layout.key };
	return ok;
}

bool msg_parse_ready(const uint8_t *body, size_t n, enum msg_tx_status *out)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	uint8_t status = wr_u8(&r);
	*out = status == MSG_TX_OPEN ? MSG_TX_OPEN : status == MSG_TX_FAILED ? MSG_TX_FAILED : MSG_TX_IDLE;
	return wr_done(&r) && status == (uint8_t)*out;
}

bool msg_parse_notification(const uint8_t *body, size_t n, struct msg_notification *out)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	out->pid = wr_u32(&r);
	out->channel = wr_cstr(&r);
	out->payload = wr_cstr(&r);
	return wr_done(&r);
}

bool msg_parse_command_complete(const uint8_t *body, size_t n, struct str *tag) { return parse_string(body, n, tag); }

bool msg_parse_negotiate(const uint8_t *body, size_t n, struct msg_negotiate *out)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	out->code = wr_u32(&r);
	out->count = wr_u32(&r);
	out->options = r;
	/* The count is a peer's claim, but each name takes a byte at least: the loop is bounded by n. */
	for (uint32_t i = 0; i < out->count && !r.failed; i++)
		(void)wr_cstr(&r);
	return wr_done(&r);
}

bool msg_parse_data_row(const uint8_t *body, size_t n, uint16_t *count, struct wire_reader *values)
{
	struct wire_reader r;
	wr_init(&r, body, n);
	*count = wr_u16(&r);
	read_values(&r, *count, values);
	return wr_done(&r);
}

/* --- to servers --- */

/* Counts on the wire have 16 bits. */
static void put_count(struct wire_writer *w, size_t count)
{
	if (count > UINT16_MAX)
		w->failed = true;
	ww_u16(w, (uint16_t)count);
}

static void put_empty(struct wire_writer *w, uint8_t type)
{
	ww_begin(w, type);
	ww_end(w);
}

static void put_string(struct wire_writer *w, uint8_t type, struct str s)
{
	ww_begin(w, type);
	ww_str(w, s);
	ww_end(w);
}

void msg_put_startup(struct wire_writer *w, uint32_t code, const struct msg_pair *params, size_t count)
{
	ww_begin(w, 0);
	ww_u32(w, code);
	for (size_t i = 0; i < count; i++) {
		if (params[i].name.n == 0)
			w->failed = true; /* would end the list */
		ww_str(w, params[i].name);
		ww_str(w, params[i].value);
	}
	ww_u8(w, 0);
	ww_end(w);
}

void msg_put_ssl_request(struct wire_writer *w)
{
	ww_begin(w, 0);
	ww_u32(w, MSG_SSL_REQUEST_CODE);
	ww_end(w);
}

void msg_put_cancel_request(struct wire_writer *w, uint32_t pid, struct str key)
{
	ww_begin(w, 0);
	ww_u32(w, MSG_CANCEL_REQUEST_CODE);
	ww_u32(w, pid);
	ww_bytes(w, key.p, key.n);
	ww_end(w);
}

void msg_put_query(struct wire_writer *w, struct str sql) { put_string(w, MSG_QUERY, sql); }

void msg_put_parse(struct wire_writer *w, struct str name, struct str sql, const uint32_t *oids, size_t count)
{
	ww_begin(w, MSG_PARSE);
	ww_str(w, name);
	ww_str(w, sql);
	put_count(w, count);
	for (size_t i = 0; i < count; i++)
		ww_u32(w, oids[i]);
	ww_end(w);
}

static void put_values(struct wire_writer *w, const struct str *values, size_t count)
{
	put_count(w, count);
	for (size_t i = 0; i < count; i++)
		ww_value(w, values[i]);
}

void msg_put_bind(struct wire_writer *w, struct str portal, struct str statement, const struct str *values,
                  size_t count)
{
	ww_begin(w, MSG_BIND);
	ww_str(w, portal);
	ww_str(w, statement);
	ww_u16(w, 0); /* all parameters in text */
	put_values(w, values, count);
	ww_u16(w, 0); /* all results in text */
	ww_end(w);
}

static void put_target(struct wire_writer *w, uint8_t type, enum msg_target target, struct str name)
{
	ww_begin(w, type);
	ww_u8(w, (uint8_t)target);
	ww_str(w, name);
	ww_end(w);
}

void msg_put_describe(struct wire_writer *w, enum msg_target target, struct str name)
{
	put_target(w, MSG_DESCRIBE, target, name);
}

void msg_put_close(struct wire_writer *w, enum msg_target target, struct str name)
{
	put_target(w, MSG_CLOSE, target, name);
}

void msg_put_execute(struct wire_writer *w, struct str portal, uint32_t max_rows)
{
	ww_begin(w, MSG_EXECUTE);
	ww_str(w, portal);
	ww_u32(w, max_rows);
	ww_end(w);
}

void msg_put_sync(struct wire_writer *w) { put_empty(w, MSG_SYNC); }
void msg_put_flush(struct wire_writer *w) { put_empty(w, MSG_FLUSH); }
void msg_put_terminate(struct wire_writer *w) { put_empty(w, MSG_TERMINATE); }
void msg_put_copy_fail(struct wire_writer *w, struct str reason) { put_string(w, MSG_COPY_FAIL, reason); }
void msg_put_password(struct wire_writer *w, struct str password) { put_string(w, MSG_PASSWORD, password); }

void msg_put_sasl_initial(struct wire_writer *w, struct str mechanism, struct str data)
{
	ww_begin(w, MSG_PASSWORD);
	ww_str(w, mechanism);
	ww_value(w, data);
	ww_end(w);
}

void msg_put_sasl_response(struct wire_writer *w, struct str data)
{
	ww_begin(w, MSG_PASSWORD);
	ww_bytes(w, data.p, data.n);
	ww_end(w);
}

/* --- to clients --- */

static void put_auth(struct wire_writer *w, enum msg_auth_code code, const void *p, size_t n)
{
	ww_begin(w, MSG_AUTHENTICATION);
	ww_u32(w, (uint32_t)code);
	ww_bytes(w, p, n);
	ww_end(w);
}

void msg_put_auth_ok(struct wire_writer *w) { put_auth(w, MSG_AUTH_OK, NULL, 0); }
void msg_put_auth_cleartext(struct wire_writer *w) { put_auth(w, MSG_AUTH_CLEARTEXT, NULL, 0); }

void msg_put_auth_md5(struct wire_writer *w, const uint8_t salt[MSG_MD5_SALT_BYTES])
{
	put_auth(w, MSG_AUTH_MD5, salt, MSG_MD5_SALT_BYTES);
}

void msg_put_auth_sasl(struct wire_writer *w, const char *const *mechanisms, size_t count)
{
	ww_begin(w, MSG_AUTHENTICATION);
	ww_u32(w, MSG_AUTH_SASL);
	for (size_t i = 0; i < count; i++)
		ww_cstr(w, mechanisms[i]);
	ww_u8(w, 0);
	ww_end(w);
}

void msg_put_auth_sasl_continue(struct wire_writer *w, struct str data)
{
	put_auth(w, MSG_AUTH_SASL_CONTINUE, data.p, data.n);
}

void msg_put_auth_sasl_final(struct wire_writer *w, struct str data)
{
	put_auth(w, MSG_AUTH_SASL_FINAL, data.p, data.n);
}

void msg_put_parameter_status(struct wire_writer *w, struct str name, struct str value)
{
	ww_begin(w, MSG_PARAMETER_STATUS);
	ww_str(w, name);
	ww_str(w, value);
	ww_end(w);
}

void msg_put_key_data(struct wire_writer *w, uint32_t pid, struct str key)
{
	ww_begin(w, MSG_BACKEND_KEY_DATA);
	ww_u32(w, pid);
	ww_bytes(w, key.p, key.n);
	ww_end(w);
}

void msg_put_ready(struct wire_writer *w, enum msg_tx_status status)
{
	ww_begin(w, MSG_READY_FOR_QUERY);
	ww_u8(w, (uint8_t)status);
	ww_end(w);
}

void msg_put_command_complete(struct wire_writer *w, struct str tag) { put_string(w, MSG_COMMAND_COMPLETE, tag); }

void msg_put_row_description(struct wire_writer *w, const struct msg_column *columns, size_t count)
{
	ww_begin(w, MSG_ROW_DESCRIPTION);
	put_count(w, count);
	for (size_t i = 0; i < count; i++) {
		ww_str(w, columns[i].name);
		ww_u32(w, 0); /* of no table */
		ww_u16(w, 0); /* nor column */
		ww_u32(w, columns[i].type_oid);
		ww_u16(w, (uint16_t)columns[i].type_bytes);
		ww_i32(w, -1); /* no type modifier */
		ww_u16(w, 0);  /* text */
	}
	ww_end(w);
}

void msg_put_data_row(struct wire_writer *w, const struct str *values, size_t count)
{
	ww_begin(w, MSG_DATA_ROW);
	put_values(w, values, count);
	ww_end(w);
}

void msg_put_negotiate(struct wire_writer *w, uint32_t code, const struct str *options, size_t count)
{
	ww_begin(w, MSG_NEGOTIATE_PROTOCOL_VERSION);
	ww_u32(w, code);
	ww_u32(w, (uint32_t)count);
	for (size_t i = 0; i < count; i++)
		ww_str(w, options[i]);
	ww_end(w);
}

void msg_put_notification(struct wire_writer *w, uint32_t pid, struct str channel, struct str payload)
{
	ww_begin(w, MSG_NOTIFICATION_RESPONSE);
	ww_u32(w, pid);
	ww_str(w, channel);
	ww_str(w, payload);
	ww_end(w);
}

void msg_put_empty_query(struct wire_writer *w) { put_empty(w, MSG_EMPTY_QUERY_RESPONSE); }
void msg_put_parse_complete(struct wire_writer *w) { put_empty(w, MSG_PARSE_COMPLETE); }
void msg_put_bind_complete(struct wire_writer *w) { put_empty(w, MSG_BIND_COMPLETE); }
void msg_put_close_complete(struct wire_writer *w) { put_empty(w, MSG_CLOSE_COMPLETE); }
void msg_put_no_data(struct wire_writer *w) { put_empty(w, MSG_NO_DATA); }
