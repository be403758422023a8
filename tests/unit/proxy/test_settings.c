/* Settings: start-up options, the difference between two sets as SQL, the tag of a client. */
#include <stdio.h>
#include "proxy/settings.h"
#include "session.h"

/* --- names --- */

static void test_tracked_names(void **state)
{
	(void)state;
	assert_true(settings_is_tracked(STR("application_name")));
	assert_true(settings_is_tracked(STR("TimeZone")));
	assert_true(settings_is_tracked(STR("search_path")));
	assert_false(settings_is_tracked(STR("work_mem")));
	assert_false(settings_is_tracked(STR("timezon")));
	assert_false(settings_is_tracked(STR("")));
}

/* A name goes into a SET as it is: nothing else than a name may pass. */
static void test_valid_names(void **state)
{
	(void)state;
	static const char *const good[] = { "work_mem", "app.tenant", "A1", "x$y", "a.b.c" };
	static const char *const bad[] = { "",     "a b",  "a;b",      "a'b", "a\"b", "a-b",
		                           "a\\b", "a\nb", "\xc3\xa4", "a=b", "a(b" };
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(settings_name_is_valid(str_of(good[i])));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(settings_name_is_valid(str_of(bad[i])));
	assert_false(settings_name_is_valid(STR("a\0b")));
	char text[128];
	memset(text, 'a', sizeof text);
	assert_true(settings_name_is_valid((struct str){ text, 127 }));
	assert_false(settings_name_is_valid((struct str){ text, 128 }));
}

static void test_clean_name(void **state)
{
	(void)state;
	char *s = settings_clean_name(STR("my app\t.\xc3\xa4.\x7f~"));
	assert_string_equal(s, "my app?.??.?~");
	mem_free(s);
	char text[100];
	memset(text, 'x', sizeof text);
	s = settings_clean_name((struct str){ text, sizeof text });
	assert_int_equal(strlen(s), 63); /* NAMEDATALEN - 1 */
	mem_free(s);
}

/* --- options --- */

/* "name=value;..." of all settings, with '!' behind when something else stood there. */
static void assert_options(const char *options, const char *expected)
{
	struct settings_options o;
	struct str name, value;
	char out[256] = "";
	size_t n = 0;
	settings_options_begin(&o, str_of(options));
	while (settings_options_next(&o, &name, &value))
		n +=
		    (size_t)snprintf(out + n, sizeof out - n, "%.*s=%.*s;", (int)name.n, name.p, (int)value.n, value.p);
	(void)snprintf(out + n, sizeof out - n, "%s", o.bad ? "!" : "");
	settings_options_end(&o);
	assert_string_equal(out, expected);
}

static void test_options(void **state)
{
	(void)state;
	static const struct {
		const char *options, *expected;
	} rows[] = {
		{ "", "" },
		{ "  \t\n ", "" },
		{ "-c work_mem=4MB", "work_mem=4MB;" },
		{ "-cwork_mem=4MB", "work_mem=4MB;" },
		{ "--work_mem=4MB", "work_mem=4MB;" },
		{ "--work-mem=4MB", "work_mem=4MB;" },
		{ "-c work-mem=a-b", "work_mem=a-b;" },
		{ "  -c a=1   -c\tb=2 --c=3  ", "a=1;b=2;c=3;" },
		{ "-c search_path=a,\\ b", "search_path=a, b;" },
		{ "-c x=a\\\\b", "x=a\\b;" },
		{ "-c x=", "x=;" },
		{ "-c x=a=b", "x=a=b;" },
		{ "-c pgweir.route=primary", "pgweir.route=primary;" },
		{ "-c", "!" },
		{ "-c x", "!" },
		{ "--x", "!" },
		{ "--", "!" },
		{ "-W 3", "!" },
		{ "-c a=1 nonsense -c b=2", "a=1;!" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_options(rows[i].options, rows[i].expected);
}

/* A NUL cannot stand in a start-up packet's string, but lengths must not depend on that. */
static void test_options_are_not_read_beyond_their_end(void **state)
{
	(void)state;
	struct settings_options o;
	struct str name, value;
	settings_options_begin(&o, (struct str){ "-c a=1\\ trailing", 7 });
	assert_true(settings_options_next(&o, &name, &value));
	assert_true(str_eq(name, STR("a")));
	assert_false(settings_options_next(&o, &name, &value));
	settings_options_end(&o);
}

/* --- difference --- */

static struct params_table table;

static int table_setup(void **state)
{
	(void)state;
	params_table_init(&table);
	return 0;
}

static int table_teardown(void **state)
{
	(void)state;
	unsigned left = HASH_COUNT(table.by_key);
	params_table_deinit(&table);
	return left == 1 ? 0 : -1;
}

static struct params *make(const char *const pairs[][2], size_t n)
{
	struct params *p = params_ref(table.empty);
	for (size_t i = 0; i < n; i++)
		params_set(&table, &p, str_of(pairs[i][0]), str_of(pairs[i][1]));
	return p;
}

static void assert_diff(const struct params *from, const struct params *to, const char *const *expected, size_t n)
{
	struct settings_diff d = { .from = from, .to = to };
	struct buf sql = { 0 };
	for (size_t i = 0; i < n; i++) {
		assert_true(settings_diff_next(&d, &sql));
		assert_string_equal((const char *)buf_head(&sql), expected[i]);
		assert_int_equal(buf_len(&sql), strlen(expected[i]) + 1);
	}
	assert_false(settings_diff_next(&d, &sql));
	buf_deinit(&sql);
}

static void test_difference(void **state)
{
	(void)state;
	const char *const from[][2] = { { "application_name", "a" }, { "timezone", "UTC" }, { "work_mem", "4MB" } };
	const char *const to[][2] = { { "application_name", "b" }, { "datestyle", "ISO, DMY" }, { "work_mem", "4MB" } };
	const char *const there[] = { "SET application_name TO E'b'", "SET datestyle TO E'ISO, DMY'",
		                      "RESET timezone" };
	const char *const back[] = { "SET application_name TO E'a'", "RESET datestyle", "SET timezone TO E'UTC'" };
	struct params *a = make(from, ARRAY_LEN(from)), *b = make(to, ARRAY_LEN(to));
	assert_diff(a, b, there, ARRAY_LEN(there));
	assert_diff(b, a, back, ARRAY_LEN(back));
	assert_diff(a, a, NULL, 0);
	assert_diff(table.empty, table.empty, NULL, 0);
	params_unref(&table, a);
	params_unref(&table, b);
}

/* Values come from start-up packets: none may end its literal. */
static void test_values_are_quoted(void **state)
{
	(void)state;
	const char *const to[][2] = { { "a", "'; drop table t; --" }, { "b", "\\'" }, { "c", "" }, { "d", "\\\\" } };
	const char *const expected[] = { "SET a TO E'''; drop table t; --'", "SET b TO E'\\\\'''", "SET c TO E''",
		                         "SET d TO E'\\\\\\\\'" };
	struct params *b = make(to, ARRAY_LEN(to));
	assert_diff(table.empty, b, expected, ARRAY_LEN(expected));
	params_unref(&table, b);
}

/* SET search_path TO 'a, b' would make one schema named "a, b".  What SET has written is written by SET again; all else
 * must show as it was. */
static void test_lists_of_names(void **state)
{
	(void)state;
	static const struct {
		const char *value, *sql;
	} rows[] = {
		{ "a, b", "SET search_path TO E'a', E'b'" },
		{ "\"$user\", public", "SET search_path TO E'$user', E'public'" },
		{ "\"B \"\"c\", _x1", "SET search_path TO E'B \"c', E'_x1'" },
		{ "a,b", "SELECT pg_catalog.set_config( E'search_path', E'a,b', false)" },
		{ "Aa", "SELECT pg_catalog.set_config( E'search_path', E'Aa', false)" },
		{ "\"plain\"", "SELECT pg_catalog.set_config( E'search_path', E'\"plain\"', false)" },
		{ "", "SELECT pg_catalog.set_config( E'search_path', E'', false)" },
		{ "\"open", "SELECT pg_catalog.set_config( E'search_path', E'\"open', false)" },
		{ "a, ", "SELECT pg_catalog.set_config( E'search_path', E'a, ', false)" },
		{ "\"\"", "SELECT pg_catalog.set_config( E'search_path', E'\"\"', false)" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *const pairs[][2] = { { "search_path", rows[i].value } };
		struct params *a = make(pairs, 1);
		assert_diff(table.empty, a, &rows[i].sql, 1);
		params_unref(&table, a);
	}
}

/* Whoever it is that a client has become may have fewer rights than the login. */
static void test_identity_comes_last(void **state)
{
	(void)state;
	const char *const a_pairs[][2] = { { "role", "r" }, { "session_authorization", "s" }, { "work_mem", "1MB" } };
	const char *const b_pairs[][2] = { { "app.order", "1" }, { "role", "r" } };
	const char *const there[] = { "RESET session_authorization", "RESET role", "SET \"app\".\"order\" TO E'1'",
		                      "RESET work_mem", "SET role TO E'r'" };
	const char *const back[] = { "RESET role", "RESET \"app\".\"order\"", "SET work_mem TO E'1MB'",
		                     "SET session_authorization TO E's'", "SET role TO E'r'" };
	struct params *a = make(a_pairs, 3), *b = make(b_pairs, 2);
	assert_diff(a, b, there, ARRAY_LEN(there));
	assert_diff(b, a, back, ARRAY_LEN(back));
	params_unref(&table, a);
	params_unref(&table, b);
}

static void test_defaults_of_transactions(void **state)
{
	(void)state;
	const char *const pairs[][2] = { { "default_transaction_read_only", "on" }, { "work_mem", "1MB" } };
	struct params *a = make(pairs, 2), *b = make(pairs, 1);
	assert_false(settings_differ_in_defaults(a, b));
	assert_true(settings_differ_in_defaults(a, table.empty));
	assert_true(settings_differ_in_defaults(table.empty, a));
	params_unref(&table, a);
	params_unref(&table, b);
}

static void test_no_memory_ends_the_walk(void **state)
{
	(void)state;
	const char *const to[][2] = { { "a", "1" } };
	struct params *b = make(to, 1);
	struct settings_diff d = { .from = table.empty, .to = b };
	struct buf sql = { 0 };
	mem_fail_after(1);
	assert_false(settings_diff_next(&d, &sql));
	mem_fail_after(0);
	buf_deinit(&sql);
	params_unref(&table, b);
}

/* --- a session's start --- */

static void assert_tag(const char *format, const char *application, const char *expected)
{
	struct session *x = session_new("[databases]\napp = host=h\n[pgweir]\npeer_id = 7\n");
	mem_free(x->config->application_name_format);
	x->config->application_name_format = mem_strdup(format); /* also what the reader of the file would refuse */
	x->client.application = application ? mem_strdup(application) : NULL;
	settings_start_session(&x->client);
	assert_string_equal(params_get(x->client.profile, "application_name"), expected);
	assert_null(params_get(x->client.startup, "application_name"));
	session_free(x);
}

static void test_tags(void **state)
{
	(void)state;
	assert_tag("%a", "shop", "shop");
	assert_tag("%a", NULL, "");
	assert_tag("%u@%d/%a", "shop", "joe@app/shop");
	assert_tag("100%%-%i", "shop", "100%-7");
	assert_tag("%a%", "shop", "shop%"); /* nothing behind it to stand for */
	assert_tag("<%x>", "shop", "<>");
	assert_tag("%a%a%a%a%a%a%a", "0123456789", "012345678901234567890123456789012345678901234567890123456789012");
}

static void test_profile_has_the_start_up_settings(void **state)
{
	(void)state;
	struct session *x = session_new("[databases]\napp = host=h application_name=dflt\n");
	params_set(&x->worker.params, &x->client.startup, STR("TimeZone"), STR("UTC"));
	settings_start_session(&x->client);
	assert_int_equal(x->client.profile->n, 2);
	assert_string_equal(params_get(x->client.profile, "timezone"), "UTC");
	assert_string_equal(params_get(x->client.profile, "application_name"), "dflt");
	session_free(x);
}

/* SET LOCAL > session > application > database > global. */
static void test_routing_precedence(void **state)
{
	(void)state;
	struct session *x = session_new("[databases]\napp = host=h consistency=session\n"
	                                "[applications]\nreporting = route=replica consistency=eventual\n"
	                                "[pgweir]\nroute = primary\nreplica_wait = 5\n");
	struct client *c = &x->client;
	settings_start_session(c);
	assert_int_equal(c->routing.route, ROUTE_MODE_PRIMARY);
	assert_int_equal(c->routing.consistency, CONSISTENCY_SESSION);
	assert_int_equal(c->routing.replica_wait_us, 5000);
	mem_free(c->application);
	c->application = mem_strdup("reporting");
	settings_start_session(c);
	assert_int_equal(c->routing.route, ROUTE_MODE_REPLICA);
	assert_int_equal(c->routing.consistency, CONSISTENCY_EVENTUAL);
	char *why = NULL;
	assert_true(conf_routing_set(&c->session_routing, SCOPE_SESSION, STR("route"), STR("auto"), &why));
	assert_true(conf_routing_set(&c->tx_routing, SCOPE_SESSION, STR("consistency"), STR("database"), &why));
	settings_refresh_routing(c);
	assert_int_equal(c->routing.route, ROUTE_MODE_AUTO);
	assert_int_equal(c->routing.consistency, CONSISTENCY_DATABASE);
	assert_true(conf_routing_set(&c->tx_routing, SCOPE_SESSION, STR("route"), STR("primary"), &why));
	settings_refresh_routing(c);
	assert_int_equal(c->routing.route, ROUTE_MODE_PRIMARY);
	session_free(x);
}

#define TABLE_CASE(test) cmocka_unit_test_setup_teardown(test, table_setup, table_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tracked_names),
		cmocka_unit_test(test_valid_names),
		cmocka_unit_test(test_clean_name),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_options_are_not_read_beyond_their_end),
		TABLE_CASE(test_difference),
		TABLE_CASE(test_values_are_quoted),
		TABLE_CASE(test_lists_of_names),
		TABLE_CASE(test_identity_comes_last),
		TABLE_CASE(test_defaults_of_transactions),
		TABLE_CASE(test_no_memory_ends_the_walk),
		cmocka_unit_test(test_tags),
		cmocka_unit_test(test_profile_has_the_start_up_settings),
		cmocka_unit_test(test_routing_precedence),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
