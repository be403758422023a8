/* fuzz_lexer.c - lexer, hints, fingerprint and parser facts on any bytes.
 *
 * Checks that tokens go forward and cover no more than the text, that the canonical text keeps to its bound, that equal
 * canonical texts come of white space and comments only, and that where PostgreSQL's own scanner accepts the text, it
 * sees the same tokens. */
#include <pg_query.h>
#include <pg_query/pg_query.pb-c.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "sql/fingerprint.h"
#include "sql/lexer.h"
#include "sql/route.h"
#include "sql/sqlparse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tokens(struct str sql, bool std_strings)
{
	struct sql_lexer lx;
	struct sql_token t;
	const char *at = sql.p;
	lexer_init(&lx, sql, std_strings);
	for (lexer_next(&lx, &t); t.kind != TOKEN_END; lexer_next(&lx, &t)) {
		char ident[64];
		CHECK(t.p >= at && t.end > t.p && t.end <= sql.p + sql.n);
		(void)sql_token_ident(&t, ident, sizeof(ident));
		at = t.end;
	}
}

/* The text with a comment and white space around it, and in lower case where that means nothing, is the same shape. */
static void check_canon(struct str sql, bool std_strings)
{
	static const char head[] = " /* a comment */\n-- another\n";
	struct sql_canon info, again;
	uint8_t *canon = malloc(2 * sql.n + 64), *other = malloc(2 * (sql.n + sizeof(head)) + 64);
	char *longer = malloc(sql.n + sizeof(head)), text[128];
	CHECK(canon && other && longer);
	sql_canon(sql, std_strings, canon, &info);
	CHECK(info.n <= 2 * sql.n + 16);
	memcpy(longer, head, sizeof(head) - 1);
	if (sql.n)
		memcpy(longer + sizeof(head) - 1, sql.p, sql.n);
	sql_canon((struct str){ longer, sql.n + sizeof(head) - 1 }, std_strings, other, &again);
	CHECK(again.n == info.n && memcmp(canon, other, info.n) == 0);
	CHECK(info.now_literal == again.now_literal && info.bad == again.bad && info.backslash == again.backslash);
	size_t printed = sql_canon_print(canon, info.n, text, sizeof(text));
	CHECK(printed < sizeof(text) && strlen(text) <= printed);
	free(canon);
	free(other);
	free(longer);
}

static void check_scanner(const char *text)
{
	struct sql_lexer lx;
	struct sql_token t;
	PgQueryScanResult r = pg_query_scan(text);
	PgQuery__ScanResult *scan =
	    r.error ? NULL : pg_query__scan_result__unpack(NULL, r.pbuf.len, (const uint8_t *)r.pbuf.data);
	lexer_init(&lx, (struct str){ text, strlen(text) }, true);
	for (size_t i = 0; scan && i < scan->n_tokens; i++) {
		const PgQuery__ScanToken *want = scan->tokens[i];
		if (want->token == PG_QUERY__TOKEN__SQL_COMMENT || want->token == PG_QUERY__TOKEN__C_COMMENT)
			continue;
		lexer_next(&lx, &t);
		if (t.kind == TOKEN_BAD)
			break;
		/* The scanner gives NCHAR and the literal apart, and U& tokens without a true end. */
		bool unicode = (*t.p == 'u' || *t.p == 'U') && t.end - t.p > 1 && t.p[1] == '&';
		CHECK(t.p - text == want->start);
		CHECK(unicode || t.kind == TOKEN_NATIONAL || t.end - text == want->end);
		i += t.kind == TOKEN_NATIONAL;
	}
	if (scan)
		pg_query__scan_result__free_unpacked(scan, NULL);
	pg_query_free_scan_result(r);
}

static void check_facts(struct str sql, bool std_strings)
{
	struct sqlparse_options options = { .std_strings = std_strings, .ascii_unsafe = sql.n & 1 };
	struct sql_facts *f = sqlparse(sql, options);
	struct route_policy policy = { ROUTE_WISH_AUTO, ROUTE_TX_NONE };
	CHECK(f->n_stmts > 0);
	struct route_verdict v = route_decide(f, NULL, &policy);
	/* Without facts only what has no names at all may leave the primary. */
	CHECK(v.target != ROUTE_REPLICA || (f->relations.n == 0 && f->functions.n == 0 && !f->unparsed));
	sql_facts_unref(f);
	sql_facts_unref(sqlparse_plpgsql(sql));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sql_hint hint;
	if (size < 1 || size > 20000)
		return 0;
	bool std_strings = data[0] & 1;
	char *text = malloc(size);
	CHECK(text);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = 0;
	struct str sql = { text, size - 1 };
	(void)lexer_hint(sql, &hint);
	check_tokens(sql, std_strings);
	check_canon(sql, std_strings);
	if (strlen(text) == sql.n && (data[0] & 2))
		check_scanner(text);
	check_facts(sql, std_strings);
	free(text);
	return 0;
}
