/* Lines that stay lines, JSON that stays JSON, fields, syslog. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>
#include "base/log.h"

static char folder[64], path[96];

static int make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/pgweir-log-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof path, "%s/log", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

/* What the file holds; it is emptied. */
static const char *take(void)
{
	static char text[8192];
	FILE *f = fopen(path, "r+");
	assert_non_null(f);
	text[fread(text, 1, sizeof text - 1, f)] = '\0';
	assert_int_equal(ftruncate(fileno(f), 0), 0);
	fclose(f);
	return text;
}

static void test_text_fields(void **state)
{
	(void)state;
	struct log_subject who = {
		.kind = 'C', .id = 7, .database = "shop", .user = "app", .application = "a\nb", .peer = "h:1"
	};
	const struct log_field fields[] = { { "duration_ms", NULL, 153201, LOG_FIELD_MS },
		                            { "retried", NULL, 0, LOG_FIELD_TEXT },
		                            { "route", "primary", 0, LOG_FIELD_TEXT },
		                            { "rows", NULL, 3, LOG_FIELD_NUMBER },
		                            { "query", "select \"x\"\n= ?", 0, LOG_FIELD_TEXT } };
	assert_true(log_open(path, LOG_TEXT, LOG_INFO));
	log_fields(LOG_INFO, &who, "slow query", fields, ARRAY_LEN(fields));
	const char *text = take();
	assert_non_null(strstr(text,
	                       "info: [C-7 shop/app app=a b h:1] slow query: duration_ms=153.201 route=primary rows=3 "
	                       "query=\"select \"\"x\"\" = ?\"\n"));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	log_fields(LOG_DEBUG, &who, "not wanted", fields, ARRAY_LEN(fields));
	assert_string_equal(take(), "");
}

static void test_json_is_utf8_whatever_comes(void **state)
{
	(void)state;
	struct log_subject who = { .kind = 'C',
		                   .id = 7,
		                   .application = "caf\xe9 \xc3\xa9 \xed\xa0\x80 \xf0\x9f\x98\x80 \xc0\xaf \x01\"\\" };
	const struct log_field fields[] = { { "duration_ms", NULL, 1002, LOG_FIELD_MS },
		                            { "query", "q\x80", 0, LOG_FIELD_TEXT } };
	assert_true(log_open(path, LOG_JSON, LOG_INFO));
	log_fields(LOG_INFO, &who, "slow query", fields, ARRAY_LEN(fields));
	json_error_t why;
	json_t *root = json_loads(take(), 0, &why);
	assert_non_null(root);
	assert_string_equal(json_string_value(json_object_get(root, "application")),
	                    "caf\xef\xbf\xbd \xc3\xa9 \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xf0\x9f\x98\x80 "
	                    "\xef\xbf\xbd\xef\xbf\xbd \x01\"\\");
	assert_float_equal(json_real_value(json_object_get(root, "duration_ms")), 1.002, 1e-9);
	json_decref(root);
}

static void test_a_long_line_of_json_is_cut_inside_its_strings(void **state)
{
	(void)state;
	char *name = malloc(20000);
	memset(name, '\x02', 19999);
	name[19999] = '\0';
	struct log_subject who = { .kind = 'C', .id = 7, .application = name };
	assert_true(log_open(path, LOG_JSON, LOG_INFO));
	log_line(LOG_INFO, &who, "%s", name);
	json_t *root = json_loads(take(), 0, NULL);
	assert_non_null(root);
	json_decref(root);
	free(name);
}

static void test_syslog(void **state)
{
	(void)state;
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char got[512];
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	snprintf(at.sun_path, sizeof at.sun_path, "%s/syslog", folder);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
	assert_true(log_open(path, LOG_TEXT, LOG_INFO));
	log_syslog(at.sun_path, "weir", "local3");
	log_warning(NULL, "it\nrains");
	ssize_t n = recv(fd, got, sizeof got - 1, 0);
	assert_true(n > 0);
	got[n] = '\0';
	char want[128];
	snprintf(want, sizeof want, "<%d>weir[%d]: warning: it rains", 19 * 8 + 4, (int)getpid());
	assert_string_equal(got, want);
	/* A reader that does not read: lines are lost, nobody waits. */
	for (int i = 0; i < 10000; i++)
		log_info(NULL, "more %d", i);
	log_syslog(at.sun_path, NULL, "local3");
	while (recv(fd, got, sizeof got, MSG_DONTWAIT) > 0)
		;
	log_info(NULL, "not for syslog");
	assert_true(recv(fd, got, sizeof got, MSG_DONTWAIT) < 0);
	(void)take();
	close(fd);
	unlink(at.sun_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_fields),
		cmocka_unit_test(test_json_is_utf8_whatever_comes),
		cmocka_unit_test(test_a_long_line_of_json_is_cut_inside_its_strings),
		cmocka_unit_test(test_syslog),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
