/* sqlbinds.c - see sql/binds.h.
 *
 * A literal may become a parameter only where both mean the same by the rules of parse_expr.c and parse_coerce.c, whose
 * decisions follow types alone: an integer literal is int4, like the parameter; a quoted one is unknown, and becomes of
 * the column's type as a parameter without a type does.  Not so in a select list (its name and type), behind ORDER BY
 * and GROUP BY (positions), in a type's modifier, as the argument of a function (which one is meant), or where
 * constants alone are computed (their errors come at another time).  So the places are listed, not the exceptions, and
 * it is the tree of the text with its parameters that is looked at: each literal must have become one in such a place.
 */
#include <string.h>
#include "sql/binds.h"
#include "sql/lexer.h"
#include "sqlwalk_priv.h"

/* --- the places --- */

static bool is_param(const PgQuery__Node *node) { return node && node->node_case == PG_QUERY__NODE__NODE_PARAM_REF; }

static bool is_column(const PgQuery__Node *node) { return node && node->node_case == PG_QUERY__NODE__NODE_COLUMN_REF; }

static unsigned count_list(const PgQuery__Node *node)
{
	unsigned n = 0;
	if (!node || node->node_case != PG_QUERY__NODE__NODE_LIST)
		return 0;
	for (size_t i = 0; i < node->list->n_items; i++)
		n += is_param(node->list->items[i]);
	return n;
}

static bool is_comparison(const PgQuery__AExpr *e)
{
	static const char *const names[] = { "=", "<>", "<", "<=", ">", ">=" };
	const char *name = e->n_name == 1 ? sqlwalk_string(e->name[0]) : NULL;
	for (size_t i = 0; name && i < ARRAY_LEN(names); i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

static unsigned count_expr(const PgQuery__AExpr *e)
{
	switch ((int)e->kind) {
	case PG_QUERY__A__EXPR__KIND__AEXPR_OP:
		if (!is_comparison(e))
			return 0;
		return (is_column(e->lexpr) && is_param(e->rexpr)) || (is_param(e->lexpr) && is_column(e->rexpr));
	case PG_QUERY__A__EXPR__KIND__AEXPR_IN:
	case PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN:
	case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN:
		return is_column(e->lexpr) ? count_list(e->rexpr) : 0;
	default:
		return 0;
	}
}

/* AND, OR and NOT of comparisons. */
static unsigned count_condition(const PgQuery__Node *node)
{
	unsigned n = 0;
	if (!node)
		return 0;
	if (node->node_case == PG_QUERY__NODE__NODE_A_EXPR)
		return count_expr(node->a_expr);
	if (node->node_case != PG_QUERY__NODE__NODE_BOOL_EXPR)
		return 0;
	for (size_t i = 0; i < node->bool_expr->n_args; i++)
		n += count_condition(node->bool_expr->args[i]);
	return n;
}

static unsigned count_from(const PgQuery__Node *node)
{
	if (!node || node->node_case != PG_QUERY__NODE__NODE_JOIN_EXPR)
		return 0;
	const PgQuery__JoinExpr *j = node->join_expr;
	return count_from(j->larg) + count_from(j->rarg) + count_condition(j->quals);
}

unsigned sqlwalk_count_binds(const PgQuery__SelectStmt *q)
{
	unsigned n = count_condition(q->where_clause) + is_param(q->limit_count) + is_param(q->limit_offset);
	for (size_t i = 0; i < q->n_from_clause; i++)
		n += count_from(q->from_clause[i]);
	return n;
}

/* --- the text --- */

/* 'it''s', and not E'', $$, or one that goes on behind a newline. */
static bool is_plain_string(const struct sql_token *tok)
{
	if (tok->now || tok->end - tok->p < 2 || *tok->p != '\'')
		return false;
	for (const char *p = tok->p + 1; p < tok->end - 1; p++) {
		if (*p == '\'' && *++p != '\'')
			return false;
	}
	return true;
}

/* int4, as PostgreSQL takes it. */
static bool is_int4(const struct sql_token *tok)
{
	uint64_t v = 0;
	if (tok->end - tok->p > 10)
		return false;
	for (const char *p = tok->p; p < tok->end; p++)
		v = v * 10 + (uint64_t)(*p - '0');
	return v <= INT32_MAX;
}

static bool put(struct sql_binds *b, const char *p, size_t n)
{
	if (!b->text)
		return true;
	if (b->text_size - b->text_n <= n)
		return false;
	memcpy(b->text + b->text_n, p, n);
	b->text_n += n;
	b->text[b->text_n] = 0;
	return true;
}

/* Tokens stand apart: comments are gone, and $1 must not run into a word. */
static bool put_token(struct sql_binds *b, const struct sql_token *tok)
{
	bool first = b->text_n == 0, tight = *tok->p == ',' || *tok->p == ')' || *tok->p == '.';
	tight |= !first && b->text && b->text[b->text_n - 1] == '.';
	return (first || tight || put(b, " ", 1)) && put(b, tok->p, (size_t)(tok->end - tok->p));
}

static bool put_param(struct sql_binds *b, const struct sql_token *tok)
{
	static const char names[SQL_BINDS_MAX][4] = { " $1", " $2", " $3", " $4", " $5", " $6", " $7", " $8" };
	bool string = tok->kind == TOKEN_STRING;
	if (b->n == SQL_BINDS_MAX || (string ? !is_plain_string(tok) : !is_int4(tok)))
		return false;
	b->v[b->n] = (struct sql_bind){ { tok->p + string, (size_t)(tok->end - tok->p) - 2 * (size_t)string }, string };
	return put(b, names[b->n++], 3);
}

bool sql_binds(struct str sql, struct sql_binds *b)
{
	struct sql_lexer lx;
	struct sql_token tok;
	b->n = 0;
	b->text_n = 0;
	lexer_init(&lx, sql, true);
	for (;;) {
		lexer_next(&lx, &tok);
		switch (tok.kind) {
		case TOKEN_END:
			return true;
		case TOKEN_INTEGER:
		case TOKEN_STRING:
			if (!put_param(b, &tok))
				return false;
			break;
		case TOKEN_WORD:
		case TOKEN_QUOTED:
		case TOKEN_OPERATOR:
			if (!put_token(b, &tok))
				return false;
			break;
		case TOKEN_PUNCT:
			if (*tok.p != ';' && !put_token(b, &tok))
				return false;
			break;
		case TOKEN_UQUOTED:
		case TOKEN_NATIONAL:
		case TOKEN_BITS:
		case TOKEN_HEX:
		case TOKEN_FLOAT:
		case TOKEN_PARAM:
		case TOKEN_BAD:
			return false;
		}
	}
}
