/* proxy/client_login.h - a client from its first byte to its welcome: TLS, StartupMessage, authentication.
 *
 *   STARTUP: SSLRequest or a TLS record -> TLS -> StartupMessage -> AUTH: password, md5 or SCRAM -> WELCOME | LOCAL |
 * RAW
 *
 * Nothing that costs more than a lookup happens for a client that has not proved who it is. */
#ifndef PROXY_CLIENT_LOGIN_H
#define PROXY_CLIENT_LOGIN_H

#include "proxy/client.h"

struct client_login;

void client_login_start(struct client *c, bool is_unix);
/* Works through c->in while the client logs in. */
void client_login_process(struct client *c);
/* Before anything is read: is this a TLS handshake without SSLRequest (sslnegotiation=direct of PostgreSQL 17)?  True:
 * it has begun, and c may be closed. */
bool client_login_starts_with_tls(struct client *c);
void client_login_tls_done(struct client *c);
void client_login_free(struct client *c);
bool client_login_is_too_old(const struct client *c, uint64_t now_us);

/* The console (control layer) registers itself at start-up; without one the virtual databases do not exist. */
struct local_handler {
	/* False: not allowed; *err says why. */
	bool (*open)(struct client *c, const char *user, struct pgerr *err);
	void (*request)(struct client *c); /* c->in has a whole message or more: consume what can be */
	void (*close)(struct client *c);
};
void client_set_local_handler(const struct local_handler *handler);
const struct local_handler *client_local_handler(void);

#endif
