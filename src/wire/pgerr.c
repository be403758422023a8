/* wire/pgerr.c - see wire/pgerr.h. */
#include "wire/pgerr.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct state_row {
	char code[6];
	const char *name; /* static text */
};

static const struct state_row states[SQLSTATE_COUNT] = {
#define STATE_ROW(id, code, name) [SQLSTATE_##id] = { code, name },
	SQLSTATES(STATE_ROW)
#undef STATE_ROW
};

static const char *const severities[] = {
#define SEVERITY_ROW(id, name) [PGERR_##id] = name,
	PGERR_SEVERITIES(SEVERITY_ROW)
#undef SEVERITY_ROW
};

const char *sqlstate_code(enum sqlstate id) { return states[id].code; }
const char *sqlstate_name(enum sqlstate id) { return states[id].name; }
const char *pgerr_severity_name(enum pgerr_severity severity) { return severities[severity]; }

bool sqlstate_find(struct str code, enum sqlstate *out)
{
	for (unsigned i = 0; i < SQLSTATE_COUNT; i++) {
		if (str_eq(code, str_of(states[i].code))) {
			*out = (enum sqlstate)i;
			return true;
		}
	}
	return false;
}

/* --- ours --- */

/* A text that was cut must not end inside a UTF-8 character: clients would refuse the whole message. */
static void trim_to_character(char *text, size_t n)
{
	size_t start = n;
	while (start > 0 && ((uint8_t)text[start - 1] & 0xc0u) == 0x80u)
		start--;
	if (start == 0)
		return;
	uint8_t lead = (uint8_t)text[start - 1];
	size_t want = lead >= 0xf0u ? 4 : lead >= 0xe0u ? 3 : lead >= 0xc0u ? 2 : 1;
	if (n - (start - 1) < want)
		text[start - 1] = '\0';
}

static void format_text(char *out, size_t size, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
static void format_text(char *out, size_t size, const char *fmt, va_list ap)
{
	int n = vsnprintf(out, size, fmt, ap);
	if (n < 0)
		out[0] = '\0';
	else if ((size_t)n >= size)
		trim_to_character(out, size - 1);
}

static void set_va(struct pgerr *err, enum pgerr_severity severity, enum sqlstate id, const char *fmt, va_list ap)
    __attribute__((format(printf, 4, 0)));
static void set_va(struct pgerr *err, enum pgerr_severity severity, enum sqlstate id, const char *fmt, va_list ap)
{
	if (!err)
		return;
	err->severity = severity;
	memcpy(err->sqlstate, states[id].code, sizeof(err->sqlstate));
	err->detail[0] = err->hint[0] = '\0';
	format_text(err->message, sizeof(err->message), fmt, ap);
}

void pgerr_set(struct pgerr *err, enum sqlstate id, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	set_va(err, PGERR_ERROR, id, fmt, ap);
	va_end(ap);
}

void pgerr_set_fatal(struct pgerr *err, enum sqlstate id, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	set_va(err, PGERR_FATAL, id, fmt, ap);
	va_end(ap);
}

void pgerr_set_severity(struct pgerr *err, enum pgerr_severity severity, enum sqlstate id, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	set_va(err, severity, id, fmt, ap);
	va_end(ap);
}

void pgerr_detail(struct pgerr *err, const char *fmt, ...)
{
	va_list ap;
	if (!err)
		return;
	va_start(ap, fmt);
	format_text(err->detail, sizeof(err->detail), fmt, ap);
	va_end(ap);
}

void pgerr_hint(struct pgerr *err, const char *fmt, ...)
{
	va_list ap;
	if (!err)
		return;
	va_start(ap, fmt);
	format_text(err->hint, sizeof(err->hint), fmt, ap);
	va_end(ap);
}

void pgerr_set_bad_message(struct pgerr *err, enum frame_side side, uint8_t type)
{
	pgerr_set_fatal(err, SQLSTATE_PROTOCOL_VIOLATION, "invalid message format in %s from %s",
	                frame_type_name(side, type), side == FRAME_FROM_CLIENT ? "client" : "server");
}

void pgerr_set_bad_type(struct pgerr *err, enum frame_side side, uint8_t type)
{
	const char *who = side == FRAME_FROM_CLIENT ? "client" : "server";
	if (frame_type_is_known(side, type))
		pgerr_set_fatal(err, SQLSTATE_PROTOCOL_VIOLATION, "unexpected %s message from %s",
		                frame_type_name(side, type), who);
	else
		pgerr_set_fatal(err, SQLSTATE_PROTOCOL_VIOLATION, "invalid message type 0x%02x from %s", type, who);
}

static void put_field(struct wire_writer *w, char letter, const char *text)
{
	if (text[0] == '\0')
		return;
	ww_u8(w, (uint8_t)letter);
	ww_cstr(w, text);
}

static void put_error(struct wire_writer *w, const struct pgerr *err)
{
	ww_begin(w, err->severity >= PGERR_ERROR ? MSG_ERROR_RESPONSE : MSG_NOTICE_RESPONSE);
	put_field(w, 'S', severities[err->severity]);
	put_field(w, 'V', severities[err->severity]); /* we do not translate, so the two are the same */
	put_field(w, 'C', err->sqlstate);
	put_field(w, 'M', err->message[0] ? err->message : "unknown error"); /* libpq shows nothing without it */
	put_field(w, 'D', err->detail);
	put_field(w, 'H', err->hint);
}

static void end_fields(struct wire_writer *w)
{
	ww_u8(w, 0);
	ww_end(w);
}

void msg_put_error(struct wire_writer *w, const struct pgerr *err)
{
	put_error(w, err);
	end_fields(w);
}

void msg_put_outdated_plan(struct wire_writer *w)
{
	struct pgerr err;
	pgerr_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED, "cached plan must not change result type");
	put_error(w, &err);
	put_field(w, 'F', "plancache.c"); /* drivers tell it by the function from others of its code */
	put_field(w, 'R', PGERR_ROUTINE_OF_OUTDATED_PLAN);
	end_fields(w);
}

/* --- theirs --- */

static struct str *field_of(struct pgerr_fields *fields, uint8_t letter)
{
	switch (letter) {
#define FIELD_CASE(byte, name)                                                                                         \
	case byte:                                                                                                     \
		return &fields->name;
		PGERR_FIELDS(FIELD_CASE)
#undef FIELD_CASE
	}
	return NULL;
}

void pgerr_parse(const uint8_t *body, size_t have, struct pgerr_fields *out)
{
	struct wire_reader r;
	*out = (struct pgerr_fields){ .whole = false };
	wr_init(&r, body, have);
	for (;;) {
		uint8_t letter = wr_u8(&r);
		if (r.failed)
			return;
		if (letter == 0)
			break;
		struct str value = wr_cstr(&r);
		struct str *field = field_of(out, letter);
		if (r.failed)
			return;
		if (field && !field->p)
			*field = value;
	}
	out->whole = true;
}

static bool is_sqlstate(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'A' && s.p[i] <= 'Z')))
			return false;
	}
	return s.n == 5;
}

struct str pgerr_sqlstate(const struct pgerr_fields *fields)
{
	/* A connection-killing NULL dereference in another pooler, CVE-2026-6666. */
	return is_sqlstate(fields->sqlstate) ? fields->sqlstate : str_of(sqlstate_code(SQLSTATE_INTERNAL_ERROR));
}

bool pgerr_is(const struct pgerr_fields *fields, enum sqlstate id)
{
	return str_eq(pgerr_sqlstate(fields), str_of(sqlstate_code(id)));
}

bool pgerr_is_class(const struct pgerr_fields *fields, const char *class_code)
{
	return str_has_prefix(pgerr_sqlstate(fields), str_of(class_code));
}

bool pgerr_is_fatal(const struct pgerr_fields *fields)
{
	/* S may be translated (lc_messages); V is there since 9.6. */
	struct str s = fields->severity_plain.p ? fields->severity_plain : fields->severity;
	return str_eq(s, STR("FATAL")) || str_eq(s, STR("PANIC"));
}
