/* test_hba.c - the golden table tests/unit/data/hba.tsv over hba.conf beside it, and every kind of error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include "auth/hba.h"

#define DATA "tests/unit/data/"

static char error[256];

static const struct sockaddr *address(const char *text, struct sockaddr_storage *room)
{
	struct sockaddr_in *four = (struct sockaddr_in *)room;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)room;
	memset(room, 0, sizeof(*room));
	if (strcmp(text, "-") == 0)
		return NULL;
	bool is_six = strchr(text, ':') != NULL;
	room->ss_family = is_six ? AF_INET6 : AF_INET;
	assert_int_equal(inet_pton(room->ss_family, text, is_six ? (void *)&six->sin6_addr : &four->sin_addr), 1);
	return (const struct sockaddr *)room;
}

static void check_row(const struct hba *hba, char *row)
{
	char *column[7], *rest = row;
	struct sockaddr_storage room;
	for (size_t i = 0; i < ARRAY_LEN(column); i++) {
		column[i] = strsep(&rest, "\t");
		assert_non_null(column[i]);
	}
	bool is_replication = strcmp(column[2], "*replication*") == 0;
	struct hba_verdict v =
	    hba_match(hba, &(struct hba_query){ .transport = column[0][0] == 'u'   ? HBA_UNIX
	                                                     : column[0][0] == 't' ? HBA_TCP_TLS
	                                                                           : HBA_TCP_PLAIN,
	                                        .addr = address(column[1], &room),
	                                        .database = is_replication ? STR("") : str_of(column[2]),
	                                        .user = str_of(column[3]),
	                                        .is_physical_replication = is_replication });
	if (strcmp(auth_method_name(v.method), column[4]) != 0 || v.line != (unsigned)atoll(column[5]) ||
	    v.matched != (v.line != 0) || strcmp(v.map ? v.map : "-", column[6]) != 0)
		fail_msg("%s %s %s %s: %s by line %u, map %s", column[0], column[1], column[2], column[3],
		         auth_method_name(v.method), v.line, v.map ? v.map : "-");
}

static void test_golden_table(void **state)
{
	struct hba *hba = hba_load(DATA "hba.conf", error, sizeof(error));
	FILE *table = fopen(DATA "hba.tsv", "r");
	char row[256];
	size_t rows = 0;
	(void)state;
	if (!hba)
		fail_msg("%s", error);
	assert_non_null(table);
	assert_int_equal(hba_count(hba), 21);
	while (fgets(row, sizeof(row), table)) {
		row[strcspn(row, "\n")] = '\0';
		if (row[0] == '#')
			continue;
		check_row(hba, row);
		rows++;
	}
	assert_true(rows > 50);
	fclose(table);
	hba_unref(hba);
}

static struct hba *parse(const char *text)
{
	size_t n = strlen(text);
	char *copy = malloc(n ? n : 1);
	memcpy(copy, text, n);
	error[0] = '\0';
	struct hba *hba = hba_parse((struct str){ copy, n }, DATA "x.conf", error, sizeof(error));
	free(copy);
	return hba;
}

static void test_errors(void **state)
{
	static const struct {
		const char *text, *error;
	} rows[] = {
		{ "lokal all all trust",
		  "1: expected local, host, hostssl, hostnossl, hostgssenc or hostnogssenc, not \"lokal\"" },
		{ "\n# x\nlocal", "3: expected a database" },
		{ "local all", "1: expected a user" },
		{ "local all all", "1: expected an authentication method" },
		{ "local a, all trust\nlocal all,", "1: expected an authentication method" },
		{ "local all all trust\nlocal all,", "2: expected a database" },
		{ "host all all", "1: expected an address" },
		{ "host all all 1.2.3.4", "1: expected a prefix length or a network mask" },
		{ "host all all 1.2.3.4 trust", "1: invalid network mask \"trust\"" },
		{ "host all all 1.2.3.4 ffff:: trust", "1: invalid network mask \"ffff::\"" },
		{ "host all all 1.2.3.4/33 trust", "1: invalid prefix length \"33\"" },
		{ "host all all 1.2.3.4/ trust", "1: invalid prefix length \"\"" },
		{ "host all all 1.2.3.4/-1 trust", "1: invalid prefix length \"-1\"" },
		{ "host all all ::1/129 trust", "1: invalid prefix length \"129\"" },
		{ "host all all db.example trust",
		  "1: \"db.example\" is not an IP address; host names are not supported here" },
		{ "host all all samenet trust", "1: \"samenet\" is not supported here; write the networks" },
		{ "host all all 1.2.3.4/32,1.2.3.5/32 trust", "1: an address must not be a list" },
		{ "host all +admins all trust", "1: \"+admins\" is not supported: role membership is not known here" },
		{ "host samerole all all trust",
		  "1: \"samerole\" is not supported: role membership is not known here" },
		{ "host /^a all all trust", "1: \"/^a\" is not supported: regular expressions are not supported here" },
		{ "local all all ldap",
		  "1: authentication method \"ldap\" is not supported: expected trust, reject, md5, password, "
		  "scram-sha-256, cert or peer" },
		{ "local all all any",
		  "1: authentication method \"any\" is not supported: expected trust, reject, md5, password, "
		  "scram-sha-256, cert or peer" },
		{ "host all all all peer", "1: peer authentication is only supported on local sockets" },
		{ "hostnossl all all all cert", "1: cert authentication is only supported on hostssl connections" },
		{ "local all all md5 map=x", "1: option \"map=x\" is not supported with method md5" },
		{ "local all all peer map=", "1: option \"map=\" is not supported with method peer" },
		{ "local all \"all trust", "1: expected a double quote at the end of the line" },
		{ "local @nowhere.txt all trust",
		  "1: could not read \"" DATA "nowhere.txt\": No such file or directory" },
		{ "include other.conf",
		  "1: expected local, host, hostssl, hostnossl, hostgssenc or hostnogssenc, not \"include\"" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct hba *hba = parse(rows[i].text);
		const char *text = error + strlen(DATA "x.conf:");
		if (hba || strcmp(text, rows[i].error) != 0)
			fail_msg("%s: \"%s\"", rows[i].text, hba ? "no error" : error);
	}
	assert_null(hba_parse((struct str){ "local a\0l all trust", 19 }, "x", error, sizeof(error)));
	assert_string_equal(error, "x:1: zero byte");
	assert_null(hba_load(DATA "nowhere.conf", error, sizeof(error)));
	assert_string_equal(error, "could not read rule file \"" DATA "nowhere.conf\": No such file or directory");
}

/* A rule cut anywhere is an error or nothing at all, never a wider rule. */
static void test_every_cut(void **state)
{
	static const char text[] = "hostssl app alice 10.1.0.0/16 scram-sha-256";
	(void)state;
	for (size_t n = 0; n < sizeof(text) - 1; n++) {
		struct hba *hba = hba_parse((struct str){ text, n }, "x", error, sizeof(error));
		assert_int_equal(hba != NULL, n == 0);
		hba_unref(hba);
	}
}

static void test_empty_file_lets_nobody_in(void **state)
{
	struct hba *hba = parse("# nothing\n\n");
	(void)state;
	assert_int_equal(hba_count(hba), 0);
	struct hba_verdict v = hba_match(hba_ref(hba), &(struct hba_query){ .transport = HBA_UNIX, .user = STR("x") });
	assert_false(v.matched);
	assert_int_equal(v.method, AUTH_METHOD_REJECT);
	hba_unref(hba);
	hba_unref(hba);
	hba_unref(NULL);
}

static void test_file_that_names_itself(void **state)
{
	char path[] = "/tmp/pgweir-hba-XXXXXX", text[64];
	(void)state;
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");
	fprintf(f, "@%s\n", path);
	fclose(f);
	snprintf(text, sizeof(text), "local @%s all trust", path);
	assert_null(parse(text));
	assert_non_null(strstr(error, ":1: files named by @ are nested too deep"));
	remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden_table),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_empty_file_lets_nobody_in),
		cmocka_unit_test(test_file_that_names_itself),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
