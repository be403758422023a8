/* test_frame.c - message boundaries in partial data, bounds of lengths, the type tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include "wire/frame.h"

static void put_u32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

static enum frame_result peek_length(uint32_t length, struct frame_head *h)
{
	uint8_t head[FRAME_HEAD_BYTES] = { 'Q' };
	put_u32(head + 1, length);
	return frame_peek(head, sizeof(head), h);
}

static void test_peek_bounds(void **state)
{
	struct frame_head h;
	(void)state;
	for (uint32_t length = 0; length < 4; length++)
		assert_int_equal(peek_length(length, &h), FRAME_BAD);
	assert_int_equal(peek_length(4, &h), FRAME_OK);
	assert_int_equal(h.len, 5);
	assert_int_equal(h.type, 'Q');
	assert_int_equal(peek_length(0x7fffffffu, &h), FRAME_OK);
	assert_int_equal(h.len, 0x80000000u);
	assert_int_equal(peek_length(0x80000000u, &h), FRAME_BAD);
	assert_int_equal(peek_length(0xffffffffu, &h), FRAME_BAD);
}

/* Every cut of a stream of messages, each piece in memory of its own so that a read beyond it is seen. */
static void test_split_at_each_offset(void **state)
{
	static const uint8_t stream[] = "Q\0\0\0\x0bselec;\0"
	                                "S\0\0\0\x04"
	                                "Z\0\0\0\x05I";
	const size_t n = sizeof(stream) - 1;
	static const size_t ends[] = { 12, 17, 23 };
	(void)state;
	for (size_t cut = 0; cut <= n; cut++) {
		uint8_t *piece = malloc(cut ? cut : 1);
		size_t pos = 0, seen = 0;
		struct frame f;
		memcpy(piece, stream, cut);
		enum frame_result result;
		while ((result = frame_take(piece + pos, cut - pos, &f)) == FRAME_OK) {
			pos += FRAME_HEAD_BYTES + f.body_len;
			assert_int_equal(pos, ends[seen]);
			seen++;
		}
		assert_int_equal(result, FRAME_MORE);
		assert_int_equal(seen, (cut >= ends[0]) + (cut >= ends[1]) + (cut >= ends[2]));
		free(piece);
	}
}

static void test_take_gives_the_body(void **state)
{
	static const uint8_t message[] = "C\0\0\0\x0cSELECT\0x";
	struct frame f;
	(void)state;
	assert_int_equal(frame_take(message, sizeof(message), &f), FRAME_OK);
	assert_int_equal(f.type, 'C');
	assert_int_equal(f.body_len, 8);
	assert_ptr_equal(f.body, message + 5);
	assert_int_equal(frame_take((const uint8_t *)"C\0\0\0\3", 5, &f), FRAME_BAD);
}

static enum frame_result startup_length(uint32_t length, size_t have, size_t *len)
{
	uint8_t head[8] = { 0 };
	put_u32(head, length);
	return startup_peek(head, have, len);
}

static void test_startup_bounds(void **state)
{
	size_t len = 0;
	(void)state;
	for (size_t have = 0; have < 4; have++)
		assert_int_equal(startup_length(8, have, &len), FRAME_MORE);
	assert_int_equal(startup_length(7, 4, &len), FRAME_BAD);
	assert_int_equal(startup_length(0, 8, &len), FRAME_BAD);
	assert_int_equal(startup_length(8, 4, &len), FRAME_OK);
	assert_int_equal(len, 8);
	assert_int_equal(startup_length(10004, 8, &len), FRAME_OK);
	assert_int_equal(len, 10004);
	assert_int_equal(startup_length(10005, 8, &len), FRAME_BAD);
	assert_int_equal(startup_length(0xffffffffu, 8, &len), FRAME_BAD);
}

static void test_tls_hello(void **state)
{
	size_t len;
	(void)state;
	assert_true(startup_is_tls_hello((const uint8_t *)"\x16\x03\x01\x02\x00", 5));
	assert_false(startup_is_tls_hello((const uint8_t *)"\0\0\0\x08", 4));
	assert_false(startup_is_tls_hello(NULL, 0));
	assert_int_equal(startup_peek((const uint8_t *)"\x16\x03\x01\x02\x00", 5, &len), FRAME_BAD);
}

static void test_types(void **state)
{
	static const char client[] = "BCDEFHPQSXcdfp", server[] = "123ACDEGHIKNRSTVWZcdnstv";
	(void)state;
	for (unsigned type = 0; type < 256; type++) {
		assert_int_equal(frame_type_is_known(FRAME_FROM_CLIENT, (uint8_t)type),
		                 type && strchr(client, (int)type) != NULL);
		assert_int_equal(frame_type_is_known(FRAME_FROM_SERVER, (uint8_t)type),
		                 type && strchr(server, (int)type) != NULL);
		assert_non_null(frame_type_name(FRAME_FROM_CLIENT, (uint8_t)type));
	}
	assert_string_equal(frame_type_name(FRAME_FROM_CLIENT, 'D'), "Describe");
	assert_string_equal(frame_type_name(FRAME_FROM_SERVER, 'D'), "DataRow");
	assert_string_equal(frame_type_name(FRAME_FROM_CLIENT, '!'), "unknown message");
	assert_int_equal(MSG_DESCRIBE, 'D');
	assert_int_equal(MSG_DATA_ROW, 'D');
}

static void test_phases(void **state)
{
	(void)state;
	assert_true(frame_type_is_allowed(FRAME_FROM_CLIENT, 'p', FRAME_IN_LOGIN));
	assert_false(frame_type_is_allowed(FRAME_FROM_CLIENT, 'p', FRAME_AFTER_LOGIN));
	assert_false(frame_type_is_allowed(FRAME_FROM_CLIENT, 'Q', FRAME_IN_LOGIN | FRAME_IN_COPY));
	assert_true(frame_type_is_allowed(FRAME_FROM_CLIENT, 'S', FRAME_IN_COPY));
	assert_true(frame_type_is_allowed(FRAME_FROM_SERVER, 'E', FRAME_IN_LOGIN));
	assert_false(frame_type_is_allowed(FRAME_FROM_SERVER, 'R', FRAME_AFTER_LOGIN));
	assert_false(frame_type_is_allowed(FRAME_FROM_SERVER, 0, FRAME_ANY_TIME));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peek_bounds),
		cmocka_unit_test(test_split_at_each_offset),
		cmocka_unit_test(test_take_gives_the_body),
		cmocka_unit_test(test_startup_bounds),
		cmocka_unit_test(test_tls_hello),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_phases),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
