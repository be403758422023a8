/* conf/config.h - the configuration: a typed, immutable, reference counted snapshot.
 *
 * config_load() builds one from a file, a connection string, the environment and the command line; it is published by
 * config_ref() and never changes afterwards, so any thread may read it without a lock while it holds a reference.  A
 * reload or a SET makes another one.  Strings of the global part are never NULL ("" means unset); strings of databases,
 * users and applications are NULL when the entry does not give them.  Times are microseconds and 0 means "off" unless
 * the option's help says otherwise.
 *
 * Precedence of keys that may stand in several places: application > user > database > global (PgBouncer's order for
 * its own); the config_<key>() getters apply it.  Session and statement come before these: proxy keeps a
 * struct conf_routing per session for them. */
#ifndef CONF_CONFIG_H
#define CONF_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/check.h"
#include "base/log.h"
#include "base/str.h"
#include "conf/errors.h"
#include "conf/options.h"

enum pool_mode { POOL_MODE_SESSION, POOL_MODE_TRANSACTION, POOL_MODE_STATEMENT };
enum route_mode { ROUTE_MODE_AUTO, ROUTE_MODE_PRIMARY, ROUTE_MODE_REPLICA };
enum consistency { CONSISTENCY_EVENTUAL, CONSISTENCY_SESSION, CONSISTENCY_DATABASE, CONSISTENCY_STRONG };
enum transaction_reads { TRANSACTION_READS_REPLICA, TRANSACTION_READS_PRIMARY };
enum unnamed_plan { UNNAMED_PLAN_AUTO, UNNAMED_PLAN_CUSTOM };
enum load_balance_hosts { LOAD_BALANCE_ROUND_ROBIN, LOAD_BALANCE_DISABLE };
enum conf_auth_type {
	CONF_AUTH_TRUST,
	CONF_AUTH_ANY,
	CONF_AUTH_PLAIN, /* "plain" and "password" */
	CONF_AUTH_MD5,   /* serves SCRAM secrets too */
	CONF_AUTH_SCRAM,
	CONF_AUTH_CERT,
	CONF_AUTH_PEER,
	CONF_AUTH_HBA
};
enum conf_sslmode { /* in libpq's order: a greater one asks for more */
	            CONF_SSL_DISABLE,
	            CONF_SSL_ALLOW,
	            CONF_SSL_PREFER,
	            CONF_SSL_REQUIRE,
	            CONF_SSL_VERIFY_CA,
	            CONF_SSL_VERIFY_FULL
};

#define CONF_NEVER_US UINT64_MAX /* log_min_duration = off */

/* --- keys that may stand in several places ------------------------------------------------------------------------ */

/* X(type, field of struct conf_routing and of struct config) */
#define CONF_ROUTING_KEYS(X)                                                                                           \
	X(enum route_mode, route)                                                                                      \
	X(enum consistency, consistency)                                                                               \
	X(enum consistency, transaction_consistency)                                                                   \
	X(enum transaction_reads, transaction_reads)                                                                   \
	X(bool, transaction_replay)                                                                                    \
	X(bool, ask_commit_outcome)                                                                                    \
	X(uint64_t, replica_wait_us)                                                                                   \
	X(uint64_t, max_replica_lag_us)

/* X(type, field of struct conf_overrides, field of struct config): what belongs to a pool.  Applications have no say.
 */
#define CONF_POOL_KEYS(X)                                                                                              \
	X(enum pool_mode, pool_mode, pool_mode)                                                                        \
	X(int, pool_size, default_pool_size) /* 0: unlimited */                                                        \
	X(int, min_pool_size, min_pool_size)                                                                           \
	X(int, reserve_pool_size, reserve_pool_size)                                                                   \
	X(int, max_db_connections, max_db_connections)                                                                 \
	X(int, max_db_client_connections, max_db_client_connections)                                                   \
	X(int, max_user_connections, max_user_connections)                                                             \
	X(int, max_user_client_connections, max_user_client_connections)                                               \
	X(uint64_t, server_lifetime_us, server_lifetime_us)                                                            \
	X(uint64_t, failover_timeout_us, failover_timeout_us)

/* The same for what belongs to a client or its statements. */
#define CONF_CLIENT_KEYS(X)                                                                                            \
	X(uint64_t, query_timeout_us, query_timeout_us)                                                                \
	X(uint64_t, query_wait_timeout_us, query_wait_timeout_us)                                                      \
	X(uint64_t, idle_transaction_timeout_us, idle_transaction_timeout_us)                                          \
	X(uint64_t, transaction_timeout_us, transaction_timeout_us)                                                    \
	X(uint64_t, client_idle_timeout_us, client_idle_timeout_us)                                                    \
	X(uint64_t, log_min_duration_us, log_min_duration_us)                                                          \
	X(bool, allow_route_hints, allow_route_hints)                                                                  \
	X(bool, unnamed_statement_cache, unnamed_statement_cache)                                                      \
	X(enum unnamed_plan, unnamed_plan, unnamed_plan)                                                               \
	X(bool, simple_query_cache, simple_query_cache)

enum conf_routing_bit {
#define CONF_ROUTING_BIT(type, field) CONF_SET_##field,
	CONF_ROUTING_KEYS(CONF_ROUTING_BIT)
#undef CONF_ROUTING_BIT
};

enum conf_override_bit {
#define CONF_OVERRIDE_BIT(type, field, global) CONF_SET_##field,
	CONF_POOL_KEYS(CONF_OVERRIDE_BIT) CONF_CLIENT_KEYS(CONF_OVERRIDE_BIT)
#undef CONF_OVERRIDE_BIT
	    CONF_SET_max_pinned,
	CONF_SET_application_pool_size,
	CONF_OVERRIDE_BITS
};

/* Routing settings of one scope: an entry of the file, a session, a transaction's SET LOCAL, a statement.  Plain data
 * that owns nothing: copy it by assignment.  All zero means that nothing is set. */
struct conf_routing {
	uint32_t set; /* bits 1 << CONF_SET_<field> */
#define CONF_ROUTING_FIELD(type, field) type field;
	CONF_ROUTING_KEYS(CONF_ROUTING_FIELD)
#undef CONF_ROUTING_FIELD
};

/* What one entry of [databases], [users] or [applications] says differently from the global part. */
struct conf_overrides {
	uint32_t set; /* bits 1 << CONF_SET_<field>, routing excepted */
#define CONF_OVERRIDE_FIELD(type, field, global) type field;
	CONF_POOL_KEYS(CONF_OVERRIDE_FIELD)
	CONF_CLIENT_KEYS(CONF_OVERRIDE_FIELD)
#undef CONF_OVERRIDE_FIELD
	int max_pinned;            /* -1: as pool_size; 0: no limit */
	int application_pool_size; /* [applications] pool_size: what the application's clients hold at once in a pool */
	struct conf_routing routing;
};

/* Does this scope (struct conf_routing * or struct conf_overrides *) say anything about the field? */
#define conf_is_set(scope, field) ((((scope)->set >> CONF_SET_##field) & 1u) != 0)

/* --- entries ------------------------------------------------------------------------------------------------------ */

struct conf_host {
	char *host; /* owned, never NULL; a name, an address, or a socket folder that begins with / or @ */
	int port;
};

struct conf_database {
	char *name;              /* owned; "*" serves every name that has no entry */
	struct conf_host *hosts; /* owned; at least one (no host= means the unix socket folder) */
	int n_hosts;
	char *host, *port;                          /* owned; host= and port= as written, NULL if not; use `hosts` */
	char *dbname;                               /* owned or NULL: the name that the client asked for */
	char *user, *password;                      /* owned or NULL: the server login is the client's own */
	char *auth_user, *auth_query, *auth_dbname; /* owned or NULL: the global ones */
	char *connect_query;                        /* owned or NULL */
	enum load_balance_hosts load_balance_hosts;
	char *client_encoding, *datestyle, *timezone, *application_name; /* owned or NULL */
	char *application_name_format;                                   /* owned or NULL: the global one */
	struct conf_list read_only_functions, write_functions;           /* owned; added to the global ones */
	struct conf_overrides over;
};

struct conf_user {
	char *name;     /* owned */
	char *password; /* owned or NULL; secret; only from a connection string on the command line */
	struct conf_overrides over;
};

struct conf_application {
	char *name; /* owned */
	struct conf_overrides over;
};

struct conf_peer {
	char *name; /* owned; the id as written */
	int id;     /* 1 to 65535 */
	char *host; /* owned, never NULL in a loaded configuration */
	int port;
	int pool_size; /* -1: default_pool_size; use config_peer_pool_size() */
};

/* --- the snapshot ------------------------------------------------------------------------------------------------- */

struct config {
	atomic_int refs; /* shared; everything below is immutable once published */

	/* Listening and the process */
	struct conf_list listen_addr; /* empty: no TCP; "*": all addresses */
	int listen_port;
	char *unix_socket_dir; /* "": none; "@...": abstract */
	int unix_socket_mode;
	char *unix_socket_group;
	char *user; /* the system user to become; "": stay */
	char *pidfile, *conffile, *service_name, *job_name;
	int listen_backlog;
	bool so_reuseport;
	int peer_id;
	int workers; /* 0: auto */
	uint64_t max_memory_bytes;

	/* Routing and consistency */
	enum route_mode route;
	enum consistency consistency, transaction_consistency;
	enum transaction_reads transaction_reads;
	bool transaction_replay, ask_commit_outcome;
	uint64_t transaction_replay_limit_bytes;
	uint64_t replica_wait_us, max_replica_lag_us;
	struct conf_list read_only_functions, write_functions;
	bool allow_route_hints;

	/* Pools and limits */
	enum pool_mode pool_mode;
	int max_client_conn;
	int default_pool_size, min_pool_size, reserve_pool_size;
	uint64_t reserve_pool_timeout_us;
	int max_db_connections, max_db_client_connections;
	int max_user_connections, max_user_client_connections;
	int max_pinned; /* -1: as pool_size; 0: no limit */
	bool server_round_robin;
	uint64_t autodb_idle_timeout_us, pool_idle_timeout_us;

	/* Servers: roles, health and failover */
	uint64_t monitor_interval_us;
	char *monitor_user, *monitor_password, *monitor_dbname;
	uint64_t failover_timeout_us;
	char *server_reset_query, *server_check_query;
	bool server_reset_query_always;
	uint64_t server_check_delay_us;
	bool server_fast_close;
	uint64_t server_lifetime_us, server_idle_timeout_us, server_connect_timeout_us, server_login_retry_us;

	/* Time-outs */
	uint64_t client_login_timeout_us, client_idle_timeout_us;
	uint64_t query_timeout_us, query_wait_timeout_us, query_wait_notify_us;
	uint64_t idle_transaction_timeout_us, transaction_timeout_us;
	uint64_t cancel_wait_timeout_us, suspend_timeout_us;

	/* Statements and parameters */
	int max_prepared_statements;
	bool unnamed_statement_cache;
	enum unnamed_plan unnamed_plan;
	bool simple_query_cache;
	bool shared_listen;
	struct conf_list track_extra_parameters, ignore_startup_parameters;
	bool disable_pqexec;
	char *application_name_format; /* use config_application_name_format() */
	bool application_name_add_host;
	char *login_notify_message;

	/* Authentication */
	enum conf_auth_type auth_type;
	char *auth_file, *auth_hba_file, *auth_ident_file, *auth_user, *auth_query, *auth_dbname;
	char *auth_ldap_options;
	int scram_iterations;

	/* TLS */
	enum conf_sslmode client_tls_sslmode, server_tls_sslmode;
	char *client_tls_key_file, *client_tls_cert_file, *client_tls_ca_file;
	char *client_tls_protocols, *client_tls_ciphers, *client_tls13_ciphers;
	char *client_tls_ecdhcurve, *client_tls_dheparams;
	char *server_tls_key_file, *server_tls_cert_file, *server_tls_ca_file;
	char *server_tls_protocols, *server_tls_ciphers, *server_tls13_ciphers;

	/* Logging, statistics and the consoles */
	char *logfile; /* "": standard error */
	enum log_level log_level;
	enum log_format log_format;
	int verbose;
	uint64_t log_min_duration_us; /* CONF_NEVER_US: off */
	bool syslog;
	char *syslog_ident, *syslog_facility;
	bool log_literals; /* of slow statements */
	bool log_connections, log_disconnections, log_pooler_errors, log_stats;
	uint64_t stats_period_us;
	char *http_addr; /* as written */
	char *http_host; /* derived from it, owned; "" while http is off */
	int http_port;   /* derived */
	struct conf_list admin_users, stats_users;

	/* Network */
	uint64_t dns_max_ttl_us, dns_nxdomain_ttl_us, dns_zone_check_period_us;
	char *resolv_conf;
	uint64_t pkt_buf_bytes, max_packet_size_bytes;
	int sbuf_loopcnt;
	uint64_t tcp_defer_accept_us;
	uint64_t tcp_socket_buffer_bytes;
	bool tcp_keepalive;
	int tcp_keepcnt;
	uint64_t tcp_keepidle_us, tcp_keepintvl_us;
	int tcp_user_timeout_ms;

	/* Entries; owned; sorted by name, byte by byte */
	struct conf_database *databases;
	struct conf_user *users;
	struct conf_application *applications;
	struct conf_peer *peers;
	int n_databases, n_users, n_applications, n_peers;
};

/* --- loading ------------------------------------------------------------------------------------------------------ */

struct config_source {
	const char *path;            /* configuration file, or NULL */
	const char *uri;             /* postgresql://... or a conninfo string, or NULL; see below */
	const char *const *env;      /* NULL-terminated NAME=value; NULL: no overrides (main passes environ) */
	const char *const *settings; /* NULL-terminated key=value of the command line, strongest; or NULL */
};

/* A configuration from everything in `source`: defaults < file < connection string < environment < command line.
 *
 * With a connection string pgweir listens on 127.0.0.1, pools by transaction, and serves the database named in it and,
 * through "*", every other one of the same hosts; its user and password are also those that clients log in with.
 * Returns a snapshot with one reference, or NULL when errs holds an error; warnings and notices may be added always. */
struct config *config_load(const struct config_source *source, struct config_errors *errs) MUSTCHECK;
/* The same from a text in memory; `name` stands for the file name in messages and is what %include is relative to. */
struct config *config_load_text(const char *name, const char *text, size_t len, struct config_errors *errs) MUSTCHECK;

/* Only the defaults and no database. */
struct config *config_new(void) MUSTCHECK;
struct config *config_copy(const struct config *cfg) MUSTCHECK; /* deep; one reference; may be changed until shared */
/* Thread-safe. */
const struct config *config_ref(const struct config *cfg);
void config_unref(const struct config *cfg); /* NULL is fine */

/* SET key = value: on a copy that nobody else sees yet.  False: *why (owned by the caller) tells, and the copy is as
 * before. */
bool config_set(struct config *copy, struct str key, struct str value, char **why) MUSTCHECK;

/* --- reload ------------------------------------------------------------------------------------------------------- */

struct config_change {
	const char *section;       /* "pgweir", "databases", "users", "applications", "peers"; static */
	char *key;                 /* owned; the key, or the entry's name */
	char *old_text, *new_text; /* owned; for entries NULL: was not there, is not there any more; secrets masked */
	bool restart;              /* takes effect at a restart only */
};

struct config_changes {
	struct config_change *items; /* owned */
	int n;
};

struct config_changes config_diff(const struct config *old_cfg, const struct config *new_cfg);
void config_changes_free(struct config_changes *changes);
/* Before publishing a reloaded configuration: gives the keys that need a restart their old values back, with a warning
 * for each. */
void config_keep_restart_keys(struct config *new_cfg, const struct config *old_cfg, struct config_errors *errs);

/* --- look-ups ----------------------------------------------------------------------------------------------------- */

/* The entry of that name, else the one of "*", else NULL. */
const struct conf_database *config_database(const struct config *cfg, struct str name);
const struct conf_user *config_user(const struct config *cfg, struct str name);               /* or NULL */
const struct conf_application *config_application(const struct config *cfg, struct str name); /* or NULL */
const struct conf_peer *config_peer(const struct config *cfg, int id);                        /* or NULL */

/* Resolved values; db, user and app may be NULL. */
#define CONF_POOL_GETTER(type, field, global)                                                                          \
	type config_##field(const struct config *cfg, const struct conf_database *db, const struct conf_user *user);
CONF_POOL_KEYS(CONF_POOL_GETTER)
#undef CONF_POOL_GETTER

#define CONF_CLIENT_GETTER(type, field, global)                                                                        \
	type config_##field(const struct config *cfg, const struct conf_database *db, const struct conf_user *user,    \
	                    const struct conf_application *app);
CONF_CLIENT_KEYS(CONF_CLIENT_GETTER)
#define CONF_ROUTING_GETTER(type, field) CONF_CLIENT_GETTER(type, field, field)
CONF_ROUTING_KEYS(CONF_ROUTING_GETTER)
#undef CONF_ROUTING_GETTER
#undef CONF_CLIENT_GETTER

/* All routing keys at once, everything set: what a session starts from. */
struct conf_routing config_routing(const struct config *cfg, const struct conf_database *db,
                                   const struct conf_user *user, const struct conf_application *app);
/* `base` with all that `more` sets: session over entries, SET LOCAL over session, statement over both. */
struct conf_routing conf_routing_apply(struct conf_routing base, const struct conf_routing *more);

int config_max_pinned(const struct config *cfg, const struct conf_database *db, const struct conf_user *user);
int config_application_pool_size(const struct conf_application *app); /* 0: no cap; app may be NULL */
int config_peer_pool_size(const struct config *cfg, const struct conf_peer *peer);
const char *config_auth_user(const struct config *cfg, const struct conf_database *db);
const char *config_auth_query(const struct config *cfg, const struct conf_database *db);
const char *config_auth_dbname(const struct config *cfg, const struct conf_database *db);
/* application_name_add_host is told here as "%a - %h:%p". */
const char *config_application_name_format(const struct config *cfg, const struct conf_database *db);
enum log_level config_log_level(const struct config *cfg); /* verbose counted in */

/* The value of a global option, as text (owned by the caller; secrets masked), for SHOW CONFIG. */
char *config_option_text(const struct config *cfg, const struct conf_option *o) MUSTCHECK;

/* --- routing settings by name: SET pgweir.<key>, start-up options, hints ------------------------------------------ */

/* key without "pgweir.".  scope: SCOPE_SESSION or SCOPE_STATEMENT.  False: *why is a message for the client (owned by
 * the caller) and nothing has changed. */
bool conf_routing_set(struct conf_routing *routing, enum option_scope scope, struct str key, struct str value,
                      char **why) MUSTCHECK;
bool conf_routing_reset(struct conf_routing *routing, struct str key) MUSTCHECK; /* false: no such key */
/* SHOW pgweir.<key>, for a `routing` with everything set.  NULL: no such key.  Owned by the caller. */
char *conf_routing_show(const struct conf_routing *routing, struct str key) MUSTCHECK;

bool conf_parse_route(struct str word, enum route_mode *out) MUSTCHECK;
bool conf_parse_consistency(struct str word, enum consistency *out) MUSTCHECK;
const char *pool_mode_name(enum pool_mode mode);
const char *route_mode_name(enum route_mode mode);
const char *consistency_name(enum consistency level);
const char *load_balance_hosts_name(enum load_balance_hosts mode);
const char *conf_auth_type_name(enum conf_auth_type type);
const char *conf_sslmode_name(enum conf_sslmode mode);

#endif
