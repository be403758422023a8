/* emit_priv.h - shared by emit.c, sqlprep_emit.c and simple.c: messages for a server, being put together. */
#ifndef PROXY_EMIT_PRIV_H
#define PROXY_EMIT_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"
#include "proxy/emit.h"
#include "proxy/server.h"
#include "wire/codec.h"

struct client;
struct segment;
struct stmt_text;

struct emit {
	struct client *c;
	struct server *s;
	struct wire_writer ww;
	struct stmt_text *unnamed; /* what the server's unnamed statement will be at this point; borrowed or NULL */
	bool own_names;            /* statements go under the client's own names: it looks at them */
	bool failed;               /* out of memory */
};

/* Empties the worker's buffer for what is to leave in one write; sends it. */
void emit_begin(struct emit *e, struct client *c, struct server *s);
enum emit_result emit_finish(struct emit *e);
/* The server's entry for a text that is about to be parsed there, with whatever stands under its name closed first;
 * NULL: out of memory. */
struct sstmt *emit_fresh_entry(struct emit *e, struct stmt_text *text, uint64_t made_for);
/* One Query and nothing of ours, from where it lies; flags: of its request. */
enum emit_result emit_query(struct client *c, struct server *s, const struct segment *seg, const uint8_t *p,
                            unsigned flags);
/* An entry for a message that will be answered; never NULL. */
struct request *emit_push(struct emit *e, enum request_kind kind, unsigned flags);
void emit_put_parse(struct emit *e, struct str name, const struct stmt_text *text);
/* Runs a statement without parameters in front of the client's (A2). */
void emit_inject(struct emit *e, struct stmt_text *text, unsigned flags);
/* D1: the settings that a statement's constants are read by. */
uint64_t emit_settings(const struct client *c);

#endif
