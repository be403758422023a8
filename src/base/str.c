/* base/str.c - see base/str.h. */
#include "base/str.h"

static inline char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }
static inline bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

bool str_ieq(struct str a, struct str b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++) {
		if (lower(a.p[i]) != lower(b.p[i]))
			return false;
	}
	return true;
}

struct str str_trim(struct str s)
{
	while (s.n && is_blank(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n && is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

bool str_has_prefix(struct str s, struct str prefix)
{
	return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

bool str_copy(char *dst, size_t size, struct str src)
{
	size_t n = src.n < size ? src.n : size - 1;
	if (n)
		memcpy(dst, src.p, n);
	dst[n] = '\0';
	return n == src.n;
}

bool str_to_i64(struct str s, int64_t *out)
{
	bool neg = false;
	uint64_t v = 0;
	size_t i = 0;
	if (i < s.n && (s.p[i] == '-' || s.p[i] == '+'))
		neg = s.p[i++] == '-';
	if (i == s.n)
		return false;
	for (; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
			return false;
	}
	if (v > (uint64_t)INT64_MAX)
		return false;
	*out = neg ? -(int64_t)v : (int64_t)v;
	return true;
}

enum { DISTANCE_MAX_LEN = 64 };

unsigned str_distance(const char *a, const char *b, unsigned max)
{
	size_t na = strlen(a), nb = strlen(b);
	unsigned row[DISTANCE_MAX_LEN + 1];
	if (na > DISTANCE_MAX_LEN || nb > DISTANCE_MAX_LEN)
		return max + 1;
	for (size_t j = 0; j <= nb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned diag = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			unsigned cost = diag + (lower(a[i - 1]) == lower(b[j - 1]) ? 0u : 1u);
			unsigned shift = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1u;
			diag = row[j];
			row[j] = cost < shift ? cost : shift;
		}
	}
	return row[nb] <= max ? row[nb] : max + 1;
}

size_t str_utf8_length(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t n = *s < 0x80                 ? 1
	           : *s >= 0xc2 && *s < 0xe0 ? 2
	           : (*s & 0xf0) == 0xe0     ? 3
	           : *s >= 0xf0 && *s < 0xf5 ? 4
	                                     : 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	/* Overlong forms, surrogates, what lies beyond U+10FFFF. */
	if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] >= 0xa0) || (*s == 0xf0 && s[1] < 0x90) ||
	    (*s == 0xf4 && s[1] >= 0x90))
		return 0;
	return n;
}
