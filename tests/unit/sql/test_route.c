/* test_route.c - the rules behind the golden table, on the recorded catalog and on small made ones; wishes and
 * transactions; the cache of shapes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rules.h"
#include "fixture.h"
#include "sql/route.h"
#include "sql/shapes.h"

static const struct sqlparse_options standard = { .std_strings = true };
static struct catalog *route_catalog;

static struct route_verdict decide(const struct catalog *c, const char *sql, enum route_wish wish, enum route_tx tx)
{
	static char what[64];
	struct route_policy policy = { wish, tx };
	struct sql_facts *f = sqlparse(str_of(sql), standard);
	struct route_verdict v = route_decide(f, c, &policy);
	(void)str_copy(what, sizeof(what), str_of(v.what));
	v.what = v.what ? what : NULL;
	sql_facts_unref(f);
	return v;
}

static struct route_verdict plain(const char *sql)
{
	return decide(route_catalog, sql, ROUTE_WISH_AUTO, ROUTE_TX_NONE);
}

static void expect(const char *sql, enum route_target target, enum route_reason reason)
{
	struct route_verdict v = plain(sql);
	if (v.target != target || v.reason != reason)
		fail_msg("%s: %s %s, wanted %s %s", sql, route_target_name(v.target), route_reason_name(v.reason),
		         route_target_name(target), route_reason_name(reason));
}

static void expect_all(const char *const *sql, size_t n, enum route_target target, enum route_reason reason)
{
	for (size_t i = 0; i < n; i++)
		expect(sql[i], target, reason);
}
#define EXPECT_ALL(list, target, reason) expect_all(list, ARRAY_LEN(list), target, reason)

/* --- the rules --- */

static void test_rule_a6_closure_of_functions(void **state)
{
	(void)state;
	expect("SELECT f_user_name(1)", ROUTE_REPLICA, REASON_READ);
	/* No volatile or unknown callee, no EXECUTE, no EXCEPTION. */
	expect("SELECT f_catches(1)", ROUTE_PRIMARY, REASON_UNPROVED_FUNCTION);
	expect("SELECT f_dynamic('x')", ROUTE_PRIMARY, REASON_UNPROVED_FUNCTION);
	expect("SELECT f_stable_deep(1)", ROUTE_PRIMARY, REASON_WRITE_FUNCTION);
	expect("SELECT f_volatile(1)", ROUTE_PRIMARY, REASON_VOLATILE_FUNCTION);
	expect("SELECT f_internal(1)", ROUTE_PRIMARY, REASON_UNPROVED_FUNCTION);
}

static void test_rule_a7_effects_that_a_standby_allows(void **state)
{
	static const char *const sql[] = { "SELECT * FROM dblink('x', 'y') AS t(a integer)",
		                           "SELECT dblink_exec('x', 'y')", "SELECT pg_file_write('x', 'y', false)",
		                           "SELECT f_dblink()" };
	(void)state;
	EXPECT_ALL(sql, ROUTE_PRIMARY, REASON_SIDE_EFFECT);
	expect("SELECT lo_export(1, 'x')", ROUTE_PRIMARY, REASON_SIDE_EFFECT);
	expect("COPY users TO PROGRAM 'x'", ROUTE_PRIMARY, REASON_COPY_FILE);
	expect("SELECT * FROM outside", ROUTE_PRIMARY, REASON_FOREIGN_TABLE);
	expect("SELECT f_untrusted()", ROUTE_PRIMARY, REASON_UNTRUSTED_LANGUAGE);
	/* Nor does a wish change that. */
	for (size_t i = 0; i < ARRAY_LEN(sql); i++)
		assert_int_equal(decide(route_catalog, sql[i], ROUTE_WISH_REPLICA, ROUTE_TX_NONE).target,
		                 ROUTE_PRIMARY);
}

static void test_rule_a8_several_statements_are_never_guessed(void **state)
{
	(void)state;
	struct route_verdict v = decide(route_catalog, "SELECT f_volatile(1)", ROUTE_WISH_REPLICA, ROUTE_TX_NONE);
	assert_int_equal(v.target, ROUTE_REPLICA);
	assert_false(v.proved);
	v = decide(route_catalog, "SELECT 1; SELECT f_volatile(1)", ROUTE_WISH_REPLICA, ROUTE_TX_NONE);
	assert_int_equal(v.target, ROUTE_PRIMARY);
	v = plain("SELECT 1; SELECT * FROM users");
	assert_int_equal(v.target, ROUTE_REPLICA);
	assert_true(v.proved);
}

static void test_rule_c1_time_in_movable_transactions(void **state)
{
	static const char *const shows[] = { "SELECT now()",    "SELECT 'today'::date", "SELECT * FROM v_time",
		                             "SELECT f_time()", "SELECT CURRENT_DATE",  "SELECT * FROM v_today" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shows); i++) {
		struct route_verdict v = decide(route_catalog, shows[i], ROUTE_WISH_AUTO, ROUTE_TX_MOVABLE);
		assert_int_equal(v.target, ROUTE_PRIMARY);
		assert_int_equal(v.reason, REASON_TRANSACTION_TIME);
		assert_true(v.shows_time);
		assert_int_equal(plain(shows[i]).target, ROUTE_REPLICA);
	}
	assert_false(decide(route_catalog, "SELECT * FROM users", ROUTE_WISH_AUTO, ROUTE_TX_MOVABLE).shows_time);
}

static void test_rule_c2_isolation_in_force(void **state)
{
	static const struct {
		enum route_tx tx;
		enum route_target target;
	} rows[] = {
		{ ROUTE_TX_NONE, ROUTE_REPLICA },       { ROUTE_TX_READ_ONLY, ROUTE_REPLICA },
		{ ROUTE_TX_MOVABLE, ROUTE_REPLICA },    { ROUTE_TX_UNMOVABLE, ROUTE_PRIMARY },
		{ ROUTE_TX_REPEATABLE, ROUTE_PRIMARY }, { ROUTE_TX_SERIALIZABLE, ROUTE_PRIMARY },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(decide(route_catalog, "SELECT * FROM users", ROUTE_WISH_AUTO, rows[i].tx).target,
		                 rows[i].target);
	assert_int_equal(decide(route_catalog, "SELECT 1", ROUTE_WISH_REPLICA, ROUTE_TX_SERIALIZABLE).target,
	                 ROUTE_PRIMARY);
}

static void test_rule_c6_exported_snapshots(void **state)
{
	(void)state;
	expect("SELECT pg_export_snapshot()", ROUTE_PRIMARY, REASON_SNAPSHOT);
	assert_int_equal(
	    decide(route_catalog, "SELECT pg_export_snapshot()", ROUTE_WISH_REPLICA, ROUTE_TX_READ_ONLY).target,
	    ROUTE_PRIMARY);
}

static void test_rule_f1_refused_by_standbys(void **state)
{
	static const char *const locks[] = { "SELECT * FROM users FOR UPDATE", "TABLE users FOR SHARE",
		                             "WITH x AS (SELECT 1 FROM users FOR KEY SHARE) SELECT 1" };
	static const char *const writes[] = { "WITH x AS (DELETE FROM users) SELECT 1",
		                              "COPY (DELETE FROM users RETURNING 1) TO STDOUT",
		                              "EXPLAIN ANALYZE WITH x AS (DELETE FROM users) SELECT 1" };
	(void)state;
	EXPECT_ALL(locks, ROUTE_PRIMARY, REASON_LOCKING);
	EXPECT_ALL(writes, ROUTE_PRIMARY, REASON_WRITE);
	expect("SELECT 1 INTO x", ROUTE_PRIMARY, REASON_DDL);
}

static void test_rule_f2_allowed_silently(void **state)
{
	static const char *const sql[] = { "SELECT pg_advisory_lock(1)",  "SELECT pg_try_advisory_xact_lock(1)",
		                           "SELECT pg_stat_reset()",      "SELECT pg_terminate_backend(1)",
		                           "SELECT pg_reload_conf()",     "SELECT pg_promote()",
		                           "SELECT pg_wal_replay_pause()" };
	(void)state;
	EXPECT_ALL(sql, ROUTE_PRIMARY, REASON_SIDE_EFFECT);
	for (size_t i = 0; i < ARRAY_LEN(sql); i++)
		assert_int_equal(decide(route_catalog, sql[i], ROUTE_WISH_REPLICA, ROUTE_TX_NONE).target,
		                 ROUTE_PRIMARY);
	expect("SET work_mem = '1MB'", ROUTE_PRIMARY, REASON_SESSION);
	expect("LOAD 'x'", ROUTE_PRIMARY, REASON_SESSION);
	expect("PREPARE x AS SELECT 1", ROUTE_PRIMARY, REASON_PREPARED);
}

static void test_rule_f3_silently_different(void **state)
{
	static const char *const sql[] = {
		"SELECT pg_is_in_recovery()",     "SELECT pg_backend_pid()",       "SELECT pg_stat_get_numscans(0)",
		"SELECT txid_current_snapshot()", "SELECT pg_walfile_name('0/0')", "SELECT pg_tablespace_location(0)",
		"SELECT * FROM pg_stat_activity", "SELECT * FROM pg_settings",     "SELECT * FROM pg_locks",
		"SELECT * FROM pg_stats",         "SELECT * FROM v_activity",
	};
	(void)state;
	EXPECT_ALL(sql, ROUTE_PRIMARY, REASON_SERVER_STATE);
	expect("SELECT last_value FROM sq", ROUTE_PRIMARY, REASON_SEQUENCE);
	/* Not by volatility. */
	expect("SELECT random()", ROUTE_REPLICA, REASON_READ);
}

static void test_rule_f4_hidden_functions(void **state)
{
	static const char *const sql[] = {
		"SELECT pt.audit FROM pt",
		"SELECT (pt).audit FROM pt",
		"SELECT ('sq').nextval",
		"SELECT f.nextval FROM unnest(ARRAY['sq'::regclass]) f",
		"SELECT sum_write(id) FROM users",
		"SELECT 1 =!= 1",
		"SELECT 5::checked",
		"SELECT 5::rechecked",
		"SELECT '(1,2)'::pair",
		"SELECT feeling::integer FROM feelings",
		"SELECT * FROM v_over_write",
		"SELECT * FROM secrets",
		"SELECT f_default()",
		"SELECT f_overloaded(1)",
	};
	(void)state;
	EXPECT_ALL(sql, ROUTE_PRIMARY, REASON_WRITE_FUNCTION);
	expect("SELECT has_audit.audit FROM has_audit", ROUTE_REPLICA, REASON_READ);
	expect("SELECT sum_plain(id) FROM users", ROUTE_REPLICA, REASON_READ);
}

static void test_rule_f4_qualifiers(void **state)
{
	(void)state;
	/* An alias hides a table of its name; a CTE and a subquery are not the table. */
	expect("SELECT has_audit.audit FROM pt has_audit", ROUTE_PRIMARY, REASON_WRITE_FUNCTION);
	expect("WITH has_audit AS (SELECT 1 AS x) SELECT has_audit.audit FROM has_audit", ROUTE_PRIMARY,
	       REASON_WRITE_FUNCTION);
	expect("SELECT x.audit FROM (SELECT 1) x", ROUTE_PRIMARY, REASON_WRITE_FUNCTION);
	expect("SELECT x.audit FROM has_audit x, (SELECT pt.audit FROM pt) y", ROUTE_PRIMARY, REASON_WRITE_FUNCTION);
}

static void test_rule_f5_shapes_with_telling_literals(void **state)
{
	(void)state;
	struct shapes *s = shapes_new(100, 1000000);
	struct sql_shape *a = shapes_get(s, STR("SET pgweir.route = 'primary'"), standard, NULL);
	assert_string_equal(shape_facts(a)->stmts[0].value, "primary");
	struct sql_shape *b = shapes_get(s, STR("SET pgweir.route = 'replica'"), standard, NULL);
	assert_string_equal(shape_facts(b)->stmts[0].value, "replica");
	/* 'now' has a shape of its own. */
	a = shape_ref(shapes_get(s, STR("SELECT 'x'::text"), standard, NULL));
	b = shapes_get(s, STR("SELECT 'now'::text"), standard, NULL);
	assert_ptr_not_equal(a, b);
	assert_true(shape_facts(b)->flags & SQL_F_NOW_LITERAL);
	assert_false(shape_facts(a)->flags & SQL_F_NOW_LITERAL);
	shape_unref(a);
	shapes_free(s);
}

/* --- pins that only the catalog knows --- */

static void test_pins_through_the_catalog(void **state)
{
	static const struct {
		const char *sql;
		uint32_t pins;
	} rows[] = {
		{ "SELECT f_sets()", SQL_PIN_SETTING },
		{ "SELECT f_locks()", SQL_PIN_ADVISORY_LOCK },
		{ "SELECT f_write(1)", 0 },
		{ "SELECT f_dynamic('x')", SQL_PIN_UNKNOWN | SQL_PIN_RESETS },
		{ "SELECT f_untrusted()", SQL_PIN_UNKNOWN | SQL_PIN_RESETS },
		{ "SELECT nosuch(1)", SQL_PIN_UNKNOWN },
		{ "CALL p_plain(1)", 0 },
		{ "CALL p_sets(1)", SQL_PIN_SETTING },
		{ "DO 'BEGIN PERFORM f_sets(); END'", SQL_PIN_SETTING },
		{ "DO 'BEGIN PERFORM f_write(1); END'", 0 },
		{ "DO 'BEGIN INSERT INTO audited VALUES (1); END'", SQL_PIN_SETTING | SQL_PIN_CUSTOM },
		{ "INSERT INTO audited VALUES (1)", SQL_PIN_SETTING | SQL_PIN_CUSTOM },
		{ "COPY audited FROM STDIN", SQL_PIN_SETTING | SQL_PIN_CUSTOM },
		{ "WITH x AS (INSERT INTO audited VALUES (1)) SELECT 1", SQL_PIN_SETTING | SQL_PIN_CUSTOM },
		{ "SELECT * FROM audited", 0 },
		{ "INSERT INTO stamped VALUES (1)", 0 },
		{ "DELETE FROM users", 0 },
		{ "ALTER TABLE users ADD c text DEFAULT f_sets()", SQL_PIN_SETTING },
		{ "CREATE TABLE x AS SELECT f_sets()", SQL_PIN_SETTING },
		{ "SELECT 1_0, f_sets()", SQL_PIN_SETTING },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (plain(rows[i].sql).pins != rows[i].pins)
			fail_msg("%s: %x", rows[i].sql, plain(rows[i].sql).pins);
	/* Without facts nothing is known about code. */
	assert_int_equal(decide(NULL, "CALL p_plain(1)", ROUTE_WISH_AUTO, ROUTE_TX_NONE).pins, SQL_PIN_UNKNOWN);
	assert_int_equal(decide(NULL, "INSERT INTO t VALUES (f(1))", ROUTE_WISH_AUTO, ROUTE_TX_NONE).pins, 0);
}

/* --- verdicts --- */

static void test_reasons_name_the_object(void **state)
{
	(void)state;
	assert_string_equal(plain("SELECT lower('a'), f_write(1), f_add(1, 2)").what, "f_write");
	assert_string_equal(plain("SELECT * FROM users, scratch").what, "scratch");
	assert_null(plain("SELECT 1").what);
	assert_string_equal(route_reason_name(REASON_WRITE), "WRITE");
	for (int r = 0; r < ROUTE_REASON_COUNT; r++)
		assert_true(route_reason_text((enum route_reason)r)[0] != 0);
}

static void test_stricter(void **state)
{
	(void)state;
	struct route_verdict read = plain("SELECT 1"), write = plain("DELETE FROM users"), stay = plain("COMMIT");
	struct route_verdict v = route_stricter(read, write);
	assert_int_equal(v.target, ROUTE_PRIMARY);
	assert_int_equal(v.reason, REASON_WRITE);
	assert_int_equal(route_stricter(write, read).reason, REASON_WRITE);
	assert_int_equal(route_stricter(read, stay).target, ROUTE_STAY);
	assert_int_equal(route_stricter(stay, write).target, ROUTE_PRIMARY);
	assert_true(route_stricter(read, read).proved);
	assert_false(route_stricter(read, write).proved);
	struct route_verdict pinned = plain("SET work_mem = '1MB'");
	assert_int_equal(route_stricter(read, pinned).pins, SQL_PIN_SETTING);
}

/* --- catalogs --- */

static struct catalog *small_catalog(const struct catalog_options *options, const char *const (*functions)[13],
                                     size_t n)
{
	struct catalog_builder *b = catalog_build_start(options);
	for (size_t i = 0; i < n; i++)
		assert_true(catalog_build_add_row(b, 0, 13, functions[i]));
	return catalog_build_finish(b);
}

#define FUNCTION(oid, schema, name, volatility, language, extension, body)                                             \
	{                                                                                                              \
		oid, schema, name, "f", volatility, language, "t", extension, NULL, body, NULL, NULL, NULL             \
	}

static void test_listed_functions(void **state)
{
	static const char *const rows[][13] = {
		FUNCTION("16400", "public", "f", "v", "c", NULL, NULL),
		FUNCTION("16401", "public", "g", "i", "sql", NULL, "SELECT 1"),
		FUNCTION("16402", "app", "h", "v", "plpgsql", NULL, "BEGIN EXECUTE 'x'; END"),
		FUNCTION("16403", "public", "k", "s", "sql", NULL, "SELECT f(1), app.h()"),
	};
	(void)state;
	struct catalog *c = small_catalog(NULL, rows, ARRAY_LEN(rows));
	assert_int_equal(decide(c, "SELECT f(1)", ROUTE_WISH_AUTO, ROUTE_TX_NONE).reason, REASON_VOLATILE_FUNCTION);
	assert_int_equal(decide(c, "SELECT g()", ROUTE_WISH_AUTO, ROUTE_TX_NONE).reason, REASON_READ);
	assert_int_equal(decide(c, "SELECT k()", ROUTE_WISH_AUTO, ROUTE_TX_NONE).target, ROUTE_PRIMARY);
	uint64_t digest = catalog_digest(c);
	catalog_unref(c);
	struct catalog_options options = { .read_only_functions = "f, app.h", .write_functions = "public.g" };
	c = small_catalog(&options, rows, ARRAY_LEN(rows));
	assert_int_equal(decide(c, "SELECT f(1)", ROUTE_WISH_AUTO, ROUTE_TX_NONE).reason, REASON_READ);
	assert_int_equal(decide(c, "SELECT app.h()", ROUTE_WISH_AUTO, ROUTE_TX_NONE).reason, REASON_READ);
	assert_int_equal(decide(c, "SELECT k()", ROUTE_WISH_AUTO, ROUTE_TX_NONE).reason, REASON_READ);
	assert_int_equal(decide(c, "SELECT g()", ROUTE_WISH_REPLICA, ROUTE_TX_NONE).reason, REASON_WRITE_FUNCTION);
	assert_int_not_equal(catalog_digest(c), digest);
	catalog_unref(c);
	/* A list names f in public only. */
	options = (struct catalog_options){ .read_only_functions = "other.f\tff" };
	c = small_catalog(&options, rows, ARRAY_LEN(rows));
	assert_int_equal(decide(c, "SELECT f(1)", ROUTE_WISH_AUTO, ROUTE_TX_NONE).target, ROUTE_PRIMARY);
	catalog_unref(c);
}

static void test_extensions(void **state)
{
	static const char *const rows[][13] = {
		FUNCTION("16400", "public", "a", "i", "c", "citext", NULL),
		FUNCTION("16401", "public", "b", "v", "c", "pgcrypto", NULL),
		FUNCTION("16402", "public", "c", "v", "c", "hstore", NULL),
		FUNCTION("16403", "public", "d", "i", "c", "dblink", NULL),
		FUNCTION("16404", "public", "e", "i", "c", "unheard_of", NULL),
		FUNCTION("16405", "public", "dblink_build", "i", "c", NULL, NULL),
		FUNCTION("16406", "pg_catalog", "lower", "v", "c", "unheard_of", NULL),
	};
	static const struct {
		const char *sql;
		enum route_reason reason;
	} want[] = { { "SELECT a()", REASON_READ },
		     { "SELECT b()", REASON_READ },
		     { "SELECT c()", REASON_VOLATILE_FUNCTION },
		     { "SELECT d()", REASON_SIDE_EFFECT },
		     { "SELECT e()", REASON_UNPROVED_FUNCTION },
		     { "SELECT dblink_build()", REASON_SIDE_EFFECT },
		     { "SELECT pg_catalog.lower('a')", REASON_VOLATILE_FUNCTION } };
	(void)state;
	struct catalog *c = small_catalog(NULL, rows, ARRAY_LEN(rows));
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_int_equal(decide(c, want[i].sql, ROUTE_WISH_AUTO, ROUTE_TX_NONE).reason, want[i].reason);
	catalog_unref(c);
}

static void test_catalog_rows_are_checked(void **state)
{
	struct catalog_builder *b = catalog_build_start(NULL);
	const char *const type[] = { "25", "pg_catalog", "text" }, *const bad_oid[] = { "x", "pg_catalog", "text" };
	const char *const nulls[] = { "25", NULL, "text" }, *const bad_edge[] = { "F", "1", "?", "2", NULL, NULL };
	(void)state;
	uint64_t empty = catalog_build_digest(b);
	assert_true(catalog_build_add_row(b, 2, 3, type));
	assert_int_not_equal(catalog_build_digest(b), empty);
	assert_false(catalog_build_add_row(b, 2, 2, type));
	assert_false(catalog_build_add_row(b, 99, 3, type));
	assert_false(catalog_build_add_row(b, 2, 3, bad_oid));
	assert_false(catalog_build_add_row(b, 2, 3, nulls));
	assert_false(catalog_build_add_row(b, 6, 6, bad_edge));
	catalog_build_abort(b);
	catalog_build_abort(NULL);
}

static void test_catalog_identity(void **state)
{
	(void)state;
	struct catalog *again = fixture_catalog(NULL, 0), *less = fixture_catalog(NULL, 1u << 8);
	assert_int_equal(catalog_digest(again), catalog_digest(route_catalog));
	assert_int_not_equal(catalog_digest(less), catalog_digest(route_catalog));
	assert_int_not_equal(catalog_id(again), catalog_id(route_catalog));
	assert_true(catalog_bytes(again) > 10000);
	assert_ptr_equal(catalog_ref(again), again);
	catalog_unref(again);
	catalog_unref(again);
	catalog_unref(less);
	catalog_unref(NULL);
}

/* --- shapes --- */

static void test_shapes_hit(void **state)
{
	(void)state;
	struct shapes *s = shapes_new(100, 1000000);
	struct route_policy policy = { ROUTE_WISH_AUTO, ROUTE_TX_NONE };
	struct sql_hint hint;
	struct sql_shape *a = shapes_get(s, STR("SELECT * FROM users WHERE id = 1"), standard, &hint);
	assert_int_equal(hint.route.n, 0);
	struct sql_shape *b =
	    shapes_get(s, STR("/* pgweir: route=primary */ select * from users where id=2"), standard, &hint);
	assert_ptr_equal(a, b);
	assert_true(str_eq(hint.route, STR("primary")));
	assert_string_equal(shape_text(a), "select * from users where id = ?");
	assert_int_equal(shape_route(a, NULL, &policy).reason, REASON_NO_FACTS);
	assert_int_equal(shape_route(a, route_catalog, &policy).reason, REASON_READ);
	assert_int_equal(shape_route(a, route_catalog, &policy).target, ROUTE_REPLICA);
	policy.wish = ROUTE_WISH_PRIMARY;
	assert_int_equal(shape_route(a, route_catalog, &policy).reason, REASON_MODE);
	struct shapes_stats stats = shapes_stats(s);
	assert_int_equal(stats.hits, 1);
	assert_int_equal(stats.misses, 1);
	assert_int_equal(stats.count, 1);
	shapes_free(s);
}

static void test_shapes_depend_on_settings(void **state)
{
	(void)state;
	struct shapes *s = shapes_new(100, 1000000);
	struct sqlparse_options off = { .std_strings = false }, sjis = { .std_strings = true, .ascii_unsafe = true };
	struct sql_shape *a = shape_ref(shapes_get(s, STR("SELECT 'a\\b'"), standard, NULL));
	struct sql_shape *b = shapes_get(s, STR("SELECT 'a\\b'"), off, NULL);
	assert_ptr_not_equal(a, b);
	assert_int_equal(shape_facts(b)->unparsed, SQL_UNPARSED_BACKSLASH);
	assert_ptr_equal(shapes_get(s, STR("SELECT 'ab'"), off, NULL), a);
	shape_unref(a);
	a = shape_ref(shapes_get(s, STR("SELECT \x83\x5c"), standard, NULL));
	b = shapes_get(s, STR("SELECT \x83\x5c"), sjis, NULL);
	assert_ptr_not_equal(a, b);
	shape_unref(a);
	shapes_free(s);
}

static void test_shapes_are_bounded(void **state)
{
	(void)state;
	struct shapes *s = shapes_new(10, 1000000);
	char sql[64];
	struct sql_shape *kept = NULL;
	for (int i = 0; i < 100; i++) {
		snprintf(sql, sizeof(sql), "SELECT column_%d FROM t", i);
		struct sql_shape *shape = shapes_get(s, str_of(sql), standard, NULL);
		if (i == 3)
			kept = shape_ref(shape);
		(void)shapes_get(s, STR("SELECT hot FROM t"), standard, NULL);
		assert_true(shapes_stats(s).count <= 10);
	}
	/* What is used stays; what is held outlives its place. */
	assert_int_equal(shapes_stats(s).misses, 101);
	assert_string_equal(shape_text(kept), "select column_3 from t");
	shapes_free(s);
	assert_string_equal(shape_text(kept), "select column_3 from t");
	shape_unref(kept);
	s = shapes_new(1000, 4000);
	for (int i = 0; i < 100; i++) {
		snprintf(sql, sizeof(sql), "SELECT column_%d FROM t", i);
		(void)shapes_get(s, str_of(sql), standard, NULL);
	}
	assert_true(shapes_stats(s).bytes < 8000);
	assert_true(shapes_stats(s).evicted > 50);
	shapes_free(s);
}

static void test_shapes_large_text(void **state)
{
	(void)state;
	struct shapes *s = shapes_new(10, 1000000);
	struct route_policy policy = { ROUTE_WISH_AUTO, ROUTE_TX_NONE };
	size_t n = 300000;
	char *sql = mem_alloc(n);
	memset(sql, ' ', n);
	memcpy(sql, "SELECT 1", 8);
	struct sql_shape *shape = shapes_get(s, (struct str){ sql, n }, standard, NULL);
	assert_int_equal(shape_route(shape, route_catalog, &policy).reason, REASON_TOO_LARGE);
	assert_int_equal(shapes_stats(s).count, 0);
	mem_free(sql);
	shapes_free(s);
	shapes_free(NULL);
}

static void test_rule_f1_refusals_correct_the_shape(void **state)
{
	(void)state;
	struct shapes *s = shapes_new(10, 1000000);
	struct route_policy policy = { ROUTE_WISH_AUTO, ROUTE_TX_NONE };
	struct sql_shape *shape = shapes_get(s, STR("SELECT * FROM users"), standard, NULL);
	assert_false(shape_mark_refused(shape, "57014"));
	assert_false(shape_mark_refused(shape, "40001"));
	assert_int_equal(shape_route(shape, route_catalog, &policy).target, ROUTE_REPLICA);
	assert_true(shape_mark_refused(shape, "25006"));
	assert_int_equal(shape_route(shape, route_catalog, &policy).reason, REASON_REFUSED);
	policy.wish = ROUTE_WISH_REPLICA;
	assert_int_equal(shape_route(shape, route_catalog, &policy).target, ROUTE_PRIMARY);
	/* Also the other texts of a literal-sensitive shape. */
	policy.wish = ROUTE_WISH_AUTO;
	(void)shapes_get(s, STR("EXPLAIN (COSTS 0) SELECT 1"), standard, NULL);
	shape = shapes_get(s, STR("EXPLAIN (COSTS 1) SELECT 1"), standard, NULL);
	assert_int_equal(shape_route(shape, route_catalog, &policy).target, ROUTE_REPLICA);
	assert_true(shape_mark_refused(shape, "0A000"));
	shape = shapes_get(s, STR("EXPLAIN (COSTS 0) SELECT 1"), standard, NULL);
	assert_int_equal(shape_route(shape, route_catalog, &policy).reason, REASON_REFUSED);
	shapes_free(s);
}

/* What one worker has learned holds for the shapes of another one, those that it has and those to come. */
static void test_rule_f1_refusals_are_told_to_other_workers(void **state)
{
	(void)state;
	static const char *const texts[] = { "SELECT * FROM users", "SELECT 1", "EXPLAIN (COSTS 0) SELECT 1" };
	struct route_policy policy = { ROUTE_WISH_AUTO, ROUTE_TX_NONE };
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct shapes *a = shapes_new(10, 1000000), *b = shapes_new(1, 1000000);
		uint8_t key[SHAPE_KEY_BYTES];
		struct sql_shape *known = shapes_get(b, str_of(texts[i]), standard, NULL);
		assert_int_equal(shape_route(known, route_catalog, &policy).target, ROUTE_REPLICA);
		struct sql_shape *shape = shapes_get(a, str_of(texts[i]), standard, NULL);
		assert_false(shape_mark_refused_anywhere(shape, "22023"));
		assert_true(shape_mark_refused_anywhere(shape, "0A000"));
		assert_false(shape_mark_refused_anywhere(shape, "0A000"));
		assert_true(shape_key(shape, key));
		shapes_note_refused(b, key);
		known = shapes_get(b, str_of(texts[i]), standard, NULL);
		assert_int_equal(shape_route(known, route_catalog, &policy).reason, REASON_REFUSED);
		(void)shapes_get(b, STR("SELECT 'another one'"), standard, NULL); /* takes its place */
		known = shapes_get(b, str_of(texts[i]), standard, NULL);
		assert_int_equal(shape_route(known, route_catalog, &policy).reason, REASON_REFUSED);
		shape = shapes_get(a, STR("INSERT INTO users VALUES (1)"), standard, NULL);
		assert_false(shape_mark_refused_anywhere(shape, "0A000"));
		shapes_free(a);
		shapes_free(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rule_f1_refusals_are_told_to_other_workers),
		cmocka_unit_test(test_rule_a6_closure_of_functions),
		cmocka_unit_test(test_rule_a7_effects_that_a_standby_allows),
		cmocka_unit_test(test_rule_a8_several_statements_are_never_guessed),
		cmocka_unit_test(test_rule_c1_time_in_movable_transactions),
		cmocka_unit_test(test_rule_c2_isolation_in_force),
		cmocka_unit_test(test_rule_c6_exported_snapshots),
		cmocka_unit_test(test_rule_f1_refused_by_standbys),
		cmocka_unit_test(test_rule_f2_allowed_silently),
		cmocka_unit_test(test_rule_f3_silently_different),
		cmocka_unit_test(test_rule_f4_hidden_functions),
		cmocka_unit_test(test_rule_f4_qualifiers),
		cmocka_unit_test(test_rule_f5_shapes_with_telling_literals),
		cmocka_unit_test(test_pins_through_the_catalog),
		cmocka_unit_test(test_reasons_name_the_object),
		cmocka_unit_test(test_stricter),
		cmocka_unit_test(test_listed_functions),
		cmocka_unit_test(test_extensions),
		cmocka_unit_test(test_catalog_rows_are_checked),
		cmocka_unit_test(test_catalog_identity),
		cmocka_unit_test(test_shapes_hit),
		cmocka_unit_test(test_shapes_depend_on_settings),
		cmocka_unit_test(test_shapes_are_bounded),
		cmocka_unit_test(test_shapes_large_text),
		cmocka_unit_test(test_rule_f1_refusals_correct_the_shape),
	};
	rules_init();
	route_catalog = fixture_catalog(NULL, 0);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	catalog_unref(route_catalog);
	sqlparse_exit();
	return failed;
}
