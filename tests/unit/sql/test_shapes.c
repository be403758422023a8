/* What a shape says of itself: a text without literals, and what its executions have cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "sql/shapes.h"

static struct shapes *shapes;

static int make(void **state)
{
	(void)state;
	shapes = shapes_new(8, SHAPES_DEFAULT_BYTES);
	return 0;
}

static int end(void **state)
{
	(void)state;
	shapes_free(shapes);
	return 0;
}

static const char *text_of(const char *sql, bool std_strings, bool ascii_unsafe)
{
	struct sqlparse_options options = { .std_strings = std_strings, .ascii_unsafe = ascii_unsafe };
	return shape_text(shapes_get(shapes, str_of(sql), options, NULL));
}

static void test_text_has_no_literal(void **state)
{
	(void)state;
	const struct {
		const char *sql;
		bool std_strings;
	} cases[] = {
		{ "select 'sesame'", true },
		{ "select 'a''sesame'", true },
		{ "select E'\\'sesame'", true },
		{ "select '\\'sesame'", false },
		{ "select 'a\\', 'sesame'", true },
		{ "select $$sesame$$, $x$ sesame $x$", true },
		{ "select U&'sesame', N'sesame'", true },
		{ "select 1 -- sesame", true },
		{ "select /* sesame /* sesame */ sesame */ 1", true },
		{ "alter role r password 'sesame'", true },
		{ "create user mapping for u server s options (password 'sesame')", true },
		{ "select 'sesame", true },
		{ "select $x$sesame", true },
		{ "select E'sesame\\", true },
		{ "select /* sesame", true },
		{ "select \"sesame", true },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *text = text_of(cases[i].sql, cases[i].std_strings, false);
		if (strstr(text, "sesame"))
			fail_msg("%s gives %s", cases[i].sql, text);
	}
	assert_string_equal(text_of("SELECT a, 'x' FROM t WHERE b=1", true, false), "select a, ? from t where b = ?");
	assert_null(strchr(text_of("select '\\''", false, false), '\x1e'));
}

/* 0x95 0x5c is one character of SJIS: a reader of bytes takes the quote behind it for an escaped one. */
static void test_text_is_hidden_where_its_literals_cannot_be_found(void **state)
{
	(void)state;
	const char *text = text_of("select E'\x95\x5c', 'sesame'", true, true);
	assert_null(strstr(text, "sesame"));
	assert_non_null(strstr(text, "not shown"));
}

static void on_shape(const uint8_t key[SHAPE_KEY_BYTES] UNUSED, const char *text, const struct shape_use *use,
                     void *arg)
{
	char *all = arg;
	size_t n = strlen(all);
	snprintf(all + n, 256 - n, "[%s: %d, %d]", text, (int)use->calls, (int)use->max_us);
}

static void test_use(void **state)
{
	(void)state;
	struct sqlparse_options options = { .std_strings = true };
	struct shape_sample x = { .us = 100, .rows = 2 };
	char all[256] = "";
	shape_use_add(shape_use(shapes_get(shapes, STR("select 1"), options, NULL)), &x);
	x.us = 50;
	shape_use_add(shape_use(shapes_get(shapes, STR("select 2"), options, NULL)), &x);
	(void)shapes_get(shapes, STR("select 3, 4"), options, NULL); /* never executed */
	shapes_each_used(shapes, on_shape, all);
	assert_string_equal(all, "[select ?: 2, 100]");
	/* One whose literals matter is parsed each time, and counted in one place. */
	for (int i = 0; i < 3; i++)
		shape_use_add(
		    shape_use(shapes_get(shapes, STR("select set_config('pgweir.x', 'y', false)"), options, NULL)), &x);
	*all = '\0';
	shapes_each_used(shapes, on_shape, all);
	assert_non_null(strstr(all, "set_config(?, ?, false): 3, 50]"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_text_has_no_literal, make, end),
		cmocka_unit_test_setup_teardown(test_text_is_hidden_where_its_literals_cannot_be_found, make, end),
		cmocka_unit_test_setup_teardown(test_use, make, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
