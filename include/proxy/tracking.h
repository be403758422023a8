/* proxy/tracking.h - what a client's statements make of its settings.
 *
 *   client.startup   what RESET goes back to: the start-up packet
 *   client.profile   what the session has now, as of the last transaction that has ended
 *   server.profile   what a backend has
 *
 * What code may have set (functions, DO, CALL, triggers, set_config) is read behind its transaction (afterstep.h). */
#ifndef PROXY_TRACKING_H
#define PROXY_TRACKING_H

#include <stdbool.h>
#include <stdint.h>
#include "proxy/afterstep.h"
#include "proxy/segment.h"
#include "sql/facts.h"

static inline bool tracking_is_due(uint32_t flags, uint32_t pins)
{
	return (flags & (SQL_F_SETS | SQL_F_MAY_TOUCH_SESSION)) ||
	       (pins & (SQL_PIN_SETTING | SQL_PIN_ROLE | SQL_PIN_CUSTOM | SQL_PIN_UNKNOWN));
}
/* RESET leads back to the client's start-up values, but on a backend that was logged in without them it does not.  So
 * these are set anew behind it.  The i-th statement for that in *sql, with its NUL; false: no more, or no memory. */
bool tracking_home_next(const struct client *c, const struct sql_stmt *reset, unsigned *i, struct buf *sql);
/* The statement resets something that the client has brought along, on a backend that knows nothing of that. */
bool tracking_resets_home(const struct client *c, const struct server *s, const struct sql_stmt *stmt);
/* Code may have done it, or one of several statements: then what was reset is put back behind the segment, by the
 * statement that is put into *sql, with its NUL; false: no memory. */
bool tracking_puts_back(const struct client *c, const struct server *s, uint32_t pins);
bool tracking_put_back(const struct client *c, const struct server *s, struct buf *sql);
/* Such a segment is about to leave. */
void tracking_note(struct client *c, struct server *s, const struct segment *seg);
/* E1: from now on the backend has these names, whatever comes of it. */
void tracking_note_names(struct client *c, struct server *s, struct params *names);
/* Nothing of the transaction has happened: it was lost. */
void tracking_forget(struct client *c);
/* It has ended.  Of its pins those that are settings are asked for behind the transaction; returns the rest. */
uint32_t tracking_take(struct client *c, uint32_t flags, uint32_t pins);

#endif
