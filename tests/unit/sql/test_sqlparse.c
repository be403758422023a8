/* test_sqlparse.c - text to facts: verbs, modes, flags, pins, names; what cannot be parsed; how deep it may nest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/rules.h"
#include "sql/fingerprint.h"
#include "sql/prepared.h"
#include "sql/sqlparse.h"

static const struct sqlparse_options standard = { .std_strings = true };

static struct sql_facts *parse(const char *sql) { return sqlparse(str_of(sql), standard); }

static uint32_t flags_of(const char *sql)
{
	struct sql_facts *f = parse(sql);
	uint32_t flags = f->flags;
	sql_facts_unref(f);
	return flags;
}

static uint32_t pins_of(const char *sql)
{
	struct sql_facts *f = parse(sql);
	uint32_t pins = f->pins;
	sql_facts_unref(f);
	return pins;
}

static void test_verbs(void **state)
{
	static const struct {
		const char *sql;
		enum sql_verb verb;
		const char *name, *value;
	} rows[] = {
		{ "", SQL_EMPTY, NULL, NULL },
		{ " ; ; -- x", SQL_EMPTY, NULL, NULL },
		{ "select 1", SQL_SELECT, NULL, NULL },
		{ "values (1)", SQL_SELECT, NULL, NULL },
		{ "select 1 into t", SQL_SELECT_INTO, NULL, NULL },
		{ "select 1 into t union select 2", SQL_SELECT_INTO, NULL, NULL },
		{ "insert into t values (1)", SQL_INSERT, NULL, NULL },
		{ "update t set a = 1", SQL_UPDATE, NULL, NULL },
		{ "delete from t", SQL_DELETE, NULL, NULL },
		{ "merge into t using s on true when matched then delete", SQL_MERGE, NULL, NULL },
		{ "copy t to stdout", SQL_COPY_TO, NULL, NULL },
		{ "copy (select 1) to stdout", SQL_COPY_TO, NULL, NULL },
		{ "copy t from stdin", SQL_COPY_FROM, NULL, NULL },
		{ "copy t to '/x'", SQL_COPY_FILE, NULL, NULL },
		{ "copy t from program 'x'", SQL_COPY_FILE, NULL, NULL },
		{ "explain select 1", SQL_EXPLAIN, NULL, NULL },
		{ "show work_mem", SQL_SHOW, "work_mem", NULL },
		{ "show time zone", SQL_SHOW, "timezone", NULL },
		{ "set work_mem = '4MB'", SQL_SET, "work_mem", "4MB" },
		{ "set work_mem to 4096", SQL_SET, "work_mem", "4096" },
		{ "set datestyle = iso, dmy", SQL_SET, "datestyle", "iso, dmy" },
		{ "set enable_seqscan = off", SQL_SET, "enable_seqscan", "off" },
		{ "set seed = -0.5", SQL_SET, "seed", "-0.5" },
		{ "set time zone 'utc'", SQL_SET, "timezone", "utc" },
		{ "set names 'utf8'", SQL_SET, "client_encoding", "utf8" },
		{ "set role x", SQL_SET, "role", "x" },
		{ "set session authorization 'x'", SQL_SET, "session_authorization", "x" },
		{ "set pgweir.route = 'primary'", SQL_SET, "pgweir.route", "primary" },
		{ "set local work_mem = '4MB'", SQL_SET_LOCAL, "work_mem", "4MB" },
		{ "set work_mem to default", SQL_RESET, "work_mem", NULL },
		{ "reset work_mem", SQL_RESET, "work_mem", NULL },
		{ "reset all", SQL_RESET_ALL, NULL, NULL },
		{ "set transaction read only", SQL_SET_TRANSACTION, NULL, NULL },
		{ "set transaction snapshot 'x'", SQL_SET_SNAPSHOT, NULL, NULL },
		{ "set session characteristics as transaction read only", SQL_SET_CHARACTERISTICS, NULL, NULL },
		{ "set constraints all deferred", SQL_SET_CONSTRAINTS, NULL, NULL },
		{ "begin", SQL_BEGIN, NULL, NULL },
		{ "commit", SQL_COMMIT, NULL, NULL },
		{ "end", SQL_COMMIT, NULL, NULL },
		{ "abort", SQL_ROLLBACK, NULL, NULL },
		{ "savepoint \"S\"", SQL_SAVEPOINT, "S", NULL },
		{ "release savepoint s", SQL_RELEASE, "s", NULL },
		{ "rollback to s", SQL_ROLLBACK_TO, "s", NULL },
		{ "prepare transaction 'g'", SQL_PREPARE_TRANSACTION, "g", NULL },
		{ "commit prepared 'g'", SQL_COMMIT_PREPARED, "g", NULL },
		{ "rollback prepared 'g'", SQL_ROLLBACK_PREPARED, "g", NULL },
		{ "prepare p as select 1", SQL_PREPARE, "p", NULL },
		{ "execute p(1)", SQL_EXECUTE, "p", NULL },
		{ "deallocate p", SQL_DEALLOCATE, "p", NULL },
		{ "deallocate all", SQL_DEALLOCATE, NULL, NULL },
		{ "discard all", SQL_DISCARD_ALL, NULL, NULL },
		{ "discard temp", SQL_DISCARD_TEMP, NULL, NULL },
		{ "listen c", SQL_LISTEN, "c", NULL },
		{ "unlisten *", SQL_UNLISTEN, NULL, NULL },
		{ "notify c, 'x'", SQL_NOTIFY, "c", NULL },
		{ "declare c cursor for select 1", SQL_DECLARE, "c", NULL },
		{ "fetch all from c", SQL_FETCH, "c", NULL },
		{ "close all", SQL_CLOSE, NULL, NULL },
		{ "lock table t", SQL_LOCK, NULL, NULL },
		{ "do 'begin end'", SQL_DO, NULL, NULL },
		{ "call p()", SQL_CALL, NULL, NULL },
		{ "load 'x'", SQL_LOAD, NULL, NULL },
		{ "vacuum", SQL_VACUUM, NULL, NULL },
		{ "analyze t", SQL_ANALYZE, NULL, NULL },
		{ "cluster t", SQL_CLUSTER, NULL, NULL },
		{ "reindex table t", SQL_REINDEX, NULL, NULL },
		{ "truncate t", SQL_TRUNCATE, NULL, NULL },
		{ "refresh materialized view v", SQL_REFRESH, NULL, NULL },
		{ "checkpoint", SQL_CHECKPOINT, NULL, NULL },
		{ "alter system set x = 1", SQL_ALTER_SYSTEM, NULL, NULL },
		{ "create table t (a int)", SQL_DDL, NULL, NULL },
		{ "grant select on t to x", SQL_DDL, NULL, NULL },
		{ "alter role x set work_mem = 1", SQL_DDL, NULL, NULL },
		{ "create table t as select 1", SQL_DDL, NULL, NULL },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sql_facts *f = parse(rows[i].sql);
		const struct sql_stmt *s = &f->stmts[0];
		bool ok = !f->unparsed && f->n_stmts == 1 && s->verb == rows[i].verb &&
		          str_eq(str_of(s->name), str_of(rows[i].name)) &&
		          str_eq(str_of(s->value), str_of(rows[i].value));
		if (!ok)
			fail_msg("%s: %s %s %s", rows[i].sql, sql_verb_name(s->verb), s->name ? s->name : "-",
			         s->value ? s->value : "-");
		sql_facts_unref(f);
	}
}

/* --- transactions --- */

static struct sql_begin begin_of(const char *sql)
{
	struct sql_facts *f = parse(sql);
	struct sql_begin b = f->stmts[0].begin;
	sql_facts_unref(f);
	return b;
}

static void test_modes(void **state)
{
	(void)state;
	struct sql_begin b = begin_of("begin");
	assert_int_equal(b.isolation, SQL_ISO_UNSET);
	assert_int_equal(b.read_only, SQL_UNSET);
	b = begin_of("begin isolation level repeatable read, read only");
	assert_int_equal(b.isolation, SQL_ISO_REPEATABLE_READ);
	assert_int_equal(b.read_only, SQL_YES);
	b = begin_of("start transaction read write isolation level serializable deferrable");
	assert_int_equal(b.isolation, SQL_ISO_SERIALIZABLE);
	assert_int_equal(b.read_only, SQL_NO);
	assert_int_equal(b.deferrable, SQL_YES);
	b = begin_of("set transaction isolation level read committed, not deferrable");
	assert_int_equal(b.isolation, SQL_ISO_READ_COMMITTED);
	assert_int_equal(b.deferrable, SQL_NO);
	b = begin_of("set session characteristics as transaction isolation level read uncommitted");
	assert_int_equal(b.isolation, SQL_ISO_READ_UNCOMMITTED);
	b = begin_of("set transaction_isolation = 'Serializable'");
	assert_int_equal(b.isolation, SQL_ISO_SERIALIZABLE);
	b = begin_of("set local transaction_read_only = of");
	assert_int_equal(b.read_only, SQL_NO);
}

static void test_rule_c3_exact_tags(void **state)
{
	(void)state;
	assert_true(begin_of("start transaction").start);
	assert_false(begin_of("begin work").start);
	struct sql_facts *f = parse("rollback and chain");
	assert_true(f->stmts[0].chain);
	sql_facts_unref(f);
}

static void test_rule_a3_transaction_control_inside(void **state)
{
	(void)state;
	assert_true(flags_of("select 1; begin; select 2") & SQL_F_TX_CONTROL_INSIDE);
	assert_true(flags_of("select 1; savepoint a") & SQL_F_TX_CONTROL_INSIDE);
	assert_false(flags_of("begin") & SQL_F_TX_CONTROL_INSIDE);
	assert_false(flags_of("select 1; select 2") & SQL_F_TX_CONTROL_INSIDE);
	/* Also where the parser cannot help. */
	assert_true(flags_of("select 1_0; begin") & SQL_F_TX_CONTROL_INSIDE);
}

static void test_rule_c7_no_transaction_block(void **state)
{
	static const char *const yes[] = {
		"vacuum t",
		"create index concurrently i on t (a)",
		"drop index concurrently i",
		"reindex table concurrently t",
		"create database d",
		"drop database d",
		"alter system set work_mem = '1MB'",
		"commit prepared 'x'",
		"rollback prepared 'x'",
		"create tablespace t location '/x'",
		"drop tablespace t",
		"cluster",
		"discard all",
		"alter table t detach partition p concurrently",
		"create subscription s connection '' publication p",
		"drop subscription s",
		"alter database d set tablespace t",
		"do 'begin commit; end'",
		"call p()",
	};
	static const char *const no[] = { "analyze t",
		                          "create index i on t (a)",
		                          "drop index i",
		                          "select 1",
		                          "commit",
		                          "alter table t detach partition p",
		                          "refresh materialized view v",
		                          "truncate t" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		if (!(flags_of(yes[i]) & SQL_F_NO_TX_BLOCK))
			fail_msg("%s", yes[i]);
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		if (flags_of(no[i]) & SQL_F_NO_TX_BLOCK)
			fail_msg("%s", no[i]);
}

static void test_rule_c5_dumps(void **state)
{
	(void)state;
	assert_true(flags_of("LOCK TABLE a IN ACCESS SHARE MODE") & SQL_F_DUMP);
	assert_false(flags_of("select 1") & SQL_F_DUMP);
}

static void test_rule_c6_snapshots(void **state)
{
	(void)state;
	assert_true(flags_of("select pg_export_snapshot()") & SQL_F_SNAPSHOT);
	assert_true(flags_of("select pg_catalog.pg_export_snapshot()") & SQL_F_SNAPSHOT);
	assert_true(flags_of("set transaction snapshot 'x'") & SQL_F_SNAPSHOT);
}

/* --- flags --- */

static void test_flags(void **state)
{
	static const struct {
		const char *sql;
		uint32_t has, has_not;
	} rows[] = {
		{ "create table t (a int)", SQL_F_DDL, SQL_F_WRITES },
		{ "create table t as select 1", SQL_F_DDL | SQL_F_INTO, 0 },
		{ "select 1 into t", SQL_F_DDL | SQL_F_INTO, 0 },
		{ "explain analyze create table t as select 1", SQL_F_DDL | SQL_F_EXPLAIN_ANALYZE, 0 },
		{ "grant select on t to x", SQL_F_DDL, 0 },
		{ "truncate t", SQL_F_WRITES, SQL_F_DDL },
		{ "vacuum", 0, SQL_F_DDL },
		{ "with x as (delete from t) select 1", SQL_F_WRITES, 0 },
		{ "select 1 for update", SQL_F_LOCKS_ROWS, SQL_F_WRITES },
		{ "deallocate all", SQL_F_DROPS_STATEMENTS, 0 },
		{ "deallocate p", 0, SQL_F_DROPS_STATEMENTS },
		{ "discard all", SQL_F_DROPS_STATEMENTS | SQL_F_RESETS_SETTINGS, 0 },
		{ "discard plans", 0, SQL_F_DROPS_STATEMENTS },
		{ "reset all", SQL_F_RESETS_SETTINGS, 0 },
		{ "set work_mem to default", SQL_F_RESETS_SETTINGS, 0 },
		{ "set pgweir.route = 'x'", SQL_F_LOCAL_SETTING, SQL_F_RESETS_SETTINGS },
		{ "reset pgweir.route", SQL_F_LOCAL_SETTING, SQL_F_RESETS_SETTINGS },
		{ "show pgweir.route", SQL_F_LOCAL_SETTING, 0 },
		{ "set local app.x = '1'", SQL_F_CUSTOM_SETTING | SQL_F_SETS, SQL_F_ODD_PATH },
		{ "set local work_mem = '1MB'", SQL_F_SETS, SQL_F_CUSTOM_SETTING },
		{ "select set_config('app.x', '1', true)", SQL_F_CUSTOM_SETTING | SQL_F_SETS, SQL_F_ODD_PATH },
		{ "do 'begin perform set_config(''app.x'', ''1'', true); end'", SQL_F_CUSTOM_SETTING | SQL_F_SETS, 0 },
		{ "set search_path = a, public", SQL_F_SETS, SQL_F_ODD_PATH },
		{ "set search_path = pg_catalog, a", SQL_F_SETS, SQL_F_ODD_PATH },
		{ "set local search_path = a, pg_catalog", SQL_F_ODD_PATH, 0 },
		{ "set search_path to default", SQL_F_SETS, SQL_F_ODD_PATH },
		{ "select set_config('search_path', 'a', true)", SQL_F_ODD_PATH, 0 },
		{ "reset all", SQL_F_SETS | SQL_F_RESETS_SETTINGS, 0 },
		{ "set pgweir.route = 'x'", 0, SQL_F_SETS | SQL_F_CUSTOM_SETTING },
		{ "select current_setting('x')", SQL_F_READS_SETTING, 0 },
		{ "insert into t values (1)", SQL_F_USES_SEQUENCE, 0 },
		{ "select nextval('x')", SQL_F_USES_SEQUENCE, 0 },
		{ "explain select 1", 0, SQL_F_EXPLAIN_ANALYZE },
		{ "explain analyze select 1", SQL_F_EXPLAIN_ANALYZE, 0 },
		{ "explain (analyze) select 1", SQL_F_EXPLAIN_ANALYZE, 0 },
		{ "explain (analyze 0) select 1", 0, SQL_F_EXPLAIN_ANALYZE },
		{ "explain (analyze false) select 1", 0, SQL_F_EXPLAIN_ANALYZE },
		{ "explain (analyze 1) select 1", SQL_F_EXPLAIN_ANALYZE, 0 },
		{ "do 'begin end'", SQL_F_MAY_TOUCH_SESSION, SQL_F_DYNAMIC },
		{ "do language plperl 'x'", SQL_F_MAY_TOUCH_SESSION | SQL_F_DYNAMIC, 0 },
		{ "do $$begin execute 'x'; end$$", SQL_F_DYNAMIC, 0 },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint32_t flags = flags_of(rows[i].sql);
		if ((flags & rows[i].has) != rows[i].has || (flags & rows[i].has_not))
			fail_msg("%s: %x", rows[i].sql, flags);
	}
}

static void test_prepared_names(void **state)
{
	static const struct {
		const char *sql, *runs;
	} rows[] = { { "execute p(1)", "p" },
		     { "explain analyze execute \"P\"", "P" },
		     { "create table t as execute p", "p" },
		     { "explain create table t as execute p", "p" },
		     { "prepare p as select 1", NULL } };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sql_facts *f = parse(rows[i].sql);
		assert_true(f->flags & SQL_F_PREPARED_NAMES);
		if (rows[i].runs)
			assert_string_equal(f->stmts[0].runs, rows[i].runs);
		else
			assert_null(f->stmts[0].runs);
		sql_facts_unref(f);
	}
	assert_true(flags_of("table pg_prepared_statements") & SQL_F_SHOWS_PREPARED);
	assert_true(flags_of("select pg_prepared_statement()") & SQL_F_SHOWS_PREPARED);
}

static void test_prepared_statement(void **state)
{
	static const struct {
		const char *sql, *inner;
	} rows[] = { { "prepare p as select 1", " select 1" },
		     { "PREPARE \"as\" (numeric(10, 2), \"as\") /* as */ AS select $1 as x;", " select $1 as x;" },
		     { "prepare p", "" } };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_true(str_eq(sql_prepared_statement(str_of(rows[i].sql), true), str_of(rows[i].inner)));
}

static void test_prepared_params(void **state)
{
	static const struct {
		const char *sql;
		unsigned n;
	} rows[] = { { "prepare p as select 1", 0 },
		     { "prepare p as select $2::int, $1::int, '$9'", 2 },
		     { "prepare p (numeric(10, 2), \"as\", int[]) as select $1", 3 },
		     { "prepare p (int) as select $1, f(2, 3)", 1 },
		     { "prepare p as select $12 /* $13 */", 12 },
		     { "prepare p", 0 } };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(sql_prepared_params(str_of(rows[i].sql), true), rows[i].n);
}

static void test_rule_c1_transaction_time(void **state)
{
	static const char *const yes[] = { "select now()",
		                           "select CURRENT_TIMESTAMP(3)",
		                           "select localtime",
		                           "select current_date",
		                           "select 'now'::timestamp",
		                           "select age(x) from t",
		                           "select transaction_timestamp()",
		                           "select pg_catalog.now()" };
	static const char *const no[] = { "select clock_timestamp()", "select current_user", "select 'know'",
		                          "select now" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		if (!(flags_of(yes[i]) & SQL_F_SHOWS_TIME))
			fail_msg("%s", yes[i]);
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		if (flags_of(no[i]) & SQL_F_SHOWS_TIME)
			fail_msg("%s", no[i]);
}

static void test_rule_d3_fixed_result(void **state)
{
	static const char *const yes[] = { "select 1",
		                           "select a, t.b from t",
		                           "select count(*) from t",
		                           "delete from t",
		                           "insert into t values (1) returning a",
		                           "select (select 1) from t u" };
	static const char *const no[] = { "select * from t",           "select t.* from t",          "select t from t",
		                          "select u from t u",         "select x from (select 1) x", "select f(1)",
		                          "delete from t returning *", "select 1; select 2",         "explain select 1",
		                          "select (t).* from t" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		if (!(flags_of(yes[i]) & SQL_F_FIXED_RESULT))
			fail_msg("%s", yes[i]);
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		if (flags_of(no[i]) & SQL_F_FIXED_RESULT)
			fail_msg("%s", no[i]);
}

static void test_literal_sensitive(void **state)
{
	static const char *const yes[] = {
		"set work_mem = '1MB'",         "set pgweir.route = 'x'",  "select set_config('a', 'b', true)",
		"explain (analyze 0) select 1", "prepare transaction 'x'", "do 'begin end'",
		"set transaction snapshot 'x'"
	};
	static const char *const no[] = { "select 'a'", "show work_mem", "explain analyze select 1", "begin",
		                          "insert into t values ('a')" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		if (!(flags_of(yes[i]) & SQL_F_LITERAL_SENSITIVE))
			fail_msg("%s", yes[i]);
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		if (flags_of(no[i]) & SQL_F_LITERAL_SENSITIVE)
			fail_msg("%s", no[i]);
}

/* --- pins --- */

static void test_pins(void **state)
{
	static const struct {
		const char *sql;
		uint32_t pins;
	} rows[] = {
		{ "select 1", 0 },
		{ "set work_mem = '1MB'", SQL_PIN_SETTING },
		{ "set local work_mem = '1MB'", 0 },
		{ "set pgweir.route = 'primary'", 0 },
		{ "set transaction_read_only = on", 0 },
		{ "reset work_mem", 0 },
		{ "set session characteristics as transaction read only", SQL_PIN_SETTING },
		{ "set role x", SQL_PIN_ROLE },
		{ "set session authorization x", SQL_PIN_ROLE },
		{ "select set_config('a', 'b', false)", SQL_PIN_SETTING },
		{ "select set_config('a', 'b', true)", 0 },
		{ "select set_config('app.x', '1', true)", 0 },
		{ "select set_config(n, '1', true) from t", SQL_PIN_CUSTOM },
		{ "set local app.x = '1'", 0 },
		{ "set app.x = '1'", SQL_PIN_SETTING },
		{ "set local work_mem = '1MB'", 0 },
		{ "do 'begin perform set_config(''app.x'', ''1'', true); end'", SQL_PIN_SETTING },
		{ "do 'begin perform set_config(''work_mem'', ''1MB'', false); end'", SQL_PIN_SETTING },
		{ "do 'begin perform set_config(x, ''1MB'', false); end'", SQL_PIN_CUSTOM | SQL_PIN_SETTING },
		{ "select set_config('a', 'b', $1)", SQL_PIN_SETTING },
		{ "select set_config('a', 'b', 't')", SQL_PIN_SETTING },
		{ "select set_config('a', 'b', true), set_config('a', 'b', false)", SQL_PIN_SETTING },
		{ "prepare p as select 1", SQL_PIN_PREPARED },
		{ "listen c", SQL_PIN_LISTEN },
		{ "unlisten c", 0 },
		{ "declare c cursor with hold for select 1", SQL_PIN_HOLD_CURSOR },
		{ "declare c cursor for select 1", 0 },
		{ "select pg_advisory_lock(1)", SQL_PIN_ADVISORY_LOCK },
		{ "select pg_try_advisory_lock_shared(1)", SQL_PIN_ADVISORY_LOCK },
		{ "select pg_advisory_xact_lock(1)", 0 },
		{ "select pg_advisory_unlock(1)", 0 },
		{ "load 'x'", SQL_PIN_LOADED },
		{ "select setseed(0)", SQL_PIN_SETSEED },
		{ "select lastval()", SQL_PIN_SEQUENCE },
		{ "insert into t values (1)", 0 },
		{ "do $$begin perform 1; end$$", 0 },
		{ "do $$begin set work_mem = '1MB'; end$$", SQL_PIN_UNKNOWN | SQL_PIN_RESETS },
		{ "do $$begin create temp table x (a int); end$$", SQL_PIN_UNKNOWN },
		{ "do $$begin perform set_config('a', 'b', false); end$$", SQL_PIN_SETTING },
		{ "do $$declare x int := 1; begin x := 2; if x = 2 then x := 3; else null; end if; end$$", 0 },
		{ "select 1; set work_mem = '1MB'", SQL_PIN_SETTING },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (pins_of(rows[i].sql) != rows[i].pins)
			fail_msg("%s: %x", rows[i].sql, pins_of(rows[i].sql));
}

static void test_rule_e5_temporary_objects(void **state)
{
	static const char *const yes[] = {
		"create temp table t (a int)",
		"create temporary view v as select 1",
		"create temp sequence s",
		"select 1 into temp t",
		"create temp table t as select 1",
		"create table pg_temp.t (a int)",
		"create function pg_temp.f() returns int language sql as 'select 1'",
		"explain analyze create temp table t as select 1",
	};
	static const char *const no[] = { "create table t (a int)", "select 1 into t", "create view v as select 1" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		if (!(pins_of(yes[i]) & SQL_PIN_TEMP))
			fail_msg("%s", yes[i]);
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		if (pins_of(no[i]) & SQL_PIN_TEMP)
			fail_msg("%s", no[i]);
}

/* --- names --- */

static bool has_ref(struct sql_refs refs, const char *schema, const char *name)
{
	for (unsigned i = 0; i < refs.n; i++)
		if (str_eq(str_of(refs.v[i].schema), str_of(schema)) && str_eq(str_of(refs.v[i].name), str_of(name)))
			return true;
	return false;
}

static void test_names(void **state)
{
	(void)state;
	struct sql_facts *f =
	    parse("with c as (select 1) select app.f(t.a), t.b.d, (x.y).z, u::app.mood, a operator(app.+) b, "
	          "case c when 1 then 2 end from app.users t, c, lateral g(1) as h where e between 1 and 2");
	assert_true(has_ref(f->relations, "app", "users"));
	assert_true(has_ref(f->relations, NULL, "c"));
	assert_true(has_ref(f->functions, "app", "f"));
	assert_true(has_ref(f->functions, NULL, "g"));
	assert_true(has_ref(f->types, "app", "mood"));
	assert_true(has_ref(f->operators, "app", "+"));
	assert_true(has_ref(f->operators, NULL, "="));
	assert_true(has_ref(f->operators, NULL, ">="));
	assert_true(has_ref(f->columns, "t", "a"));
	assert_true(has_ref(f->columns, "b", "d"));
	assert_true(has_ref(f->columns, NULL, "z"));
	assert_true(has_ref(f->aliases, "t", "users"));
	assert_true(has_ref(f->aliases, "c", NULL));
	assert_true(has_ref(f->aliases, "h", NULL));
	for (unsigned i = 0; i < f->relations.n; i++)
		assert_int_equal(f->relations.v[i].cte, strcmp(f->relations.v[i].name, "c") == 0);
	sql_facts_unref(f);
}

static void test_references(void **state)
{
	(void)state;
	struct sql_facts *f = parse("select 1");
	assert_ptr_equal(sql_facts_ref(f), f);
	sql_facts_unref(f);
	assert_int_equal(f->n_stmts, 1);
	sql_facts_unref(f);
	sql_facts_unref(NULL);
}

/* --- what cannot be parsed --- */

static void test_unparsed(void **state)
{
	(void)state;
	struct sql_facts *f = parse("selec 1");
	assert_int_equal(f->unparsed, SQL_UNPARSED_SYNTAX);
	assert_int_equal(f->pins, SQL_PIN_UNKNOWN);
	sql_facts_unref(f);
	/* A newer syntax: what it calls is known by its tokens. */
	f = parse("select 1_000, pg_advisory_lock(1)");
	assert_int_equal(f->unparsed, SQL_UNPARSED_SYNTAX);
	assert_int_equal(f->stmts[0].verb, SQL_SELECT);
	assert_int_equal(f->pins, SQL_PIN_ADVISORY_LOCK);
	sql_facts_unref(f);
	f = parse("select 1_000 into temp x");
	assert_int_equal(f->pins, SQL_PIN_UNKNOWN);
	sql_facts_unref(f);
	f = parse("create table x (a int) with nonsense 1");
	assert_true(f->flags & SQL_F_DDL);
	assert_int_equal(f->pins, 0);
	sql_facts_unref(f);
	f = sqlparse(STR("select '\\'' || '"), (struct sqlparse_options){ .std_strings = false });
	assert_int_equal(f->unparsed, SQL_UNPARSED_BACKSLASH);
	sql_facts_unref(f);
	f = sqlparse(STR("select '\xe9'"), (struct sqlparse_options){ .std_strings = true, .ascii_unsafe = true });
	assert_int_equal(f->unparsed, SQL_UNPARSED_NONE);
	sql_facts_unref(f);
	f = sqlparse(STR("select \xe9\x5c"), (struct sqlparse_options){ .std_strings = true, .ascii_unsafe = true });
	assert_int_equal(f->unparsed, SQL_UNPARSED_ENCODING);
	sql_facts_unref(f);
	f = sqlparse((struct str){ "select 1\0 2", 11 }, standard);
	assert_int_equal(f->unparsed, SQL_UNPARSED_ENCODING);
	sql_facts_unref(f);
}

static char *repeat(const char *head, const char *unit, const char *middle, const char *close, size_t n)
{
	size_t a = strlen(unit), b = strlen(close), size = strlen(head) + strlen(middle) + n * (a + b) + 1;
	char *s = mem_alloc(size), *p = s;
	p = stpcpy(p, head);
	for (size_t i = 0; i < n; i++)
		p = stpcpy(p, unit);
	p = stpcpy(p, middle);
	for (size_t i = 0; i < n; i++)
		p = stpcpy(p, close);
	return s;
}

static void test_too_large(void **state)
{
	(void)state;
	char *sql = repeat("insert into t values (0)", ",(1,'x',now())", "", "", 20000);
	struct sql_facts *f = parse(sql);
	assert_int_equal(f->unparsed, SQL_UNPARSED_TOO_LARGE);
	assert_int_equal(f->stmts[0].verb, SQL_INSERT);
	assert_int_equal(f->pins, 0);
	sql_facts_unref(f);
	mem_free(sql);
	sql = repeat("insert into t values (0)", ",(1,'x')", "", "", 200000);
	f = parse(sql);
	assert_int_equal(f->pins, SQL_PIN_UNKNOWN);
	sql_facts_unref(f);
	mem_free(sql);
}

/* Each shape of nesting that the grammar has, filling the parse bound: refused or parsed, never a crash. */
static void *nest_all(void *unused)
{
	static const struct {
		const char *head, *unit, *middle, *close;
	} kinds[] = {
		{ "select ", "(", "1", ")" },
		{ "select ", "(select ", "1", ")" },
		{ "select ", "f(", "1", ")" },
		{ "select 1", "+1", "", "" },
		{ "select ", "not ", "true", "" },
		{ "select ", "- ", "1", "" },
		{ "select 1", "::a", "", "" },
		{ "select 1", " union select 1", "", "" },
		{ "select 1", " union select 1, 2", "", "" },
		{ "select 1 from a", " cross join a", "", "" },
		{ "select 1 from a", " join a on b and c", "", "" },
		{ "select ", "case when a then 1 else ", "1", " end" },
		{ "select ", "case when ", "1", " then 1 end" },
		{ "select ", "case when a.end then 1 else ", "1", " end" },
		{ "select ", "1 between 1 and not ", "true", "" },
		{ "select ", "a or not ", "true", "" },
		{ "select 1", " and 1", "", "" },
		{ "select 1", ", 1", "", "" },
		{ "select a", "[1]", "", "" },
		{ "select a", ".b", "", "" },
		{ "select a", " collate \"C\"", "", "" },
		{ "select a", " at time zone b", "", "" },
		{ "select a", " is not null", "", "" },
		{ "", "(select 1 as end from ", "a", ") x" },
		{ "with ", "a as (with ", "b as (select 1)", " select 1)" },
		{ "select ", "array[", "1", "]" },
		{ "select ", "(1, ", "1", ")" },
		{ "select 1", "; select 1", "", "" },
		{ "select * from ", "(a cross join ", "a", ")" },
		{ "select * from ", "(select * from ", "a", ") x" },
		{ "select a", "||'x'||f(1,2)", "", "" },
		{ "select x in (1", ",1", "", ")" },
		{ "explain ", "explain ", "select 1", "" },
		{ "prepare a as ", "select ", "1", "" },
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		size_t unit = strlen(kinds[i].unit) + strlen(kinds[i].close);
		for (size_t n = 100; n * unit < 65000; n = n * 3 / 2) {
			char *sql = repeat(kinds[i].head, kinds[i].unit, kinds[i].middle, kinds[i].close, n);
			sql_facts_unref(parse(sql));
			mem_free(sql);
		}
	}
	sqlparse_exit();
	return NULL;
}

static void test_nesting_stays_on_the_stack(void **state)
{
	pthread_attr_t attr;
	pthread_t thread;
	(void)state;
	/* Half of what a worker has. */
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, 4 * 1024 * 1024), 0);
	assert_int_equal(pthread_create(&thread, &attr, nest_all, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&attr);
}

static void test_ordinary_depth_is_parsed(void **state)
{
	(void)state;
	static const struct {
		const char *head, *unit, *middle, *close;
		size_t n;
	} kinds[] = {
		{ "select * from t where a = 0", " or (a = 1 and b = 2)", "", "", 2000 },
		{ "select * from t where a in (0", ",1", ")", "", 20000 },
		{ "select 0", ", t.a as b", "", "", 5000 },
		{ "insert into t values (0)", ", (1, 'a', 2.5)", "", "", 3000 },
		{ "select ", "(", "1", ")", 200 },
		{ "select 1", " union all select 1", "", "", 200 },
		{ "select 1", " + 1", "", "", 500 },
	};
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		char *sql = repeat(kinds[i].head, kinds[i].unit, kinds[i].middle, kinds[i].close, kinds[i].n);
		struct sql_facts *f = parse(sql);
		if (f->unparsed)
			fail_msg("%.40s: %s", sql, sql_unparsed_name(f->unparsed));
		sql_facts_unref(f);
		mem_free(sql);
	}
}

/* --- PL/pgSQL bodies --- */

static void test_plpgsql_bodies(void **state)
{
	static const struct {
		const char *body;
		uint32_t flags, pins;
	} rows[] = {
		{ "begin return 1; end", 0, 0 },
		{ "begin insert into t values (1); end", SQL_F_WRITES, 0 },
		{ "begin for r in update t set a = 1 returning a loop end loop; end", SQL_F_WRITES, 0 },
		{ "begin return 1; exception when others then return 0; end", SQL_F_SWALLOWS_ERRORS, 0 },
		{ "begin raise exception 'x'; end", 0, 0 },
		{ "begin execute 'x'; end", SQL_F_DYNAMIC, SQL_PIN_UNKNOWN | SQL_PIN_RESETS },
		{ "begin return query execute q; end", SQL_F_DYNAMIC, SQL_PIN_UNKNOWN | SQL_PIN_RESETS },
		{ "begin set work_mem = 1; end", SQL_F_UNKNOWN_NODE, SQL_PIN_UNKNOWN | SQL_PIN_RESETS },
		{ "begin if a then reset all; end if; end", SQL_F_UNKNOWN_NODE, SQL_PIN_UNKNOWN | SQL_PIN_RESETS },
		{ "begin create temp table x (a int); end", SQL_F_DDL, SQL_PIN_UNKNOWN },
		{ "begin perform a from t for share; end", SQL_F_LOCKS_ROWS, 0 },
		{ "begin commit; end", SQL_F_TX_CONTROL_INSIDE, 0 },
		{ "begin call p(); end", SQL_F_WRITES, 0 },
		{ "begin frobnicate all; end", SQL_F_UNKNOWN_NODE, SQL_PIN_UNKNOWN },
		{ "declare set integer := 1; load text; begin return set; end", 0, 0 },
		{ "<<outer>> declare a int; begin <<inner>> loop exit outer when a > 1; end loop; end", 0, 0 },
		{ "begin a := now(); b.c := 1; d[1] := 2; e = 3; return; end", SQL_F_SHOWS_TIME, 0 },
		{ "begin return 'unterminated; end", SQL_F_UNKNOWN_NODE, SQL_PIN_UNKNOWN },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sql_facts *f = sqlparse_plpgsql(str_of(rows[i].body));
		uint32_t judged = SQL_F_WRITES | SQL_F_SWALLOWS_ERRORS | SQL_F_DYNAMIC | SQL_F_UNKNOWN_NODE |
		                  SQL_F_DDL | SQL_F_LOCKS_ROWS | SQL_F_TX_CONTROL_INSIDE | SQL_F_SHOWS_TIME;
		if ((f->flags & judged) != rows[i].flags || f->pins != rows[i].pins)
			fail_msg("%s: %x %x", rows[i].body, f->flags, f->pins);
		sql_facts_unref(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verbs),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_rule_c3_exact_tags),
		cmocka_unit_test(test_rule_a3_transaction_control_inside),
		cmocka_unit_test(test_rule_c7_no_transaction_block),
		cmocka_unit_test(test_rule_c5_dumps),
		cmocka_unit_test(test_rule_c6_snapshots),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_prepared_names),
		cmocka_unit_test(test_prepared_statement),
		cmocka_unit_test(test_prepared_params),
		cmocka_unit_test(test_rule_c1_transaction_time),
		cmocka_unit_test(test_rule_d3_fixed_result),
		cmocka_unit_test(test_literal_sensitive),
		cmocka_unit_test(test_pins),
		cmocka_unit_test(test_rule_e5_temporary_objects),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_unparsed),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_nesting_stays_on_the_stack),
		cmocka_unit_test(test_ordinary_depth_is_parsed),
		cmocka_unit_test(test_plpgsql_bodies),
	};
	rules_init();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	sqlparse_exit();
	return failed;
}
