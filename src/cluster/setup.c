/* cluster/setup.c - see cluster/setup.h. */
#include "cluster/setup.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/str.h"

/* libpq knows a lowest and a highest version only; a list with a hole is taken as the range that it spans. */
static void protocol_range(const char *list, char min[16], char max[16])
{
	static const struct {
		const char *word, *name;
	} versions[] = {
		{ "tlsv1.0", "TLSv1" },
		{ "tlsv1.1", "TLSv1.1" },
		{ "tlsv1.2", "TLSv1.2" },
		{ "tlsv1.3", "TLSv1.3" },
	};
	bool on[ARRAY_LEN(versions)] = { false }, any = false;
	str_copy(min, 16, STR("TLSv1.2"));
	max[0] = '\0';
	for (const char *p = list + strspn(list, ",: "); *p; p += strspn(p, ",: ")) {
		bool off = *p == '!';
		struct str word = { p + off, strcspn(p + off, ",: ") };
		p += off + word.n;
		bool all = str_ieq(word, STR("all")) || str_ieq(word, STR("legacy"));
		bool secure = str_ieq(word, STR("secure")) || str_ieq(word, STR("default"));
		for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
			if (all || (secure && i >= 2) || str_ieq(word, str_of(versions[i].word)))
				on[i] = !off;
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		if (!on[i])
			continue;
		if (!any)
			str_copy(min, 16, str_of(versions[i].name));
		str_copy(max, 16, str_of(versions[i].name));
		any = true;
	}
}

void cluster_setup_options(struct cluster_setup *s, const struct config *cfg, const char *auth_user_password)
{
	bool own = cfg->monitor_user[0] != '\0';
	protocol_range(cfg->server_tls_protocols, s->min_protocol, s->max_protocol);
	s->options = (struct monitor_options){
		.interval_us = cfg->monitor_interval_us,
		.connect_timeout_us = 0, /* detecting a loss must not take server_connect_timeout's 15 s */
		.dns_ttl_us = cfg->dns_max_ttl_us,
		.resolv_conf = cfg->resolv_conf,
		.login = {
			.user = own ? cfg->monitor_user : cfg->auth_user,
			.password = own ? cfg->monitor_password : auth_user_password,
			.dbname = cfg->monitor_dbname,
		},
		.tls = {
			.sslmode = conf_sslmode_name(cfg->server_tls_sslmode),
			.ca_file = cfg->server_tls_ca_file,
			.cert_file = cfg->server_tls_cert_file,
			.key_file = cfg->server_tls_key_file,
			.min_protocol = s->min_protocol,
			.max_protocol = s->max_protocol,
		},
	};
}

struct cluster *cluster_of_database(const struct conf_database *db)
{
	struct host_spec specs[CLUSTER_MAX_HOSTS];
	if (db->n_hosts > CLUSTER_MAX_HOSTS)
		return NULL;
	for (int i = 0; i < db->n_hosts; i++)
		specs[i] = (struct host_spec){ db->hosts[i].host, db->hosts[i].port };
	return cluster_find_or_add(specs, (unsigned)db->n_hosts);
}

/* --- watching --- */

enum { CLUSTERS_MAX = 1024 };
struct watched {
	struct cluster *named[CLUSTERS_MAX], *unnamed[CLUSTERS_MAX];
	unsigned n_named, n_unnamed;
};

static bool is_named(const struct watched *w, const struct cluster *c)
{
	for (unsigned i = 0; i < w->n_named; i++) {
		if (w->named[i] == c)
			return true;
	}
	return false;
}

static void sort_out(struct cluster *c, void *arg)
{
	struct watched *w = arg;
	if (!is_named(w, c) && w->n_unnamed < CLUSTERS_MAX)
		w->unnamed[w->n_unnamed++] = c;
}

void cluster_setup_watch(const struct config *cfg)
{
	struct watched w = { .n_named = 0 };
	for (int i = 0; i < cfg->n_databases; i++) {
		const struct conf_database *db = &cfg->databases[i];
		struct cluster *c = cluster_of_database(db);
		if (!c) {
			log_error(NULL, "database \"%s\" names more than %d hosts", db->name, CLUSTER_MAX_HOSTS);
			continue;
		}
		struct monitor_login login = {
			.user = db->user,
			.password = db->password,
			.dbname = db->dbname                   ? db->dbname
			          : strcmp(db->name, "*") == 0 ? NULL
			                                       : db->name,
		};
		monitor_watch(c, &login);
		if (is_named(&w, c))
			continue;
		if (w.n_named == CLUSTERS_MAX)
			return; /* too many to tell which are not needed: all stay watched */
		w.named[w.n_named++] = c;
	}
	cluster_each(sort_out, &w);
	for (unsigned i = 0; i < w.n_unnamed; i++)
		monitor_unwatch(w.unnamed[i]);
}
