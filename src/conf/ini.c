/* conf/ini.c - see conf/ini.h.
 *
 * inih splits lines into section, key and value.  As packaged it reads a line into 200 bytes, cuts what is longer,
 * takes " ;" inside a value for a comment, strips blanks and splits a key at ":".  So it is never shown a line of the
 * file: our reader takes each line apart as far as needed to find its value, writes the bytes that inih would act upon
 * as control bytes (which a file may not contain), and hands a long value on in several short lines:
 *
 *     file:  app = host=a password='x;y' ...        inih:  app=host\5a\1password\5'x\3y'...
 *                                                          \20=more of the value
 *                                                          \20=the rest
 *
 * The handler puts the pieces together again, and the length is compared with the original: a byte that inih ate, in
 * whatever version, is an error and not a silent change.  %include pushes a text on a stack, so that inih sees one
 * stream and the section goes on into and out of an included file, as in PgBouncer. */
#include "conf/ini.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

enum {
	INCLUDE_DEPTH_MAX = 10,
	FILE_BYTES_MAX = 16 << 20,
	SECTION_BYTES_MAX = 40, /* inih cuts at 49 */
	KEY_BYTES_MAX = 130,    /* a name of 63 bytes, all of them doubled quotes, fits */
	CONTINUED = 0x10,       /* key of the second and later pieces */
};

/* protected[i] is handed to inih as byte i + 1. */
static const char protected[] = " \t;#=:[]"; /* eight, since 9 is a tab */

struct source {
	char *text; /* owned */
	size_t len, pos;
	int line;
	const char *name; /* borrowed from the struct conf_ini */
	dev_t dev;        /* with ino: which file, to find loops; 0 for a text in memory */
	ino_t ino;
};

struct reader {
	struct conf_ini *ini;
	struct config_errors *errs;
	conf_ini_fn fn;
	void *arg;
	struct source stack[INCLUDE_DEPTH_MAX];
	int depth;

	/* The line that is being handed to inih. */
	struct config_place place;
	struct str key;   /* points into the source's text */
	struct str value; /* the part that is still to be handed over */
	bool in_entry, key_is_sent;
	size_t value_len; /* of the whole value */

	/* What came back from inih. */
	struct buf got_key, got_value;
	char section[SECTION_BYTES_MAX + 1];
};

static void complain(struct reader *r, struct config_place place, const char *key, const char *message)
{
	config_errors_add(r->errs, CONFIG_ERROR, place, key, "%s", message);
}

/* --- sources ------------------------------------------------------------------------------------------------------ */

static const char *keep_name(struct conf_ini *ini, const char *name)
{
	ini->file_names = mem_realloc(ini->file_names, (size_t)(ini->n_file_names + 1) * sizeof(*ini->file_names));
	return ini->file_names[ini->n_file_names++] = mem_strdup(name);
}

void conf_ini_deinit(struct conf_ini *ini)
{
	for (int i = 0; i < ini->n_file_names; i++)
		mem_free(ini->file_names[i]);
	mem_free(ini->file_names);
	*ini = (struct conf_ini){ NULL, 0 };
}

static struct source *push(struct reader *r, const char *name, char *text, size_t len)
{
	static const char bom[] = "\xef\xbb\xbf";
	struct source *s = &r->stack[r->depth++];
	*s = (struct source){ .text = text, .len = len, .name = name };
	if (len >= 3 && memcmp(text, bom, 3) == 0)
		s->pos = 3;
	return s;
}

static void pop(struct reader *r)
{
	/* Passwords stand in these files. */
	struct source *s = &r->stack[--r->depth];
	mem_free_secret(s->text, s->len);
}

/* All of an open file.  Returns NULL with errno set; 0 means that it is too large. */
static char *slurp(int fd, size_t *len)
{
	char *text = NULL;
	size_t cap = 0, n = 0;
	for (;;) {
		if (n == cap) {
			cap = cap ? cap * 2 : 8192;
			text = mem_realloc(text, cap);
		}
		ssize_t got = read(fd, text + n, cap - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got == 0)
			break;
		n += got > 0 ? (size_t)got : 0;
		if (got < 0 || n > FILE_BYTES_MAX) {
			int why = got < 0 ? errno : 0;
			mem_free_secret(text, n);
			errno = why;
			return NULL;
		}
	}
	*len = n;
	return text;
}

static bool is_open(const struct reader *r, const struct stat *st)
{
	for (int i = 0; i < r->depth; i++) {
		if (r->stack[i].ino == st->st_ino && r->stack[i].dev == st->st_dev)
			return true;
	}
	return false;
}

/* Only regular files: a pipe or a device would hold the reload up for ever. */
static const char *open_problem(struct reader *r, int fd, struct stat *st)
{
	if (fd < 0 || fstat(fd, st) != 0)
		return strerror(errno);
	if (S_ISDIR(st->st_mode))
		return "it is a directory";
	if (!S_ISREG(st->st_mode))
		return "it is not a regular file";
	return is_open(r, st) ? "it includes itself" : NULL;
}

static void push_file(struct reader *r, const char *path, struct config_place from)
{
	struct stat st;
	size_t len = 0;
	char *text = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	const char *problem = open_problem(r, fd, &st);
	if (!problem && !(text = slurp(fd, &len)))
		problem = errno ? strerror(errno) : "it is larger than 16 MB";
	if (problem) {
		config_errors_add(r->errs, CONFIG_ERROR, from, NULL, "cannot read \"%s\": %s", path, problem);
	} else {
		struct source *s = push(r, keep_name(r->ini, path), text, len);
		s->dev = st.st_dev;
		s->ino = st.st_ino;
	}
	if (fd >= 0)
		close(fd);
}

static void include(struct reader *r, struct str rest)
{
	static const char word[] = "%include";
	struct str name = str_trim(rest);
	if (!str_has_prefix(name, STR("%include")) ||
	    (name.n > sizeof(word) - 1 && !strchr(" \t", name.p[sizeof(word) - 1]))) {
		complain(r, r->place, NULL, "unknown directive; the only one is %include FILE");
		return;
	}
	name = str_trim((struct str){ name.p + sizeof(word) - 1, name.n - (sizeof(word) - 1) });
	if (name.n == 0) {
		complain(r, r->place, NULL, "%include needs a file name");
		return;
	}
	if (r->depth == INCLUDE_DEPTH_MAX) {
		complain(r, r->place, NULL, "files include each other more than 10 deep");
		return;
	}
	const char *from = r->stack[r->depth - 1].name, *slash = strrchr(from, '/');
	int folder = name.p[0] == '/' || !slash ? 0 : (int)(slash - from) + 1;
	char *path = mem_printf("%.*s%.*s", folder, from, (int)name.n, name.p);
	push_file(r, path, r->place);
	mem_free(path);
}

/* --- lines -------------------------------------------------------------------------------------------------------- */

static bool next_line(struct reader *r, struct str *line)
{
	while (r->depth && r->stack[r->depth - 1].pos == r->stack[r->depth - 1].len)
		pop(r);
	if (!r->depth)
		return false;
	struct source *s = &r->stack[r->depth - 1];
	const char *start = s->text + s->pos, *end = memchr(start, '\n', s->len - s->pos);
	size_t n = end ? (size_t)(end - start) : s->len - s->pos;
	s->pos += end ? n + 1 : n;
	s->line++;
	if (n && start[n - 1] == '\r')
		n--;
	*line = (struct str){ start, n };
	r->place = (struct config_place){ s->name, s->line };
	return true;
}

static bool has_control_bytes(struct str line)
{
	for (size_t i = 0; i < line.n; i++) {
		if ((unsigned char)line.p[i] < ' ' && line.p[i] != '\t')
			return true;
	}
	return false;
}

/* Where the key ends: behind the closing quote of a quoted one, else at the "=".  False: no such place. */
static bool find_key_end(struct str line, size_t *end)
{
	size_t i = 1;
	if (line.p[0] != '"') {
		const char *equals = memchr(line.p, '=', line.n);
		*end = equals ? (size_t)(equals - line.p) : 0;
		return equals != NULL;
	}
	for (; i < line.n; i++) {
		if (line.p[i] != '"')
			continue;
		if (i + 1 < line.n && line.p[i + 1] == '"')
			i++;
		else
			break;
	}
	*end = i + 1;
	return i < line.n;
}

static bool start_entry(struct reader *r, struct str line)
{
	size_t end;
	bool ok = find_key_end(line, &end);
	struct str rest = ok ? str_trim((struct str){ line.p + end, line.n - end }) : (struct str){ NULL, 0 };
	if (!ok || rest.n == 0 || rest.p[0] != '=') {
		complain(r, r->place, NULL, "expected key = value, [section], %include or a comment");
		return false;
	}
	r->key = str_trim((struct str){ line.p, end });
	r->value = str_trim((struct str){ rest.p + 1, rest.n - 1 });
	r->value_len = r->value.n;
	if (r->key.n == 0 || str_eq(r->key, STR("\"\"")) || r->key.n > KEY_BYTES_MAX) {
		complain(r, r->place, NULL,
		         r->key.n > KEY_BYTES_MAX ? "the name before = is too long" : "there is no name before =");
		return false;
	}
	r->in_entry = true;
	r->key_is_sent = false;
	buf_clear(&r->got_key);
	buf_clear(&r->got_value);
	return true;
}

static bool is_section(struct reader *r, struct str line, struct str *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	if (line.p[line.n - 1] != ']') {
		complain(r, r->place, NULL, "a section is written [name], with nothing behind it");
		return false;
	}
	*name = str_trim((struct str){ line.p + 1, line.n - 2 });
	bool ok = name->n && name->n <= SECTION_BYTES_MAX;
	for (size_t i = 0; ok && i < name->n; i++)
		ok = name->p[i] && strchr(letters, name->p[i]);
	if (!ok)
		complain(r, r->place, NULL, "this is not the name of a section");
	return ok;
}

static char encoded(char c)
{
	const char *at = c ? strchr(protected, c) : NULL;
	return at ? (char)(at - protected + 1) : c;
}

static char decoded(char c) { return c > 0 && (size_t)c < sizeof(protected) ? protected[c - 1] : c; }

static size_t put_encoded(char *to, struct str from)
{
	for (size_t i = 0; i < from.n; i++)
		to[i] = encoded(from.p[i]);
	return from.n;
}

/* The next piece of the entry as a line of its own: at most `size` bytes with the NUL. */
static void write_piece(struct reader *r, char *to, size_t size)
{
	static const char continued[] = { CONTINUED, 0 };
	size_t n = put_encoded(to, r->key_is_sent ? str_of(continued) : r->key);
	to[n++] = '=';
	size_t room = size - n - 2, take = r->value.n < room ? r->value.n : room;
	n += put_encoded(to + n, (struct str){ r->value.p, take });
	r->value = (struct str){ r->value.p + take, r->value.n - take };
	r->key_is_sent = true;
	to[n++] = '\n';
	to[n] = '\0';
}

/* --- what inih makes of it ---------------------------------------------------------------------------------------- */

static void unquote_key(struct buf *key)
{
	uint8_t *p = buf_head(key);
	size_t n = buf_len(key), out = 0;
	if (n < 2 || p[0] != '"')
		return;
	for (size_t i = 1; i < n - 1; i++) {
		p[out++] = p[i];
		if (p[i] == '"')
			i++; /* the second of a pair */
	}
	key->tail = key->head + out;
}

static struct str buf_str(const struct buf *b) { return (struct str){ (const char *)buf_head(b), buf_len(b) }; }

static void finish_entry(struct reader *r)
{
	if (!r->in_entry)
		return;
	r->in_entry = false;
	if (buf_len(&r->got_value) != r->value_len || buf_len(&r->got_key) != r->key.n) {
		complain(r, r->place, NULL, "the ini library did not return the line as it stands");
		return;
	}
	unquote_key(&r->got_key);
	r->fn(r->arg, r->place, str_of(r->section), buf_str(&r->got_key), buf_str(&r->got_value));
}

static void put_decoded(struct buf *b, const char *from)
{
	size_t n = strlen(from);
	CHECK(buf_reserve(b, n ? n : 1));
	for (size_t i = 0; i < n; i++)
		b->data[b->tail++] = (uint8_t)decoded(from[i]);
}

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
	struct reader *r = user;
	if (!name || !value)
		return 1;
	(void)str_copy(r->section, sizeof(r->section), str_of(section));
	if (name[0] != CONTINUED)
		put_decoded(&r->got_key, name);
	put_decoded(&r->got_value, value);
	return 1;
}

/* Returns true when the line is one for inih and written to `to`. */
static bool take_line(struct reader *r, struct str line, char *to, size_t size)
{
	struct str section;
	line = str_trim(line);
	if (line.n == 0 || line.p[0] == ';' || line.p[0] == '#')
		return false;
	if (has_control_bytes(line)) {
		complain(r, r->place, NULL, "the line holds a control character or a NUL byte");
		return false;
	}
	if (line.p[0] == '%') {
		include(r, line);
		return false;
	}
	if (line.p[0] == '[') {
		if (!is_section(r, line, &section))
			return false;
		snprintf(to, size, "[%.*s]\n", (int)section.n, section.p);
		return true;
	}
	if (!start_entry(r, line))
		return false;
	write_piece(r, to, size);
	return true;
}

static char *read_for_inih(char *to, int size, void *stream)
{
	struct reader *r = stream;
	struct str line;
	CHECK(size >= KEY_BYTES_MAX + 8);
	if (r->in_entry && r->value.n) {
		write_piece(r, to, (size_t)size);
		return to;
	}
	finish_entry(r);
	while (next_line(r, &line)) {
		if (take_line(r, line, to, (size_t)size))
			return to;
	}
	return NULL;
}

static void run(struct reader *r)
{
	int rc = r->depth ? ini_parse_stream(read_for_inih, r, on_pair, r) : 0;
	finish_entry(r);
	if (rc != 0)
		complain(r, r->place, NULL, "the ini library refused a line");
	while (r->depth)
		pop(r);
	buf_deinit(&r->got_key);
	buf_deinit(&r->got_value);
}

void conf_ini_read_file(struct conf_ini *ini, const char *path, conf_ini_fn fn, void *arg, struct config_errors *errs)
{
	struct reader r = { .ini = ini, .errs = errs, .fn = fn, .arg = arg };
	push_file(&r, path, (struct config_place){ NULL, 0 });
	run(&r);
}

void conf_ini_read_text(struct conf_ini *ini, const char *name, struct str text, conf_ini_fn fn, void *arg,
                        struct config_errors *errs)
{
	struct reader r = { .ini = ini, .errs = errs, .fn = fn, .arg = arg };
	push(&r, keep_name(ini, name), mem_strndup(text.p ? text.p : "", text.n), text.n);
	run(&r);
}
