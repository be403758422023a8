/* conf/config_priv.h - the four kinds of entries, handled alike, and what loading, SET and reload share. */
#ifndef CONF_CONFIG_PRIV_H
#define CONF_CONFIG_PRIV_H

#include "conf/config.h"

/* Every entry struct begins with its name. */
struct entry_kind {
	const char *section;
	enum option_scope scope;
	size_t size;
	size_t array_offset, count_offset; /* in struct config */
	size_t over_offset;                /* of its struct conf_overrides; 0: has none */
	const char *noun;
};

enum { ENTRY_KINDS = 4 };
extern const struct entry_kind entry_kinds[ENTRY_KINDS];

int entry_count(const struct config *cfg, const struct entry_kind *kind);
void *entry_at(const struct config *cfg, const struct entry_kind *kind, int i);
static inline const char *entry_name(const void *entry) { return *(char *const *)entry; }
void *entry_find(const struct config *cfg, const struct entry_kind *kind, struct str name); /* linear */
/* A new entry at the end of the array, with its name and the defaults of its keys. */
void *entry_add(struct config *cfg, const struct entry_kind *kind, struct str name);
void entry_reset(const struct entry_kind *kind, void *entry); /* as new: only the name is left */
void entries_sort(struct config *cfg);

struct conf_overrides *entry_overrides(const struct entry_kind *kind, const void *entry); /* or NULL */
/* The field of a key in an entry, and the word and bit that say whether it is set (NULL: no such bit). */
void *entry_field(const struct entry_kind *kind, const void *entry, const struct conf_option *o, uint32_t **set);
bool entry_has(const struct entry_kind *kind, const void *entry, const struct conf_option *o);

/* Fills what is derived from other fields (hosts, http_host) again.  Adds errors; at: the place of each option by
 * option_index(), of each database by index, either may be NULL. */
void config_derive(struct config *cfg, const struct config_place *db_at, struct config_errors *errs);
/* Rules that hold between keys. */
void config_validate(const struct config *cfg, const struct config_place *at, struct config_errors *errs);

static inline void *config_field(const struct config *cfg, const struct conf_option *o)
{
	return (char *)(uintptr_t)cfg + o->global_offset;
}

#endif
