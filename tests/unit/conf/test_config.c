/* test_config.c - databases and other entries, connection strings, environment, precedence, SET and reload. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <pthread.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/config.h"
#include "conf/conninfo.h"

static struct config *load_text(const char *text, struct config_errors *errs)
{
	*errs = (struct config_errors){ 0 };
	return config_load_text("t.ini", text, strlen(text), errs);
}

/* Loads without any error or warning. */
static struct config *load(const char *text)
{
	struct config_errors errs;
	struct config *cfg = load_text(text, &errs);
	if (!cfg || errs.n)
		fail_msg("%s", errs.items[0].text);
	config_errors_free(&errs);
	return cfg;
}

static void expect_errors_of(struct config_errors *errs, const char *const *want, int n)
{
	for (int i = 0; i < n && i < errs->n; i++)
		assert_string_equal(errs->items[i].text, want[i]);
	assert_int_equal(errs->n, n);
	config_errors_free(errs);
}

static void refused(const char *text, const char *error)
{
	struct config_errors errs;
	struct config *cfg = load_text(text, &errs);
	if (cfg)
		fail_msg("taken: %s", text);
	expect_errors_of(&errs, &error, 1);
}

static void warned(const char *text, const char *warning)
{
	struct config_errors errs;
	struct config *cfg = load_text(text, &errs);
	assert_non_null(cfg);
	config_unref(cfg);
	expect_errors_of(&errs, &warning, 1);
}

static const struct conf_database *database(const struct config *cfg, const char *name)
{
	const struct conf_database *db = config_database(cfg, str_of(name));
	if (!db)
		fail_msg("no database %s", name);
	return db;
}

static void expect_host(const struct conf_database *db, int i, const char *host, int port)
{
	assert_true(i < db->n_hosts);
	assert_string_equal(db->hosts[i].host, host);
	assert_int_equal(db->hosts[i].port, port);
}

/* --- entries ------------------------------------------------------------------------------------------------------ */

static void test_databases(void **state)
{
	struct config *cfg =
	    load("[databases]\n"
	         "app = host=10.0.0.1,10.0.0.2 port=5432 dbname=real user=u password='it''s; a \\ \"pw\"'\n"
	         "two = host = a,b,[::1] port = 1,2,3 connect_query='SELECT 1; SELECT ''x'''\n"
	         "sock = host=/run/pg port=5433\n"
	         "\"my db\" = auth_user=au client_encoding=UTF8 datestyle=ISO timezone='Europe/Zurich'\n"
	         "* = host=any application_name=x load_balance_hosts=round-robin\n");
	const struct conf_database *db = database(cfg, "app");
	(void)state;
	assert_int_equal(cfg->n_databases, 5);
	expect_host(db, 0, "10.0.0.1", 5432);
	expect_host(db, 1, "10.0.0.2", 5432);
	assert_int_equal(db->n_hosts, 2);
	assert_string_equal(db->dbname, "real");
	assert_string_equal(db->password, "it's; a \\ \"pw\"");
	assert_null(db->connect_query);
	db = database(cfg, "two");
	expect_host(db, 0, "a", 1);
	expect_host(db, 2, "::1", 3);
	assert_null(db->dbname);
	assert_string_equal(db->connect_query, "SELECT 1; SELECT 'x'");
	expect_host(database(cfg, "sock"), 0, "/run/pg", 5433);
	db = database(cfg, "my db");
	expect_host(db, 0, "/tmp", 5432); /* no host: the socket folder */
	assert_string_equal(db->timezone, "Europe/Zurich");
	assert_string_equal(config_auth_user(cfg, db), "au");
	assert_string_equal(database(cfg, "else")->name, "*");
	assert_string_equal(database(cfg, "")->name, "*");
	config_unref(cfg);
	cfg = load("[databases]\na=\n");
	assert_null(config_database(cfg, STR("b")));
	config_unref(cfg);
}

static void test_uri_in_databases(void **state)
{
	struct config *cfg = load("[databases]\napp = postgresql://u:p%3Bw@h1:5432,h2:5433/real\n");
	const struct conf_database *db = database(cfg, "app");
	(void)state;
	expect_host(db, 1, "h2", 5433);
	assert_string_equal(db->dbname, "real");
	assert_string_equal(db->password, "p;w");
	config_unref(cfg);
	refused("[databases]\na = postgresql://h/d?sslmode=require\n",
	        "t.ini:2: sslmode: cannot stand in the URI of one database; use server_tls_sslmode in [pgweir]");
}

static void test_database_errors(void **state)
{
	(void)state;
	refused("[databases]\na = hots=x\n", "t.ini:2: \"hots\": unknown key in [databases]; did you mean \"host\"?");
	refused("[databases]\na = workers=1\n",
	        "t.ini:2: \"workers\": unknown key in [databases]; it belongs to [pgweir]");
	refused("[databases]\na = host=x port=70000\n",
	        "t.ini:2: database a: port: 70000 is out of range; use 1 to 65535");
	refused("[databases]\na = host=x port=pw\n", "t.ini:2: database a: port: this is not a port; use 1 to 65535");
	refused("[databases]\na = host=x,y,z port=1,2\n",
	        "t.ini:2: database a: port: 2 ports for 3 hosts; give one port, or one for each host");
	refused("[databases]\na = host=x:5432\n",
	        "t.ini:2: database a: host: \"x:5432\" is not a host name; write the port as port=");
	refused("[databases]\na = host='x y'\n",
	        "t.ini:2: database a: host: \"x y\" is not a host name; hosts are separated by commas");
	refused("[databases]\na = pool_size=-1\n",
	        "t.ini:2: database a: pool_size: \"-1\" is out of range; use 0 to 1000000");
	refused("[databases]\na = pool_mode=fast\n",
	        "t.ini:2: database a: pool_mode: \"fast\" is not one of session, transaction, statement");
	refused("[databases]\na = load_balance_hosts=random\n",
	        "t.ini:2: database a: load_balance_hosts: \"random\" is not one of round-robin, disable");
	refused("[databases]\na = host\n",
	        "t.ini:2: a: \"host\" has no value; write key=value, and a value with blanks in single quotes");
	refused("[databases]\na = =x\n", "t.ini:2: a: \"\" is no key: there is nothing before =");
	refused("[databases]\na = password='secret\n",
	        "t.ini:2: a: \"password\" has a value whose closing quote is missing");
	refused("[databases]\na = password='sec'ret'\n",
	        "t.ini:2: a: \"password\" has text right behind its closing quote; a quote in a value is doubled");
	refused("[databases]\npgbouncer = host=x\n",
	        "t.ini:2: [databases]: \"pgbouncer\" is the name of the admin console; use another one");
	refused("[databases]\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa = host=x\n",
	        "t.ini:2: [databases]: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...\" is longer "
	        "than the 63 "
	        "bytes that PostgreSQL allows for a name");
}

static void test_other_entries(void **state)
{
	struct config *cfg =
	    load("[users]\nann = pool_mode=transaction max_user_connections=3 query_timeout=1.5\n"
	         "[applications]\n\"nightly report\" = route=replica consistency=eventual pool_size=5\n"
	         "[peers]\n1 = host=/tmp/a\n2 = host=10.0.0.9 port=6433 pool_size=2\n");
	const struct conf_user *user = config_user(cfg, STR("ann"));
	const struct conf_application *app = config_application(cfg, STR("nightly report"));
	(void)state;
	assert_non_null(user);
	assert_non_null(app);
	assert_int_equal(config_pool_mode(cfg, NULL, user), POOL_MODE_TRANSACTION);
	assert_int_equal(config_query_timeout_us(cfg, NULL, user, NULL), 1500000);
	assert_int_equal(config_application_pool_size(app), 5);
	assert_int_equal(config_application_pool_size(NULL), 0);
	assert_int_equal(config_route(cfg, NULL, NULL, app), ROUTE_MODE_REPLICA);
	assert_null(config_user(cfg, STR("anne")));
	assert_null(config_user(cfg, STR("an")));
	assert_int_equal(config_peer(cfg, 1)->port, 6432);
	assert_int_equal(config_peer_pool_size(cfg, config_peer(cfg, 1)), 20);
	assert_int_equal(config_peer_pool_size(cfg, config_peer(cfg, 2)), 2);
	assert_null(config_peer(cfg, 3));
	config_unref(cfg);
	refused("[users]\na = host=x\n", "t.ini:2: \"host\": unknown key in [users]; it belongs to [databases]");
	refused("[users]\n* = pool_size=1\n", "t.ini:2: [users]: \"*\" is possible in [databases] only");
	refused("[peers]\n0 = host=x\n", "t.ini:2: [peers]: \"0\" is not a peer id; use 1 to 65535");
	refused("[peers]\n1 = port=1\n", "t.ini:2: 1: a peer needs host=");
}

static void test_sections(void **state)
{
	(void)state;
	struct config *cfg = load("[pgbouncer]\nlisten_port=1234\n[pgweir]\nmax_client_conn=5\n");
	assert_int_equal(cfg->listen_port, 1234);
	assert_int_equal(cfg->max_client_conn, 5);
	config_unref(cfg);
	refused("[database]\na = host=x\nb = host=y\n",
	        "t.ini:2: unknown section \"database\"; did you mean \"databases\"?");
	refused("[nonsense]\na = 1\n", "t.ini:2: unknown section \"nonsense\"");
	refused("listen_port = 1\n", "t.ini:1: a key before the first section; begin with [databases] or [pgweir]");
}

static void test_all_errors_are_told(void **state)
{
	static const char *const want[] = {
		"t.ini:2: listen_port: \"x\" is not a whole number; use 1 to 65535",
		"t.ini:3: \"pol_mode\": unknown key in [pgweir]; did you mean \"pool_mode\"?",
		"t.ini:4: expected key = value, [section], %include or a comment",
		"t.ini:6: \"hots\": unknown key in [databases]; did you mean \"host\"?",
	};
	struct config_errors errs;
	(void)state;
	assert_null(
	    load_text("[pgweir]\nlisten_port = x\npol_mode = session\nhello\n[databases]\na = hots=1\n", &errs));
	expect_errors_of(&errs, want, 4);
}

static void test_errors_are_bounded(void **state)
{
	struct config_errors errs;
	char *text = mem_zalloc(1 << 16);
	(void)state;
	memcpy(text, "[pgweir]\n", 9);
	for (int i = 0; i < 1000; i++)
		memcpy(text + 9 + i * 4, "x=1\n", 4);
	assert_null(load_text(text, &errs));
	assert_int_equal(errs.n, CONFIG_ERRORS_MAX);
	assert_int_equal(errs.n_errors, 1000);
	assert_int_equal(errs.n_dropped, 1000 - CONFIG_ERRORS_MAX);
	config_errors_free(&errs);
	mem_free(text);
}

static void test_twice(void **state)
{
	(void)state;
	warned("[pgweir]\nlisten_port=1\nlisten_port=2\n",
	       "t.ini:3: listen_port: given again; this replaces what t.ini:2 says");
	warned("[databases]\na=host=x user=u\na=host=y\n", "t.ini:3: a: given again; this replaces what t.ini:2 says");
	struct config_errors errs;
	struct config *cfg = load_text("[databases]\na=host=x user=u\na=host=y\n", &errs);
	assert_int_equal(cfg->n_databases, 1);
	assert_string_equal(database(cfg, "a")->host, "y");
	assert_null(database(cfg, "a")->user);
	config_unref(cfg);
	config_errors_free(&errs);
}

static void test_rules_between_keys(void **state)
{
	(void)state;
	refused("[pgweir]\nclient_tls_sslmode=require\n",
	        "t.ini:2: client_tls_sslmode: TLS from clients needs client_tls_key_file and client_tls_cert_file");
	refused("[pgweir]\nserver_tls_key_file=k\n",
	        "t.ini:2: server_tls_key_file: server_tls_key_file and server_tls_cert_file go together");
	refused("[pgweir]\nserver_tls_cert_file=k\n",
	        "t.ini:2: server_tls_cert_file: server_tls_key_file and server_tls_cert_file go together");
	refused("[pgweir]\nauth_type=cert\n", "t.ini:2: auth_type: cert needs client_tls_sslmode = verify-full");
	refused("[pgweir]\nauth_type=hba\n", "t.ini:2: auth_type: hba needs auth_hba_file");
	warned("[pgweir]\nunix_socket_dir=\n",
	       "listen_addr: there is nothing to listen on unless the service manager passes "
	       "sockets; set listen_addr or unix_socket_dir");
	config_unref(load("[pgweir]\nclient_tls_sslmode=verify-full\nclient_tls_key_file=k\nclient_tls_cert_file=c\n"
	                  "client_tls_ca_file=a\nauth_type=cert\n"));
}

/* Each key of PgBouncer's documentation in one file, the shape of a file that is in use today. */
static void test_a_pgbouncer_ini_loads(void **state)
{
	struct config *cfg =
	    load(";; database name = connect string\n[databases]\n"
	         "bardb = host=localhost dbname=bazdb\n"
	         "forcedb = host=localhost port=300 user=baz password=foo client_encoding=UNICODE datestyle=ISO "
	         "connect_query='SELECT 1'\n"
	         "nondefaultdb = pool_size=50 reserve_pool=10 min_pool_size=1 max_db_connections=60\n"
	         "foodb = auth_user=bar auth_query='SELECT * FROM f($1)' auth_dbname=x query_wait_timeout=3 "
	         "server_lifetime=60 max_db_client_connections=7\n"
	         "[users]\nuser1 = pool_mode=transaction max_user_connections=10 max_user_client_connections=9 "
	         "pool_size=3 reserve_pool_size=1 query_timeout=1 query_wait_timeout=2 "
	         "idle_transaction_timeout=3 transaction_timeout=4 client_idle_timeout=5\n"
	         "[peers]\n1 = host=/tmp/p1 port=6432 pool_size=1\n"
	         "[pgbouncer]\nlogfile = /var/log/postgresql/pgbouncer.log\n"
	         "pidfile = /var/run/postgresql/pgbouncer.pid\nlisten_addr = localhost\nlisten_port = 6432\n"
	         "unix_socket_dir = /var/run/postgresql\nunix_socket_mode = 0777\nauth_type = md5\n"
	         "auth_file = /etc/pgbouncer/userlist.txt\nadmin_users = user2, someadmin, otheradmin\n"
	         "stats_users = stats, root\npool_mode = session\nserver_reset_query = DISCARD ALL\n"
	         "ignore_startup_parameters = extra_float_digits, options\nserver_check_query = select 1\n"
	         "server_check_delay = 30\nmax_client_conn = 100\nserver_lifetime = 3600\n"
	         "query_wait_timeout = 120\ntcp_keepalive = 1\n");
	const struct conf_database *db = database(cfg, "nondefaultdb"), *foo = database(cfg, "foodb");
	const struct conf_user *user = config_user(cfg, STR("user1"));
	(void)state;
	assert_int_equal(config_pool_size(cfg, db, NULL), 50);
	assert_int_equal(config_reserve_pool_size(cfg, db, NULL), 10);
	assert_int_equal(config_max_db_connections(cfg, db, NULL), 60);
	assert_int_equal(config_pool_size(cfg, db, user), 3);
	assert_int_equal(config_query_wait_timeout_us(cfg, foo, NULL, NULL), 3000000);
	assert_int_equal(config_query_wait_timeout_us(cfg, foo, user, NULL), 2000000);
	assert_int_equal(config_server_lifetime_us(cfg, foo, NULL), 60000000);
	assert_string_equal(config_auth_query(cfg, foo), "SELECT * FROM f($1)");
	assert_true(conf_list_has(&cfg->admin_users, STR("someadmin")));
	assert_false(conf_list_has(&cfg->admin_users, STR("some")));
	assert_int_equal(cfg->ignore_startup_parameters.n, 2);
	config_unref(cfg);
}

static void test_shipped_files_load(void **state)
{
	static const char *const files[] = { "conf/minimal.ini", "conf/pgweir.ini" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct config_errors errs = { 0 };
		struct config_source source = { .path = files[i] };
		struct config *cfg = config_load(&source, &errs);
		if (!cfg || errs.n)
			fail_msg("%s", errs.items[0].text);
		assert_int_equal(cfg->pool_mode, i == 0 ? POOL_MODE_TRANSACTION : POOL_MODE_SESSION);
		assert_string_equal(cfg->conffile, files[i]);
		config_unref(cfg);
	}
}

/* --- precedence --------------------------------------------------------------------------------------------------- */

static void test_precedence(void **state)
{
	struct config *cfg =
	    load("[databases]\nd = consistency=session replica_wait=1ms log_min_duration=off pool_size=7\n"
	         "e = host=x\n[users]\nu = consistency=eventual pool_mode=statement\n"
	         "[applications]\na = consistency=strong pool_size=2\n[pgweir]\nmax_pinned = 4\n");
	const struct conf_database *d = database(cfg, "d"), *e = database(cfg, "e");
	const struct conf_user *u = config_user(cfg, STR("u"));
	const struct conf_application *a = config_application(cfg, STR("a"));
	(void)state;
	assert_int_equal(config_consistency(cfg, NULL, NULL, NULL), CONSISTENCY_DATABASE);
	assert_int_equal(config_consistency(cfg, e, NULL, NULL), CONSISTENCY_DATABASE);
	assert_int_equal(config_consistency(cfg, d, NULL, NULL), CONSISTENCY_SESSION);
	assert_int_equal(config_consistency(cfg, d, u, NULL), CONSISTENCY_EVENTUAL);
	assert_int_equal(config_consistency(cfg, d, u, a), CONSISTENCY_STRONG);
	assert_int_equal(config_replica_wait_us(cfg, d, u, a), 1000);
	assert_int_equal(config_replica_wait_us(cfg, e, u, a), 10000);
	assert_true(config_log_min_duration_us(cfg, d, u, NULL) == CONF_NEVER_US);
	assert_int_equal(config_log_min_duration_us(cfg, e, u, NULL), 100000);
	assert_int_equal(config_pool_size(cfg, d, u), 7); /* an application's is a cap, not a size */
	assert_int_equal(config_pool_mode(cfg, d, u), POOL_MODE_STATEMENT);
	assert_int_equal(config_max_pinned(cfg, d, u), 4);
	config_unref(cfg);
	cfg = load("[databases]\nd = pool_size=7\ne = max_pinned=0\n");
	assert_int_equal(config_max_pinned(cfg, database(cfg, "d"), NULL), 7);
	assert_int_equal(config_max_pinned(cfg, database(cfg, "e"), NULL), 0);
	config_unref(cfg);
}

static void test_application_name_format(void **state)
{
	struct config *cfg =
	    load("[databases]\nd = application_name_format='%a-%d'\ne=\n[pgweir]\napplication_name_add_host=1\n");
	(void)state;
	assert_string_equal(config_application_name_format(cfg, database(cfg, "d")), "%a-%d");
	assert_string_equal(config_application_name_format(cfg, database(cfg, "e")), "%a - %h:%p");
	assert_string_equal(config_application_name_format(cfg, NULL), "%a - %h:%p");
	config_unref(cfg);
}

static void test_session_settings(void **state)
{
	struct config *cfg = config_new();
	struct conf_routing base = config_routing(cfg, NULL, NULL, NULL), session = { 0 };
	char *why = NULL;
	(void)state;
	assert_true(conf_routing_set(&session, SCOPE_SESSION, STR("Route"), STR(" primary "), &why));
	assert_true(conf_routing_set(&session, SCOPE_STATEMENT, STR("consistency"), STR("eventual"), &why));
	assert_int_equal(conf_routing_apply(base, &session).route, ROUTE_MODE_PRIMARY);
	assert_int_equal(conf_routing_apply(base, &session).replica_wait_us, 10000);
	char *shown = conf_routing_show(&base, STR("replica_wait"));
	assert_string_equal(shown, "10ms");
	mem_free(shown);
	assert_null(conf_routing_show(&base, STR("nope")));
	assert_false(conf_routing_set(&session, SCOPE_SESSION, STR("route"), STR("away"), &why));
	assert_string_equal(why, "\"away\" is not one of auto, primary, replica");
	mem_free(why);
	assert_int_equal(session.route, ROUTE_MODE_PRIMARY);
	assert_false(conf_routing_set(&session, SCOPE_STATEMENT, STR("transaction_reads"), STR("replica"), &why));
	mem_free(why);
	assert_false(conf_routing_set(&session, SCOPE_SESSION, STR("listen_port"), STR("1"), &why));
	assert_string_equal(why, "unknown setting \"listen_port\"");
	mem_free(why);
	assert_true(conf_routing_reset(&session, STR("route")));
	assert_false(conf_routing_reset(&session, STR("listen_port")));
	assert_int_equal(conf_routing_apply(base, &session).route, ROUTE_MODE_AUTO);
	config_unref(cfg);
}

static void test_words(void **state)
{
	enum route_mode route = ROUTE_MODE_AUTO;
	enum consistency consistency = CONSISTENCY_DATABASE;
	(void)state;
	assert_true(conf_parse_route(STR("Replica"), &route));
	assert_int_equal(route, ROUTE_MODE_REPLICA);
	assert_false(conf_parse_route(STR(""), &route));
	assert_true(conf_parse_consistency(STR("strong"), &consistency));
	assert_int_equal(consistency, CONSISTENCY_STRONG);
	assert_false(conf_parse_consistency(STR("stron"), &consistency));
	assert_string_equal(pool_mode_name(POOL_MODE_STATEMENT), "statement");
	assert_string_equal(route_mode_name(ROUTE_MODE_PRIMARY), "primary");
	assert_string_equal(consistency_name(CONSISTENCY_EVENTUAL), "eventual");
	assert_string_equal(load_balance_hosts_name(LOAD_BALANCE_DISABLE), "disable");
	assert_string_equal(conf_auth_type_name(CONF_AUTH_PLAIN), "plain");
	assert_string_equal(conf_sslmode_name(CONF_SSL_VERIFY_CA), "verify-ca");
}

/* --- connection strings, environment, command line ---------------------------------------------------------------- */

static struct config *load_uri(const char *uri, struct config_errors *errs)
{
	struct config_source source = { .uri = uri };
	*errs = (struct config_errors){ 0 };
	return config_load(&source, errs);
}

static void test_uri(void **state)
{
	struct config_errors errs;
	struct config *cfg =
	    load_uri("postgresql://us%20er:p%40w%3B@h1:5432,h2:5433/app?sslmode=verify-full&sslrootcert=/ca"
	             "&application_name=me&connect_timeout=3",
	             &errs);
	(void)state;
	assert_non_null(cfg);
	assert_int_equal(errs.n, 0);
	static const char *const names[] = { "app", "other" };
	for (int i = 0; i < 2; i++) {
		const struct conf_database *db = database(cfg, names[i]);
		expect_host(db, 0, "h1", 5432);
		expect_host(db, 1, "h2", 5433);
		assert_string_equal(db->user, "us er");
		assert_string_equal(db->password, "p@w;");
		assert_string_equal(db->application_name, "me");
		assert_null(db->dbname);
	}
	assert_string_equal(database(cfg, "app")->name, "app");
	assert_string_equal(config_user(cfg, STR("us er"))->password, "p@w;");
	assert_int_equal(cfg->pool_mode, POOL_MODE_TRANSACTION);
	assert_string_equal(cfg->listen_addr.items[0], "127.0.0.1");
	assert_int_equal(cfg->server_tls_sslmode, CONF_SSL_VERIFY_FULL);
	assert_string_equal(cfg->server_tls_ca_file, "/ca");
	assert_int_equal(cfg->server_connect_timeout_us, 3000000);
	config_unref(cfg);
}

static void test_uri_forms(void **state)
{
	struct config_errors errs;
	struct config *cfg = load_uri("postgres:///app?host=/run/pg,/run/pg2&port=5433&user=u&password=p", &errs);
	(void)state;
	assert_int_equal(errs.n, 0);
	expect_host(database(cfg, "app"), 1, "/run/pg2", 5433);
	config_unref(cfg);
	cfg = load_uri("postgresql://u:p@%2Frun%2Fpg/app", &errs);
	expect_host(database(cfg, "app"), 0, "/run/pg", 5432);
	config_unref(cfg);
	cfg = load_uri("host=h1,h2 port=6000 user=u password='a\\'b c' dbname=app target_session_attrs=any", &errs);
	assert_string_equal(database(cfg, "app")->password, "a'b c");
	expect_host(database(cfg, "app"), 1, "h2", 6000);
	assert_int_equal(errs.n, 1);
	assert_int_equal(errs.items[0].severity, CONFIG_NOTICE);
	config_errors_free(&errs);
	config_unref(cfg);
	cfg = load_uri("postgresql://u:p@[2001:db8::1]:5432", &errs);
	expect_host(database(cfg, "anything"), 0, "2001:db8::1", 5432);
	assert_int_equal(cfg->n_databases, 1);
	config_unref(cfg);
	cfg = load_uri("postgresql://u@h/app", &errs);
	assert_int_equal(errs.n, 1); /* no password: a warning */
	assert_int_equal(errs.items[0].severity, CONFIG_WARNING);
	config_errors_free(&errs);
	config_unref(cfg);
}

/* Whatever is wrong, a password is never repeated. */
static void test_uri_errors_show_no_secret(void **state)
{
	static const char *const bad[] = {
		"postgresql://u:hunter2[h/d",
		"postgresql://u:hunter2@[h/d",
		"postgresql://u:hunter2@h:x/d",
		"postgresql://u:hunter2%zz@h/d",
		"postgresql://u:hunter2@h/d?nonsense=1",
		"host=h password=a hunter2",
		"password='hunter2",
		"postgresql://u:hunter2@h/d?sslmode=hm",
		"postgresql://u:hunter2,h",
		"postgresql://u:hunter2@h/d?a=b=c",
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct config_errors errs;
		struct config *cfg = load_uri(bad[i], &errs);
		if (cfg)
			fail_msg("taken: %s", bad[i]);
		assert_true(errs.n_errors > 0);
		for (int k = 0; k < errs.n; k++) {
			if (strstr(errs.items[k].text, "hunter2"))
				fail_msg("shows the password: %s", errs.items[k].text);
		}
		config_errors_free(&errs);
	}
}

static void test_environment(void **state)
{
	static const char *const env[] = { "PATH=/bin", "PGWEIR_LISTEN_PORT=7000",      "PGWEIR_POOL_MODE=statement",
		                           "PGWEIR_x",  "PGWEIR_SERVICE_HOST=10.0.0.1", NULL };
	static const char *const settings[] = { "pool_mode=transaction", "user = me", NULL };
	struct config_errors errs = { 0 };
	struct config_source source = { .path = "conf/minimal.ini", .env = env, .settings = settings };
	struct config *cfg = config_load(&source, &errs);
	(void)state;
	assert_non_null(cfg);
	assert_int_equal(errs.n, 0);
	assert_int_equal(cfg->listen_port, 7000);
	assert_int_equal(cfg->pool_mode, POOL_MODE_TRANSACTION);
	assert_string_equal(cfg->user, "me");
	config_unref(cfg);
}

static void test_environment_errors(void **state)
{
	static const char *const env[] = { "PGWEIR_LISTEN_PORT=x", "PGWEIR_LISTN_PORT=1", NULL };
	static const char *const settings[] = { "listen_prt=1", "verbose", NULL };
	static const char *const want[] = {
		"environment: listen_port: \"x\" is not a whole number; use 1 to 65535",
		"environment: PGWEIR_LISTN_PORT: ignored; did you mean the key \"listen_port\"?",
		"command line: \"listen_prt\": unknown key in [pgweir]; did you mean \"listen_port\"?",
		"command line: verbose: expected key=value",
	};
	struct config_errors errs = { 0 };
	struct config_source source = { .env = env, .settings = settings };
	(void)state;
	assert_null(config_load(&source, &errs));
	expect_errors_of(&errs, want, 4);
}

/* --- SET, reload, sharing ----------------------------------------------------------------------------------------- */

static void expect_set(struct config *cfg, const char *key, const char *value, const char *error)
{
	char *why = NULL;
	bool ok = config_set(cfg, str_of(key), str_of(value), &why);
	assert_int_equal(ok, error == NULL);
	if (error)
		assert_string_equal(why, error);
	mem_free(why);
}

static void test_set(void **state)
{
	struct config *cfg = config_new(), *copy = config_copy(cfg);
	(void)state;
	expect_set(copy, "default_pool_size", "33", NULL);
	assert_int_equal(copy->default_pool_size, 33);
	assert_int_equal(cfg->default_pool_size, 20);
	expect_set(copy, "DEFAULT_POOL_SIZE", "x", "\"x\" is not a whole number; use 0 to 1000000");
	expect_set(copy, "listen_port", "1", "\"listen_port\" cannot be changed without a restart");
	expect_set(copy, "default_pol_size", "1",
	           "unknown key \"default_pol_size\"; did you mean \"default_pool_size\"?");
	expect_set(copy, "client_tls_sslmode", "require",
	           "client_tls_sslmode: TLS from clients needs client_tls_key_file and client_tls_cert_file");
	assert_int_equal(copy->client_tls_sslmode, CONF_SSL_DISABLE);
	expect_set(copy, "admin_users", "a, b", NULL);
	expect_set(copy, "server_tls_key_file", "k", NULL); /* its other half may follow */
	assert_string_equal(copy->server_tls_key_file, "k");
	assert_int_equal(copy->admin_users.n, 2);
	assert_int_equal(cfg->admin_users.n, 0);
	config_unref(copy);
	config_unref(cfg);
}

static const struct config_change *change(const struct config_changes *changes, const char *section, const char *key)
{
	for (int i = 0; i < changes->n; i++) {
		if (strcmp(changes->items[i].section, section) == 0 && strcmp(changes->items[i].key, key) == 0)
			return &changes->items[i];
	}
	fail_msg("no change of %s.%s", section, key);
	return NULL;
}

static void test_diff(void **state)
{
	struct config *a = load("[databases]\na=host=x password=old\nb=host=y\nc=host=z\n[users]\nu=pool_size=1\n"
	                        "[pgweir]\nlisten_port=1\nquery_timeout=1\nmonitor_password=s1\n");
	struct config *b =
	    load("[databases]\na=host=x password=new\nb=host=y\nd=host=z pool_size=3\n[users]\nu=pool_size=0\n"
	         "[pgweir]\nlisten_port=2\nquery_timeout=2\nmonitor_password=s2\n");
	struct config_changes changes = config_diff(a, b);
	(void)state;
	assert_int_equal(changes.n, 7);
	assert_true(change(&changes, "pgweir", "listen_port")->restart);
	assert_false(change(&changes, "pgweir", "query_timeout")->restart);
	assert_string_equal(change(&changes, "pgweir", "query_timeout")->old_text, "1");
	assert_string_equal(change(&changes, "pgweir", "monitor_password")->new_text, "****");
	assert_string_equal(change(&changes, "databases", "a")->new_text, "host=x password=****");
	assert_null(change(&changes, "databases", "c")->new_text);
	assert_null(change(&changes, "databases", "d")->old_text);
	assert_string_equal(change(&changes, "databases", "d")->new_text, "pool_size=3 host=z");
	assert_string_equal(change(&changes, "users", "u")->new_text, "pool_size=0"); /* 0 is set, and not unset */
	config_changes_free(&changes);
	config_unref(a);
	config_unref(b);
}

static void test_restart_keys_are_kept(void **state)
{
	static const char *const want[] = {
		"listen_port: \"2\" takes effect at a restart; until then it stays \"1\"",
		"unix_socket_dir: \"/b\" takes effect at a restart; until then it stays \"/a\"",
	};
	struct config *a = load("[databases]\nd=\n[pgweir]\nlisten_port=1\nunix_socket_dir=/a\nquery_timeout=1\n");
	struct config *b = load("[databases]\nd=\n[pgweir]\nlisten_port=2\nunix_socket_dir=/b\nquery_timeout=2\n");
	struct config_errors errs = { 0 };
	(void)state;
	config_keep_restart_keys(b, a, &errs);
	assert_int_equal(b->listen_port, 1);
	assert_int_equal(b->query_timeout_us, 2000000);
	expect_host(database(b, "d"), 0, "/a", 5432);
	expect_errors_of(&errs, want, 2);
	config_unref(a);
	config_unref(b);
}

static void test_copy_is_deep(void **state)
{
	struct config *a =
	    load("[databases]\na=host=x,y password=p read_only_functions='f,g'\n[users]\nu=pool_size=1\n"
	         "[applications]\nz=route=replica\n[peers]\n1=host=q\n[pgweir]\nhttp_addr=127.0.0.1:1\n");
	struct config *b = config_copy(a);
	struct config_changes changes = config_diff(a, b);
	(void)state;
	assert_int_equal(changes.n, 0);
	config_unref(a);
	expect_host(database(b, "a"), 1, "y", 5432);
	assert_int_equal(database(b, "a")->read_only_functions.n, 2);
	assert_string_equal(b->http_host, "127.0.0.1");
	assert_int_equal(b->http_port, 1);
	assert_int_equal(b->peers[0].id, 1);
	config_unref(b);
	config_changes_free(&changes);
}

static void *ref_and_unref(void *arg)
{
	for (int i = 0; i < 20000; i++)
		config_unref(config_ref(arg));
	return NULL;
}

static void test_references_are_thread_safe(void **state)
{
	struct config *cfg = config_new();
	pthread_t threads[3];
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ref_and_unref, cfg), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&cfg->refs), 1);
	config_unref(cfg);
	config_unref(NULL);
}

static void test_many_databases(void **state)
{
	enum { N = 2000 };
	char *text = mem_zalloc(N * 40), name[32];
	size_t at = (size_t)snprintf(text, 40, "[databases]\n");
	(void)state;
	for (int i = 0; i < N; i++)
		at += (size_t)snprintf(text + at, 40, "db%d = host=h port=%d\n", (i * 7919) % N, (i * 7919) % N + 1);
	struct config *cfg = load(text);
	assert_int_equal(cfg->n_databases, N);
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "db%d", i);
		expect_host(database(cfg, name), 0, "h", i + 1);
	}
	config_unref(cfg);
	mem_free(text);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_databases),
		cmocka_unit_test(test_uri_in_databases),
		cmocka_unit_test(test_database_errors),
		cmocka_unit_test(test_other_entries),
		cmocka_unit_test(test_sections),
		cmocka_unit_test(test_all_errors_are_told),
		cmocka_unit_test(test_errors_are_bounded),
		cmocka_unit_test(test_twice),
		cmocka_unit_test(test_rules_between_keys),
		cmocka_unit_test(test_a_pgbouncer_ini_loads),
		cmocka_unit_test(test_shipped_files_load),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_application_name_format),
		cmocka_unit_test(test_session_settings),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_uri),
		cmocka_unit_test(test_uri_forms),
		cmocka_unit_test(test_uri_errors_show_no_secret),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_environment_errors),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_diff),
		cmocka_unit_test(test_restart_keys_are_kept),
		cmocka_unit_test(test_copy_is_deep),
		cmocka_unit_test(test_references_are_thread_safe),
		cmocka_unit_test(test_many_databases),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
