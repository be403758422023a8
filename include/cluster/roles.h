/* cluster/roles.h - who is the primary?  Pure: what each host says goes in, a role for each comes out.
 *
 * A host's own word (pg_is_in_recovery) is not enough: after a failover the old primary may be back and not know.  The
 * higher timeline wins, also against one that was accepted earlier and is gone now; two that claim the same timeline
 * have been promoted apart, and writing to either would be a guess (B7).  Until each host has answered or failed once,
 * nobody is chosen: a deposed primary might just be the fastest to answer. */
#ifndef CLUSTER_ROLES_H
#define CLUSTER_ROLES_H

#include <stdbool.h>
#include <stdint.h>
#include "cluster/topology.h"

enum host_answer {
	ANSWER_NOT_YET, /* the first attempt is still under way */
	ANSWER_NONE,    /* no connection */
	ANSWER_REFUSED, /* it speaks our protocol but does not let the monitor in (credentials, database, limits) */
	ANSWER_FULL     /* the fields below are known */
};

struct host_view {
	enum host_answer answer;
	bool in_recovery;
	uint32_t timeline; /* of a primary, from the name of its WAL file; 0 unknown */
	uint64_t system_identifier;
};

/* What must be remembered between two decisions. */
struct role_memory {
	uint64_t system_identifier; /* 0: none seen */
	uint32_t timeline;          /* highest timeline of a primary accepted */
};

#define ROLE_VERDICTS(X)                                                                                               \
	X(ONE, "one primary")                                                                                          \
	X(NONE, "no primary")                                                                                          \
	X(EARLY, "not every host has answered yet")                                                                    \
	X(NEWER_WINS, "several primaries: the one with the newest timeline is used, the others are fenced")            \
	X(SPLIT, "several primaries claim the same timeline: no writes until only one is left")                        \
	X(STALE, "the only primary has an older timeline than one that was used before: fenced")                       \
	X(BLIND, "the only host does not let the monitor log in: taken for a primary, no reads are split")
enum role_verdict {
#define ROLE_VERDICT_ENUM(id, text) VERDICT_##id,
	ROLE_VERDICTS(ROLE_VERDICT_ENUM)
#undef ROLE_VERDICT_ENUM
	    VERDICT_COUNT
};
const char *role_verdict_text(enum role_verdict verdict);

struct role_decision {
	enum host_role role[CLUSTER_MAX_HOSTS];
	bool foreign[CLUSTER_MAX_HOSTS]; /* DOWN because its system identifier is another one */
	int primary;                     /* index or -1 */
	enum role_verdict verdict;
	struct role_memory memory;
};
struct role_decision roles_decide(const struct host_view *hosts, unsigned n, const struct role_memory *memory);

#endif
