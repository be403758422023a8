/* proxy/limits.h - what is counted over all workers against a limit, by name.
 *
 * One counter for each name in use, with counted references: of what may count, and of what is counted.  Names come
 * from clients, so that one must go with the last of them.  The counters are atomic; finding one and letting one go
 * takes a mutex, so only where connections and their books are opened and closed. */
#ifndef PROXY_LIMITS_H
#define PROXY_LIMITS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <uthash.h>
#include "base/check.h"

#define LIMIT_KINDS(X)                                                                                                 \
	X(USER_SERVERS, "server connections of a role, max_user_connections")                                          \
	X(DATABASE_SERVERS, "server connections of an entry of [databases], max_db_connections")                       \
	X(USER_CLIENTS, "clients of a user, max_user_client_connections")                                              \
	X(DATABASE_CLIENTS, "clients of a database, max_db_client_connections")                                        \
	X(APPLICATION_SERVERS, "what an application holds in a pool, its pool_size")
enum limit_kind {
#define LIMIT_KIND_ENUM(id, doc) LIMIT_##id,
	LIMIT_KINDS(LIMIT_KIND_ENUM)
#undef LIMIT_KIND_ENUM
};

struct limit {
	UT_hash_handle hh;
	_Atomic int n;
	int refs; /* guarded by the mutex */
	size_t key_len;
	char key[]; /* kind, name */
};

/* Finds or makes; the caller's own reference. */
struct limit *limit_get(enum limit_kind kind, const void *name, size_t name_len) MUSTCHECK;
struct limit *limit_ref(struct limit *l) MUSTCHECK;
void limit_unref(struct limit *l); /* NULL is fine */
size_t limits_count(void);

/* One more, unless `most` are there already; most <= 0 is no limit. */
static inline bool limit_take(_Atomic int *n, int most)
{
	if (most > 0 && atomic_load_explicit(n, memory_order_relaxed) >= most)
		return false;
	int before = atomic_fetch_add(n, 1);
	if (most <= 0 || before < most)
		return true;
	atomic_fetch_sub(n, 1);
	return false;
}
/* One less, if there are more than `keep`: of two who see one too many at the same moment, one takes it away. */
static inline bool limit_give_surplus(_Atomic int *n, int keep)
{
	int now = atomic_load(n);
	while (now > keep) {
		if (atomic_compare_exchange_weak(n, &now, now - 1))
			return true;
	}
	return false;
}
static inline bool limit_is_reached(const struct limit *l, int most)
{
	return most > 0 && atomic_load_explicit(&l->n, memory_order_relaxed) >= most;
}
static inline void limit_give_back(struct limit *l) { atomic_fetch_sub(&l->n, 1); }

void limits_free(void); /* at exit */

#endif
