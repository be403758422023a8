/* main.c - the command line: what to run with; control/lifecycle does the rest. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <event2/event.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <xxhash.h>
#include "base/mem.h"
#include "base/rules.h"
#include "conf/config.h"
#include "conf/options.h"
#include "control/lifecycle.h"
#include "control/show.h"
#include "proxy/worker.h"

extern char **environ;

enum { OPTION_CHECK_CONFIG = 256, OPTION_PRINT_OPTIONS, OPTION_PRINT_MAN, SETTINGS_MAX = 3 };

static const struct option long_options[] = {
	{ "daemon", no_argument, NULL, 'd' },
	{ "reboot", no_argument, NULL, 'R' },
	{ "user", required_argument, NULL, 'u' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "quiet", no_argument, NULL, 'q' },
	{ "version", no_argument, NULL, 'V' },
	{ "help", no_argument, NULL, 'h' },
	{ "check-config", required_argument, NULL, OPTION_CHECK_CONFIG },
	{ "print-options", no_argument, NULL, OPTION_PRINT_OPTIONS },
	{ "print-man", no_argument, NULL, OPTION_PRINT_MAN },
	{ NULL, 0, NULL, 0 },
};

static const char usage_text[] =
    "Usage: pgweir [OPTION]... CONFIG.ini\n"
    "       pgweir [OPTION]... 'postgresql://user:password@host1:port1,host2:port2/database'\n"
    "\n"
    "  -d, --daemon             run in the background (needs logfile)\n"
    "  -R, --reboot             share the port with the running process, then have it finish and end\n"
    "  -u, --user=NAME          system user to become\n"
    "  -v, --verbose            log more; may be repeated\n"
    "  -q, --quiet              log nothing to standard error\n"
    "      --check-config=FILE  say what is wrong with a configuration, then exit\n"
    "      --print-options      print every setting with its default and meaning, then exit\n"
    "      --print-man          print the same as a manual page, then exit\n"
    "  -V, --version            print versions, then exit\n"
    "  -h, --help               print this, then exit\n"
    "\n"
    "Every key of the [pgweir] section can also be set by the environment: PGWEIR_LISTEN_PORT=6432.\n"
    "Signals: HUP reload, TERM end when the last client has left, INT finish transactions and end, QUIT end at once,\n"
    "USR1 pause, USR2 resume.\n";

struct command_line {
	struct lifecycle_options options;
	const char *settings[SETTINGS_MAX + 1]; /* owned strings; NULL-terminated */
	int n_settings;
	int verbose;
	const char *check; /* borrowed from argv */
};

static void print_versions(void)
{
	printf("%s\n", SHOW_VERSION_TEXT);
	printf("libevent %s\n%s\njansson %s\nxxhash %u\n", event_get_version(), OpenSSL_version(OPENSSL_VERSION),
	       jansson_version_str(), XXH_versionNumber());
#ifdef __VERSION__
	printf("compiler %s\n", __VERSION__);
#endif
#ifdef PGWEIR_TEST_BUILD
	printf("test build: correctness rules can be switched off by PGWEIR_BREAK\n");
#endif
}

static void print_errors(const struct config_errors *errs)
{
	for (int i = 0; i < errs->n; i++)
		fprintf(stderr, "%s: %s\n", config_severity_name(errs->items[i].severity), errs->items[i].text);
	if (errs->n_dropped)
		fprintf(stderr, "%d more messages are not shown\n", errs->n_dropped);
}

static struct config *load(const struct config_source *source)
{
	struct config_errors errs = { 0 };
	struct config *cfg = config_load(source, &errs);
	print_errors(&errs);
	config_errors_free(&errs);
	return cfg;
}

static int check_config(const char *path)
{
	struct config_source source = { .path = path };
	struct config *cfg = load(&source);
	if (!cfg)
		return 1;
	/* Also what the file names: users, rules, certificates. */
	char why[512] = "";
	struct runtime *runtime = runtime_new(cfg, why, sizeof why);
	if (!runtime) {
		fprintf(stderr, "error: %s\n", why);
		return 1;
	}
	printf("%s: no errors\n", path);
	runtime_unref(runtime);
	return 0;
}

static void add_setting(struct command_line *cl, char *text) { cl->settings[cl->n_settings++] = text; }

static int usage_error(const char *why)
{
	fprintf(stderr, "pgweir: %s\nTry \"pgweir --help\".\n", why);
	return 1;
}

/* A connection string, unless there is a file of that name. */
static bool is_uri(const char *arg)
{
	if (strncmp(arg, "postgresql://", 13) == 0 || strncmp(arg, "postgres://", 11) == 0)
		return true;
	return strchr(arg, '=') && access(arg, F_OK) < 0;
}

/* Relative names must survive the daemon's and the log rotation's change of folder, and mean the same at a reload. */
static char *absolute(const char *path)
{
	char *full = realpath(path, NULL);
	char *copy = mem_strdup(full ? full : path);
	free(full); /* allocated by libc */
	return copy;
}

enum outcome { GO_ON = -1 };

/* GO_ON, or the exit status. */
static int take_option(struct command_line *cl, int opt)
{
	switch (opt) {
	case 'd':
		cl->options.daemonize = true;
		return GO_ON;
	case 'R':
		cl->options.takeover = true;
		return GO_ON;
	case 'u':
		if (cl->n_settings > 0)
			return usage_error("-u was given twice");
		add_setting(cl, mem_printf("user=%s", optarg));
		return GO_ON;
	case 'v':
		cl->verbose++;
		return GO_ON;
	case 'q':
		cl->options.quiet = true;
		return GO_ON;
	case OPTION_CHECK_CONFIG:
		cl->check = optarg;
		return GO_ON;
	case OPTION_PRINT_OPTIONS:
		options_print_ini(stdout);
		return 0;
	case OPTION_PRINT_MAN:
		options_print_man(stdout);
		return 0;
	case 'V':
		print_versions();
		return 0;
	case 'h':
		fputs(usage_text, stdout);
		return 0;
	default:
		return usage_error("bad option");
	}
}

static int run(struct command_line *cl, int argc, char **argv)
{
	int opt, status = GO_ON;
	while (status == GO_ON && (opt = getopt_long(argc, argv, "dRu:vqVh", long_options, NULL)) != -1)
		status = take_option(cl, opt);
	if (status != GO_ON)
		return status;
	if (cl->check)
		return optind < argc ? usage_error("too many arguments") : check_config(cl->check);
	if (optind != argc - 1)
		return usage_error(optind < argc ? "too many arguments"
		                                 : "a configuration file or a connection string is needed");
	if (cl->verbose)
		add_setting(cl, mem_printf("verbose=%d", cl->verbose));
	struct config_source *source = &cl->options.source;
	char *path = is_uri(argv[optind]) ? NULL : absolute(argv[optind]);
	*source =
	    (struct config_source){ path, path ? NULL : argv[optind], (const char *const *)environ, cl->settings };
	struct config *cfg = load(source);
	status = cfg ? lifecycle_run(cfg, &cl->options) : 1;
	mem_free(path);
	return status;
}

int main(int argc, char **argv)
{
	struct command_line cl = { 0 };
	rules_init();
	int status = run(&cl, argc, argv);
	for (int i = 0; i < cl.n_settings; i++)
		mem_free((char *)cl.settings[i]);
	return status;
}
