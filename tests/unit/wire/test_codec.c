/* test_codec.c - the sticky reader and writer: short reads, claims near INT_MAX, undo, allocation failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/mem.h"
#include "wire/codec.h"

static void test_reader_reads(void **state)
{
	struct wire_reader r;
	(void)state;
	wr_init(&r,
	        "\x01\x02\x03\xff\xff\xff\xfe"
	        "abc\0\0rest",
	        17);
	assert_int_equal(wr_u8(&r), 1);
	assert_int_equal(wr_u16(&r), 0x0203);
	assert_int_equal(wr_i32(&r), -2);
	assert_true(str_eq(wr_cstr(&r), STR("abc")));
	struct str empty = wr_cstr(&r);
	assert_int_equal(empty.n, 0);
	assert_non_null(empty.p);
	assert_int_equal(wr_left(&r), 5);
	assert_true(str_eq(wr_rest(&r), (struct str){ "rest", 5 }));
	assert_true(wr_done(&r));
}

static void test_reader_is_sticky(void **state)
{
	struct wire_reader r;
	(void)state;
	wr_init(&r, "\x01\x02\x03", 3);
	assert_int_equal(wr_u32(&r), 0);
	assert_true(r.failed);
	assert_int_equal(wr_u8(&r), 0); /* although a byte is there */
	assert_int_equal(wr_cstr(&r).n, 0);
	assert_int_equal(wr_rest(&r).n, 0);
	assert_false(wr_done(&r));
}

static void test_reader_huge_claims(void **state)
{
	static const size_t claims[] = { 5, INT32_MAX, (size_t)INT32_MAX + 1, UINT32_MAX, SIZE_MAX - 3, SIZE_MAX };
	(void)state;
	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
		struct wire_reader r;
		wr_init(&r, "abcd", 4);
		assert_null(wr_bytes(&r, claims[i]));
		assert_true(r.failed);
	}
}

static void test_reader_empty(void **state)
{
	struct wire_reader r;
	(void)state;
	wr_init(&r, NULL, 0);
	assert_true(wr_done(&r));
	assert_non_null(wr_bytes(&r, 0));
	assert_int_equal(wr_cstr(&r).n, 0);
	assert_true(r.failed);
	wr_init(&r, "abc", 3); /* no NUL */
	(void)wr_cstr(&r);
	assert_true(r.failed);
}

static void write_two(struct wire_writer *w)
{
	ww_begin(w, 'A');
	ww_u8(w, 1);
	ww_u16(w, 0x0203);
	ww_i32(w, -2);
	ww_str(w, STR("abc"));
	ww_cstr(w, NULL);
	ww_end(w);
	ww_begin(w, 0);
	ww_value(w, STR("xy"));
	ww_value(w, (struct str){ NULL, 0 });
	ww_value(w, STR(""));
	ww_end(w);
}

static void test_writer_writes(void **state)
{
	static const char expected[] = "A\0\0\0\x10\x01\x02\x03\xff\xff\xff\xfe"
	                               "abc\0\0"
	                               "\0\0\0\x12\0\0\0\x02xy\xff\xff\xff\xff\0\0\0\0";
	struct buf b = { 0 };
	struct wire_writer w;
	(void)state;
	ww_init(&w, &b);
	write_two(&w);
	assert_true(ww_finish(&w));
	assert_int_equal(buf_len(&b), sizeof(expected) - 1);
	assert_memory_equal(buf_head(&b), expected, sizeof(expected) - 1);
	buf_deinit(&b);
}

/* A failure takes all of it back, and nothing of what was there before. */
static void test_writer_undo(void **state)
{
	struct buf b = { 0 };
	struct wire_writer w;
	(void)state;
	assert_true(buf_put(&b, "xxearlier", 9));
	buf_consume(&b, 2);
	ww_init(&w, &b);
	write_two(&w);
	ww_begin(&w, 'Q');
	ww_str(&w, (struct str){ "a\0b", 3 }); /* a NUL inside would end the field early */
	ww_end(&w);
	assert_false(ww_finish(&w));
	assert_int_equal(buf_len(&b), 7);
	assert_memory_equal(buf_head(&b), "earlier", 7);
	buf_deinit(&b);
}

static void write_much(struct wire_writer *w)
{
	char text[300];
	memset(text, 'q', sizeof(text));
	for (int i = 0; i < 4; i++) {
		ww_begin(w, 'Q');
		ww_str(w, (struct str){ text, sizeof(text) });
		ww_end(w);
	}
}

static void test_writer_allocation_failures(void **state)
{
	unsigned long nth = 0;
	bool ok = false;
	(void)state;
	while (!ok) {
		struct buf b = { 0 };
		struct wire_writer w;
		assert_true(buf_put(&b, "head", 4));
		ww_init(&w, &b);
		mem_fail_after(++nth);
		write_much(&w);
		mem_fail_after(0);
		ok = ww_finish(&w);
		assert_int_equal(buf_len(&b), ok ? 4 + 4 * 306 : 4);
		assert_memory_equal(buf_head(&b), "head", 4);
		buf_deinit(&b);
	}
	assert_true(nth >= 3); /* it did fail, at several places */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reader_reads),
		cmocka_unit_test(test_reader_is_sticky),
		cmocka_unit_test(test_reader_huge_claims),
		cmocka_unit_test(test_reader_empty),
		cmocka_unit_test(test_writer_writes),
		cmocka_unit_test(test_writer_undo),
		cmocka_unit_test(test_writer_allocation_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
