/* conf/options_print.c - writes the full commented configuration file from the option table.
 *
 * conf/pgweir.ini is this output; a unit test compares them, and another one takes the comment signs away and loads it.
 */
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
	char *text =
	    !*range ? mem_strdup("") : mem_printf(" Value: %s%s%s.", range, o->unit ? " " : "", o->unit ? o->unit : "");
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
