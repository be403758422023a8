/* control/admin.h - the admin console: the virtual databases "pgweir" and "pgbouncer".
 *
 * A console client stays on the worker where it was accepted, in state CLIENT_LOCAL; proxy hands its bytes to the
 * handler that is registered here.  What a command needs from other threads is asked for by message, so that no worker
 * ever waits for another. */
#ifndef CONTROL_ADMIN_H
#define CONTROL_ADMIN_H

#include "base/check.h"

struct client;

void admin_start(void); /* main thread, before the workers */
void admin_stop(void);
/* Who is at the console; "" when the client is not there.  On its worker's thread. */
const char *admin_user(const struct client *c);

/* Clients at the console, of all workers; any thread. */
int admin_sessions(void);

#endif
