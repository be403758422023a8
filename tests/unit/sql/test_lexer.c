/* test_lexer.c - tokens by table, against PostgreSQL's own scanner, and what fingerprints hold together and apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pg_query.h>
#include <pg_query/pg_query.pb-c.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/rules.h"
#include "fixture.h"
#include "sql/fingerprint.h"
#include "sql/lexer.h"

/* Kinds by letter, so that a row of tokens is readable. */
static char letter(enum sql_token_kind kind)
{
	static const char letters[] = {
		[TOKEN_END] = '.',     [TOKEN_WORD] = 'w',     [TOKEN_QUOTED] = 'q', [TOKEN_UQUOTED] = 'u',
		[TOKEN_STRING] = 's',  [TOKEN_NATIONAL] = 'n', [TOKEN_BITS] = 'b',   [TOKEN_HEX] = 'x',
		[TOKEN_INTEGER] = 'i', [TOKEN_FLOAT] = 'f',    [TOKEN_PARAM] = '$',  [TOKEN_OPERATOR] = 'o',
		[TOKEN_PUNCT] = 'p',   [TOKEN_BAD] = '!'
	};
	return letters[kind];
}

static void kinds_of(const char *sql, bool std_strings, char *out, size_t size)
{
	struct sql_lexer lx;
	struct sql_token t;
	size_t n = 0;
	lexer_init(&lx, str_of(sql), std_strings);
	for (lexer_next(&lx, &t); t.kind != TOKEN_END && n + 1 < size; lexer_next(&lx, &t)) {
		assert_true(t.end > t.p);
		out[n++] = letter(t.kind);
	}
	out[n] = 0;
}

static void test_tokens(void **state)
{
	static const struct {
		const char *sql, *kinds;
	} rows[] = {
		{ "", "" },
		{ "   \t\r\n\f", "" },
		{ "select a1, _b$ from t;", "wwpwwwp" },
		{ "'a''b'", "s" },
		{ "'a' 'b'", "ss" },
		{ "'a'\n'b'", "s" },
		{ "'a' \t\n -- comment\n 'b'", "!" },
		{ "'a' -- comment\n'b' c", "!w" },
		{ "'a' /* comment */\n'b'", "ss" },
		{ "'a\\'", "s" },
		{ "e'a\\'' x", "sw" },
		{ "E'\\\\'", "s" },
		{ "e 'a'", "ws" },
		{ "b'01' B'1' x'1f' X'' n'a' N'a'", "bbxxnn" },
		{ "x'1''2' b'0''' b'1'\n'0'", "xsbsb" },
		{ "u&'\\0041' U&\"a\" u & 'a'", "suwos" },
		{ "u&'a' uescape '!'", "sws" },
		{ "\"a\"\"b\".\"c\"", "qpq" },
		{ "\"\"", "!" },
		{ "$$a$$ $a$ $$ $b$ $a$ $a$$a$", "sss" },
		{ "$a$ $A$ $a$", "s" },
		{ "a$b$c", "w" },
		{ "$1 $23::int", "$$ow" },
		{ "$1a", "!" },
		{ "$", "!" },
		{ "$a", "!w" },
		{ "$12345678901", "!" },
		{ "1 1.5 .5 5. 1e5 1E-5 1.5e+5", "iffffff" },
		{ "1..2", "ioi" },
		{ "1.5.3", "ff" },
		{ "1a 1_000 0x1f 1e 1e+ 1.5a", "!!!!!o!" },
		{ "a.b.*", "wpwpo" },
		{ "a::b := c => d <> e != f <= g >= h", "wowowowowowowow" },
		{ "a:b[1:2]", "wpwpipip" },
		{ "a=-1", "wooi" },
		{ "a@-1", "woi" },
		{ "a+-+1", "woooi" },
		{ "a*-- comment\n1", "woi" },
		{ "a*/* comment */1", "woi" },
		{ "a <-/**/ b", "woow" },
		{ "a ->> b #> c @> d ?| e", "wowowowow" },
		{ "/* a /* b */ c */ d", "w" },
		{ "/* a /* b */ c", "!" },
		{ "-- a\nb--c", "w" },
		{ "--", "" },
		{ "'a", "!" },
		{ "\"a", "!" },
		{ "$$a", "!" },
		{ "e'a\\", "!" },
		{ "\xc3\xa9t\xc3\xa9", "w" },
		{ "{ \\ \v", "!!!" },
	};
	char kinds[256];
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		kinds_of(rows[i].sql, true, kinds, sizeof(kinds));
		if (strcmp(kinds, rows[i].kinds) != 0)
			fail_msg("%s: %s, wanted %s", rows[i].sql, kinds, rows[i].kinds);
	}
}

static void test_nonstandard_strings(void **state)
{
	struct sql_lexer lx;
	struct sql_token t;
	(void)state;
	lexer_init(&lx, STR("'a\\'b' c"), false);
	lexer_next(&lx, &t);
	assert_int_equal(t.kind, TOKEN_STRING);
	assert_true(lx.backslash);
	lexer_next(&lx, &t);
	assert_true(sql_token_is(&t, STR("c")));
	lexer_init(&lx, STR("e'a\\'b'"), false);
	lexer_next(&lx, &t);
	assert_false(lx.backslash);
	lexer_init(&lx, STR("u&'a'"), false);
	lexer_next(&lx, &t);
	assert_int_equal(t.kind, TOKEN_BAD);
	/* Unterminated because of it: still a text with two meanings. */
	lexer_init(&lx, STR("'\\'"), false);
	lexer_next(&lx, &t);
	assert_true(lx.backslash);
}

static void test_rule_d1_now_literals(void **state)
{
	static const struct {
		const char *sql;
		bool now;
	} rows[] = {
		{ "'now'", true },       { "'NOW'", true },         { "' now '", true },     { "'today 10:00'", true },
		{ "'{now,x}'", true },   { "'Tomorrow'", true },    { "'yesterday'", true }, { "$$now$$", true },
		{ "'no'\n'w'", true },   { "e'\\x6eow'", true },    { "u&'now'", true },     { "'nowhere'", false },
		{ "'know'", false },     { "'2024-01-01'", false }, { "''", false },         { "'no'", false },
		{ "'todayish'", false }, { "'yest'", false },       { "e'plain'", false },   { "'it''s now'", true },
		{ "'a1now'", true },     { "'[now,)'", true },      { "'tonow'", false },
	};
	struct sql_lexer lx;
	struct sql_token t;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		lexer_init(&lx, str_of(rows[i].sql), true);
		lexer_next(&lx, &t);
		assert_int_equal(t.kind, TOKEN_STRING);
		if (t.now != rows[i].now)
			fail_msg("%s: %d", rows[i].sql, t.now);
	}
}

static void test_hints(void **state)
{
	static const struct {
		const char *sql, *route, *consistency;
	} rows[] = {
		{ "/* pgweir: route=replica, consistency=eventual */ select 1", "replica", "eventual" },
		{ "/*pgweir:route=primary*/select 1", "primary", "" },
		{ "  \n-- x\n/* other */ /* PGWEIR: consistency = strong */ select 1", "", "strong" },
		{ "/* pgweir: route=replica */ /* pgweir: route=primary */ select 1", "replica", "" },
		{ "select /* pgweir: route=replica */ 1", "", "" },
		{ "select 1 /* pgweir: route=replica */", "", "" },
		{ "/* pgweir: route=replica", "", "" },
		{ "/* pgweir: */ select 1", "", "" },
		{ "/* pgweir: nonsense=1 route=replica */ select 1", "", "" },
		{ "/* not pgweir: route=replica */ select 1", "", "" },
		{ "", "", "" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sql_hint h;
		bool any = lexer_hint(str_of(rows[i].sql), &h);
		assert_true(str_eq(h.route, str_of(rows[i].route)));
		assert_true(str_eq(h.consistency, str_of(rows[i].consistency)));
		assert_int_equal(any, rows[i].route[0] || rows[i].consistency[0]);
	}
}

static void test_identifiers(void **state)
{
	struct sql_lexer lx;
	struct sql_token t;
	char out[8];
	(void)state;
	lexer_init(&lx, STR("AbC \"A\"\"b\" toolongname 'x'"), true);
	lexer_next(&lx, &t);
	assert_true(sql_token_ident(&t, out, sizeof(out)));
	assert_string_equal(out, "abc");
	lexer_next(&lx, &t);
	assert_true(sql_token_ident(&t, out, sizeof(out)));
	assert_string_equal(out, "A\"b");
	lexer_next(&lx, &t);
	assert_false(sql_token_ident(&t, out, sizeof(out)));
	lexer_next(&lx, &t);
	assert_false(sql_token_ident(&t, out, sizeof(out)));
}

/* --- against PostgreSQL's scanner --- */

/* It splits where its grammar needs more than one token, and the grammar joins what its scanner splits. */
static void compare_with_scanner(const char *sql)
{
	struct sql_lexer lx;
	struct sql_token t;
	PgQueryScanResult r = pg_query_scan(sql);
	if (r.error) {
		pg_query_free_scan_result(r);
		return;
	}
	PgQuery__ScanResult *scan = pg_query__scan_result__unpack(NULL, r.pbuf.len, (const uint8_t *)r.pbuf.data);
	assert_non_null(scan);
	lexer_init(&lx, str_of(sql), true);
	for (size_t i = 0; i < scan->n_tokens; i++) {
		const PgQuery__ScanToken *want = scan->tokens[i];
		if (want->token == PG_QUERY__TOKEN__SQL_COMMENT || want->token == PG_QUERY__TOKEN__C_COMMENT)
			continue;
		lexer_next(&lx, &t);
		/* N'x' is the keyword NCHAR and a literal there. */
		if (t.kind == TOKEN_NATIONAL) {
			i++;
			continue;
		}
		/* What releases disagree about may be split. */
		if (t.kind == TOKEN_BAD)
			break;
		/* The ends that it gives for U& tokens are not ends. */
		bool unicode = (*t.p == 'u' || *t.p == 'U') && t.p[1] == '&';
		if (t.p - sql != want->start || (!unicode && t.end - sql != want->end))
			fail_msg("token %zu of %s: [%zd,%zd), scanner [%d,%d)", i, sql, t.p - sql, t.end - sql,
			         want->start, want->end);
	}
	pg_query__scan_result__free_unpacked(scan, NULL);
	pg_query_free_scan_result(r);
}

static void test_agrees_with_scanner(void **state)
{
	static const char *const texts[] = {
		"select 'a' 'b'",
		"select 'a'\n\n'b', e'x\\'y'\n'z'",
		"select $a$ $$ $b$ $a$, $$x$$",
		"select a=-1, b@-1, c+-+1, d||-e, f<-g, h!=-i",
		"select a*/*x*/b, c-- d\n+1",
		"select 1..2, 1.5.3, .5, 5., 1e5",
		"select u&\"a\" , U&'b' uescape '!', n'c', b'1', x'f'",
		"select a[1:2], b::c, d => e, f := g, $1, $2::int",
		"select \"a\"\"b\", a$b, _c, \xc3\xa9",
		"select /* a /* b */ c */ 1",
		"select #, @@, ##, ~~*, !~~, <<|, |>>, &&, @-@",
		"select a<=b, c>=d, e<>f, g!=h, i=>j, k<->l, m->>n, o#>>p",
		"select -1, +1, - 1, --\n 1, 1-1, 1 -1, 1--\n-1",
		"select (1),[2],{",
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		compare_with_scanner(texts[i]);
}

static void test_agrees_on_route_table(void **state)
{
	FILE *f = fopen("tests/unit/data/route.tsv", "r");
	char *line = NULL, *v[FIXTURE_COLUMNS];
	size_t cap = 0;
	(void)state;
	assert_non_null(f);
	while (getline(&line, &cap, f) > 0)
		if (line[0] != '#' && fixture_split(line, v) > 1)
			compare_with_scanner(v[0]);
	free(line);
	fclose(f);
}

/* --- fingerprints --- */

static XXH128_hash_t hash_of(const char *sql, struct sql_canon *info)
{
	uint8_t *canon = malloc(2 * strlen(sql) + 64);
	assert_non_null(canon);
	sql_canon(str_of(sql), true, canon, info);
	assert_true(info->n <= 2 * strlen(sql) + 16);
	XXH128_hash_t h = sql_canon_hash(canon, info);
	free(canon);
	return h;
}

static bool same(const char *a, const char *b)
{
	struct sql_canon info;
	XXH128_hash_t x = hash_of(a, &info), y = hash_of(b, &info);
	return XXH128_isEqual(x, y);
}

static void test_same_shape(void **state)
{
	static const char *const pairs[][2] = {
		{ "select 1", "SELECT  2" },
		{ "select 1", "/* hint */ select -- x\n 37" },
		{ "select 'a', e'b', $$c$$", "select $x$a$x$,'b','c'" },
		{ "select * from t where a=1", "select*from T\twhere A = 2" },
		{ "select 1.5", "select 1e9" },
		{ "select b'1', x'f'", "select B'0', X'a'" },
		{ "select averyveryverylongidentifier_of_more_than_16",
		  "SELECT AVERYVERYVERYLONGIDENTIFIER_OF_MORE_THAN_16" },
		{ "select 'a''b'", "select 'c'" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
		if (!same(pairs[i][0], pairs[i][1]))
			fail_msg("%s | %s", pairs[i][0], pairs[i][1]);
}

static void test_other_shape(void **state)
{
	static const char *const texts[] = {
		"select 1",        "select 1.5",         "select 'a'",        "select 'now'",   "select b'1'",
		"select x'1'",     "select n'a'",        "select nchar",      "select a",       "select \"a\"",
		"select \"A\"",    "select u&\"a\"",     "select $1",         "select $2",      "select 1, 2",
		"select 1 2",      "select 1_0",         "select 1;",         "select (1)",     "select -1",
		"select - -1",     "select 1::a",        "select 1 : : a",    "select ab",      "select a b",
		"select \"a b\"",  "select \"a\" \"b\"", "select \"a\"\"b\"", "select 'a' 'b'", "select a.b",
		"select a . 1",    "select a+b",         "select a + + b",    "select a || b",  "select a[1]",
		"select \xc3\xa9", "select \xc3\xa8",    "select 1 from a",   "select 1 froma", "",
		"select {",        "select a=>b",        "select a= >b",      "select a:=b",    "select a: =b",
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		for (size_t k = 0; k < i; k++)
			if (same(texts[i], texts[k]))
				fail_msg("%s | %s", texts[i], texts[k]);
}

static void test_canon_info(void **state)
{
	struct sql_canon info;
	uint8_t canon[256];
	char text[64];
	(void)state;
	(void)hash_of("select 'now'", &info);
	assert_true(info.now_literal && !info.bad);
	(void)hash_of("select 'a", &info);
	assert_true(info.bad);
	(void)hash_of("select \xc3\xa9", &info);
	assert_true(info.high_bytes);
	/* In a plain literal no encoding's second byte can be a quote. */
	(void)hash_of("select '\xc3\xa9'", &info);
	assert_false(info.high_bytes);
	(void)hash_of("select e'\xc3\\n'", &info);
	assert_true(info.high_bytes);
	sql_canon(STR("SELECT a.b, (c) FROM t WHERE x = 'secret' AND y IN (1, 2.5)"), true, canon, &info);
	size_t printed = sql_canon_print(canon, info.n, text, sizeof(text));
	assert_int_equal(printed, strlen(text));
	assert_string_equal(text, "select a.b,(c) from t where x = ? and y in(?, ?)");
	assert_int_equal(sql_canon_print(canon, info.n, text, 8), 7);
	assert_string_equal(text, "select ");
}

/* Every text, cut at each byte and with each byte gone, gives tokens that cover it and a fingerprint. */
static void test_any_cut(void **state)
{
	static const char text[] =
	    "/* c */ SELECT u&\"a\", E'b\\'c', $t$ d $t$, x'1f', 1.5e3, $1::int[], a->>'b' -- e\n FROM \"T\";";
	(void)state;
	for (size_t cut = 0; cut < sizeof(text); cut++) {
		struct sql_canon info;
		char *copy = strndup(text, cut), kinds[256];
		kinds_of(copy, cut & 1, kinds, sizeof(kinds));
		(void)hash_of(copy, &info);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_nonstandard_strings),
		cmocka_unit_test(test_rule_d1_now_literals),
		cmocka_unit_test(test_hints),
		cmocka_unit_test(test_identifiers),
		cmocka_unit_test(test_agrees_with_scanner),
		cmocka_unit_test(test_agrees_on_route_table),
		cmocka_unit_test(test_same_shape),
		cmocka_unit_test(test_other_shape),
		cmocka_unit_test(test_canon_info),
		cmocka_unit_test(test_any_cut),
	};
	rules_init();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	pg_query_exit();
	return failed;
}
