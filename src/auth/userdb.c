/* auth/userdb.c - see auth/userdb.h.
 *
 * The file's grammar is one line, so it is read by hand: inih's sections and 200 byte lines do not fit it.  The text of
 * the file and everything copied from it are wiped after use.
 * Locks: each snapshot has one for the verifiers made from plain passwords; the key store has its own.  Neither is held
 * while the other is taken, nor while a key is derived (milliseconds). */
#include "auth/userdb.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <uthash.h>
#include "base/log.h"
#include "base/mem.h"
#include "file_priv.h"

struct entry {
	struct userdb_user user; /* its name and secret are owned */
	size_t secret_len;
	struct scram_verifier *verifier; /* owned; NULL until made; lock: userdb.lock */
	UT_hash_handle hh;
};

struct userdb {
	atomic_uint refs;
	pthread_mutex_t lock;
	struct entry *users; /* owned; uthash by name */
	enum secret_kind typical_kind;
};

/* --- snapshot --- */

struct userdb *userdb_new_empty(void)
{
	struct userdb *db = mem_zalloc(sizeof(*db));
	atomic_init(&db->refs, 1);
	pthread_mutex_init(&db->lock, NULL);
	db->typical_kind = SECRET_SCRAM;
	return db;
}

struct userdb *userdb_ref(struct userdb *db)
{
	atomic_fetch_add_explicit(&db->refs, 1, memory_order_relaxed);
	return db;
}

static void entry_free(struct entry *e)
{
	mem_free_secret((char *)e->user.secret, e->secret_len);
	mem_free_secret(e->verifier, sizeof(*e->verifier));
	mem_free((char *)e->user.name);
	mem_free(e);
}

void userdb_unref(struct userdb *db)
{
	struct entry *e, *next;
	if (!db || atomic_fetch_sub_explicit(&db->refs, 1, memory_order_acq_rel) != 1)
		return;
	HASH_ITER(hh, db->users, e, next)
	{
		HASH_DEL(db->users, e);
		entry_free(e);
	}
	pthread_mutex_destroy(&db->lock);
	mem_free(db);
}

size_t userdb_count(const struct userdb *db) { return HASH_COUNT(db->users); }
enum secret_kind userdb_typical_kind(const struct userdb *db) { return db->typical_kind; }

static struct entry *find_entry(const struct userdb *db, struct str user)
{
	struct entry *e = NULL;
	if (user.n)
		HASH_FIND(hh, db->users, user.p, user.n, e);
	return e;
}

const struct userdb_user *userdb_find(const struct userdb *db, struct str user)
{
	struct entry *e = find_entry(db, user);
	return e ? &e->user : NULL;
}

/* A later line of the same user replaces an earlier one, as in PgBouncer. */
static void add_entry(struct userdb *db, struct str name, struct str secret, unsigned line)
{
	struct entry *old = find_entry(db, name);
	if (old) {
		HASH_DEL(db->users, old);
		entry_free(old);
	}
	struct entry *e = mem_zalloc(sizeof(*e));
	e->user.name = mem_strndup(name.p, name.n);
	e->user.secret = mem_strndup(secret.p, secret.n);
	e->user.kind = secret_parse(secret);
	e->user.line = line;
	e->secret_len = secret.n;
	HASH_ADD_KEYPTR(hh, db->users, e->user.name, name.n, e);
}

static void settle_typical_kind(struct userdb *db)
{
	unsigned counts[SECRET_SCRAM + 1] = { 0 };
	enum secret_kind best = SECRET_SCRAM;
	for (struct entry *e = db->users; e; e = e->hh.next)
		counts[e->user.kind]++;
	for (unsigned kind = SECRET_PLAIN; kind <= SECRET_SCRAM; kind++) {
		if (counts[kind] > counts[best])
			best = (enum secret_kind)kind;
	}
	db->typical_kind = best;
}

/* --- the file --- */

struct line_reader {
	const char *p, *end; /* borrowed: what is left of this line */
	const char *path;    /* borrowed */
	unsigned line;
	char *error; /* borrowed from the caller */
	size_t error_size;
};

static void set_error(struct line_reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void set_error(struct line_reader *r, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(r->error, r->error_size, "%s:%u: ", r->path, r->line);
	if (n >= 0 && (size_t)n < r->error_size) {
		va_start(ap, fmt);
		(void)vsnprintf(r->error + n, r->error_size - (size_t)n, fmt, ap);
		va_end(ap);
	}
}
/* A macro, so that compilers and analyzers see that it is always false. */
#define line_error(r, ...) (set_error(r, __VA_ARGS__), false)

static void skip_blanks(struct line_reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\r'))
		r->p++;
}

/* Reads "..." into out, which has room for the rest of the line; "" stands for one ". */
static bool read_quoted(struct line_reader *r, const char *what, char *out, struct str *value)
{
	size_t n = 0;
	skip_blanks(r);
	if (r->p == r->end || *r->p != '"')
		return line_error(r, "expected %s in double quotes", what);
	for (r->p++;; r->p++) {
		if (r->p == r->end)
			return line_error(r, "expected a double quote at the end of %s", what);
		if (*r->p == '\0')
			return line_error(r, "%s must not contain a zero byte", what);
		if (*r->p == '"') {
			if (r->end - r->p < 2 || r->p[1] != '"')
				break;
			r->p++;
		}
		out[n++] = *r->p;
	}
	r->p++;
	*value = (struct str){ out, n };
	return true;
}

static bool read_user_line(struct userdb *db, struct line_reader *r, char *name_room, char *secret_room)
{
	struct str name, secret;
	skip_blanks(r);
	if (r->p == r->end || *r->p == ';' || *r->p == '#')
		return true;
	if (!read_quoted(r, "a user name", name_room, &name))
		return false;
	if (name.n == 0)
		return line_error(r, "the user name is empty");
	if (r->p < r->end && *r->p != ' ' && *r->p != '\t')
		return line_error(r, "expected a space between the user name and the secret");
	if (!read_quoted(r, "a secret", secret_room, &secret))
		return false;
	skip_blanks(r);
	if (r->p < r->end && *r->p != ';' && *r->p != '#')
		return line_error(r, "expected the end of the line after the secret");
	const struct userdb_user *old = userdb_find(db, name);
	if (old)
		log_warning(NULL, "%s:%u: user \"%s\" stands in line %u too; this line counts", r->path, r->line,
		            old->name, old->line);
	add_entry(db, name, secret, r->line);
	return true;
}

static bool read_lines(struct userdb *db, struct str text, struct line_reader *r, char *name_room, char *secret_room)
{
	const char *p = text.p, *end = text.p + text.n;
	if (str_has_prefix(text, STR("\xef\xbb\xbf"))) /* byte order mark of some editors */
		p += 3;
	while (p < end) {
		const char *newline = memchr(p, '\n', (size_t)(end - p));
		r->line++;
		r->p = p;
		r->end = newline ? newline : end;
		if (!read_user_line(db, r, name_room, secret_room))
			return false;
		p = newline ? newline + 1 : end;
	}
	return true;
}

struct userdb *userdb_parse(struct str text, const char *path, char *error, size_t error_size)
{
	struct line_reader r = { .path = path, .error = error, .error_size = error_size };
	struct userdb *db = userdb_new_empty();
	/* Room for the longest line there can be. */
	char *name_room = mem_alloc(text.n + 1), *secret_room = mem_alloc(text.n + 1);
	bool ok = text.n == 0 || read_lines(db, text, &r, name_room, secret_room);
	mem_free_secret(name_room, text.n + 1);
	mem_free_secret(secret_room, text.n + 1);
	if (!ok) {
		userdb_unref(db);
		return NULL;
	}
	settle_typical_kind(db);
	return db;
}

struct userdb *userdb_load(const char *path, char *error, size_t error_size)
{
	struct userdb *db = NULL;
	struct buf text;
	if (auth_file_read(path, &text))
		db = userdb_parse((struct str){ (const char *)text.data, buf_len(&text) }, path, error, error_size);
	else
		snprintf(error, error_size, "could not read user file \"%s\": %s", path, strerror(errno));
	auth_file_wipe(&text);
	return db;
}

/* --- verifiers of plain passwords --- */

static bool cached_verifier(struct userdb *db, const struct entry *e, uint32_t iterations, struct scram_verifier *out)
{
	pthread_mutex_lock(&db->lock);
	bool found = e->verifier && e->verifier->iterations == iterations;
	if (found)
		*out = *e->verifier;
	pthread_mutex_unlock(&db->lock);
	return found;
}

/* Two threads may have derived at once; the first one's salt stays, so that keys learned with it stay good. */
static void keep_verifier(struct userdb *db, struct entry *e, struct scram_verifier *made)
{
	pthread_mutex_lock(&db->lock);
	if (e->verifier && e->verifier->iterations == made->iterations) {
		*made = *e->verifier;
	} else {
		if (!e->verifier)
			e->verifier = mem_alloc(sizeof(*e->verifier));
		*e->verifier = *made;
	}
	pthread_mutex_unlock(&db->lock);
}

bool userdb_verifier(struct userdb *db, const struct userdb_user *user, uint32_t iterations, struct scram_verifier *out)
{
	struct entry *e = find_entry(db, str_of(user->name));
	CHECK(e != NULL && &e->user == user);
	struct str secret = { e->user.secret, e->secret_len };
	switch (e->user.kind) {
	case SECRET_SCRAM:
		return scram_verifier_parse(secret, out);
	case SECRET_PLAIN:
		if (cached_verifier(db, e, iterations, out))
			return true;
		if (!scram_verifier_make(secret, iterations, out))
			return false;
		keep_verifier(db, e, out);
		return true;
	case SECRET_NONE:
	case SECRET_MD5:
		break;
	}
	return false;
}

/* --- keys learned from logins --- */

struct key_entry {
	char *user; /* owned */
	bool has_keys;
	struct scram_keys keys;
	char *secret; /* owned or NULL */
	UT_hash_handle hh;
};

static pthread_mutex_t keys_lock = PTHREAD_MUTEX_INITIALIZER;
static struct key_entry *keys_by_user; /* owned; lock: keys_lock */

static struct key_entry *find_keys_locked(struct str user)
{
	struct key_entry *e = NULL;
	if (user.n)
		HASH_FIND(hh, keys_by_user, user.p, user.n, e);
	return e;
}

static struct key_entry *find_or_add_keys_locked(struct str user)
{
	struct key_entry *e = find_keys_locked(user);
	if (e)
		return e;
	e = mem_zalloc(sizeof(*e));
	e->user = mem_strndup(user.p, user.n);
	HASH_ADD_KEYPTR(hh, keys_by_user, e->user, user.n, e);
	return e;
}

static void drop_keys_locked(struct key_entry *e)
{
	HASH_DEL(keys_by_user, e);
	mem_free(e->user);
	mem_free_secret(e->secret, e->secret ? strlen(e->secret) : 0);
	mem_free_secret(e, sizeof(*e));
}

void scram_keys_remember(struct str user, const struct scram_verifier *verifier,
                         const uint8_t client_key[SCRAM_KEY_BYTES], const uint8_t server_key[SCRAM_KEY_BYTES])
{
	if (user.n == 0)
		return;
	pthread_mutex_lock(&keys_lock);
	struct key_entry *e = find_or_add_keys_locked(user);
	e->has_keys = true;
	memcpy(e->keys.client_key, client_key, SCRAM_KEY_BYTES);
	memcpy(e->keys.server_key, server_key, SCRAM_KEY_BYTES);
	e->keys.iterations = verifier->iterations;
	e->keys.salt_len = verifier->salt_len;
	memcpy(e->keys.salt, verifier->salt, verifier->salt_len);
	pthread_mutex_unlock(&keys_lock);
}

bool scram_keys_lookup(struct str user, struct scram_keys *out)
{
	pthread_mutex_lock(&keys_lock);
	struct key_entry *e = find_keys_locked(user);
	bool found = e && e->has_keys;
	if (found)
		*out = e->keys;
	pthread_mutex_unlock(&keys_lock);
	return found;
}

void learned_secret_remember(struct str user, const char *secret)
{
	if (user.n == 0)
		return;
	pthread_mutex_lock(&keys_lock);
	struct key_entry *e = find_or_add_keys_locked(user);
	mem_free_secret(e->secret, e->secret ? strlen(e->secret) : 0);
	e->secret = mem_strdup(secret);
	pthread_mutex_unlock(&keys_lock);
}

char *learned_secret_lookup(struct str user)
{
	pthread_mutex_lock(&keys_lock);
	struct key_entry *e = find_keys_locked(user);
	char *copy = e && e->secret ? mem_strdup(e->secret) : NULL;
	pthread_mutex_unlock(&keys_lock);
	return copy;
}

void scram_keys_forget(struct str user)
{
	pthread_mutex_lock(&keys_lock);
	struct key_entry *e = find_keys_locked(user);
	if (e)
		drop_keys_locked(e);
	pthread_mutex_unlock(&keys_lock);
}

void scram_keys_forget_all(void)
{
	struct key_entry *e, *next;
	pthread_mutex_lock(&keys_lock);
	HASH_ITER(hh, keys_by_user, e, next)
	drop_keys_locked(e);
	pthread_mutex_unlock(&keys_lock);
}
