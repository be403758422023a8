/* The golden table tests/unit/data/route.tsv: text -> target and reason.
 *
 * Columns: sql (\n and \t escaped), catalog (route, or - for none), target, reason, where (unit: only here; both: also
 * run for real; tx: for real, within a transaction block), policy (wish=replica, tx=movable, …; - for none). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/rules.h"
#include "fixture.h"
#include "sql/route.h"
#include "sql/shapes.h"

#define TABLE "tests/unit/data/route.tsv"
enum { SQL, CATALOG, TARGET, REASON, WHERE, POLICY, COLUMNS, LEAST_ROWS = 230 };

static struct catalog *route_catalog;

static struct route_policy parse_policy(const char *text)
{
	static const struct {
		const char *word;
		enum route_wish wish;
		enum route_tx tx;
	} words[] = {
		{ "-", ROUTE_WISH_AUTO, ROUTE_TX_NONE },
		{ "wish=replica", ROUTE_WISH_REPLICA, ROUTE_TX_NONE },
		{ "wish=primary", ROUTE_WISH_PRIMARY, ROUTE_TX_NONE },
		{ "tx=readonly", ROUTE_WISH_AUTO, ROUTE_TX_READ_ONLY },
		{ "tx=movable", ROUTE_WISH_AUTO, ROUTE_TX_MOVABLE },
		{ "tx=unmovable", ROUTE_WISH_AUTO, ROUTE_TX_UNMOVABLE },
		{ "tx=repeatable", ROUTE_WISH_AUTO, ROUTE_TX_REPEATABLE },
		{ "tx=serializable", ROUTE_WISH_AUTO, ROUTE_TX_SERIALIZABLE },
		{ "wish=replica,tx=movable", ROUTE_WISH_REPLICA, ROUTE_TX_MOVABLE },
	};
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strcmp(words[i].word, text) == 0)
			return (struct route_policy){ words[i].wish, words[i].tx };
	fail_msg("policy %s", text);
	return (struct route_policy){ ROUTE_WISH_AUTO, ROUTE_TX_NONE };
}

static bool check_row(struct shapes *shapes, char **v, int line)
{
	struct route_policy policy = parse_policy(v[POLICY]);
	const struct catalog *catalog = strcmp(v[CATALOG], "route") == 0 ? route_catalog : NULL;
	struct sql_shape *shape =
	    shapes_get(shapes, str_of(v[SQL]), (struct sqlparse_options){ .std_strings = true }, NULL);
	struct route_verdict got = shape_route(shape, catalog, &policy);
	const char *target = route_target_name(got.target), *reason = route_reason_name(got.reason);
	if (strcmp(target, v[TARGET]) == 0 && strcmp(reason, v[REASON]) == 0)
		return true;
	fprintf(stderr, TABLE ":%d: %s %s (%s), wanted %s %s: %s\n", line, target, reason, got.what ? got.what : "-",
	        v[TARGET], v[REASON], v[SQL]);
	return false;
}

static void test_route_table(void **state)
{
	FILE *f = fopen(TABLE, "r");
	char *text = NULL, *v[FIXTURE_COLUMNS];
	size_t cap = 0;
	int line = 0, rows = 0, wrong = 0;
	struct shapes *shapes = shapes_new(100, 1024 * 1024);
	(void)state;
	assert_non_null(f);
	while (getline(&text, &cap, f) > 0) {
		line++;
		if (text[0] == '#' || text[0] == '\n')
			continue;
		if (fixture_split(text, v) != COLUMNS)
			fail_msg(TABLE ":%d: not %d columns", line, COLUMNS);
		rows++;
		wrong += !check_row(shapes, v, line);
	}
	free(text);
	fclose(f);
	shapes_free(shapes);
	assert_int_equal(wrong, 0);
	assert_true(rows >= LEAST_ROWS);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_route_table) };
	rules_init();
	route_catalog = fixture_catalog(NULL, 0);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	catalog_unref(route_catalog);
	sqlparse_exit();
	return failed;
}
