/* io/tls.h - TLS contexts from plain options, and what to ask of a finished handshake.
 *
 * struct tls_ctx: immutable once made, shared between threads by reference count.  A reload makes a new one; each
 * connection keeps the certificates that it began with (its SSL holds its own reference to OpenSSL's context, so the
 * tls_ctx need only live until stream_start_tls_*() has returned).
 * What both roles fix: TLS 1.2 or newer unless older ones are named, no renegotiation, no compression, no session
 * cache or tickets (as PostgreSQL: a resumed session would skip the check of client certificates). */
#ifndef IO_TLS_H
#define IO_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/check.h"

struct ssl_st; /* OpenSSL's SSL */

/* libpq's sslmode words, in rising order of strictness: compare with < and >=. */
#define TLS_MODES(X)                                                                                                   \
	X(DISABLE, "disable")                                                                                          \
	X(ALLOW, "allow")                                                                                              \
	X(PREFER, "prefer")                                                                                            \
	X(REQUIRE, "require")                                                                                          \
	X(VERIFY_CA, "verify-ca")                                                                                      \
	X(VERIFY_FULL, "verify-full")
enum tls_mode {
#define TLS_MODE_ENUM(id, name) TLS_##id,
	TLS_MODES(TLS_MODE_ENUM)
#undef TLS_MODE_ENUM
};
const char *tls_mode_name(enum tls_mode mode);
bool tls_mode_parse(const char *name, enum tls_mode *out) MUSTCHECK;

/* Every string may be NULL or "": the default.  Borrowed for the call only. */
struct tls_options {
	enum tls_mode mode;
	const char *key_file, *cert_file; /* PEM; a server needs both; cert_file may hold the chain */
	const char *ca_file;              /* PEM; verify-ca and verify-full need it ("system": the host's store) */
	const char *protocols;            /* "secure" (default), "all", or a list of tlsv1.0 ... tlsv1.3 */
	const char *ciphers;       /* TLS 1.2: "default", "secure", "fast", "normal", "all" or OpenSSL's syntax */
	const char *tls13_ciphers; /* OpenSSL's names with colons */
	bool no_dhe;               /* server role: only elliptic curves for the key exchange up to TLS 1.2 */
	const char *curves;        /* "auto", or OpenSSL's group names with colons */
};

struct tls_ctx;
/* Server role (we present a certificate): below verify-ca a client's certificate is asked for where there is a ca_file,
 * and may be absent or wrong, but then tls_peer_cn() does not give its name; from verify-ca on a valid one is a must.
 * Client role: below verify-ca the server's certificate is not checked.  NULL with a message on failure. */
struct tls_ctx *tls_ctx_new_server(const struct tls_options *options, char *err, size_t err_size) MUSTCHECK;
struct tls_ctx *tls_ctx_new_client(const struct tls_options *options, char *err, size_t err_size) MUSTCHECK;
struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx); /* thread-safe */
void tls_ctx_unref(struct tls_ctx *ctx);          /* thread-safe; NULL is fine */

/* For io/stream: a connection's SSL, owned by the caller.  host (client role): SNI where it is a name, and what the
 * certificate must match under verify-full; NULL for a server. */
struct ssl_st *tls_ssl_new(struct tls_ctx *ctx, const char *host, char *err, size_t err_size) MUSTCHECK;
/* Text of the failure that OpenSSL's error queue and the verify result tell about; empties the queue. */
void tls_error_text(const struct ssl_st *ssl, char *out, size_t size);

/* --- after the handshake --- */
enum { TLS_HASH_MAX = 64 };
/* tls-server-end-point of RFC 5929: own certificate (server role), or the peer's (client role).  False when there is
 * none, or its signature names no hash (Ed25519): then channel binding must not be offered. */
bool tls_endpoint_own(const struct ssl_st *ssl, uint8_t out[TLS_HASH_MAX], size_t *len) MUSTCHECK;
bool tls_endpoint_peer(const struct ssl_st *ssl, uint8_t out[TLS_HASH_MAX], size_t *len) MUSTCHECK;
/* The common name of a client certificate that was *verified*; false without one, or if it does not fit or holds a
 * NUL byte (a classic way to pass as "alice\0.evil"). */
bool tls_peer_cn(const struct ssl_st *ssl, char *out, size_t size) MUSTCHECK;
bool tls_peer_verified(const struct ssl_st *ssl);
bool tls_alpn_agreed(const struct ssl_st *ssl); /* "postgresql" was negotiated; a must for direct TLS */
const char *tls_describe(const struct ssl_st *ssl, char *out, size_t size); /* "TLSv1.3/TLS_AES_256_GCM_SHA384" */

#endif
