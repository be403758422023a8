/* Prepared statements: shared texts, clients' names while answers are pending, backends' bounded tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include "base/mem.h"
#include "proxy/pstmt.h"

enum { UNUSED_BYTES = 100 };

static struct stmt_texts texts;
static int shapes_dropped;

static void drop_shape(struct sql_shape *shape)
{
	(void)shape;
	shapes_dropped++;
}

static int setup(void **state)
{
	(void)state;
	shapes_dropped = 0;
	stmt_texts_init(&texts, UNUSED_BYTES, drop_shape);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unsigned held = HASH_COUNT(texts.by_key) - texts.n_unused;
	stmt_texts_deinit(&texts);
	return held == 0 && texts.by_key == NULL && texts.unused_bytes == 0 ? 0 : -1;
}

/* A Parse body: text, NUL, no types. */
static struct stmt_text *text_of(const char *sql)
{
	uint8_t body[256] = { 0 };
	size_t n = strlen(sql);
	assert_true(n + 3 <= sizeof body);
	memcpy(body, sql, n);
	struct stmt_text *s = stmt_texts_intern(&texts, body, n + 3);
	assert_non_null(s);
	return s;
}

static void drop(struct stmt_text *s) { stmt_text_unref(&texts, s); }

/* --- texts --- */

static void test_equal_bodies_are_one_text(void **state)
{
	(void)state;
	struct stmt_text *a = text_of("select 1"), *b = text_of("select 1"), *c = text_of("select 2");
	assert_ptr_equal(a, b);
	assert_int_equal(a->refs, 2);
	assert_ptr_not_equal(a, c);
	assert_int_not_equal(a->id, c->id);
	assert_int_equal(stmt_text_sql(a).n, 8);
	assert_memory_equal(stmt_text_sql(a).p, "select 1", 9);
	drop(a);
	drop(b);
	drop(c);
}

/* The types belong to the statement: $1 as int4 or as text is not the same. */
static void test_types_tell_texts_apart(void **state)
{
	(void)state;
	const uint8_t int4[] = { 'x', 0, 0, 1, 0, 0, 0, 23 }, text[] = { 'x', 0, 0, 1, 0, 0, 0, 25 };
	struct stmt_text *a = stmt_texts_intern(&texts, int4, sizeof int4);
	struct stmt_text *b = stmt_texts_intern(&texts, text, sizeof text);
	assert_non_null(a);
	assert_ptr_not_equal(a, b);
	assert_int_equal(stmt_text_sql(a).n, 1);
	drop(a);
	drop(b);
}

static void test_unused_texts_stay_for_a_while(void **state)
{
	(void)state;
	struct stmt_text *a = text_of("select 1");
	uint32_t id = a->id;
	drop(a);
	assert_int_equal(texts.n_unused, 1);
	assert_int_equal(texts.unused_bytes, 11);
	a = text_of("select 1"); /* as found again, not as made anew */
	assert_int_equal(a->id, id);
	assert_int_equal(texts.n_unused, 0);
	assert_int_equal(texts.unused_bytes, 0);
	drop(a);
}

static void test_oldest_unused_text_leaves_first(void **state)
{
	(void)state;
	char sql[41];
	memset(sql, 'x', 40);
	sql[40] = '\0';
	uint32_t ids[3];
	for (int i = 0; i < 3; i++) { /* 43 bytes each: two fit */
		sql[0] = (char)('a' + i);
		struct stmt_text *s = text_of(sql);
		ids[i] = s->id;
		drop(s);
	}
	assert_int_equal(texts.n_unused, 2);
	for (int i = 2; i >= 0; i--) {
		sql[0] = (char)('a' + i);
		struct stmt_text *s = text_of(sql);
		assert_true(i == 0 ? s->id != ids[i] : s->id == ids[i]);
		drop(s);
	}
}

static void test_text_larger_than_the_bound_goes_at_once(void **state)
{
	(void)state;
	char sql[UNUSED_BYTES + 10];
	memset(sql, 'x', sizeof sql - 1);
	sql[sizeof sql - 1] = '\0';
	struct stmt_text *s = text_of(sql);
	s->shape = (struct sql_shape *)(void *)&texts; /* any address: only counted */
	drop(s);
	assert_int_equal(texts.n_unused, 0);
	assert_int_equal(shapes_dropped, 1);
	drop(NULL);
}

static void test_no_memory_for_a_text(void **state)
{
	(void)state;
	const uint8_t body[] = { 'x', 0, 0, 0 };
	mem_fail_after(1);
	assert_null(stmt_texts_intern(&texts, body, sizeof body));
	mem_fail_after(0);
	assert_int_equal(HASH_COUNT(texts.by_key), 0);
}

static void test_server_names(void **state)
{
	(void)state;
	static const struct {
		uint32_t id;
		const char *name;
	} rows[] = { { 1, "pgweir_1" },
		     { 15, "pgweir_f" },
		     { 16, "pgweir_10" },
		     { 0x1000, "pgweir_1000" },
		     { 0xffffffff, "pgweir_ffffffff" },
		     { 0, "pgweir_0" } };
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct stmt_text s = { .id = rows[i].id };
		stmt_text_make_name(&s);
		assert_true(str_eq(stmt_text_server_name(&s), str_of(rows[i].name)));
		assert_string_equal(s.server_name, rows[i].name);
	}
}

/* --- a client's names --- */

static void test_name_means_its_text_from_parse_on(void **state)
{
	(void)state;
	struct client_stmts c = { 0 };
	struct stmt_text *t = text_of("select 1");
	assert_null(client_stmts_find(&c, STR("s")));
	struct cstmt *s = client_stmts_parse(&c, STR("s"), t);
	assert_ptr_equal(client_stmts_find(&c, STR("s")), s); /* for a Bind in the same pipeline */
	assert_int_equal(t->refs, 2);
	client_stmts_parse_done(&c, &texts, s, true);
	assert_int_equal(s->state, CSTMT_CONFIRMED);
	assert_null(client_stmts_find(&c, STR("S")));
	assert_null(client_stmts_find(&c, STR("ss")));
	drop(t);
	client_stmts_deinit(&c, &texts);
}

static void test_failed_parse_never_was(void **state)
{
	(void)state;
	struct client_stmts c = { 0 };
	struct stmt_text *t = text_of("selec 1");
	struct cstmt *s = client_stmts_parse(&c, STR("s"), t);
	client_stmts_parse_done(&c, &texts, s, false);
	assert_null(client_stmts_find(&c, STR("s")));
	assert_int_equal(t->refs, 1);
	drop(t);
	client_stmts_deinit(&c, &texts);
}

static void test_close_takes_effect_when_answered(void **state)
{
	(void)state;
	struct client_stmts c = { 0 };
	struct stmt_text *t = text_of("select 1");
	struct cstmt *s = client_stmts_parse(&c, STR("s"), t);
	client_stmts_parse_done(&c, &texts, s, true);
	client_stmts_close(s);
	assert_null(client_stmts_find(&c, STR("s")));  /* for what is sent behind it */
	client_stmts_close_done(&c, &texts, s, false); /* skipped after an error: the name lives on */
	assert_ptr_equal(client_stmts_find(&c, STR("s")), s);
	client_stmts_close(s);
	client_stmts_close_done(&c, &texts, s, true);
	assert_null(client_stmts_find(&c, STR("s")));
	assert_int_equal(t->refs, 1);
	drop(t);
	client_stmts_deinit(&c, &texts);
}

/* Close(s) Parse(s) in one pipeline: two entries of one name until the answers are there. */
static void test_name_closed_and_made_again(void **state)
{
	(void)state;
	for (int fails = 0; fails < 2; fails++) {
		struct client_stmts c = { 0 };
		struct stmt_text *t1 = text_of("select 1"), *t2 = text_of("select 2");
		struct cstmt *old = client_stmts_parse(&c, STR("s"), t1);
		client_stmts_parse_done(&c, &texts, old, true);
		client_stmts_close(old);
		struct cstmt *new = client_stmts_parse(&c, STR("s"), t2);
		assert_ptr_equal(client_stmts_find(&c, STR("s")), new);
		assert_ptr_equal(new->older, old);
		/* The server answers in order; an error before both skips both. */
		client_stmts_close_done(&c, &texts, old, !fails);
		client_stmts_parse_done(&c, &texts, new, !fails);
		struct cstmt *left = client_stmts_find(&c, STR("s"));
		assert_non_null(left);
		assert_ptr_equal(left->text, fails ? t1 : t2);
		assert_null(left->older);
		client_stmts_deinit(&c, &texts);
		assert_int_equal(t1->refs + t2->refs, 2);
		drop(t1);
		drop(t2);
	}
}

/* Close succeeds, the new Parse fails: the name is free. */
static void test_name_closed_and_not_made_again(void **state)
{
	(void)state;
	struct client_stmts c = { 0 };
	struct stmt_text *t = text_of("select 1");
	struct cstmt *old = client_stmts_parse(&c, STR("s"), t);
	client_stmts_parse_done(&c, &texts, old, true);
	client_stmts_close(old);
	struct cstmt *new = client_stmts_parse(&c, STR("s"), t);
	client_stmts_close_done(&c, &texts, old, true);
	client_stmts_parse_done(&c, &texts, new, false);
	assert_null(client_stmts_find(&c, STR("s")));
	assert_null(c.by_name);
	drop(t);
	client_stmts_deinit(&c, &texts);
}

/* Parse(s) Close(s) in one pipeline: the Close refers to an entry whose Parse has failed. */
static void test_closed_before_its_parse_failed(void **state)
{
	(void)state;
	struct client_stmts c = { 0 };
	struct stmt_text *t = text_of("selec 1");
	struct cstmt *s = client_stmts_parse(&c, STR("s"), t);
	client_stmts_close(s);
	client_stmts_parse_done(&c, &texts, s, false);
	assert_null(client_stmts_find(&c, STR("s")));
	client_stmts_close_done(&c, &texts, s, false);
	assert_null(client_stmts_find(&c, STR("s")));
	assert_null(c.by_name);
	s = client_stmts_parse(&c, STR("s"), t); /* the Parse was fine, the Close is skipped after another error */
	client_stmts_close(s);
	client_stmts_parse_done(&c, &texts, s, true);
	client_stmts_close_done(&c, &texts, s, false);
	assert_ptr_equal(client_stmts_find(&c, STR("s")), s);
	drop(t);
	client_stmts_deinit(&c, &texts);
}

static void test_client_leaves_in_mid_pipeline(void **state)
{
	(void)state;
	struct client_stmts c = { 0 };
	struct stmt_text *t = text_of("select 1");
	struct cstmt *s = client_stmts_parse(&c, STR("s"), t);
	client_stmts_parse_done(&c, &texts, s, true);
	client_stmts_close(s);
	assert_non_null(client_stmts_parse(&c, STR("s"), t));
	assert_non_null(client_stmts_parse(&c, STR("other"), t));
	client_stmts_set_unnamed(&c, &texts, t);
	client_stmts_deinit(&c, &texts);
	assert_int_equal(t->refs, 1);
	drop(t);
}

static void test_unnamed_statement(void **state)
{
	(void)state;
	struct client_stmts c = { 0 };
	struct stmt_text *t = text_of("select 1"), *u = text_of("select 2");
	client_stmts_set_unnamed(&c, &texts, t);
	client_stmts_set_unnamed(&c, &texts, t); /* onto itself: the reference must not be lost on the way */
	assert_int_equal(t->refs, 2);
	client_stmts_set_unnamed(&c, &texts, u);
	assert_int_equal(t->refs, 1);
	client_stmts_set_unnamed(&c, &texts, NULL);
	assert_int_equal(u->refs, 1);
	drop(t);
	drop(u);
}

static void test_no_memory_for_a_name(void **state)
{
	(void)state;
	struct client_stmts c = { 0 };
	struct stmt_text *t = text_of("select 1");
	mem_fail_after(1);
	assert_null(client_stmts_parse(&c, STR("s"), t));
	mem_fail_after(0);
	assert_int_equal(t->refs, 1);
	assert_null(client_stmts_find(&c, STR("s")));
	drop(t);
	client_stmts_deinit(&c, &texts);
}

/* --- a backend's statements --- */

static void test_server_has_each_text_once(void **state)
{
	(void)state;
	struct server_stmts s;
	server_stmts_init(&s);
	struct stmt_text *t = text_of("select 1");
	assert_null(server_stmts_find(&s, t, 1));
	struct sstmt *e = server_stmts_add(&s, t, 1);
	assert_true(e->present);
	assert_ptr_equal(server_stmts_find(&s, t, 2), e);
	assert_int_equal(e->used_in, 2);
	assert_int_equal(s.n, 1);
	assert_int_equal(t->refs, 2);
	server_stmts_remove(&s, &texts, e);
	assert_null(server_stmts_find(&s, t, 3));
	assert_int_equal(s.n, 0);
	drop(t);
	server_stmts_clear(&s, &texts);
}

static void test_least_recently_used_leaves(void **state)
{
	(void)state;
	struct server_stmts s;
	struct stmt_text *t[3];
	server_stmts_init(&s);
	for (int i = 0; i < 3; i++) {
		char sql[32];
		(void)snprintf(sql, sizeof sql, "select %d", i);
		t[i] = text_of(sql);
		assert_non_null(server_stmts_add(&s, t[i], 1));
	}
	assert_null(server_stmts_victim(&s, 4, 2)); /* there is room */
	assert_ptr_equal(server_stmts_victim(&s, 3, 2)->text, t[0]);
	assert_non_null(server_stmts_find(&s, t[0], 2));
	assert_ptr_equal(server_stmts_victim(&s, 3, 3)->text, t[1]);
	assert_non_null(server_stmts_find(&s, t[1], 3));
	assert_ptr_equal(server_stmts_victim(&s, 3, 3)->text, t[2]);
	for (int i = 0; i < 3; i++)
		drop(t[i]);
	server_stmts_clear(&s, &texts);
	assert_int_equal(s.n, 0);
}

/* Against the obvious: an array.  Ids are neither dense nor in order, and collide in the table's low bits. */
static void test_table_of_a_backend_is_right(void **state)
{
	(void)state;
	enum { TEXTS = 3000, STEPS = 60000 };
	static struct stmt_text *text[TEXTS];
	static bool there[TEXTS];
	struct server_stmts s;
	unsigned n = 0;
	server_stmts_init(&s);
	memset(there, 0, sizeof there);
	for (int i = 0; i < TEXTS; i++) {
		char sql[32];
		(void)snprintf(sql, sizeof sql, "select %d", i);
		text[i] = text_of(sql);
	}
	srandom(8);
	for (int step = 0; step < STEPS; step++) {
		/* Every 64th of them mostly: runs of occupied places. */
		int i = (int)(random() % 4 ? random() % (TEXTS / 64) * 64 : random() % TEXTS);
		struct sstmt *e = server_stmts_find(&s, text[i], 1);
		assert_int_equal(e != NULL, there[i]);
		if (!e) {
			assert_non_null(server_stmts_add(&s, text[i], 1));
			n++;
		} else {
			assert_ptr_equal(e->text, text[i]);
			server_stmts_remove(&s, &texts, e);
			n--;
		}
		there[i] = !there[i];
		assert_int_equal(s.n, n);
	}
	for (int i = 0; i < TEXTS; i++) {
		assert_int_equal(server_stmts_find(&s, text[i], 1) != NULL, there[i]);
		drop(text[i]);
	}
	server_stmts_clear(&s, &texts);
	assert_int_equal(s.n, 0);
}

/* All have been used: each is put off once, and one is found. */
static void test_victim_among_used_ones(void **state)
{
	(void)state;
	enum { TEXTS = 100 };
	struct stmt_text *text[TEXTS];
	struct server_stmts s;
	server_stmts_init(&s);
	for (int i = 0; i < TEXTS; i++) {
		char sql[32];
		(void)snprintf(sql, sizeof sql, "select %d", i);
		text[i] = text_of(sql);
		assert_non_null(server_stmts_add(&s, text[i], 1));
	}
	for (int i = TEXTS; i-- > 0;)
		assert_non_null(server_stmts_find(&s, text[i], i < TEXTS / 2 ? 2 : 3));
	struct sstmt *e = server_stmts_victim(&s, TEXTS, 2);
	assert_int_equal(e->used_in, 3);
	for (int i = 0; i < TEXTS; i++)
		assert_non_null(server_stmts_find(&s, text[i], 4));
	assert_null(server_stmts_victim(&s, TEXTS, 4));
	assert_non_null(server_stmts_victim(&s, TEXTS, 5));
	for (int i = 0; i < TEXTS; i++)
		drop(text[i]);
	server_stmts_clear(&s, &texts);
}

/* What the running segment has used is still to be executed: it stays, even beyond the bound. */
static void test_running_segment_is_spared(void **state)
{
	(void)state;
	struct server_stmts s;
	server_stmts_init(&s);
	struct stmt_text *a = text_of("select 1"), *b = text_of("select 2");
	assert_non_null(server_stmts_add(&s, a, 7));
	assert_non_null(server_stmts_add(&s, b, 7));
	assert_null(server_stmts_victim(&s, 1, 7));
	assert_ptr_equal(server_stmts_victim(&s, 1, 8)->text, a);
	drop(a);
	drop(b);
	server_stmts_clear(&s, &texts);
}

static void test_doubt(void **state)
{
	(void)state;
	struct server_stmts s;
	server_stmts_init(&s);
	struct stmt_text *a = text_of("select 1"), *b = text_of("select 2");
	assert_non_null(server_stmts_add(&s, a, 1));
	assert_non_null(server_stmts_add(&s, b, 1));
	server_stmts_doubt(&s);
	assert_false(server_stmts_find(&s, a, 2)->present);
	assert_false(server_stmts_find(&s, b, 2)->present);
	assert_int_equal(s.n, 2); /* they still count: their names may be taken */
	drop(a);
	drop(b);
	server_stmts_clear(&s, &texts);
}

static void test_server_unnamed(void **state)
{
	(void)state;
	struct server_stmts s;
	server_stmts_init(&s);
	struct stmt_text *t = text_of("select 1");
	server_stmts_set_unnamed(&s, &texts, t);
	server_stmts_set_unnamed(&s, &texts, t);
	assert_int_equal(t->refs, 2);
	server_stmts_clear(&s, &texts);
	assert_null(s.unnamed);
	assert_int_equal(t->refs, 1);
	drop(t);
}

static void test_no_memory_on_the_server_side(void **state)
{
	(void)state;
	struct server_stmts s;
	server_stmts_init(&s);
	struct stmt_text *t = text_of("select 1");
	mem_fail_after(1);
	assert_null(server_stmts_add(&s, t, 1));
	mem_fail_after(0);
	assert_int_equal(t->refs, 1);
	assert_int_equal(s.n, 0);
	drop(t);
	server_stmts_clear(&s, &texts);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_equal_bodies_are_one_text),
		CASE(test_types_tell_texts_apart),
		CASE(test_unused_texts_stay_for_a_while),
		CASE(test_oldest_unused_text_leaves_first),
		CASE(test_text_larger_than_the_bound_goes_at_once),
		CASE(test_no_memory_for_a_text),
		CASE(test_server_names),
		CASE(test_name_means_its_text_from_parse_on),
		CASE(test_failed_parse_never_was),
		CASE(test_close_takes_effect_when_answered),
		CASE(test_name_closed_and_made_again),
		CASE(test_name_closed_and_not_made_again),
		CASE(test_closed_before_its_parse_failed),
		CASE(test_client_leaves_in_mid_pipeline),
		CASE(test_unnamed_statement),
		CASE(test_no_memory_for_a_name),
		CASE(test_server_has_each_text_once),
		CASE(test_least_recently_used_leaves),
		CASE(test_table_of_a_backend_is_right),
		CASE(test_victim_among_used_ones),
		CASE(test_running_segment_is_spared),
		CASE(test_doubt),
		CASE(test_server_unnamed),
		CASE(test_no_memory_on_the_server_side),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
