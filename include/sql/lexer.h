/* sql/lexer.h - PostgreSQL's tokens in a byte string, without allocation.
 *
 * Follows src/backend/parser/scan.l: nested comments, string continuation over a newline, E'' U&'' B'' X'' N'',
 * dollar quotes, operators that stop at a comment and lose a trailing + or -, identifiers with $ and high bytes.
 * Where releases 14 to 18 differ (12abc, 1_000, 0x1F, $1abc) the token is BAD: what is unclear is not guessed.
 *
 * A token borrows the text.  The lexer itself never fails: it ends with END, or gives BAD and goes on behind it. */
#ifndef SQL_LEXER_H
#define SQL_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"

#define SQL_TOKENS(X)                                                                                                  \
	X(END, "end of the text")                                                                                      \
	X(WORD, "keyword or unquoted identifier")                                                                      \
	X(QUOTED, "\"identifier\"")                                                                                    \
	X(UQUOTED, "U&\"identifier\"")                                                                                 \
	X(STRING, "string literal of any spelling")                                                                    \
	X(NATIONAL, "N'' literal")                                                                                     \
	X(BITS, "B'' literal")                                                                                         \
	X(HEX, "X'' literal")                                                                                          \
	X(INTEGER, "digits only")                                                                                      \
	X(FLOAT, "number with a point or an exponent")                                                                 \
	X(PARAM, "$1")                                                                                                 \
	X(OPERATOR, "operator of one or more characters; also :: := .. => <= >= <> !=")                                \
	X(PUNCT, "one of ( ) [ ] , ; : .")                                                                             \
	X(BAD, "unterminated, not SQL, or not the same in all releases")
enum sql_token_kind {
#define SQL_TOKEN_ENUM(id, doc) TOKEN_##id,
	SQL_TOKENS(SQL_TOKEN_ENUM)
#undef SQL_TOKEN_ENUM
};

struct sql_token {
	enum sql_token_kind kind;
	bool now;            /* STRING: a datetime input may read it as now, today, tomorrow or yesterday (rule D1) */
	const char *p, *end; /* borrowed; with quotes and prefix */
};

struct sql_lexer {
	const char *p, *end; /* borrowed; what is still to read */
	bool std_strings;    /* standard_conforming_strings */
	bool backslash;      /* set by a plain '' literal with a backslash while std_strings is off */
};

/* Words of a leading comment such as: pgweir: route=replica, consistency=eventual.  Raw: whoever knows the option
 * judges them.  Borrowed from the text; n is 0 where a key is missing. */
struct sql_hint {
	struct str route, consistency;
};

static inline void lexer_init(struct sql_lexer *lx, struct str sql, bool std_strings)
{
	*lx = (struct sql_lexer){ .p = sql.p, .end = sql.p + sql.n, .std_strings = std_strings };
}
/* The next token; END for ever at the end. */
void lexer_next(struct sql_lexer *lx, struct sql_token *tok);
/* Fills *hint from the first of our comments before the first token; false when there is none. */
bool lexer_hint(struct str sql, struct sql_hint *hint);
/* The token's identifier as the server sees it (folded or unquoted) into out; false when it does not fit or holds
 * escapes.  WORD and QUOTED only. */
bool sql_token_ident(const struct sql_token *tok, char *out, size_t size);
/* Word equals lower (lower case ASCII). */
bool sql_token_is(const struct sql_token *tok, struct str lower);
const char *sql_token_kind_name(enum sql_token_kind kind);

#endif
