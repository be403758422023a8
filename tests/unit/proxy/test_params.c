/* Interned sets of settings: order, case, identity, references. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include "proxy/params.h"

static struct params_table table;

static int setup(void **state)
{
	(void)state;
	params_table_init(&table);
	return 0;
}

/* Whatever a test has made it must have given back: then the table holds nothing but the empty set. */
static int teardown(void **state)
{
	(void)state;
	unsigned left = HASH_COUNT(table.by_key);
	params_table_deinit(&table);
	return left == 1 && table.by_key == NULL ? 0 : -1;
}

/* A set from "name=value,name=value"; owned by the caller. */
static struct params *make(const char *text)
{
	struct params *p = params_ref(table.empty);
	while (*text) {
		size_t n = strcspn(text, "="), v = strcspn(text + n + 1, ",");
		params_set(&table, &p, (struct str){ text, n }, (struct str){ text + n + 1, v });
		text += n + 1 + v;
		text += *text == ',';
	}
	return p;
}

static void drop(struct params *p) { params_unref(&table, p); }

static void test_empty(void **state)
{
	(void)state;
	struct params *p = params_without(&table, table.empty, STR("nothing"));
	assert_ptr_equal(p, table.empty);
	assert_int_equal(p->n, 0);
	assert_null(params_get(p, "timezone"));
	drop(p);
}

static void test_equal_sets_are_one_object(void **state)
{
	(void)state;
	struct params *a = make("timezone=UTC,search_path=a"), *b = make("search_path=a,timezone=UTC");
	assert_ptr_equal(a, b);
	struct params *c = make("timezone=UTC,search_path=b");
	assert_ptr_not_equal(a, c);
	params_set(&table, &c, STR("search_path"), STR("a"));
	assert_ptr_equal(a, c);
	drop(a);
	drop(b);
	drop(c);
}

static void test_sorted_by_name(void **state)
{
	(void)state;
	struct params *p = make("m=1,z=2,a=3,b=4,mm=5");
	assert_int_equal(p->n, 5);
	for (unsigned i = 1; i < p->n; i++)
		assert_true(strcmp(p->items[i - 1].name, p->items[i].name) < 0);
	assert_string_equal(params_get(p, "mm"), "5");
	assert_null(params_get(p, "mmm"));
	drop(p);
}

static void test_names_have_no_case(void **state)
{
	(void)state;
	struct params *a = make("TimeZone=UTC"), *b = make("timezone=UTC");
	assert_ptr_equal(a, b);
	assert_string_equal(a->items[0].name, "timezone");
	assert_string_equal(params_get(a, "TIMEZONE"), "UTC");
	params_set(&table, &a, STR("TIMEZONE"), STR("utc"));
	assert_int_equal(a->n, 1);
	assert_string_equal(params_get(a, "timezone"), "utc"); /* values keep theirs */
	drop(a);
	drop(b);
}

static void test_replace_and_remove(void **state)
{
	(void)state;
	struct params *p = make("a=1,b=2,c=3");
	struct params *q = params_with(&table, p, STR("b"), STR("two"));
	assert_string_equal(params_get(p, "b"), "2"); /* sets never change */
	assert_string_equal(params_get(q, "b"), "two");
	assert_int_equal(q->n, 3);
	struct params *r = params_without(&table, q, STR("B"));
	assert_int_equal(r->n, 2);
	assert_null(params_get(r, "b"));
	struct params *s = params_without(&table, p, STR("b"));
	assert_ptr_equal(r, s);
	drop(p);
	drop(q);
	drop(r);
	drop(s);
}

/* name\0value\0 must not let one value pass for two settings, nor an empty one for none. */
static void test_keys_do_not_run_together(void **state)
{
	(void)state;
	struct params *a = make("a=b,c=d"), *b = make("a=bc,d="), *c = make("ab=,c=d"), *d = make("a=,b=");
	assert_ptr_not_equal(a, b);
	assert_ptr_not_equal(a, c);
	assert_ptr_not_equal(a, d);
	assert_string_equal(params_get(d, "a"), "");
	struct params *none = params_without(&table, d, STR("a"));
	assert_null(params_get(none, "a"));
	drop(a);
	drop(b);
	drop(c);
	drop(d);
	drop(none);
}

static void test_key_carries_a_set_to_another_table(void **state)
{
	(void)state;
	struct params_table other;
	params_table_init(&other);
	struct params *a = make("datestyle=ISO\\, MDY,timezone=UTC,x.y=");
	struct params *b = params_from_key(&other, a->key, a->key_len);
	assert_int_equal(b->key_len, a->key_len);
	assert_memory_equal(b->key, a->key, a->key_len);
	assert_ptr_not_equal(a, b);
	struct params *empty = params_from_key(&other, table.empty->key, table.empty->key_len);
	assert_ptr_equal(empty, other.empty);
	params_unref(&other, empty);
	params_unref(&other, b);
	params_table_deinit(&other);
	assert_null(other.by_key);
	drop(a);
}

static void test_references(void **state)
{
	(void)state;
	struct params *a = make("a=1");
	assert_int_equal(a->refs, 1);
	struct params *b = params_ref(a);
	assert_int_equal(b->refs, 2);
	drop(a);
	assert_string_equal(params_get(b, "a"), "1");
	/* A set derived from one that goes away keeps its own strings. */
	struct params *c = params_with(&table, b, STR("b"), STR("2"));
	drop(b);
	assert_string_equal(params_get(c, "a"), "1");
	drop(c);
	params_unref(&table, NULL);
	assert_int_equal(HASH_COUNT(table.by_key), 1);
}

static void test_many_sets(void **state)
{
	(void)state;
	enum { SETS = 300 };
	struct params *sets[SETS];
	for (int i = 0; i < SETS; i++) {
		char value[16];
		int n = snprintf(value, sizeof value, "%d", i);
		sets[i] = params_with(&table, table.empty, STR("application_name"), (struct str){ value, (size_t)n });
	}
	assert_int_equal(HASH_COUNT(table.by_key), SETS + 1);
	for (int i = 0; i < SETS; i++)
		drop(sets[i]);
}

static void test_display_names(void **state)
{
	(void)state;
	assert_string_equal(params_display_name("timezone"), "TimeZone");
	assert_string_equal(params_display_name("datestyle"), "DateStyle");
	assert_string_equal(params_display_name("intervalstyle"), "IntervalStyle");
	assert_string_equal(params_display_name("client_encoding"), "client_encoding");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_equal_sets_are_one_object, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sorted_by_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_have_no_case, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replace_and_remove, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keys_do_not_run_together, setup, teardown),
		cmocka_unit_test_setup_teardown(test_key_carries_a_set_to_another_table, setup, teardown),
		cmocka_unit_test_setup_teardown(test_references, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_sets, setup, teardown),
		cmocka_unit_test(test_display_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
