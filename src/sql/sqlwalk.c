/* sqlwalk.c - visits every message of a parse tree by protobuf-c's reflection.
 *
 * Most nodes say nothing by themselves: their children do.  `rules` lists the nodes that may stand in a read, and what
 * to note about some; a node that it does not list makes the statement unknown, and so does whatever a newer parser
 * brings. Rejected: a visitor per node type, which forgets a field sooner or later. */
#include "sqlwalk_priv.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/str.h"

const char *sqlwalk_string(const PgQuery__Node *node)
{
	return node && node->node_case == PG_QUERY__NODE__NODE_STRING ? node->string->sval : NULL;
}

/* The last but `back` of a list of names; NULL when there is none. */
static const char *name_from_end(PgQuery__Node *const *list, size_t n, size_t back)
{
	return n > back ? sqlwalk_string(list[n - 1 - back]) : NULL;
}

static struct draft_ref *note(struct sqlwalk *w, enum fact_refs kind, const char *schema, const char *name)
{
	return facts_ref(w->d, &w->d->refs[kind], schema, name);
}

static void note_list(struct sqlwalk *w, enum fact_refs kind, PgQuery__Node *const *list, size_t n, uint8_t arg)
{
	const char *name = name_from_end(list, n, 0);
	if (name && *name)
		note(w, kind, name_from_end(list, n, 1), name)->arg = arg;
	else
		w->d->flags |= SQL_F_UNKNOWN_NODE;
}

static void note_alias(struct sqlwalk *w, const PgQuery__Alias *alias, const char *relation)
{
	/* Renamed columns are not the relation's. */
	if (alias && alias->aliasname[0])
		note(w, REFS_aliases, alias->aliasname, alias->n_colnames ? NULL : relation);
	else if (relation)
		note(w, REFS_aliases, relation, relation);
}

/* --- what some nodes say --- */

/* Whether a name is a table, a view or a WITH's is for the catalog, and for facts_finish(). */
static void on_range_var(struct sqlwalk *w, const ProtobufCMessage *m)
{
	const PgQuery__RangeVar *v = (const void *)m;
	note(w, REFS_relations, v->schemaname, v->relname);
	note_alias(w, v->alias, v->relname);
	if (strcmp(v->relname, "pg_prepared_statements") == 0)
		w->d->flags |= SQL_F_SHOWS_PREPARED;
}

static void on_subselect(struct sqlwalk *w, const ProtobufCMessage *m)
{
	note_alias(w, ((const PgQuery__RangeSubselect *)(const void *)m)->alias, NULL);
}

static void on_range_function(struct sqlwalk *w, const ProtobufCMessage *m)
{
	/* Its whole row may be a scalar: then alias.f calls f on it.  arg tells it from a subquery. */
	const PgQuery__RangeFunction *f = (const void *)m;
	if (f->alias)
		note(w, REFS_aliases, f->alias->aliasname, NULL)->arg = SQL_REF_FUNCTION;
}

static void on_table_func(struct sqlwalk *w, const ProtobufCMessage *m)
{
	note_alias(w, ((const PgQuery__RangeTableFunc *)(const void *)m)->alias, NULL);
}

static void on_table_sample(struct sqlwalk *w, const ProtobufCMessage *m)
{
	const PgQuery__RangeTableSample *s = (const void *)m;
	note_list(w, REFS_functions, s->method, s->n_method, SQL_REF_ARGS_MANY);
}

/* USING and NATURAL compare by the operator =, which nobody has written. */
static void on_join(struct sqlwalk *w, const ProtobufCMessage *m)
{
	const PgQuery__JoinExpr *j = (const void *)m;
	note_alias(w, j->alias, NULL);
	note_alias(w, j->join_using_alias, NULL);
	if (j->is_natural || j->n_using_clause)
		note(w, REFS_operators, NULL, "=");
}

static void on_cte(struct sqlwalk *w, const ProtobufCMessage *m)
{
	facts_ref(w->d, &w->d->ctes, NULL, ((const PgQuery__CommonTableExpr *)(const void *)m)->ctename);
}

static void on_locking(struct sqlwalk *w, const ProtobufCMessage *m)
{
	(void)m;
	w->d->flags |= SQL_F_LOCKS_ROWS;
}

/* SELECT INTO and CREATE TABLE AS share this node. */
static void on_into(struct sqlwalk *w, const ProtobufCMessage *m)
{
	w->d->flags |= SQL_F_INTO | SQL_F_DDL;
	w->d->pins |= sqlwalk_finds_temp(m) ? SQL_PIN_TEMP : 0;
}

static void on_write(struct sqlwalk *w, const PgQuery__RangeVar *target)
{
	w->d->flags |= SQL_F_WRITES;
	if (target)
		note(w, REFS_relations, target->schemaname, target->relname)->arg = SQL_REF_WRITTEN;
}

static void on_insert(struct sqlwalk *w, const ProtobufCMessage *m)
{
	w->d->flags |= SQL_F_USES_SEQUENCE;
	on_write(w, ((const PgQuery__InsertStmt *)(const void *)m)->relation);
}

static void on_update(struct sqlwalk *w, const ProtobufCMessage *m)
{
	on_write(w, ((const PgQuery__UpdateStmt *)(const void *)m)->relation);
}

static void on_delete(struct sqlwalk *w, const ProtobufCMessage *m)
{
	on_write(w, ((const PgQuery__DeleteStmt *)(const void *)m)->relation);
}

static void on_merge(struct sqlwalk *w, const ProtobufCMessage *m)
{
	w->d->flags |= SQL_F_USES_SEQUENCE;
	on_write(w, ((const PgQuery__MergeStmt *)(const void *)m)->relation);
}

/* D3: what * stands for changes with ALTER TABLE. */
static void on_star(struct sqlwalk *w, const ProtobufCMessage *m)
{
	(void)m;
	w->d->star = true;
}

/* F4: a.b may call b(a). */
static void on_column(struct sqlwalk *w, const ProtobufCMessage *m)
{
	const PgQuery__ColumnRef *c = (const void *)m;
	const char *field = name_from_end(c->fields, c->n_fields, 0);
	const char *qualifier = name_from_end(c->fields, c->n_fields, 1);
	if (field && qualifier)
		note(w, REFS_columns, qualifier, field);
	else if (field)
		facts_ref(w->d, &w->d->plain, NULL, field);
}

/* F4 again, on any expression: (x).f, ('sequence').nextval. */
static void on_indirection(struct sqlwalk *w, const ProtobufCMessage *m)
{
	const PgQuery__AIndirection *a = (const void *)m;
	for (size_t i = 0; i < a->n_indirection; i++)
		if (sqlwalk_string(a->indirection[i]))
			note(w, REFS_columns, NULL, sqlwalk_string(a->indirection[i]));
}

/* Making a value of a type runs its input function and, for a domain, its checks. */
static void on_type_name(struct sqlwalk *w, const ProtobufCMessage *m)
{
	const PgQuery__TypeName *t = (const void *)m;
	w->d->flags |= t->pct_type ? SQL_F_UNKNOWN_NODE : 0;
	note_list(w, REFS_types, t->names, t->n_names, 0);
}

static void on_sort(struct sqlwalk *w, const ProtobufCMessage *m)
{
	const PgQuery__SortBy *s = (const void *)m;
	if (s->n_use_op)
		note_list(w, REFS_operators, s->use_op, s->n_use_op, 0);
}

/* CASE x WHEN y compares by = as well; so does x IN (SELECT ...) below. */
static void on_case(struct sqlwalk *w, const ProtobufCMessage *m)
{
	if (((const PgQuery__CaseExpr *)(const void *)m)->arg)
		note(w, REFS_operators, NULL, "=");
}

static void on_sublink(struct sqlwalk *w, const ProtobufCMessage *m)
{
	const PgQuery__SubLink *s = (const void *)m;
	if (s->n_oper_name)
		note_list(w, REFS_operators, s->oper_name, s->n_oper_name, 0);
	else if (s->testexpr)
		note(w, REFS_operators, NULL, "=");
}

static void note_comparisons(struct sqlwalk *w)
{
	static const char *const names[] = { "<", "<=", ">", ">=" };
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		note(w, REFS_operators, NULL, names[i]);
}

static void on_operator(struct sqlwalk *w, const ProtobufCMessage *m)
{
	const PgQuery__AExpr *e = (const void *)m;
	switch (e->kind) {
	case PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN:
	case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN:
	case PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN_SYM:
	case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN_SYM:
		note_comparisons(w); /* its name is the word */
		break;
	case PG_QUERY__A__EXPR__KIND__AEXPR_OP:
	case PG_QUERY__A__EXPR__KIND__AEXPR_OP_ANY:
	case PG_QUERY__A__EXPR__KIND__AEXPR_OP_ALL:
	case PG_QUERY__A__EXPR__KIND__AEXPR_DISTINCT:
	case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_DISTINCT:
	case PG_QUERY__A__EXPR__KIND__AEXPR_NULLIF:
	case PG_QUERY__A__EXPR__KIND__AEXPR_IN:
	case PG_QUERY__A__EXPR__KIND__AEXPR_LIKE:
	case PG_QUERY__A__EXPR__KIND__AEXPR_ILIKE:
	case PG_QUERY__A__EXPR__KIND__AEXPR_SIMILAR:
		note_list(w, REFS_operators, e->name, e->n_name, 0);
		break;
	case PG_QUERY__A__EXPR__KIND__A_EXPR_KIND_UNDEFINED:
	case _PG_QUERY__A__EXPR__KIND_IS_INT_SIZE:
	default: /* of another release's parser */
		w->d->flags |= SQL_F_UNKNOWN_NODE;
		break;
	}
}

static const PgQuery__AConst *as_const(const PgQuery__Node *node)
{
	return node && node->node_case == PG_QUERY__NODE__NODE_A_CONST ? node->a_const : NULL;
}

/* F5: whether set_config() outlives the transaction is in its third argument. */
static void on_set_config(struct sqlwalk *w, const PgQuery__FuncCall *f)
{
	const PgQuery__AConst *name = f->n_args == 3 ? as_const(f->args[0]) : NULL;
	const PgQuery__AConst *value = f->n_args == 3 ? as_const(f->args[1]) : NULL;
	const PgQuery__AConst *local = f->n_args == 3 ? as_const(f->args[2]) : NULL;
	bool is_local = local && local->val_case == PG_QUERY__A__CONST__VAL_BOOLVAL && local->boolval->boolval;
	if (name && name->val_case == PG_QUERY__A__CONST__VAL_SVAL) {
		facts_setting(w->d, name->sval->sval);
		/* Its value may be any: the path is not looked at. */
		w->d->flags |= str_ieq(str_of(name->sval->sval), STR("search_path")) ? SQL_F_ODD_PATH : 0;
	} else {
		w->d->pins |= SQL_PIN_CUSTOM;
		w->d->flags |= SQL_F_ODD_PATH;
	}
	/* A value of NULL is RESET. */
	w->d->pins |= value && value->isnull ? SQL_PIN_RESETS : 0;
	w->d->flags |= SQL_F_LITERAL_SENSITIVE | SQL_F_SETS;
	w->d->sets_setting = w->d->sets_setting || !is_local;
}

static void on_function(struct sqlwalk *w, const ProtobufCMessage *m)
{
	const PgQuery__FuncCall *f = (const void *)m;
	bool many = f->func_variadic || f->n_args >= SQL_REF_ARGS_MANY;
	const char *name = name_from_end(f->funcname, f->n_funcname, 0);
	note_list(w, REFS_functions, f->funcname, f->n_funcname, many ? SQL_REF_ARGS_MANY : (uint8_t)f->n_args);
	if (name && strcmp(name, "set_config") == 0)
		on_set_config(w, f);
	if (name && strcmp(name, "pg_prepared_statement") == 0)
		w->d->flags |= SQL_F_SHOWS_PREPARED;
}

static void on_value_function(struct sqlwalk *w, const ProtobufCMessage *m)
{
	const PgQuery__SQLValueFunction *v = (const void *)m;
	if (v->op >= PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_DATE &&
	    v->op <= PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP_N)
		w->d->flags |= SQL_F_SHOWS_TIME;
}

/* --- the nodes of a read, and of writes within one --- */

static struct rule {
	const ProtobufCMessageDescriptor *node;
	void (*on)(struct sqlwalk *w, const ProtobufCMessage *m); /* NULL: only its children count */
} rules[] = {
	{ &pg_query__node__descriptor, NULL },
	{ &pg_query__integer__descriptor, NULL },
	{ &pg_query__float__descriptor, NULL },
	{ &pg_query__boolean__descriptor, NULL },
	{ &pg_query__string__descriptor, NULL },
	{ &pg_query__bit_string__descriptor, NULL },
	{ &pg_query__list__descriptor, NULL },
	{ &pg_query__a__const__descriptor, NULL },
	{ &pg_query__alias__descriptor, NULL },
	{ &pg_query__range_var__descriptor, on_range_var },
	{ &pg_query__range_subselect__descriptor, on_subselect },
	{ &pg_query__range_function__descriptor, on_range_function },
	{ &pg_query__range_table_func__descriptor, on_table_func },
	{ &pg_query__range_table_func_col__descriptor, NULL },
	{ &pg_query__range_table_sample__descriptor, on_table_sample },
	{ &pg_query__join_expr__descriptor, on_join },
	{ &pg_query__with_clause__descriptor, NULL },
	{ &pg_query__common_table_expr__descriptor, on_cte },
	{ &pg_query__ctesearch_clause__descriptor, NULL },
	{ &pg_query__ctecycle_clause__descriptor, NULL },
	{ &pg_query__select_stmt__descriptor, NULL },
	{ &pg_query__res_target__descriptor, NULL },
	{ &pg_query__locking_clause__descriptor, on_locking },
	{ &pg_query__into_clause__descriptor, on_into },
	{ &pg_query__insert_stmt__descriptor, on_insert },
	{ &pg_query__update_stmt__descriptor, on_update },
	{ &pg_query__delete_stmt__descriptor, on_delete },
	{ &pg_query__merge_stmt__descriptor, on_merge },
	{ &pg_query__merge_when_clause__descriptor, NULL },
	{ &pg_query__on_conflict_clause__descriptor, NULL },
	{ &pg_query__infer_clause__descriptor, NULL },
	{ &pg_query__index_elem__descriptor, NULL },
	{ &pg_query__multi_assign_ref__descriptor, NULL },
	{ &pg_query__current_of_expr__descriptor, NULL },
	{ &pg_query__set_to_default__descriptor, NULL },
	{ &pg_query__column_ref__descriptor, on_column },
	{ &pg_query__param_ref__descriptor, NULL },
	{ &pg_query__a__star__descriptor, on_star },
	{ &pg_query__a__indices__descriptor, NULL },
	{ &pg_query__a__indirection__descriptor, on_indirection },
	{ &pg_query__a__array_expr__descriptor, NULL },
	{ &pg_query__a__expr__descriptor, on_operator },
	{ &pg_query__bool_expr__descriptor, NULL },
	{ &pg_query__sub_link__descriptor, on_sublink },
	{ &pg_query__case_expr__descriptor, on_case },
	{ &pg_query__case_when__descriptor, NULL },
	{ &pg_query__coalesce_expr__descriptor, NULL },
	{ &pg_query__min_max_expr__descriptor, NULL },
	{ &pg_query__row_expr__descriptor, NULL },
	{ &pg_query__null_test__descriptor, NULL },
	{ &pg_query__boolean_test__descriptor, NULL },
	{ &pg_query__collate_clause__descriptor, NULL },
	{ &pg_query__type_cast__descriptor, NULL },
	{ &pg_query__type_name__descriptor, on_type_name },
	{ &pg_query__column_def__descriptor, NULL },
	{ &pg_query__func_call__descriptor, on_function },
	{ &pg_query__named_arg_expr__descriptor, NULL },
	{ &pg_query__sqlvalue_function__descriptor, on_value_function },
	{ &pg_query__xml_expr__descriptor, NULL },
	{ &pg_query__xml_serialize__descriptor, NULL },
	{ &pg_query__sort_by__descriptor, on_sort },
	{ &pg_query__window_def__descriptor, NULL },
	{ &pg_query__grouping_func__descriptor, NULL },
	{ &pg_query__grouping_set__descriptor, NULL },
	{ &pg_query__def_elem__descriptor, NULL },
};

static int compare_rules(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)((const struct rule *)a)->node, y = (uintptr_t)((const struct rule *)b)->node;
	return (x > y) - (x < y);
}

static void sort_rules(void) { qsort(rules, ARRAY_LEN(rules), sizeof(rules[0]), compare_rules); }

static const struct rule *find_rule(const ProtobufCMessageDescriptor *node)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct rule key = { .node = node };
	pthread_once(&once, sort_rules);
	return bsearch(&key, rules, ARRAY_LEN(rules), sizeof(rules[0]), compare_rules);
}

/* --- children --- */

/* Calls visit() for each sub-message until one answers true. */
static bool each_child(const ProtobufCMessage *m, bool (*visit)(void *arg, const ProtobufCMessage *child), void *arg)
{
	const ProtobufCMessageDescriptor *desc = m->descriptor;
	for (unsigned i = 0; i < desc->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &desc->fields[i];
		const char *at = (const char *)m + f->offset;
		if (f->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t n = *(const size_t *)(const void *)((const char *)m + f->quantifier_offset);
			ProtobufCMessage *const *list = *(ProtobufCMessage *const *const *)(const void *)at;
			for (size_t k = 0; k < n; k++)
				if (list[k] && visit(arg, list[k]))
					return true;
			continue;
		}
		/* The members of a oneof share their place; its case says which is there. */
		if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
		    *(const uint32_t *)(const void *)((const char *)m + f->quantifier_offset) != f->id)
			continue;
		const ProtobufCMessage *child = *(const ProtobufCMessage *const *)(const void *)at;
		if (child && visit(arg, child))
			return true;
	}
	return false;
}

static bool walk_child(void *walk, const ProtobufCMessage *child)
{
	sqlwalk(walk, child);
	return false;
}

void sqlwalk(struct sqlwalk *w, const ProtobufCMessage *m)
{
	if (!m)
		return;
	const struct rule *rule = find_rule(m->descriptor);
	if (!rule && !w->lenient)
		w->d->flags |= SQL_F_UNKNOWN_NODE;
	if (rule && rule->on)
		rule->on(w, m);
	each_child(m, walk_child, w);
}

void sqlwalk_node(struct sqlwalk *w, const PgQuery__Node *node)
{
	if (node)
		sqlwalk(w, &node->base);
}

static bool is_temp_schema(const char *name) { return name && strncmp(name, "pg_temp", 7) == 0; }

/* Schemas stand in many places: RangeVar, lists of names, options.  A string that only looks like one costs a pin. */
static bool finds_temp(void *unused, const ProtobufCMessage *m)
{
	if (m->descriptor == &pg_query__range_var__descriptor) {
		const PgQuery__RangeVar *v = (const void *)m;
		if (v->relpersistence[0] == 't' || is_temp_schema(v->schemaname))
			return true;
	}
	if (m->descriptor == &pg_query__string__descriptor)
		return is_temp_schema(((const PgQuery__String *)(const void *)m)->sval);
	return each_child(m, finds_temp, unused);
}

bool sqlwalk_finds_temp(const ProtobufCMessage *m) { return m && finds_temp(NULL, m); }

static bool finds_sequence(void *unused, const ProtobufCMessage *m)
{
	if (m->descriptor == &pg_query__string__descriptor) {
		struct str name = str_of(((const PgQuery__String *)(const void *)m)->sval);
		return str_eq(name, STR("currval")) || str_eq(name, STR("lastval"));
	}
	return each_child(m, finds_sequence, unused);
}

bool sqlwalk_finds_sequence(const ProtobufCMessage *m) { return m && finds_sequence(NULL, m); }
