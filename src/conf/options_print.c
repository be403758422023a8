/* conf/options_print.c - writes the full commented configuration file and its manual page from the option table.
 *
 * conf/pgweir.ini and docs/man/pgweir.ini.5 are this output; a unit test compares them, and another one takes the
 * comment signs away from the file and loads it. */
#include <string.h>

#include "base/mem.h"
#include "conf/config.h"
#include "conf/options.h"

enum { LINE_WIDTH = 110 };

/* The text in lines that begin with `first`, and from the second one on with `others`. */
static void print_wrapped(FILE *out, const char *first, const char *others, const char *text)
{
	size_t column = strlen(first);
	bool at_start = true;
	fputs(first, out);
	while (*text) {
		size_t n = strcspn(text, " ");
		if (!at_start && column + 1 + n > LINE_WIDTH) {
			fprintf(out, "\n%s", others);
			column = strlen(others);
			at_start = true;
		}
		fprintf(out, "%s%.*s", at_start ? "" : " ", (int)n, text);
		column += n + (at_start ? 0 : 1);
		at_start = false;
		text += n + strspn(text + n, " ");
	}
	fputc('\n', out);
}

static char *places(const struct conf_option *o)
{
	static const struct {
		unsigned scope;
		const char *name;
	} words[] = { { SCOPE_DATABASE, "database" },
		      { SCOPE_USER, "user" },
		      { SCOPE_APPLICATION, "application" },
		      { SCOPE_SESSION, "session" },
		      { SCOPE_STATEMENT, "statement" } };
	char *text = mem_strdup("");
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (!(o->scopes & words[i].scope))
			continue;
		char *longer = mem_printf("%s%s%s", text, *text ? ", " : " Also per ", words[i].name);
		mem_free(text);
		text = longer;
	}
	if (*text) {
		char *longer = mem_printf("%s.", text);
		mem_free(text);
		text = longer;
	}
	return text;
}

static char *values(const struct conf_option *o)
{
	char *range = option_range(o);
	char *text = !*range ? mem_strdup("") : mem_printf(" Value: %s.", range);
	mem_free(range);
	return text;
}

static void print_option(FILE *out, const struct conf_option *o)
{
	char *value = values(o), *where = places(o);
	char *text =
	    mem_printf("%s%s%s%s", o->help, value, where, o->flags & OPTION_RESTART ? " Needs a restart." : "");
	print_wrapped(out, "; ", "; ", text);
	fprintf(out, ";%s =%s%s\n\n", o->name, *o->default_text ? " " : "", o->default_text);
	mem_free(value);
	mem_free(where);
	mem_free(text);
}

static void print_group(FILE *out, enum option_group group, const char *title)
{
	fprintf(out, "; ---- %s ----\n\n", title);
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		if (option_is_global(o) && o->group == group)
			print_option(out, o);
	}
}

/* The keys of one kind of entry, a line each: first its own, then those that override [pgweir]. */
static void print_entry_keys(FILE *out, enum option_scope scope)
{
	char *line;
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		if (option_is_global(o) || !option_allows(o, scope))
			continue;
		char *value = values(o);
		line = mem_printf("%s: %s%s", o->name, o->help, value);
		print_wrapped(out, ";   ", ";       ", line);
		mem_free(line);
		mem_free(value);
	}
	line = mem_strdup("");
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		if (!option_is_global(o) || !option_allows(o, scope))
			continue;
		char *longer = mem_printf("%s%s%s", line, *line ? ", " : "As in [pgweir], for this one: ", o->name);
		mem_free(line);
		line = longer;
	}
	if (*line)
		print_wrapped(out, "; ", ";       ", line);
	mem_free(line);
}

static void print_entries(FILE *out)
{
	fputs("[databases]\n"
	      "; name = key=value key='value with blanks' ...; a quote in a value is doubled.  \"*\" serves every "
	      "other name.\n"
	      "; Name all hosts of a cluster: which one is the primary is found out.  A URI may stand instead of the "
	      "keys.\n"
	      ";app = host=10.0.0.1,10.0.0.2 port=5432\n"
	      ";app_ro = host=10.0.0.1,10.0.0.2 dbname=app route=replica\n"
	      ";* = host=10.0.0.1,10.0.0.2\n;\n",
	      out);
	print_entry_keys(out, SCOPE_DATABASE);
	fputs("\n[users]\n; name = key=value ...\n;report = pool_mode=session max_user_connections=5\n;\n", out);
	print_entry_keys(out, SCOPE_USER);
	fputs("\n[applications]\n; application_name = key=value ...; they come before users and databases.\n"
	      ";reporting = route=replica consistency=eventual pool_size=5\n;\n",
	      out);
	print_entry_keys(out, SCOPE_APPLICATION);
	fputs("\n[peers]\n; peer_id = key=value ...: other processes on the same port, to pass cancel requests on.\n"
	      ";1 = host=/tmp/pgweir1\n;2 = host=/tmp/pgweir2\n;\n",
	      out);
	print_entry_keys(out, SCOPE_PEER);
}

void options_print_ini(FILE *out)
{
	fputs(
	    "; All settings of pgweir, each with its default.  Made by: pgweir --print-options\n"
	    ";\n"
	    "; A comment begins a line with ; or #; there are none behind a value.  %include FILE reads another file.\n"
	    "; Times of PgBouncer's keys are seconds; others take us, ms, s or min, and a bare number is ms.\n"
	    "; PGWEIR_<KEY> in the environment overrides any key of [pgweir]; [pgbouncer] is another name of that "
	    "section.\n"
	    "\n",
	    out);
	print_entries(out);
	fputs("\n[pgweir]\n", out);
#define PRINT_GROUP(id, title)                                                                                         \
	if (OPTION_GROUP_##id != OPTION_GROUP_ENTRY)                                                                   \
		print_group(out, OPTION_GROUP_##id, title);
	OPTION_GROUPS(PRINT_GROUP)
#undef PRINT_GROUP
}

/* --- the manual page --- */

/* Text that roff must not take for a request or an escape. */
static void put_roff(FILE *out, const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
	}
}

static void print_man_option(FILE *out, const struct conf_option *o, bool global)
{
	char *value = values(o), *where = global ? places(o) : mem_strdup("");
	fputs(".TP\n.B ", out);
	put_roff(out, o->name);
	fputc('\n', out);
	put_roff(out, o->help);
	put_roff(out, value);
	put_roff(out, where);
	if (o->flags & OPTION_RESTART)
		fputs(" Needs a restart.", out);
	if (global) {
		fputs("\nDefault: ", out);
		put_roff(out, *o->default_text ? o->default_text : "empty");
		fputc('.', out);
	}
	fputc('\n', out);
	mem_free(value);
	mem_free(where);
}

static void print_man_entries(FILE *out, enum option_scope scope)
{
	bool first = true;
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		if (!option_is_global(o) && option_allows(o, scope))
			print_man_option(out, o, false);
	}
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		if (!option_is_global(o) || !option_allows(o, scope))
			continue;
		fputs(first ? ".PP\nAs in [pgweir], for this entry: " : ", ", out);
		put_roff(out, o->name);
		first = false;
	}
	fputs(first ? "" : ".\n", out);
}

static void print_man_group(FILE *out, enum option_group group, const char *title)
{
	fputs(".SS ", out);
	put_roff(out, title);
	fputc('\n', out);
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		if (option_is_global(o) && o->group == group)
			print_man_option(out, o, true);
	}
}

void options_print_man(FILE *out)
{
	fputs(
	    ".\\\" Made by: pgweir --print-man\n"
	    ".TH PGWEIR.INI 5 \"\" pgweir \"File formats\"\n"
	    ".SH NAME\npgweir.ini \\- configuration of pgweir\n"
	    ".SH DESCRIPTION\n"
	    "Sections in brackets, and key = value on lines of their own. A comment begins a line with ; or #; there "
	    "are\n"
	    "none behind a value. %include FILE reads another file. The section and key names are those of PgBouncer\n"
	    "where they mean the same; [pgbouncer] is another name of [pgweir].\n"
	    "Times of PgBouncer's keys are seconds; others take us, ms, s or min, and a bare number is ms.\n"
	    "PGWEIR_<KEY> in the environment overrides any key of [pgweir].\n"
	    ".SH [databases]\n"
	    "name = key=value key='value with blanks' ..., a quote in a value being doubled. \"*\" serves every other\n"
	    "name. All hosts of a cluster are named: which one is the primary is found out. A URI may stand instead "
	    "of\n"
	    "the keys.\n",
	    out);
	print_man_entries(out, SCOPE_DATABASE);
	fputs(".SH [users]\nname = key=value ...\n", out);
	print_man_entries(out, SCOPE_USER);
	fputs(".SH [applications]\napplication_name = key=value ...; they come before users and databases.\n", out);
	print_man_entries(out, SCOPE_APPLICATION);
	fputs(".SH [peers]\npeer_id = key=value ...: other processes on the same port, to pass cancel requests on.\n",
	      out);
	print_man_entries(out, SCOPE_PEER);
	fputs(".SH [pgweir]\n", out);
#define PRINT_MAN_GROUP(id, title)                                                                                     \
	if (OPTION_GROUP_##id != OPTION_GROUP_ENTRY)                                                                   \
		print_man_group(out, OPTION_GROUP_##id, title);
	OPTION_GROUPS(PRINT_MAN_GROUP)
#undef PRINT_MAN_GROUP
	fputs(".SH SEE ALSO\n.BR pgweir (1)\n", out);
}
