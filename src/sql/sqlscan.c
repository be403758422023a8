/* sqlscan.c - facts from tokens: the depth of a text before it is parsed, texts that cannot be parsed, PL/pgSQL bodies.
 *
 * Everything here errs on one side: a word that might call something is taken to call it, a command that might set
 * something is taken to set it.
 *
 * Depth.  libpg_query and protobuf-c recurse over the tree, with about 2 KB of stack a level (a parenthesis with a
 * subquery in it 6 KB), and neither checks: 64 KB of 1+1+1… overflows 8 MB.  A level needs a parenthesis, or a word or
 * operator in the same list element; AND and OR, and commas, are flat.  Joins and set operations nest across commas. */
#include "sqlscan_priv.h"
#include <string.h>
#include "base/check.h"
#include "sql/fingerprint.h"
#include "sql/lexer.h"

enum { IDENT_MAX = 64 }; /* NAMEDATALEN: the server cuts longer ones, we do not know where */

static bool is_any(const struct sql_token *t, const struct str *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (sql_token_is(t, words[i]))
			return true;
	return false;
}
#define IS_ANY(t, ...)                                                                                                 \
	is_any(t, (const struct str[]){ __VA_ARGS__ }, sizeof((const struct str[]){ __VA_ARGS__ }) / sizeof(struct str))

static bool is_punct(const struct sql_token *t, char c) { return t->kind == TOKEN_PUNCT && *t->p == c; }

/* --- depth --- */

enum { COST_PAREN = 3, COST_CASE = 2 };

struct level {
	unsigned chain;   /* units since the last comma, AND or OR */
	unsigned between; /* BETWEENs that wait for their AND, which is not flat */
	unsigned cost;    /* of being open */
};

struct depth {
	unsigned nested;
	unsigned linear; /* levels by joins and set operations */
	unsigned sum;    /* of all chains and costs */
	unsigned most;
	struct level levels[SQL_NESTING_MAX + 1];
};

static void depth_open(struct depth *s, unsigned cost)
{
	if (s->nested >= SQL_NESTING_MAX) {
		s->most = SQLSCAN_DEPTH_MAX + 1;
		return;
	}
	s->levels[++s->nested] = (struct level){ .cost = cost };
	s->sum += cost;
}

static void depth_flat(struct depth *s)
{
	s->sum -= s->levels[s->nested].chain;
	s->levels[s->nested].chain = 0;
}

static void depth_close(struct depth *s)
{
	depth_flat(s);
	s->sum -= s->levels[s->nested].cost;
	s->nested--;
}

/* A parenthesis ends the CASEs in it, which a text that parses does not have. */
static void depth_close_paren(struct depth *s)
{
	while (s->nested > 0 && s->levels[s->nested].cost == COST_CASE)
		depth_close(s);
	if (s->nested > 0)
		depth_close(s);
}

static void depth_word(struct depth *s, const struct sql_token *t, bool after_dot)
{
	struct level *at = &s->levels[s->nested];
	if (sql_token_is(t, STR("and")) && at->between > 0) {
		at->between--;
	} else if (IS_ANY(t, STR("and"), STR("or"))) {
		depth_flat(s);
		return;
	}
	at->between += sql_token_is(t, STR("between"));
	s->linear += IS_ANY(t, STR("join"), STR("union"), STR("except"), STR("intersect"));
	if (sql_token_is(t, STR("case"))) {
		depth_open(s, COST_CASE);
	} else if (sql_token_is(t, STR("end")) && !after_dot && at->cost == COST_CASE) {
		depth_close(s);
	} else {
		at->chain++;
		s->sum++;
	}
}

static void depth_token(struct depth *s, const struct sql_token *t, bool after_dot)
{
	if (is_punct(t, '(') || is_punct(t, '[')) {
		depth_open(s, COST_PAREN);
	} else if (is_punct(t, ')') || is_punct(t, ']')) {
		depth_close_paren(s);
	} else if (is_punct(t, ',')) {
		depth_flat(s);
	} else if (is_punct(t, ';')) {
		*s = (struct depth){ .most = s->most };
	} else if (t->kind == TOKEN_WORD) {
		depth_word(s, t, after_dot);
	} else if (t->kind == TOKEN_OPERATOR) {
		s->levels[s->nested].chain++;
		s->sum++;
	}
	if (s->sum + s->linear > s->most)
		s->most = s->sum + s->linear;
}

void sqlscan_look(struct str sql, bool std_strings, struct sqlscan_look *out)
{
	struct depth s = { .nested = 0 };
	struct sql_lexer lx;
	struct sql_token t;
	bool after_dot = false;
	*out = (struct sqlscan_look){ 0 };
	lexer_init(&lx, sql, std_strings);
	for (lexer_next(&lx, &t); t.kind != TOKEN_END; lexer_next(&lx, &t)) {
		depth_token(&s, &t, after_dot);
		after_dot = is_punct(&t, '.');
		out->now_literal |= t.now;
		bool plain = t.kind == TOKEN_STRING && *t.p == '\'';
		for (const char *p = t.p; !plain && p < t.end; p++)
			out->high_bytes |= (unsigned char)*p >= 0x80;
	}
	out->backslash = lx.backslash;
	out->depth = s.most;
}

/* --- names in tokens --- */

/* Words before a parenthesis that call nothing, or nothing that a name could hide. */
static bool is_keyword(const struct sql_token *t)
{
	return IS_ANY(t, STR("in"), STR("and"), STR("or"), STR("not"), STR("if"), STR("elsif"), STR("elseif"),
	              STR("while"), STR("when"), STR("then"), STR("else"), STR("case"), STR("return"), STR("values"),
	              STR("select"), STR("from"), STR("where"), STR("exists"), STR("any"), STR("all"), STR("some"),
	              STR("array"), STR("row"), STR("coalesce"), STR("nullif"), STR("greatest"), STR("least"),
	              STR("extract"), STR("overlay"), STR("position"), STR("substring"), STR("trim"), STR("cast"),
	              STR("using"), STR("on"), STR("as"), STR("over"), STR("partition"), STR("by"), STR("distinct"),
	              STR("limit"), STR("offset"), STR("filter"), STR("within"), STR("grouping"), STR("sets"),
	              STR("cube"), STR("rollup"), STR("union"), STR("intersect"), STR("except"), STR("join"),
	              STR("lateral"), STR("is"), STR("like"), STR("ilike"), STR("to"), STR("between"), STR("table"),
	              STR("perform"), STR("query"), STR("loop"), STR("for"), STR("materialized"), STR("with"),
	              STR("decimal"), STR("dec"), STR("character"), STR("varying"), STR("float"), STR("precision"),
	              STR("nchar"), STR("set"), STR("having"), STR("default"), STR("next"), STR("foreach"),
	              STR("slice"), STR("into"), STR("only"), STR("rows"));
}

struct scan {
	struct facts_draft *d;
	struct sql_lexer lx;
	struct sql_token t, before, ahead; /* the one at hand and its neighbours */
	char qualifier[IDENT_MAX];         /* of the identifier at hand, "" without one */
	char ident[IDENT_MAX];             /* the last identifier */
	unsigned config_in;                /* so many tokens from here stands set_config's first argument */
};

static void scan_start(struct scan *s, struct facts_draft *d, struct str text, bool std_strings)
{
	*s = (struct scan){ .d = d };
	lexer_init(&s->lx, text, std_strings);
	lexer_next(&s->lx, &s->t);
	lexer_next(&s->lx, &s->ahead);
	s->before.kind = TOKEN_END;
}

/* E1: a name that stands there can be told from others.  False: it may be any. */
static bool scan_setting(struct scan *s)
{
	char name[IDENT_MAX];
	size_t n = (size_t)(s->t.end - s->t.p);
	if (s->t.kind != TOKEN_STRING || *s->t.p != '\'' || !is_punct(&s->ahead, ',') || n < 3 ||
	    n - 2 >= sizeof(name) || memchr(s->t.p + 1, '\'', n - 2) || memchr(s->t.p, '\\', n))
		return false;
	memcpy(name, s->t.p + 1, n - 2);
	name[n - 2] = 0;
	facts_setting(s->d, name);
	return true;
}

static void scan_next(struct scan *s)
{
	s->before = s->t;
	s->t = s->ahead;
	lexer_next(&s->lx, &s->ahead);
	if (s->config_in && --s->config_in == 0 && !scan_setting(s))
		s->d->pins |= SQL_PIN_CUSTOM;
}

/* The token at hand as an identifier, with the qualifier before it; false when it is none. */
static bool scan_ident(struct scan *s)
{
	if (s->t.kind == TOKEN_UQUOTED) {
		s->d->flags |= SQL_F_UNKNOWN_NODE;
		return false;
	}
	if (s->t.kind != TOKEN_WORD && s->t.kind != TOKEN_QUOTED)
		return false;
	if (is_punct(&s->before, '.'))
		memcpy(s->qualifier, s->ident, sizeof(s->qualifier));
	else
		s->qualifier[0] = 0;
	if (!sql_token_ident(&s->t, s->ident, sizeof(s->ident)) || !s->ident[0]) {
		s->d->flags |= SQL_F_UNKNOWN_NODE;
		return false;
	}
	return true;
}

static void scan_function(struct scan *s)
{
	if (!is_punct(&s->ahead, '(') || is_keyword(&s->t))
		return;
	facts_ref(s->d, &s->d->refs[REFS_functions], s->qualifier, s->ident)->arg = SQL_REF_ARGS_MANY;
	if (strcmp(s->ident, "set_config") == 0) {
		s->d->sets_setting = true;
		s->d->flags |= SQL_F_LITERAL_SENSITIVE | SQL_F_ODD_PATH | SQL_F_SETS;
		s->config_in = 2;
	}
}

/* --- PL/pgSQL --- */

static void scan_operator(struct scan *s)
{
	char op[IDENT_MAX];
	size_t n = (size_t)(s->t.end - s->t.p);
	if (n >= sizeof(op)) {
		s->d->flags |= SQL_F_UNKNOWN_NODE;
		return;
	}
	memcpy(op, s->t.p, n);
	op[n] = 0;
	if (strcmp(op, ":=") == 0 || strcmp(op, "::") == 0 || strcmp(op, "..") == 0 || strcmp(op, "=>") == 0)
		return;
	facts_ref(s->d, &s->d->refs[REFS_operators], NULL, strcmp(op, "!=") == 0 ? "<>" : op);
}

static void touches(struct facts_draft *d)
{
	d->pins |= SQL_PIN_UNKNOWN;
	d->flags |= SQL_F_MAY_TOUCH_SESSION;
}

static bool is_statement_word(const struct sql_token *t)
{
	return IS_ANY(t, STR("declare"), STR("begin"), STR("if"), STR("elsif"), STR("elseif"), STR("else"), STR("end"),
	              STR("loop"), STR("while"), STR("for"), STR("foreach"), STR("exit"), STR("continue"),
	              STR("return"), STR("raise"), STR("assert"), STR("null"), STR("perform"), STR("select"),
	              STR("with"), STR("values"), STR("insert"), STR("update"), STR("delete"), STR("merge"), STR("get"),
	              STR("open"), STR("fetch"), STR("move"), STR("close"), STR("case"), STR("when"), STR("exception"),
	              STR("table"));
}

/* What a command at the start of a PL/pgSQL statement does; false: it is none that we know. */
static bool scan_command(struct facts_draft *d, const struct sql_token *t)
{
	if (IS_ANY(t, STR("set"), STR("reset"), STR("discard"), STR("listen"), STR("unlisten"), STR("load"),
	           STR("prepare"), STR("deallocate"), STR("start"), STR("abort"), STR("savepoint"), STR("release"),
	           STR("show"), STR("explain"))) {
		d->flags |= SQL_F_UNKNOWN_NODE;
		d->pins |= SQL_PIN_RESETS;
		touches(d);
	} else if (IS_ANY(t, STR("create"), STR("alter"), STR("drop"), STR("grant"), STR("revoke"), STR("import"),
	                  STR("comment"), STR("security"), STR("reassign"))) {
		d->flags |= SQL_F_DDL;
		touches(d);
	} else if (IS_ANY(t, STR("truncate"), STR("copy"), STR("vacuum"), STR("analyze"), STR("analyse"),
	                  STR("cluster"), STR("reindex"), STR("refresh"), STR("lock"), STR("checkpoint"), STR("notify"),
	                  STR("call"))) {
		d->flags |= SQL_F_WRITES;
	} else if (IS_ANY(t, STR("commit"), STR("rollback"))) {
		d->flags |= SQL_F_TX_CONTROL_INSIDE;
	} else if (IS_ANY(t, STR("do"))) {
		d->flags |= SQL_F_DYNAMIC;
		d->pins |= SQL_PIN_RESETS;
		touches(d);
	} else {
		return is_statement_word(t);
	}
	return true;
}

/* Words that count wherever they stand: they cannot be told from a column of that name, so they always count. */
static void scan_word_anywhere(struct scan *s)
{
	struct facts_draft *d = s->d;
	if (IS_ANY(&s->t, STR("insert"), STR("update"), STR("delete"), STR("merge"))) {
		d->flags |= SQL_F_WRITES;
	} else if (IS_ANY(&s->t, STR("execute"))) {
		d->flags |= SQL_F_DYNAMIC;
		d->pins |= SQL_PIN_RESETS;
		touches(d);
	} else if (IS_ANY(&s->t, STR("exception"))) {
		d->flags |= sql_token_is(&s->before, STR("raise")) ? 0 : SQL_F_SWALLOWS_ERRORS;
	} else if (IS_ANY(&s->t, STR("share"))) {
		d->flags |= SQL_F_LOCKS_ROWS;
	} else if (IS_ANY(&s->t, STR("current_date"), STR("current_time"), STR("current_timestamp"), STR("localtime"),
	                  STR("localtimestamp"))) {
		d->flags |= SQL_F_SHOWS_TIME;
	}
}

enum start { NOT_AT_START, AT_START, MAYBE_AT_START };

/* Whether what follows t begins a statement.  After THEN and ELSE it may also be an expression of CASE. */
static enum start start_after(const struct sql_token *t)
{
	if (is_punct(t, ';') || IS_ANY(t, STR("declare"), STR("begin"), STR("loop")))
		return AT_START;
	return IS_ANY(t, STR("then"), STR("else")) || t->kind == TOKEN_OPERATOR ? MAYBE_AT_START : NOT_AT_START;
}

static void plpgsql_ident(struct scan *s, enum start at, bool declaring)
{
	scan_function(s);
	scan_word_anywhere(s);
	facts_ref(s->d, &s->d->refs[REFS_words], NULL, s->ident);
	/* F4: ('sq').nextval, x.nextval */
	if (is_punct(&s->before, '.'))
		facts_ref(s->d, &s->d->refs[REFS_columns], NULL, s->ident);
	if (at == NOT_AT_START || declaring)
		return;
	/* A command that we do not know: word word. */
	if (!scan_command(s->d, &s->t) && at == AT_START && s->ahead.kind == TOKEN_WORD) {
		s->d->flags |= SQL_F_UNKNOWN_NODE;
		touches(s->d);
	}
}

void sqlscan_plpgsql(struct facts_draft *d, struct str body)
{
	/* Comparisons hide in CASE, IN, BETWEEN. */
	static const char *const hidden[] = { "=", "<", "<=", ">", ">=", "<>" };
	struct scan s;
	enum start at = AT_START;
	bool declaring = false; /* between DECLARE and BEGIN, where word word is a variable and its type */
	scan_start(&s, d, body, true);
	for (; s.t.kind != TOKEN_END; scan_next(&s)) {
		d->flags |= s.t.now ? SQL_F_NOW_LITERAL | SQL_F_SHOWS_TIME : 0;
		if (s.t.kind == TOKEN_BAD) {
			d->flags |= SQL_F_UNKNOWN_NODE;
			touches(d);
		}
		if (s.t.kind == TOKEN_OPERATOR)
			scan_operator(&s);
		if (scan_ident(&s))
			plpgsql_ident(&s, at, declaring);
		if (IS_ANY(&s.t, STR("declare"), STR("begin")))
			declaring = sql_token_is(&s.t, STR("declare"));
		at = start_after(&s.t);
	}
	for (size_t i = 0; i < ARRAY_LEN(hidden); i++)
		facts_ref(d, &d->refs[REFS_operators], NULL, hidden[i]);
}

/* --- texts that were not parsed --- */

static const struct command {
	struct str word;
	enum sql_verb verb;
	uint32_t flags;
	bool known; /* leaves nothing in the session but by the functions it calls, and by temporary tables */
} commands[] = {
	{ { "select", 6 }, SQL_SELECT, 0, true },
	{ { "with", 4 }, SQL_SELECT, 0, true },
	{ { "values", 6 }, SQL_SELECT, 0, true },
	{ { "table", 5 }, SQL_SELECT, 0, true },
	{ { "insert", 6 }, SQL_INSERT, SQL_F_WRITES | SQL_F_USES_SEQUENCE, true },
	{ { "update", 6 }, SQL_UPDATE, SQL_F_WRITES, true },
	{ { "delete", 6 }, SQL_DELETE, SQL_F_WRITES, true },
	{ { "merge", 5 }, SQL_MERGE, SQL_F_WRITES | SQL_F_USES_SEQUENCE, true },
	{ { "copy", 4 }, SQL_UNPARSED, SQL_F_WRITES | SQL_F_USES_SEQUENCE, true },
	{ { "explain", 7 }, SQL_UNPARSED, SQL_F_WRITES, true },
	{ { "create", 6 }, SQL_DDL, SQL_F_DDL | SQL_F_CODE_DDL | SQL_F_NO_TX_BLOCK, true },
	{ { "alter", 5 }, SQL_DDL, SQL_F_DDL | SQL_F_CODE_DDL | SQL_F_NO_TX_BLOCK, true },
	{ { "drop", 4 }, SQL_DDL, SQL_F_DDL | SQL_F_NO_TX_BLOCK, true },
	{ { "comment", 7 }, SQL_DDL, SQL_F_DDL, true },
	{ { "grant", 5 }, SQL_DDL, SQL_F_DDL, true },
	{ { "revoke", 6 }, SQL_DDL, SQL_F_DDL, true },
	{ { "vacuum", 6 }, SQL_VACUUM, SQL_F_NO_TX_BLOCK, true },
	{ { "analyze", 7 }, SQL_ANALYZE, 0, true },
	{ { "reindex", 7 }, SQL_REINDEX, SQL_F_NO_TX_BLOCK, true },
	{ { "cluster", 7 }, SQL_CLUSTER, SQL_F_NO_TX_BLOCK, true },
	{ { "begin", 5 }, SQL_UNPARSED, SQL_F_TX_CONTROL_INSIDE, false },
	{ { "start", 5 }, SQL_UNPARSED, SQL_F_TX_CONTROL_INSIDE, false },
	{ { "commit", 6 }, SQL_UNPARSED, SQL_F_TX_CONTROL_INSIDE, false },
	{ { "end", 3 }, SQL_UNPARSED, SQL_F_TX_CONTROL_INSIDE, false },
	{ { "rollback", 8 }, SQL_UNPARSED, SQL_F_TX_CONTROL_INSIDE, false },
	{ { "abort", 5 }, SQL_UNPARSED, SQL_F_TX_CONTROL_INSIDE, false },
	{ { "savepoint", 9 }, SQL_UNPARSED, SQL_F_TX_CONTROL_INSIDE, false },
	{ { "release", 7 }, SQL_UNPARSED, SQL_F_TX_CONTROL_INSIDE, false },
	{ { "prepare", 7 }, SQL_UNPARSED, SQL_F_TX_CONTROL_INSIDE, false },
};

static const struct command *find_command(const struct sql_token *t)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (sql_token_is(t, commands[i].word))
			return &commands[i];
	return NULL;
}

static void unparsed_start(struct scan *s)
{
	const struct command *c = find_command(&s->t);
	(void)facts_stmt(s->d, c ? c->verb : SQL_UNPARSED);
	s->d->flags |= c ? c->flags : 0;
	if (!c || !c->known)
		touches(s->d);
}

void sqlscan_unparsed(struct facts_draft *d, struct str sql, bool std_strings)
{
	struct scan s;
	bool at_start = true;
	int depth = 0;
	if (sql.n > SQLSCAN_BYTES_MAX) {
		sql.n = SQLSCAN_BYTES_MAX;
		touches(d);
	}
	scan_start(&s, d, sql, std_strings);
	for (; s.t.kind != TOKEN_END; scan_next(&s)) {
		depth += is_punct(&s.t, '(') - is_punct(&s.t, ')');
		if (is_punct(&s.t, ';') && depth <= 0) {
			at_start = true;
			continue;
		}
		/* A number of a newer syntax is no riddle; all else may be. */
		if (s.t.kind == TOKEN_BAD && !(*s.t.p >= '0' && *s.t.p <= '9'))
			touches(d);
		if (at_start && !is_punct(&s.t, '(')) {
			unparsed_start(&s);
			at_start = false;
		}
		if (!scan_ident(&s))
			continue;
		scan_function(&s);
		if (IS_ANY(&s.t, STR("temp"), STR("temporary")) || strncmp(s.ident, "pg_temp", 7) == 0)
			touches(d);
	}
}
