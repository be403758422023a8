/* conf/config_diff.c - what a reload changes; see conf/config.h.
 *
 * The option table says how two values of a key are compared, so a new key takes part without a line here. */
#include "base/mem.h"
#include "conf/config.h"
#include "config_priv.h"
#include "options_priv.h"

static void add_change(struct config_changes *changes, struct config_change change)
{
	changes->items = mem_realloc(changes->items, (size_t)(changes->n + 1) * sizeof(*changes->items));
	changes->items[changes->n++] = change;
}

void config_changes_free(struct config_changes *changes)
{
	for (int i = 0; i < changes->n; i++) {
		mem_free(changes->items[i].key);
		mem_free(changes->items[i].old_text);
		mem_free(changes->items[i].new_text);
	}
	mem_free(changes->items);
	*changes = (struct config_changes){ NULL, 0 };
}

static void diff_globals(const struct config *a, const struct config *b, struct config_changes *changes)
{
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		if (!option_is_global(o) || option_equal(o, config_field(a, o), config_field(b, o)))
			continue;
		add_change(changes, (struct config_change){ .section = "pgweir",
		                                            .key = mem_strdup(o->name),
		                                            .old_text = config_option_text(a, o),
		                                            .new_text = config_option_text(b, o),
		                                            .restart = (o->flags & OPTION_RESTART) != 0 });
	}
}

/* The entry as one would write it, secrets masked. */
static char *entry_text(const struct entry_kind *kind, const void *entry)
{
	char *text = mem_strdup("");
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		uint32_t *set;
		if (!option_allows(o, kind->scope) || !entry_has(kind, entry, o))
			continue;
		char *value = option_format(o, entry_field(kind, entry, o, &set));
		bool quote = !*value || strpbrk(value, " \t'");
		char *longer = mem_printf("%s%s%s=%s%s%s", text, *text ? " " : "", o->name, quote ? "'" : "", value,
		                          quote ? "'" : "");
		mem_free(value);
		mem_free(text);
		text = longer;
	}
	return text;
}

/* The hosts are compared as such: they may change without host= when the socket folder does. */
static bool hosts_equal(const struct conf_database *a, const struct conf_database *b)
{
	for (int i = 0; a->n_hosts == b->n_hosts && i < a->n_hosts; i++) {
		if (a->hosts[i].port != b->hosts[i].port || strcmp(a->hosts[i].host, b->hosts[i].host) != 0)
			return false;
	}
	return a->n_hosts == b->n_hosts;
}

static bool same_secret(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

static bool entry_equal(const struct entry_kind *kind, const void *a, const void *b)
{
	uint32_t *unused;
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		if (!option_allows(o, kind->scope))
			continue;
		bool has = entry_has(kind, a, o);
		if (has != entry_has(kind, b, o))
			return false;
		if (has && !option_equal(o, entry_field(kind, a, o, &unused), entry_field(kind, b, o, &unused)))
			return false;
	}
	if (kind->scope == SCOPE_DATABASE)
		return hosts_equal(a, b);
	if (kind->scope == SCOPE_USER)
		return same_secret(((const struct conf_user *)a)->password, ((const struct conf_user *)b)->password);
	return true;
}

static void entry_change(const struct entry_kind *kind, const void *a, const void *b, struct config_changes *changes)
{
	add_change(changes, (struct config_change){ .section = kind->section,
	                                            .key = mem_strdup(entry_name(a ? a : b)),
	                                            .old_text = a ? entry_text(kind, a) : NULL,
	                                            .new_text = b ? entry_text(kind, b) : NULL });
}

/* Both arrays are sorted by name: one walk through both. */
static void diff_entries(const struct entry_kind *kind, const struct config *a, const struct config *b,
                         struct config_changes *changes)
{
	int i = 0, j = 0, n = entry_count(a, kind), m = entry_count(b, kind);
	while (i < n || j < m) {
		const void *x = i < n ? entry_at(a, kind, i) : NULL, *y = j < m ? entry_at(b, kind, j) : NULL;
		int c = !x ? 1 : !y ? -1 : strcmp(entry_name(x), entry_name(y));
		if (c != 0)
			entry_change(kind, c < 0 ? x : NULL, c < 0 ? NULL : y, changes);
		else if (!entry_equal(kind, x, y))
			entry_change(kind, x, y, changes);
		i += c <= 0;
		j += c >= 0;
	}
}

struct config_changes config_diff(const struct config *old_cfg, const struct config *new_cfg)
{
	struct config_changes changes = { NULL, 0 };
	diff_globals(old_cfg, new_cfg, &changes);
	for (int k = 0; k < ENTRY_KINDS; k++)
		diff_entries(&entry_kinds[k], old_cfg, new_cfg, &changes);
	return changes;
}

void config_keep_restart_keys(struct config *new_cfg, const struct config *old_cfg, struct config_errors *errs)
{
	struct config_place nowhere = { NULL, 0 };
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		void *field = option_is_global(o) ? config_field(new_cfg, o) : NULL;
		if (!field || !(o->flags & OPTION_RESTART) || option_equal(o, field, config_field(old_cfg, o)))
			continue;
		char *kept = config_option_text(old_cfg, o), *wanted = config_option_text(new_cfg, o);
		config_errors_add(errs, CONFIG_WARNING, nowhere, o->name,
		                  "\"%s\" takes effect at a restart; until then it stays \"%s\"", wanted, kept);
		mem_free(kept);
		mem_free(wanted);
		option_free(o, field);
		option_copy(o, field, config_field(old_cfg, o));
	}
	config_derive(new_cfg, NULL, errs);
}
