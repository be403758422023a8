/* route.c - see sql/route.h.
 *
 * A reason says both where and why; its class (sql/route_reason.h) says how firmly.  Judging a statement is taking the
 * worst of three: its verbs (a table), its flags (a table), and what its names may reach (catalog.c).  The transaction
 * and the client's wish come last and can only hold a read back, never let a write go. */
#include "sql/route.h"
#include <stddef.h>
#include "base/check.h"
#include "base/rules.h"
#include "route_priv.h"
#include "sql/catalog.h"

enum reason_class { CLASS_READ, CLASS_VOUCHED, CLASS_PRIMARY };

static const struct {
	const char *name, *text;
	enum reason_class class;
} reasons[] = {
#define REASON_ROW(id, class, text) [REASON_##id] = { #id, text, CLASS_##class },
	ROUTE_REASONS(REASON_ROW)
#undef REASON_ROW
};

static const char *const target_names[] = {
#define TARGET_NAME(id, text) [ROUTE_##id] = text,
	ROUTE_TARGETS(TARGET_NAME)
#undef TARGET_NAME
};

const char *route_reason_name(enum route_reason reason) { return reasons[reason].name; }
const char *route_reason_text(enum route_reason reason) { return reasons[reason].text; }
const char *route_target_name(enum route_target target) { return target_names[target]; }

/* How each verb is judged, flags and names aside. */
enum verb_rule {
	VERB_READ,     /* by its names */
	VERB_READ_IF,  /* the same when inner_read, else as given */
	VERB_DECLARES, /* the same, and only in a READ ONLY transaction */
	VERB_FOLLOWS,  /* where its transaction or cursor is */
	VERB_IS        /* as given */
};
static const struct {
	enum verb_rule rule;
	enum route_reason reason;
} verbs[SQL_VERB_COUNT] = {
	[SQL_EMPTY] = { VERB_FOLLOWS, REASON_EMPTY },
	[SQL_SELECT] = { VERB_READ, REASON_READ },
	[SQL_SELECT_INTO] = { VERB_IS, REASON_DDL },
	[SQL_INSERT] = { VERB_IS, REASON_WRITE },
	[SQL_UPDATE] = { VERB_IS, REASON_WRITE },
	[SQL_DELETE] = { VERB_IS, REASON_WRITE },
	[SQL_MERGE] = { VERB_IS, REASON_WRITE },
	[SQL_COPY_TO] = { VERB_READ_IF, REASON_WRITE },
	[SQL_COPY_FROM] = { VERB_IS, REASON_WRITE },
	[SQL_COPY_FILE] = { VERB_IS, REASON_COPY_FILE },
	[SQL_EXPLAIN] = { VERB_READ_IF, REASON_UTILITY },
	[SQL_SHOW] = { VERB_IS, REASON_SHOW },
	[SQL_SET] = { VERB_IS, REASON_SESSION },
	[SQL_SET_LOCAL] = { VERB_FOLLOWS, REASON_IN_TRANSACTION },
	[SQL_RESET] = { VERB_IS, REASON_SESSION },
	[SQL_RESET_ALL] = { VERB_IS, REASON_SESSION },
	[SQL_SET_TRANSACTION] = { VERB_FOLLOWS, REASON_IN_TRANSACTION },
	[SQL_SET_SNAPSHOT] = { VERB_IS, REASON_SNAPSHOT },
	[SQL_SET_CHARACTERISTICS] = { VERB_IS, REASON_SESSION },
	[SQL_SET_CONSTRAINTS] = { VERB_IS, REASON_UTILITY },
	[SQL_BEGIN] = { VERB_FOLLOWS, REASON_IN_TRANSACTION },
	[SQL_COMMIT] = { VERB_FOLLOWS, REASON_IN_TRANSACTION },
	[SQL_ROLLBACK] = { VERB_FOLLOWS, REASON_IN_TRANSACTION },
	[SQL_SAVEPOINT] = { VERB_FOLLOWS, REASON_IN_TRANSACTION },
	[SQL_RELEASE] = { VERB_FOLLOWS, REASON_IN_TRANSACTION },
	[SQL_ROLLBACK_TO] = { VERB_FOLLOWS, REASON_IN_TRANSACTION },
	[SQL_PREPARE_TRANSACTION] = { VERB_IS, REASON_TWO_PHASE },
	[SQL_COMMIT_PREPARED] = { VERB_IS, REASON_TWO_PHASE },
	[SQL_ROLLBACK_PREPARED] = { VERB_IS, REASON_TWO_PHASE },
	[SQL_PREPARE] = { VERB_IS, REASON_PREPARED },
	[SQL_EXECUTE] = { VERB_IS, REASON_PREPARED },
	[SQL_DEALLOCATE] = { VERB_IS, REASON_PREPARED },
	[SQL_DISCARD_ALL] = { VERB_IS, REASON_SESSION },
	[SQL_DISCARD_PLANS] = { VERB_IS, REASON_SESSION },
	[SQL_DISCARD_SEQUENCES] = { VERB_IS, REASON_SESSION },
	[SQL_DISCARD_TEMP] = { VERB_IS, REASON_SESSION },
	[SQL_LISTEN] = { VERB_IS, REASON_NOTIFY },
	[SQL_UNLISTEN] = { VERB_IS, REASON_NOTIFY },
	[SQL_NOTIFY] = { VERB_IS, REASON_NOTIFY },
	[SQL_DECLARE] = { VERB_DECLARES, REASON_WRITE },
	[SQL_FETCH] = { VERB_FOLLOWS, REASON_CURSOR },
	[SQL_CLOSE] = { VERB_FOLLOWS, REASON_CURSOR },
	[SQL_LOCK] = { VERB_IS, REASON_LOCK_TABLE },
	[SQL_DO] = { VERB_IS, REASON_PROCEDURE },
	[SQL_CALL] = { VERB_IS, REASON_PROCEDURE },
	[SQL_LOAD] = { VERB_IS, REASON_SESSION },
	[SQL_VACUUM] = { VERB_IS, REASON_UTILITY },
	[SQL_ANALYZE] = { VERB_IS, REASON_UTILITY },
	[SQL_CLUSTER] = { VERB_IS, REASON_UTILITY },
	[SQL_REINDEX] = { VERB_IS, REASON_UTILITY },
	[SQL_TRUNCATE] = { VERB_IS, REASON_WRITE },
	[SQL_REFRESH] = { VERB_IS, REASON_WRITE },
	[SQL_CHECKPOINT] = { VERB_IS, REASON_UTILITY },
	[SQL_ALTER_SYSTEM] = { VERB_IS, REASON_UTILITY },
	[SQL_DATABASE] = { VERB_IS, REASON_DDL },
	[SQL_DDL] = { VERB_IS, REASON_DDL },
	[SQL_UNPARSED] = { VERB_IS, REASON_SYNTAX },
};

static const enum route_reason unparsed_reasons[] = {
	[SQL_UNPARSED_NONE] = REASON_READ,           [SQL_UNPARSED_SYNTAX] = REASON_SYNTAX,
	[SQL_UNPARSED_TOO_LARGE] = REASON_TOO_LARGE, [SQL_UNPARSED_TOO_DEEP] = REASON_TOO_DEEP,
	[SQL_UNPARSED_ENCODING] = REASON_ENCODING,   [SQL_UNPARSED_BACKSLASH] = REASON_ENCODING,
};

/* Flags that make a read none. */
static const struct {
	enum sql_flag flag;
	enum route_reason reason;
} flag_reasons[] = {
	{ SQL_F_WRITES, REASON_WRITE },
	{ SQL_F_INTO, REASON_DDL },
	{ SQL_F_LOCKS_ROWS, REASON_LOCKING },
	{ SQL_F_SNAPSHOT, REASON_SNAPSHOT },
	{ SQL_F_UNKNOWN_NODE, REASON_UNKNOWN_NODE },
};

static enum route_reason worse(enum route_reason a, enum route_reason b) { return a > b ? a : b; }

static enum route_reason reason_of_flags(const struct sql_facts *f)
{
	enum route_reason reason = REASON_READ;
	for (size_t i = 0; i < ARRAY_LEN(flag_reasons) && !RULE_BROKEN(F1); i++)
		if (f->flags & (uint32_t)flag_reasons[i].flag)
			reason = worse(reason, flag_reasons[i].reason);
	return reason;
}

/* The verb alone.  VERB_FOLLOWS among other statements counts as what it is: they all go to the primary. */
static enum route_reason reason_of_stmt(const struct sql_stmt *s)
{
	switch (verbs[s->verb].rule) {
	case VERB_READ:
		return REASON_READ;
	case VERB_READ_IF:
		return s->inner_read ? REASON_READ : verbs[s->verb].reason;
	case VERB_DECLARES:
		/* WITH HOLD outlives the transaction, and so the server that it is on. */
		return s->hold ? REASON_SESSION : s->inner_read ? REASON_READ : verbs[s->verb].reason;
	case VERB_FOLLOWS:
	case VERB_IS:
		break;
	}
	return verbs[s->verb].reason;
}

/* The reasons of statements become those of functions: what a client may not vouch for, it may not vouch for in a
 * function either. */
enum route_reason route_body_reason(const struct sql_facts *f)
{
	enum route_reason reason = worse(reason_of_flags(f), unparsed_reasons[f->unparsed]);
	for (unsigned i = 0; i < f->n_stmts && !f->unparsed; i++)
		if (f->stmts[i].verb != SQL_EMPTY)
			reason = worse(reason, reason_of_stmt(&f->stmts[i]));
	if (f->flags & (SQL_F_DYNAMIC | SQL_F_SWALLOWS_ERRORS))
		reason = worse(reason, REASON_UNPROVED_FUNCTION);
	if (f->flags & (SQL_F_DDL | SQL_F_TX_CONTROL_INSIDE))
		reason = worse(reason, REASON_WRITE_FUNCTION);
	switch ((int)reason) {
	case REASON_WRITE:
	case REASON_DDL:
	case REASON_NOTIFY:
	case REASON_LOCK_TABLE:
	case REASON_UTILITY:
	case REASON_TWO_PHASE:
		return REASON_WRITE_FUNCTION;
	case REASON_SESSION:
	case REASON_PREPARED:
	case REASON_IN_TRANSACTION:
		return REASON_SESSION_FUNCTION;
	case REASON_COPY_FILE:
		return REASON_SIDE_EFFECT;
	case REASON_PROCEDURE:
	case REASON_CURSOR:
	case REASON_SHOW:
	case REASON_UNKNOWN_NODE:
	case REASON_SYNTAX:
	case REASON_TOO_LARGE:
	case REASON_TOO_DEEP:
	case REASON_ENCODING:
		return REASON_UNPROVED_FUNCTION;
	default: /* as it is */
		return reason;
	}
}

/* --- step one: facts and catalog --- */

static bool needs_facts(const struct sql_facts *f)
{
	return f->relations.n || f->functions.n || f->operators.n || f->types.n || f->columns.n || f->words.n;
}

/* DO and CALL run code: without facts about it anything may have happened to the session. */
static uint32_t pins_of_code(const struct sql_facts *f, const struct catalog *catalog)
{
	bool opaque = f->flags & SQL_F_DYNAMIC;
	return (f->flags & SQL_F_MAY_TOUCH_SESSION) && (opaque || !catalog) ? SQL_PIN_UNKNOWN : 0;
}

static void classify_names(struct route_class *class, const struct sql_facts *f, const struct catalog *catalog)
{
	struct catalog_effect e = { .reason = REASON_READ };
	const char *what = NULL;
	if (catalog)
		e = catalog_reach(catalog, f, &what);
	else if (needs_facts(f))
		e.reason = REASON_NO_FACTS;
	class->pins |= e.pins;
	class->shows_time = class->shows_time || e.shows_time;
	if (e.reason > class->reason) {
		class->reason = e.reason;
		class->what = what;
	}
}

static void classify_stmts(struct route_class *class, const struct sql_facts *f)
{
	bool all_follow = true;
	for (unsigned i = 0; i < f->n_stmts; i++) {
		const struct sql_stmt *s = &f->stmts[i];
		bool follows = verbs[s->verb].rule == VERB_FOLLOWS;
		all_follow = all_follow && follows;
		class->declares = class->declares || verbs[s->verb].rule == VERB_DECLARES;
		class->reason = worse(class->reason, reason_of_stmt(s));
	}
	class->follows = all_follow && !f->multi && (!(f->flags & SQL_F_ODD_PATH) || RULE_BROKEN(E5));
	/* A transaction statement among others decides about all of them (A3). */
	if (f->multi && class->reason < REASON_MULTI && (f->flags & SQL_F_TX_CONTROL_INSIDE))
		class->reason = REASON_MULTI;
}

struct route_class route_classify(const struct sql_facts *f, const struct catalog *catalog)
{
	struct route_class class = { .reason = REASON_READ,
		                     .multi = f->multi,
		                     .shows_time = f->flags & SQL_F_SHOWS_TIME,
		                     .pins = f->pins | pins_of_code(f, catalog) };
	if (f->unparsed) {
		class.reason = unparsed_reasons[f->unparsed];
		classify_names(&class, f, catalog);
		return class;
	}
	if (f->flags & SQL_F_LOCAL_SETTING) {
		class.follows = !f->multi;
		class.reason = f->multi ? REASON_MULTI : REASON_IN_TRANSACTION;
		return class;
	}
	class.reason = reason_of_flags(f);
	if ((f->flags & SQL_F_ODD_PATH) && !RULE_BROKEN(E5))
		class.reason = worse(class.reason, REASON_SESSION);
	classify_stmts(&class, f);
	classify_names(&class, f, catalog);
	return class;
}

/* --- step two: wish and transaction --- */

static struct route_verdict verdict(const struct route_class *class, enum route_target target, enum route_reason reason)
{
	return (struct route_verdict){ .target = target,
		                       .reason = reason,
		                       .proved = class->reason == REASON_READ,
		                       .shows_time = class->shows_time,
		                       .pins = class->pins,
		                       .what = reason == class->reason ? class->what : NULL };
}

/* What the transaction has to say about a read; REASON_READ: nothing. */
static enum route_reason reason_of_tx(const struct route_class *class, const struct route_policy *policy)
{
	switch (policy->tx) {
	case ROUTE_TX_SERIALIZABLE:
		return RULE_BROKEN(C2) ? REASON_READ : REASON_SERIALIZABLE;
	case ROUTE_TX_REPEATABLE:
		return REASON_READ_WRITE_TRANSACTION;
	case ROUTE_TX_UNMOVABLE:
		return REASON_TRANSACTION_READS;
	case ROUTE_TX_MOVABLE:
		if (class->declares)
			return REASON_CURSOR_MAY_MOVE;
		return class->shows_time && !RULE_BROKEN(C1) ? REASON_TRANSACTION_TIME : REASON_READ;
	case ROUTE_TX_NONE:
		return class->declares ? REASON_CURSOR_MAY_MOVE : REASON_READ;
	case ROUTE_TX_READ_ONLY:
		break;
	}
	return REASON_READ;
}

/* A hit in the cache of shapes comes straight here: a few branches, no look-up. */
struct route_verdict route_apply(const struct route_class *class, const struct route_policy *policy)
{
	if (class->follows)
		return verdict(class, ROUTE_STAY, class->reason);
	enum reason_class kind = reasons[class->reason].class;
	if (kind == CLASS_PRIMARY)
		return verdict(class, ROUTE_PRIMARY, class->reason);
	if (policy->wish == ROUTE_WISH_PRIMARY)
		return verdict(class, ROUTE_PRIMARY, REASON_MODE);
	/* A8: several statements are never guessed. */
	bool vouched = policy->wish == ROUTE_WISH_REPLICA && (!class->multi || RULE_BROKEN(A8));
	if (kind == CLASS_VOUCHED && !vouched)
		return verdict(class, ROUTE_PRIMARY, class->reason);
	enum route_reason tx = reason_of_tx(class, policy);
	if (tx != REASON_READ)
		return verdict(class, ROUTE_PRIMARY, tx);
	return verdict(class, ROUTE_REPLICA, kind == CLASS_READ ? REASON_READ : REASON_WISH);
}

struct route_verdict route_decide(const struct sql_facts *facts, const struct catalog *catalog,
                                  const struct route_policy *policy)
{
	struct route_class class = route_classify(facts, catalog);
	return route_apply(&class, policy);
}

struct route_verdict route_stricter(struct route_verdict a, struct route_verdict b)
{
	/* PRIMARY before STAY before REPLICA. */
	static const int rank[] = { [ROUTE_PRIMARY] = 2, [ROUTE_STAY] = 1, [ROUTE_REPLICA] = 0 };
	bool a_wins = rank[a.target] != rank[b.target] ? rank[a.target] > rank[b.target] : a.reason >= b.reason;
	struct route_verdict v = a_wins ? a : b;
	v.proved = a.proved && b.proved;
	v.shows_time = a.shows_time || b.shows_time;
	v.pins = a.pins | b.pins;
	return v;
}
