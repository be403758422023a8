/* Plans: who answers a segment, and why. */
#include <stdio.h>
#include "proxy/plan.h"
#include "proxy/segment.h"
#include "proxy/server.h"
#include "session.h"
#include "wire/msg.h"

static struct session *x;
static struct client *c;
static struct segment *seg;
static struct buf in;
static struct wire_writer ww;
static struct plan plan;
static struct server server; /* only is_replica of it is looked at */

static int setup(void **state)
{
	(void)state;
	x = session_new("[databases]\napp = host=h\n[pgweir]\npool_mode = transaction\n");
	c = &x->client;
	seg = &x->worker.scan.seg;
	server = (struct server){ 0 };
	buf_clear(&in);
	ww_init(&ww, &in);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	segment_done(&x->worker, seg);
	session_free(x);
	buf_deinit(&in);
	return 0;
}

static const char *const action_names[] = {
#define ACTION_NAME(id, doc) [PLAN_##id] = #id,
	PLAN_ACTIONS(ACTION_NAME)
#undef ACTION_NAME
};

/* Plans what stands in `in`, which is empty afterwards. */
static void look(bool full)
{
	segment_done(&x->worker, seg);
	segment_scan(c, buf_head(&in), buf_len(&in), plan_policy(c), seg);
	plan_segment(c, seg, full, &plan);
	buf_clear(&in);
}

static void assert_action(enum plan_action action)
{
	assert_string_equal(action_names[plan.action], action_names[action]);
}

static void put_statement(const char *sql)
{
	msg_put_parse(&ww, STR(""), str_of(sql), NULL, 0);
	msg_put_bind(&ww, STR(""), STR(""), NULL, 0);
	msg_put_execute(&ww, STR(""), 0);
}

/* The same by both protocols: one Query, or Parse, Bind, Execute, Sync. */
static void assert_plan(const char *sql, enum plan_action action)
{
	put_statement(sql);
	msg_put_sync(&ww);
	look(false);
	assert_action(action);
	msg_put_query(&ww, str_of(sql));
	look(false);
	assert_action(action);
}

static void assert_forward(const char *sql, enum server_role role, enum route_reason reason)
{
	assert_plan(sql, PLAN_FORWARD);
	assert_int_equal(plan.role, role);
	assert_string_equal(route_reason_name(plan.reason), route_reason_name(reason));
}

/* BEGIN as local_answer() leaves it. */
static void begin(const char *sql)
{
	msg_put_query(&ww, str_of(sql));
	look(false);
	assert_action(PLAN_LOCAL);
	c->tx = CTX_DEFERRED;
	c->begin = shape_facts(seg->shape)->stmts[0].begin;
}

/* The first statement of that transaction has been sent. */
static void open_on(bool replica)
{
	server.is_replica = c->txf.on_standby = replica;
	c->srv = &server;
	c->tx = CTX_OPEN;
}

/* --- outside a transaction --- */

static void test_wait_for_more(void **state)
{
	(void)state;
	look(false);
	assert_action(PLAN_WAIT);
	put_statement("select 1");
	look(false);
	assert_action(PLAN_WAIT);
}

static void test_leave(void **state)
{
	(void)state;
	msg_put_terminate(&ww);
	look(false);
	assert_action(PLAN_TERMINATE);
	ww_u8(&ww, 'Z');
	ww_u32(&ww, 4);
	look(false);
	assert_action(PLAN_PROTOCOL);
	assert_string_equal(plan.error.sqlstate, "08P01");
}

static void test_reads_and_writes(void **state)
{
	(void)state;
	assert_forward("select 1", ROLE_REPLICA, REASON_READ);
	assert_true(plan.proved);
	assert_forward("insert into t values (1)", ROLE_PRIMARY, REASON_WRITE);
	assert_forward("select 1 from t for update", ROLE_PRIMARY, REASON_LOCKING);
	assert_forward("select * from t", ROLE_PRIMARY, REASON_UNKNOWN_RELATION);
	assert_forward("nonsense", ROLE_PRIMARY, REASON_SYNTAX);
}

static void test_route_of_the_session(void **state)
{
	(void)state;
	c->routing.route = ROUTE_MODE_PRIMARY;
	assert_forward("select 1", ROLE_PRIMARY, REASON_MODE);
	c->routing.route = ROUTE_MODE_REPLICA;
	assert_forward("select * from t", ROLE_REPLICA, REASON_WISH);
	assert_false(plan.proved);
	assert_forward("delete from t", ROLE_PRIMARY, REASON_WRITE);
}

/* Its state is on the primary: reads must see it too (E5). */
static void test_pinned_client_stays_on_its_server(void **state)
{
	(void)state;
	c->pins = SQL_PIN_TEMP;
	assert_forward("select 1", ROLE_PRIMARY, REASON_SESSION);
}

static void test_part_of_a_segment(void **state)
{
	(void)state;
	/* What has executed nothing may still move when more turns up. */
	msg_put_parse(&ww, STR("s"), STR("select 1"), NULL, 0);
	msg_put_flush(&ww);
	look(false);
	assert_action(PLAN_FORWARD);
	assert_int_equal(plan.role, ROLE_REPLICA);
	put_statement("select 1");
	msg_put_flush(&ww);
	look(false);
	assert_int_equal(plan.role, ROLE_PRIMARY);
	put_statement("select 1");
	look(true);
	assert_action(PLAN_FORWARD);
	assert_int_equal(plan.role, ROLE_PRIMARY);
}

/* A8: several statements go to a replica only if each of them is proved. */
static void test_rule_a8_pipelines_are_not_guessed(void **state)
{
	(void)state;
	put_statement("select 1");
	put_statement("select 2");
	msg_put_sync(&ww);
	look(false);
	assert_int_equal(plan.role, ROLE_REPLICA);
	c->routing.route = ROUTE_MODE_REPLICA;
	put_statement("select 1");
	put_statement("select * from t"); /* by wish only */
	msg_put_sync(&ww);
	look(false);
	assert_action(PLAN_FORWARD);
	assert_int_equal(plan.role, ROLE_PRIMARY);
}

static void test_unknown_portal_or_statement(void **state)
{
	(void)state;
	msg_put_bind(&ww, STR(""), STR("nobody"), NULL, 0);
	msg_put_execute(&ww, STR(""), 0);
	msg_put_sync(&ww);
	look(false);
	assert_action(PLAN_FORWARD); /* for the server's own error */
	assert_int_equal(plan.role, ROLE_PRIMARY);
}

/* --- what is answered here --- */

static void test_answered_here(void **state)
{
	(void)state;
	msg_put_sync(&ww);
	look(false);
	assert_action(PLAN_LOCAL);
	msg_put_close(&ww, MSG_TARGET_STATEMENT, STR("s"));
	msg_put_sync(&ww);
	look(false);
	assert_action(PLAN_LOCAL);
	assert_plan("set pgweir.route = 'primary'", PLAN_LOCAL);
	assert_plan("show pgweir.route", PLAN_LOCAL);
	assert_plan("begin", PLAN_LOCAL);
	assert_plan("start transaction isolation level repeatable read, read only", PLAN_LOCAL);
	msg_put_query(&ww, STR(" ; "));
	look(false);
	assert_action(PLAN_LOCAL);
}

static void test_statement_mode_has_no_transactions(void **state)
{
	(void)state;
	x->du.pool_mode = POOL_MODE_STATEMENT;
	msg_put_query(&ww, STR("begin"));
	look(false);
	assert_int_not_equal(plan.action, PLAN_LOCAL); /* whoever refuses it */
}

static void test_rule_a3_begin_is_deferred_only_when_nothing_ran(void **state)
{
	(void)state;
	put_statement("insert into t values (1)"); /* BEGIN would take it into its transaction */
	put_statement("begin");
	msg_put_sync(&ww);
	look(false);
	assert_action(PLAN_FORWARD);
	assert_int_equal(plan.role, ROLE_PRIMARY);
	put_statement("begin");
	put_statement("select 1");
	msg_put_sync(&ww);
	look(false);
	assert_action(PLAN_FORWARD);
	put_statement("begin"); /* more of this segment is to come */
	msg_put_flush(&ww);
	look(false);
	assert_action(PLAN_FORWARD);
	assert_int_equal(plan.role, ROLE_PRIMARY);
	msg_put_query(&ww, STR("select 1; begin"));
	look(false);
	assert_action(PLAN_FORWARD);
	assert_int_equal(plan.role, ROLE_PRIMARY);
	msg_put_parse(&ww, STR(""), STR("begin"), NULL, 0); /* two messages of one name, one statement: which? */
	msg_put_bind(&ww, STR(""), STR(""), NULL, 0);
	msg_put_parse(&ww, STR(""), STR("commit"), NULL, 0);
	msg_put_execute(&ww, STR(""), 0);
	msg_put_sync(&ww);
	look(false);
	assert_action(PLAN_FORWARD);
}

static void test_rule_c3_notices_and_errors_are_the_servers(void **state)
{
	(void)state;
	assert_plan("commit", PLAN_FORWARD); /* NOTICE 25P01 */
	assert_plan("rollback", PLAN_FORWARD);
	assert_plan("savepoint a", PLAN_FORWARD);
	assert_plan("set transaction read only", PLAN_FORWARD);
	begin("begin");
	assert_plan("begin", PLAN_FORWARD); /* NOTICE 25001 */
	assert_plan("commit and chain", PLAN_FORWARD);
	assert_plan("rollback and chain", PLAN_FORWARD);
}

static void test_deferred_transaction_that_ends_at_once(void **state)
{
	(void)state;
	begin("begin");
	assert_plan("commit", PLAN_LOCAL);
	assert_plan("end", PLAN_LOCAL);
	assert_plan("rollback", PLAN_LOCAL);
	assert_plan("set transaction isolation level repeatable read", PLAN_LOCAL);
	msg_put_sync(&ww);
	look(false);
	assert_action(PLAN_LOCAL);
}

/* --- the first statement of a transaction --- */

static void test_transactions_that_may_write_begin_on_a_replica(void **state)
{
	(void)state;
	begin("begin");
	assert_forward("select 1", ROLE_REPLICA, REASON_READ);
	assert_forward("select * from t", ROLE_PRIMARY, REASON_UNKNOWN_RELATION);
	assert_forward("declare c cursor for select 1", ROLE_PRIMARY, REASON_CURSOR_MAY_MOVE);
	assert_forward("savepoint a", ROLE_PRIMARY, REASON_IN_TRANSACTION);
	assert_forward("set local work_mem = '1MB'", ROLE_PRIMARY, REASON_IN_TRANSACTION);
	c->tx = CTX_NONE;
	begin("begin isolation level read uncommitted read write");
	assert_forward("select 1", ROLE_REPLICA, REASON_READ);
	c->routing.transaction_reads = TRANSACTION_READS_PRIMARY;
	assert_forward("select 1", ROLE_PRIMARY, REASON_TRANSACTION_READS);
	c->tx = CTX_NONE;
	begin("begin isolation level repeatable read");
	assert_forward("select 1", ROLE_PRIMARY, REASON_READ_WRITE_TRANSACTION);
}

static void test_read_only_transactions_begin_on_a_replica(void **state)
{
	(void)state;
	begin("begin read only");
	assert_forward("select 1", ROLE_REPLICA, REASON_READ);
	assert_forward("declare c cursor for select 1", ROLE_REPLICA, REASON_READ);
	assert_forward("listen x", ROLE_PRIMARY, REASON_NOTIFY);
	c->tx = CTX_NONE;
	begin("begin isolation level repeatable read read only");
	assert_forward("select 1", ROLE_REPLICA, REASON_READ);
	c->tx = CTX_NONE;
	begin("begin isolation level serializable read only");
	assert_forward("select 1", ROLE_PRIMARY, REASON_SERIALIZABLE);
}

static void test_rule_c2_isolation_comes_from_defaults_too(void **state)
{
	(void)state;
	static const struct {
		const char *own; /* the session's default_transaction_isolation */
		char primary;    /* the primary's */
		char expected;
	} rows[] = { { NULL, 'c', 'c' },
		     { NULL, 'r', 'r' },
		     { NULL, 's', 's' },
		     { NULL, 0, 0 },
		     { "read committed", 's', 'c' },
		     { "read uncommitted", 'c', 'u' },
		     { "repeatable read", 'c', 'r' },
		     { "serializable", 'c', 's' },
		     { "SERIALIZABLE", 'c', 's' },
		     { "Repeatable Read", 'c', 'r' },
		     { "", 'c', 0 },
		     { "r", 'c', 0 } };
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		x->du.primary_isolation = rows[i].primary;
		if (rows[i].own)
			params_set(&x->worker.params, &c->profile, STR("default_transaction_isolation"),
			           str_of(rows[i].own));
		assert_int_equal(plan_isolation(c), rows[i].expected);
		bool splits = rows[i].expected && rows[i].expected != 's';
		begin("begin read only");
		assert_forward("select 1", splits ? ROLE_REPLICA : ROLE_PRIMARY,
		               splits ? REASON_READ : REASON_SERIALIZABLE);
		c->tx = CTX_NONE;
	}
	params_set(&x->worker.params, &c->profile, STR("default_transaction_isolation"), STR("serializable"));
	assert_forward("select 1", ROLE_PRIMARY, REASON_SERIALIZABLE); /* autocommit: a standby would refuse it */
	begin("begin isolation level read committed read only");       /* said aloud: no default counts */
	assert_int_equal(plan_isolation(c), 'c');
}

static void test_rule_c5_a_dump_reads_the_primary(void **state)
{
	(void)state;
	begin("begin isolation level repeatable read read only");
	assert_forward("select 1", ROLE_REPLICA, REASON_READ);
	c->application = mem_strdup("pg_dump");
	assert_forward("select 1", ROLE_PRIMARY, REASON_MODE);
}

/* --- inside a transaction --- */

static void test_open_transaction_stays_where_it_is(void **state)
{
	(void)state;
	begin("begin");
	open_on(false);
	assert_plan("select 1", PLAN_CONTINUE);
	assert_plan("insert into t values (1)", PLAN_CONTINUE);
	assert_plan("commit", PLAN_CONTINUE);
	assert_plan("begin", PLAN_CONTINUE);
	assert_plan(";", PLAN_CONTINUE);
	assert_plan("set pgweir.route = 'primary'", PLAN_LOCAL);
	c->tx = CTX_FAILED;
	assert_plan("select 1", PLAN_CONTINUE);
	assert_plan("rollback", PLAN_CONTINUE);
	assert_plan("set pgweir.route = 'primary'", PLAN_CONTINUE); /* the server refuses it, so nothing is set */
}

static void test_read_only_transaction_on_its_replica(void **state)
{
	(void)state;
	begin("begin read only");
	open_on(true);
	assert_plan("select 1", PLAN_CONTINUE);
	assert_plan("commit", PLAN_CONTINUE);
	assert_plan("fetch 1 from c", PLAN_CONTINUE);
	assert_plan("savepoint a", PLAN_CONTINUE);
}

/* READ COMMITTED takes a snapshot per statement: what a replica cannot do goes on at the primary. */
static void test_read_committed_moves(void **state)
{
	(void)state;
	begin("begin read only");
	open_on(true);
	assert_plan("set work_mem = '1MB'", PLAN_MOVE);
	assert_int_equal(plan.role, ROLE_PRIMARY);
	assert_plan("select * from t", PLAN_MOVE);
	put_statement("select * from t");
	msg_put_flush(&ww);
	look(false);
	assert_action(PLAN_MOVE);
	c->txf.has_state = true; /* a cursor, a savepoint */
	assert_plan("select pg_advisory_lock(1)", PLAN_REJECT);
}

/* What may write leaves nothing on a replica, and leaves it at the first statement that is not a proved read. */
static void test_transactions_that_may_write_move(void **state)
{
	(void)state;
	static const char *const moving[] = {
		"insert into t values (1)",
		"select * from t",
		"select 1 for update",
		"savepoint a",
		"set local work_mem = '1MB'",
		"set transaction isolation level serializable",
		"declare c cursor for select 1",
		"fetch 1 from c",
		"lock table t",
		"set constraints all deferred",
		"begin",
		"commit and chain",
		"rollback and chain",
		"prepare transaction 'x'",
		"select pg_backend_pid()",
		"show transaction_read_only",
		"select 1; commit",
	};
	begin("begin");
	open_on(true);
	for (size_t i = 0; i < ARRAY_LEN(moving); i++) {
		msg_put_query(&ww, str_of(moving[i]));
		look(false);
		if (plan.action != PLAN_MOVE)
			fail_msg("%s: %s", moving[i], action_names[plan.action]);
		assert_int_equal(plan.role, ROLE_PRIMARY);
	}
	assert_plan("select 1", PLAN_CONTINUE);
	assert_int_equal(plan.role, ROLE_REPLICA);
	assert_plan("commit", PLAN_CONTINUE);
	assert_plan("rollback", PLAN_CONTINUE);
	msg_put_query(&ww, STR(";"));
	look(false);
	assert_action(PLAN_CONTINUE);
	msg_put_sync(&ww);
	look(false);
	assert_action(PLAN_CONTINUE);
	c->tx = CTX_FAILED; /* whose end is there */
	assert_plan("insert into t values (1)", PLAN_CONTINUE);
}

/* A portal that outlives its segment would be lost in a move. */
static void test_portals_do_not_stay_on_a_replica(void **state)
{
	(void)state;
	for (int open = 0; open < 2; open++) {
		c->tx = CTX_NONE;
		begin("begin");
		if (open)
			open_on(true);
		enum plan_action away = open ? PLAN_MOVE : PLAN_FORWARD;
		msg_put_parse(&ww, STR(""), STR("select 1"), NULL, 0);
		msg_put_bind(&ww, STR("p"), STR(""), NULL, 0);
		msg_put_execute(&ww, STR("p"), 0);
		msg_put_sync(&ww);
		look(false);
		assert_action(away);
		assert_int_equal(plan.role, ROLE_PRIMARY);
		msg_put_parse(&ww, STR(""), STR("select 1"), NULL, 0);
		msg_put_bind(&ww, STR(""), STR(""), NULL, 0);
		msg_put_execute(&ww, STR(""), 50);
		msg_put_sync(&ww);
		look(false);
		assert_action(away);
		assert_int_equal(plan.role, ROLE_PRIMARY);
		msg_put_parse(&ww, STR(""), STR("select 1"), NULL, 0);
		msg_put_flush(&ww);
		look(false);
		assert_action(open ? PLAN_CONTINUE : PLAN_FORWARD);
		assert_int_equal(plan.role, ROLE_REPLICA);
		put_statement("select 1");
		msg_put_flush(&ww); /* nobody knows what comes next */
		look(false);
		assert_action(away);
		assert_int_equal(plan.role, ROLE_PRIMARY);
	}
}

static void bind_value(const char *value)
{
	struct str v = str_of(value);
	msg_put_parse(&ww, STR(""), STR("select $1"), NULL, 0);
	msg_put_bind(&ww, STR(""), STR(""), &v, 1);
	msg_put_execute(&ww, STR(""), 0);
	msg_put_sync(&ww);
	look(false);
}

static void test_rule_c1_transaction_time_does_not_move(void **state)
{
	(void)state;
	begin("begin");
	assert_forward("select now()", ROLE_PRIMARY, REASON_TRANSACTION_TIME);
	assert_forward("select current_date", ROLE_PRIMARY, REASON_TRANSACTION_TIME);
	bind_value("Now");
	assert_int_equal(plan.role, ROLE_PRIMARY);
	bind_value("[yesterday,)");
	assert_int_equal(plan.role, ROLE_PRIMARY);
	bind_value("now                                                              -infinity"); /* of a length that is
	                                                                                             a letter */
	assert_int_equal(plan.role, ROLE_PRIMARY);
	bind_value("I know the todays");
	assert_int_equal(plan.role, ROLE_REPLICA);
	struct stmt_text *text =
	    stmt_texts_intern(&x->worker.texts, (const uint8_t *)"select $1\0\0", sizeof "select $1\0\0");
	client_stmts_set_unnamed(&c->stmts, &x->worker.texts, text);
	stmt_text_unref(&x->worker.texts, text);
	struct str today = STR("today"); /* to a statement that is known already */
	msg_put_bind(&ww, STR(""), STR(""), &today, 1);
	msg_put_execute(&ww, STR(""), 0);
	msg_put_sync(&ww);
	look(false);
	assert_true(seg->known);
	assert_int_equal(plan.role, ROLE_PRIMARY);
	open_on(true);
	assert_plan("select now()", PLAN_MOVE);
	c->tx = CTX_NONE;
	c->srv = NULL;
	begin("begin read only");
	assert_forward("select now()", ROLE_REPLICA, REASON_READ);
	open_on(true);
	assert_true(plan_may_move(c));
	c->txf.shows_time = true;
	assert_false(plan_may_move(c));
	assert_plan("select pg_advisory_lock(1)", PLAN_REJECT);
}

static void test_rule_b1_no_moves_while_commits_wait_for_standbys(void **state)
{
	(void)state;
	begin("begin");
	assert_forward("select 1", ROLE_REPLICA, REASON_READ);
	atomic_store(&x->db.cluster->runners_ahead, 1);
	assert_forward("select 1", ROLE_PRIMARY, REASON_TRANSACTION_READS);
	c->tx = CTX_NONE;
	begin("begin read only");
	assert_forward("select 1", ROLE_REPLICA, REASON_READ);
}

static void test_rule_c2_set_transaction_comes_too_late(void **state)
{
	(void)state;
	begin("begin");
	c->txf.ran = true; /* it has read on a replica, which it has left */
	assert_forward("set transaction isolation level repeatable read", ROLE_PRIMARY, REASON_IN_TRANSACTION);
	assert_false(plan_takes_snapshot(seg));
	assert_plan("commit", PLAN_LOCAL);
}

static void test_rule_c5_repeatable_read_does_not_move(void **state)
{
	(void)state;
	begin("begin isolation level repeatable read read only");
	open_on(true);
	assert_plan("insert into t values (1)", PLAN_CONTINUE); /* refused there as on a primary */
	assert_plan("notify x", PLAN_CONTINUE);
	assert_plan("select * from t", PLAN_CONTINUE); /* not proved, but no worse than an error */
	assert_plan("select pg_advisory_lock(1)", PLAN_REJECT);
	assert_string_equal(plan.error.sqlstate, "25006");
	assert_int_equal(plan.error.severity, PGERR_ERROR);
	assert_plan("do $$ begin end $$", PLAN_REJECT);
}

/* --- after the server was lost --- */

static void test_lost_transaction(void **state)
{
	(void)state;
	c->tx = CTX_LOST;
	assert_plan("select 1", PLAN_REJECT);
	assert_string_equal(plan.error.sqlstate, "25P02");
	assert_plan("savepoint a", PLAN_REJECT);
	assert_plan("begin", PLAN_REJECT);
	assert_plan("commit and chain", PLAN_REJECT);
	assert_plan("commit", PLAN_LOCAL);
	assert_plan("rollback", PLAN_LOCAL);
	msg_put_sync(&ww);
	look(false);
	assert_action(PLAN_LOCAL);
	msg_put_terminate(&ww);
	look(false);
	assert_action(PLAN_TERMINATE);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	rules_init();
	const struct CMUnitTest tests[] = {
		CASE(test_wait_for_more),
		CASE(test_leave),
		CASE(test_reads_and_writes),
		CASE(test_route_of_the_session),
		CASE(test_pinned_client_stays_on_its_server),
		CASE(test_part_of_a_segment),
		CASE(test_rule_a8_pipelines_are_not_guessed),
		CASE(test_unknown_portal_or_statement),
		CASE(test_answered_here),
		CASE(test_statement_mode_has_no_transactions),
		CASE(test_rule_a3_begin_is_deferred_only_when_nothing_ran),
		CASE(test_rule_c3_notices_and_errors_are_the_servers),
		CASE(test_deferred_transaction_that_ends_at_once),
		CASE(test_transactions_that_may_write_begin_on_a_replica),
		CASE(test_read_only_transactions_begin_on_a_replica),
		CASE(test_rule_c2_isolation_comes_from_defaults_too),
		CASE(test_rule_c5_a_dump_reads_the_primary),
		CASE(test_open_transaction_stays_where_it_is),
		CASE(test_read_only_transaction_on_its_replica),
		CASE(test_read_committed_moves),
		CASE(test_transactions_that_may_write_move),
		CASE(test_portals_do_not_stay_on_a_replica),
		CASE(test_rule_c1_transaction_time_does_not_move),
		CASE(test_rule_b1_no_moves_while_commits_wait_for_standbys),
		CASE(test_rule_c2_set_transaction_comes_too_late),
		CASE(test_rule_c5_repeatable_read_does_not_move),
		CASE(test_lost_transaction),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
