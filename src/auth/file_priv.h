/* auth/file_priv.h - reading a small file at once, for user and rule files. */
#ifndef AUTH_FILE_PRIV_H
#define AUTH_FILE_PRIV_H

#include "base/buf.h"
#include "base/check.h"

/* Whole file into *text; false with errno set.  Give it back by auth_file_wipe(), also after a failure. */
bool auth_file_read(const char *path, struct buf *text) MUSTCHECK;
void auth_file_wipe(struct buf *text);

#endif
