/* sqlstmt.c - top-level statements: what verb, what flags, what name and value.
 *
 * Statements that hold a query hand it to sqlwalk().  Utilities that need no look inside are a table; whatever is in
 * no table changes the catalog, as far as we know: a command that a newer parser brings is DDL until somebody says
 * otherwise, which costs a reload of the facts and nothing else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/rules.h"
#include "sqlscan_priv.h"
#include "sqlwalk_priv.h"

static void walk_all(struct facts_draft *d, const ProtobufCMessage *m)
{
	struct sqlwalk w = { .d = d };
	sqlwalk(&w, m);
}

/* DDL may call functions (a new column's default, an index expression), and its other nodes are its own affair. */
static void walk_ddl(struct facts_draft *d, const ProtobufCMessage *m)
{
	struct sqlwalk w = { .d = d, .lenient = true };
	uint32_t before = d->flags;
	sqlwalk(&w, m);
	d->flags = before;
}

/* --- constants --- */

static const PgQuery__AConst *constant(const PgQuery__Node *node)
{
	if (node && node->node_case == PG_QUERY__NODE__NODE_TYPE_CAST)
		node = node->type_cast->arg; /* SET TIME ZONE INTERVAL '2:00' */
	return node && node->node_case == PG_QUERY__NODE__NODE_A_CONST ? node->a_const : NULL;
}

/* Writes a constant as text into out; false when it is none or does not fit. */
static bool constant_text(const PgQuery__Node *node, char *out, size_t size)
{
	const PgQuery__AConst *c = constant(node);
	if (!c)
		return false;
	switch (c->val_case) {
	case PG_QUERY__A__CONST__VAL_IVAL:
		return snprintf(out, size, "%d", c->ival->ival) < (int)size;
	case PG_QUERY__A__CONST__VAL_FVAL:
		return snprintf(out, size, "%s", c->fval->fval) < (int)size;
	case PG_QUERY__A__CONST__VAL_BOOLVAL:
		return snprintf(out, size, "%s", c->boolval->boolval ? "true" : "false") < (int)size;
	case PG_QUERY__A__CONST__VAL_SVAL:
		return snprintf(out, size, "%s", c->sval->sval) < (int)size;
	case PG_QUERY__A__CONST__VAL_BSVAL:
	case PG_QUERY__A__CONST__VAL__NOT_SET:
	case _PG_QUERY__A__CONST__VAL__CASE_IS_INT_SIZE:
		break;
	}
	return false;
}

/* As the server reads a boolean setting: any unambiguous beginning of true, false, yes, no, on, off; 1, 0. */
static enum sql_tristate boolean_text(const char *s)
{
	size_t n = strlen(s);
	struct str v = { s, n };
	static const struct {
		const char *word;
		size_t least;
		enum sql_tristate value;
	} words[] = { { "true", 1, SQL_YES }, { "false", 1, SQL_NO }, { "yes", 1, SQL_YES }, { "no", 1, SQL_NO },
		      { "on", 2, SQL_YES },   { "off", 2, SQL_NO },   { "1", 1, SQL_YES },   { "0", 1, SQL_NO } };
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (n >= words[i].least && n <= strlen(words[i].word) && str_ieq(v, (struct str){ words[i].word, n }))
			return words[i].value;
	return SQL_UNSET;
}

static enum sql_isolation isolation_text(const char *s)
{
	static const struct {
		const char *word;
		enum sql_isolation value;
	} words[] = { { "read uncommitted", SQL_ISO_READ_UNCOMMITTED },
		      { "read committed", SQL_ISO_READ_COMMITTED },
		      { "repeatable read", SQL_ISO_REPEATABLE_READ },
		      { "serializable", SQL_ISO_SERIALIZABLE } };
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (str_ieq(str_of(s), str_of(words[i].word)))
			return words[i].value;
	return SQL_ISO_UNSET;
}

/* One of transaction_isolation, _read_only, _deferrable; false: another name. */
static bool mode_set(struct sql_begin *b, const char *name, const char *value)
{
	if (str_ieq(str_of(name), STR("transaction_isolation")))
		b->isolation = isolation_text(value);
	else if (str_ieq(str_of(name), STR("transaction_read_only")))
		b->read_only = boolean_text(value);
	else if (str_ieq(str_of(name), STR("transaction_deferrable")))
		b->deferrable = boolean_text(value);
	else
		return false;
	return true;
}

static void modes(struct sql_begin *b, PgQuery__Node *const *options, size_t n)
{
	char value[64];
	for (size_t i = 0; i < n; i++)
		if (options[i]->node_case == PG_QUERY__NODE__NODE_DEF_ELEM &&
		    constant_text(options[i]->def_elem->arg, value, sizeof(value)))
			(void)mode_set(b, options[i]->def_elem->defname, value);
}

/* --- transactions --- */

static const struct {
	enum sql_verb verb;
	uint32_t flags;
} tx_kinds[] = {
	[PG_QUERY__TRANSACTION_STMT_KIND__TRANSACTION_STMT_KIND_UNDEFINED] = { SQL_UNPARSED, SQL_F_UNKNOWN_NODE },
	[PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_BEGIN] = { SQL_BEGIN, 0 },
	[PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_START] = { SQL_BEGIN, 0 },
	[PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_COMMIT] = { SQL_COMMIT, 0 },
	[PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK] = { SQL_ROLLBACK, 0 },
	[PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_SAVEPOINT] = { SQL_SAVEPOINT, 0 },
	[PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_RELEASE] = { SQL_RELEASE, 0 },
	[PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK_TO] = { SQL_ROLLBACK_TO, 0 },
	[PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_PREPARE] = { SQL_PREPARE_TRANSACTION, SQL_F_LITERAL_SENSITIVE },
	[PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_COMMIT_PREPARED] = { SQL_COMMIT_PREPARED,
	                                                                  SQL_F_LITERAL_SENSITIVE | SQL_F_NO_TX_BLOCK },
	[PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK_PREPARED] = { SQL_ROLLBACK_PREPARED,
	                                                                    SQL_F_LITERAL_SENSITIVE |
	                                                                        SQL_F_NO_TX_BLOCK },
};

static void on_transaction(struct facts_draft *d, const PgQuery__TransactionStmt *t)
{
	unsigned kind = (unsigned)t->kind < ARRAY_LEN(tx_kinds) ? (unsigned)t->kind : 0;
	struct draft_stmt *s = facts_stmt(d, tx_kinds[kind].verb);
	d->flags |= tx_kinds[kind].flags;
	s->s.begin.start = t->kind == PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_START && !RULE_BROKEN(C3);
	s->s.chain = t->chain;
	modes(&s->s.begin, t->options, t->n_options);
	facts_set_name(d, &s->name, t->savepoint_name[0] ? t->savepoint_name : t->gid);
}

/* --- settings --- */

static bool is_local_setting(const char *name) { return str_has_prefix(str_of(name), STR("pgweir.")); }

static void set_value(struct facts_draft *d, struct draft_stmt *s, PgQuery__Node *const *args, size_t n)
{
	char joined[1024];
	size_t len = 0;
	for (size_t i = 0; i < n; i++) {
		size_t comma = i ? 2 : 0;
		memcpy(joined + len, ", ", comma);
		len += comma;
		if (!constant_text(args[i], joined + len, sizeof(joined) - len - 4))
			return;
		len += strlen(joined + len);
	}
	s->value = n ? facts_string(d, joined, len) : 0;
}

/* libpg_query tells these apart by their names, which have a space where a setting's cannot. */
static void on_set_multi(struct facts_draft *d, const PgQuery__VariableSetStmt *v)
{
	enum sql_verb verb = SQL_SET_TRANSACTION;
	if (strcmp(v->name, "TRANSACTION SNAPSHOT") == 0) {
		verb = SQL_SET_SNAPSHOT;
		d->flags |= SQL_F_SNAPSHOT | SQL_F_LITERAL_SENSITIVE | SQL_F_DUMP;
	} else if (strcmp(v->name, "SESSION CHARACTERISTICS") == 0) {
		verb = SQL_SET_CHARACTERISTICS;
		d->pins |= SQL_PIN_SETTING;
		d->flags |= SQL_F_SETS;
	}
	struct draft_stmt *s = facts_stmt(d, verb);
	modes(&s->s.begin, v->args, v->n_args);
}

/* SET transaction_isolation and its like hold for the transaction, LOCAL or not. */
static bool on_set_mode(struct facts_draft *d, struct draft_stmt *s)
{
	const char *name = s->name ? d->pool + s->name - 1 : "", *value = s->value ? d->pool + s->value - 1 : "";
	if (!mode_set(&s->s.begin, name, value))
		return false;
	s->s.verb = SQL_SET_TRANSACTION;
	return true;
}

/* Settings are the proxy's to track one day; until then whoever sets one keeps the connection that has it. */
static uint32_t setting_pin(const char *name)
{
	if (is_local_setting(name))
		return 0;
	bool role = strcmp(name, "role") == 0 || strcmp(name, "session_authorization") == 0;
	return role ? SQL_PIN_ROLE : SQL_PIN_SETTING;
}

static bool is_odd_path(const char *value) { return !value || sql_path_is_odd(value); }

static void on_set_value(struct facts_draft *d, const PgQuery__VariableSetStmt *v)
{
	struct draft_stmt *s = facts_stmt(d, v->is_local ? SQL_SET_LOCAL : SQL_SET);
	facts_set_name(d, &s->name, v->name);
	set_value(d, s, v->args, v->n_args);
	d->flags |= SQL_F_LITERAL_SENSITIVE | (is_local_setting(v->name) ? SQL_F_LOCAL_SETTING : 0);
	if (on_set_mode(d, s) || is_local_setting(v->name))
		return;
	facts_setting(d, v->name);
	d->pins |= v->is_local ? 0 : setting_pin(v->name);
	if (strcmp(v->name, "search_path") == 0)
		d->flags |= is_odd_path(s->value ? d->pool + s->value - 1 : NULL) ? SQL_F_ODD_PATH : 0;
}

/* RESET x, and SET x TO DEFAULT, which is the same. */
static void on_reset(struct facts_draft *d, const PgQuery__VariableSetStmt *v)
{
	struct draft_stmt *s = facts_stmt(d, v->is_local ? SQL_SET_LOCAL : SQL_RESET);
	facts_set_name(d, &s->name, v->name);
	if (is_local_setting(v->name)) {
		d->flags |= SQL_F_LOCAL_SETTING;
		return;
	}
	facts_setting(d, v->name);
	d->flags |= SQL_F_RESETS_SETTINGS;
}

static void on_variable_set(struct facts_draft *d, const PgQuery__VariableSetStmt *v)
{
	switch (v->kind) {
	case PG_QUERY__VARIABLE_SET_KIND__VAR_SET_MULTI:
		on_set_multi(d, v);
		break;
	case PG_QUERY__VARIABLE_SET_KIND__VAR_SET_VALUE:
		on_set_value(d, v);
		break;
	case PG_QUERY__VARIABLE_SET_KIND__VAR_SET_DEFAULT:
	case PG_QUERY__VARIABLE_SET_KIND__VAR_RESET:
		on_reset(d, v);
		break;
	case PG_QUERY__VARIABLE_SET_KIND__VAR_RESET_ALL:
		(void)facts_stmt(d, SQL_RESET_ALL);
		d->flags |= SQL_F_RESETS_SETTINGS | SQL_F_SETS;
		break;
	case PG_QUERY__VARIABLE_SET_KIND__VAR_SET_CURRENT:
	case PG_QUERY__VARIABLE_SET_KIND__VARIABLE_SET_KIND_UNDEFINED:
	case _PG_QUERY__VARIABLE_SET_KIND_IS_INT_SIZE:
		(void)facts_stmt(d, SQL_SET);
		d->pins |= SQL_PIN_SETTING;
		d->flags |= SQL_F_UNKNOWN_NODE;
		break;
	}
}

static void on_show(struct facts_draft *d, const PgQuery__VariableShowStmt *v)
{
	struct draft_stmt *s = facts_stmt(d, SQL_SHOW);
	facts_set_name(d, &s->name, v->name);
	d->flags |= is_local_setting(v->name) ? SQL_F_LOCAL_SETTING : 0;
}

/* --- statements around a query --- */

static bool is_select(const PgQuery__Node *node) { return node && node->node_case == PG_QUERY__NODE__NODE_SELECT_STMT; }

static void on_select(struct facts_draft *d, const PgQuery__SelectStmt *q)
{
	uint32_t before = d->flags; /* of earlier statements of the string */
	d->flags = 0;
	walk_all(d, &q->base);
	d->n_binds = sqlwalk_count_binds(q);
	(void)facts_stmt(d, d->flags & SQL_F_INTO ? SQL_SELECT_INTO : SQL_SELECT);
	d->flags |= before;
}

static void on_copy(struct facts_draft *d, const PgQuery__CopyStmt *c)
{
	bool to_client = !c->is_program && !c->filename[0];
	enum sql_verb verb = !to_client ? SQL_COPY_FILE : c->is_from ? SQL_COPY_FROM : SQL_COPY_TO;
	walk_all(d, (const void *)c->relation);
	struct sqlwalk w = { .d = d };
	sqlwalk_node(&w, c->query);
	sqlwalk_node(&w, c->where_clause);
	if (c->is_from && c->relation) {
		d->flags |= SQL_F_WRITES | SQL_F_USES_SEQUENCE;
		facts_ref(d, &d->refs[REFS_relations], c->relation->schemaname, c->relation->relname)->arg =
		    SQL_REF_WRITTEN;
	}
	struct draft_stmt *s = facts_stmt(d, verb);
	s->s.inner_read = verb == SQL_COPY_TO && (c->relation || is_select(c->query));
}

static void explain_options(struct facts_draft *d, const PgQuery__ExplainStmt *e)
{
	for (size_t i = 0; i < e->n_options; i++) {
		if (e->options[i]->node_case != PG_QUERY__NODE__NODE_DEF_ELEM)
			continue;
		const PgQuery__DefElem *o = e->options[i]->def_elem;
		const char *word = sqlwalk_string(o->arg);
		bool off = o->arg && !word;
		if (word)
			off = boolean_text(word) == SQL_NO;
		if (o->arg && o->arg->node_case == PG_QUERY__NODE__NODE_INTEGER)
			off = o->arg->integer->ival == 0;
		d->flags |= o->arg ? SQL_F_LITERAL_SENSITIVE : 0;
		if (strcmp(o->defname, "analyze") == 0 && !off)
			d->flags |= SQL_F_EXPLAIN_ANALYZE;
	}
}

/* The statement runs a prepared one. */
static void note_execute(struct facts_draft *d, struct draft_stmt *s, const PgQuery__Node *query)
{
	if (query && query->node_case == PG_QUERY__NODE__NODE_CREATE_TABLE_AS_STMT)
		query = query->create_table_as_stmt->query;
	if (!query || query->node_case != PG_QUERY__NODE__NODE_EXECUTE_STMT)
		return;
	facts_set_name(d, &s->runs, query->execute_stmt->name);
	d->flags |= SQL_F_PREPARED_NAMES;
}

static void on_explain(struct facts_draft *d, const PgQuery__ExplainStmt *e)
{
	struct sqlwalk w = { .d = d };
	explain_options(d, e);
	sqlwalk_node(&w, e->query);
	struct draft_stmt *s = facts_stmt(d, SQL_EXPLAIN);
	s->s.inner_read = is_select(e->query);
	note_execute(d, s, e->query);
}

static void on_declare(struct facts_draft *d, const PgQuery__DeclareCursorStmt *c)
{
	enum { CURSOR_HOLD = 0x20 }; /* CURSOR_OPT_HOLD of parsenodes.h */
	struct sqlwalk w = { .d = d };
	sqlwalk_node(&w, c->query);
	struct draft_stmt *s = facts_stmt(d, SQL_DECLARE);
	facts_set_name(d, &s->name, c->portalname);
	s->s.inner_read = is_select(c->query);
	s->s.hold = c->options & CURSOR_HOLD;
	d->pins |= s->s.hold ? SQL_PIN_HOLD_CURSOR : 0;
}

/* What it prepares may be anything; only EXECUTE runs it, and does so where it was prepared. */
static void on_prepare(struct facts_draft *d, const PgQuery__PrepareStmt *p)
{
	struct draft_stmt *s = facts_stmt(d, SQL_PREPARE);
	facts_set_name(d, &s->name, p->name);
	d->flags |= SQL_F_PREPARED_NAMES;
	d->pins |= SQL_PIN_PREPARED;
}

static void on_execute(struct facts_draft *d, const PgQuery__ExecuteStmt *e)
{
	struct sqlwalk w = { .d = d };
	for (size_t i = 0; i < e->n_params; i++)
		sqlwalk_node(&w, e->params[i]);
	struct draft_stmt *s = facts_stmt(d, SQL_EXECUTE);
	facts_set_name(d, &s->name, e->name);
	facts_set_name(d, &s->runs, e->name);
	d->flags |= SQL_F_PREPARED_NAMES;
}

static void on_create_as(struct facts_draft *d, const PgQuery__CreateTableAsStmt *c)
{
	struct sqlwalk w = { .d = d };
	sqlwalk_node(&w, c->query);
	walk_all(d, (const void *)c->into);
	d->flags |= SQL_F_DDL;
	note_execute(d, facts_stmt(d, SQL_DDL), c->query);
}

/* --- code --- */

static void dynamic(struct facts_draft *d)
{
	d->flags |= SQL_F_DYNAMIC;
	d->pins |= SQL_PIN_RESETS;
}

/* Its body is a literal, so that its shape says nothing (F5); the body is scanned as a function's would be. */
static void on_do(struct facts_draft *d, const PgQuery__DoStmt *s)
{
	const char *body = NULL, *language = "plpgsql";
	for (size_t i = 0; i < s->n_args; i++) {
		const PgQuery__Node *a = s->args[i];
		const char *text =
		    a->node_case == PG_QUERY__NODE__NODE_DEF_ELEM ? sqlwalk_string(a->def_elem->arg) : NULL;
		if (text && strcmp(a->def_elem->defname, "as") == 0)
			body = text;
		if (text && strcmp(a->def_elem->defname, "language") == 0)
			language = text;
	}
	d->flags |= SQL_F_MAY_TOUCH_SESSION | SQL_F_NO_TX_BLOCK | SQL_F_LITERAL_SENSITIVE;
	if (body && strcmp(language, "plpgsql") == 0)
		sqlscan_plpgsql(d, str_of(body));
	else
		dynamic(d);
	(void)facts_stmt(d, SQL_DO);
}

static void on_call(struct facts_draft *d, const PgQuery__CallStmt *c)
{
	walk_all(d, (const void *)c->funccall);
	d->flags |= SQL_F_MAY_TOUCH_SESSION | SQL_F_NO_TX_BLOCK;
	(void)facts_stmt(d, SQL_CALL);
}

/* --- small ones, and DDL --- */

static void named(struct facts_draft *d, enum sql_verb verb, const char *name, uint32_t flags, uint32_t pins)
{
	struct draft_stmt *s = facts_stmt(d, verb);
	facts_set_name(d, &s->name, name);
	d->flags |= flags;
	d->pins |= pins;
}

static void on_discard(struct facts_draft *d, const PgQuery__DiscardStmt *s)
{
	switch (s->target) {
	case PG_QUERY__DISCARD_MODE__DISCARD_PLANS:
		named(d, SQL_DISCARD_PLANS, NULL, 0, 0);
		break;
	case PG_QUERY__DISCARD_MODE__DISCARD_SEQUENCES:
		named(d, SQL_DISCARD_SEQUENCES, NULL, 0, 0);
		break;
	case PG_QUERY__DISCARD_MODE__DISCARD_TEMP:
		named(d, SQL_DISCARD_TEMP, NULL, 0, 0);
		break;
	case PG_QUERY__DISCARD_MODE__DISCARD_ALL:
	case PG_QUERY__DISCARD_MODE__DISCARD_MODE_UNDEFINED:
	case _PG_QUERY__DISCARD_MODE_IS_INT_SIZE:
		named(d, SQL_DISCARD_ALL, NULL,
		      SQL_F_DROPS_STATEMENTS | SQL_F_RESETS_SETTINGS | SQL_F_NO_TX_BLOCK | SQL_F_PREPARED_NAMES, 0);
		break;
	}
}

/* DETACH PARTITION ... CONCURRENTLY: the one form of ALTER TABLE that runs its own transactions. */
static bool detaches_concurrently(const PgQuery__AlterTableStmt *a)
{
	for (size_t i = 0; i < a->n_cmds; i++) {
		const PgQuery__AlterTableCmd *c =
		    a->cmds[i]->node_case == PG_QUERY__NODE__NODE_ALTER_TABLE_CMD ? a->cmds[i]->alter_table_cmd : NULL;
		if (c && c->def && c->def->node_case == PG_QUERY__NODE__NODE_PARTITION_CMD &&
		    c->def->partition_cmd->concurrent)
			return true;
	}
	return false;
}

/* Verbs and flags of statements that need no look inside.  What stands neither here nor in sqlstmt() is DDL. */
static const struct utility {
	PgQuery__Node__NodeCase node;
	enum sql_verb verb;
	uint32_t flags, pins;
} utilities[] = {
	{ PG_QUERY__NODE__NODE_CONSTRAINTS_SET_STMT, SQL_SET_CONSTRAINTS, 0, 0 },
	{ PG_QUERY__NODE__NODE_CHECK_POINT_STMT, SQL_CHECKPOINT, 0, 0 },
	{ PG_QUERY__NODE__NODE_CLUSTER_STMT, SQL_CLUSTER, SQL_F_NO_TX_BLOCK, 0 },
	{ PG_QUERY__NODE__NODE_REINDEX_STMT, SQL_REINDEX, SQL_F_NO_TX_BLOCK, 0 },
	{ PG_QUERY__NODE__NODE_REFRESH_MAT_VIEW_STMT, SQL_REFRESH, SQL_F_WRITES, 0 },
	{ PG_QUERY__NODE__NODE_TRUNCATE_STMT, SQL_TRUNCATE, SQL_F_WRITES, 0 },
	{ PG_QUERY__NODE__NODE_ALTER_SYSTEM_STMT, SQL_ALTER_SYSTEM, SQL_F_NO_TX_BLOCK, 0 },
	{ PG_QUERY__NODE__NODE_LOAD_STMT, SQL_LOAD, 0, SQL_PIN_LOADED },
	{ PG_QUERY__NODE__NODE_LOCK_STMT, SQL_LOCK, SQL_F_DUMP, 0 },
	{ PG_QUERY__NODE__NODE_CREATE_TABLE_SPACE_STMT, SQL_DDL, SQL_F_DDL | SQL_F_NO_TX_BLOCK, 0 },
	{ PG_QUERY__NODE__NODE_DROP_TABLE_SPACE_STMT, SQL_DDL, SQL_F_DDL | SQL_F_NO_TX_BLOCK, 0 },
	{ PG_QUERY__NODE__NODE_CREATE_SUBSCRIPTION_STMT, SQL_DDL, SQL_F_DDL | SQL_F_NO_TX_BLOCK, 0 },
	{ PG_QUERY__NODE__NODE_ALTER_SUBSCRIPTION_STMT, SQL_DDL, SQL_F_DDL | SQL_F_NO_TX_BLOCK, 0 },
	{ PG_QUERY__NODE__NODE_DROP_SUBSCRIPTION_STMT, SQL_DDL, SQL_F_DDL | SQL_F_NO_TX_BLOCK, 0 },
};

static const struct utility *find_utility(PgQuery__Node__NodeCase node)
{
	for (size_t i = 0; i < ARRAY_LEN(utilities); i++)
		if (utilities[i].node == node)
			return &utilities[i];
	return NULL;
}

/* What a table, an index or a right is changes nothing of what other statements run: long migrations are made of these.
 */
static bool is_plain_ddl(PgQuery__Node__NodeCase node)
{
	switch ((int)node) {
	case PG_QUERY__NODE__NODE_CREATE_STMT:
	case PG_QUERY__NODE__NODE_INDEX_STMT:
	case PG_QUERY__NODE__NODE_ALTER_TABLE_STMT:
	case PG_QUERY__NODE__NODE_DROP_STMT:
	case PG_QUERY__NODE__NODE_CREATE_SEQ_STMT:
	case PG_QUERY__NODE__NODE_ALTER_SEQ_STMT:
	case PG_QUERY__NODE__NODE_CREATE_SCHEMA_STMT:
	case PG_QUERY__NODE__NODE_CREATE_ENUM_STMT:
	case PG_QUERY__NODE__NODE_COMMENT_STMT:
	case PG_QUERY__NODE__NODE_GRANT_STMT:
	case PG_QUERY__NODE__NODE_CREATE_ROLE_STMT:
	case PG_QUERY__NODE__NODE_ALTER_ROLE_STMT:
	case PG_QUERY__NODE__NODE_DROP_ROLE_STMT:
		return true;
	default:
		return false;
	}
}

static void on_ddl(struct facts_draft *d, const PgQuery__Node *stmt)
{
	bool concurrent =
	    (stmt->node_case == PG_QUERY__NODE__NODE_INDEX_STMT && stmt->index_stmt->concurrent) ||
	    (stmt->node_case == PG_QUERY__NODE__NODE_DROP_STMT && stmt->drop_stmt->concurrent) ||
	    (stmt->node_case == PG_QUERY__NODE__NODE_ALTER_TABLE_STMT && detaches_concurrently(stmt->alter_table_stmt));
	/* Only these two may run functions for the rows that are there. */
	if (stmt->node_case == PG_QUERY__NODE__NODE_INDEX_STMT ||
	    stmt->node_case == PG_QUERY__NODE__NODE_ALTER_TABLE_STMT)
		walk_ddl(d, &stmt->base);
	d->flags |= is_plain_ddl(stmt->node_case) ? 0 : SQL_F_CODE_DDL;
	named(d, SQL_DDL, NULL, SQL_F_DDL | (concurrent ? SQL_F_NO_TX_BLOCK : 0),
	      (sqlwalk_finds_temp(&stmt->base) ? SQL_PIN_TEMP : 0u) |
	          (sqlwalk_finds_sequence(&stmt->base) ? SQL_PIN_SEQUENCE : 0u)); /* E3: a default, a function's body */
}

/* CREATE DATABASE copies a template; without one, template1. */
static void on_create_database(struct facts_draft *d, const PgQuery__CreatedbStmt *c)
{
	const char *template = "template1";
	for (size_t i = 0; i < c->n_options; i++) {
		const PgQuery__DefElem *o =
		    c->options[i]->node_case == PG_QUERY__NODE__NODE_DEF_ELEM ? c->options[i]->def_elem : NULL;
		if (!o || strcmp(o->defname, "template") != 0 || !o->arg ||
		    o->arg->node_case != PG_QUERY__NODE__NODE_STRING)
			continue;
		template = o->arg->string->sval;
		d->flags |= SQL_F_LITERAL_SENSITIVE; /* it may be written as a literal */
	}
	named(d, SQL_DATABASE, template, SQL_F_DDL | SQL_F_NO_TX_BLOCK, 0);
}

static bool on_database(struct facts_draft *d, const PgQuery__Node *stmt)
{
	switch ((int)stmt->node_case) {
	case PG_QUERY__NODE__NODE_CREATEDB_STMT:
		on_create_database(d, stmt->createdb_stmt);
		return true;
	case PG_QUERY__NODE__NODE_DROPDB_STMT:
		named(d, SQL_DATABASE, stmt->dropdb_stmt->dbname, SQL_F_DDL | SQL_F_NO_TX_BLOCK, 0);
		return true;
	case PG_QUERY__NODE__NODE_ALTER_DATABASE_STMT:
		named(d, SQL_DATABASE, stmt->alter_database_stmt->dbname, SQL_F_DDL | SQL_F_NO_TX_BLOCK, 0);
		return true;
	case PG_QUERY__NODE__NODE_RENAME_STMT:
		if (stmt->rename_stmt->rename_type != PG_QUERY__OBJECT_TYPE__OBJECT_DATABASE)
			return false;
		named(d, SQL_DATABASE, stmt->rename_stmt->subname, SQL_F_DDL, 0);
		return true;
	default: /* all other statements */
		return false;
	}
}

static void on_utility(struct facts_draft *d, const PgQuery__Node *stmt)
{
	const struct utility *u = find_utility(stmt->node_case);
	if (u)
		named(d, u->verb, NULL, u->flags, u->pins);
	else if (!on_database(d, stmt))
		on_ddl(d, stmt);
}

static void on_write_stmt(struct facts_draft *d, const PgQuery__Node *stmt, enum sql_verb verb)
{
	walk_all(d, &stmt->base);
	(void)facts_stmt(d, verb);
}

/* Cursors, channels, SQL-level prepared statements: a name and little else. */
static bool on_named(struct facts_draft *d, const PgQuery__Node *stmt)
{
	const char *name;
	switch ((int)stmt->node_case) {
	case PG_QUERY__NODE__NODE_FETCH_STMT:
		named(d, SQL_FETCH, stmt->fetch_stmt->portalname, 0, 0);
		return true;
	case PG_QUERY__NODE__NODE_CLOSE_PORTAL_STMT:
		named(d, SQL_CLOSE, stmt->close_portal_stmt->portalname, 0, 0);
		return true;
	case PG_QUERY__NODE__NODE_DEALLOCATE_STMT:
		name = stmt->deallocate_stmt->name;
		named(d, SQL_DEALLOCATE, name, SQL_F_PREPARED_NAMES | (name[0] ? 0 : SQL_F_DROPS_STATEMENTS), 0);
		return true;
	case PG_QUERY__NODE__NODE_LISTEN_STMT:
		named(d, SQL_LISTEN, stmt->listen_stmt->conditionname, 0, SQL_PIN_LISTEN);
		return true;
	case PG_QUERY__NODE__NODE_UNLISTEN_STMT:
		named(d, SQL_UNLISTEN, stmt->unlisten_stmt->conditionname, 0, 0);
		return true;
	case PG_QUERY__NODE__NODE_NOTIFY_STMT:
		named(d, SQL_NOTIFY, stmt->notify_stmt->conditionname, 0, 0);
		return true;
	default: /* all other statements */
		return false;
	}
}

static bool on_query(struct facts_draft *d, const PgQuery__Node *stmt)
{
	switch ((int)stmt->node_case) {
	case PG_QUERY__NODE__NODE_SELECT_STMT:
		on_select(d, stmt->select_stmt);
		return true;
	case PG_QUERY__NODE__NODE_INSERT_STMT:
		on_write_stmt(d, stmt, SQL_INSERT);
		return true;
	case PG_QUERY__NODE__NODE_UPDATE_STMT:
		on_write_stmt(d, stmt, SQL_UPDATE);
		return true;
	case PG_QUERY__NODE__NODE_DELETE_STMT:
		on_write_stmt(d, stmt, SQL_DELETE);
		return true;
	case PG_QUERY__NODE__NODE_MERGE_STMT:
		on_write_stmt(d, stmt, SQL_MERGE);
		return true;
	case PG_QUERY__NODE__NODE_COPY_STMT:
		on_copy(d, stmt->copy_stmt);
		return true;
	case PG_QUERY__NODE__NODE_EXPLAIN_STMT:
		on_explain(d, stmt->explain_stmt);
		return true;
	case PG_QUERY__NODE__NODE_DECLARE_CURSOR_STMT:
		on_declare(d, stmt->declare_cursor_stmt);
		return true;
	case PG_QUERY__NODE__NODE_CREATE_TABLE_AS_STMT:
		on_create_as(d, stmt->create_table_as_stmt);
		return true;
	default: /* all other statements */
		return false;
	}
}

void sqlstmt(struct facts_draft *d, const PgQuery__Node *stmt)
{
	if (on_query(d, stmt) || on_named(d, stmt))
		return;
	switch ((int)stmt->node_case) {
	case PG_QUERY__NODE__NODE_TRANSACTION_STMT:
		on_transaction(d, stmt->transaction_stmt);
		break;
	case PG_QUERY__NODE__NODE_VARIABLE_SET_STMT:
		on_variable_set(d, stmt->variable_set_stmt);
		break;
	case PG_QUERY__NODE__NODE_VARIABLE_SHOW_STMT:
		on_show(d, stmt->variable_show_stmt);
		break;
	case PG_QUERY__NODE__NODE_PREPARE_STMT:
		on_prepare(d, stmt->prepare_stmt);
		break;
	case PG_QUERY__NODE__NODE_EXECUTE_STMT:
		on_execute(d, stmt->execute_stmt);
		break;
	case PG_QUERY__NODE__NODE_DISCARD_STMT:
		on_discard(d, stmt->discard_stmt);
		break;
	case PG_QUERY__NODE__NODE_VACUUM_STMT:
		named(d, stmt->vacuum_stmt->is_vacuumcmd ? SQL_VACUUM : SQL_ANALYZE, NULL,
		      stmt->vacuum_stmt->is_vacuumcmd ? SQL_F_NO_TX_BLOCK : 0, 0);
		break;
	case PG_QUERY__NODE__NODE_DO_STMT:
		on_do(d, stmt->do_stmt);
		break;
	case PG_QUERY__NODE__NODE_CALL_STMT:
		on_call(d, stmt->call_stmt);
		break;
	default: /* DDL and utilities, those of a newer parser included */
		on_utility(d, stmt);
		break;
	}
}
