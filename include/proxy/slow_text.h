/* proxy/slow_text.h - what a slow segment has said word by word, for the log of who asks for it (log_literals). */
#ifndef PROXY_SLOW_TEXT_H
#define PROXY_SLOW_TEXT_H

#include <stdbool.h>
#include "base/buf.h"
#include "base/check.h"

struct client;

/* Of the segment that has just ended, while its bytes are there still: the text of its last Query or statement, and the
 * values of its Bind as PostgreSQL's log writes them ("$1 = 'a', $2 = NULL"); both end in a NUL.  False: it is not kept
 * (larger than 64 KB, or a COPY), or there is no memory; the buffers are the caller's to free all the same. */
bool slow_text_get(const struct client *c, struct buf *query, struct buf *parameters) MUSTCHECK;

#endif
