/* src/proxy/client_login_priv.h - what the start-up packet (client_login.c) and authentication (client_auth.c) share.
 */
#ifndef PROXY_CLIENT_LOGIN_PRIV_H
#define PROXY_CLIENT_LOGIN_PRIV_H

#include "auth/password.h"
#include "auth/scram.h"
#include "proxy/client_login.h"
#include "wire/msg.h"

struct auth_request;
struct userdb;

struct client_login {
	bool is_unix;
	bool gss_refused, tls_asked;
	bool tls_direct; /* by a TLS record instead of SSLRequest: ALPN must have been agreed */
	bool sasl_started;
	bool is_replication, is_physical; /* physical: not for one database */
	bool was_looked_up;               /* by auth_query, whatever came of it */
	bool is_known;                    /* to auth_query, but without a secret */
	uint8_t key_len;                  /* of the cancel key: protocol 3.2 allows long ones */
	enum auth_method method;
	enum auth_exchange exchange;
	uint8_t salt[MD5_SALT_BYTES];
	struct scram_server scram;
	struct auth_request *lookup; /* auth_query is under way: nothing is read meanwhile */
	char *found;                 /* owned secret or NULL: what auth_query has found */
	struct userdb *users;        /* owned reference */
	char *user, *database;       /* owned */
	uint64_t since_us;
};

/* Ends the client with a FATAL error. */
void login_refuse(struct client *c, enum sqlstate id, const char *text);
struct wire_writer login_begin_reply(struct client *c);
bool login_send_reply(struct client *c, struct wire_writer *ww);
bool login_is_console(const char *database);
void login_done(struct client *c); /* it is who it says */

/* --- client_auth.c --- */
void auth_begin(struct client *c);
void auth_on_message(struct client *c, const struct frame *f); /* a password or SASL message */
void auth_forget(struct client *c);                            /* ends a look-up, wipes what was found */

#endif
