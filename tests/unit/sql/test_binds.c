/* test_binds.c - which literals become parameters, how the text reads then, and where they stand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "sql/binds.h"
#include "sql/sqlparse.h"

static unsigned places(const char *text)
{
	struct sql_facts *f = sqlparse(str_of(text), (struct sqlparse_options){ .std_strings = true });
	unsigned n = f->n_binds;
	assert_int_equal(f->unparsed, SQL_UNPARSED_NONE);
	sql_facts_unref(f);
	return n;
}

static void test_fit(void **state)
{
	static const struct {
		const char *sql, *text;
		unsigned n;
	} rows[] = {
		{ "select * from t", "select * from t", 0 },
		{ "SELECT a FROM t WHERE id=5;", "SELECT a FROM t WHERE id = $1", 1 },
		{ "select /* x */ a from s.t --\nwhere 5<>id", "select a from s.t where $1 <> id", 1 },
		{ "select a from t where id=5 and b='x''y'", "select a from t where id = $1 and b = $2", 2 },
		{ "select a from t where id in (1,'2')", "select a from t where id in ( $1, $2)", 2 },
		{ "select a from t where not (id between 1 and 2 or t.b >= 'x')",
		  "select a from t where not ( id between $1 and $2 or t.b >= $3)", 3 },
		{ "select a from t join u on t.i = u.i and u.j = 1 left join v on v.k = 2 where true",
		  "select a from t join u on t.i = u.i and u.j = $1 left join v on v.k = $2 where true", 2 },
		{ "select a from t order by b limit 3 offset 4", "select a from t order by b limit $1 offset $2", 2 },
		{ "select \"A\"\"b\" from t where a[b] = 'x' or c = 1", NULL, 1 },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[256];
		struct sql_binds b = { .text = text, .text_size = sizeof text };
		assert_true(sql_binds(str_of(rows[i].sql), &b));
		if (rows[i].text)
			assert_string_equal(text, rows[i].text);
		assert_int_equal(places(text), rows[i].n);
		assert_int_equal(b.n == rows[i].n, rows[i].text != NULL);
	}
}

/* They have parameters, but not all of them where a literal means the same. */
static void test_unfit(void **state)
{
	static const char *const rows[] = {
		"select 5",
		"select 'x' from t where id = 1",
		"select 5 from t fetch first row only",
		"select a from t order by 1",
		"select a from t group by 1",
		"select distinct on (1) a from t",
		"select a from t where id = -5",
		"select a from t where id = 1 + 2",
		"select a from t where id + 1 = 2",
		"select a from t where id = 1::int",
		"select a from t where 1 = 2",
		"select a from t where f(id) = 1",
		"select a from t where id = f(1)",
		"select a from t where a like 'x%'",
		"select a from t where a operator(pg_catalog.=) 'x'",
		"select a from t where a = any ('{1}')",
		"select a from t where (a, b) = (1, 2)",
		"select a from t where a is distinct from 1",
		"select a from t where exists (select from u where b = 1)",
		"select a from (select a from u where b = 1) t",
		"with q as (select a from u where b = 1) select a from q",
		"select a from t where b = 1 union select 2",
		"select a from t having count(*) > 1",
		"update t set a = 1 where b = 2",
		"values (1)",
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[256];
		struct sql_binds b = { .text = text, .text_size = sizeof text };
		assert_true(sql_binds(str_of(rows[i]), &b));
		assert_true(b.n > 0);
		assert_int_not_equal(places(text), b.n);
	}
}

/* Of these no literal can be taken out. */
static void test_others(void **state)
{
	static const char *const rows[] = {
		"select a from t where id = 2147483648",
		"select a from t where id = 1.5",
		"select a from t where id = 1e3",
		"select a from t where id = $1",
		"select a from t where a = E'x'",
		"select a from t where a = N'x'",
		"select a from t where a = $$x$$",
		"select a from t where a = U&'x'",
		"select a from t where a = B'1'",
		"select a from t where a = X'1'",
		"select a from t where a = 'x'\n'y'",
		"select a from t where a = 'today'",
		"select a from t where a = 'x",
		"select a from t where a = 0x5",
		"select a from t where a in (1, 2, 3, 4, 5, 6, 7, 8, 9)",
		"select U&\"a\" from t",
	};
	char text[256], small[24];
	struct sql_binds b = { .text = text, .text_size = sizeof text };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_false(sql_binds(str_of(rows[i]), &b));
	/* A text that does not fit is none. */
	b = (struct sql_binds){ .text = small, .text_size = sizeof small };
	assert_true(sql_binds(STR("select a from t where b"), &b));
	assert_false(sql_binds(STR("select a from t where bc"), &b));
	assert_false(sql_binds(STR("select a from t where 1"), &b));
}

static void test_values(void **state)
{
	struct sql_binds b = { .text = NULL };
	(void)state;
	assert_true(sql_binds(STR("select a from t where b = 007 and c = 'it''s' and d = ''"), &b));
	assert_int_equal(b.n, 3);
	assert_true(str_eq(b.v[0].value, STR("007")) && !b.v[0].string);
	assert_true(str_eq(b.v[1].value, STR("it''s")) && b.v[1].string);
	assert_true(b.v[2].value.n == 0 && b.v[2].string);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fit),
		cmocka_unit_test(test_unfit),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_values),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	sqlparse_exit();
	return failed;
}
