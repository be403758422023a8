/* fingerprint.c - see sql/fingerprint.h.
 *
 * Canonical text: words, quoted identifiers, parameters and operators follow one space each; punctuation stands alone;
 * a literal is one byte below 0x20.  A reader can take it apart again, so no two token streams share one.
 *
 * This is on the path of every simple query: plain words and punctuation, four fifths of most texts, are done in
 * line; all else goes through lexer_next(). */
#include "sql/fingerprint.h"
#include <pthread.h>
#include <sys/random.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include "base/check.h"
#include "lexer_priv.h"
#include "sql/lexer.h"

enum marker {
	MARK_STRING = 1,
	MARK_NOW = 2,
	MARK_BITS = 3,
	MARK_HEX = 4,
	MARK_INTEGER = 5,
	MARK_FLOAT = 6,
	MARK_BAD = 7,
	MARK_BAD_NUMBER = 8, /* 1_000, 0x1F: new in PostgreSQL 16, so no sign of a broken text */
};

struct writer {
	uint8_t *out;
	struct sql_canon *info;
};

static void put_spaced(struct writer *w, const char *p, const char *end)
{
	size_t n = (size_t)(end - p);
	*w->out++ = ' ';
	for (size_t i = 0; i < n; i++)
		w->info->high_bytes |= (uint8_t)p[i] >= 0x80;
	memcpy(w->out, p, n);
	w->out += n;
}

static void put_punct(struct writer *w, uint8_t c) { *w->out++ = c; }

static void put_string(struct writer *w, const struct sql_token *tok)
{
	*w->out++ = tok->now ? MARK_NOW : MARK_STRING;
	w->info->now_literal |= tok->now;
	/* Only an escaped string can be misread in a foreign encoding: 0x5c is a second byte there, 0x27 never is. */
	if (*tok->p != '\'' && memchr(tok->p, '\\', (size_t)(tok->end - tok->p)))
		for (const char *p = tok->p; p < tok->end; p++)
			w->info->high_bytes |= (uint8_t)*p >= 0x80;
}

static void put_bad(struct writer *w, const struct sql_token *tok)
{
	bool number = lexer_start(tok->p) == START_DIGIT || *tok->p == '.';
	*w->out++ = number ? MARK_BAD_NUMBER : MARK_BAD;
	w->info->bad = true;
}

static void put_token(struct writer *w, const struct sql_token *tok)
{
	static const char nchar[] = "nchar"; /* what the server makes of N'' */
	switch (tok->kind) {
	case TOKEN_WORD:
	case TOKEN_QUOTED:
	case TOKEN_UQUOTED:
	case TOKEN_PARAM:
	case TOKEN_OPERATOR:
		put_spaced(w, tok->p, tok->end);
		break;
	case TOKEN_NATIONAL:
		put_spaced(w, nchar, nchar + sizeof(nchar) - 1);
		put_string(w, tok);
		break;
	case TOKEN_STRING:
		put_string(w, tok);
		break;
	case TOKEN_BITS:
		*w->out++ = MARK_BITS;
		break;
	case TOKEN_HEX:
		*w->out++ = MARK_HEX;
		break;
	case TOKEN_INTEGER:
		*w->out++ = MARK_INTEGER;
		break;
	case TOKEN_FLOAT:
		*w->out++ = MARK_FLOAT;
		break;
	case TOKEN_PUNCT:
		put_punct(w, (uint8_t)*tok->p);
		break;
	case TOKEN_BAD:
		put_bad(w, tok);
		break;
	case TOKEN_END:
		break;
	}
}

#ifdef __SSE2__
/* 1 in each byte where lo <= byte <= hi, as unsigned numbers. */
static inline __m128i in_range(__m128i v, uint8_t lo, uint8_t hi)
{
	__m128i shifted = _mm_sub_epi8(v, _mm_set1_epi8((char)lo));
	return _mm_cmpeq_epi8(_mm_min_epu8(shifted, _mm_set1_epi8((char)(hi - lo))), shifted);
}

/* The length of the word that begins at p, of which 16 bytes can be read, folded to out; 16: it may go on. */
static inline unsigned fold_16(const char *p, uint8_t *out, bool *high)
{
	__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
	__m128i upper = in_range(v, 'A', 'Z');
	__m128i folded = _mm_or_si128(v, _mm_and_si128(upper, _mm_set1_epi8(0x20)));
	__m128i word = _mm_or_si128(in_range(folded, 'a', 'z'), in_range(v, '0', '9'));
	word = _mm_or_si128(word, _mm_cmpeq_epi8(v, _mm_set1_epi8('_')));
	word = _mm_or_si128(word, _mm_cmpeq_epi8(v, _mm_set1_epi8('$')));
	unsigned high_bits = (unsigned)_mm_movemask_epi8(v);
	unsigned bits = (unsigned)_mm_movemask_epi8(word) | high_bits;
	unsigned n = (unsigned)__builtin_ctz(~bits);
	_mm_storeu_si128((__m128i *)(void *)out, folded);
	*high = high_bits & ((1u << n) - 1);
	return n;
}
#endif

/* A word that opens no literal: p is its first byte. */
static inline const char *put_word(struct writer *w, const char *p, const char *end)
{
	uint8_t *out = w->out, high = 0;
	*out++ = ' ';
#ifdef __SSE2__
	/* The store may write 16 bytes where the word has fewer: the caller's buffer has room for 64 more. */
	if (LIKELY(end - p >= 16)) {
		bool high_16;
		unsigned n = fold_16(p, out, &high_16);
		w->info->high_bytes |= high_16;
		p += n;
		out += n;
		if (n < 16) {
			w->out = out;
			return p + (*p == ' '); /* 16 bytes were there, and the word has fewer */
		}
	}
#endif
	for (; p < end && (lexer_class(p) & CLASS_WORD); p++) {
		high |= (uint8_t)*p;
		*out++ = lexer_fold((uint8_t)*p);
	}
	w->out = out;
	w->info->high_bytes |= high >= 0x80;
	return p;
}

/* b'..', u&'..' and the like, whose second byte decides. */
static inline bool opens_literal(const char *p, const char *end)
{
	return end - p > 1 && (p[1] == '\'' || p[1] == '&');
}

static inline bool is_plain_integer(const char **pp, const char *end)
{
	const char *p = *pp;
	while (p < end && lexer_start(p) == START_DIGIT)
		p++;
	if (p < end && ((lexer_class(p) & CLASS_WORD) || *p == '.'))
		return false;
	*pp = p;
	return true;
}

/* The tokens that most texts are made of.  False: p is at something else. */
static inline bool put_common(struct writer *w, const char **pp, const char *end)
{
	const char *p = *pp;
	switch (lexer_start(p)) {
	case START_SPACE:
		*pp = p + 1;
		return true;
	case START_PUNCT:
		put_punct(w, (uint8_t)*p);
		*pp = p + 1;
		return true;
	case START_PREFIX:
		if (opens_literal(p, end))
			return false;
		*pp = put_word(w, p, end);
		return true;
	case START_WORD:
		*pp = put_word(w, p, end);
		return true;
	case START_DIGIT:
		if (!is_plain_integer(pp, end))
			return false;
		*w->out++ = MARK_INTEGER;
		return true;
	case START_DOT:
		if (end - p < 2 || p[1] == '.' || lexer_start(p + 1) == START_DIGIT)
			return false;
		*w->out++ = '.';
		*pp = p + 1;
		return true;
	case START_OPERATOR:
		if (end - p < 2 || (lexer_class(p + 1) & CLASS_OPERATOR))
			return false;
		*w->out++ = ' ';
		*w->out++ = (uint8_t)*p;
		*pp = p + 1 + (p[1] == ' ');
		return true;
	case START_COLON:
	case START_QUOTE:
	case START_DQUOTE:
	case START_DOLLAR:
	case START_BAD:
		break;
	}
	return false;
}

void sql_canon(struct str sql, bool std_strings, uint8_t *out, struct sql_canon *info)
{
	struct sql_lexer lx;
	struct sql_token tok;
	struct writer w = { .out = out, .info = info };
	const char *p = sql.p, *end = sql.p + sql.n;
	*info = (struct sql_canon){ 0 };
	lexer_init(&lx, sql, std_strings);
	while (p < end) {
		if (LIKELY(put_common(&w, &p, end)))
			continue;
		lx.p = p;
		lexer_next(&lx, &tok);
		/* A word here is one that looked like a literal: it must be folded as all words are. */
		if (tok.kind == TOKEN_WORD) {
			p = put_word(&w, tok.p, end);
		} else {
			put_token(&w, &tok);
			p = lx.p;
		}
	}
	info->backslash = lx.backslash;
	info->n = (size_t)(w.out - out);
}

/* --- the hash --- */

static uint64_t seed;
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void seed_init(void) { CHECK(getrandom(&seed, sizeof(seed), 0) == (ssize_t)sizeof(seed)); }

XXH128_hash_t sql_canon_hash(const uint8_t *canon, const struct sql_canon *info)
{
	pthread_once(&seed_once, seed_init);
	return XXH3_128bits_withSeed(canon, info->n, seed);
}

/* --- for people --- */

size_t sql_canon_print(const uint8_t *canon, size_t n, char *out, size_t size)
{
	size_t len = 0;
	DCHECK(size > 0);
	for (size_t i = 0; i < n && len + 1 < size; i++) {
		uint8_t c = canon[i];
		bool tight = len == 0 || out[len - 1] == '(' || out[len - 1] == '.' || out[len - 1] == '[';
		if (c == ' ' && (tight || (i + 1 < n && canon[i + 1] == ':')))
			continue;
		if (c < ' ' && !tight && out[len - 1] != ' ') {
			out[len++] = ' ';
			if (len + 1 >= size)
				break;
		}
		out[len++] = c < ' ' ? '?' : (char)c;
	}
	out[len] = 0;
	return len;
}
