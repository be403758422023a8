/* control/page.h - the live page that the HTTP server shows at "/". */
#ifndef CONTROL_PAGE_H
#define CONTROL_PAGE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/check.h"

enum { PAGE_NONCE_SIZE = 33 };

void page_make_nonce(char out[PAGE_NONCE_SIZE]);
/* Appends the page with the nonce of this answer; false: no memory. */
bool page_put(struct buf *out, const char *nonce) MUSTCHECK;

#endif
