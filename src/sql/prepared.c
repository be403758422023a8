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
