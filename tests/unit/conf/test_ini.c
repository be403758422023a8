/* test_ini.c - no byte of a configuration file is lost, and what cannot be read is an error with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/ini.h"

/* All entries as one text: "file:line [section] <key> <value>\n". */
struct seen {
	char *text; /* owned */
};

static void on_entry(void *arg, struct config_place place, struct str section, struct str key, struct str value)
{
	struct seen *seen = arg;
	const char *slash = strrchr(place.file, '/');
	char *longer =
	    mem_printf("%s%s:%d [%.*s] <%.*s> <%.*s>\n", seen->text ? seen->text : "", slash ? slash + 1 : place.file,
	               place.line, (int)section.n, section.p, (int)key.n, key.p, (int)value.n, value.p);
	mem_free(seen->text);
	seen->text = longer;
}

struct result {
	struct conf_ini ini;
	struct config_errors errs;
	struct seen seen;
};

static void result_free(struct result *r)
{
	conf_ini_deinit(&r->ini);
	config_errors_free(&r->errs);
	mem_free(r->seen.text);
}

static struct result read_text(struct str text)
{
	struct result r = { 0 };
	conf_ini_read_text(&r.ini, "t.ini", text, on_entry, &r.seen, &r.errs);
	return r;
}

static void expect_str(struct str text, const char *want, const char *error)
{
	struct result r = read_text(text);
	assert_string_equal(r.seen.text ? r.seen.text : "", want);
	assert_int_equal(r.errs.n, error ? 1 : 0);
	if (error)
		assert_string_equal(r.errs.items[0].text, error);
	result_free(&r);
}

static void expect(const char *text, const char *want, const char *error) { expect_str(str_of(text), want, error); }

static void test_lines(void **state)
{
	(void)state;
	expect("[s]\nk = v\n", "t.ini:2 [s] <k> <v>\n", NULL);
	expect("[s]\nk=v", "t.ini:2 [s] <k> <v>\n", NULL);              /* no newline at the end */
	expect("[s]\r\nk = v\r\n", "t.ini:2 [s] <k> <v>\n", NULL);      /* CRLF */
	expect("\xef\xbb\xbf[s]\nk=v", "t.ini:2 [s] <k> <v>\n", NULL);  /* byte order mark */
	expect("[s]\n  k = v w \t\n", "t.ini:2 [s] <k> <v w>\n", NULL); /* indented is no continuation */
	expect("[s]\na=1\n\n  b=2", "t.ini:2 [s] <a> <1>\nt.ini:4 [s] <b> <2>\n", NULL);
	expect("[s]\nk =\n", "t.ini:2 [s] <k> <>\n", NULL);
	expect(" [ s ] \nk=1", "t.ini:2 [s] <k> <1>\n", NULL);
	expect("[s]\n; a=1\n# b=2\n  ;c=3\n", "", NULL);
	expect("", "", NULL);
	expect("\n\n", "", NULL);
	expect("k=v", "t.ini:1 [] <k> <v>\n", NULL);
}

/* PgBouncer knows no inline comments; inih would cut all of these. */
static void test_values_are_kept_whole(void **state)
{
	(void)state;
	expect("[s]\nk = a ;b\n", "t.ini:2 [s] <k> <a ;b>\n", NULL);
	expect("[s]\nk = ;b # c\n", "t.ini:2 [s] <k> <;b # c>\n", NULL);
	expect("[s]\nk = host=a password='p;w #x = [1]: \"q\"'",
	       "t.ini:2 [s] <k> <host=a password='p;w #x = [1]: \"q\"'>\n", NULL);
	expect("[s]\nk = a\tb", "t.ini:2 [s] <k> <a\tb>\n", NULL);
	expect("[s]\nk = \xc3\xa9\xff", "t.ini:2 [s] <k> <\xc3\xa9\xff>\n", NULL);
	expect("[s]\na:b = c", "t.ini:2 [s] <a:b> <c>\n", NULL);
	expect("[s]\nk == v", "t.ini:2 [s] <k> <= v>\n", NULL);
}

static void test_quoted_keys(void **state)
{
	(void)state;
	expect("[s]\n\"a b\" = 1", "t.ini:2 [s] <a b> <1>\n", NULL);
	expect("[s]\n\"a=\"\"b\"\";[c]\"=1", "t.ini:2 [s] <a=\"b\";[c]> <1>\n", NULL);
	expect("[s]\n\"\"\"\"=1", "t.ini:2 [s] <\"> <1>\n", NULL);
	expect("[s]\n* = 1", "t.ini:2 [s] <*> <1>\n", NULL);
	expect("[s]\n\"a = 1", "", "t.ini:2: expected key = value, [section], %include or a comment");
	expect("[s]\n\"a\" b = 1", "", "t.ini:2: expected key = value, [section], %include or a comment");
	expect("[s]\n\"\" = 1", "", "t.ini:2: there is no name before =");
}

/* Every length around the pieces that inih is fed with, up to 10 kB, full of bytes that it would act upon. */
static void test_long_lines(void **state)
{
	static const char pattern[] = "; #=:[]'\"x \\%";
	(void)state;
	for (size_t n = 1; n <= 10000; n = n < 700 ? n + 1 : n * 3 / 2) {
		char *text = mem_alloc(n + 32), *want;
		memcpy(text, "[s]\nkey = ", 10);
		for (size_t i = 0; i < n; i++)
			text[10 + i] = pattern[i % (sizeof(pattern) - 1)];
		text[10 + n - 1] = '.';
		text[10] = '<';
		text[10 + n] = '\0';
		want = mem_printf("t.ini:2 [s] <key> <%s>\n", text + 10);
		expect(text, want, NULL);
		mem_free(want);
		mem_free(text);
	}
}

static void test_long_names(void **state)
{
	char name[200], text[260], want[260];
	(void)state;
	memset(name, 'n', sizeof(name));
	for (int n = 40; n <= 130; n++) { /* inih cuts a remembered name at 49 */
		snprintf(text, sizeof(text), "[s]\n%.*s = v", n, name);
		snprintf(want, sizeof(want), "t.ini:2 [s] <%.*s> <v>\n", n, name);
		expect(text, want, NULL);
	}
	snprintf(text, sizeof(text), "[s]\n%.*s = v", 131, name);
	expect(text, "", "t.ini:2: the name before = is too long");
	snprintf(text, sizeof(text), "[%.*s]\n", 41, name);
	expect(text, "", "t.ini:1: this is not the name of a section");
}

static void test_bad_lines(void **state)
{
	(void)state;
	expect("[s]\nfoo\nk=1", "t.ini:3 [s] <k> <1>\n",
	       "t.ini:2: expected key = value, [section], %include or a comment");
	expect("[s]\n= 1", "", "t.ini:2: there is no name before =");
	expect("[s] x\n", "", "t.ini:1: a section is written [name], with nothing behind it");
	expect("[s\n", "", "t.ini:1: a section is written [name], with nothing behind it");
	expect("[]\n", "", "t.ini:1: this is not the name of a section");
	expect("[a;b]\n", "", "t.ini:1: this is not the name of a section");
	expect("[s]\nk = a\rb\n", "", "t.ini:2: the line holds a control character or a NUL byte");
	expect("[s]\nk = a\x01z\n", "", "t.ini:2: the line holds a control character or a NUL byte");
	expect_str(STR("[s]\nk = a\0b\nl=1"), "t.ini:3 [s] <l> <1>\n",
	           "t.ini:2: the line holds a control character or a NUL byte");
	expect("%inclde x", "", "t.ini:1: unknown directive; the only one is %include FILE");
	expect("%includex", "", "t.ini:1: unknown directive; the only one is %include FILE");
	expect("%include", "", "t.ini:1: %include needs a file name");
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static char folder[64];

static char *path_of(const char *name) { return mem_printf("%s/%s", folder, name); }

static void write_file(const char *name, const char *text)
{
	char *path = path_of(name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	mem_free(path);
}

static void expect_file(const char *name, const char *want, const char *error_end)
{
	struct result r = { 0 };
	char *path = path_of(name);
	conf_ini_read_file(&r.ini, path, on_entry, &r.seen, &r.errs);
	mem_free(path);
	assert_string_equal(r.seen.text ? r.seen.text : "", want);
	assert_int_equal(r.errs.n, error_end ? 1 : 0);
	if (error_end && !strstr(r.errs.items[0].text, error_end))
		fail_msg("%s is not in: %s", error_end, r.errs.items[0].text);
	result_free(&r);
}

/* The section goes into an included file and out of it, as in PgBouncer. */
static void test_include(void **state)
{
	(void)state;
	write_file("main.ini", "[a]\nx=1\n%include sub/one.ini\ny=2\n%include sub/two.ini");
	write_file("sub/one.ini", "in=1\n[b]\nin=2");
	write_file("sub/two.ini", "%include three.ini\nlast=1"); /* relative to the including file */
	write_file("sub/three.ini", "");
	expect_file("main.ini",
	            "main.ini:2 [a] <x> <1>\none.ini:1 [a] <in> <1>\none.ini:3 [b] <in> <2>\nmain.ini:4 [b] <y> <2>\n"
	            "two.ini:2 [b] <last> <1>\n",
	            NULL);
	char *text = mem_printf("%%include %s/sub/one.ini\n", folder),
	     *want = mem_strdup("one.ini:1 [] <in> <1>\none.ini:3 [b] <in> <2>\n");
	expect(text, want, NULL);
	mem_free(text);
	mem_free(want);
}

static void test_include_problems(void **state)
{
	(void)state;
	write_file("self.ini", "[a]\nx=1\n%include self.ini\ny=2\n");
	expect_file("self.ini", "self.ini:2 [a] <x> <1>\nself.ini:4 [a] <y> <2>\n", "/self.ini\": it includes itself");
	write_file("loop1.ini", "%include loop2.ini\n");
	write_file("loop2.ini", "%include loop1.ini\n[z]\nx=1");
	expect_file("loop1.ini", "loop2.ini:3 [z] <x> <1>\n", "/loop1.ini\": it includes itself");
	write_file("gone.ini", "[a]\n%include nowhere.ini\nx=1");
	expect_file("gone.ini", "gone.ini:3 [a] <x> <1>\n", "gone.ini:2: cannot read \"");
	write_file("dir.ini", "[a]\n%include sub\nx=1");
	expect_file("dir.ini", "dir.ini:3 [a] <x> <1>\n", "/sub\": it is a directory");
	write_file("dev.ini", "%include /dev/null");
	expect_file("dev.ini", "", "cannot read \"/dev/null\": it is not a regular file");
	expect_file("nothing.ini", "", "/nothing.ini\": No such file or directory");
	for (int i = 0; i < 12; i++) {
		char name[32], text[64];
		snprintf(name, sizeof(name), "deep%d.ini", i);
		snprintf(text, sizeof(text), "%%include deep%d.ini\n", i + 1);
		write_file(name, text);
	}
	expect_file("deep0.ini", "", "deep9.ini:1: files include each other more than 10 deep");
}

static int make_folder(void **state)
{
	(void)state;
	(void)str_copy(folder, sizeof(folder), STR("/tmp/pgweir-test-ini-XXXXXX"));
	if (!mkdtemp(folder))
		return -1;
	char *sub = path_of("sub");
	int rc = mkdir(sub, 0700);
	mem_free(sub);
	return rc;
}

static int remove_folder(void **state)
{
	char *command = mem_printf("rm -r '%s'", folder);
	(void)state;
	int rc = system(command);
	mem_free(command);
	return rc;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),       cmocka_unit_test(test_values_are_kept_whole),
		cmocka_unit_test(test_quoted_keys), cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_long_names),  cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_include),     cmocka_unit_test(test_include_problems),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
