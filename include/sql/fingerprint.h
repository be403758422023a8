/* sql/fingerprint.h - what a statement's text has in common with all others that differ only in literals.
 *
 * The canonical text is the token stream: comments and white space gone, unquoted words folded, every literal a marker
 * byte of its kind.  Equal canonical texts have equal parse trees up to the literals' values.  A string that a datetime
 * input may read as the present ('now') has a marker of its own, since it changes what the statement means (D1, F5).
 * The fingerprint is a 128-bit hash of it, seeded per process, so that nobody can aim at a collision. */
#ifndef SQL_FINGERPRINT_H
#define SQL_FINGERPRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>
#include "base/str.h"

/* Longer texts are not parsed: they go to the primary (DECISIONS.md, parse bound). */
enum { SQL_PARSE_BYTES_MAX = 64 * 1024, SQL_CANON_BYTES_MAX = 2 * SQL_PARSE_BYTES_MAX + 64 };
/* Deeper texts are not parsed: the parser recurses (see sqlscan.c). */
enum { SQL_NESTING_MAX = 500 };

struct sql_canon {
	size_t n;         /* bytes of canonical text */
	bool now_literal; /* D1 */
	bool bad;         /* holds a BAD token */
	bool backslash;   /* a plain literal with a backslash while standard_conforming_strings is off */
	bool high_bytes;  /* bytes of 0x80 or more: not to be trusted in SJIS, BIG5, GBK, UHC, GB18030, JOHAB */
};

/* Writes the canonical text to out, which has room for 2 * sql.n + 64 bytes. */
void sql_canon(struct str sql, bool std_strings, uint8_t *out, struct sql_canon *info);
XXH128_hash_t sql_canon_hash(const uint8_t *canon, const struct sql_canon *info);
/* The canonical text as people read it: ? for literals.  Cuts at size-1 and ends with NUL; returns the length. */
size_t sql_canon_print(const uint8_t *canon, size_t n, char *out, size_t size);

#endif
