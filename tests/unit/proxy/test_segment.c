/* Segments: where they end, what their names mean, what their statements are. */
#include <stdio.h>
#include <stdlib.h>
#include "proxy/pool.h"
#include "proxy/segment.h"
#include "session.h"
#include "wire/msg.h"

static const char plain_ini[] = "[databases]\napp = host=h\n";

static struct session *x;
static struct segment *seg;
static struct buf in;
static struct wire_writer ww;
static const struct route_policy autocommit = { ROUTE_WISH_AUTO, ROUTE_TX_NONE };

static int setup_with(const char *ini)
{
	x = session_new(ini);
	seg = &x->worker.scan.seg;
	buf_clear(&in);
	ww_init(&ww, &in);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return setup_with(plain_ini);
}

static int teardown(void **state)
{
	(void)state;
	segment_done(&x->worker, seg);
	session_free(x);
	buf_deinit(&in);
	return 0;
}

/* --- a client's input --- */

static void put_query(const char *sql) { msg_put_query(&ww, str_of(sql)); }
static void put_parse(const char *name, const char *sql) { msg_put_parse(&ww, str_of(name), str_of(sql), NULL, 0); }
static void put_bind(const char *portal, const char *name) { msg_put_bind(&ww, str_of(portal), str_of(name), NULL, 0); }
static void put_execute(const char *portal) { msg_put_execute(&ww, str_of(portal), 0); }
static void put_sync(void) { msg_put_sync(&ww); }

static void put_statement(const char *sql)
{
	put_parse("", sql);
	put_bind("", "");
	put_execute("");
}

static void put_raw(uint8_t type, const void *body, size_t n)
{
	ww_begin(&ww, type);
	ww_bytes(&ww, body, n);
	ww_end(&ww);
}

/* A header that promises more than there is: `there` bytes of a message of `len` bytes behind the type. */
static void put_large(uint8_t type, const void *start, size_t n, size_t len, size_t there)
{
	ww_u8(&ww, type);
	ww_u32(&ww, (uint32_t)len);
	ww_bytes(&ww, start, n);
	for (size_t i = 4 + n; i < there; i++)
		ww_u8(&ww, 'x');
}

/* Looks at the first n bytes of what was put: once in memory that ends right behind them, for the sanitizer's sake, and
 * once where they lie, which stays. */
static void scan_bytes(size_t n, struct route_policy policy)
{
	uint8_t *copy = mem_alloc(n + 1);
	memcpy(copy + 1, n ? buf_head(&in) : copy, n);
	segment_done(&x->worker, seg);
	segment_scan(&x->client, copy + 1, n, policy, seg);
	segment_done(&x->worker, seg);
	mem_free(copy);
	segment_scan(&x->client, n ? buf_head(&in) : NULL, n, policy, seg);
}

static void scan_as(struct route_policy policy) { scan_bytes(buf_len(&in), policy); }
static void scan(void) { scan_as(autocommit); }

static void define(const char *name, const char *sql)
{
	uint8_t body[256] = { 0 };
	memcpy(body, sql, strlen(sql));
	struct stmt_text *text = stmt_texts_intern(&x->worker.texts, body, strlen(sql) + 3);
	assert_non_null(text);
	if (*name) {
		struct cstmt *s = client_stmts_parse(&x->client.stmts, str_of(name), text);
		client_stmts_parse_done(&x->client.stmts, &x->worker.texts, s, true);
	} else {
		client_stmts_set_unnamed(&x->client.stmts, &x->worker.texts, text);
	}
	stmt_text_unref(&x->worker.texts, text);
}

static void assert_text(const struct segment_msg *m, const char *sql)
{
	assert_non_null(m->text);
	assert_true(str_eq(stmt_text_sql(m->text), str_of(sql)));
}

static void assert_verdict(enum route_target target, enum route_reason reason)
{
	assert_true(seg->has_verdict);
	assert_string_equal(route_reason_name(seg->verdict.reason), route_reason_name(reason));
	assert_string_equal(route_target_name(seg->verdict.target), route_target_name(target));
}

static void assert_bad(const char *sqlstate)
{
	assert_int_equal(seg->end, SEGMENT_BAD);
	assert_string_equal(seg->error->sqlstate, sqlstate);
	assert_int_equal(seg->error->severity, PGERR_FATAL);
}

/* --- where a segment ends --- */

static void test_nothing(void **state)
{
	(void)state;
	scan();
	assert_int_equal(seg->end, SEGMENT_NOTHING);
	assert_int_equal(seg->n, 0);
	assert_false(seg->has_verdict);
}

static void test_simple_query(void **state)
{
	(void)state;
	put_query("select 1");
	size_t len = buf_len(&in);
	put_query("select 2");
	scan();
	assert_int_equal(seg->end, SEGMENT_QUERY);
	assert_int_equal(seg->n, 1);
	assert_int_equal(seg->len, len); /* the second one is another segment */
	assert_true(seg->executes);
	assert_int_equal(seg->n_executed, 1);
	assert_int_equal(sql_facts_verb(shape_facts(seg->shape)), SQL_SELECT);
	assert_verdict(ROUTE_REPLICA, REASON_READ);
	assert_true(seg->verdict.proved);
}

static void test_extended_query(void **state)
{
	(void)state;
	put_parse("s", "select 1");
	put_bind("p", "s");
	msg_put_describe(&ww, MSG_TARGET_PORTAL, STR("p"));
	put_execute("p");
	put_sync();
	size_t len = buf_len(&in);
	put_sync();
	scan();
	assert_int_equal(seg->end, SEGMENT_SYNC);
	assert_int_equal(seg->n, 5);
	assert_int_equal(seg->len, len);
	assert_true(seg->executes && seg->parses);
	assert_false(seg->unknown || seg->only_close);
	assert_int_equal(seg->n_executed, 1);
	assert_text(&seg->msgs[0], "select 1");
	assert_ptr_equal(seg->msgs[1].text, seg->msgs[0].text);
	assert_true(str_eq(seg->msgs[1].portal, STR("p")));
	assert_true(str_eq(seg->msgs[1].name, STR("s")));
	assert_int_equal(seg->msgs[2].target, 'P');
	assert_true(str_eq(seg->msgs[3].portal, STR("p")));
	assert_verdict(ROUTE_REPLICA, REASON_READ);
}

/* Messages lie one behind the other, and a Bind's rest begins behind its two names. */
static void test_offsets(void **state)
{
	(void)state;
	put_parse("st", "select $1");
	put_bind("por", "st");
	put_sync();
	scan();
	size_t at = 0;
	for (unsigned i = 0; i < seg->n; i++) {
		assert_int_equal(seg->msgs[i].off, at);
		assert_int_equal(buf_head(&in)[at], seg->msgs[i].type);
		at += seg->msgs[i].len;
	}
	assert_int_equal(at, buf_len(&in));
	assert_int_equal(seg->msgs[1].rest, FRAME_HEAD_BYTES + 4 + 3);
}

static void test_other_ends(void **state)
{
	(void)state;
	put_parse("", "select 1");
	msg_put_flush(&ww);
	scan();
	assert_int_equal(seg->end, SEGMENT_FLUSH);
	buf_clear(&in);
	put_parse("", "select 1");
	msg_put_terminate(&ww);
	scan();
	assert_int_equal(seg->end, SEGMENT_TERMINATE);
	buf_clear(&in);
	put_raw(MSG_FUNCTION_CALL, "\0\0\0\1\0\0\0\0\0\0", 10);
	scan();
	assert_int_equal(seg->end, SEGMENT_FCALL);
	assert_true(seg->executes);
	assert_verdict(ROUTE_PRIMARY, REASON_SIDE_EFFECT);
	buf_clear(&in);
	put_parse("", "select 1");
	put_query("select 2"); /* legal: the Query ends what the Parse began */
	scan();
	assert_int_equal(seg->end, SEGMENT_QUERY);
	assert_int_equal(seg->n, 2);
}

/* However the network cuts the input, a segment is seen when it is whole, and nothing beyond is looked at. */
static void test_every_prefix(void **state)
{
	(void)state;
	size_t ends[6];
	put_parse("s", "select 1");
	ends[0] = buf_len(&in);
	put_bind("", "s");
	ends[1] = buf_len(&in);
	msg_put_describe(&ww, MSG_TARGET_STATEMENT, STR("s"));
	ends[2] = buf_len(&in);
	put_execute("");
	ends[3] = buf_len(&in);
	msg_put_close(&ww, MSG_TARGET_STATEMENT, STR("s"));
	ends[4] = buf_len(&in);
	put_sync();
	ends[5] = buf_len(&in);
	for (size_t n = 0, whole = 0; n <= ends[5]; n++) {
		whole += whole < 6 && n == ends[whole];
		scan_bytes(n, autocommit);
		assert_int_equal(seg->n, whole);
		assert_int_equal(seg->len, whole ? ends[whole - 1] : 0);
		assert_int_equal(seg->end, whole == 0 ? SEGMENT_NOTHING : whole < 6 ? SEGMENT_OPEN : SEGMENT_SYNC);
	}
}

static void test_only_close(void **state)
{
	(void)state;
	msg_put_close(&ww, MSG_TARGET_STATEMENT, STR("s"));
	msg_put_close(&ww, MSG_TARGET_PORTAL, STR("p"));
	put_sync();
	scan();
	assert_true(seg->only_close);
	assert_false(seg->has_verdict || seg->executes);
	buf_clear(&in);
	put_parse("s", "select 1");
	msg_put_close(&ww, MSG_TARGET_STATEMENT, STR("s"));
	put_sync();
	scan();
	assert_false(seg->only_close);
}

/* What is left of a COPY that failed: the server drops it, so it means nothing here. */
static void test_stray_copy_messages(void **state)
{
	(void)state;
	put_raw(MSG_COPY_DATA_IN, "row\n", 4);
	put_raw(MSG_COPY_DONE_IN, "", 0);
	put_query("select 1");
	scan();
	assert_int_equal(seg->end, SEGMENT_QUERY);
	assert_int_equal(seg->n, 3);
	assert_int_equal(seg->n_executed, 1);
}

static void test_more_messages_than_a_segment_has_room_for(void **state)
{
	(void)state;
	for (int i = 0; i < SEGMENT_MESSAGES_MAX + 10; i++)
		msg_put_close(&ww, MSG_TARGET_PORTAL, STR(""));
	put_sync();
	scan();
	assert_int_equal(seg->end, SEGMENT_OPEN);
	assert_int_equal(seg->n, SEGMENT_MESSAGES_MAX);
	assert_true(seg->len < buf_len(&in));
}

/* --- what is not the protocol --- */

static void test_malformed_messages(void **state)
{
	(void)state;
	static const struct {
		uint8_t type;
		const char *body;
		size_t n;
	} rows[] = {
		{ MSG_QUERY, "select 1", 8 },
		{ MSG_QUERY, "a\0b", 4 },
		{ MSG_PARSE, "s\0select 1\0", 11 },
		{ MSG_PARSE, "s", 1 },
		{ MSG_BIND, "p\0s", 3 },
		{ MSG_DESCRIBE, "Xs\0", 3 },
		{ MSG_DESCRIBE, "", 0 },
		{ MSG_CLOSE, "Ss\0x", 4 },
		{ MSG_EXECUTE, "p\0\0\0", 4 },
		{ MSG_SYNC, "x", 1 },
		{ MSG_FLUSH, "x", 1 },
		{ MSG_PASSWORD, "x\0", 2 },
		{ 'Z', "I", 1 },
		{ 0, "", 0 },
		{ 0xff, "", 0 },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		buf_clear(&in);
		put_parse("", "select 1"); /* what stands before it is not done either */
		ww_u8(&ww, rows[i].type);
		ww_u32(&ww, (uint32_t)rows[i].n + 4);
		ww_bytes(&ww, rows[i].body, rows[i].n);
		scan();
		assert_bad("08P01");
	}
}

static void test_malformed_length(void **state)
{
	(void)state;
	static const uint32_t lengths[] = { 0, 3, 0x80000000, 0xffffffff };
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		buf_clear(&in);
		ww_u8(&ww, MSG_SYNC);
		ww_u32(&ww, lengths[i]);
		scan();
		assert_bad("08P01");
	}
}

static void test_no_memory_for_a_text(void **state)
{
	(void)state;
	put_parse("s", "select 1");
	mem_fail_after(1);
	segment_scan(&x->client, buf_head(&in), buf_len(&in), autocommit, seg);
	mem_fail_after(0);
	assert_bad("53200");
}

/* Bytes changed at random: anything but a crash, and never more than is there. */
static void test_damaged_input(void **state)
{
	(void)state;
	uint64_t rng = 7;
	put_parse("s", "select 1");
	put_bind("p", "s");
	msg_put_describe(&ww, MSG_TARGET_PORTAL, STR("p"));
	put_execute("p");
	msg_put_close(&ww, MSG_TARGET_STATEMENT, STR("s"));
	put_sync();
	size_t n = buf_len(&in);
	uint8_t *whole = mem_alloc(n);
	memcpy(whole, buf_head(&in), n);
	for (int i = 0; i < 5000; i++) {
		memcpy(buf_head(&in), whole, n);
		for (int k = 0; k < 2; k++) {
			rng = rng * 6364136223846793005u + 1442695040888963407u;
			buf_head(&in)[(rng >> 33) % n] = (uint8_t)(rng >> 20);
		}
		scan();
		assert_true(seg->len <= n);
		assert_true(seg->n <= 6);
	}
	mem_free(whole);
}

/* --- names --- */

static void test_names_of_earlier_segments(void **state)
{
	(void)state;
	define("s", "select 1");
	define("", "select 2");
	put_bind("", "s");
	put_bind("q", "");
	msg_put_describe(&ww, MSG_TARGET_STATEMENT, STR("s"));
	put_bind("r", "t");
	put_sync();
	scan();
	assert_text(&seg->msgs[0], "select 1");
	assert_text(&seg->msgs[1], "select 2");
	assert_text(&seg->msgs[2], "select 1");
	assert_null(seg->msgs[3].text);
	assert_true(seg->unknown);
}

/* What stands before it in the same segment counts first, although nothing of it has been done yet. */
static void test_names_within_a_segment(void **state)
{
	(void)state;
	define("s", "select 1");
	define("", "select 2");
	put_parse("", "select 3");
	put_bind("", "");
	msg_put_close(&ww, MSG_TARGET_STATEMENT, STR("s"));
	put_bind("", "s");
	put_parse("s", "select 4");
	put_bind("", "s");
	msg_put_close(&ww, MSG_TARGET_PORTAL, STR("s")); /* a portal of that name is something else */
	put_bind("", "s");
	put_sync();
	scan();
	assert_text(&seg->msgs[1], "select 3");
	assert_text(&seg->msgs[2], "select 1");
	assert_null(seg->msgs[3].text);
	assert_text(&seg->msgs[5], "select 4");
	assert_text(&seg->msgs[7], "select 4");
	assert_null(x->client.stmts.by_name->older); /* the scan only looks */
	assert_int_equal(x->client.stmts.by_name->state, CSTMT_CONFIRMED);
}

static void test_newest_portal_of_a_name(void **state)
{
	(void)state;
	put_parse("a", "select 1");
	put_parse("b", "insert into t values (1)");
	put_bind("p", "a");
	put_bind("p", "b");
	put_execute("p");
	put_sync();
	scan();
	assert_int_equal(sql_facts_verb(shape_facts(seg->shape)), SQL_INSERT);
	assert_true(seg->flags & SQL_F_WRITES);
}

static void test_portal_of_an_earlier_segment(void **state)
{
	(void)state;
	put_execute("c");
	put_sync();
	scan();
	assert_true(seg->unknown && seg->executes);
	assert_int_equal(seg->n_executed, 1);
	assert_null(seg->shape);
	assert_verdict(ROUTE_STAY, REASON_IN_TRANSACTION);
}

/* --- what it says --- */

static void test_strictest_statement_decides(void **state)
{
	(void)state;
	put_statement("select 1");
	put_statement("insert into t values (1)");
	put_statement("select 2");
	put_sync();
	scan();
	assert_int_equal(seg->n_executed, 3);
	assert_null(seg->shape); /* no single statement */
	assert_verdict(ROUTE_PRIMARY, REASON_WRITE);
	assert_true(seg->flags & SQL_F_WRITES);
}

static void test_parse_alone_is_classified_but_has_no_effects(void **state)
{
	(void)state;
	put_parse("s", "create table t ()");
	msg_put_describe(&ww, MSG_TARGET_STATEMENT, STR("s"));
	put_sync();
	scan();
	assert_verdict(ROUTE_PRIMARY, REASON_DDL);
	assert_false(seg->executes);
	assert_int_equal(seg->flags, 0);
	assert_int_equal(seg->n_executed, 0);
	assert_null(seg->shape);
}

static void test_several_statements_in_a_query(void **state)
{
	(void)state;
	put_query("select 1; update t set a = 1");
	scan();
	assert_int_equal(seg->n_executed, 1);
	assert_int_equal(sql_facts_verb(shape_facts(seg->shape)), SQL_UNPARSED); /* not one statement */
	assert_verdict(ROUTE_PRIMARY, REASON_WRITE);
}

static void test_pins(void **state)
{
	(void)state;
	put_query("listen news");
	scan();
	assert_true(seg->pins & SQL_PIN_LISTEN);
	buf_clear(&in);
	put_statement("set work_mem = '1MB'");
	put_sync();
	scan();
	assert_true(seg->pins & SQL_PIN_SETTING);
	buf_clear(&in);
	put_parse("", "set work_mem = '1MB'"); /* only parsed */
	put_sync();
	scan();
	assert_int_equal(seg->pins, 0);
}

/* Bind Flush, then Execute Sync: the second segment knows nothing of the portal. */
static void test_effects_count_from_bind_on(void **state)
{
	(void)state;
	define("s", "set work_mem = '1MB'");
	put_bind("p", "s");
	msg_put_flush(&ww);
	scan();
	assert_true(seg->pins & SQL_PIN_SETTING);
	buf_clear(&in);
	define("d", "create table t ()");
	put_bind("p", "d");
	put_sync();
	scan();
	assert_true(seg->flags & SQL_F_DDL);
	assert_int_equal(seg->n_executed, 0);
}

static void test_facts_that_are_not_proved_are_none(void **state)
{
	(void)state;
	put_query("select pg_catalog.abs(1)");
	scan();
	assert_verdict(ROUTE_REPLICA, REASON_READ);
	x->facts.ddl_seq++; /* DDL was seen, and not yet followed by a load */
	scan();
	assert_verdict(ROUTE_PRIMARY, REASON_NO_FACTS);
}

static void test_wish(void **state)
{
	(void)state;
	put_query("select * from elsewhere");
	scan();
	assert_verdict(ROUTE_PRIMARY, REASON_UNKNOWN_RELATION);
	scan_as((struct route_policy){ ROUTE_WISH_REPLICA, ROUTE_TX_NONE });
	assert_verdict(ROUTE_REPLICA, REASON_WISH);
	assert_false(seg->verdict.proved);
	buf_clear(&in);
	put_query("select 1");
	scan_as((struct route_policy){ ROUTE_WISH_PRIMARY, ROUTE_TX_NONE });
	assert_verdict(ROUTE_PRIMARY, REASON_MODE);
}

static void test_hints(void **state)
{
	(void)state;
	put_query("/* pgweir: route=primary */ select 1");
	scan();
	assert_verdict(ROUTE_PRIMARY, REASON_MODE);
	assert_int_equal(seg->consistency, -1);
	buf_clear(&in);
	put_query("/* pgweir: route=replica, consistency=eventual */ select * from elsewhere");
	scan();
	assert_verdict(ROUTE_REPLICA, REASON_WISH);
	assert_int_equal(seg->consistency, CONSISTENCY_EVENTUAL);
	buf_clear(&in);
	put_query("/* pgweir: route=sideways, consistency=none */ select 1"); /* no words of ours: a comment */
	scan();
	assert_verdict(ROUTE_REPLICA, REASON_READ);
	assert_int_equal(seg->consistency, -1);
	buf_clear(&in);
	put_query("/* pgweir: route=replica */ delete from t"); /* a wish, never for writes */
	scan();
	assert_verdict(ROUTE_PRIMARY, REASON_WRITE);
}

/* A hint belongs to its text: the same shape without it is judged without it. */
static void test_hint_of_a_prepared_statement(void **state)
{
	(void)state;
	define("hinted", "/* pgweir: route=primary */ select 1");
	define("plain", "select 1");
	put_bind("", "hinted");
	put_execute("");
	put_sync();
	scan();
	scan(); /* from the cache */
	assert_verdict(ROUTE_PRIMARY, REASON_MODE);
	buf_clear(&in);
	put_bind("", "plain");
	put_execute("");
	put_sync();
	scan();
	assert_verdict(ROUTE_REPLICA, REASON_READ);
}

static void test_hints_can_be_forbidden(void **state)
{
	(void)state;
	session_free(x);
	setup_with("[databases]\napp = host=h\n[pgweir]\nallow_route_hints = 0\n");
	put_query("/* pgweir: route=primary, consistency=eventual */ select 1");
	scan();
	assert_verdict(ROUTE_REPLICA, REASON_READ);
	assert_int_equal(seg->consistency, -1);
}

/* What a client's own string syntax makes of a text is not kept with the shared text. */
static void test_string_syntax_of_the_client(void **state)
{
	(void)state;
	define("s", "select 'a\\'' || ';delete from t; --'");
	put_bind("", "s");
	put_execute("");
	put_sync();
	scan();
	x->client.sql_options.std_strings = false;
	scan();
	assert_verdict(ROUTE_PRIMARY, REASON_ENCODING);
}

/* --- large messages --- */

enum { LARGE_BYTES = 1000 * 1000 };

static void test_large_query(void **state)
{
	(void)state;
	put_large(MSG_QUERY, "select '", 8, LARGE_BYTES, SEGMENT_BYTES_MAX / 2 - 2);
	scan();
	assert_int_equal(seg->end, SEGMENT_NOTHING); /* more is to come before it is let go */
	buf_clear(&in);
	put_large(MSG_QUERY, "select '", 8, LARGE_BYTES, SEGMENT_BYTES_MAX / 2);
	scan();
	assert_int_equal(seg->end, SEGMENT_LARGE);
	assert_int_equal(seg->n, 1);
	assert_int_equal(seg->len, buf_len(&in));
	assert_int_equal(seg->msgs[0].len, buf_len(&in));
	assert_int_equal(seg->large_len, LARGE_BYTES + 1);
	assert_true(seg->executes);
	assert_true(seg->pins & SQL_PIN_UNKNOWN); /* nobody knows what it does to the session */
	assert_true(seg->flags & SQL_F_DDL);
	assert_verdict(ROUTE_PRIMARY, REASON_TOO_LARGE);
}

static void test_large_bind(void **state)
{
	(void)state;
	define("s", "select $1::text");
	put_parse("", "select 1");
	put_large(MSG_BIND, "port\0s", 7, LARGE_BYTES, SEGMENT_BYTES_MAX / 2);
	scan();
	assert_int_equal(seg->end, SEGMENT_LARGE);
	assert_int_equal(seg->n, 2);
	assert_true(str_eq(seg->msgs[1].portal, STR("port")));
	assert_text(&seg->msgs[1], "select $1::text");
	assert_int_equal(seg->msgs[1].rest, FRAME_HEAD_BYTES + 7);
	assert_verdict(ROUTE_PRIMARY, REASON_TOO_LARGE);
}

static void test_large_parse(void **state)
{
	(void)state;
	put_large(MSG_PARSE, "big\0select '", 12, LARGE_BYTES, SEGMENT_BYTES_MAX / 2);
	scan();
	assert_int_equal(seg->end, SEGMENT_LARGE);
	assert_true(str_eq(seg->msgs[0].name, STR("big")));
	assert_null(seg->msgs[0].text);
	assert_true(seg->pins & SQL_PIN_PREPARED); /* its name is the server's, not ours */
}

/* As the server would have told. */
static void prepare(const char *name, const char *sql)
{
	static struct pool pool;
	struct server s = { .pool = &pool, .client = &x->client };
	pool.worker = &x->worker;
	sqlprep_init_server(&s);
	segment_done(&x->worker, seg);
	assert_true(sqlprep_mention_prepare(&x->client, seg, str_of(name), str_of(sql)));
	STAILQ_INSERT_TAIL(&s.plain.effects, seg->mentions, link);
	seg->mentions = NULL;
	sqlprep_on_complete(&s, STR("PREPARE"));
	sqlprep_clear_server(&s);
}

static void test_names_of_sql(void **state)
{
	(void)state;
	static const struct {
		const char *sql;
		enum route_target target;
		enum route_reason reason;
		unsigned mentions;
	} rows[] = { { "execute r", ROUTE_REPLICA, REASON_READ, 1 },
		     { "execute r('x')", ROUTE_REPLICA, REASON_READ, 1 },
		     { "execute r(random())", ROUTE_PRIMARY, REASON_PREPARED, 1 },
		     { "execute w", ROUTE_PRIMARY, REASON_WRITE, 1 },
		     { "execute p", ROUTE_REPLICA, REASON_READ, 1 },
		     { "execute unknown", ROUTE_PRIMARY, REASON_PREPARED, 1 },
		     { "explain execute r", ROUTE_PRIMARY, REASON_UTILITY, 1 },
		     { "create table t as execute r", ROUTE_PRIMARY, REASON_DDL, 1 },
		     { "prepare q as select 1", ROUTE_STAY, REASON_PREPARED, 1 },
		     { "deallocate r", ROUTE_STAY, REASON_PREPARED, 1 },
		     { "discard all", ROUTE_PRIMARY, REASON_SESSION, 1 },
		     { "execute r; execute w; execute r", ROUTE_PRIMARY, REASON_PREPARED, 2 } };
	define("p", "select 1");
	prepare("r", "prepare r (text) as select $1");
	prepare("w", "prepare w as delete from t");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		unsigned n = 0;
		buf_clear(&in);
		put_query(rows[i].sql);
		scan();
		assert_verdict(rows[i].target, rows[i].reason);
		assert_false(seg->pins & SQL_PIN_PREPARED);
		for (struct mention *m = seg->mentions; m; m = STAILQ_NEXT(m, link))
			n++;
		assert_int_equal(n, rows[i].mentions);
	}
}

static void test_other_large_messages(void **state)
{
	(void)state;
	static const struct {
		uint8_t type;
		enum segment_end end;
	} rows[] = { { MSG_FUNCTION_CALL, SEGMENT_LARGE },
		     { MSG_COPY_DATA_IN, SEGMENT_LARGE },
		     { MSG_DESCRIBE, SEGMENT_BAD },
		     { MSG_CLOSE, SEGMENT_BAD },
		     { MSG_EXECUTE, SEGMENT_BAD },
		     { MSG_SYNC, SEGMENT_BAD },
		     { 'Z', SEGMENT_BAD } };
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		buf_clear(&in);
		put_large(rows[i].type, "", 0, LARGE_BYTES, SEGMENT_BYTES_MAX);
		scan();
		assert_int_equal(seg->end, rows[i].end);
	}
	/* Names without an end in sight. */
	buf_clear(&in);
	put_large(MSG_BIND, "", 0, LARGE_BYTES, SEGMENT_BYTES_MAX);
	scan();
	assert_bad("08P01");
}

/* A message of up to SEGMENT_BYTES_MAX is kept whole, so it is waited for. */
static void test_largest_message_that_is_kept(void **state)
{
	(void)state;
	put_large(MSG_QUERY, "select '", 8, SEGMENT_BYTES_MAX - 1, SEGMENT_BYTES_MAX - 100);
	scan();
	assert_int_equal(seg->end, SEGMENT_NOTHING);
}

/* --- a statement that was prepared before: found by comparison of bytes, and the same as by the long way --- */

static void put_known(const char *portal, bool describe)
{
	buf_clear(&in);
	put_bind(portal, "s");
	if (describe)
		msg_put_describe(&ww, MSG_TARGET_PORTAL, str_of(portal));
	put_execute(portal);
	put_sync();
}

static void test_known_statement_is_what_the_long_way_says(void **state)
{
	(void)state;
	static const char *const sql[] = { "select 1",          "select now()",    "insert into t values (1)",
		                           "set work_mem to 1", "begin read only", "select pg_advisory_lock(1)",
		                           "create table t ()", "selec",           "" };
	for (size_t i = 0; i < 2 * ARRAY_LEN(sql); i++) {
		bool describe = i % 2;
		client_stmts_deinit(&x->client.stmts, &x->worker.texts);
		define("s", sql[i / 2]);
		put_known("p", describe);
		scan();
		assert_false(seg->known);
		struct segment slow = *seg;
		struct sql_shape *shape = shape_ref(seg->shape);
		put_known("", describe);
		scan();
		assert_true(seg->known);
		assert_int_equal(seg->n, describe ? 4 : 3);
		assert_int_equal(seg->len, buf_len(&in));
		assert_int_equal(seg->end, SEGMENT_SYNC);
		assert_int_equal(seg->flags, slow.flags);
		assert_int_equal(seg->pins, slow.pins);
		assert_int_equal(seg->n_executed, slow.n_executed);
		assert_int_equal(seg->shows_time, slow.shows_time);
		assert_int_equal(seg->single, slow.single);
		assert_int_equal(seg->executes, slow.executes);
		assert_int_equal(seg->unknown, slow.unknown);
		assert_int_equal(seg->only_close, slow.only_close);
		assert_memory_equal(&seg->verdict.target, &slow.verdict.target, sizeof slow.verdict.target);
		assert_int_equal(seg->verdict.reason, slow.verdict.reason);
		assert_int_equal(seg->verdict.proved, slow.verdict.proved);
		assert_ptr_equal(seg->shape, shape);
		shape_unref(shape);
		for (unsigned m = 0, at = 0; m < seg->n; at += seg->msgs[m++].len) {
			assert_int_equal(seg->msgs[m].off, at);
			assert_int_equal(buf_head(&in)[at], seg->msgs[m].type);
		}
		assert_text(&seg->msgs[0], sql[i / 2]);
	}
}

static void test_almost_known_statements_take_the_long_way(void **state)
{
	(void)state;
	define("s", "select 1");
	put_known("", true);
	for (size_t i = 0; i < buf_len(&in); i++) {
		buf_head(&in)[i] ^= 2;
		scan();
		/* Behind "" and "s" stand formats and values, 6 bytes of no interest here. */
		size_t rest = FRAME_HEAD_BYTES + 3;
		assert_int_equal(seg->known, i >= rest && i < rest + 6);
		buf_head(&in)[i] ^= 2;
	}
	for (size_t n = 0; n < buf_len(&in); n++) {
		scan_bytes(n, autocommit);
		assert_false(seg->known);
	}
	put_known("", false);
	put_sync(); /* what follows is the next segment's */
	scan();
	assert_true(seg->known);
	assert_int_equal(seg->len, buf_len(&in) - FRAME_HEAD_BYTES);
}

/* --- the scan of a client that waits --- */

/* The input is the client's own from here on. */
static void keep(void)
{
	x->client.in = in;
	in = (struct buf){ 0 };
	segment_scan(&x->client, buf_head(&x->client.in), buf_len(&x->client.in), autocommit, seg);
	segment_keep(&x->client, seg);
	assert_int_equal(seg->n, 0);
	assert_null(seg->shape);
}

static void forget(void)
{
	segment_forget(&x->client);
	assert_null(segment_kept(&x->client));
	buf_deinit(&x->client.in);
}

static void test_kept_scan_is_the_scan(void **state)
{
	(void)state;
	for (int round = 0; round < 2; round++) { /* the second time the object is a recycled one */
		put_statement("select now()");
		put_sync();
		size_t len = buf_len(&in);
		keep();
		struct segment *kept = segment_kept(&x->client);
		assert_non_null(kept);
		assert_int_equal(kept->end, SEGMENT_SYNC);
		assert_int_equal(kept->len, len);
		assert_int_equal(kept->n, 4);
		assert_text(&kept->msgs[0], "select now()");
		assert_ptr_equal(kept->msgs[1].text, kept->msgs[0].text);
		assert_int_equal(kept->verdict.target, ROUTE_REPLICA);
		assert_non_null(kept->shape);
		assert_ptr_equal(segment_kept(&x->client), kept);
		forget();
		ww_init(&ww, &in);
	}
}

static void test_kept_scan_is_forgotten_when_the_bytes_move(void **state)
{
	(void)state;
	put_query("select 1");
	keep();
	uint8_t *data = x->client.in.data;
	x->client.in.data = mem_alloc(x->client.in.cap);
	memcpy(x->client.in.data, data, x->client.in.cap);
	mem_free(data);
	assert_null(segment_kept(&x->client));
	forget();
}

/* Pins and verdict are as good as the catalog that they were made with. */
static void test_kept_scan_is_forgotten_when_the_facts_change(void **state)
{
	(void)state;
	put_query("select 1");
	keep();
	assert_non_null(segment_kept(&x->client));
	x->facts.ddl_seq++;
	assert_null(segment_kept(&x->client));
	forget();
}

static void test_long_segment_is_not_kept(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		put_statement("select 1");
	put_sync();
	keep();
	assert_null(segment_kept(&x->client));
	forget();
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_nothing),
		CASE(test_simple_query),
		CASE(test_extended_query),
		CASE(test_offsets),
		CASE(test_other_ends),
		CASE(test_every_prefix),
		CASE(test_only_close),
		CASE(test_stray_copy_messages),
		CASE(test_more_messages_than_a_segment_has_room_for),
		CASE(test_malformed_messages),
		CASE(test_malformed_length),
		CASE(test_no_memory_for_a_text),
		CASE(test_damaged_input),
		CASE(test_names_of_earlier_segments),
		CASE(test_names_within_a_segment),
		CASE(test_newest_portal_of_a_name),
		CASE(test_portal_of_an_earlier_segment),
		CASE(test_strictest_statement_decides),
		CASE(test_parse_alone_is_classified_but_has_no_effects),
		CASE(test_several_statements_in_a_query),
		CASE(test_pins),
		CASE(test_effects_count_from_bind_on),
		CASE(test_facts_that_are_not_proved_are_none),
		CASE(test_wish),
		CASE(test_hints),
		CASE(test_hint_of_a_prepared_statement),
		CASE(test_hints_can_be_forbidden),
		CASE(test_string_syntax_of_the_client),
		CASE(test_large_query),
		CASE(test_large_bind),
		CASE(test_large_parse),
		CASE(test_names_of_sql),
		CASE(test_other_large_messages),
		CASE(test_largest_message_that_is_kept),
		CASE(test_known_statement_is_what_the_long_way_says),
		CASE(test_almost_known_statements_take_the_long_way),
		CASE(test_kept_scan_is_the_scan),
		CASE(test_kept_scan_is_forgotten_when_the_bytes_move),
		CASE(test_kept_scan_is_forgotten_when_the_facts_change),
		CASE(test_long_segment_is_not_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
