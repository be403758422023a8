/* auth/ident.h - which system user or certificate name may log in as which role, by a file in the form of
 * pg_ident.conf.
 *
 * Lines of three fields: map, system name, role.  A system name that begins with / is a regular expression (POSIX
 * extended), whose first group \1 in the role stands for; the role "all" is every role.  What needs the server's
 * catalog (+role, a regular expression as role) is an error at load that says so.
 * Immutable; owner: whoever holds a reference; safe on any thread. */
#ifndef AUTH_IDENT_H
#define AUTH_IDENT_H

#include <stdbool.h>
#include <stddef.h>
#include "base/check.h"
#include "base/str.h"

struct ident; /* opaque: reference count, lines */

/* NULL on failure, with "FILE:LINE: what is wrong" in error. */
struct ident *ident_load(const char *path, char *error, size_t error_size) MUSTCHECK;
struct ident *ident_parse(struct str text, const char *path, char *error, size_t error_size) MUSTCHECK;
struct ident *ident_ref(struct ident *ident);
void ident_unref(struct ident *ident); /* NULL is fine */

/* May `system_name` be `role`?  With map NULL or "": only if they are the same. */
bool ident_allows(const struct ident *ident, const char *map, const char *system_name, const char *role) MUSTCHECK;
bool ident_has_map(const struct ident *ident, const char *map) MUSTCHECK;

#endif
