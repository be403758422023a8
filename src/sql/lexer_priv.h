/* lexer_priv.h - the character classes that lexer.c and fingerprint.c share. */
#ifndef SQL_LEXER_PRIV_H
#define SQL_LEXER_PRIV_H

#include <stdint.h>
#include "sql/lexer.h"

/* What a token that begins with this byte is. */
enum lexer_start {
	START_BAD,
	START_SPACE,
	START_WORD,   /* letter, underscore or high byte that opens no prefixed literal */
	START_PREFIX, /* b e n u x, either case: perhaps B'' E'' N'' U&'' X'' */
	START_DIGIT,
	START_OPERATOR,
	START_PUNCT, /* ( ) [ ] , ; */
	START_DOT,
	START_COLON,
	START_QUOTE,
	START_DQUOTE,
	START_DOLLAR
};

enum lexer_class {
	CLASS_START_MASK = 0x0f,
	CLASS_WORD = 0x10, /* may go on in an identifier */
	CLASS_OPERATOR = 0x20,
	CLASS_KEEPS_SIGN = 0x40, /* an operator that holds one of these may end in + or - */
	CLASS_LETTER = 0x80
};

extern const uint8_t lexer_classes[256];

/* ASCII lower case; all else itself (high bytes fold only in single-byte server encodings: not folding them makes two
 * shapes of one, which is harmless). */
static inline uint8_t lexer_fold(uint8_t c) { return (uint8_t)(c + ((uint8_t)(c - 'A') < 26 ? 'a' - 'A' : 0)); }
static inline uint8_t lexer_class(const char *p) { return lexer_classes[(uint8_t)*p]; }
static inline enum lexer_start lexer_start(const char *p)
{
	return (enum lexer_start)(lexer_class(p) & CLASS_START_MASK);
}

#endif
