/* base/str.h - borrowed byte strings (pointer and length), as they stand in network buffers.
 *
 * A struct str never owns its bytes and need not end in NUL.  Nothing here allocates. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "base/check.h"

struct str {
	const char *p; /* borrowed; may be NULL when n is 0 */
	size_t n;
};

#define STR(lit) ((struct str){ (lit), sizeof(lit) - 1 })
static inline struct str str_of(const char *z) { return (struct str){ z, z ? strlen(z) : 0 }; }

static inline bool str_eq(struct str a, struct str b) { return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0); }
bool str_ieq(struct str a, struct str b); /* ASCII letters only */
struct str str_trim(struct str s);        /* without leading and trailing white space */
bool str_has_prefix(struct str s, struct str prefix);
/* Copies at most size-1 bytes and ends with NUL; returns false when it had to cut. */
bool str_copy(char *dst, size_t size, struct str src);
/* Whole string must be a number; false leaves *out alone. */
bool str_to_i64(struct str s, int64_t *out) MUSTCHECK;
/* Edit distance bounded by `max` (max+1 means "further"), for "did you mean". */
unsigned str_distance(const char *a, const char *b, unsigned max);

/* Length of the UTF-8 character at s (of which NUL is the end), or 0: there is none. */
size_t str_utf8_length(const char *s);

#endif
