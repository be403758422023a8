/* auth/userdb.h - the users of auth_file, and the SCRAM keys learned from logins.
 *
 * A struct userdb is an immutable snapshot of one file (but for verifiers of plain passwords, which are made at their
 * first use, under a lock).  A reload makes a new one; sessions that log in hold a reference to the one they started
 * with.  Secrets are wiped when the last reference goes.
 *
 * The key store is one for the process: a client may log in on one worker, and its server connection open on another.
 * Thread rule: everything here may be called from any thread. */
#ifndef AUTH_USERDB_H
#define AUTH_USERDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "auth/password.h"
#include "auth/scram.h"
#include "base/check.h"
#include "base/str.h"

struct userdb; /* opaque: reference count, lock, hash table */

struct userdb_user {
	const char *name;   /* owned by the snapshot, as is secret */
	const char *secret; /* as it stands in the file, unquoted; never to be logged */
	enum secret_kind kind;
	unsigned line;
};

/* Reads lines `"user" "secret"` ("" inside quotes is one "; empty lines and those that begin with ; or # are skipped).
 * NULL on failure, with "FILE:LINE: what was expected" in error.  The file name in errors is `path`. */
struct userdb *userdb_load(const char *path, char *error, size_t error_size) MUSTCHECK;
struct userdb *userdb_parse(struct str text, const char *path, char *error, size_t error_size) MUSTCHECK;
struct userdb *userdb_new_empty(void) MUSTCHECK;
struct userdb *userdb_ref(struct userdb *db);
void userdb_unref(struct userdb *db); /* NULL is fine */

size_t userdb_count(const struct userdb *db);
/* Borrowed from the snapshot; NULL: no such user. */
const struct userdb_user *userdb_find(const struct userdb *db, struct str user);
/* The most frequent kind of secret (SECRET_SCRAM when there is none): what to pretend for an unknown user. */
enum secret_kind userdb_typical_kind(const struct userdb *db);
/* The verifier of a user with a SCRAM or plain secret; that of a plain one is made at first use and kept.  false: the
 * secret is of another kind, or the cryptographic library failed. */
bool userdb_verifier(struct userdb *db, const struct userdb_user *user, uint32_t iterations,
                     struct scram_verifier *out) MUSTCHECK;

/* --- keys learned from logins --- */

/* verifier: the one that the login was checked against; keys: scram_server.keys after SCRAM_DONE.  Replaces what was
 * known of this user.  Copies all. */
void scram_keys_remember(struct str user, const struct scram_verifier *verifier,
                         const uint8_t client_key[SCRAM_KEY_BYTES], const uint8_t server_key[SCRAM_KEY_BYTES]);
/* The keys of the user's last login; false: none.  Wipe *out after use. */
bool scram_keys_lookup(struct str user, struct scram_keys *out) MUSTCHECK;
/* What the user's login was checked against where it is good for a server login too: a plain password or md5 hash that
 * auth_query has found.  Look-up: a copy for the caller to free as a secret, or NULL. */
void learned_secret_remember(struct str user, const char *secret);
char *learned_secret_lookup(struct str user) MUSTCHECK;
void scram_keys_forget(struct str user); /* a server has refused them; forgets the learned secret too */
void scram_keys_forget_all(void);        /* at exit */

#endif
