/* proxy/scopes.h - SET pgweir.* and SET LOCAL pgweir.* follow transactions as PostgreSQL's own settings do: taken back
 * by ROLLBACK and by ROLLBACK TO SAVEPOINT, SET LOCAL gone after COMMIT and COMMIT AND CHAIN.
 *
 * The settings are answered here and savepoints are the server's, so a client's savepoints are noted as they are
 * answered. A savepoint costs its name; what the settings were is copied when the first one changes behind it. */
#ifndef PROXY_SCOPES_H
#define PROXY_SCOPES_H

#include <stdbool.h>

struct client;
struct sql_facts;

/* Before a setting changes. */
void scopes_save(struct client *c);
/* A statement, or a string of several, of an open transaction was answered without an error. */
void scopes_note_done(struct client *c, const struct sql_facts *facts);
/* The transaction has ended; also when the next one has been chained to it. */
void scopes_end(struct client *c, bool committed);
bool scopes_have_savepoint(const struct client *c);
void scopes_free(struct client *c);

#endif
