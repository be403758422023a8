/* sqlparse.c - see sql/sqlparse.h: bounds the text, asks libpg_query, unpacks its tree, hands it to sqlstmt(). */
#include "sql/sqlparse.h"
#include <pg_query.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/rules.h"
#include "facts_priv.h"
#include "sql/fingerprint.h"
#include "sqlscan_priv.h"
#include "sqlwalk_priv.h"

/* Unpacks and hands over each statement; false: the parser does not understand the text. */
static bool parse_tree(struct facts_draft *d, const char *text)
{
	PgQueryProtobufParseResult r = pg_query_parse_protobuf(text);
	PgQuery__ParseResult *tree = NULL;
	if (!r.error)
		tree = pg_query__parse_result__unpack(NULL, r.parse_tree.len, (const uint8_t *)r.parse_tree.data);
	for (size_t i = 0; tree && i < tree->n_stmts; i++)
		if (tree->stmts[i]->stmt)
			sqlstmt(d, tree->stmts[i]->stmt);
	bool ok = tree != NULL;
	if (tree)
		pg_query__parse_result__free_unpacked(tree, NULL);
	pg_query_free_protobuf_parse_result(r);
	return ok;
}

static bool is_tx_control(enum sql_verb verb)
{
	return verb == SQL_BEGIN || verb == SQL_COMMIT || verb == SQL_ROLLBACK || verb == SQL_SAVEPOINT ||
	       verb == SQL_RELEASE || verb == SQL_ROLLBACK_TO || verb == SQL_PREPARE_TRANSACTION ||
	       verb == SQL_COMMIT_PREPARED || verb == SQL_ROLLBACK_PREPARED;
}

static void note_tx_control(struct facts_draft *d)
{
	for (size_t i = 0; d->n_stmts > 1 && i < d->n_stmts && !RULE_BROKEN(A3); i++)
		if (is_tx_control(d->stmts[i].s.verb))
			d->flags |= SQL_F_TX_CONTROL_INSIDE;
}

/* What must not reach the parser, or what it would read otherwise than the server does. */
static enum sql_unparsed why_not(struct str sql, const struct sqlscan_look *look, struct sqlparse_options options)
{
	if (memchr(sql.p, 0, sql.n))
		return SQL_UNPARSED_ENCODING;
	if (options.ascii_unsafe && look->high_bytes)
		return SQL_UNPARSED_ENCODING;
	if (look->backslash)
		return SQL_UNPARSED_BACKSLASH;
	return look->depth > SQLSCAN_DEPTH_MAX ? SQL_UNPARSED_TOO_DEEP : SQL_UNPARSED_NONE;
}

static void parse_into(struct facts_draft *d, struct str sql, struct sqlparse_options options)
{
	struct sqlscan_look look = { .depth = 0 };
	d->unparsed = SQL_UNPARSED_TOO_LARGE;
	if (sql.n <= SQL_PARSE_BYTES_MAX) {
		sqlscan_look(sql, options.std_strings, &look);
		d->unparsed = why_not(sql, &look, options);
		d->flags |= look.now_literal ? SQL_F_NOW_LITERAL | SQL_F_SHOWS_TIME : 0;
	}
	if (d->unparsed == SQL_UNPARSED_NONE) {
		char *text = mem_strndup(sql.n ? sql.p : "", sql.n);
		if (!parse_tree(d, text))
			d->unparsed = SQL_UNPARSED_SYNTAX;
		mem_free(text);
	}
	if (d->unparsed != SQL_UNPARSED_NONE)
		sqlscan_unparsed(d, sql, options.std_strings);
}

struct sql_facts *sqlparse(struct str sql, struct sqlparse_options options)
{
	struct facts_draft d;
	facts_start(&d);
	parse_into(&d, sql, options);
	note_tx_control(&d);
	d.flags &= RULE_BROKEN(C5) ? ~(uint32_t)SQL_F_DUMP : UINT32_MAX;
	d.flags &= RULE_BROKEN(C7) ? ~(uint32_t)SQL_F_NO_TX_BLOCK : UINT32_MAX;
	d.pins &= RULE_BROKEN(E5) ? ~(uint32_t)SQL_PIN_TEMP : UINT32_MAX;
	return facts_finish(&d);
}

struct sql_facts *sqlparse_expression(struct str expr)
{
	struct facts_draft d;
	char *text = mem_printf("SELECT %.*s", (int)expr.n, expr.p);
	facts_start(&d);
	parse_into(&d, str_of(text), (struct sqlparse_options){ .std_strings = true });
	mem_free(text);
	return facts_finish(&d);
}

struct sql_facts *sqlparse_plpgsql(struct str body)
{
	struct facts_draft d;
	facts_start(&d);
	sqlscan_plpgsql(&d, body);
	return facts_finish(&d);
}

/* In other threads libpg_query's own thread-specific destructor frees the same memory again after pg_query_exit(). */
void sqlparse_exit(void)
{
	if (gettid() == getpid())
		pg_query_exit();
}
