/* Processors from a quota, the pidfile's lock, users. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/check.h"
#include "control/process.h"

static void test_cpu_quota(void **state)
{
	(void)state;
	const struct {
		const char *text;
		int cpus;
	} cases[] = { { "max 100000", 0 }, { "100000 100000", 1 },   { "150000 100000\n", 2 },
		      { "1 100000", 1 },   { "800000 100000", 8 },   { "50000", 1 },
		      { "", 0 },           { "nonsense", 0 },        { "-5 100000", 0 },
		      { "200000 0", 2 },   { "99999999999999 1", 0 } };
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(process_cpu_quota(cases[i].text), cases[i].cpus);
	assert_in_range(process_usable_cpus(), 1, 16);
}

static void test_pidfile(void **state)
{
	(void)state;
	char path[] = "/tmp/pgweir-test-pid-XXXXXX", err[256], text[32] = "";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	assert_true(process_open_pidfile(path, NULL, err, sizeof err));
	process_write_pidfile();
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof text, f));
	fclose(f);
	assert_int_equal((int)strtol(text, NULL, 10), getpid());
	assert_true(process_lock_pidfile());
	process_remove_pidfile();
	assert_int_equal(access(path, F_OK), -1);
	process_remove_pidfile();
	assert_true(process_open_pidfile("", NULL, err, sizeof err));
	assert_false(process_open_pidfile("/nonexistent/pid", NULL, err, sizeof err));
	assert_non_null(strstr(err, "/nonexistent/pid"));
}

static void test_users(void **state)
{
	(void)state;
	struct process_user u;
	char err[256] = "";
	assert_false(process_find_user("no_such_user_at_all", &u, err, sizeof err));
	assert_non_null(strstr(err, "no_such_user_at_all"));
	assert_false(process_find_user("root", &u, err, sizeof err));
	assert_int_equal(process_find_user("", &u, err, sizeof err), geteuid() != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpu_quota),
		cmocka_unit_test(test_pidfile),
		cmocka_unit_test(test_users),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
