/* test_msg.c - every message: what it looks like, every truncation rejected, one byte too many rejected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/mem.h"
#include "wire/msg.h"

/* --- all parsers behind one signature --- */

#define PARSER(name, type)                                                                                             \
	static bool p_##name(const uint8_t *p, size_t n)                                                               \
	{                                                                                                              \
		type m;                                                                                                \
		return msg_parse_##name(p, n, &m);                                                                     \
	}
PARSER(query, struct msg_query)
PARSER(parse, struct msg_parse)
PARSER(describe, struct msg_describe)
PARSER(close, struct msg_describe)
PARSER(execute, struct msg_execute)
PARSER(copy_fail, struct str)
PARSER(password, struct str)
PARSER(sasl_initial, struct msg_sasl_initial)
PARSER(bind_rest, struct msg_bind_rest)
PARSER(auth, struct msg_auth)
PARSER(parameter_status, struct msg_parameter)
PARSER(key_data, struct msg_key_data)
PARSER(ready, enum msg_tx_status)
PARSER(notification, struct msg_notification)
PARSER(command_complete, struct str)
PARSER(negotiate, struct msg_negotiate)
PARSER(startup, struct msg_startup)

static bool p_data_row(const uint8_t *p, size_t n)
{
	uint16_t count;
	struct wire_reader values;
	return msg_parse_data_row(p, n, &count, &values);
}

/* In a memory block of exactly that size, so that the address sanitizer sees the first byte read beyond it. */
static bool parse_exact(bool (*parse)(const uint8_t *, size_t), const uint8_t *p, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);
	memcpy(copy, p, n);
	bool ok = parse(copy, n);
	free(copy);
	return ok;
}

#define BODY(lit) (const uint8_t *)(lit), sizeof(lit) - 1
static const struct {
	const char *name;
	bool (*parse)(const uint8_t *, size_t);
	const uint8_t *body;
	size_t n;
} messages[] = {
	{ "Query", p_query, BODY("select 1\0") },
	{ "Query, empty", p_query, BODY("\0") },
	{ "Parse", p_parse, BODY("s1\0select $1\0\0\2\0\0\0\x17\0\0\0\x19") },
	{ "Parse, bare", p_parse, BODY("\0\0\0\0") },
	{ "Describe", p_describe, BODY("Ss1\0") },
	{ "Close", p_close, BODY("P\0") },
	{ "Execute", p_execute, BODY("p1\0\0\0\0\x0a") },
	{ "CopyFail", p_copy_fail, BODY("no more\0") },
	{ "PasswordMessage", p_password, BODY("secret\0") },
	{ "SASLInitialResponse", p_sasl_initial, BODY("SCRAM-SHA-256\0\0\0\0\3n,,") },
	{ "SASLInitialResponse, no data", p_sasl_initial, BODY("SCRAM-SHA-256\0\xff\xff\xff\xff") },
	{ "Bind, rest", p_bind_rest, BODY("\0\1\0\1\0\2\0\0\0\2xy\xff\xff\xff\xff\0\1\0\0") },
	{ "Bind, bare rest", p_bind_rest, BODY("\0\0\0\0\0\0") },
	{ "AuthenticationOk", p_auth, BODY("\0\0\0\0") },
	{ "AuthenticationCleartextPassword", p_auth, BODY("\0\0\0\3") },
	{ "AuthenticationMD5Password", p_auth, BODY("\0\0\0\5salt") },
	{ "AuthenticationSASL", p_auth, BODY("\0\0\0\x0aSCRAM-SHA-256\0SCRAM-SHA-256-PLUS\0\0") },
	{ "ParameterStatus", p_parameter_status, BODY("TimeZone\0UTC\0") },
	{ "BackendKeyData", p_key_data, BODY("\0\0\1\2\1\2\3\4") },
	{ "ReadyForQuery", p_ready, BODY("T") },
	{ "NotificationResponse", p_notification, BODY("\0\0\1\2chan\0payload\0") },
	{ "CommandComplete", p_command_complete, BODY("INSERT 0 1\0") },
	{ "NegotiateProtocolVersion", p_negotiate, BODY("\0\3\0\0\0\0\0\2_pq_.a\0_pq_.b\0") },
	{ "DataRow", p_data_row, BODY("\0\2\0\0\0\2xy\xff\xff\xff\xff") },
	{ "SSLRequest", p_startup, BODY("\0\0\0\x08\x04\xd2\x16\x2f") },
	{ "GSSENCRequest", p_startup, BODY("\0\0\0\x08\x04\xd2\x16\x30") },
	{ "CancelRequest", p_startup, BODY("\0\0\0\x10\x04\xd2\x16\x2e\0\0\1\2\1\2\3\4") },
	{ "StartupMessage", p_startup, BODY("\0\0\0\x1a\0\3\0\0user\0a\0database\0\0\0") },
	{ "StartupMessage, no parameter", p_startup, BODY("\0\0\0\x09\0\3\0\0\0") },
};

static void test_every_truncation_is_rejected(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
		if (!parse_exact(messages[i].parse, messages[i].body, messages[i].n))
			fail_msg("%s: refused although whole", messages[i].name);
		for (size_t cut = 0; cut < messages[i].n; cut++) {
			if (parse_exact(messages[i].parse, messages[i].body, cut))
				fail_msg("%s: accepted although cut at %zu", messages[i].name, cut);
		}
	}
}

static void test_trailing_garbage_is_rejected(void **state)
{
	uint8_t longer[128];
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
		/* A key may have any length from 4 to 256; its own test is below. */
		if (messages[i].parse == p_key_data)
			continue;
		for (unsigned tail = 0; tail < 2; tail++) {
			memcpy(longer, messages[i].body, messages[i].n);
			longer[messages[i].n] = tail ? 'x' : 0;
			if (parse_exact(messages[i].parse, longer, messages[i].n + 1))
				fail_msg("%s: accepted with one byte too many", messages[i].name);
		}
	}
}

/* The same, with the packet's own length word telling the truth about the cut packet. */
static void test_startup_layout(void **state)
{
	uint8_t packet[64];
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
		if (messages[i].parse != p_startup)
			continue;
		memcpy(packet, messages[i].body, messages[i].n);
		for (size_t n = 4; n <= messages[i].n + 1; n++) {
			packet[3] = (uint8_t)n;
			packet[messages[i].n] = 0;
			bool whole = n == messages[i].n;
			bool longer_key = n > messages[i].n && packet[7] == 0x2e;
			assert_int_equal(parse_exact(p_startup, packet, n), whole || longer_key);
		}
	}
}

/* --- startup --- */

static void test_startup_parameters(void **state)
{
	static const uint8_t packet[] = "\0\0\0\x23\0\3\0\2user\0alice\0options\0-c a=b\0\0";
	struct msg_startup m;
	struct str name, value;
	(void)state;
	assert_true(msg_parse_startup(packet, sizeof(packet) - 1, &m));
	assert_int_equal(m.kind, MSG_STARTUP);
	assert_int_equal(msg_protocol_minor(m.code), 2);
	assert_true(msg_startup_next(&m.params, &name, &value));
	assert_true(str_eq(name, STR("user")) && str_eq(value, STR("alice")));
	assert_true(msg_startup_next(&m.params, &name, &value));
	assert_true(str_eq(name, STR("options")) && str_eq(value, STR("-c a=b")));
	assert_false(msg_startup_next(&m.params, &name, &value));
}

static void test_startup_kinds(void **state)
{
	struct msg_startup m;
	(void)state;
	assert_true(msg_parse_startup((const uint8_t *)"\0\0\0\x08\x04\xd2\x16\x2f", 8, &m));
	assert_int_equal(m.kind, MSG_SSL_REQUEST);
	assert_true(msg_parse_startup((const uint8_t *)"\0\0\0\x08\x04\xd2\x16\x30", 8, &m));
	assert_int_equal(m.kind, MSG_GSSENC_REQUEST);
	assert_true(msg_parse_startup((const uint8_t *)"\0\0\0\x09\0\2\0\0x", 9, &m));
	assert_int_equal(m.kind, MSG_OTHER_PROTOCOL);
	assert_int_equal(msg_protocol_major(m.code), 2);
}

static void test_cancel_key_lengths(void **state)
{
	uint8_t packet[12 + 300] = { 0 };
	struct msg_startup m;
	(void)state;
	for (size_t key = 0; key <= 300; key++) {
		uint32_t words[3] = { htobe32((uint32_t)(12 + key)), htobe32(MSG_CANCEL_REQUEST_CODE), htobe32(77) };
		memcpy(packet, words, sizeof(words));
		bool ok = msg_parse_startup(packet, 12 + key, &m);
		assert_int_equal(ok, key >= 4 && key <= 256);
		if (ok) {
			assert_int_equal(m.cancel.pid, 77);
			assert_int_equal(m.cancel.key.n, key);
			assert_ptr_equal(m.cancel.key.p, packet + 12);
		}
	}
}

/* --- hostile lengths --- */

static void test_values_near_int_max(void **state)
{
	static const uint32_t claims[] = { 0x7fffffffu, 0x7ffffffcu, 0x80000000u, 0xfffffffeu, 3 };
	uint8_t sasl[] = "X\0llllab", row[] = "\0\1llllab", rest[] = "\0\0\0\1llllab\0\0";
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(claims); i++) {
		uint32_t word = htobe32(claims[i]);
		memcpy(sasl + 2, &word, 4);
		memcpy(row + 2, &word, 4);
		memcpy(rest + 4, &word, 4);
		assert_false(parse_exact(p_sasl_initial, sasl, sizeof(sasl) - 1));
		assert_false(parse_exact(p_data_row, row, sizeof(row) - 1));
		assert_false(parse_exact(p_bind_rest, rest, sizeof(rest) - 1));
	}
}

static void test_counts_beyond_the_body(void **state)
{
	(void)state;
	assert_false(parse_exact(p_parse, BODY("\0\0\xff\xff\0\0\0\1")));
	assert_false(parse_exact(p_bind_rest, BODY("\xff\xff\0\1\0\0\0\0")));
	assert_false(parse_exact(p_bind_rest, BODY("\0\0\0\0\xff\xff")));
	assert_false(parse_exact(p_negotiate, BODY("\0\3\0\0\xff\xff\xff\xff"
	                                           "a\0")));
	assert_false(parse_exact(p_data_row, BODY("\xff\xff\0\0\0\0")));
}

static void test_bad_letters(void **state)
{
	(void)state;
	assert_false(parse_exact(p_describe, BODY("Xs1\0")));
	assert_false(parse_exact(p_ready, BODY("X")));
	assert_false(parse_exact(p_ready, BODY("\0")));
}

/* --- messages that are not all there --- */

static void test_peek_bind(void **state)
{
	static const uint8_t body[] = "portal\0stmt\0\0\0\0\0\0\0";
	const size_t n = sizeof(body) - 1, head = 12;
	struct msg_bind m;
	(void)state;
	for (size_t have = 0; have <= n; have++) {
		uint8_t *copy = malloc(have ? have : 1);
		memcpy(copy, body, have);
		assert_int_equal(msg_peek_bind(copy, have, n, &m), have < head ? FRAME_MORE : FRAME_OK);
		if (have >= head) {
			assert_true(str_eq(m.portal, STR("portal")) && str_eq(m.statement, STR("stmt")));
			assert_int_equal(m.rest_offset, head);
		} else {
			assert_int_equal(msg_peek_bind(copy, have, have, &m), FRAME_BAD);
		}
		free(copy);
	}
}

static void test_peek_parse_name(void **state)
{
	struct str name;
	(void)state;
	assert_int_equal(msg_peek_parse_name((const uint8_t *)"s1", 2, 1000, &name), FRAME_MORE);
	assert_int_equal(msg_peek_parse_name((const uint8_t *)"s1", 2, 2, &name), FRAME_BAD);
	assert_int_equal(msg_peek_parse_name((const uint8_t *)"s1\0sel", 6, 1000, &name), FRAME_OK);
	assert_true(str_eq(name, STR("s1")));
}

/* --- what parsers yield --- */

static void test_bind_values(void **state)
{
	struct msg_bind_rest m;
	struct str v;
	(void)state;
	assert_true(msg_parse_bind_rest(BODY("\0\1\0\1\0\3\0\0\0\2xy\xff\xff\xff\xff\0\0\0\0\0\1\0\1"), &m));
	assert_int_equal(m.format_count, 1);
	assert_int_equal(m.value_count, 3);
	assert_int_equal(m.result_format_count, 1);
	assert_memory_equal(m.result_formats, "\0\1", 2);
	assert_true(msg_bind_next(&m.values, &v) && str_eq(v, STR("xy")));
	assert_true(msg_bind_next(&m.values, &v) && v.p == NULL);
	assert_true(msg_bind_next(&m.values, &v) && v.p != NULL && v.n == 0);
	assert_false(msg_bind_next(&m.values, &v));
}

static void test_auth_kinds(void **state)
{
	struct msg_auth m;
	struct str name;
	(void)state;
	assert_true(msg_parse_auth(BODY("\0\0\0\5\1\2\3\4"), &m));
	assert_int_equal(m.code, MSG_AUTH_MD5);
	assert_memory_equal(m.md5_salt, "\1\2\3\4", 4);
	assert_true(msg_parse_auth(BODY("\0\0\0\x0a"
	                                "A\0B\0\0"),
	                           &m));
	assert_true(msg_sasl_next(&m.mechanisms, &name) && str_eq(name, STR("A")));
	assert_true(msg_sasl_next(&m.mechanisms, &name) && str_eq(name, STR("B")));
	assert_false(msg_sasl_next(&m.mechanisms, &name));
	assert_true(msg_parse_auth(BODY("\0\0\0\x0br=abc"), &m));
	assert_int_equal(m.code, MSG_AUTH_SASL_CONTINUE);
	assert_true(str_eq(m.data, STR("r=abc")));
	assert_true(msg_parse_auth(BODY("\0\0\0\x63new"), &m)); /* a method newer than us: its code is reported */
	assert_int_equal(m.code, 99);
}

static void test_others(void **state)
{
	struct msg_parse parse;
	struct msg_execute execute;
	struct msg_notification note;
	struct msg_sasl_initial sasl;
	struct str data;
	(void)state;
	assert_true(msg_parse_parse(BODY("s\0select $1\0\0\1\0\0\0\x17"), &parse));
	assert_int_equal(parse.type_count, 1);
	assert_memory_equal(parse.types, "\0\0\0\x17", 4);
	assert_true(msg_parse_execute(BODY("\0\0\0\0\x0a"), &execute));
	assert_int_equal(execute.max_rows, 10);
	assert_true(msg_parse_notification(BODY("\0\0\1\0c\0p\0"), &note));
	assert_int_equal(note.pid, 256);
	assert_true(msg_parse_sasl_initial(BODY("M\0\xff\xff\xff\xff"), &sasl) && !sasl.has_data);
	assert_true(msg_parse_sasl_initial(BODY("M\0\0\0\0\0"), &sasl) && sasl.has_data);
	assert_true(msg_parse_sasl_response(BODY("a\0b"), &data));
	assert_int_equal(data.n, 3);
	assert_true(msg_parse_empty(NULL, 0));
	assert_false(msg_parse_empty((const uint8_t *)"x", 1));
}

/* --- builders --- */

static void put_to_server(struct wire_writer *w)
{
	const struct msg_pair params[] = { { STR("user"), STR("a") }, { STR("database"), STR("") } };
	const uint32_t types[] = { 23, 25 };
	const struct str values[] = { STR("xy"), { NULL, 0 }, STR("") };
	msg_put_startup(w, MSG_PROTOCOL_3_0, params, 2);
	msg_put_ssl_request(w);
	msg_put_cancel_request(w, 258, STR("\1\2\3\4"));
	msg_put_query(w, STR("select 1"));
	msg_put_parse(w, STR("s1"), STR("select $1"), types, 2);
	msg_put_bind(w, STR(""), STR("s1"), values, 3);
	msg_put_describe(w, MSG_TARGET_STATEMENT, STR("s1"));
	msg_put_close(w, MSG_TARGET_PORTAL, STR(""));
	msg_put_execute(w, STR("p1"), 10);
	msg_put_sync(w);
	msg_put_flush(w);
	msg_put_terminate(w);
	msg_put_copy_fail(w, STR("no"));
	msg_put_password(w, STR("pw"));
	msg_put_sasl_initial(w, STR("M"), STR("n,,"));
	msg_put_sasl_response(w, STR("c=biws"));
}

static const char to_server[] = "\0\0\0\x1a\0\3\0\0user\0a\0database\0\0\0"
                                "\0\0\0\x08\x04\xd2\x16\x2f"
                                "\0\0\0\x10\x04\xd2\x16\x2e\0\0\1\2\1\2\3\4"
                                "Q\0\0\0\x0dselect 1\0"
                                "P\0\0\0\x1bs1\0select $1\0\0\2\0\0\0\x17\0\0\0\x19"
                                "B\0\0\0\x1c\0s1\0\0\0\0\3\0\0\0\2xy\xff\xff\xff\xff\0\0\0\0\0\0"
                                "D\0\0\0\x08Ss1\0"
                                "C\0\0\0\x06P\0"
                                "E\0\0\0\x0bp1\0\0\0\0\x0a"
                                "S\0\0\0\4H\0\0\0\4X\0\0\0\4"
                                "f\0\0\0\7no\0"
                                "p\0\0\0\7pw\0"
                                "p\0\0\0\x0dM\0\0\0\0\3n,,"
                                "p\0\0\0\x0a"
                                "c=biws";

static void put_to_client(struct wire_writer *w)
{
	static const char *const mechanisms[] = { "A", "B" };
	const struct msg_column columns[] = { { STR("n"), 25, -1 }, { STR("x"), 20, 8 } };
	const struct str row[] = { STR("one"), { NULL, 0 } };
	const struct str options[] = { STR("_pq_.a") };
	msg_put_auth_ok(w);
	msg_put_auth_cleartext(w);
	msg_put_auth_md5(w, (const uint8_t *)"salt");
	msg_put_auth_sasl(w, mechanisms, 2);
	msg_put_auth_sasl_continue(w, STR("r=a"));
	msg_put_auth_sasl_final(w, STR("v=b"));
	msg_put_parameter_status(w, STR("TimeZone"), STR("UTC"));
	msg_put_key_data(w, 258, STR("\1\2\3\4"));
	msg_put_ready(w, MSG_TX_IDLE);
	msg_put_command_complete(w, STR("SHOW"));
	msg_put_row_description(w, columns, 2);
	msg_put_data_row(w, row, 2);
	msg_put_negotiate(w, MSG_PROTOCOL_3_2, options, 1);
	msg_put_notification(w, 258, STR("c"), STR("p"));
	msg_put_empty_query(w);
	msg_put_parse_complete(w);
	msg_put_bind_complete(w);
	msg_put_close_complete(w);
	msg_put_no_data(w);
}

static const char to_client[] = "R\0\0\0\x08\0\0\0\0"
                                "R\0\0\0\x08\0\0\0\3"
                                "R\0\0\0\x0c\0\0\0\5salt"
                                "R\0\0\0\x0d\0\0\0\x0a"
                                "A\0B\0\0"
                                "R\0\0\0\x0b\0\0\0\x0br=a"
                                "R\0\0\0\x0b\0\0\0\x0cv=b"
                                "S\0\0\0\x11TimeZone\0UTC\0"
                                "K\0\0\0\x0c\0\0\1\2\1\2\3\4"
                                "Z\0\0\0\5I"
                                "C\0\0\0\x09SHOW\0"
                                "T\0\0\0\x2e\0\2"
                                "n\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"
                                "x\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0"
                                "D\0\0\0\x11\0\2\0\0\0\3one\xff\xff\xff\xff"
                                "v\0\0\0\x13\0\3\0\2\0\0\0\1_pq_.a\0"
                                "A\0\0\0\x0c\0\0\1\2c\0p\0"
                                "I\0\0\0\4"
                                "1\0\0\0\4"
                                "2\0\0\0\4"
                                "3\0\0\0\4"
                                "n\0\0\0\4";

static void check_builders(void (*put)(struct wire_writer *), const char *expected, size_t n)
{
	struct buf b = { 0 };
	struct wire_writer w;
	ww_init(&w, &b);
	put(&w);
	assert_true(ww_finish(&w));
	size_t same = 0;
	while (same < n && same < buf_len(&b) && buf_head(&b)[same] == (uint8_t)expected[same])
		same++;
	if (same != n || buf_len(&b) != n)
		fail_msg("%zu bytes instead of %zu, the first other one at %zu", buf_len(&b), n, same);
	buf_deinit(&b);
}

static void test_builders_to_server(void **state)
{
	(void)state;
	check_builders(put_to_server, to_server, sizeof(to_server) - 1);
}

static void test_builders_to_client(void **state)
{
	(void)state;
	check_builders(put_to_client, to_client, sizeof(to_client) - 1);
}

/* Whatever allocation fails, nothing half written stays. */
static void check_allocations(void (*put)(struct wire_writer *))
{
	bool ok = false;
	for (unsigned long nth = 1; !ok; nth++) {
		struct buf b = { 0 };
		struct wire_writer w;
		ww_init(&w, &b);
		mem_fail_after(nth);
		put(&w);
		mem_fail_after(0);
		ok = ww_finish(&w);
		assert_true(ok || buf_len(&b) == 0);
		buf_deinit(&b);
	}
}

static void test_builders_without_memory(void **state)
{
	(void)state;
	check_allocations(put_to_server);
	check_allocations(put_to_client);
}

static bool put_fails(void (*put)(struct wire_writer *))
{
	struct buf b = { 0 };
	struct wire_writer w;
	ww_init(&w, &b);
	put(&w);
	bool failed = !ww_finish(&w) && buf_len(&b) == 0;
	buf_deinit(&b);
	return failed;
}

static void put_nul_in_sql(struct wire_writer *w) { msg_put_query(w, (struct str){ "select 1\0X", 10 }); }
static void put_nameless(struct wire_writer *w)
{
	const struct msg_pair pair = { STR(""), STR("x") };
	msg_put_startup(w, MSG_PROTOCOL_3_0, &pair, 1);
}
static void put_too_many(struct wire_writer *w)
{
	static const uint32_t types[70000];
	msg_put_parse(w, STR(""), STR(""), types, 70000);
}
static void put_most_types(struct wire_writer *w)
{
	static const uint32_t types[65535];
	msg_put_parse(w, STR(""), STR(""), types, 65535);
}

static void test_builders_refuse(void **state)
{
	(void)state;
	assert_true(put_fails(put_nul_in_sql));
	assert_true(put_fails(put_nameless));
	assert_true(put_fails(put_too_many));
	assert_false(put_fails(put_most_types));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_truncation_is_rejected),
		cmocka_unit_test(test_trailing_garbage_is_rejected),
		cmocka_unit_test(test_startup_layout),
		cmocka_unit_test(test_startup_parameters),
		cmocka_unit_test(test_startup_kinds),
		cmocka_unit_test(test_cancel_key_lengths),
		cmocka_unit_test(test_values_near_int_max),
		cmocka_unit_test(test_counts_beyond_the_body),
		cmocka_unit_test(test_bad_letters),
		cmocka_unit_test(test_peek_bind),
		cmocka_unit_test(test_peek_parse_name),
		cmocka_unit_test(test_bind_values),
		cmocka_unit_test(test_auth_kinds),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_builders_to_server),
		cmocka_unit_test(test_builders_to_client),
		cmocka_unit_test(test_builders_without_memory),
		cmocka_unit_test(test_builders_refuse),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
