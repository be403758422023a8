/* sql/route.h - where may this run?  Facts in, verdict out; no I/O, no globals, no clock.
 *
 * Two steps, so that the costly one can be cached: route_classify() looks at facts and catalog, route_apply() at the
 * client's wish and transaction.  route_decide() is both. */
#ifndef SQL_ROUTE_H
#define SQL_ROUTE_H

#include <stdbool.h>
#include <stdint.h>
#include "sql/facts.h"
#include "sql/route_reason.h"

struct catalog;

#define ROUTE_TARGETS(X)                                                                                               \
	X(PRIMARY, "primary")                                                                                          \
	X(REPLICA, "replica")                                                                                          \
	X(STAY, "stay") /* where the transaction or the cursor is; the primary when there is none */
enum route_target {
#define ROUTE_TARGET_ENUM(id, text) ROUTE_##id,
	ROUTE_TARGETS(ROUTE_TARGET_ENUM)
#undef ROUTE_TARGET_ENUM
};

enum route_wish { ROUTE_WISH_AUTO, ROUTE_WISH_PRIMARY, ROUTE_WISH_REPLICA };

/* The transaction that the statement would run in, with the modes that are in force (C2: defaults included). */
#define ROUTE_TXS(X)                                                                                                   \
	X(NONE, "autocommit")                                                                                          \
	X(READ_ONLY, "READ ONLY, not SERIALIZABLE")                                                                    \
	X(MOVABLE, "READ COMMITTED, may write: begins on a replica and moves")                                         \
	X(UNMOVABLE, "may write; begins on the primary (transaction_reads=primary)")                                   \
	X(REPEATABLE, "REPEATABLE READ, may write")                                                                    \
	X(SERIALIZABLE, "SERIALIZABLE, also READ ONLY")
enum route_tx {
#define ROUTE_TX_ENUM(id, doc) ROUTE_TX_##id,
	ROUTE_TXS(ROUTE_TX_ENUM)
#undef ROUTE_TX_ENUM
};

struct route_policy {
	enum route_wish wish;
	enum route_tx tx;
};

/* What facts and catalog say; depends on nothing else. */
struct route_class {
	enum route_reason reason;
	bool follows;     /* STAY: transaction control, cursor */
	bool declares;    /* DECLARE CURSOR of a read: a replica only in a READ ONLY transaction */
	bool multi;       /* never by a wish (A8) */
	bool shows_time;  /* C1, also through views and functions */
	uint32_t pins;    /* enum sql_pin, those of called functions and triggers included */
	const char *what; /* the object or command at fault; borrowed from the facts; may be NULL */
};

struct route_verdict {
	enum route_target target;
	enum route_reason reason;
	bool proved; /* false: only the client's wish speaks for a replica (A8) */
	bool shows_time;
	uint32_t pins;    /* takes effect when the statement has succeeded; UNKNOWN also when it failed */
	const char *what; /* borrowed from the facts; may be NULL */
};

/* catalog NULL: what needs facts goes to the primary. */
struct route_class route_classify(const struct sql_facts *facts, const struct catalog *catalog);
struct route_verdict route_apply(const struct route_class *class, const struct route_policy *policy);
struct route_verdict route_decide(const struct sql_facts *facts, const struct catalog *catalog,
                                  const struct route_policy *policy);

const char *route_reason_name(enum route_reason reason); /* READ */
const char *route_reason_text(enum route_reason reason);
const char *route_target_name(enum route_target target);
/* The stricter of two verdicts of one segment: it goes to a replica only when both may. */
struct route_verdict route_stricter(struct route_verdict a, struct route_verdict b);

#endif
