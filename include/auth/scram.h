/* auth/scram.h - SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677, 5929), client and server role.
 *
 * Step functions over borrowed bytes: no I/O, no allocation but inside SASLprep, no clock.  All that is kept lives in
 * fixed arrays of the exchange; whatever does not fit is an error, never cut (a server's endless nonce must not become
 * a shorter one, CVE-2026-6665).  Secrets are compared in constant time and wiped by *_deinit.
 *
 *   client role:  START -- step("") --> FIRST_SENT -- step(server-first) --> FINAL_SENT -- step(server-final) --> DONE
 *   server role:  START -- step(client-first) --> FIRST_SENT -- step(client-final) --> DONE
 *   any of them:  --> FAILED, with the failure's reason in ->failure
 *
 * The client role signs with a password or with keys alone: a client that logs in to us gives away its ClientKey (the
 * proof XOR what we can compute), and with it we log in to the server as that user, so that no password is stored.
 * Thread rule: an exchange belongs to one thread; the functions on verifiers are safe anywhere. */
#ifndef AUTH_SCRAM_H
#define AUTH_SCRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/check.h"
#include "base/str.h"

#define SCRAM_MECHANISM      "SCRAM-SHA-256"
#define SCRAM_MECHANISM_PLUS "SCRAM-SHA-256-PLUS"

enum {
	SCRAM_KEY_BYTES = 32,
	SCRAM_SALT_BYTES = 16,    /* of the verifiers that we make, as PostgreSQL's */
	SCRAM_SALT_MAX = 128,     /* of the verifiers that we accept */
	SCRAM_NONCE_MAX = 512,    /* of both sides together; PostgreSQL uses 48 */
	SCRAM_BINDING_MAX = 64,   /* tls-server-end-point with SHA-512 */
	SCRAM_MESSAGE_MAX = 1024, /* longest message that we accept or send */
	SCRAM_VERIFIER_TEXT_MAX = 320,
	SCRAM_ITERATIONS_DEFAULT = 4096,
	/* A peer chooses the number, and deriving keys blocks the thread: about half a second for this many. */
	SCRAM_ITERATIONS_MAX = 1000000,
};

/* What is stored of a user. */
struct scram_verifier {
	uint32_t iterations;
	size_t salt_len;
	uint8_t salt[SCRAM_SALT_MAX];
	uint8_t stored_key[SCRAM_KEY_BYTES];
	uint8_t server_key[SCRAM_KEY_BYTES];
};

/* What a login needs instead of a password. */
struct scram_keys {
	uint8_t client_key[SCRAM_KEY_BYTES];
	uint8_t server_key[SCRAM_KEY_BYTES];
	/* Salt and iterations that the keys belong to; iterations 0: not known.  When known and the server's differ,
	 * the login fails with a reason that says so, and not with "password authentication failed". */
	uint32_t iterations;
	size_t salt_len;
	uint8_t salt[SCRAM_SALT_MAX];
};

/* protocol: the peer broke the protocol (08P01); else it failed to prove itself (28P01). */
#define SCRAM_FAILURES(X)                                                                                              \
	X(NONE, false, "no failure")                                                                                   \
	X(MALFORMED, true, "malformed SCRAM message")                                                                  \
	X(TOO_LONG, true, "SCRAM message or nonce is too long")                                                        \
	X(UNSUPPORTED_EXTENSION, true, "SCRAM message requires an unsupported extension")                              \
	X(AUTHZID, true, "SCRAM authorization identity is not supported")                                              \
	X(NONCE, true, "SCRAM nonce does not match")                                                                   \
	X(ITERATIONS, true, "SCRAM iteration count is out of range")                                                   \
	X(BINDING_NOT_USED, true, "SCRAM-SHA-256-PLUS was chosen without channel binding data")                        \
	X(BINDING_NOT_CHOSEN, true, "SCRAM-SHA-256 was chosen with channel binding data")                              \
	X(BINDING_DOWNGRADE, true, "SCRAM channel binding negotiation error")                                          \
	X(BINDING_TYPE, true, "unsupported SCRAM channel-binding type")                                                \
	X(BINDING_MISMATCH, false, "SCRAM channel binding check failed")                                               \
	X(PROOF, false, "SCRAM proof is wrong")                                                                        \
	X(SERVER_PROOF, false, "server signature is wrong: the server does not know the password")                     \
	X(SERVER_ERROR, false, "server reported a SCRAM error")                                                        \
	X(OTHER_VERIFIER, false, "server's SCRAM secret differs from the one that the client logged in with")          \
	X(MECHANISM, true, "client selected an invalid SASL authentication mechanism")                                 \
	X(OUT_OF_ORDER, true, "SCRAM message out of order")                                                            \
	X(CRYPTO, false, "cryptographic library failed")

enum scram_failure {
#define SCRAM_FAILURE_ENUM(id, protocol, text) SCRAM_FAILURE_##id,
	SCRAM_FAILURES(SCRAM_FAILURE_ENUM)
#undef SCRAM_FAILURE_ENUM
};
const char *scram_failure_text(enum scram_failure failure);
bool scram_failure_is_protocol(enum scram_failure failure);

enum scram_result {
	SCRAM_CONTINUE, /* send *out, wait for the next message */
	SCRAM_DONE,     /* the peer has proved itself; send *out unless empty */
	SCRAM_FAILED,
};
enum scram_state { SCRAM_START, SCRAM_FIRST_SENT, SCRAM_FINAL_SENT, SCRAM_STATE_DONE, SCRAM_STATE_FAILED };

/* First character of the gs2 header.  In the client role: NONE without TLS, POSSIBLE with TLS where the server did not
 * offer PLUS, USED with the PLUS mechanism. */
enum scram_binding { SCRAM_BINDING_NONE = 'n', SCRAM_BINDING_POSSIBLE = 'y', SCRAM_BINDING_USED = 'p' };

/* --- verifiers --- */

bool scram_verifier_parse(struct str text, struct scram_verifier *out) MUSTCHECK;
/* Writes NUL-terminated text; size at least SCRAM_VERIFIER_TEXT_MAX. */
bool scram_verifier_format(const struct scram_verifier *v, char *out, size_t size) MUSTCHECK;
/* With random salt.  false: too many iterations, or the cryptographic library failed. */
bool scram_verifier_make(struct str password, uint32_t iterations, struct scram_verifier *out) MUSTCHECK;
bool scram_verifier_make_salted(struct str password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
                                struct scram_verifier *out) MUSTCHECK;
bool scram_verifier_check_password(const struct scram_verifier *v, struct str password) MUSTCHECK;
bool scram_verifier_equal(const struct scram_verifier *a, const struct scram_verifier *b);
/* For a user that does not exist: the same salt for the same name while the process lives, and no password fits. */
bool scram_verifier_mock(struct str user, uint32_t iterations, struct scram_verifier *out) MUSTCHECK;

/* Client and server key of a password; what a pool may keep so as not to derive them for each connection. */
bool scram_keys_derive(struct str password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
                       struct scram_keys *out) MUSTCHECK;

/* --- an exchange --- */

/* Bytes that an exchange has composed or must remember. */
struct scram_text {
	char p[SCRAM_MESSAGE_MAX];
	size_t n;
	bool overflow; /* set by the first append that did not fit, never cleared */
};

struct scram_client {
	enum scram_state state;
	enum scram_failure failure;
	enum scram_binding binding;
	/* Derived or given keys.  After DONE with a password they hold its keys, with salt and iterations: the caller
	 * may keep them for the pool's next connection, and save two milliseconds of deriving each time. */
	struct scram_keys keys;
	bool has_keys;
	struct str password; /* borrowed, must outlive the exchange; used when keys were not given */
	uint8_t binding_data[SCRAM_BINDING_MAX];
	size_t binding_len;
	char nonce[64];
	size_t nonce_len;
	uint8_t server_signature[SCRAM_KEY_BYTES];
	struct scram_text first_bare, out;
};

struct scram_client_options {
	struct str password;           /* borrowed until deinit */
	const struct scram_keys *keys; /* copied; NULL: use the password.  Given both, keys are tried where salt and
	                                * iterations fit, and the password otherwise. */
	enum scram_binding binding;
	struct str binding_data; /* copied; tls-server-end-point hash, for SCRAM_BINDING_USED */
	struct str nonce;        /* for tests: fixed instead of random; n == 0: random */
};

/* false: no random bytes, or binding data that does not fit. */
bool scram_client_init(struct scram_client *c, const struct scram_client_options *options) MUSTCHECK;
void scram_client_deinit(struct scram_client *c); /* wipes */
/* The first step takes no input.  *out is borrowed from c until the next step. */
enum scram_result scram_client_step(struct scram_client *c, struct str in, struct str *out) MUSTCHECK;

/* Which mechanism to answer AuthenticationSASL with. */
enum scram_choice { SCRAM_CHOICE_NONE, SCRAM_CHOICE_PLAIN, SCRAM_CHOICE_PLUS };
/* What to use given what a server offers; *binding is the gs2 flag for it.  channel_binding as of libpq's words. */
enum scram_channel_binding { SCRAM_CHANNEL_DISABLE, SCRAM_CHANNEL_PREFER, SCRAM_CHANNEL_REQUIRE };
struct scram_offer {
	bool plain, plus; /* mechanisms named by the server */
	bool has_binding; /* the connection is TLS and its tls-server-end-point hash is known */
};
void scram_offer_add(struct scram_offer *offer, struct str mechanism);
enum scram_choice scram_choose(const struct scram_offer *offer, enum scram_channel_binding wanted,
                               enum scram_binding *binding);

struct scram_server {
	enum scram_state state;
	enum scram_failure failure;
	struct scram_verifier verifier;
	bool is_mock;               /* set at init: no proof can be right */
	bool binding_offered;       /* set at init: we had named PLUS */
	bool is_plus;               /* set at init: the client chose PLUS */
	enum scram_binding binding; /* what the client said */
	/* After DONE: keys for logins to servers as this user, with salt and iterations of the verifier. */
	struct scram_keys keys;
	uint8_t binding_data[SCRAM_BINDING_MAX];
	size_t binding_len;
	char own_nonce[64];
	size_t own_nonce_len;
	struct scram_text nonce, first_bare, first; /* both nonces; client-first-bare; server-first */
	struct scram_text out;
};

struct scram_server_options {
	const struct scram_verifier *verifier; /* copied */
	bool is_mock;                          /* the verifier is of scram_verifier_mock() */
	bool binding_offered;                  /* SCRAM-SHA-256-PLUS was named in AuthenticationSASL */
	struct str mechanism;                  /* what the client chose; borrowed for the call */
	struct str binding_data;               /* copied; our own certificate's tls-server-end-point hash */
	struct str nonce;                      /* for tests; n == 0: random */
};

/* false: the mechanism is none that we offered, or no random bytes; see ->failure. */
bool scram_server_init(struct scram_server *s, const struct scram_server_options *options) MUSTCHECK;
void scram_server_deinit(struct scram_server *s); /* wipes */
enum scram_result scram_server_step(struct scram_server *s, struct str in, struct str *out) MUSTCHECK;

#endif
