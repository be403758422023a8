/* proxy/columns.h - D3: which columns a client was told of its prepared statements, and whether they still are that.
 *
 * PostgreSQL refuses a prepared statement whose columns DDL has changed (0A000), because its client would read rows by
 * what it was told before.  A statement of ours may have been prepared anew since, on another server or by another
 * client, and then PostgreSQL sees no change.  So both sides have a hash of their columns:
 *
 *   cstmt.told, client_stmts.unnamed_told            as the client was told last; 0: never
 *   sstmt.columns, server_stmts.unnamed_columns      as this copy of the statement has them, for all its life; 0:
 * unknown
 *
 * A Bind whose client relies on what it was told, on a server where the two are not known to agree, is preceded by a
 * Parse and Describe of ours, and waits for their answer; when they differ it is made to fail, and the client gets the
 * error of PostgreSQL.  Once both are known this is a comparison of two words.  Owner: worker. */
#ifndef PROXY_COLUMNS_H
#define PROXY_COLUMNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;
struct cstmt;
struct request;
struct segment;
struct server;
struct sstmt;

/* The hash of a RowDescription's body: names and types, not formats; 0 when it is not all there.  Without a body
 * (NoData): that of no columns. */
uint64_t columns_hash(const uint8_t *body, size_t have, size_t len);
/* The answer of a Describe with REQF_COLUMNS has come. */
void columns_learn(struct server *s, const struct request *r, uint64_t columns);
/* The client's name, or all of them (NULL), is about to go; a copy of the server's: answers of theirs teach nothing. */
void columns_forget_told(struct server *s, const struct cstmt *told);
void columns_forget_copy(struct server *s, const struct sstmt *copy);

/* What the client of the i-th message of a segment, a Bind, relies on; 0: on nothing that it was told before. */
uint64_t columns_relied_on(struct client *c, const struct segment *seg, unsigned i);
/* The running segment, all of which is kept, binds what was described earlier, and does not ask again. */
bool columns_are_relied_on(const struct client *c);

#endif
