/* auth/hba.h - who may come in from where, by a file in the form of pg_hba.conf.
 *
 * hba_load() makes an immutable list of rules; hba_match() is pure: the first rule that fits decides, and none means
 * no entry.  Methods are those of auth/password.h.  What PostgreSQL knows and we do not (role membership, host names,
 * regular expressions, samenet, include) is an error at load that says so: a rule that was silently skipped would let
 * a later one decide.
 * Owner: whoever holds a reference; safe on any thread. */
#ifndef AUTH_HBA_H
#define AUTH_HBA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "auth/password.h"
#include "base/check.h"
#include "base/str.h"

struct hba; /* opaque: reference count, rules */

enum hba_transport { HBA_UNIX, HBA_TCP_PLAIN, HBA_TCP_TLS };

struct hba_query {
	enum hba_transport transport;
	const struct sockaddr *addr; /* borrowed; the client's; may be NULL with HBA_UNIX */
	struct str database, user;
	bool is_physical_replication; /* replication=true without a database: only rules for "replication" fit */
};

struct hba_verdict {
	bool matched; /* false: no rule fits; then method is AUTH_METHOD_REJECT */
	enum auth_method method;
	unsigned line;   /* of the rule; 0 without one */
	const char *map; /* borrowed from the rules; name of the user map, or NULL */
};

/* NULL on failure, with "FILE:LINE: what is wrong" in error. */
struct hba *hba_load(const char *path, char *error, size_t error_size) MUSTCHECK;
/* Files named by @ in the text are looked for beside path. */
struct hba *hba_parse(struct str text, const char *path, char *error, size_t error_size) MUSTCHECK;
struct hba *hba_ref(struct hba *hba);
void hba_unref(struct hba *hba); /* NULL is fine */

size_t hba_count(const struct hba *hba);
struct hba_verdict hba_rule(const struct hba *hba, size_t i); /* what rule i would give */
struct hba_verdict hba_match(const struct hba *hba, const struct hba_query *query);

#endif
