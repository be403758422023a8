/* base/check.h - assertions and compiler attributes.
 *
 * CHECK() is always compiled in: it guards memory safety and state edges, where going on would risk a wrong
 * answer.  DCHECK() costs nothing in a release build.  Both log the failing expression and abort. */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#define MUSTCHECK              __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NONNULL                __attribute__((nonnull))
#define NORETURN               __attribute__((noreturn))
/* Not on the path of a query: kept out of the functions that are, whose frames stay small. */
#define COLD                            __attribute__((cold, noinline))
#define UNUSED                          __attribute__((unused))
#define LIKELY(x)                       __builtin_expect(!!(x), 1)
#define UNLIKELY(x)                     __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Logs "check failed: EXPR at FILE:LINE" to standard error and aborts. */
void check_failed(const char *expr, const char *file, int line, const char *func) NORETURN;

#define CHECK(expr) (LIKELY(expr) ? (void)0 : check_failed(#expr, __FILE__, __LINE__, __func__))
#ifdef NDEBUG
#define DCHECK(expr) ((void)sizeof(!(expr)))
#else
#define DCHECK(expr) CHECK(expr)
#endif

#endif
