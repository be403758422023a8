/* test_pgerr.c - errors that we send, and errors of servers with anything missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include "wire/pgerr.h"

#define BODY(lit) (const uint8_t *)(lit), sizeof(lit) - 1

static void test_table(void **state)
{
	enum sqlstate id;
	(void)state;
	for (unsigned i = 0; i < SQLSTATE_COUNT; i++) {
		assert_int_equal(strlen(sqlstate_code((enum sqlstate)i)), 5);
		assert_true(sqlstate_find(str_of(sqlstate_code((enum sqlstate)i)), &id));
		assert_int_equal(id, i); /* no code twice */
	}
	assert_false(sqlstate_find(STR("ZZZZZ"), &id));
	assert_string_equal(sqlstate_name(SQLSTATE_PROTOCOL_VIOLATION), "protocol_violation");
}

static void test_set_and_send(void **state)
{
	static const char expected[] = "E\0\0\0\x3eSFATAL\0VFATAL\0C57P03\0Mno primary for 5 s\0DWas h1.\0HWait.\0\0";
	struct pgerr err;
	struct buf b = { 0 };
	struct wire_writer w;
	(void)state;
	pgerr_set_fatal(&err, SQLSTATE_CANNOT_CONNECT_NOW, "no primary for %d s", 5);
	pgerr_detail(&err, "Was %s.", "h1");
	pgerr_hint(&err, "Wait.");
	ww_init(&w, &b);
	msg_put_error(&w, &err);
	assert_true(ww_finish(&w));
	assert_int_equal(buf_len(&b), sizeof(expected) - 1);
	assert_memory_equal(buf_head(&b), expected, sizeof(expected) - 1);
	buf_clear(&b);
	pgerr_set_severity(&err, PGERR_WARNING, SQLSTATE_ACTIVE_SQL_TRANSACTION, "already in a transaction");
	ww_init(&w, &b);
	msg_put_error(&w, &err);
	assert_true(ww_finish(&w));
	assert_int_equal(buf_head(&b)[0], 'N');
	buf_deinit(&b);
	pgerr_set(NULL, SQLSTATE_SYNTAX_ERROR, "nobody asks");
	pgerr_detail(NULL, "x");
	pgerr_hint(NULL, "x");
}

static void test_message_type_errors(void **state)
{
	struct pgerr err;
	(void)state;
	pgerr_set_bad_type(&err, FRAME_FROM_CLIENT, '!');
	assert_string_equal(err.message, "invalid message type 0x21 from client");
	assert_string_equal(err.sqlstate, "08P01");
	pgerr_set_bad_type(&err, FRAME_FROM_SERVER, 'R');
	assert_string_equal(err.message, "unexpected Authentication message from server");
	pgerr_set_bad_message(&err, FRAME_FROM_CLIENT, 'B');
	assert_string_equal(err.message, "invalid message format in Bind from client");
}

/* A text that does not fit is cut between two characters, whatever their length. */
static void test_cut_between_characters(void **state)
{
	static const char *const characters[] = { "x", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x90\x98" };
	(void)state;
	for (size_t kind = 0; kind < ARRAY_LEN(characters); kind++) {
		size_t n = strlen(characters[kind]);
		for (size_t shift = 0; shift < 4; shift++) {
			char text[2048] = "abc";
			struct pgerr err;
			size_t used = shift;
			for (; used + n < sizeof(text) - 1; used += n)
				memcpy(text + used, characters[kind], n);
			text[used] = '\0';
			pgerr_set(&err, SQLSTATE_SYNTAX_ERROR, "%s", text);
			size_t kept = strlen(err.message);
			assert_in_range(kept, sizeof(err.message) - 4, sizeof(err.message) - 1);
			assert_int_equal((kept - shift) % n, 0);
		}
	}
}

static const struct {
	char letter;
	const char *text;
} fields[] = { { 'S', "FEHLER" }, { 'V', "ERROR" }, { 'C', "25006" }, { 'M', "nein" }, { 'D', "d" }, { 'H', "h" } };

static size_t build(uint8_t *out, size_t without)
{
	size_t n = 0;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (i == without)
			continue;
		out[n++] = (uint8_t)fields[i].letter;
		memcpy(out + n, fields[i].text, strlen(fields[i].text) + 1);
		n += strlen(fields[i].text) + 1;
	}
	out[n++] = 0;
	return n;
}

static void test_each_field_missing(void **state)
{
	(void)state;
	for (size_t without = 0; without <= ARRAY_LEN(fields); without++) {
		uint8_t body[128];
		struct pgerr_fields f;
		pgerr_parse(body, build(body, without), &f);
		assert_true(f.whole);
		assert_int_equal(f.severity.p == NULL, without == 0);
		assert_int_equal(f.severity_plain.p == NULL, without == 1);
		assert_int_equal(f.sqlstate.p == NULL, without == 2);
		assert_int_equal(f.message.p == NULL, without == 3);
		assert_null(f.position.p);
		assert_int_equal(pgerr_is(&f, SQLSTATE_READ_ONLY_SQL_TRANSACTION), without != 2);
		assert_int_equal(pgerr_is(&f, SQLSTATE_INTERNAL_ERROR), without == 2);
		assert_int_equal(pgerr_is_class(&f, "25"), without != 2);
		assert_false(pgerr_is_fatal(&f));
	}
}

/* CVE-2026-6666 of another pooler: an error without SQLSTATE; and every other way to send a strange one. */
static void test_strange_sqlstates(void **state)
{
	static const char *const bodies[] = { "C\0", "C2500\0", "C250066\0", "C2500x\0", "C25 06\0", "Mx\0" };
	static const size_t lens[] = { 3, 6, 8, 7, 7, 4 };
	struct pgerr_fields f;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
		pgerr_parse((const uint8_t *)bodies[i], lens[i], &f);
		assert_true(str_eq(pgerr_sqlstate(&f), STR("XX000")));
	}
	pgerr_parse(NULL, 0, &f);
	assert_false(f.whole);
	assert_true(str_eq(pgerr_sqlstate(&f), STR("XX000")));
	assert_false(pgerr_is_fatal(&f));
}

/* The message may be larger than our buffer: fields that are wholly there count. */
static void test_every_cut(void **state)
{
	uint8_t body[128];
	size_t n = build(body, SIZE_MAX);
	struct pgerr_fields f;
	(void)state;
	for (size_t have = 0; have <= n; have++) {
		uint8_t *copy = malloc(have ? have : 1);
		memcpy(copy, body, have);
		pgerr_parse(copy, have, &f);
		assert_int_equal(f.whole, have == n);
		assert_int_equal(f.severity.p != NULL, have >= 8);
		assert_int_equal(f.sqlstate.p != NULL, have >= 8 + 7 + 7);
		free(copy);
	}
}

static void test_fatal(void **state)
{
	struct pgerr_fields f;
	(void)state;
	pgerr_parse(BODY("SFATAL\0Mx\0\0"), &f); /* before 9.6 */
	assert_true(pgerr_is_fatal(&f));
	pgerr_parse(BODY("SFATAL\0VERROR\0\0"), &f); /* V is never translated and counts */
	assert_false(pgerr_is_fatal(&f));
	pgerr_parse(BODY("SSCHWERWIEGEND\0VFATAL\0\0"), &f);
	assert_true(pgerr_is_fatal(&f));
	pgerr_parse(BODY("SPANIC\0\0"), &f);
	assert_true(pgerr_is_fatal(&f));
}

static void test_repeated_and_unknown_fields(void **state)
{
	struct pgerr_fields f;
	(void)state;
	pgerr_parse(BODY("C25006\0?what\0C42601\0\0"), &f);
	assert_true(f.whole);
	assert_true(str_eq(pgerr_sqlstate(&f), STR("25006")));
}

/* What we write we can read. */
static void test_round_trip(void **state)
{
	struct pgerr err;
	struct buf b = { 0 };
	struct wire_writer w;
	struct pgerr_fields f;
	(void)state;
	pgerr_set(&err, SQLSTATE_UNDEFINED_OBJECT, "unrecognized \"%s\"", "x");
	ww_init(&w, &b);
	msg_put_error(&w, &err);
	assert_true(ww_finish(&w));
	pgerr_parse(buf_head(&b) + FRAME_HEAD_BYTES, buf_len(&b) - FRAME_HEAD_BYTES, &f);
	assert_true(f.whole);
	assert_true(str_eq(f.message, STR("unrecognized \"x\"")));
	assert_true(pgerr_is(&f, SQLSTATE_UNDEFINED_OBJECT));
	assert_null(f.detail.p);
	buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_set_and_send),
		cmocka_unit_test(test_message_type_errors),
		cmocka_unit_test(test_cut_between_characters),
		cmocka_unit_test(test_each_field_missing),
		cmocka_unit_test(test_strange_sqlstates),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_fatal),
		cmocka_unit_test(test_repeated_and_unknown_fields),
		cmocka_unit_test(test_round_trip),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
