/* base/mem.c - see base/mem.h. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local unsigned long fail_countdown;

static void out_of_memory(size_t size) NORETURN;
static void out_of_memory(size_t size)
{
	fprintf(stderr, "FATAL: out of memory (%zu bytes)\n", size);
	abort();
}

void *mem_alloc(size_t size)
{
	void *p = malloc(size ? size : 1);
	if (!p)
		out_of_memory(size);
	return p;
}

void *mem_zalloc(size_t size)
{
	void *p = calloc(1, size ? size : 1);
	if (!p)
		out_of_memory(size);
	return p;
}

void *mem_realloc(void *ptr, size_t size)
{
	void *p = realloc(ptr, size ? size : 1);
	if (!p)
		out_of_memory(size);
	return p;
}

char *mem_strndup(const char *s, size_t n)
{
	char *p = mem_alloc(n + 1);
	memcpy(p, s, n);
	p[n] = '\0';
	return p;
}

char *mem_strdup(const char *s) { return mem_strndup(s, strlen(s)); }

char *mem_printf(const char *fmt, ...)
{
	va_list ap;
	char *out = NULL;
	va_start(ap, fmt);
	if (vasprintf(&out, fmt, ap) < 0)
		out_of_memory(0);
	va_end(ap);
	return out;
}

void mem_free(void *ptr) { free(ptr); }

void mem_free_secret(void *ptr, size_t size)
{
	if (!ptr)
		return;
	explicit_bzero(ptr, size);
	free(ptr);
}

static bool must_fail(void) { return fail_countdown != 0 && --fail_countdown == 0; }

void *mem_try_alloc(size_t size) { return must_fail() ? NULL : malloc(size ? size : 1); }
void *mem_try_realloc(void *ptr, size_t size) { return must_fail() ? NULL : realloc(ptr, size ? size : 1); }
void mem_fail_after(unsigned long nth) { fail_countdown = nth; }
