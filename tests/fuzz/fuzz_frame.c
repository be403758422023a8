/* fuzz_frame.c - a stream of messages from either side, through the framing and every parser.
 *
 * First byte: which side sends.  Properties: no read beyond the message (each body is copied into memory of its own),
 * a cut stream gives the same messages as the whole, and what is parsed and built again is what was there. */
#include <stdlib.h>
#include "wire/msg.h"
#include "wire/pgerr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_same(struct wire_writer *w, struct buf *b, const struct frame *f)
{
	CHECK(ww_finish(w));
	CHECK(buf_len(b) == FRAME_HEAD_BYTES + (size_t)f->body_len);
	CHECK(memcmp(buf_head(b) + FRAME_HEAD_BYTES, f->body, f->body_len) == 0);
	buf_deinit(b);
}

static void walk_values(struct wire_reader values, unsigned count)
{
	struct str v;
	unsigned seen = 0;
	while (msg_bind_next(&values, &v))
		seen++;
	CHECK(wr_done(&values) && seen == count);
}

static void fuzz_bind(const struct frame *f)
{
	struct msg_bind m;
	struct msg_bind_rest rest;
	if (msg_peek_bind(f->body, f->body_len, f->body_len, &m) != FRAME_OK)
		return;
	CHECK(m.rest_offset <= f->body_len);
	CHECK(msg_peek_bind(f->body, m.rest_offset, f->body_len, &m) == FRAME_OK);
	CHECK(msg_peek_bind(f->body, m.rest_offset - 1, f->body_len, &m) == FRAME_MORE);
	if (msg_parse_bind_rest(f->body + m.rest_offset, f->body_len - m.rest_offset, &rest))
		walk_values(rest.values, rest.value_count);
}

static void fuzz_client_login(const struct frame *f)
{
	struct msg_sasl_initial sasl;
	struct str s;
	(void)!msg_parse_password(f->body, f->body_len, &s);
	(void)!msg_parse_sasl_response(f->body, f->body_len, &s);
	if (msg_parse_sasl_initial(f->body, f->body_len, &sasl))
		CHECK(sasl.data.n <= f->body_len && sasl.mechanism.n < f->body_len);
}

static void fuzz_rebuilt(const struct frame *f)
{
	struct buf b = { 0 };
	struct wire_writer w;
	struct msg_query query;
	struct msg_execute execute;
	struct msg_describe target;
	ww_init(&w, &b);
	if (f->type == MSG_QUERY && msg_parse_query(f->body, f->body_len, &query))
		msg_put_query(&w, query.sql);
	else if (f->type == MSG_EXECUTE && msg_parse_execute(f->body, f->body_len, &execute))
		msg_put_execute(&w, execute.portal, execute.max_rows);
	else if (f->type == MSG_DESCRIBE && msg_parse_describe(f->body, f->body_len, &target))
		msg_put_describe(&w, target.target, target.name);
	else if (f->type == MSG_CLOSE && msg_parse_close(f->body, f->body_len, &target))
		msg_put_close(&w, target.target, target.name);
	else
		return;
	expect_same(&w, &b, f);
}

static void fuzz_client(const struct frame *f)
{
	struct msg_parse parse;
	struct str s;
	if (f->type == MSG_PARSE) {
		bool whole = msg_parse_parse(f->body, f->body_len, &parse);
		enum frame_result name = msg_peek_parse_name(f->body, f->body_len, f->body_len, &s);
		CHECK(!whole || (name == FRAME_OK && str_eq(s, parse.name)));
	} else if (f->type == MSG_BIND) {
		fuzz_bind(f);
	} else if (f->type == MSG_PASSWORD) {
		fuzz_client_login(f);
	} else if (f->type == MSG_COPY_FAIL) {
		(void)!msg_parse_copy_fail(f->body, f->body_len, &s);
	} else {
		fuzz_rebuilt(f);
	}
}

static void fuzz_error(const struct frame *f)
{
	struct pgerr_fields whole, part;
	pgerr_parse(f->body, f->body_len, &whole);
	CHECK(pgerr_sqlstate(&whole).n == 5);
	(void)pgerr_is_fatal(&whole);
	for (size_t have = 0; have < f->body_len && have < 64; have++) {
		pgerr_parse(f->body, have, &part);
		CHECK(!part.severity.p || str_eq(part.severity, whole.severity));
		CHECK(!part.message.p || str_eq(part.message, whole.message));
	}
}

static void fuzz_auth(const struct frame *f)
{
	struct msg_auth m;
	struct str name;
	if (!msg_parse_auth(f->body, f->body_len, &m))
		return;
	while (msg_sasl_next(&m.mechanisms, &name))
		CHECK(name.n > 0);
}

static void fuzz_server(const struct frame *f)
{
	struct msg_parameter parameter;
	struct msg_key_data key;
	struct msg_notification note;
	struct msg_negotiate negotiate;
	enum msg_tx_status status;
	struct wire_reader values;
	uint16_t count;
	struct str tag;
	(void)!msg_parse_parameter_status(f->body, f->body_len, &parameter);
	(void)!msg_parse_notification(f->body, f->body_len, &note);
	(void)!msg_parse_ready(f->body, f->body_len, &status);
	(void)!msg_parse_command_complete(f->body, f->body_len, &tag);
	(void)!msg_parse_negotiate(f->body, f->body_len, &negotiate);
	if (msg_parse_key_data(f->body, f->body_len, &key))
		CHECK(key.key.n >= MSG_CANCEL_KEY_MIN && key.key.n <= MSG_CANCEL_KEY_MAX);
	if (f->type == MSG_DATA_ROW && msg_parse_data_row(f->body, f->body_len, &count, &values))
		walk_values(values, count);
	if (f->type == MSG_AUTHENTICATION)
		fuzz_auth(f);
	if (f->type == MSG_ERROR_RESPONSE || f->type == MSG_NOTICE_RESPONSE)
		fuzz_error(f);
}

static void fuzz_message(enum frame_side side, struct frame f)
{
	uint8_t *copy = malloc(f.body_len ? f.body_len : 1);
	memcpy(copy, f.body, f.body_len);
	f.body = copy;
	if (side == FRAME_FROM_CLIENT)
		fuzz_client(&f);
	else
		fuzz_server(&f);
	CHECK(frame_type_is_known(side, f.type) == frame_type_is_allowed(side, f.type, FRAME_ANY_TIME));
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame f, again;
	if (size < 1)
		return 0;
	enum frame_side side = data[0] & 1 ? FRAME_FROM_SERVER : FRAME_FROM_CLIENT;
	size_t pos = 1;
	while (frame_take(data + pos, size - pos, &f) == FRAME_OK) {
		size_t len = FRAME_HEAD_BYTES + f.body_len;
		CHECK(frame_take(data + pos, len, &again) == FRAME_OK && again.body_len == f.body_len);
		CHECK(frame_take(data + pos, len - 1, &again) == FRAME_MORE);
		fuzz_message(side, f);
		pos += len;
	}
	return 0;
}
