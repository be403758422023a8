/* prepared.c - see sql/prepared.h. */
#include "sql/prepared.h"

#include "sql/lexer.h"

/* AS is a reserved word: outside of the parentheses around the types it can only be the one. */
struct str sql_prepared_statement(struct str sql, bool std_strings)
{
	struct sql_lexer lx;
	struct sql_token t;
	int depth = 0;
	lexer_init(&lx, sql, std_strings);
	for (lexer_next(&lx, &t); t.kind != TOKEN_END; lexer_next(&lx, &t)) {
		if (t.kind == TOKEN_PUNCT)
			depth += (*t.p == '(') - (*t.p == ')');
		if (depth == 0 && sql_token_is(&t, STR("as")))
			return (struct str){ t.end, (size_t)(sql.p + sql.n - t.end) };
	}
	return (struct str){ sql.p, 0 };
}

static unsigned number_of(const struct sql_token *t)
{
	enum { MANY = 65536 };
	unsigned n = 0;
	for (const char *p = t->p + 1; p < t->end && n < MANY; p++)
		n = n * 10 + (unsigned)(*p - '0');
	return n;
}

unsigned sql_prepared_params(struct str sql, bool std_strings)
{
	struct sql_lexer lx;
	struct sql_token t;
	unsigned n = 0;
	int depth = 0;
	struct str inner = sql_prepared_statement(sql, std_strings);
	struct str types = { sql.p, (size_t)(inner.p - sql.p) };
	lexer_init(&lx, types, std_strings);
	for (lexer_next(&lx, &t); t.kind != TOKEN_END; lexer_next(&lx, &t)) {
		if (t.kind != TOKEN_PUNCT)
			continue;
		bool opens = *t.p == '(' && depth++ == 0;
		depth -= *t.p == ')';
		n += opens || (*t.p == ',' && depth == 1);
	}
	lexer_init(&lx, inner, std_strings);
	for (lexer_next(&lx, &t); t.kind != TOKEN_END; lexer_next(&lx, &t)) {
		if (t.kind == TOKEN_PARAM && number_of(&t) > n)
			n = number_of(&t);
	}
	return n;
}
