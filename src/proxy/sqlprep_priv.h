/* sqlprep_priv.h - the backend's table, for sqlprep.c and sqlprep_emit.c. */
#ifndef PROXY_SQLPREP_PRIV_H
#define PROXY_SQLPREP_PRIV_H

#include "proxy/sqlprep.h"

struct plain_stmt *plain_find(const struct plain_stmts *p, struct str name);
/* The name's entry, a new one if there is none; NULL: no memory. */
struct plain_stmt *plain_add(struct server *s, struct str name, uint32_t segment);
void plain_touch(struct server *s, struct plain_stmt *at, uint32_t segment);
void plain_set(struct server *s, struct plain_stmt *at, struct stmt_text *text, bool from_sql, uint64_t made_for,
               bool tentative);

#endif
