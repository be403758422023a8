/* conf/option_table.c - the rows of the option table; see conf/options.h.
 *
 * PgBouncer's keys keep its names, defaults and units (seconds); keys of our own are durations with a unit.  Order and
 * groups are those of the generated conf/pgweir.ini.  The helper macros check that the type of a row is the type of its
 * field: a pointer to one is compared with a pointer to the other, unevaluated. */
#include <ctype.h>
#include <limits.h>
#include <string.h>

#include "base/mem.h"
#include "conf/config.h"
#include "options_priv.h"

#define SEC             1000000ll
#define MS              1000ll
#define HOUR            (3600 * SEC)
#define FOREVER         (10000000000ll * SEC) /* more than 300 years: any number of seconds that an old file may hold */
#define CONNECTIONS_MAX 1000000

#define FIELD(st, ctype, field) (offsetof(st, field) + 0 * sizeof((ctype *)0 == &((st *)0)->field))
#define GLOBAL(ctype, field)    .global_offset = FIELD(struct config, ctype, field)
#define OVERRIDES(ctype, field, where)                                                                                 \
	.override_offset = FIELD(struct conf_overrides, ctype, field),                                                 \
	.set_offset = offsetof(struct conf_overrides, set), .override_bit = CONF_SET_##field, .scopes = (where)
#define ROUTES(ctype, field, where)                                                                                    \
	.override_offset = FIELD(struct conf_overrides, ctype, routing.field),                                         \
	.set_offset = offsetof(struct conf_overrides, routing.set), .override_bit = CONF_SET_##field,                  \
	.scopes = (where)
#define ENTRY(ctype, field) .entry_offset = FIELD(struct conf_database, ctype, field), .scopes = SCOPE_DATABASE
#define PEER(ctype, field)  .entry_offset = FIELD(struct conf_peer, ctype, field), .scopes = SCOPE_PEER
#define IN(id)              .group = OPTION_GROUP_##id
#define RANGE(lo, hi)       .min = (lo), .max = (hi)

#define EVERYWHERE       (SCOPE_DATABASE | SCOPE_USER | SCOPE_APPLICATION)
#define ROUTING          (EVERYWHERE | SCOPE_SESSION)
#define ROUTING_AND_HINT (ROUTING | SCOPE_STATEMENT)
#define CLIENTS          (SCOPE_USER | SCOPE_APPLICATION)

const struct option_word conf_pool_mode_words[] = {
	{ "session", POOL_MODE_SESSION },
	{ "transaction", POOL_MODE_TRANSACTION },
	{ "statement", POOL_MODE_STATEMENT },
	{ NULL, 0 },
};
const struct option_word conf_route_words[] = {
	{ "auto", ROUTE_MODE_AUTO },
	{ "primary", ROUTE_MODE_PRIMARY },
	{ "replica", ROUTE_MODE_REPLICA },
	{ NULL, 0 },
};
const struct option_word conf_consistency_words[] = {
	{ "eventual", CONSISTENCY_EVENTUAL },
	{ "session", CONSISTENCY_SESSION },
	{ "database", CONSISTENCY_DATABASE },
	{ "strong", CONSISTENCY_STRONG },
	{ NULL, 0 },
};
static const struct option_word transaction_reads_words[] = {
	{ "replica", TRANSACTION_READS_REPLICA },
	{ "primary", TRANSACTION_READS_PRIMARY },
	{ NULL, 0 },
};
static const struct option_word unnamed_plan_words[] = {
	{ "auto", UNNAMED_PLAN_AUTO },
	{ "custom", UNNAMED_PLAN_CUSTOM },
	{ NULL, 0 },
};
const struct option_word conf_load_balance_words[] = {
	{ "round-robin", LOAD_BALANCE_ROUND_ROBIN },
	{ "disable", LOAD_BALANCE_DISABLE },
	{ NULL, 0 },
};
/* A word's first row is the one that is shown; "password" is PostgreSQL's name of PgBouncer's "plain". */
const struct option_word conf_auth_type_words[] = {
	{ "trust", CONF_AUTH_TRUST }, { "any", CONF_AUTH_ANY },
	{ "plain", CONF_AUTH_PLAIN }, { "password", CONF_AUTH_PLAIN },
	{ "md5", CONF_AUTH_MD5 },     { "scram-sha-256", CONF_AUTH_SCRAM },
	{ "cert", CONF_AUTH_CERT },   { "peer", CONF_AUTH_PEER },
	{ "hba", CONF_AUTH_HBA },     { NULL, 0 },
};
const struct option_word conf_sslmode_words[] = {
	{ "disable", CONF_SSL_DISABLE },
	{ "allow", CONF_SSL_ALLOW },
	{ "prefer", CONF_SSL_PREFER },
	{ "require", CONF_SSL_REQUIRE },
	{ "verify-ca", CONF_SSL_VERIFY_CA },
	{ "verify-full", CONF_SSL_VERIFY_FULL },
	{ NULL, 0 },
};
static const struct option_word log_level_words[] = {
	{ "debug", LOG_DEBUG }, { "info", LOG_INFO },   { "warning", LOG_WARNING },
	{ "error", LOG_ERROR }, { "fatal", LOG_FATAL }, { NULL, 0 },
};
static const struct option_word log_format_words[] = { { "text", LOG_TEXT }, { "json", LOG_JSON }, { NULL, 0 } };
static const struct option_word workers_words[] = { { "auto", 0 }, { NULL, 0 } };
static const struct option_word pinned_words[] = { { "pool_size", -1 }, { NULL, 0 } };
static const struct option_word off_words[] = { { "off", -1 }, { NULL, 0 } };

/* ldap, pam and the like are words of PgBouncer's or PostgreSQL's that deserve more than "not one of". */
static bool check_auth_type(const char *value, char **why)
{
	static const char *const foreign[] = { "ldap", "pam", "gss", "sspi", "radius", "bsd", "ident", "oauth" };
	for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
		if (!str_ieq(str_of(value), str_of(foreign[i])))
			continue;
		*why = mem_printf("authentication by %s is not supported; use one of trust, plain, md5, scram-sha-256, "
		                  "cert, peer, hba",
		                  foreign[i]);
		return false;
	}
	return true;
}

/* Next of the words between commas, blanks or colons; false at the end. */
static bool next_word(const char **p, struct str *word)
{
	*p += strspn(*p, ",: \t");
	*word = (struct str){ *p, strcspn(*p, ",: \t") };
	*p += word->n;
	return word->n != 0;
}

static bool check_tls_protocols(const char *value, char **why)
{
	static const char *const known[] = { "secure",  "all",     "legacy",  "default",
		                             "tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3" };
	struct str word;
	while (next_word(&value, &word)) {
		if (word.p[0] == '!') /* "all:!tlsv1.0" */
			word = (struct str){ word.p + 1, word.n - 1 };
		bool found = false;
		for (size_t i = 0; i < ARRAY_LEN(known) && !found; i++)
			found = str_ieq(word, str_of(known[i]));
		if (!found) {
			*why = mem_printf("\"%.*s\" is not a TLS version; use secure (tlsv1.2 and tlsv1.3), all, or a "
			                  "list of tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3",
			                  (int)word.n, word.p);
			return false;
		}
	}
	return true;
}

static bool check_dheparams(const char *value, char **why)
{
	static const char *const known[] = { "auto", "legacy", "none" };
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (str_ieq(str_of(value), str_of(known[i])))
			return true;
	}
	*why = mem_printf("\"%s\" is not known; use auto, legacy or none", value);
	return false;
}

static bool check_http_addr(const char *value, char **why)
{
	char host[HTTP_HOST_SIZE];
	int port;
	if (conf_split_host_port(value, host, &port))
		return true;
	*why = mem_printf("\"%s\" is not an address and port; write for example 127.0.0.1:9127, [::1]:9127 or *:9127",
	                  value);
	return false;
}

static bool check_application_name_format(const char *value, char **why)
{
	for (const char *p = strchr(value, '%'); p; p = strchr(p + 2, '%')) {
		if (p[1] && strchr("audhpi%", p[1]))
			continue;
		*why = mem_printf("\"%%%.1s\" is not known in a format; use %%a (application name), %%u (user), %%d "
		                  "(database), %%h (host), %%p (port), %%i (proxy id) or %%%%",
		                  p + 1);
		return false;
	}
	return true;
}

static bool check_syslog_facility(const char *value, char **why)
{
	static const char *const known[] = { "auth",   "authpriv", "daemon", "user",   "local0", "local1",
		                             "local2", "local3",   "local4", "local5", "local6", "local7" };
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (str_ieq(str_of(value), str_of(known[i])))
			return true;
	}
	*why =
	    mem_printf("\"%s\" is not a syslog facility; use auth, authpriv, daemon, user or local0 to local7", value);
	return false;
}

#define AUTH_QUERY_DEFAULT                                                                                             \
	"SELECT rolname, CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now() THEN NULL "                   \
	"ELSE rolpassword END FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin"

const struct conf_option conf_option_table[] = {
	/* --- listening and the process --- */
	{ "listen_addr", IN(LISTEN), OPT_LIST, GLOBAL(struct conf_list, listen_addr), .default_text = "",
	  .flags = OPTION_RESTART,
	  .help = "Addresses or host names to listen on, separated by commas; * is all of them, empty is no TCP." },
	{ "listen_port", IN(LISTEN), OPT_INT, GLOBAL(int, listen_port), .default_text = "6432", RANGE(1, 65535),
	  .flags = OPTION_RESTART, .help = "Port to listen on, for TCP and for the name of the unix socket." },
	{ "unix_socket_dir", IN(LISTEN), OPT_STRING, GLOBAL(char *, unix_socket_dir), .default_text = "/tmp",
	  .flags = OPTION_RESTART, .help = "Folder of the unix socket; @name is an abstract socket, empty is none." },
	{ "unix_socket_mode", IN(LISTEN), OPT_OCTAL, GLOBAL(int, unix_socket_mode), .default_text = "0777",
	  RANGE(0, 0777), .flags = OPTION_RESTART, .help = "Permissions of the unix socket, in octal." },
	{ "unix_socket_group", IN(LISTEN), OPT_STRING, GLOBAL(char *, unix_socket_group), .default_text = "",
	  .flags = OPTION_RESTART, .help = "Group of the unix socket; empty leaves it." },
	{ "user", IN(LISTEN), OPT_STRING, GLOBAL(char *, user), .default_text = "", .flags = OPTION_RESTART,
	  .help = "System user to become after start; needed when started by root." },
	{ "pidfile", IN(LISTEN), OPT_STRING, GLOBAL(char *, pidfile), .default_text = "", .flags = OPTION_RESTART,
	  .help = "File to write the process id to." },
	{ "conffile", IN(LISTEN), OPT_STRING, GLOBAL(char *, conffile), .default_text = "",
	  .help = "File that the next reload reads; at first the one of the command line." },
	{ "service_name", IN(LISTEN), OPT_STRING, GLOBAL(char *, service_name), .default_text = "pgbouncer",
	  .flags = OPTION_RESTART | OPTION_OTHER_WAY,
	  .help = "Name of a Windows service in PgBouncer; kept and shown only." },
	{ "job_name", IN(LISTEN), OPT_STRING, GLOBAL(char *, job_name), .default_text = "pgbouncer",
	  .flags = OPTION_RESTART | OPTION_OTHER_WAY, .help = "Another name of service_name; kept and shown only." },
	{ "listen_backlog", IN(LISTEN), OPT_INT, GLOBAL(int, listen_backlog), .default_text = "128", RANGE(1, 65535),
	  .flags = OPTION_RESTART, .help = "Connections that the kernel queues until they are accepted." },
	{ "so_reuseport", IN(LISTEN), OPT_BOOL, GLOBAL(bool, so_reuseport), .default_text = "0",
	  .flags = OPTION_RESTART, .help = "Several processes may listen on the same port; give each a peer_id." },
	{ "peer_id", IN(LISTEN), OPT_INT, GLOBAL(int, peer_id), .default_text = "0", RANGE(0, 65535),
	  .help = "Number of this process among its [peers], to pass on cancel requests; 0 is none." },
	{ "workers", IN(LISTEN), OPT_INT, GLOBAL(int, workers), .default_text = "auto", RANGE(1, 64),
	  .words = workers_words, .flags = OPTION_RESTART,
	  .help = "Worker threads; auto is one per usable CPU, 16 at most." },
	{ "max_memory", IN(LISTEN), OPT_SIZE, GLOBAL(uint64_t, max_memory_bytes), .default_text = "0",
	  RANGE(0, INT64_MAX), .help = "Refuse new clients while the process uses more memory; 0 is no limit." },

	/* --- routing and consistency --- */
	{ "route", IN(ROUTING), OPT_ENUM, GLOBAL(enum route_mode, route),
	  ROUTES(enum route_mode, route, ROUTING_AND_HINT), .default_text = "auto", .words = conf_route_words,
	  .help = "Where statements go: auto decides for each, primary keeps all there, replica wishes reads away from "
	          "the primary even if they call unknown functions." },
	{ "consistency", IN(ROUTING), OPT_ENUM, GLOBAL(enum consistency, consistency),
	  ROUTES(enum consistency, consistency, ROUTING_AND_HINT), .default_text = "database",
	  .words = conf_consistency_words,
	  .help = "What a read on a replica must have seen: eventual (max_replica_lag), session (this client's own "
	          "writes), database (all clients' writes through this process), strong (every acknowledged write)." },
	{ "transaction_consistency", IN(ROUTING), OPT_ENUM, GLOBAL(enum consistency, transaction_consistency),
	  ROUTES(enum consistency, transaction_consistency, ROUTING), .default_text = "database",
	  .words = conf_consistency_words,
	  .help = "The least that reads in a transaction which may write must have seen, whatever consistency says." },
	{ "transaction_reads", IN(ROUTING), OPT_ENUM, GLOBAL(enum transaction_reads, transaction_reads),
	  ROUTES(enum transaction_reads, transaction_reads, ROUTING), .default_text = "replica",
	  .words = transaction_reads_words,
	  .help = "Where a READ COMMITTED transaction starts that is not declared READ ONLY. From a replica it moves "
	          "to the "
	          "primary at its first statement that is not a proved read." },
	{ "transaction_replay", IN(ROUTING), OPT_BOOL, GLOBAL(bool, transaction_replay),
	  ROUTES(bool, transaction_replay, ROUTING), .default_text = "0",
	  .help =
	      "Repeat a READ COMMITTED transaction on the new primary when its server was lost before COMMIT, if that "
	      "gives the same results; else the client gets 40001." },
	{ "transaction_replay_limit", IN(ROUTING), OPT_SIZE, GLOBAL(uint64_t, transaction_replay_limit_bytes),
	  .default_text = "1MB", RANGE(0, 1 << 30),
	  .help = "A transaction of more bytes of statements than that is not kept for transaction_replay." },
	{ "ask_commit_outcome", IN(ROUTING), OPT_BOOL, GLOBAL(bool, ask_commit_outcome),
	  ROUTES(bool, ask_commit_outcome, ROUTING), .default_text = "0",
	  .help = "Ask for the id of each transaction that has written, with its COMMIT, so that the client can be "
	          "told what "
	          "became of it when its server was lost before the answer. transaction_replay does so too." },
	{ "replica_wait", IN(ROUTING), OPT_DURATION, GLOBAL(uint64_t, replica_wait_us),
	  ROUTES(uint64_t, replica_wait_us, ROUTING_AND_HINT), .default_text = "10ms", RANGE(0, 60 * SEC),
	  .help = "How long a read waits for a replica to catch up before it goes to the primary." },
	{ "max_replica_lag", IN(ROUTING), OPT_DURATION, GLOBAL(uint64_t, max_replica_lag_us),
	  ROUTES(uint64_t, max_replica_lag_us, ROUTING_AND_HINT), .default_text = "10s", RANGE(0, 24 * HOUR),
	  .help = "A replica further behind gets no reads." },
	{ "read_only_functions", IN(ROUTING), OPT_LIST, GLOBAL(struct conf_list, read_only_functions),
	  ENTRY(struct conf_list, read_only_functions), .default_text = "",
	  .help = "Functions vouched to be safe on a replica, as schema.name, separated by commas." },
	{ "write_functions", IN(ROUTING), OPT_LIST, GLOBAL(struct conf_list, write_functions),
	  ENTRY(struct conf_list, write_functions), .default_text = "",
	  .help = "Functions that must run on the primary, as schema.name, separated by commas." },
	{ "allow_route_hints", IN(ROUTING), OPT_BOOL, GLOBAL(bool, allow_route_hints),
	  OVERRIDES(bool, allow_route_hints, EVERYWHERE), .default_text = "1",
	  .help = "Obey leading comments such as /* pgweir: route=replica */." },

	/* --- pools and limits --- */
	{ "pool_mode", IN(POOL), OPT_ENUM, GLOBAL(enum pool_mode, pool_mode),
	  OVERRIDES(enum pool_mode, pool_mode, SCOPE_DATABASE | SCOPE_USER), .default_text = "session",
	  .words = conf_pool_mode_words,
	  .help = "When a server connection may serve another client: after the session, the transaction or the "
	          "statement." },
	{ "max_client_conn", IN(POOL), OPT_INT, GLOBAL(int, max_client_conn), .default_text = "100",
	  RANGE(1, CONNECTIONS_MAX), .help = "Clients connected at the same time." },
	{ "default_pool_size", IN(POOL), OPT_INT, GLOBAL(int, default_pool_size), .default_text = "20",
	  RANGE(0, CONNECTIONS_MAX),
	  .help = "Server connections per pool, that is per database, user and host; 0 is no limit." },
	{ "pool_size", IN(ENTRY), OPT_INT, OVERRIDES(int, pool_size, SCOPE_DATABASE | SCOPE_USER),
	  RANGE(0, CONNECTIONS_MAX), .help = "default_pool_size for this one." },
	{ "pool_size", IN(ENTRY), OPT_INT, OVERRIDES(int, application_pool_size, SCOPE_APPLICATION),
	  RANGE(0, CONNECTIONS_MAX),
	  .help = "Server connections that the application's clients hold at once in each pool; 0 is no limit." },
	{ "min_pool_size", IN(POOL), OPT_INT, GLOBAL(int, min_pool_size), OVERRIDES(int, min_pool_size, SCOPE_DATABASE),
	  .default_text = "0", RANGE(0, CONNECTIONS_MAX),
	  .help = "Server connections kept open in each pool that has clients, and in those of an entry's own user "
	          "before one comes." },
	{ "reserve_pool_size", IN(POOL), OPT_INT, GLOBAL(int, reserve_pool_size),
	  OVERRIDES(int, reserve_pool_size, SCOPE_DATABASE | SCOPE_USER), .default_text = "0",
	  RANGE(0, CONNECTIONS_MAX),
	  .help = "More connections for a pool whose clients wait longer than reserve_pool_timeout." },
	{ "reserve_pool_timeout", IN(POOL), OPT_SECONDS, GLOBAL(uint64_t, reserve_pool_timeout_us), .default_text = "5",
	  RANGE(0, FOREVER), .help = "Waiting time after which the reserve is used; 0 is never." },
	{ "max_db_connections", IN(POOL), OPT_INT, GLOBAL(int, max_db_connections),
	  OVERRIDES(int, max_db_connections, SCOPE_DATABASE), .default_text = "0", RANGE(0, CONNECTIONS_MAX),
	  .help = "Server connections per database, over all users and hosts; 0 is no limit." },
	{ "max_db_client_connections", IN(POOL), OPT_INT, GLOBAL(int, max_db_client_connections),
	  OVERRIDES(int, max_db_client_connections, SCOPE_DATABASE), .default_text = "0", RANGE(0, CONNECTIONS_MAX),
	  .help = "Client connections per database; 0 is no limit." },
	{ "max_user_connections", IN(POOL), OPT_INT, GLOBAL(int, max_user_connections),
	  OVERRIDES(int, max_user_connections, SCOPE_USER), .default_text = "0", RANGE(0, CONNECTIONS_MAX),
	  .help = "Server connections per user, over all databases; 0 is no limit." },
	{ "max_user_client_connections", IN(POOL), OPT_INT, GLOBAL(int, max_user_client_connections),
	  OVERRIDES(int, max_user_client_connections, SCOPE_USER), .default_text = "0", RANGE(0, CONNECTIONS_MAX),
	  .help = "Client connections per user; 0 is no limit." },
	{ "max_pinned", IN(POOL), OPT_INT, GLOBAL(int, max_pinned),
	  OVERRIDES(int, max_pinned, SCOPE_DATABASE | SCOPE_USER), .default_text = "pool_size",
	  RANGE(0, CONNECTIONS_MAX), .words = pinned_words,
	  .help = "Server connections per pool that session state may keep to one client, beside pool_size; 0 is no "
	          "limit." },
	{ "server_round_robin", IN(POOL), OPT_BOOL, GLOBAL(bool, server_round_robin), .default_text = "0",
	  .help = "Use the server connection that has been idle longest instead of the one used last." },
	{ "autodb_idle_timeout", IN(POOL), OPT_SECONDS, GLOBAL(uint64_t, autodb_idle_timeout_us),
	  .default_text = "3600", RANGE(0, FOREVER), .help = "Forget a database made from \"*\" when unused so long." },
	{ "pool_idle_timeout", IN(POOL), OPT_SECONDS, GLOBAL(uint64_t, pool_idle_timeout_us), .default_text = "0",
	  RANGE(0, FOREVER), .help = "Forget an empty pool and its statistics when unused so long; 0 is never." },

	/* --- servers --- */
	{ "monitor_interval", IN(CLUSTER), OPT_DURATION, GLOBAL(uint64_t, monitor_interval_us), .default_text = "200ms",
	  RANGE(10 * MS, 60 * SEC), .help = "Time between two looks at each server's role and position." },
	{ "monitor_user", IN(CLUSTER), OPT_STRING, GLOBAL(char *, monitor_user), .default_text = "",
	  .help = "Role of the monitor, with CONNECT and pg_monitor; empty is auth_user, else the database's user." },
	{ "monitor_password", IN(CLUSTER), OPT_SECRET, GLOBAL(char *, monitor_password), .default_text = "",
	  .help = "Password of monitor_user." },
	{ "monitor_dbname", IN(CLUSTER), OPT_STRING, GLOBAL(char *, monitor_dbname), .default_text = "postgres",
	  .help = "Database that the monitor connects to." },
	{ "failover_timeout", IN(CLUSTER), OPT_DURATION, GLOBAL(uint64_t, failover_timeout_us),
	  OVERRIDES(uint64_t, failover_timeout_us, SCOPE_DATABASE), .default_text = "30s", RANGE(0, HOUR),
	  .help = "How long work for a lost primary waits for a new one." },
	{ "server_reset_query", IN(CLUSTER), OPT_STRING, GLOBAL(char *, server_reset_query),
	  .default_text = "DISCARD ALL",
	  .help = "Sent before a server connection serves another client, in session mode." },
	{ "server_reset_query_always", IN(CLUSTER), OPT_BOOL, GLOBAL(bool, server_reset_query_always),
	  .default_text = "0", .help = "Send server_reset_query in every pool mode." },
	{ "server_check_delay", IN(CLUSTER), OPT_SECONDS, GLOBAL(uint64_t, server_check_delay_us), .default_text = "30",
	  RANGE(0, FOREVER), .help = "Check a server connection that has been idle so long before it is used." },
	{ "server_check_query", IN(CLUSTER), OPT_STRING, GLOBAL(char *, server_check_query), .default_text = "<empty>",
	  .help = "The check; <empty> is an empty query, nothing at all is no check." },
	{ "server_fast_close", IN(CLUSTER), OPT_BOOL, GLOBAL(bool, server_fast_close), .default_text = "0",
	  .help = "After RECONNECT or a changed setting close session-mode connections at the next idle moment." },
	{ "server_lifetime", IN(CLUSTER), OPT_SECONDS, GLOBAL(uint64_t, server_lifetime_us),
	  OVERRIDES(uint64_t, server_lifetime_us, SCOPE_DATABASE), .default_text = "3600", RANGE(0, FOREVER),
	  .help = "Close an unused server connection that is older; 0 is after each use." },
	{ "server_idle_timeout", IN(CLUSTER), OPT_SECONDS, GLOBAL(uint64_t, server_idle_timeout_us),
	  .default_text = "600", RANGE(0, FOREVER), .help = "Close a server connection unused so long; 0 is never." },
	{ "server_connect_timeout", IN(CLUSTER), OPT_SECONDS, GLOBAL(uint64_t, server_connect_timeout_us),
	  .default_text = "15", RANGE(0, FOREVER),
	  .help = "Time for connecting and logging in to a server; 0 is no limit." },
	{ "server_login_retry", IN(CLUSTER), OPT_SECONDS, GLOBAL(uint64_t, server_login_retry_us), .default_text = "15",
	  RANGE(0, FOREVER), .help = "Wait before trying again a server that refused or could not be reached." },

	/* --- time-outs --- */
	{ "client_login_timeout", IN(TIMEOUT), OPT_SECONDS, GLOBAL(uint64_t, client_login_timeout_us),
	  .default_text = "60", RANGE(0, FOREVER), .help = "Time for a client to log in; 0 is no limit." },
	{ "client_idle_timeout", IN(TIMEOUT), OPT_SECONDS, GLOBAL(uint64_t, client_idle_timeout_us),
	  OVERRIDES(uint64_t, client_idle_timeout_us, CLIENTS), .default_text = "0", RANGE(0, FOREVER),
	  .help = "Close a client that has sent nothing so long; 0 is never." },
	{ "query_timeout", IN(TIMEOUT), OPT_SECONDS, GLOBAL(uint64_t, query_timeout_us),
	  OVERRIDES(uint64_t, query_timeout_us, CLIENTS), .default_text = "0", RANGE(0, FOREVER),
	  .help = "Close a query's client and server so long after it was asked, waiting included; 0 is never." },
	{ "query_wait_timeout", IN(TIMEOUT), OPT_SECONDS, GLOBAL(uint64_t, query_wait_timeout_us),
	  OVERRIDES(uint64_t, query_wait_timeout_us, EVERYWHERE), .default_text = "120", RANGE(0, FOREVER),
	  .help = "Longest time a query may wait for a server connection; 0 is no limit." },
	{ "query_wait_notify", IN(TIMEOUT), OPT_SECONDS, GLOBAL(uint64_t, query_wait_notify_us), .default_text = "5",
	  RANGE(0, FOREVER), .help = "Tell a client by a notice that it has been waiting so long; 0 is never." },
	{ "idle_transaction_timeout", IN(TIMEOUT), OPT_SECONDS, GLOBAL(uint64_t, idle_transaction_timeout_us),
	  OVERRIDES(uint64_t, idle_transaction_timeout_us, CLIENTS), .default_text = "0", RANGE(0, FOREVER),
	  .help = "Close a client that is idle in a transaction so long; 0 is never." },
	{ "transaction_timeout", IN(TIMEOUT), OPT_SECONDS, GLOBAL(uint64_t, transaction_timeout_us),
	  OVERRIDES(uint64_t, transaction_timeout_us, CLIENTS), .default_text = "0", RANGE(0, FOREVER),
	  .help = "Close a client whose transaction lasts so long; 0 is never." },
	{ "cancel_wait_timeout", IN(TIMEOUT), OPT_SECONDS, GLOBAL(uint64_t, cancel_wait_timeout_us),
	  .default_text = "10", RANGE(0, FOREVER),
	  .help = "Longest time that handing on a cancel request may take; 0 is no limit." },
	{ "suspend_timeout", IN(TIMEOUT), OPT_SECONDS, GLOBAL(uint64_t, suspend_timeout_us), .default_text = "10",
	  RANGE(0, FOREVER), .help = "Time that SUSPEND gives to a connection to empty its buffers." },

	/* --- statements and parameters --- */
	{ "max_prepared_statements", IN(STATEMENTS), OPT_INT, GLOBAL(int, max_prepared_statements),
	  .default_text = "200", RANGE(0, CONNECTIONS_MAX),
	  .help = "Prepared statements kept on each server connection; 0 passes them on untracked." },
	{ "unnamed_statement_cache", IN(STATEMENTS), OPT_BOOL, GLOBAL(bool, unnamed_statement_cache),
	  OVERRIDES(bool, unnamed_statement_cache, EVERYWHERE), .default_text = "1",
	  .help = "Turn unnamed statements that repeat into shared prepared ones where nobody can tell." },
	{ "unnamed_plan", IN(STATEMENTS), OPT_ENUM, GLOBAL(enum unnamed_plan, unnamed_plan),
	  OVERRIDES(enum unnamed_plan, unnamed_plan, EVERYWHERE), .default_text = "auto", .words = unnamed_plan_words,
	  .help = "Plans of such statements: auto lets PostgreSQL choose, custom plans each execution." },
	{ "simple_query_cache", IN(STATEMENTS), OPT_BOOL, GLOBAL(bool, simple_query_cache),
	  OVERRIDES(bool, simple_query_cache, EVERYWHERE), .default_text = "0",
	  .help = "Run simple queries that repeat as prepared statements, their literals as parameters." },
	{ "shared_listen", IN(STATEMENTS), OPT_BOOL, GLOBAL(bool, shared_listen), .default_text = "0",
	  .help =
	      "Hear notifications for all clients by one connection per database instead of pinning whoever listens." },
	{ "track_extra_parameters", IN(STATEMENTS), OPT_LIST, GLOBAL(struct conf_list, track_extra_parameters),
	  .default_text = "IntervalStyle", .flags = OPTION_RESTART | OPTION_OTHER_WAY,
	  .help = "Parameters that PgBouncer keeps per client; pgweir does so for every parameter." },
	{ "ignore_startup_parameters", IN(STATEMENTS), OPT_LIST, GLOBAL(struct conf_list, ignore_startup_parameters),
	  .default_text = "", .help = "Start-up parameters to drop; pgweir honours all others." },
	{ "disable_pqexec", IN(STATEMENTS), OPT_BOOL, GLOBAL(bool, disable_pqexec), .default_text = "0",
	  .flags = OPTION_RESTART, .help = "Refuse the simple query protocol." },
	{ "application_name_format", IN(STATEMENTS), OPT_STRING, GLOBAL(char *, application_name_format),
	  ENTRY(char *, application_name_format), .default_text = "%a", .check = check_application_name_format,
	  .help = "application_name of a server connection while it works for a client: %a name, %u user, %d database, "
	          "%h host, %p port, %i proxy id." },
	{ "application_name_add_host", IN(STATEMENTS), OPT_BOOL, GLOBAL(bool, application_name_add_host),
	  .default_text = "0", .help = "The same as application_name_format = %a - %h:%p." },
	{ "login_notify_message", IN(STATEMENTS), OPT_STRING, GLOBAL(char *, login_notify_message), .default_text = "",
	  .help = "A notice to each client after login." },

	/* --- authentication --- */
	{ "auth_type", IN(AUTH), OPT_ENUM, GLOBAL(enum conf_auth_type, auth_type), .default_text = "md5",
	  .words = conf_auth_type_words, .check = check_auth_type,
	  .help = "How clients prove who they are; md5 takes SCRAM secrets too, any takes every name." },
	{ "auth_file", IN(AUTH), OPT_STRING, GLOBAL(char *, auth_file), .default_text = "",
	  .help = "File of lines \"user\" \"password, md5 or SCRAM secret\"." },
	{ "auth_hba_file", IN(AUTH), OPT_STRING, GLOBAL(char *, auth_hba_file), .default_text = "",
	  .help = "Rules in the form of pg_hba.conf, for auth_type = hba." },
	{ "auth_ident_file", IN(AUTH), OPT_STRING, GLOBAL(char *, auth_ident_file), .default_text = "",
	  .help = "User name maps in the form of pg_ident.conf." },
	{ "auth_user", IN(AUTH), OPT_STRING, GLOBAL(char *, auth_user), ENTRY(char *, auth_user), .default_text = "",
	  .help = "Role that runs auth_query for users who are not in auth_file, with its password there in clear." },
	{ "auth_query", IN(AUTH), OPT_STRING, GLOBAL(char *, auth_query), ENTRY(char *, auth_query),
	  .default_text = AUTH_QUERY_DEFAULT,
	  .help = "Gives the name and the secret of user $1; runs with search_path = pg_catalog, public." },
	{ "auth_dbname", IN(AUTH), OPT_STRING, GLOBAL(char *, auth_dbname), ENTRY(char *, auth_dbname),
	  .default_text = "",
	  .help = "Entry of [databases] in which auth_query runs; empty is the one that the client asked for." },
	{ "auth_ldap_options", IN(AUTH), OPT_STRING, GLOBAL(char *, auth_ldap_options), .default_text = "",
	  .flags = OPTION_OTHER_WAY, .help = "Kept only: authentication by ldap is not supported." },
	{ "scram_iterations", IN(AUTH), OPT_INT, GLOBAL(int, scram_iterations), .default_text = "4096",
	  RANGE(1, 10000000), .help = "Iterations of SCRAM secrets that are made from plain passwords." },

	/* --- TLS --- */
	{ "client_tls_sslmode", IN(TLS), OPT_ENUM, GLOBAL(enum conf_sslmode, client_tls_sslmode),
	  .default_text = "disable", .words = conf_sslmode_words,
	  .help = "TLS from clients: disable, allow and prefer (offered), require, verify-ca and verify-full (with a "
	          "client certificate)." },
	{ "client_tls_key_file", IN(TLS), OPT_STRING, GLOBAL(char *, client_tls_key_file), .default_text = "",
	  .help = "Private key that pgweir shows to clients." },
	{ "client_tls_cert_file", IN(TLS), OPT_STRING, GLOBAL(char *, client_tls_cert_file), .default_text = "",
	  .help = "Certificate that pgweir shows to clients." },
	{ "client_tls_ca_file", IN(TLS), OPT_STRING, GLOBAL(char *, client_tls_ca_file), .default_text = "",
	  .help = "Authorities whose client certificates are accepted." },
	{ "client_tls_protocols", IN(TLS), OPT_STRING, GLOBAL(char *, client_tls_protocols), .default_text = "secure",
	  .check = check_tls_protocols, .help = "TLS versions; secure is tlsv1.2 and tlsv1.3." },
	{ "client_tls_ciphers", IN(TLS), OPT_STRING, GLOBAL(char *, client_tls_ciphers), .default_text = "default",
	  .help = "Ciphers up to TLS 1.2, as OpenSSL writes them." },
	{ "client_tls13_ciphers", IN(TLS), OPT_STRING, GLOBAL(char *, client_tls13_ciphers), .default_text = "",
	  .help = "Cipher suites of TLS 1.3; empty is OpenSSL's default." },
	{ "client_tls_ecdhcurve", IN(TLS), OPT_STRING, GLOBAL(char *, client_tls_ecdhcurve), .default_text = "auto",
	  .help = "Curve for the key exchange: auto, none or a name." },
	{ "client_tls_dheparams", IN(TLS), OPT_STRING, GLOBAL(char *, client_tls_dheparams), .default_text = "auto",
	  .check = check_dheparams,
	  .help =
	      "Parameters for the DHE key exchange up to TLS 1.2: auto (or legacy, which is the same here) or none." },
	{ "server_tls_sslmode", IN(TLS), OPT_ENUM, GLOBAL(enum conf_sslmode, server_tls_sslmode),
	  .default_text = "prefer", .words = conf_sslmode_words, .help = "TLS to servers, as libpq's sslmode." },
	{ "server_tls_ca_file", IN(TLS), OPT_STRING, GLOBAL(char *, server_tls_ca_file), .default_text = "",
	  .help = "Authorities whose server certificates are accepted." },
	{ "server_tls_key_file", IN(TLS), OPT_STRING, GLOBAL(char *, server_tls_key_file), .default_text = "",
	  .help = "Private key of the client certificate that pgweir shows to servers." },
	{ "server_tls_cert_file", IN(TLS), OPT_STRING, GLOBAL(char *, server_tls_cert_file), .default_text = "",
	  .help = "Client certificate that pgweir shows to servers." },
	{ "server_tls_protocols", IN(TLS), OPT_STRING, GLOBAL(char *, server_tls_protocols), .default_text = "secure",
	  .check = check_tls_protocols, .help = "TLS versions; secure is tlsv1.2 and tlsv1.3." },
	{ "server_tls_ciphers", IN(TLS), OPT_STRING, GLOBAL(char *, server_tls_ciphers), .default_text = "default",
	  .help = "Ciphers up to TLS 1.2, as OpenSSL writes them." },
	{ "server_tls13_ciphers", IN(TLS), OPT_STRING, GLOBAL(char *, server_tls13_ciphers), .default_text = "",
	  .help = "Cipher suites of TLS 1.3; empty is OpenSSL's default." },

	/* --- logging, statistics, consoles --- */
	{ "logfile", IN(LOG), OPT_STRING, GLOBAL(char *, logfile), .default_text = "",
	  .help = "Log file, opened again on reload; empty is standard error." },
	{ "log_level", IN(LOG), OPT_ENUM, GLOBAL(enum log_level, log_level), .default_text = "info",
	  .words = log_level_words, .help = "Least level that is logged." },
	{ "log_format", IN(LOG), OPT_ENUM, GLOBAL(enum log_format, log_format), .default_text = "text",
	  .words = log_format_words, .help = "Form of a log line." },
	{ "log_min_duration", IN(LOG), OPT_DURATION, GLOBAL(uint64_t, log_min_duration_us),
	  OVERRIDES(uint64_t, log_min_duration_us, EVERYWHERE), .default_text = "100ms", RANGE(0, 24 * HOUR),
	  .words = off_words,
	  .help = "Log statements that take so long, without their literals; 0 is all, off is none." },
	{ "log_literals", IN(LOG), OPT_BOOL, GLOBAL(bool, log_literals), .default_text = "0",
	  .help = "Log them word by word instead, with parameters, and whatever secrets these hold." },
	{ "syslog", IN(LOG), OPT_BOOL, GLOBAL(bool, syslog), .default_text = "0", .help = "Log to syslog too." },
	{ "syslog_ident", IN(LOG), OPT_STRING, GLOBAL(char *, syslog_ident), .default_text = "pgbouncer",
	  .help = "Name of the program in syslog." },
	{ "syslog_facility", IN(LOG), OPT_STRING, GLOBAL(char *, syslog_facility), .default_text = "daemon",
	  .check = check_syslog_facility, .help = "Facility in syslog." },
	{ "log_connections", IN(LOG), OPT_BOOL, GLOBAL(bool, log_connections), .default_text = "1",
	  .help = "Log each login." },
	{ "log_disconnections", IN(LOG), OPT_BOOL, GLOBAL(bool, log_disconnections), .default_text = "1",
	  .help = "Log each end of a connection with its reason." },
	{ "log_pooler_errors", IN(LOG), OPT_BOOL, GLOBAL(bool, log_pooler_errors), .default_text = "1",
	  .help = "Log the errors that pgweir itself sends to clients." },
	{ "log_stats", IN(LOG), OPT_BOOL, GLOBAL(bool, log_stats), .default_text = "1",
	  .help = "Log the figures of each stats_period." },
	{ "stats_period", IN(LOG), OPT_SECONDS, GLOBAL(uint64_t, stats_period_us), .default_text = "60",
	  RANGE(SEC, 24 * HOUR), .help = "Period of the averages." },
	{ "verbose", IN(LOG), OPT_INT, GLOBAL(int, verbose), .default_text = "0", RANGE(0, 10),
	  .help = "Above 0 the same as log_level = debug." },
	{ "admin_users", IN(LOG), OPT_LIST, GLOBAL(struct conf_list, admin_users), .default_text = "",
	  .help = "Users who may do everything on the console, separated by commas." },
	{ "stats_users", IN(LOG), OPT_LIST, GLOBAL(struct conf_list, stats_users), .default_text = "",
	  .help = "Users who may use SHOW on the console, separated by commas." },
	{ "http_addr", IN(LOG), OPT_STRING, GLOBAL(char *, http_addr), .default_text = "", .flags = OPTION_RESTART,
	  .check = check_http_addr,
	  .help = "Address and port of /health, /metrics and the live page, such as 127.0.0.1:9127; empty is off." },

	/* --- network --- */
	{ "dns_max_ttl", IN(NET), OPT_SECONDS, GLOBAL(uint64_t, dns_max_ttl_us), .default_text = "15",
	  RANGE(0, FOREVER), .help = "Look a host name up again after so long." },
	{ "dns_nxdomain_ttl", IN(NET), OPT_SECONDS, GLOBAL(uint64_t, dns_nxdomain_ttl_us), .default_text = "15",
	  RANGE(0, FOREVER), .flags = OPTION_OTHER_WAY,
	  .help =
	      "Kept only: a name that could not be looked up is tried again with the next attempt to reach the host." },
	{ "dns_zone_check_period", IN(NET), OPT_SECONDS, GLOBAL(uint64_t, dns_zone_check_period_us),
	  .default_text = "0", RANGE(0, FOREVER), .flags = OPTION_OTHER_WAY,
	  .help = "Kept only: the monitor notices a server that has moved by itself." },
	{ "resolv_conf", IN(NET), OPT_STRING, GLOBAL(char *, resolv_conf), .default_text = "", .flags = OPTION_RESTART,
	  .help = "Resolver configuration instead of /etc/resolv.conf." },
	{ "pkt_buf", IN(NET), OPT_SIZE, GLOBAL(uint64_t, pkt_buf_bytes), .default_text = "4096", RANGE(1, 64 << 20),
	  .flags = OPTION_RESTART | OPTION_OTHER_WAY,
	  .help =
	      "Buffer per connection in PgBouncer; kept only: each worker has one buffer for all its connections." },
	{ "max_packet_size", IN(NET), OPT_SIZE, GLOBAL(uint64_t, max_packet_size_bytes), .default_text = "2147483647",
	  RANGE(1024, INT32_MAX), .help = "Largest message that is let through, from clients and from servers." },
	{ "sbuf_loopcnt", IN(NET), OPT_INT, GLOBAL(int, sbuf_loopcnt), .default_text = "5", RANGE(0, 1000000),
	  .flags = OPTION_OTHER_WAY,
	  .help = "Kept only: reads per connection and turn of the event loop are bounded in any case." },
	{ "tcp_defer_accept", IN(NET), OPT_SECONDS, GLOBAL(uint64_t, tcp_defer_accept_us), .default_text = "1",
	  RANGE(0, HOUR), .help = "Accept a connection only when it has data, or after so long; 0 is at once." },
	{ "tcp_socket_buffer", IN(NET), OPT_SIZE, GLOBAL(uint64_t, tcp_socket_buffer_bytes), .default_text = "0",
	  RANGE(0, 1 << 30), .help = "Kernel buffer of each socket; 0 leaves it to the kernel." },
	{ "tcp_keepalive", IN(NET), OPT_BOOL, GLOBAL(bool, tcp_keepalive), .default_text = "1",
	  .help = "Send TCP keepalives." },
	{ "tcp_keepcnt", IN(NET), OPT_INT, GLOBAL(int, tcp_keepcnt), .default_text = "0", RANGE(0, 127),
	  .help = "Lost keepalives until a connection counts as dead; 0 is the kernel's default." },
	{ "tcp_keepidle", IN(NET), OPT_SECONDS, GLOBAL(uint64_t, tcp_keepidle_us), .default_text = "0",
	  RANGE(0, 32767 * SEC), .help = "Silence before the first keepalive; 0 is the kernel's default." },
	{ "tcp_keepintvl", IN(NET), OPT_SECONDS, GLOBAL(uint64_t, tcp_keepintvl_us), .default_text = "0",
	  RANGE(0, 32767 * SEC), .help = "Time between keepalives; 0 is the kernel's default." },
	{ "tcp_user_timeout", IN(NET), OPT_INT, GLOBAL(int, tcp_user_timeout_ms), .default_text = "0",
	  RANGE(0, INT_MAX), .unit = "ms",
	  .help = "Unacknowledged data for so long ends a connection; 0 is the kernel's default." },

	/* --- keys of one entry of [databases] --- */
	{ "dbname", IN(ENTRY), OPT_STRING, ENTRY(char *, dbname),
	  .help = "Database on the server; else the name that the client asked for." },
	{ "host", IN(ENTRY), OPT_STRING, ENTRY(char *, host),
	  .help = "Servers of one cluster, separated by commas, in any order; / begins a socket folder, none is the "
	          "folder of unix_socket_dir." },
	{ "port", IN(ENTRY), OPT_STRING, ENTRY(char *, port),
	  .help = "One port for all hosts, or one for each, separated by commas; else 5432." },
	{ "user", IN(ENTRY), OPT_STRING, ENTRY(char *, user),
	  .help = "Role on the server for all clients; else the client's own." },
	{ "password", IN(ENTRY), OPT_SECRET, ENTRY(char *, password), .help = "Password of user." },
	{ "connect_query", IN(ENTRY), OPT_STRING, ENTRY(char *, connect_query),
	  .help = "Query to run on each new server connection." },
	{ "load_balance_hosts", IN(ENTRY), OPT_ENUM, ENTRY(enum load_balance_hosts, load_balance_hosts),
	  .words = conf_load_balance_words, .default_text = "round-robin", .flags = OPTION_OTHER_WAY,
	  .help = "Kept and shown only: roles decide which host serves what." },
	{ "client_encoding", IN(ENTRY), OPT_STRING, ENTRY(char *, client_encoding),
	  .help = "Start value of client_encoding on the server." },
	{ "datestyle", IN(ENTRY), OPT_STRING, ENTRY(char *, datestyle),
	  .help = "Start value of DateStyle on the server." },
	{ "timezone", IN(ENTRY), OPT_STRING, ENTRY(char *, timezone),
	  .help = "Start value of TimeZone on the server." },
	{ "application_name", IN(ENTRY), OPT_STRING, ENTRY(char *, application_name),
	  .help = "application_name of clients that give none." },

	/* --- keys of one entry of [peers] --- */
	{ "host", IN(ENTRY), OPT_STRING, PEER(char *, host), .help = "Address or socket folder of the other process." },
	{ "port", IN(ENTRY), OPT_INT, PEER(int, port), .default_text = "6432", RANGE(1, 65535), .help = "Its port." },
	{ "pool_size", IN(ENTRY), OPT_INT, PEER(int, pool_size), RANGE(0, CONNECTIONS_MAX),
	  .help = "Connections to it for cancel requests." },
};

const size_t conf_option_table_rows = ARRAY_LEN(conf_option_table);

const struct conf_alias conf_aliases[] = {
	{ "reserve_pool", "reserve_pool_size" },
	{ NULL, NULL },
};

_Static_assert(CONF_OVERRIDE_BITS <= 32, "the set bits of struct conf_overrides fit their word");
_Static_assert(offsetof(struct config, listen_addr) > 0, "offset 0 means that a key is not global");
_Static_assert(offsetof(struct conf_database, host) > 0 && offsetof(struct conf_peer, host) > 0, "as for entries");
