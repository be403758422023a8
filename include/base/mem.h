/* base/mem.h - checked allocation.
 *
 * mem_*: for start-up, configuration and small bookkeeping; running out of memory ends the process with a message
 * (a proxy that cannot keep its books must not go on guessing).  mem_try_*: for sizes that a peer influences;
 * returns NULL and the caller closes that one connection.  Tests make the Nth mem_try_* fail by mem_fail_after(). */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include "base/check.h"

void *mem_alloc(size_t size) MUSTCHECK;  /* never NULL; uninitialised */
void *mem_zalloc(size_t size) MUSTCHECK; /* never NULL; zeroed */
void *mem_realloc(void *ptr, size_t size) MUSTCHECK;
char *mem_strdup(const char *s) MUSTCHECK NONNULL;
char *mem_strndup(const char *s, size_t n) MUSTCHECK NONNULL; /* copies exactly n bytes and adds a NUL */
char *mem_printf(const char *fmt, ...) MUSTCHECK PRINTF_LIKE(1, 2);
void mem_free(void *ptr);                     /* NULL is fine */
void mem_free_secret(void *ptr, size_t size); /* overwrites first; NULL is fine */

void *mem_try_alloc(size_t size) MUSTCHECK;
void *mem_try_realloc(void *ptr, size_t size) MUSTCHECK;
/* The nth mem_try_* call from now on fails, once; 0 switches the hook off.  Tests only. */
void mem_fail_after(unsigned long nth);

#endif
