/* Rows, JSON and metrics: names from the network in labels and JSON, sums per database, rates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include "base/mem.h"
#include "conf/config.h"
#include "control/report.h"
#include "control/show.h"
#include "control/stats_log.h"
#include "control/usage.h"

static const struct show_column columns[] = { { "name", SHOW_TEXT }, { "count", SHOW_INT }, { "big", SHOW_NUMERIC } };

static void test_rows(void **state)
{
	(void)state;
	struct show_rows r;
	show_rows_init(&r, columns, ARRAY_LEN(columns));
	for (int i = 0; i < 1000; i++) {
		show_printf(&r, "row %d", i);
		show_i64(&r, -i);
		show_text(&r, i % 2 ? NULL : "");
	}
	assert_int_equal(show_rows_count(&r), 1000);
	assert_string_equal(show_cell(&r, 0, 0), "row 0");
	assert_string_equal(show_cell(&r, 999, 0), "row 999");
	assert_string_equal(show_cell(&r, 999, 1), "-999");
	assert_null(show_cell(&r, 999, 2));
	assert_string_equal(show_cell(&r, 998, 2), "");
	show_rows_free(&r);
}

static void test_time_is_wall_clock(void **state)
{
	(void)state;
	struct show_rows r;
	show_rows_init(&r, columns, 1);
	show_time(&r, 0);
	show_time(&r, 1);
	assert_null(show_cell(&r, 0, 0));
	assert_string_equal(show_cell(&r, 1, 0) + strlen("2024-01-01 00:00:00"), " UTC");
	show_rows_free(&r);
}

static json_t *parse(struct buf *b)
{
	json_error_t error;
	json_t *root = json_loadb((char *)buf_head(b), buf_len(b), 0, &error);
	assert_non_null(root);
	return root;
}

static void test_json_of_any_bytes(void **state)
{
	(void)state;
	struct show_rows r;
	struct buf b = { 0 };
	show_rows_init(&r, columns, ARRAY_LEN(columns));
	show_text(&r, "quote \" and \xff\xfe no UTF-8 \n");
	show_i64(&r, 5);
	show_text(&r, "18446744073709551615"); /* more than JSON's integers hold */
	assert_true(report_table(&b, &r));
	json_t *root = parse(&b), *row = json_array_get(root, 0);
	assert_string_equal(json_string_value(json_object_get(row, "name")), "quote \" and ?? no UTF-8 \n");
	assert_int_equal(json_integer_value(json_object_get(row, "count")), 5);
	assert_string_equal(json_string_value(json_object_get(row, "big")), "18446744073709551615");
	json_decref(root);
	buf_deinit(&b);
	show_rows_free(&r);
}

static void test_no_server_is_not_healthy(void **state)
{
	(void)state;
	struct usage_table *t = usage_new();
	struct buf b = { 0 };
	bool ok = true;
	t->servers = 7;
	t->idle_servers = 4;
	assert_true(report_health(&b, t, &ok));
	assert_false(ok);
	json_t *root = parse(&b);
	assert_string_equal(json_string_value(json_object_get(root, "status")), "unhealthy");
	assert_int_equal(json_integer_value(json_object_get(root, "active_connections")), 3);
	assert_string_equal(json_string_value(json_object_get(root, "timestamp")) + 26, "Z");
	json_decref(root);
	buf_clear(&b);
	assert_true(report_ready(&b, &ok));
	assert_false(ok);
	buf_deinit(&b);
	usage_free(t);
}

static void add(struct usage_table *t, const char *database, const char *user, uint64_t queries)
{
	size_t d = strlen(database) + 1, n = d + strlen(user) + 1;
	struct usage *u = mem_zalloc(sizeof *u + n);
	memcpy(u->key, database, d);
	memcpy(u->key + d, user, n - d);
	u->key_len = n;
	u->database = u->key;
	u->user = u->key + d;
	u->clients = 1;
	u->stats.queries = queries;
	u->stats.xact_us = 1500000;
	HASH_ADD(hh, t->entries, key, u->key_len, u);
}

static void test_metrics(void **state)
{
	(void)state;
	struct usage_table *t = usage_new();
	struct config *cfg = config_new();
	struct buf b = { 0 };
	add(t, "shop", "bob", 5);
	add(t, "an \"evil\" \\ name\n", "x", 1);
	add(t, "shop", "alice", 7);
	usage_sort(t);
	assert_true(report_metrics(&b, t, cfg));
	assert_true(buf_put(&b, "", 1));
	const char *text = (const char *)buf_head(&b);
	assert_non_null(strstr(text, "pgweir_queries_total{database=\"shop\"} 12\n"));
	assert_non_null(strstr(text, "pgweir_queries_total{database=\"an \\\"evil\\\" \\\\ name\\n\"} 1\n"));
	assert_non_null(strstr(text, "pgweir_xact_seconds_total{database=\"shop\"} 3.000000\n"));
	assert_non_null(strstr(text, "pgweir_pool_clients{database=\"shop\",user=\"alice\"} 1\n"));
	buf_deinit(&b);
	config_unref(cfg);
	usage_free(t);
}

static void test_rates(void **state)
{
	(void)state;
	struct stats_block d = { .queries = 20, .query_us = 5000, .xacts = 0, .xact_us = 77, .sent_bytes = 1000 };
	struct stats_block r = stats_rates(&d, 2000000);
	assert_int_equal(r.queries, 10);
	assert_int_equal(r.query_us, 250);
	assert_int_equal(r.xact_us, 0);
	assert_int_equal(r.sent_bytes, 500);
	r = stats_rates(&d, 0);
	assert_int_equal(r.queries, 0);
	struct stats_block sum = { .queries = 1 };
	stats_block_add(&sum, &d);
	assert_int_equal(stats_block_since(&sum, &d).queries, 1);
	assert_int_equal(stats_average("nothing").queries, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_time_is_wall_clock),
		cmocka_unit_test(test_json_of_any_bytes),
		cmocka_unit_test(test_no_server_is_not_healthy),
		cmocka_unit_test(test_metrics),
		cmocka_unit_test(test_rates),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
