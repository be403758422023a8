/* test_options.c - every key with a right and a wrong value and the exact message, PgBouncer's defaults, the generated
 * file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/mem.h"
#include "conf/config.h"

struct row {
	const char *key, *good, *shown; /* shown NULL: as `good` */
	const char *bad, *message;      /* bad NULL: the type takes any text */
};

#define CONNS         "0 to 1000000"
#define CONSISTENCIES "one of eventual, session, database, strong"
#define SECONDS       "0 or more seconds"
#define DURATION      " (in us, ms, s or min; a bare number is ms)"
#define SSLMODES      "one of disable, allow, prefer, require, verify-ca, verify-full"
#define PROTOCOLS                                                                                                      \
	"is not a TLS version; use secure (tlsv1.2 and tlsv1.3), all, or a list of tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3"

#define BOOL_ROW(key)                                                                                                  \
	{                                                                                                              \
		key, "on", "1", "maybe", "\"maybe\" is not a boolean; use 0 or 1"                                      \
	}
#define CONN_ROW(key)                                                                                                  \
	{                                                                                                              \
		key, "7", NULL, "1000001", "\"1000001\" is out of range; use " CONNS                                   \
	}
#define SECONDS_ROW(key)                                                                                               \
	{                                                                                                              \
		key, "1.5", NULL, "soon", "\"soon\" is not a time; use " SECONDS                                       \
	}
#define TEXT_ROW(key, good)                                                                                            \
	{                                                                                                              \
		key, good, NULL, NULL, NULL                                                                            \
	}

static const struct row rows[] = {
	TEXT_ROW("listen_addr", "127.0.0.1, ::1"),
	{ "listen_port", "6543", NULL, "65536", "\"65536\" is out of range; use 1 to 65535" },
	{ "listen_port", "1", NULL, "0", "\"0\" is out of range; use 1 to 65535" },
	{ "listen_port", "65535", NULL, "-1", "\"-1\" is out of range; use 1 to 65535" },
	{ "listen_port", "6432", NULL, "6432x", "\"6432x\" is not a whole number; use 1 to 65535" },
	{ "listen_port", "6432", NULL, "", "\"\" is not a whole number; use 1 to 65535" },
	{ "listen_port", "6432", NULL, "99999999999999999999",
	  "\"99999999999999999999\" is out of range; use 1 to 65535" },
	TEXT_ROW("unix_socket_dir", "@abstract"),
	{ "unix_socket_mode", "0660", NULL, "0888", "\"0888\" is not an octal number; use 00 to 0777 (octal)" },
	{ "unix_socket_mode", "777", "0777", "01777", "\"01777\" is out of range; use 00 to 0777 (octal)" },
	TEXT_ROW("unix_socket_group", "db"),
	TEXT_ROW("user", "pgweir"),
	TEXT_ROW("pidfile", "/run/pgweir.pid"),
	TEXT_ROW("conffile", "/etc/pgweir.ini"),
	TEXT_ROW("service_name", "x"),
	TEXT_ROW("job_name", "x"),
	{ "listen_backlog", "4096", NULL, "many", "\"many\" is not a whole number; use 1 to 65535" },
	BOOL_ROW("so_reuseport"),
	{ "peer_id", "3", NULL, "65536", "\"65536\" is out of range; use 0 to 65535" },
	{ "workers", "auto", NULL, "0", "\"0\" is out of range; use auto or 1 to 64" },
	{ "workers", "2", NULL, "automatic", "\"automatic\" is not a whole number; use auto or 1 to 64" },
	{ "max_memory", "2GB", NULL, "2XB", "\"2XB\" is not a size; use 0 or more (in bytes, kB, MB, GB or TB)" },
	{ "max_memory", "1.5 MB", "1572864", "-1",
	  "\"-1\" is out of range; use 0 or more (in bytes, kB, MB, GB or TB)" },
	{ "max_memory", "1", NULL, "99999999TB",
	  "\"99999999TB\" is out of range; use 0 or more (in bytes, kB, MB, GB or TB)" },

	{ "route", "replica", NULL, "slave", "\"slave\" is not one of auto, primary, replica" },
	{ "route", "PRIMARY", "primary", "replika",
	  "\"replika\" is not one of auto, primary, replica; did you mean \"replica\"?" },
	{ "consistency", "strong", NULL, "strng", "\"strng\" is not " CONSISTENCIES "; did you mean \"strong\"?" },
	{ "transaction_consistency", "session", NULL, "none", "\"none\" is not " CONSISTENCIES },
	{ "transaction_reads", "replica", NULL, "auto", "\"auto\" is not one of replica, primary" },
	BOOL_ROW("transaction_replay"),
	BOOL_ROW("ask_commit_outcome"),
	{ "transaction_replay_limit", "2MB", NULL, "x",
	  "\"x\" is not a size; use 0 to 1GB (in bytes, kB, MB, GB or TB)" },
	{ "replica_wait", "250us", NULL, "2min", "\"2min\" is out of range; use 0 to 1min" DURATION },
	{ "replica_wait", "1.5s", "1500ms", "5m", "\"5m\" is not a time; use 0 to 1min" DURATION },
	{ "replica_wait", "20", "20ms", "1.2.3", "\"1.2.3\" is not a time; use 0 to 1min" DURATION },
	{ "max_replica_lag", "1min", NULL, "-5s", "\"-5s\" is out of range; use 0 to 1440min" DURATION },
	TEXT_ROW("read_only_functions", "app.f, g"),
	TEXT_ROW("write_functions", "app.h"),
	BOOL_ROW("allow_route_hints"),

	{ "pool_mode", "transaction", NULL, "tx", "\"tx\" is not one of session, transaction, statement" },
	{ "max_client_conn", "1000", NULL, "0", "\"0\" is out of range; use 1 to 1000000" },
	CONN_ROW("default_pool_size"),
	CONN_ROW("min_pool_size"),
	CONN_ROW("reserve_pool_size"),
	SECONDS_ROW("reserve_pool_timeout"),
	CONN_ROW("max_db_connections"),
	CONN_ROW("max_db_client_connections"),
	CONN_ROW("max_user_connections"),
	CONN_ROW("max_user_client_connections"),
	{ "max_pinned", "pool_size", NULL, "-1", "\"-1\" is out of range; use pool_size or 0 to 1000000" },
	BOOL_ROW("server_round_robin"),
	SECONDS_ROW("autodb_idle_timeout"),
	SECONDS_ROW("pool_idle_timeout"),

	{ "monitor_interval", "100ms", NULL, "9ms", "\"9ms\" is out of range; use 10ms to 1min" DURATION },
	TEXT_ROW("monitor_user", "mon"),
	{ "monitor_password", "s3cret;x", "****", NULL, NULL },
	TEXT_ROW("monitor_dbname", "db"),
	{ "failover_timeout", "2min", NULL, "2h", "\"2h\" is not a time; use 0 to 60min" DURATION },
	TEXT_ROW("server_reset_query", "DISCARD ALL; SELECT 1"),
	TEXT_ROW("server_check_query", "select 1"),
	BOOL_ROW("server_reset_query_always"),
	SECONDS_ROW("server_check_delay"),
	BOOL_ROW("server_fast_close"),
	SECONDS_ROW("server_lifetime"),
	SECONDS_ROW("server_idle_timeout"),
	SECONDS_ROW("server_connect_timeout"),
	SECONDS_ROW("server_login_retry"),

	SECONDS_ROW("client_login_timeout"),
	SECONDS_ROW("client_idle_timeout"),
	SECONDS_ROW("query_timeout"),
	SECONDS_ROW("query_wait_timeout"),
	{ "query_wait_timeout", "500ms", "0.5", "1e3", "\"1e3\" is not a time; use " SECONDS },
	{ "query_wait_timeout", "0.000001", NULL, "-1", "\"-1\" is out of range; use " SECONDS },
	{ "query_wait_timeout", "4294967295", NULL, "99999999999999999999",
	  "\"99999999999999999999\" is out of range; use " SECONDS },
	SECONDS_ROW("query_wait_notify"),
	SECONDS_ROW("idle_transaction_timeout"),
	SECONDS_ROW("transaction_timeout"),
	SECONDS_ROW("cancel_wait_timeout"),
	SECONDS_ROW("suspend_timeout"),

	CONN_ROW("max_prepared_statements"),
	BOOL_ROW("unnamed_statement_cache"),
	{ "unnamed_plan", "custom", NULL, "generic", "\"generic\" is not one of auto, custom" },
	BOOL_ROW("simple_query_cache"),
	BOOL_ROW("shared_listen"),
	TEXT_ROW("track_extra_parameters", "IntervalStyle"),
	TEXT_ROW("ignore_startup_parameters", "extra_float_digits, search_path"),
	BOOL_ROW("disable_pqexec"),
	{ "application_name_format", "%a/%u@%h:%p 100%%", NULL, "%x",
	  "\"%x\" is not known in a format; use %a (application name), %u (user), %d (database), %h (host), %p (port), "
	  "%i (proxy id) or %%" },
	BOOL_ROW("application_name_add_host"),
	TEXT_ROW("login_notify_message", "hello; there"),

	{ "auth_type", "scram-sha-256", NULL, "ldap",
	  "authentication by ldap is not supported; use one of trust, plain, md5, scram-sha-256, cert, peer, hba" },
	{ "auth_type", "any", NULL, "pam",
	  "authentication by pam is not supported; use one of trust, plain, md5, scram-sha-256, cert, peer, hba" },
	{ "auth_type", "password", "plain", "scram",
	  "\"scram\" is not one of trust, any, plain, password, md5, scram-sha-256, cert, peer, hba" },
	TEXT_ROW("auth_file", "/etc/users"),
	TEXT_ROW("auth_hba_file", "/etc/hba"),
	TEXT_ROW("auth_ident_file", "/etc/ident"),
	TEXT_ROW("auth_user", "auth"),
	TEXT_ROW("auth_query", "SELECT a FROM b WHERE c=$1;"),
	TEXT_ROW("auth_dbname", "postgres"),
	TEXT_ROW("auth_ldap_options", "x"),
	{ "scram_iterations", "8192", NULL, "0", "\"0\" is out of range; use 1 to 10000000" },

	{ "client_tls_sslmode", "disable", NULL, "on", "\"on\" is not " SSLMODES },
	TEXT_ROW("client_tls_key_file", "k"),
	TEXT_ROW("client_tls_cert_file", "c"),
	TEXT_ROW("client_tls_ca_file", "a"),
	{ "client_tls_protocols", "tlsv1.2,tlsv1.3", NULL, "tlsv1.2, sslv3", "\"sslv3\" " PROTOCOLS },
	TEXT_ROW("client_tls_ciphers", "HIGH:!aNULL"),
	TEXT_ROW("client_tls13_ciphers", "TLS_AES_128_GCM_SHA256"),
	TEXT_ROW("client_tls_ecdhcurve", "prime256v1"),
	{ "client_tls_dheparams", "none", NULL, "2048", "\"2048\" is not known; use auto, legacy or none" },
	{ "server_tls_sslmode", "verify-full", NULL, "verifyfull",
	  "\"verifyfull\" is not " SSLMODES "; did you mean \"verify-full\"?" },
	TEXT_ROW("server_tls_ca_file", "a"),
	{ "server_tls_protocols", "all", NULL, "tls", "\"tls\" " PROTOCOLS },
	TEXT_ROW("server_tls_ciphers", "default"),
	TEXT_ROW("server_tls13_ciphers", "x"),

	TEXT_ROW("logfile", "/var/log/pgweir.log"),
	{ "log_level", "debug", NULL, "loud", "\"loud\" is not one of debug, info, warning, error, fatal" },
	{ "log_format", "json", NULL, "xml", "\"xml\" is not one of text, json" },
	{ "log_min_duration", "off", NULL, "never", "\"never\" is not a time; use off or 0 to 1440min" DURATION },
	{ "log_min_duration", "0", NULL, "-1", "\"-1\" is out of range; use off or 0 to 1440min" DURATION },
	BOOL_ROW("syslog"),
	TEXT_ROW("syslog_ident", "x"),
	{ "syslog_facility", "local3", NULL, "local8",
	  "\"local8\" is not a syslog facility; use auth, authpriv, daemon, user or local0 to local7" },
	BOOL_ROW("log_connections"),
	BOOL_ROW("log_literals"),
	BOOL_ROW("log_disconnections"),
	BOOL_ROW("log_pooler_errors"),
	BOOL_ROW("log_stats"),
	{ "stats_period", "30", NULL, "0", "\"0\" is out of range; use 1 to 86400 seconds" },
	{ "verbose", "2", NULL, "11", "\"11\" is out of range; use 0 to 10" },
	TEXT_ROW("admin_users", "a, b"),
	TEXT_ROW("stats_users", "c"),
	{ "http_addr", "[::1]:9127", NULL, "9127",
	  "\"9127\" is not an address and port; write for example 127.0.0.1:9127, [::1]:9127 or *:9127" },
	{ "http_addr", ":9127", NULL, "::1:9127",
	  "\"::1:9127\" is not an address and port; write for example 127.0.0.1:9127, [::1]:9127 or *:9127" },

	SECONDS_ROW("dns_max_ttl"),
	SECONDS_ROW("dns_nxdomain_ttl"),
	SECONDS_ROW("dns_zone_check_period"),
	TEXT_ROW("resolv_conf", "/etc/r"),
	{ "pkt_buf", "8192", NULL, "0", "\"0\" is out of range; use 1 to 64MB (in bytes, kB, MB, GB or TB)" },
	{ "max_packet_size", "1MB", NULL, "3GB",
	  "\"3GB\" is out of range; use 1024 to 2147483647 (in bytes, kB, MB, GB or TB)" },
	{ "sbuf_loopcnt", "0", NULL, "x", "\"x\" is not a whole number; use 0 to 1000000" },
	{ "tcp_defer_accept", "45", NULL, "3601", "\"3601\" is out of range; use 0 to 3600 seconds" },
	{ "tcp_socket_buffer", "64kB", "65536", "2GB",
	  "\"2GB\" is out of range; use 0 to 1GB (in bytes, kB, MB, GB or TB)" },
	BOOL_ROW("tcp_keepalive"),
	{ "tcp_keepcnt", "3", NULL, "128", "\"128\" is out of range; use 0 to 127" },
	{ "tcp_keepidle", "30", NULL, "40000", "\"40000\" is out of range; use 0 to 32767 seconds" },
	{ "tcp_keepintvl", "5", NULL, "x", "\"x\" is not a time; use 0 to 32767 seconds" },
	{ "tcp_user_timeout", "30000", NULL, "-1", "\"-1\" is out of range; use 0 to 2147483647 ms" },
};

/* The configuration of "[pgweir]\nkey = value"; errs is for the caller to free. */
static struct config *load_one(const char *key, const char *value, struct config_errors *errs)
{
	char *text = mem_printf("[pgweir]\n%s = %s\n", key, value);
	*errs = (struct config_errors){ 0 };
	struct config *cfg = config_load_text("t.ini", text, strlen(text), errs);
	mem_free(text);
	return cfg;
}

static const struct conf_option *find(const char *key)
{
	const struct conf_option *o = option_find(str_of(key), SCOPE_GLOBAL);
	if (!o)
		fail_msg("no key %s", key);
	return o;
}

static void expect_right(const struct row *row)
{
	struct config_errors errs;
	struct config *cfg = load_one(row->key, row->good, &errs);
	if (!cfg)
		fail_msg("%s = %s: %s", row->key, row->good, errs.items[0].text);
	char *text = config_option_text(cfg, find(row->key));
	const char *shown = row->shown ? row->shown : row->good;
	assert_string_equal(text, shown);
	mem_free(text);
	config_unref(cfg);
	config_errors_free(&errs);
}

static void expect_wrong(const struct row *row)
{
	struct config_errors errs;
	struct config *cfg = load_one(row->key, row->bad, &errs);
	if (cfg)
		fail_msg("%s = %s was taken", row->key, row->bad);
	char *want = mem_printf("t.ini:2: %s: %s", row->key, row->message);
	assert_int_equal(errs.n_errors, 1);
	assert_string_equal(errs.items[0].text, want);
	mem_free(want);
	config_errors_free(&errs);
}

static void test_each_key_right_and_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		expect_right(&rows[i]);
		if (rows[i].bad)
			expect_wrong(&rows[i]);
	}
}

/* No key without a row, and no key that can have a wrong value without one in its row. */
static void test_table_is_complete(void **state)
{
	(void)state;
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		/* The pair of key and certificate is tested with the rules between keys. */
		bool has_row =
		    !option_is_global(o) || strstr(o->name, "server_tls_key") || strstr(o->name, "server_tls_cert");
		bool has_bad = false;
		char *range = option_range(o);
		for (size_t k = 0; k < ARRAY_LEN(rows); k++) {
			if (!option_is_global(o) || strcmp(rows[k].key, o->name) != 0)
				continue;
			has_row = true;
			has_bad |= rows[k].bad != NULL;
		}
		if (!has_row || (option_is_global(o) && !has_bad && (*range || o->check)))
			fail_msg("no test of %s", o->name);
		mem_free(range);
	}
}

static void test_rows_are_sound(void **state)
{
	(void)state;
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		assert_non_null(o->help);
		assert_int_equal(o->help[strlen(o->help) - 1], '.');
		assert_true(option_is_global(o) || o->scopes);
		assert_true(!option_is_global(o) || o->default_text);
		assert_true(o->type != OPT_ENUM || o->words);
		assert_ptr_equal(option_at(option_index(o)), o);
		/* What a session or a statement may set owns nothing, so that it can be copied by assignment. */
		if (o->scopes & (SCOPE_SESSION | SCOPE_STATEMENT))
			assert_true(o->type != OPT_STRING && o->type != OPT_LIST && o->type != OPT_SECRET);
		for (size_t k = i + 1; k < options_count(); k++) {
			bool same = strcmp(o->name, option_at(k)->name) == 0;
			bool both_global = option_is_global(o) && option_is_global(option_at(k));
			assert_false(same && (both_global || (o->scopes & option_at(k)->scopes)));
		}
	}
}

/* PgBouncer's keys and defaults, as its documentation has them. */
static void test_pgbouncer_defaults(void **state)
{
	static const char *const defaults[][2] = {
		{ "listen_addr", "" },
		{ "listen_port", "6432" },
		{ "unix_socket_dir", "/tmp" },
		{ "unix_socket_mode", "0777" },
		{ "unix_socket_group", "" },
		{ "user", "" },
		{ "pidfile", "" },
		{ "logfile", "" },
		{ "conffile", "" },
		{ "service_name", "pgbouncer" },
		{ "job_name", "pgbouncer" },
		{ "listen_backlog", "128" },
		{ "so_reuseport", "0" },
		{ "peer_id", "0" },
		{ "pool_mode", "session" },
		{ "max_client_conn", "100" },
		{ "default_pool_size", "20" },
		{ "min_pool_size", "0" },
		{ "reserve_pool_size", "0" },
		{ "reserve_pool_timeout", "5" },
		{ "max_db_connections", "0" },
		{ "max_db_client_connections", "0" },
		{ "max_user_connections", "0" },
		{ "max_user_client_connections", "0" },
		{ "server_round_robin", "0" },
		{ "autodb_idle_timeout", "3600" },
		{ "pool_idle_timeout", "0" },
		{ "track_extra_parameters", "IntervalStyle" },
		{ "ignore_startup_parameters", "" },
		{ "disable_pqexec", "0" },
		{ "application_name_add_host", "0" },
		{ "max_prepared_statements", "200" },
		{ "scram_iterations", "4096" },
		{ "login_notify_message", "" },
		{ "auth_type", "md5" },
		{ "auth_hba_file", "" },
		{ "auth_ident_file", "" },
		{ "auth_file", "" },
		{ "auth_user", "" },
		/* PgBouncer's, but for the schemas, which it leaves out (CVE-2025-12819) */
		{ "auth_query",
		  "SELECT rolname, CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now() THEN NULL ELSE "
		  "rolpassword "
		  "END FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin" },
		{ "auth_dbname", "" },
		{ "auth_ldap_options", "" },
		{ "syslog", "0" },
		{ "syslog_ident", "pgbouncer" },
		{ "syslog_facility", "daemon" },
		{ "log_literals", "0" },
		{ "log_connections", "1" },
		{ "log_disconnections", "1" },
		{ "log_pooler_errors", "1" },
		{ "log_stats", "1" },
		{ "stats_period", "60" },
		{ "verbose", "0" },
		{ "admin_users", "" },
		{ "stats_users", "" },
		{ "server_reset_query", "DISCARD ALL" },
		{ "server_reset_query_always", "0" },
		{ "server_check_delay", "30" },
		{ "server_check_query", "<empty>" },
		{ "server_fast_close", "0" },
		{ "server_lifetime", "3600" },
		{ "server_idle_timeout", "600" },
		{ "server_connect_timeout", "15" },
		{ "server_login_retry", "15" },
		{ "client_login_timeout", "60" },
		{ "query_timeout", "0" },
		{ "query_wait_timeout", "120" },
		{ "query_wait_notify", "5" },
		{ "cancel_wait_timeout", "10" },
		{ "client_idle_timeout", "0" },
		{ "idle_transaction_timeout", "0" },
		{ "transaction_timeout", "0" },
		{ "suspend_timeout", "10" },
		{ "dns_max_ttl", "15" },
		{ "dns_nxdomain_ttl", "15" },
		{ "dns_zone_check_period", "0" },
		{ "resolv_conf", "" },
		{ "client_tls_sslmode", "disable" },
		{ "client_tls_key_file", "" },
		{ "client_tls_cert_file", "" },
		{ "client_tls_ca_file", "" },
		{ "client_tls_protocols", "secure" },
		{ "client_tls_ciphers", "default" },
		{ "client_tls13_ciphers", "" },
		{ "client_tls_ecdhcurve", "auto" },
		{ "client_tls_dheparams", "auto" },
		{ "server_tls_sslmode", "prefer" },
		{ "server_tls_ca_file", "" },
		{ "server_tls_key_file", "" },
		{ "server_tls_cert_file", "" },
		{ "server_tls_protocols", "secure" },
		{ "server_tls_ciphers", "default" },
		{ "server_tls13_ciphers", "" },
		{ "pkt_buf", "4096" },
		{ "max_packet_size", "2147483647" },
		{ "sbuf_loopcnt", "5" },
		{ "tcp_defer_accept", "1" },
		{ "tcp_socket_buffer", "0" },
		{ "tcp_keepalive", "1" },
		{ "tcp_keepcnt", "0" },
		{ "tcp_keepidle", "0" },
		{ "tcp_keepintvl", "0" },
		{ "tcp_user_timeout", "0" },
	};
	struct config *cfg = config_new();
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(defaults); i++) {
		char *text = config_option_text(cfg, find(defaults[i][0]));
		assert_string_equal(text, defaults[i][1]);
		mem_free(text);
	}
	config_unref(cfg);
}

static void test_did_you_mean(void **state)
{
	static const char *const typos[][2] = { { "lisen_port", "listen_port" },
		                                { "pool_mod", "pool_mode" },
		                                { "default_poolsize", "default_pool_size" },
		                                { "max_client_con", "max_client_conn" } };
	struct config_errors errs;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(typos); i++) {
		assert_null(load_one(typos[i][0], "1", &errs));
		char *want = mem_printf("t.ini:2: \"%s\": unknown key in [pgweir]; did you mean \"%s\"?", typos[i][0],
		                        typos[i][1]);
		assert_string_equal(errs.items[0].text, want);
		mem_free(want);
		config_errors_free(&errs);
	}
	assert_null(load_one("frobnicate", "1", &errs));
	assert_string_equal(errs.items[0].text, "t.ini:2: \"frobnicate\": unknown key in [pgweir]");
	config_errors_free(&errs);
	assert_null(load_one("connect_query", "1", &errs));
	assert_string_equal(errs.items[0].text,
	                    "t.ini:2: \"connect_query\": unknown key in [pgweir]; it belongs to [databases]");
	config_errors_free(&errs);
	assert_null(option_suggest(STR("x"), SCOPE_GLOBAL));
}

static void test_kept_keys_are_noticed(void **state)
{
	struct config_errors errs;
	struct config *cfg = load_one("sbuf_loopcnt", "5", &errs);
	(void)state;
	assert_int_equal(errs.n, 0); /* the default needs no notice */
	config_unref(cfg);
	cfg = load_one("sbuf_loopcnt", "6", &errs);
	assert_int_equal(errs.n, 1);
	assert_int_equal(errs.items[0].severity, CONFIG_NOTICE);
	assert_int_equal(cfg->sbuf_loopcnt, 6);
	config_unref(cfg);
	config_errors_free(&errs);
}

/* --- the generated file ------------------------------------------------------------------------------------------- */

static char *generated_by(void (*print)(FILE *out))
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	assert_non_null(out);
	print(out);
	assert_int_equal(fclose(out), 0);
	return text; /* to be freed by free(): allocated by libc */
}

static char *generated(void) { return generated_by(options_print_ini); }

static char *read_whole(const char *path)
{
	char *text = mem_zalloc(1 << 17);
	FILE *f = fopen(path, "r");
	if (!f)
		fail_msg("cannot open %s", path);
	assert_true(fread(text, 1, (1 << 17) - 1, f) > 0);
	fclose(f);
	return text;
}

static void check_current(const char *path, void (*print)(FILE *out), const char *how)
{
	char *want = generated_by(print), *have = read_whole(path);
	if (strcmp(want, have) != 0)
		fail_msg("%s is not current: run build/pgweir %s > %s", path, how, path);
	mem_free(have);
	free(want); /* allocated by libc */
}

static void test_generated_file_is_current(void **state)
{
	(void)state;
	check_current("conf/pgweir.ini", options_print_ini, "--print-options");
}

static void test_manual_page_is_current(void **state)
{
	(void)state;
	check_current("docs/man/pgweir.ini.5", options_print_man, "--print-man");
}

/* Taking away the comment sign of every "; key = default" gives a file that loads and changes nothing. */
static void test_generated_defaults_load(void **state)
{
	char *text = generated(), *active = strstr(text, "\n[pgweir]\n");
	struct config_errors errs = { 0 };
	(void)state;
	assert_non_null(active);
	for (char *p = active; (p = strstr(p, "\n;"));) {
		p += 2;
		if (*p != ' ')
			memmove(p - 1, p, strlen(p) + 1);
	}
	struct config *cfg = config_load_text("generated", active, strlen(active), &errs), *plain = config_new();
	if (!cfg)
		fail_msg("%s", errs.items[0].text);
	assert_int_equal(errs.n, 0);
	struct config_changes changes = config_diff(plain, cfg);
	assert_int_equal(changes.n, 0);
	config_changes_free(&changes);
	config_unref(cfg);
	config_unref(plain);
	config_errors_free(&errs);
	free(text); /* allocated by libc */
}

static void test_every_key_is_in_the_generated_file(void **state)
{
	char *text = generated();
	(void)state;
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		char *line = option_is_global(o) ? mem_printf("\n;%s =", o->name) : mem_printf("\n;   %s: ", o->name);
		if (!strstr(text, line))
			fail_msg("%s is not in the generated file", o->name);
		mem_free(line);
	}
	free(text); /* allocated by libc */
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_key_right_and_wrong),
		cmocka_unit_test(test_table_is_complete),
		cmocka_unit_test(test_rows_are_sound),
		cmocka_unit_test(test_pgbouncer_defaults),
		cmocka_unit_test(test_did_you_mean),
		cmocka_unit_test(test_kept_keys_are_noticed),
		cmocka_unit_test(test_generated_file_is_current),
		cmocka_unit_test(test_manual_page_is_current),
		cmocka_unit_test(test_generated_defaults_load),
		cmocka_unit_test(test_every_key_is_in_the_generated_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
