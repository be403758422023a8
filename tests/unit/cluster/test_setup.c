/* From a configuration to the monitor's options and clusters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "cluster/setup.h"

static struct config *load(const char *text)
{
	struct config_errors errs = { 0 };
	struct config *cfg = config_load_text("test.ini", text, strlen(text), &errs);
	assert_non_null(cfg);
	config_errors_free(&errs);
	return cfg;
}

static void test_protocols(void **state)
{
	(void)state;
	static const struct {
		const char *text, *min, *max;
	} cases[] = {
		{ "secure", "TLSv1.2", "TLSv1.3" },       { "all", "TLSv1", "TLSv1.3" },
		{ "tlsv1.3", "TLSv1.3", "TLSv1.3" },      { "tlsv1.1,tlsv1.2", "TLSv1.1", "TLSv1.2" },
		{ "all:!tlsv1.0", "TLSv1.1", "TLSv1.3" },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[200];
		struct cluster_setup s;
		snprintf(text, sizeof text, "[databases]\nd = host=h\n[pgweir]\nserver_tls_protocols = %s\n",
		         cases[i].text);
		struct config *cfg = load(text);
		cluster_setup_options(&s, cfg, NULL);
		assert_string_equal(s.options.tls.min_protocol, cases[i].min);
		assert_string_equal(s.options.tls.max_protocol, cases[i].max);
		config_unref(cfg);
	}
}

static void test_credentials(void **state)
{
	(void)state;
	struct cluster_setup s;
	struct config *cfg = load("[databases]\nd = host=h\n[pgweir]\nauth_user = checker\n");
	cluster_setup_options(&s, cfg, "from the auth_file");
	assert_string_equal(s.options.login.user, "checker");
	assert_string_equal(s.options.login.password, "from the auth_file");
	assert_string_equal(s.options.login.dbname, "postgres");
	config_unref(cfg);
	cfg =
	    load("[databases]\nd = host=h\n[pgweir]\nauth_user = checker\nmonitor_user = mon\nmonitor_password = pw\n");
	cluster_setup_options(&s, cfg, "from the auth_file");
	assert_string_equal(s.options.login.user, "mon");
	assert_string_equal(s.options.login.password, "pw");
	config_unref(cfg);
}

static void test_same_hosts_same_cluster(void **state)
{
	(void)state;
	struct config *cfg = load("[databases]\na = host=h1,h2 port=5433\nb = host=h2,h1 port=5433\nc = host=h1,h2\n");
	struct cluster *a = cluster_of_database(config_database(cfg, STR("a")));
	assert_ptr_equal(a, cluster_of_database(config_database(cfg, STR("b"))));
	assert_ptr_not_equal(a, cluster_of_database(config_database(cfg, STR("c"))));
	config_unref(cfg);
	cluster_forget_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_protocols),
		cmocka_unit_test(test_credentials),
		cmocka_unit_test(test_same_hosts_same_cluster),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
