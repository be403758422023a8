/* fuzz_config.c - configuration texts, connection strings and SET.
 *
 * The first byte chooses the entry point.  What loads must survive a copy, a comparison with itself and the look-ups;
 * what does not load must say why. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/config.h"
#include "conf/conninfo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void exercise(struct config *cfg, struct config_errors *errs)
{
	struct config *copy = config_copy(cfg);
	struct config_changes changes = config_diff(cfg, copy);
	CHECK(changes.n == 0);
	config_changes_free(&changes);
	config_keep_restart_keys(copy, cfg, errs);
	for (int i = 0; i < cfg->n_databases; i++) {
		const struct conf_database *db = &cfg->databases[i];
		CHECK(config_database(cfg, str_of(db->name)) == db);
		CHECK(db->n_hosts >= 1 && db->hosts[0].host && db->hosts[0].port > 0);
		CHECK(config_pool_size(cfg, db, NULL) >= 0);
	}
	config_unref(copy);
}

static void load(struct str text)
{
	struct config_errors errs = { 0 };
	struct config *cfg = config_load_text("fuzz", text.p, text.n, &errs);
	CHECK((cfg != NULL) == (errs.n_errors == 0));
	if (cfg)
		exercise(cfg, &errs);
	config_unref(cfg);
	config_errors_free(&errs);
}

static void load_uri(struct str text)
{
	struct config_errors errs = { 0 };
	char *uri = mem_strndup(text.p, text.n);
	struct config_source source = { .uri = uri };
	struct config *cfg = config_load(&source, &errs);
	CHECK((cfg != NULL) == (errs.n_errors == 0));
	config_unref(cfg);
	config_errors_free(&errs);
	mem_free(uri);
}

static void set(struct str text)
{
	static struct config *cfg;
	const char *equals = memchr(text.p, '=', text.n);
	size_t n = equals ? (size_t)(equals - text.p) : text.n;
	struct str key = { text.p, n }, value = { text.p + n + (equals ? 1 : 0), text.n - n - (equals ? 1 : 0) };
	struct conf_routing routing = { 0 };
	char *why = NULL;
	if (!cfg)
		cfg = config_new();
	struct config *copy = config_copy(cfg);
	CHECK(config_set(copy, key, value, &why) == (why == NULL));
	mem_free(why);
	config_unref(copy);
	CHECK(conf_routing_set(&routing, SCOPE_SESSION, key, value, &why) == (why == NULL));
	mem_free(why);
	mem_free(conf_routing_show(&routing, key));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	/* A copy of its own size, so that reading beyond it is seen. */
	char *bytes = malloc(size);
	CHECK(bytes);
	memcpy(bytes, data + 1, size - 1);
	struct str text = { bytes, size - 1 };
	switch (data[0] % 4) {
	case 0:
		load_uri(text);
		break;
	case 1:
		set(text);
		break;
	default:
		load(text);
		break;
	}
	free(bytes);
	return 0;
}
