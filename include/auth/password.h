/* auth/password.h - stored secrets and the exchanges that can be had with them: clear text, md5, SCRAM.
 *
 * A secret is what auth_file, auth_query or a configuration holds of a user: a plain password, "md5" and 32 hex
 * digits, or a SCRAM verifier, told apart by shape alone, exactly as PostgreSQL does.
 * Pure functions; comparisons take the same time whatever differs. */
#ifndef AUTH_PASSWORD_H
#define AUTH_PASSWORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "auth/scram.h"
#include "base/check.h"
#include "base/str.h"

enum { MD5_TEXT_BYTES = 35, MD5_SALT_BYTES = 4 }; /* "md5" and 32 hex digits, without NUL */

#define SECRET_KINDS(X) X(NONE, "none") X(PLAIN, "plain") X(MD5, "md5") X(SCRAM, "scram-sha-256")
enum secret_kind {
#define SECRET_KIND_ENUM(id, name) SECRET_##id,
	SECRET_KINDS(SECRET_KIND_ENUM)
#undef SECRET_KIND_ENUM
};
const char *secret_kind_name(enum secret_kind kind);

/* The empty string is SECRET_NONE: nobody can log in with it. */
enum secret_kind secret_parse(struct str text);

/* What md5 stores: "md5" + hex(md5(password + user)).  false: the cryptographic library has no MD5 (FIPS). */
bool md5_secret(struct str password, struct str user, char out[MD5_TEXT_BYTES + 1]) MUSTCHECK;
/* What a client answers to a salt: "md5" + hex(md5(hex part of the stored form + salt)). */
bool md5_response(struct str stored_md5, const uint8_t salt[MD5_SALT_BYTES], char out[MD5_TEXT_BYTES + 1]) MUSTCHECK;
/* The answer to a server that asks for md5, from a plain or md5 secret.  false: the secret is of no use for it. */
bool md5_answer(struct str secret, struct str user, const uint8_t salt[MD5_SALT_BYTES],
                char out[MD5_TEXT_BYTES + 1]) MUSTCHECK;

/* Does the client's answer fit?  Secrets of any kind; SECRET_NONE and a kind that cannot serve give false. */
bool password_check_md5(struct str secret, struct str user, const uint8_t salt[MD5_SALT_BYTES],
                        struct str response) MUSTCHECK;
bool password_check_clear(struct str secret, struct str user, struct str password) MUSTCHECK;

/* auth_type, and the method column of an hba file. */
#define AUTH_METHODS(X)                                                                                                \
	X(TRUST, "trust")                                                                                              \
	X(REJECT, "reject")                                                                                            \
	X(PASSWORD, "password")                                                                                        \
	X(MD5, "md5") X(SCRAM, "scram-sha-256") X(CERT, "cert") X(PEER, "peer") X(ANY, "any") X(HBA, "hba")
enum auth_method {
#define AUTH_METHOD_ENUM(id, name) AUTH_METHOD_##id,
	AUTH_METHODS(AUTH_METHOD_ENUM)
#undef AUTH_METHOD_ENUM
};
const char *auth_method_name(enum auth_method method);
bool auth_method_parse(struct str name, enum auth_method *out) MUSTCHECK; /* also PgBouncer's "plain" for password */

/* What to ask a client for. */
enum auth_exchange {
	AUTH_EXCHANGE_NONE, /* let it in, or decide by certificate or socket peer */
	AUTH_EXCHANGE_CLEARTEXT,
	AUTH_EXCHANGE_MD5,
	AUTH_EXCHANGE_SCRAM,
	AUTH_EXCHANGE_SCRAM_MOCK, /* go through the motions with scram_verifier_mock(), which fails at the end */
	AUTH_EXCHANGE_REJECT,
};
/* For a user that does not exist pass userdb_typical_kind(), so that the kind of question does not tell. */
enum auth_exchange auth_exchange_pick(enum auth_method method, enum secret_kind kind);

#endif
