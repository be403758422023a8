/* proxy/local.h - answers that need no server (C3: only where they are exactly what PostgreSQL says, and silent). */
#ifndef PROXY_LOCAL_H
#define PROXY_LOCAL_H

#include "proxy/client.h"
#include "proxy/segment.h"

/* Answers the whole segment and changes the client's transaction or settings accordingly. False: the client is gone. */
bool local_answer(struct client *c, const struct segment *seg) MUSTCHECK;
/* An error in place of an answer; extended messages up to Sync are skipped as a server would. */
bool local_reject(struct client *c, enum segment_end end, const struct pgerr *err) MUSTCHECK;
/* The transaction status that ReadyForQuery says for this client. */
char local_tx_status(const struct client *c);

/* The transaction is over, whichever way; nothing of it is with a server any more. */
void local_forget_transaction(struct client *c, bool committed);

#endif
