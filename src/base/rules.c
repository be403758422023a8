/* base/rules.c - see base/rules.h; empty in a release build. */
#include "base/rules.h"

#ifdef PGWEIR_TEST_BUILD
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const rule_names[RULE_COUNT] = {
#define RULE_NAME(id) [RULE_##id] = #id,
	RULES(RULE_NAME)
#undef RULE_NAME
};
static bool broken[RULE_COUNT];

static void break_rule(const char *name)
{
	for (int i = 0; i < RULE_COUNT; i++) {
		if (strcasecmp(name, rule_names[i]) == 0) {
			broken[i] = true;
			return;
		}
	}
	fprintf(stderr, "PGWEIR_BREAK: unknown rule \"%s\"\n", name);
	exit(2);
}

void rules_init(void)
{
	const char *env = getenv("PGWEIR_BREAK");
	if (!env || !*env)
		return;
	char *copy = strdup(env), *save = NULL;
	if (!copy)
		abort();
	for (char *tok = strtok_r(copy, ", ", &save); tok; tok = strtok_r(NULL, ", ", &save))
		break_rule(tok);
	free(copy);
}

bool rule_is_broken(enum rule rule) { return broken[rule]; }
#else
typedef int rules_c_is_not_empty;
#endif
