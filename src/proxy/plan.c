/* proxy/plan.c - see proxy/plan.h. */
#include "proxy/plan.h"

#include "base/rules.h"
#include "proxy/database.h"
#include "proxy/listens.h"
#include "proxy/params.h"
#include "proxy/server.h"
#include "sql/shapes.h"
#include "wire/msg.h"

/* Any case, as in guc.c; 0 for what is none. */
static char letter_of(const char *isolation)
{
	static const char *const words[] = { "serializable", "repeatable read", "read committed", "read uncommitted" };
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (str_ieq(str_of(isolation), str_of(words[i])))
			return "srcu"[i];
	}
	return 0;
}

char plan_isolation(const struct client *c)
{
	switch (c->begin.isolation) {
	case SQL_ISO_READ_UNCOMMITTED:
		return 'u';
	case SQL_ISO_READ_COMMITTED:
		return 'c';
	case SQL_ISO_REPEATABLE_READ:
		return 'r';
	case SQL_ISO_SERIALIZABLE:
		return 's';
	case SQL_ISO_UNSET:
		break;
	}
	if (RULE_BROKEN(C2))
		return 'c';
	return c->profile->isolation ? letter_of(c->profile->isolation) : c->du->owner->primary_isolation;
}

enum sql_isolation plan_isolation_level(const struct client *c)
{
	switch (plan_isolation(c)) {
	case 'u':
		return SQL_ISO_READ_UNCOMMITTED;
	case 'c':
		return SQL_ISO_READ_COMMITTED;
	case 'r':
		return SQL_ISO_REPEATABLE_READ;
	case 's':
		return SQL_ISO_SERIALIZABLE;
	default:
		return SQL_ISO_UNSET;
	}
}

/* Each statement has a snapshot of its own, so that two servers can share the transaction. */
static bool has_snapshot_per_statement(const struct client *c)
{
	char isolation = plan_isolation(c);
	return isolation == 'c' || isolation == 'u';
}

bool plan_may_move(const struct client *c)
{
	/* Undeclared ones never have state or time to lose: what makes either goes to the primary (C1). */
	bool stuck = c->begin.read_only == SQL_YES && (c->txf.has_state || (c->txf.shows_time && !RULE_BROKEN(C1)));
	return c->txf.on_standby && !stuck && !c->pins && has_snapshot_per_statement(c);
}

static enum route_tx tx_of(const struct client *c)
{
	/* Of a session's own default a standby knows nothing but to refuse it; the server's is lowered at login. */
	if (c->tx == CTX_NONE)
		return c->profile->isolation && plan_isolation(c) == 's' ? ROUTE_TX_SERIALIZABLE : ROUTE_TX_NONE;
	char isolation = plan_isolation(c);
	if (isolation == 's' || isolation == 0)
		return ROUTE_TX_SERIALIZABLE;
	if (c->begin.read_only == SQL_YES)
		return ROUTE_TX_READ_ONLY;
	if (isolation == 'r')
		return ROUTE_TX_REPEATABLE;
	/* B1: a commit that waits for its synchronous standby shows on replicas for long before it does on the primary.
	 */
	bool shown_early = atomic_load_explicit(&c->du->db->cluster->runners_ahead, memory_order_acquire);
	bool moves = c->routing.transaction_reads == TRANSACTION_READS_REPLICA && (!shown_early || RULE_BROKEN(B1));
	return moves ? ROUTE_TX_MOVABLE : ROUTE_TX_UNMOVABLE;
}

static bool is_pg_dump(const char *application)
{
	/* Most names end at the first comparison. */
	return application && application[0] == 'p' && application[1] == 'g' && application[2] == '_' &&
	       strcmp(application, "pg_dump") == 0;
}

struct route_policy plan_policy(const struct client *c)
{
	struct route_policy p = { ROUTE_WISH_AUTO, tx_of(c) };
	if (c->routing.route == ROUTE_MODE_REPLICA)
		p.wish = ROUTE_WISH_REPLICA;
	/* C5: a dump must see unlogged tables and may import its snapshot elsewhere. */
	/* E5: the facts take PostgreSQL's own names for what they are. */
	bool odd = c->profile->odd_path || (c->tx_flags & SQL_F_ODD_PATH) || c->du->owner->odd_path;
	if ((odd && !RULE_BROKEN(E5)) || c->routing.route == ROUTE_MODE_PRIMARY ||
	    (!RULE_BROKEN(C5) && is_pg_dump(c->application)))
		p.wish = ROUTE_WISH_PRIMARY;
	return p;
}

static enum sql_verb verb_of(const struct segment *seg) { return sql_facts_verb(shape_facts(seg->shape)); }

/* E6: the tag on the backend is not the client's application_name unless the format says so. */
static bool shows_own_name(const struct client *c, const struct segment *seg)
{
	if (!seg->single || verb_of(seg) != SQL_SHOW)
		return false;
	const char *name = shape_facts(seg->shape)->stmts[0].name, *own = params_get(c->view, "application_name");
	const char *tag = params_get(c->profile, "application_name");
	return name && own && tag && strcmp(name, "application_name") == 0 && strcmp(own, tag) != 0 && !c->pins;
}

/* SET transaction_isolation to nonsense says none, and is the server's to refuse (C3). */
static bool says_a_mode(const struct sql_begin *b)
{
	return b->isolation != SQL_ISO_UNSET || b->read_only != SQL_UNSET || b->deferrable != SQL_UNSET;
}

static bool is_local_setting(const struct segment *seg)
{
	return (seg->flags & SQL_F_LOCAL_SETTING) && seg->single && !shape_facts(seg->shape)->multi;
}

/* One of several statements of a string: nobody but us could do it, and nobody but the server the others. */
static bool has_setting_among_others(const struct client *c, const struct segment *seg)
{
	return UNLIKELY(seg->flags & SQL_F_LOCAL_SETTING) && seg->end == SEGMENT_QUERY && seg->shape &&
	       shape_facts(seg->shape)->multi && c->tx != CTX_FAILED && c->tx != CTX_LOST;
}

static void reject_setting_among_others(struct plan *plan)
{
	plan->action = PLAN_REJECT;
	pgerr_set(&plan->error, SQLSTATE_FEATURE_NOT_SUPPORTED,
	          "pgweir settings cannot stand among other statements of a string");
	pgerr_hint(&plan->error, "Send it as a query of its own.");
}

static bool answers_here(const struct client *c, const struct segment *seg)
{
	bool deferred = c->tx == CTX_DEFERRED;
	if (seg->end == SEGMENT_SYNC && seg->n == 1)
		return true;
	/* Its backend may have statements that nobody else knows of. */
	if (seg->only_close)
		return !(c->pins & SQL_PIN_PREPARED);
	if (!seg->single)
		return false;
	const struct sql_stmt *stmt = &shape_facts(seg->shape)->stmts[0];
	if (is_local_setting(seg) || shows_own_name(c, seg))
		return true;
	switch ((int)verb_of(seg)) {
	case SQL_BEGIN:
		return c->tx == CTX_NONE && c->du->pool_mode != POOL_MODE_STATEMENT;
	case SQL_COMMIT:
	case SQL_ROLLBACK:
		return deferred && !stmt->chain;
	case SQL_SET_TRANSACTION:
		return deferred && !c->txf.ran && says_a_mode(&stmt->begin);
	case SQL_DISCARD_ALL:
		/* Nothing of the client's is on a server then.  What it must be told is known from its greeting. */
		return c->tx == CTX_NONE && !c->pins && c->du->pool_mode != POOL_MODE_SESSION &&
		       dbuser_welcome_find(c->du, c->startup, c->facts_no);
	case SQL_LISTEN:
		return listens_may_share(c, stmt->name);
	case SQL_UNLISTEN:
		return listens_may_end(c);
	case SQL_EMPTY:
		return seg->end == SEGMENT_QUERY && c->tx != CTX_FAILED;
	default:
		return false;
	}
}

/* In a transaction that failed and whose server is gone: what PostgreSQL says in a failed one. */
static void plan_lost(const struct client *c, const struct segment *seg, struct plan *plan)
{
	if (seg->end == SEGMENT_SYNC && seg->n == 1) {
		plan->action = PLAN_LOCAL;
		return;
	}
	bool commits = seg->single && (verb_of(seg) == SQL_COMMIT || verb_of(seg) == SQL_PREPARE_TRANSACTION);
	if (seg->single && (verb_of(seg) == SQL_ROLLBACK || (commits && !c->fail_next)) &&
	    !shape_facts(seg->shape)->stmts[0].chain) {
		plan->action = PLAN_LOCAL;
		return;
	}
	plan->action = PLAN_REJECT;
	if (c->fail_next) {
		plan->error = *c->failure;
		return;
	}
	pgerr_set(&plan->error, SQLSTATE_IN_FAILED_SQL_TRANSACTION,
	          "current transaction is aborted, commands ignored until end of transaction block");
}

/* A standby refuses these by itself, with the message that a primary has for a READ ONLY transaction too. */
static bool is_refused_anyway(enum route_reason reason)
{
	switch ((int)reason) {
	case REASON_WRITE:
	case REASON_DDL:
	case REASON_LOCKING:
	case REASON_WRITE_FUNCTION:
	case REASON_NOTIFY:
	case REASON_SYNTAX:
		return true;
	default:
		return false;
	}
}

static bool is_vouchable(enum route_reason reason) { return reason >= REASON_NO_FACTS && reason < REASON_SHOW; }

/* State of the session that cannot be moved would stay on the replica, where its client will not come back to. */
static bool leaves_state(const struct segment *seg)
{
	const uint32_t moved = SQL_PIN_SETTING | SQL_PIN_ROLE | SQL_PIN_RESETS | SQL_PIN_SEQUENCE | SQL_PIN_PREPARED;
	return seg->pins & ~moved;
}

/* SET and its kin do on a standby what they do on the primary, and what they have set there is read behind the
 * transaction like everywhere. */
static bool only_sets(const struct segment *seg)
{
	const uint32_t settings = SQL_PIN_SETTING | SQL_PIN_ROLE;
	if (!(seg->flags & SQL_F_SETS) || (seg->flags & (SQL_F_ODD_PATH | SQL_F_USER_CODE)) ||
	    (seg->pins & ~settings) || seg->verdict.reason == REASON_MULTI || !seg->shape)
		return false;
	switch ((int)verb_of(seg)) {
	case SQL_SET:
	case SQL_SET_LOCAL:
	case SQL_RESET:
	case SQL_RESET_ALL:
	case SQL_SET_CHARACTERISTICS:
		return true;
	case SQL_SELECT:
		return seg->verdict.reason == REASON_SESSION_FUNCTION;
	default:
		return false;
	}
}

/* The transaction is READ ONLY on a replica, and this statement is not proved to mean the same there (C5). */
static void plan_off_replica(const struct client *c, const struct segment *seg, struct plan *plan)
{
	enum route_reason reason = seg->verdict.reason;
	plan->reason = reason;
	if (plan_may_move(c)) {
		plan->action = PLAN_MOVE;
		plan->role = ROLE_PRIMARY;
		return;
	}
	plan->action = PLAN_CONTINUE;
	if (!seg->executes || is_refused_anyway(reason) || (is_vouchable(reason) && !leaves_state(seg)) ||
	    only_sets(seg) || RULE_BROKEN(C5))
		return;
	plan->action = PLAN_REJECT;
	pgerr_set(&plan->error, SQLSTATE_READ_ONLY_SQL_TRANSACTION,
	          "cannot execute this statement in a read-only transaction that runs on a replica");
	pgerr_detail(&plan->error, "Reason: %s.", route_reason_text(reason));
	pgerr_hint(&plan->error, "SET pgweir.route = 'primary' before the transaction.");
}

/* More of the same segment is to come, and nobody knows what. */
static bool is_unfinished(const struct segment *seg) { return seg->end != SEGMENT_SYNC && seg->end != SEGMENT_QUERY; }

static bool ends_transaction(const struct segment *seg)
{
	if (!seg->single)
		return false;
	enum sql_verb verb = verb_of(seg);
	return (verb == SQL_COMMIT || verb == SQL_ROLLBACK) && !shape_facts(seg->shape)->stmts[0].chain;
}

/* Of a transaction that may write: a read that leaves nothing behind on its standby, or the transaction's end. */
static bool may_stay_on_standby(const struct segment *seg)
{
	if (seg->keeps_portal || seg->pins || seg->end == SEGMENT_LARGE || (seg->executes && is_unfinished(seg)))
		return false;
	if (!seg->has_verdict)
		return true;
	switch (seg->verdict.target) {
	case ROUTE_PRIMARY:
		return false;
	case ROUTE_REPLICA:
		return seg->n_executed <= 1 || seg->verdict.proved;
	case ROUTE_STAY:
		break;
	}
	return ends_transaction(seg) || (seg->single && verb_of(seg) == SQL_EMPTY);
}

bool plan_is_harmless(const struct segment *seg)
{
	if (!seg->has_verdict)
		return !seg->executes;
	return ends_transaction(seg) || (seg->verdict.target == ROUTE_REPLICA && seg->verdict.proved);
}

bool plan_may_begin_anew(const struct client *c)
{
	return plan_may_move(c) || (!c->txf.on_standby && !c->txf.touched && !c->pins && has_snapshot_per_statement(c));
}

bool plan_part_leaves(const struct client *c, const struct segment *seg)
{
	if (c->seg.role != ROLE_REPLICA)
		return false;
	if (c->begin.read_only == SQL_YES && c->tx != CTX_NONE)
		return seg->has_verdict && seg->verdict.target == ROUTE_PRIMARY;
	/* Execute of what was bound in an earlier part, and judged there. */
	bool goes_on = seg->unknown && seg->n_executed <= 1 && !seg->shape && seg->verdict.target == ROUTE_STAY;
	return !(goes_on && !is_unfinished(seg)) && !may_stay_on_standby(seg);
}

bool plan_makes_state(const struct segment *seg)
{
	if (seg->keeps_portal)
		return true;
	if (!seg->executes || ends_transaction(seg))
		return false;
	if (!seg->shape)
		return true;
	switch ((int)verb_of(seg)) {
	case SQL_SELECT:
	case SQL_SHOW:
	case SQL_EXPLAIN:
	case SQL_COPY_TO:
	case SQL_EMPTY:
		return false;
	default:
		return true;
	}
}

bool plan_takes_snapshot(const struct segment *seg)
{
	if (!seg->single)
		return false;
	switch ((int)verb_of(seg)) {
	case SQL_SELECT:
	case SQL_INSERT:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_MERGE:
		return true;
	default:
		return false;
	}
}

static void plan_on_standby(const struct client *c, const struct segment *seg, struct plan *plan)
{
	bool declared = c->begin.read_only == SQL_YES;
	bool fits = !seg->has_verdict || (seg->verdict.target != ROUTE_PRIMARY && !leaves_state(seg));
	bool stays = declared ? fits : may_stay_on_standby(seg);
	plan->role = ROLE_REPLICA;
	if (!stays)
		plan_off_replica(c, seg, plan);
}

/* PostgreSQL answers ROLLBACK to PREPARE TRANSACTION in a failed transaction; a standby, that it cannot do this. */
static bool prepares_what_failed(const struct client *c, const struct segment *seg)
{
	return c->tx == CTX_FAILED && c->txf.on_standby && !c->pins && c->du->pool_mode != POOL_MODE_SESSION &&
	       seg->single && verb_of(seg) == SQL_PREPARE_TRANSACTION;
}

static void plan_in_tx(const struct client *c, const struct segment *seg, struct plan *plan)
{
	plan->action = PLAN_CONTINUE;
	plan->reason = REASON_IN_TRANSACTION;
	if (prepares_what_failed(c, seg)) {
		plan->action = PLAN_LOCAL;
		return;
	}
	if ((is_local_setting(seg) || shows_own_name(c, seg)) && c->tx == CTX_OPEN) {
		plan->action = PLAN_LOCAL;
		return;
	}
	if (c->tx == CTX_OPEN && c->txf.on_standby)
		plan_on_standby(c, seg, plan);
}

/* Statement pooling promises a server for one statement only. */
static bool opens_block(const struct segment *seg)
{
	return (seg->flags & SQL_F_TX_CONTROL_INSIDE) ||
	       (seg->shape && seg->n_executed == 1 && verb_of(seg) == SQL_BEGIN);
}

static void plan_new(const struct client *c, const struct segment *seg, struct plan *plan)
{
	if (c->du->pool_mode == POOL_MODE_STATEMENT && opens_block(seg)) {
		plan->action = PLAN_PROTOCOL;
		pgerr_set_fatal(&plan->error, SQLSTATE_FEATURE_NOT_SUPPORTED,
		                "transaction blocks not allowed in statement pooling mode");
		return;
	}
	plan->action = PLAN_FORWARD;
	plan->role = ROLE_PRIMARY;
	plan->reason = seg->verdict.reason;
	plan->proved = seg->verdict.proved;
	if (c->pins) {
		plan->reason = REASON_SESSION;
		return;
	}
	if (!seg->has_verdict || seg->verdict.target != ROUTE_REPLICA || seg->unknown)
		return;
	/* What more may come in this implicit transaction is not known: only what has executed nothing may still move.
	 */
	if ((is_unfinished(seg) && seg->executes) || seg->end == SEGMENT_LARGE)
		return;
	if (seg->n_executed > 1 && !seg->verdict.proved)
		return;
	/* C2: without the primary's default nobody knows which isolation the transaction asks for. */
	if (c->tx == CTX_DEFERRED && plan_isolation(c) == 0)
		return;
	if (c->tx == CTX_DEFERRED && c->begin.read_only != SQL_YES && !may_stay_on_standby(seg))
		return;
	plan->role = ROLE_REPLICA;
}

void plan_segment(const struct client *c, const struct segment *seg, bool full, struct plan *plan)
{
	/* The error is left as it is, unless there is one: clearing it would cost more than the plan. */
	plan->action = PLAN_WAIT;
	plan->role = ROLE_PRIMARY;
	plan->reason = REASON_READ;
	plan->proved = false;
	switch (seg->end) {
	case SEGMENT_BAD:
		plan->action = PLAN_PROTOCOL;
		plan->error = *seg->error;
		return;
	case SEGMENT_TERMINATE:
		plan->action = PLAN_TERMINATE;
		return;
	case SEGMENT_NOTHING:
		return;
	case SEGMENT_OPEN:
		if (!full)
			return;
		break;
	case SEGMENT_SYNC:
	case SEGMENT_QUERY:
	case SEGMENT_FCALL:
	case SEGMENT_FLUSH:
	case SEGMENT_LARGE:
		break;
	}
	if (has_setting_among_others(c, seg))
		reject_setting_among_others(plan);
	else if (c->tx == CTX_LOST)
		plan_lost(c, seg, plan);
	else if (c->srv)
		plan_in_tx(c, seg, plan);
	else if (answers_here(c, seg))
		plan->action = PLAN_LOCAL;
	else
		plan_new(c, seg, plan);
}
