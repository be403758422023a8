/* proxy/segment.c - see proxy/segment.h.
 *
 * The first message that ends a segment ends the scan.  A statement's name means what the messages before it in the
 * same segment made it mean, and only then what the client's table says: neither has happened yet. */
#include "proxy/segment.h"

#include <ctype.h>
#include "base/mem.h"
#include "base/rules.h"
#include "cluster/dbfacts.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/params.h"
#include "proxy/pstmt.h"
#include "proxy/sqlprep.h"
#include "proxy/worker.h"
#include "sql/catalog.h"
#include "sql/route.h"
#include "sql/shapes.h"
#include "wire/frame.h"
#include "wire/msg.h"

struct scan {
	struct client *c;
	const uint8_t *p;
	size_t n;
	struct route_policy policy;
	const struct catalog *catalog;
	const struct catalog *outdated; /* the newest one, while it is not proved; NULL: it is, or there is none */
	struct segment *seg;
};

static void bad(struct segment *seg, uint8_t type)
{
	seg->end = SEGMENT_BAD;
	pgerr_set_bad_message(seg->error, FRAME_FROM_CLIENT, type);
	seg->error->severity = PGERR_FATAL;
}

/* --- classification --- */

static bool options_are_default(struct sqlparse_options o) { return o.std_strings && !o.ascii_unsafe; }

/* A new reference to the shape of a statement. */
static struct sql_shape *text_shape(struct client *c, struct stmt_text *text)
{
	struct shapes *shapes = c->worker->shapes;
	if (!options_are_default(c->sql_options))
		return shape_ref(shapes_get(shapes, stmt_text_sql(text), c->sql_options, &text->hint));
	if (!text->shape)
		text->shape = shape_ref(shapes_get(shapes, stmt_text_sql(text), c->sql_options, &text->hint));
	return shape_ref(text->shape);
}

static enum route_wish wish_of(enum route_mode mode)
{
	switch (mode) {
	case ROUTE_MODE_PRIMARY:
		return ROUTE_WISH_PRIMARY;
	case ROUTE_MODE_REPLICA:
		return ROUTE_WISH_REPLICA;
	case ROUTE_MODE_AUTO:
		break;
	}
	return ROUTE_WISH_AUTO;
}

static void apply_hint(const struct scan *sc, const struct sql_hint *hint, struct route_policy *policy)
{
	enum route_mode mode;
	enum consistency level;
	const struct dbuser *du = sc->c->du;
	if ((!hint->route.n && !hint->consistency.n) ||
	    !config_allow_route_hints(du->config, du->conf, du->conf_user, sc->c->conf_app))
		return;
	if (hint->route.n && conf_parse_route(hint->route, &mode))
		policy->wish = wish_of(mode);
	if (hint->consistency.n && conf_parse_consistency(hint->consistency, &level))
		sc->seg->consistency = (int)level;
}

static void add_verdict(struct segment *seg, struct route_verdict v)
{
	seg->verdict = seg->has_verdict ? route_stricter(seg->verdict, v) : v;
	seg->has_verdict = true;
}

static void add_unknown(struct segment *seg)
{
	struct route_verdict v = { .target = ROUTE_STAY, .reason = REASON_IN_TRANSACTION };
	seg->unknown = true;
	add_verdict(seg, v);
}

/* A bound statement counts for pins and flags: its Execute may come in a later part. */
enum use { USE_NAMED, USE_BOUND, USE_EXECUTED };

/* E1: which names with a point its statements have for settings. */
static void add_settings(const struct scan *sc, const struct sql_refs *settings)
{
	struct params_table *t = &sc->c->worker->params;
	if (!sc->seg->names)
		sc->seg->names = params_ref(t->empty);
	for (unsigned i = 0; i < settings->n; i++)
		params_set(t, &sc->seg->names, str_of(settings->v[i].name), STR(""));
}

static void out_of_memory(struct segment *seg)
{
	seg->end = SEGMENT_BAD;
	pgerr_set_fatal(seg->error, SQLSTATE_OUT_OF_MEMORY, "out of memory");
}

static void mention(const struct scan *sc, enum mention_kind kind, struct str name)
{
	if (!sqlprep_mention(sc->seg, kind, name))
		out_of_memory(sc->seg);
}

/* One statement that changes or uses names of SQL. */
static void mention_stmt(const struct scan *sc, const struct sql_stmt *stmt, struct str sql, enum use use)
{
	struct str name = stmt->name ? str_of(stmt->name) : STR("");
	if (stmt->runs)
		mention(sc, MENTION_USE, str_of(stmt->runs));
	if (use != USE_EXECUTED)
		return;
	switch ((int)stmt->verb) {
	case SQL_PREPARE:
		if (!sqlprep_mention_prepare(sc->c, sc->seg, name, sql))
			out_of_memory(sc->seg);
		return;
	case SQL_DEALLOCATE:
		mention(sc, stmt->name ? MENTION_DEALLOCATE : MENTION_DEALLOCATE_ALL, name);
		return;
	case SQL_DISCARD_ALL:
		mention(sc, MENTION_DEALLOCATE_ALL, STR(""));
		return;
	default:
		return;
	}
}

/* Right after DDL nothing is proved, and yet what code does to the session must not be missed: what the facts of before
 * say of it holds for all that the DDL has not changed.  Where it may have changed code, or there are no facts at all,
 * the settings are read behind it, and the backend is not for anybody else (E1: a name with a point stays). */
static COLD void add_unproved_pins(const struct scan *sc, const struct sql_shape *shape)
{
	const uint32_t code = SQL_F_USER_CODE | SQL_F_DYNAMIC | SQL_F_MAY_TOUCH_SESSION;
	const struct sql_facts *f = shape_facts(shape);
	struct segment *seg = sc->seg;
	if (RULE_BROKEN(E2))
		return;
	if (sc->outdated)
		seg->pins |= route_classify(f, sc->outdated).pins;
	if (!(f->flags & (code | SQL_F_WRITES)) || (sc->outdated && dbfacts_code_is_proved(sc->c->du->facts)))
		return;
	seg->pins |= SQL_PIN_SETTING;
	/* Without any facts writes have to be trusted with their triggers, or no connection would live. */
	seg->doubted |= sc->outdated || (f->flags & code);
	/* Its own new code may be of a language that keeps state where nobody looks; once the facts know, it is. */
	if (sc->c->made_code)
		seg->pins |= SQL_PIN_UNKNOWN;
}

/* EXECUTE is what it runs (F2); what its arguments call is for the primary. */
static void judge_execute(const struct scan *sc, const struct sql_facts *f, enum use use,
                          const struct route_policy *policy, struct route_verdict *v)
{
	struct stmt_text *text = sqlprep_meaning(sc->c, str_of(f->stmts[0].runs));
	if (!text)
		return;
	struct sql_shape *shape = text_shape(sc->c, text);
	struct route_verdict inner = shape_route(shape, sc->catalog, policy);
	bool plain = !f->functions.n && !f->operators.n && !f->types.n && !f->columns.n && !f->relations.n;
	if (use != USE_NAMED)
		sc->seg->flags |= shape_facts(shape)->flags;
	if (use != USE_NAMED && (shape_facts(shape)->flags & SQL_F_CUSTOM_SETTING))
		add_settings(sc, &shape_facts(shape)->settings);
	v->pins |= inner.pins;
	if (UNLIKELY(!sc->catalog) && use != USE_NAMED)
		add_unproved_pins(sc, shape);
	v->shows_time |= inner.shows_time;
	if (f->stmts[0].verb == SQL_EXECUTE && v->reason == REASON_PREPARED && plain) {
		uint32_t pins = v->pins;
		*v = inner;
		v->pins = pins;
		v->what = NULL; /* borrowed from a shape that is let go */
	}
	shape_unref(shape);
}

/* PREPARE, EXECUTE, DEALLOCATE and their kin.  They pin nobody: what cannot be made again does so when it has happened
 * (sqlprep.h). */
static void add_names(const struct scan *sc, const struct sql_facts *f, struct str sql, enum use use,
                      const struct route_policy *policy, struct route_verdict *v)
{
	bool again = !f->multi && (!(f->flags & SQL_F_NOW_LITERAL) || RULE_BROKEN(D1));
	for (unsigned i = 0; i < f->n_stmts; i++)
		mention_stmt(sc, &f->stmts[i], again ? sql : STR(""), use);
	v->pins &= ~(uint32_t)SQL_PIN_PREPARED;
	if (f->multi)
		return;
	if (f->stmts[0].runs)
		judge_execute(sc, f, use, policy, v);
	else if (v->reason == REASON_PREPARED)
		v->target = ROUTE_STAY; /* a standby has them too */
}

/* A RESET that stands alone is followed at once by what it should have led to; one among others cannot be. */
static uint32_t pins_of_resets(const struct sql_facts *f)
{
	return (f->flags & SQL_F_RESETS_SETTINGS) && f->multi ? SQL_PIN_RESETS : 0;
}

/* Whether the text says the word, in any case. */
static bool says(struct str sql, struct str word)
{
	for (size_t i = 0; i + word.n <= sql.n; i++) {
		if (str_ieq((struct str){ sql.p + i, word.n }, word))
			return true;
	}
	return false;
}

/* E7: what its settings go back to is seen in the middle of it. */
static bool wants_own(const struct sql_facts *f, uint32_t pins, struct str sql)
{
	if (!(f->flags & (SQL_F_SHOWS_SETTINGS | SQL_F_RESETS_SETTINGS)) && !(pins & SQL_PIN_RESETS))
		return false;
	if (f->flags & SQL_F_SHOWS_SETTINGS)
		return says(sql, STR("reset_val")) || says(sql, STR("source")) || says(sql, STR("*"));
	enum sql_verb last = f->stmts[f->n_stmts - 1].verb;
	return (pins & SQL_PIN_RESETS) || (f->multi && last != SQL_RESET && last != SQL_RESET_ALL);
}

/* Takes the reference to shape. */
static void add_shape(const struct scan *sc, struct sql_shape *shape, struct str sql, const struct sql_hint *hint,
                      enum use use)
{
	struct segment *seg = sc->seg;
	struct route_policy policy = sc->policy;
	apply_hint(sc, hint, &policy);
	struct route_verdict v = shape_route(shape, sc->catalog, &policy);
	if (UNLIKELY(shape_facts(shape)->flags & SQL_F_PREPARED_NAMES))
		add_names(sc, shape_facts(shape), sql, use, &policy, &v);
	add_verdict(seg, v);
	if (use != USE_NAMED) {
		seg->flags |= shape_facts(shape)->flags;
		if (shape_facts(shape)->flags & SQL_F_CUSTOM_SETTING)
			add_settings(sc, &shape_facts(shape)->settings);
		seg->pins |= v.pins | pins_of_resets(shape_facts(shape));
		seg->wants_own |= wants_own(shape_facts(shape), v.pins, sql);
		seg->shows_time |= v.shows_time;
		if (UNLIKELY(!sc->catalog))
			add_unproved_pins(sc, shape);
	}
	if (use != USE_EXECUTED) {
		shape_unref(shape);
		return;
	}
	shape_unref(seg->shape);
	seg->shape = NULL;
	if (seg->n_executed++ == 0)
		seg->shape = shape;
	else
		shape_unref(shape);
}

static void add_text(const struct scan *sc, struct stmt_text *text, enum use use)
{
	add_shape(sc, text_shape(sc->c, text), stmt_text_sql(text), &text->hint, use);
}

/* Bind or Describe of a name that PREPARE made, or that means nothing. */
static void add_named_by_sql(const struct scan *sc, struct str name, enum use use)
{
	const struct sqlname *n = name.n ? sqlprep_find(sc->c, name) : NULL;
	if (name.n)
		mention(sc, MENTION_USE, name); /* also to have nobody else's */
	if (!n || !n->inner) {
		add_unknown(sc->seg);
		return;
	}
	add_text(sc, n->inner, use);
}

/* --- names --- */

static struct stmt_text *find_text(const struct scan *sc, struct str name)
{
	const struct segment *seg = sc->seg;
	for (unsigned i = seg->parses ? seg->n : 0; i-- > 0;) {
		const struct segment_msg *m = &seg->msgs[i];
		if (m->type == MSG_PARSE && str_eq(m->name, name))
			return m->text;
		if (m->type == MSG_CLOSE && m->target == MSG_TARGET_STATEMENT && str_eq(m->name, name))
			return NULL;
		if (m->type == MSG_QUERY && name.n == 0)
			return NULL;
	}
	if (name.n == 0)
		return sc->c->stmts.has_sent ? sc->c->stmts.sent : sc->c->stmts.unnamed;
	struct cstmt *s = client_stmts_recall(&sc->c->stmts, name);
	return s ? s->text : NULL;
}

static struct stmt_text *find_portal_text(const struct scan *sc, struct str portal)
{
	const struct segment *seg = sc->seg;
	for (unsigned i = seg->n; i-- > 0;) {
		const struct segment_msg *m = &seg->msgs[i];
		if (m->type == MSG_BIND && str_eq(m->portal, portal))
			return m->text;
	}
	return NULL;
}

/* --- messages --- */

static void scan_parse(struct scan *sc, struct segment_msg *m, const uint8_t *body, size_t len)
{
	struct msg_parse msg;
	if (!msg_parse_parse(body, len, &msg)) {
		bad(sc->seg, MSG_PARSE);
		return;
	}
	m->name = msg.name;
	m->text = stmt_texts_intern(&sc->c->worker->texts, body + msg.name.n + 1, len - msg.name.n - 1);
	if (!m->text) {
		out_of_memory(sc->seg);
		return;
	}
	sc->seg->parses = true;
	add_text(sc, m->text, USE_NAMED);
}

static bool is_movable(enum route_tx tx) { return tx == ROUTE_TX_MOVABLE || tx == ROUTE_TX_READ_ONLY; }

static bool is_word_at(const uint8_t *p, size_t n, const char *word)
{
	size_t len = strlen(word);
	return len <= n && str_ieq((struct str){ (const char *)p, len }, str_of(word)) &&
	       (len == n || !isalpha(p[len]));
}

/* C1: may one of the bound values be read as the present by a datetime input?  Words of that meaning, wherever they
 * stand: in a range or an array, or in text that has nothing to do with it, which then costs a turn to the primary. */
static bool says_now(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t first = p[i] | 0x20;
		bool starts = i >= 4 && p[i - 4] == 0 && p[i - 3] == 0; /* behind its length */
		if ((first != 'n' && first != 't' && first != 'y') || (i > 0 && isalpha(p[i - 1]) && !starts))
			continue;
		if (is_word_at(p + i, n - i, "now") || is_word_at(p + i, n - i, "today") ||
		    is_word_at(p + i, n - i, "tomorrow") || is_word_at(p + i, n - i, "yesterday"))
			return true;
	}
	return false;
}

static void note_values(const struct scan *sc, const uint8_t *values, size_t n)
{
	if (!is_movable(sc->policy.tx) || !says_now(values, n))
		return;
	sc->seg->shows_time = true;
	if (sc->policy.tx == ROUTE_TX_MOVABLE && !RULE_BROKEN(C1))
		add_verdict(sc->seg,
		            (struct route_verdict){ .target = ROUTE_PRIMARY, .reason = REASON_TRANSACTION_TIME });
}

static void scan_bind(struct scan *sc, struct segment_msg *m, const uint8_t *body, size_t have, size_t len)
{
	struct msg_bind msg;
	if (msg_peek_bind(body, have, len, &msg) != FRAME_OK) {
		bad(sc->seg, MSG_BIND);
		return;
	}
	m->portal = msg.portal;
	m->name = msg.statement;
	m->rest = (uint32_t)(FRAME_HEAD_BYTES + msg.rest_offset);
	m->text = find_text(sc, msg.statement);
	sc->seg->keeps_portal |= msg.portal.n != 0;
	note_values(sc, body + msg.rest_offset, have - msg.rest_offset);
	if (m->text)
		add_text(sc, m->text, USE_BOUND);
	else
		add_named_by_sql(sc, msg.statement, USE_BOUND);
}

static void scan_describe(struct scan *sc, struct segment_msg *m, const uint8_t *body, size_t len)
{
	struct msg_describe msg;
	bool ok = m->type == MSG_DESCRIBE ? msg_parse_describe(body, len, &msg) : msg_parse_close(body, len, &msg);
	if (!ok) {
		bad(sc->seg, m->type);
		return;
	}
	m->target = (uint8_t)msg.target;
	m->name = msg.name;
	if (m->type == MSG_CLOSE) {
		sc->seg->parses |= msg.target == MSG_TARGET_STATEMENT;
		m->text = msg.target == MSG_TARGET_STATEMENT ? find_text(sc, msg.name) : NULL;
		if (msg.target == MSG_TARGET_STATEMENT && !m->text && sqlprep_find(sc->c, msg.name))
			mention(sc, MENTION_CLOSE, msg.name);
		return;
	}
	if (msg.target == MSG_TARGET_STATEMENT) {
		m->text = find_text(sc, msg.name);
		if (m->text)
			add_text(sc, m->text, USE_NAMED);
		else
			add_named_by_sql(sc, msg.name, USE_NAMED);
	} else if (!find_portal_text(sc, msg.name)) {
		add_unknown(sc->seg);
	}
}

static void scan_execute(struct scan *sc, struct segment_msg *m, const uint8_t *body, size_t len)
{
	struct msg_execute msg;
	if (!msg_parse_execute(body, len, &msg)) {
		bad(sc->seg, MSG_EXECUTE);
		return;
	}
	sc->seg->executes = true;
	sc->seg->keeps_portal |= msg.max_rows != 0;
	m->portal = msg.portal;
	struct stmt_text *text = find_portal_text(sc, msg.portal);
	if (text) {
		/* As this client reads it: the text's own shape is that of the default settings, if anybody has asked
		 * for it. */
		struct sql_shape *shape = text_shape(sc->c, text);
		sc->seg->copies_in |= sql_facts_verb(shape_facts(shape)) == SQL_COPY_FROM;
		add_shape(sc, shape, stmt_text_sql(text), &text->hint, USE_EXECUTED);
	} else {
		add_unknown(sc->seg);
		sc->seg->n_executed++;
	}
}

static void scan_query(struct scan *sc, const uint8_t *body, size_t len)
{
	struct msg_query msg;
	struct sql_hint hint = { 0 };
	if (!msg_parse_query(body, len, &msg)) {
		bad(sc->seg, MSG_QUERY);
		return;
	}
	sc->seg->executes = true;
	struct sql_shape *shape = shapes_get(sc->c->worker->shapes, msg.sql, sc->c->sql_options, &hint);
	add_shape(sc, shape_ref(shape), msg.sql, &hint, USE_EXECUTED);
	sc->seg->end = SEGMENT_QUERY;
}

static void primary_only(struct segment *seg, enum route_reason reason)
{
	add_verdict(seg, (struct route_verdict){ .target = ROUTE_PRIMARY, .reason = reason });
	seg->n_executed += 2; /* no single known statement */
	seg->executes = true;
	shape_unref(seg->shape);
	seg->shape = NULL;
}

/* FunctionCall names a function by its OID.  libpq's large objects use it, and leave nothing behind a transaction; any
 * other function may do anything. */
static void scan_function_call(struct segment *seg, const uint8_t *body, size_t have)
{
	enum { LO_CREATE = 715, LO_OPEN = 952, LO_TELL = 958, LO_UNLINK = 964, LO_TRUNCATE = 1004, LO_LSEEK64 = 3170 };
	uint32_t oid = have >= sizeof oid ? frame_load_u32(body) : 0;
	if (oid == LO_CREATE || (oid >= LO_OPEN && oid <= LO_TELL) || oid == LO_UNLINK || oid == LO_TRUNCATE ||
	    (oid >= LO_LSEEK64 && oid <= LO_LSEEK64 + 2)) /* lo_tell64, lo_truncate64 */
		return;
	seg->pins |= SQL_PIN_UNKNOWN | SQL_PIN_RESETS;
	seg->flags |= SQL_F_DDL | SQL_F_CODE_DDL | SQL_F_MAY_TOUCH_SESSION;
}

static void scan_message(struct scan *sc, struct segment_msg *m, const uint8_t *body, size_t len)
{
	struct segment *seg = sc->seg;
	switch (m->type) {
	case MSG_PARSE:
		scan_parse(sc, m, body, len);
		return;
	case MSG_BIND:
		scan_bind(sc, m, body, len, len);
		return;
	case MSG_DESCRIBE:
	case MSG_CLOSE:
		scan_describe(sc, m, body, len);
		return;
	case MSG_EXECUTE:
		scan_execute(sc, m, body, len);
		return;
	case MSG_QUERY:
		scan_query(sc, body, len);
		return;
	case MSG_FUNCTION_CALL:
		seg->end = SEGMENT_FCALL;
		scan_function_call(seg, body, len);
		primary_only(seg, REASON_SIDE_EFFECT);
		return;
	case MSG_SYNC:
	case MSG_FLUSH:
		if (len)
			bad(seg, m->type);
		else
			seg->end = m->type == MSG_SYNC ? SEGMENT_SYNC : SEGMENT_FLUSH;
		return;
	case MSG_COPY_DATA_IN:
	case MSG_COPY_DONE_IN:
	case MSG_COPY_FAIL:
		return; /* outside of COPY: PostgreSQL drops them, because a client learns of its failed COPY too late
		         */
	case MSG_TERMINATE:
		seg->end = SEGMENT_TERMINATE;
		return;
	default:
		seg->end = SEGMENT_BAD;
		pgerr_set_bad_type(seg->error, FRAME_FROM_CLIENT, m->type);
		seg->error->severity = PGERR_FATAL;
	}
}

/* A message that is not kept: it goes to the primary unread, all but its names. */
static void scan_large(struct scan *sc, struct segment_msg *m, size_t have, const struct frame_head *h)
{
	struct segment *seg = sc->seg;
	const uint8_t *body = sc->p + m->off + FRAME_HEAD_BYTES;
	switch (m->type) {
	case MSG_BIND:
		scan_bind(sc, m, body, have - FRAME_HEAD_BYTES, h->len - FRAME_HEAD_BYTES);
		primary_only(seg, REASON_TOO_LARGE);
		break;
	case MSG_PARSE:
		if (msg_peek_parse_name(body, have - FRAME_HEAD_BYTES, h->len - FRAME_HEAD_BYTES, &m->name) != FRAME_OK)
			bad(seg, MSG_PARSE);
		else if (m->name.n)
			mention(sc, MENTION_USE, m->name); /* it will have its own name there */
		seg->parses = true;
		/* Nobody has read what it does, and it may be bound at any time. */
		seg->pins |= SQL_PIN_PREPARED | SQL_PIN_UNKNOWN;
		primary_only(seg, REASON_TOO_LARGE);
		break;
	case MSG_QUERY:
		seg->pins |= SQL_PIN_UNKNOWN;
		seg->flags |= SQL_F_DDL | SQL_F_CODE_DDL | SQL_F_MAY_TOUCH_SESSION;
		primary_only(seg, REASON_TOO_LARGE);
		break;
	case MSG_FUNCTION_CALL:
		scan_function_call(seg, body, have - FRAME_HEAD_BYTES);
		primary_only(seg, REASON_TOO_LARGE);
		break;
	case MSG_COPY_DATA_IN:
		break;
	default:
		bad(seg, m->type);
	}
	if (seg->end == SEGMENT_BAD)
		return;
	seg->end = SEGMENT_LARGE;
	seg->large_len = h->len;
	m->len = (uint32_t)have;
	seg->len += have;
	seg->n++;
}

static bool is_only_close(const struct segment *seg)
{
	for (unsigned i = 0; i < seg->n; i++) {
		if (seg->msgs[i].type != MSG_CLOSE && seg->msgs[i].type != MSG_SYNC)
			return false;
	}
	return seg->n > 0;
}

/* Exactly one statement from Parse or Bind to Sync, or one Query. */
static bool is_single(const struct segment *seg)
{
	if (seg->n_executed != 1 || !seg->shape || (seg->end != SEGMENT_QUERY && seg->end != SEGMENT_SYNC))
		return false;
	if (seg->end == SEGMENT_QUERY)
		return seg->n == 1;
	unsigned binds = 0, parses = 0;
	const struct stmt_text *text = NULL;
	for (unsigned i = 0; i < seg->n; i++) {
		const struct segment_msg *m = &seg->msgs[i];
		binds += m->type == MSG_BIND;
		parses += m->type == MSG_PARSE;
		if (m->type == MSG_CLOSE || (m->text && text && m->text != text))
			return false;
		text = m->text ? m->text : text;
	}
	return binds == 1 && parses <= 1;
}

/* --- what a driver sends for a statement that it has prepared ---
 *
 *     Bind ("", name)  [Describe portal ""]  Execute ("", all rows)  Sync
 *
 * Told by comparison with these bytes; the result is what the loop over the messages would make of it. */

static const uint8_t describe_bytes[] = { MSG_DESCRIBE, 0, 0, 0, 6, MSG_TARGET_PORTAL, 0 };
static const uint8_t execute_sync_bytes[] = { MSG_EXECUTE, 0, 0, 0, 9, 0, 0, 0, 0, 0, MSG_SYNC, 0, 0, 0, 4 };
enum { EXECUTE_BYTES = 10 };

static void put_fixed(struct segment *seg, uint8_t type, size_t len)
{
	seg->msgs[seg->n++] = (struct segment_msg){ .type = type, .off = (uint32_t)seg->len, .len = (uint32_t)len };
	seg->len += len;
}

/* Adds the Bind at `at` to *seg, if such messages follow; what it binds is for the caller to find. */
static struct segment_msg *bind_alone(struct scan *sc, size_t at, bool *describes)
{
	struct frame_head h;
	const uint8_t *p = sc->p + at;
	size_t n = sc->n - at;
	if (n < FRAME_HEAD_BYTES || *p != MSG_BIND || frame_peek(p, n, &h) != FRAME_OK || h.len > n)
		return NULL;
	const uint8_t *tail = p + h.len;
	size_t left = n - h.len;
	*describes = left > sizeof describe_bytes && memcmp(tail, describe_bytes, sizeof describe_bytes) == 0;
	if (*describes) {
		tail += sizeof describe_bytes;
		left -= sizeof describe_bytes;
	}
	if (left < sizeof execute_sync_bytes || memcmp(tail, execute_sync_bytes, sizeof execute_sync_bytes) != 0)
		return NULL;
	if (h.len < FRAME_HEAD_BYTES + 2 || p[FRAME_HEAD_BYTES] != 0)
		return NULL; /* a named portal */
	const char *name = (const char *)p + FRAME_HEAD_BYTES + 1;
	const char *nul = memchr(name, 0, h.len - FRAME_HEAD_BYTES - 1);
	if (!nul)
		return NULL;
	struct segment_msg *m = &sc->seg->msgs[sc->seg->n];
	put_fixed(sc->seg, MSG_BIND, h.len);
	m->portal = STR("");
	m->name = (struct str){ name, (size_t)(nul - name) };
	m->rest = (uint32_t)(nul + 1 - (const char *)p);
	return m;
}

static bool scan_nothing(struct segment *seg)
{
	seg->n = 0;
	seg->len = 0;
	return false;
}

static void scan_behind_bind(struct scan *sc, const struct segment_msg *m, bool describes)
{
	struct segment *seg = sc->seg;
	if (describes) {
		put_fixed(seg, MSG_DESCRIBE, sizeof describe_bytes);
		seg->msgs[seg->n - 1].target = MSG_TARGET_PORTAL;
	}
	put_fixed(seg, MSG_EXECUTE, EXECUTE_BYTES);
	put_fixed(seg, MSG_SYNC, sizeof execute_sync_bytes - EXECUTE_BYTES);
	seg->end = SEGMENT_SYNC;
	seg->executes = seg->known = seg->single = true;
	note_values(sc, sc->p + m->off + m->rest, m->len - m->rest);
	add_text(sc, m->text, USE_EXECUTED);
}

/* The same of an unnamed statement, with its Parse before it. */
static bool scan_known_parse(struct scan *sc)
{
	struct frame_head h;
	struct segment *seg = sc->seg;
	struct msg_parse msg;
	bool describes;
	if (frame_peek(sc->p, sc->n, &h) != FRAME_OK || h.len > sc->n)
		return false;
	const uint8_t *body = sc->p + FRAME_HEAD_BYTES;
	size_t len = h.len - FRAME_HEAD_BYTES;
	put_fixed(seg, MSG_PARSE, h.len);
	struct segment_msg *bind = bind_alone(sc, h.len, &describes);
	if (!bind || bind->name.n || !msg_parse_parse(body, len, &msg) || msg.name.n)
		return scan_nothing(seg);
	struct stmt_text *text = stmt_texts_intern(&sc->c->worker->texts, body + 1, len - 1);
	if (!text)
		return scan_nothing(seg);
	seg->msgs[0].name = msg.name;
	seg->msgs[0].text = bind->text = text;
	seg->parses = true;
	scan_behind_bind(sc, bind, describes);
	return true;
}

static bool scan_known(struct scan *sc)
{
	bool describes;
	if (sc->n && *sc->p == MSG_PARSE)
		return scan_known_parse(sc);
	struct segment_msg *bind = bind_alone(sc, 0, &describes);
	if (!bind || !(bind->text = find_text(sc, bind->name)))
		return scan_nothing(sc->seg);
	scan_behind_bind(sc, bind, describes);
	return true;
}

static void reset(struct segment *seg)
{
	seg->end = SEGMENT_NOTHING;
	seg->n = seg->n_executed = 0;
	seg->len = seg->large_len = 0;
	seg->executes = seg->parses = seg->only_close = seg->unknown = seg->has_verdict = seg->shows_time = seg->known =
	    seg->single = seg->keeps_portal = seg->doubted = seg->wants_own = seg->copies_in = false;
	seg->shape = NULL;
	seg->mentions = NULL;
	seg->names = NULL;
	seg->flags = seg->pins = 0;
	seg->consistency = -1;
	seg->verdict = (struct route_verdict){ .target = ROUTE_STAY, .reason = REASON_EMPTY };
}

static uint64_t facts_id(const struct catalog *catalog) { return catalog ? catalog_id(catalog) : 0; }

void segment_scan(struct client *c, const uint8_t *p, size_t n, struct route_policy policy, struct segment *seg)
{
	bool proved = true;
	struct scan sc = { .c = c, .p = p, .n = n, .policy = policy, .seg = seg };
	reset(seg);
	const struct catalog *catalog = dbuser_catalog(c->du, &proved);
	sc.catalog = proved ? catalog : NULL;
	sc.outdated = proved ? NULL : catalog;
	seg->facts_id = facts_id(sc.catalog);
	if (scan_known(&sc))
		return;
	while ((seg->end == SEGMENT_NOTHING || seg->end == SEGMENT_OPEN) && seg->n < SEGMENT_MESSAGES_MAX) {
		struct frame_head h = { 0 };
		size_t left = n - seg->len;
		enum frame_result r = frame_peek(p + seg->len, left, &h);
		if (r == FRAME_MORE)
			break;
		if (UNLIKELY(seg->copies_in) && segment_is_copy_data(h.type)) {
			seg->end = SEGMENT_FLUSH; /* it waits until the server reads it */
			break;
		}
		struct segment_msg *m = &seg->msgs[seg->n];
		*m = (struct segment_msg){ .type = h.type, .off = (uint32_t)seg->len, .len = (uint32_t)h.len };
		if (r == FRAME_BAD) {
			bad(seg, p[seg->len]);
			break;
		}
		if (h.len > left) {
			if (h.len > SEGMENT_BYTES_MAX && left >= SEGMENT_BYTES_MAX / 2)
				scan_large(&sc, m, left, &h);
			break;
		}
		seg->end = SEGMENT_OPEN;
		scan_message(&sc, m, p + seg->len + FRAME_HEAD_BYTES, h.len - FRAME_HEAD_BYTES);
		seg->len += h.len;
		seg->n++;
	}
	seg->only_close = seg->end == SEGMENT_SYNC && is_only_close(seg);
	seg->single = is_single(seg);
}

void segment_done(struct worker *w, struct segment *seg)
{
	for (unsigned i = 0; i < seg->n && seg->parses; i++) {
		if (seg->msgs[i].type == MSG_PARSE)
			stmt_text_unref(&w->texts, seg->msgs[i].text);
	}
	sqlprep_drop_mentions(w, seg);
	shape_unref(seg->shape);
	seg->shape = NULL;
	params_unref(&w->params, seg->names);
	seg->names = NULL;
	seg->n = 0;
}

void segment_scratch_init(struct segment_scratch *s)
{
	s->seg.n = 0;
	s->seg.shape = NULL;
	s->seg.mentions = NULL;
	s->seg.names = NULL;
	s->seg.error = &s->error;
	s->seg.msgs = s->msgs;
}

/* --- the scan of a client that waits --- */

enum { WAITING_MESSAGES_MAX = 8, FREE_WAITING_MAX = 1024 };

struct segment_waiting {
	struct segment_waiting *next; /* in worker.free_waiting */
	const uint8_t *at;            /* where the segment's bytes stood: all its strings point there */
	struct segment seg;
	struct segment_msg msgs[WAITING_MESSAGES_MAX];
};

static const uint8_t *place_of(const struct client *c) { return buf_head(&c->in) + c->emitted; }

static struct segment_waiting *waiting_new(struct worker *w)
{
	struct segment_waiting *k = w->free_waiting;
	if (!k)
		return mem_try_alloc(sizeof *k);
	w->free_waiting = k->next;
	w->n_free_waiting--;
	return k;
}

void segment_keep(struct client *c, struct segment *seg)
{
	struct segment_waiting *k = seg->n <= WAITING_MESSAGES_MAX ? waiting_new(c->worker) : NULL;
	CHECK(!c->waiting);
	if (!k) {
		segment_done(c->worker, seg);
		return;
	}
	k->at = place_of(c);
	k->seg = *seg;
	seg->names = NULL;
	k->seg.msgs = k->msgs;
	memcpy(k->msgs, seg->msgs, seg->n * sizeof k->msgs[0]);
	seg->shape = NULL;
	seg->mentions = NULL;
	seg->n = 0;
	c->waiting = k;
}

struct segment *segment_kept(struct client *c)
{
	struct segment_waiting *k = c->waiting;
	bool proved;
	if (!k)
		return NULL;
	const struct catalog *catalog = dbuser_catalog(c->du, &proved);
	if (k->at == place_of(c) && k->seg.facts_id == facts_id(proved ? catalog : NULL))
		return &k->seg;
	segment_forget(c);
	return NULL;
}

void segment_forget(struct client *c)
{
	struct segment_waiting *k = c->waiting;
	struct worker *w = c->worker;
	if (!k)
		return;
	c->waiting = NULL;
	segment_done(w, &k->seg);
	if (w->n_free_waiting >= FREE_WAITING_MAX) {
		mem_free(k);
		return;
	}
	k->next = w->free_waiting;
	w->free_waiting = k;
	w->n_free_waiting++;
}

void segment_waiting_free_all(struct worker *w)
{
	struct segment_waiting *k;
	while ((k = w->free_waiting)) {
		w->free_waiting = k->next;
		mem_free(k);
	}
	w->n_free_waiting = 0;
}

struct str segment_name_in_message(const struct client *c, uint16_t msg)
{
	const uint8_t *p = buf_head(&c->in), *end = p + c->emitted;
	struct frame_head h;
	for (; p < end && frame_peek(p, (size_t)(end - p), &h) == FRAME_OK && h.len <= (size_t)(end - p); p += h.len) {
		struct msg_bind bind;
		struct msg_describe describe;
		size_t body = h.len - FRAME_HEAD_BYTES;
		if (msg-- > 0)
			continue;
		if (h.type == MSG_BIND && msg_peek_bind(p + FRAME_HEAD_BYTES, body, body, &bind) == FRAME_OK)
			return bind.statement;
		if (h.type == MSG_DESCRIBE && msg_parse_describe(p + FRAME_HEAD_BYTES, body, &describe))
			return describe.name;
		break;
	}
	return (struct str){ 0 };
}
