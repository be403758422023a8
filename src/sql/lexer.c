/* lexer.c - see sql/lexer.h; the rules are those of PostgreSQL's scan.l, cited where they surprise.
 *
 * Rejected: a generated scanner. flex tables of this language are larger than a first-level cache, and the fingerprint
 * wants to run through most texts without leaving one loop (fingerprint.c), with this file for the rarer tokens. */
#include "sql/lexer.h"
#include "lexer_priv.h"

#define LETTER        (START_WORD | CLASS_WORD | CLASS_LETTER)
#define PREFIX_LETTER (START_PREFIX | CLASS_WORD | CLASS_LETTER)
#define OP            (START_OPERATOR | CLASS_OPERATOR)
#define OP_KEEPS      (START_OPERATOR | CLASS_OPERATOR | CLASS_KEEPS_SIGN)

/* clang-format off */
const uint8_t lexer_classes[256] = {
	/* Not \v: white space since PostgreSQL 16 only. */
	[' '] = START_SPACE, ['\t' ... '\n'] = START_SPACE, ['\f' ... '\r'] = START_SPACE,
	['a'] = LETTER, ['b'] = PREFIX_LETTER, ['c' ... 'd'] = LETTER, ['e'] = PREFIX_LETTER, ['f' ... 'm'] = LETTER,
	['n'] = PREFIX_LETTER, ['o' ... 't'] = LETTER, ['u'] = PREFIX_LETTER, ['v' ... 'w'] = LETTER,
	['x'] = PREFIX_LETTER, ['y' ... 'z'] = LETTER,
	['A'] = LETTER, ['B'] = PREFIX_LETTER, ['C' ... 'D'] = LETTER, ['E'] = PREFIX_LETTER, ['F' ... 'M'] = LETTER,
	['N'] = PREFIX_LETTER, ['O' ... 'T'] = LETTER, ['U'] = PREFIX_LETTER, ['V' ... 'W'] = LETTER,
	['X'] = PREFIX_LETTER, ['Y' ... 'Z'] = LETTER,
	['_'] = START_WORD | CLASS_WORD, [0x80 ... 0xff] = START_WORD | CLASS_WORD,
	['0' ... '9'] = START_DIGIT | CLASS_WORD,
	['+'] = OP, ['-'] = OP, ['*'] = OP, ['/'] = OP, ['<' ... '>'] = OP,
	['~'] = OP_KEEPS, ['!'] = OP_KEEPS, ['@'] = OP_KEEPS, ['#'] = OP_KEEPS, ['^'] = OP_KEEPS, ['&'] = OP_KEEPS,
	['|'] = OP_KEEPS, ['`'] = OP_KEEPS, ['?'] = OP_KEEPS, ['%'] = OP_KEEPS,
	['('] = START_PUNCT, [')'] = START_PUNCT, ['['] = START_PUNCT, [']'] = START_PUNCT, [','] = START_PUNCT,
	[';'] = START_PUNCT,
	['.'] = START_DOT, [':'] = START_COLON, ['\''] = START_QUOTE, ['"'] = START_DQUOTE,
	['$'] = START_DOLLAR | CLASS_WORD,
};
/* clang-format on */

static const char *const token_names[] = {
#define TOKEN_NAME(id, doc) #id,
	SQL_TOKENS(TOKEN_NAME)
#undef TOKEN_NAME
};

const char *sql_token_kind_name(enum sql_token_kind kind) { return token_names[kind]; }

static const char *skip_line_comment(const char *p, const char *end)
{
	while (p < end && *p != '\n' && *p != '\r')
		p++;
	return p;
}

/* p is behind the opening.  NULL: not closed. */
static const char *skip_block_comment(const char *p, const char *end)
{
	int depth = 1;
	while (end - p >= 2) {
		if (p[0] == '*' && p[1] == '/') {
			p += 2;
			if (--depth == 0)
				return p;
		} else if (p[0] == '/' && p[1] == '*') {
			p += 2;
			depth++;
		} else {
			p++;
		}
	}
	return NULL;
}

/* White space and comments; NULL: a comment is not closed. */
static const char *skip_blank(const char *p, const char *end)
{
	while (p < end) {
		if (lexer_start(p) == START_SPACE) {
			p++;
		} else if (end - p >= 2 && p[0] == '-' && p[1] == '-') {
			p = skip_line_comment(p, end);
		} else if (end - p >= 2 && p[0] == '/' && p[1] == '*') {
			p = skip_block_comment(p + 2, end);
			if (!p)
				return NULL;
		} else {
			break;
		}
	}
	return p;
}

static const char *skip_word(const char *p, const char *end)
{
	while (p < end && (lexer_class(p) & CLASS_WORD))
		p++;
	return p;
}

static bool word_at(const char *p, const char *end, struct str word)
{
	if ((size_t)(end - p) < word.n)
		return false;
	for (size_t i = 0; i < word.n; i++)
		if (lexer_fold((uint8_t)p[i]) != (uint8_t)word.p[i])
			return false;
	return (size_t)(end - p) == word.n || !(lexer_class(p + word.n) & CLASS_LETTER);
}

/* The words of datetime input that mean the present; epoch, infinity and allballs are constants. */
static bool now_word_at(const char *p, const char *end)
{
	switch (*p | 0x20) {
	case 'n':
		return word_at(p, end, STR("now"));
	case 't':
		return word_at(p, end, STR("today")) || word_at(p, end, STR("tomorrow"));
	default:
		return word_at(p, end, STR("yesterday"));
	}
}

/* D1: datetime input takes words anywhere in the string, also within an array or a record.  All four words begin with
 * no, to or ye. */
static bool reads_as_now(const char *start, const char *end)
{
	for (const char *p = start; end - p >= 3; p++) {
		char second = p[1] | 0x20, first = *p | 0x20;
		if (second != 'o' && second != 'e')
			continue;
		if (first != 'n' && first != 't' && first != 'y')
			continue;
		bool inside = p > start && (lexer_class(p - 1) & CLASS_LETTER);
		if (!inside && now_word_at(p, end))
			return true;
	}
	return false;
}

/* A literal goes on behind white space with a newline in it: scan.l's quotecontinue.  p is behind the closing quote;
 * the result is behind the next opening one, or NULL.  *comment: there is a comment between the two. */
static const char *string_continues(const char *p, const char *end, bool *comment)
{
	bool newline = false, seen = false;
	while (p < end) {
		if (*p == '\n' || *p == '\r') {
			newline = true;
			p++;
		} else if (lexer_start(p) == START_SPACE) {
			p++;
		} else if (end - p >= 2 && p[0] == '-' && p[1] == '-') {
			seen = true;
			p = skip_line_comment(p, end);
		} else {
			break;
		}
	}
	if (!newline || p >= end || *p != '\'')
		return NULL;
	*comment = *comment || seen;
	return p + 1;
}

/* How a literal says a quote. */
enum quoting {
	QUOTING_DOUBLED, /* '' */
	QUOTING_ESCAPED, /* '' and a backslash before it */
	QUOTING_NONE     /* not at all: in B'' and X'' the second of two quotes opens another literal */
};

/* At the closing quote of one piece; NULL: unterminated. */
static const char *skip_piece(struct sql_lexer *lx, const char *p, enum quoting quoting, bool *escaped)
{
	for (; p < lx->end; p++) {
		if (quoting != QUOTING_ESCAPED && !(p = memchr(p, '\'', (size_t)(lx->end - p))))
			return NULL;
		bool more = lx->end - p >= 2;
		if (*p == '\\' && quoting == QUOTING_ESCAPED) {
			*escaped = true;
			lx->backslash = lx->backslash || !lx->std_strings;
			if (!more)
				return NULL;
			p++;
		} else if (*p == '\'') {
			if (quoting == QUOTING_NONE || !more || p[1] != '\'')
				return p;
			p++;
		}
	}
	return NULL;
}

/* p is behind the opening quote; the result behind the closing one, NULL: unterminated. */
static const char *skip_string(struct sql_lexer *lx, const char *p, enum quoting quoting, bool *now, bool *comment)
{
	for (;;) {
		bool escaped = false;
		const char *start = p;
		p = skip_piece(lx, p, quoting, &escaped);
		if (!p)
			return NULL;
		/* What is put together of escapes or pieces is not looked into: it may be anything. */
		*now = *now || escaped || reads_as_now(start, p);
		const char *more = string_continues(p + 1, lx->end, comment);
		if (!more)
			return p + 1;
		*now = true;
		p = more;
	}
}

static void take_string(struct sql_lexer *lx, struct sql_token *tok, enum sql_token_kind kind, size_t prefix,
                        enum quoting quoting)
{
	/* backslash is about plain literals only; E'' means the same under both settings. */
	bool before = lx->backslash, comment = false;
	const char *p = skip_string(lx, tok->p + prefix + 1, quoting, &tok->now, &comment);
	if (kind == TOKEN_STRING && prefix > 0)
		lx->backslash = before;
	/* libpg_query does not read on behind a comment, the server does. */
	tok->kind = p && !comment ? kind : TOKEN_BAD;
	tok->end = p ? p : lx->end;
}

static void take_quoted(struct sql_lexer *lx, struct sql_token *tok, enum sql_token_kind kind, size_t prefix)
{
	const char *p = tok->p + prefix + 1, *start = p;
	for (; p < lx->end; p++) {
		if (*p != '"')
			continue;
		if (lx->end - p >= 2 && p[1] == '"') {
			p++;
			continue;
		}
		tok->kind = p > start ? kind : TOKEN_BAD; /* "" is an error in every release */
		tok->end = p + 1;
		return;
	}
	tok->kind = TOKEN_BAD;
	tok->end = lx->end;
}

static void take_word(struct sql_lexer *lx, struct sql_token *tok)
{
	tok->kind = TOKEN_WORD;
	tok->end = skip_word(tok->p, lx->end);
}

static enum quoting plain_quoting(const struct sql_lexer *lx)
{
	return lx->std_strings ? QUOTING_DOUBLED : QUOTING_ESCAPED;
}

static void take_prefixed(struct sql_lexer *lx, struct sql_token *tok)
{
	const char *p = tok->p;
	size_t left = (size_t)(lx->end - p);
	char next = left > 1 ? p[1] : 0, after = left > 2 ? p[2] : 0;
	switch (*p | 0x20) {
	case 'b':
		if (next == '\'') {
			take_string(lx, tok, TOKEN_BITS, 1, QUOTING_NONE);
			return;
		}
		break;
	case 'x':
		if (next == '\'') {
			take_string(lx, tok, TOKEN_HEX, 1, QUOTING_NONE);
			return;
		}
		break;
	case 'n':
		/* scan.l gives the keyword NCHAR and reads the rest as a plain literal. */
		if (next == '\'') {
			take_string(lx, tok, TOKEN_NATIONAL, 1, plain_quoting(lx));
			tok->now = true;
			return;
		}
		break;
	case 'e':
		if (next == '\'') {
			take_string(lx, tok, TOKEN_STRING, 1, QUOTING_ESCAPED);
			return;
		}
		break;
	default: /* u */
		if (next == '&' && after == '\'') {
			take_string(lx, tok, TOKEN_STRING, 2, QUOTING_DOUBLED);
			tok->now = true; /* escapes, by any character */
			if (!lx->std_strings)
				tok->kind = TOKEN_BAD; /* refused by every release */
			return;
		}
		if (next == '&' && after == '"') {
			take_quoted(lx, tok, TOKEN_UQUOTED, 2);
			return;
		}
		break;
	}
	take_word(lx, tok);
}

static const char *skip_digits(const char *p, const char *end)
{
	while (p < end && lexer_start(p) == START_DIGIT)
		p++;
	return p;
}

/* Behind an exponent, or p itself when there is none; NULL: an e without digits. */
static const char *skip_exponent(const char *p, const char *end)
{
	if (p >= end || (*p | 0x20) != 'e')
		return p;
	p++;
	if (p < end && (*p == '+' || *p == '-'))
		p++;
	return p < end && lexer_start(p) == START_DIGIT ? skip_digits(p, end) : NULL;
}

/* integer, decimal, real of scan.l; a sign is an operator. */
static void take_number(struct sql_lexer *lx, struct sql_token *tok)
{
	const char *p = skip_digits(tok->p, lx->end), *end = lx->end;
	tok->kind = TOKEN_INTEGER;
	/* 1..2 is 1 and .. and 2 (scan.l, decimalfail). */
	if (p < end && *p == '.' && !(end - p >= 2 && p[1] == '.')) {
		tok->kind = TOKEN_FLOAT;
		p = skip_digits(p + 1, end);
	}
	const char *q = skip_exponent(p, end);
	if (q && q > p) {
		tok->kind = TOKEN_FLOAT;
		p = q;
	}
	/* 12abc, 1_000, 0x1F, 1e: two tokens in 14, an error in 15, a number in 16. */
	if (!q || (p < end && (lexer_class(p) & CLASS_WORD) && *p != '$')) {
		tok->kind = TOKEN_BAD;
		p = skip_word(p, end);
	}
	tok->end = p;
}

static void take_param(struct sql_lexer *lx, struct sql_token *tok)
{
	const char *p = skip_digits(tok->p + 1, lx->end);
	bool junk = p < lx->end && (lexer_class(p) & CLASS_WORD) && *p != '$';
	bool fits = p - tok->p <= 10;
	tok->kind = !junk && fits ? TOKEN_PARAM : TOKEN_BAD;
	tok->end = junk ? skip_word(p, lx->end) : p;
}

/* $1, $tag$...$tag$, or a lone $ that is in no statement. */
static void take_dollar(struct sql_lexer *lx, struct sql_token *tok)
{
	const char *p = tok->p + 1, *end = lx->end;
	if (p < end && lexer_start(p) == START_DIGIT) {
		take_param(lx, tok);
		return;
	}
	while (p < end && (lexer_class(p) & CLASS_WORD) && *p != '$')
		p++;
	if (p >= end || *p != '$') {
		tok->kind = TOKEN_BAD;
		tok->end = tok->p + 1;
		return;
	}
	size_t tag = (size_t)(p + 1 - tok->p);
	const char *body = p + 1;
	const char *close = memmem(body, (size_t)(end - body), tok->p, tag);
	tok->kind = close ? TOKEN_STRING : TOKEN_BAD;
	tok->now = close && reads_as_now(body, close);
	tok->end = close ? close + tag : end;
}

/* scan.l: an operator stops before a comment, and loses trailing signs unless it holds a character that no SQL
 * operator has. */
static void take_operator(struct sql_lexer *lx, struct sql_token *tok)
{
	const char *p = tok->p;
	bool keeps = false;
	for (; p < lx->end && (lexer_class(p) & CLASS_OPERATOR); p++) {
		if (lx->end - p >= 2 && ((p[0] == '/' && p[1] == '*') || (p[0] == '-' && p[1] == '-')))
			break;
		keeps = keeps || (lexer_class(p) & CLASS_KEEPS_SIGN);
	}
	if (!keeps)
		while (p - tok->p > 1 && (p[-1] == '+' || p[-1] == '-'))
			p--;
	tok->kind = TOKEN_OPERATOR;
	tok->end = p;
}

static void take_punct(struct sql_token *tok, enum sql_token_kind kind, size_t n)
{
	tok->kind = kind;
	tok->end = tok->p + n;
}

static void take_dot(struct sql_lexer *lx, struct sql_token *tok)
{
	char next = lx->end - tok->p > 1 ? tok->p[1] : 0;
	if (next == '.')
		take_punct(tok, TOKEN_OPERATOR, 2);
	else if (next >= '0' && next <= '9')
		take_number(lx, tok);
	else
		take_punct(tok, TOKEN_PUNCT, 1);
}

static void take_colon(struct sql_lexer *lx, struct sql_token *tok)
{
	char next = lx->end - tok->p > 1 ? tok->p[1] : 0;
	if (next == ':' || next == '=')
		take_punct(tok, TOKEN_OPERATOR, 2);
	else
		take_punct(tok, TOKEN_PUNCT, 1);
}

void lexer_next(struct sql_lexer *lx, struct sql_token *tok)
{
	const char *start = skip_blank(lx->p, lx->end);
	*tok = (struct sql_token){ .kind = TOKEN_BAD, .p = start ? start : lx->p, .end = lx->end };
	if (start == lx->end) {
		tok->kind = TOKEN_END;
	} else if (start) {
		switch (lexer_start(start)) {
		case START_WORD:
			take_word(lx, tok);
			break;
		case START_PREFIX:
			take_prefixed(lx, tok);
			break;
		case START_DIGIT:
			take_number(lx, tok);
			break;
		case START_OPERATOR:
			take_operator(lx, tok);
			break;
		case START_PUNCT:
			take_punct(tok, TOKEN_PUNCT, 1);
			break;
		case START_DOT:
			take_dot(lx, tok);
			break;
		case START_COLON:
			take_colon(lx, tok);
			break;
		case START_QUOTE:
			take_string(lx, tok, TOKEN_STRING, 0, plain_quoting(lx));
			break;
		case START_DQUOTE:
			take_quoted(lx, tok, TOKEN_QUOTED, 0);
			break;
		case START_DOLLAR:
			take_dollar(lx, tok);
			break;
		case START_SPACE:
		case START_BAD:
			take_punct(tok, TOKEN_BAD, 1);
			break;
		}
	}
	lx->p = tok->end;
}

bool sql_token_is(const struct sql_token *tok, struct str lower)
{
	if (tok->kind != TOKEN_WORD || (size_t)(tok->end - tok->p) != lower.n)
		return false;
	for (size_t i = 0; i < lower.n; i++)
		if (lexer_fold((uint8_t)tok->p[i]) != (uint8_t)lower.p[i])
			return false;
	return true;
}

bool sql_token_ident(const struct sql_token *tok, char *out, size_t size)
{
	bool quoted = tok->kind == TOKEN_QUOTED;
	const char *p = tok->p + quoted, *end = tok->end - quoted;
	size_t n = 0;
	if (tok->kind != TOKEN_WORD && !quoted)
		return false;
	for (; p < end; p++) {
		if (n + 1 >= size)
			return false;
		out[n++] = quoted ? *p : (char)lexer_fold((uint8_t)*p);
		p += quoted && *p == '"'; /* the second of two */
	}
	out[n] = 0;
	return true;
}

/* --- hints --- */

static struct str hint_word(const char **pp, const char *end)
{
	const char *p = *pp;
	while (p < end && (lexer_start(p) == START_SPACE || *p == ','))
		p++;
	const char *start = p;
	while (p < end && ((lexer_class(p) & CLASS_WORD) || *p == '-'))
		p++;
	*pp = p;
	return (struct str){ start, (size_t)(p - start) };
}

/* key=value pairs, with commas or white space between; what is not understood ends the hint. */
static bool hint_read(struct str body, struct sql_hint *hint)
{
	const char *p = body.p, *end = body.p + body.n;
	bool any = false;
	while (p < end) {
		struct str key = hint_word(&p, end);
		while (p < end && lexer_start(p) == START_SPACE)
			p++;
		if (key.n == 0 || p >= end || *p != '=')
			break;
		p++;
		struct str value = hint_word(&p, end);
		if (str_ieq(key, STR("route")))
			hint->route = value;
		else if (str_ieq(key, STR("consistency")))
			hint->consistency = value;
		else
			break;
		any = true;
	}
	return any;
}

bool lexer_hint(struct str sql, struct sql_hint *hint)
{
	const char *p = sql.p, *end = sql.p + sql.n;
	*hint = (struct sql_hint){ { NULL, 0 }, { NULL, 0 } };
	while (p && p < end) {
		if (lexer_start(p) == START_SPACE) {
			p++;
		} else if (end - p >= 2 && p[0] == '-' && p[1] == '-') {
			p = skip_line_comment(p, end);
		} else if (end - p >= 2 && p[0] == '/' && p[1] == '*') {
			const char *start = p + 2;
			p = skip_block_comment(start, end);
			struct str body = str_trim((struct str){ start, p ? (size_t)(p - start) - 2 : 0 });
			if (body.n >= 7 && str_ieq((struct str){ body.p, 7 }, STR("pgweir:")))
				return hint_read((struct str){ body.p + 7, body.n - 7 }, hint);
		} else {
			break;
		}
	}
	return false;
}
