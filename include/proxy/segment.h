/* proxy/segment.h - reads a client's messages up to the next point where the server answers, and says what they are.
 *
 * A segment is what produces one ReadyForQuery: extended messages up to Sync, one Query, or one FunctionCall.  It goes
 * to one server as a whole, and the next segment waits for its ReadyForQuery: then the transaction state is known,
 * and routing needs no guess.  A Flush ends a segment's part; the rest belongs to the same server.
 *
 * segment_scan() only looks: names are resolved, statements classified, nothing changes until the relay emits.
 * Everything in struct segment borrows the client's input and is valid until that moves. */
#ifndef PROXY_SEGMENT_H
#define PROXY_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"
#include "sql/shapes.h"
#include "wire/frame.h"
#include "wire/pgerr.h"

struct client;
struct mention;
struct params;
struct stmt_text;
struct worker;

enum { SEGMENT_MESSAGES_MAX = 1024 };

#define SEGMENT_ENDS(X)                                                                                                \
	X(NOTHING, "no whole message is there")                                                                        \
	X(OPEN, "whole messages, but no end yet")                                                                      \
	X(SYNC, "ends with Sync")                                                                                      \
	X(QUERY, "ends with a Query")                                                                                  \
	X(FCALL, "ends with a FunctionCall")                                                                           \
	X(FLUSH, "ends with Flush: the client wants what there is, and goes on in the same segment")                   \
	X(LARGE, "ends with the start of a message that is larger than we keep; its rest streams through")             \
	X(TERMINATE, "Terminate")                                                                                      \
	X(BAD, "not the protocol; error says what")
enum segment_end {
#define SEGMENT_END_ENUM(id, doc) SEGMENT_##id,
	SEGMENT_ENDS(SEGMENT_END_ENUM)
#undef SEGMENT_END_ENUM
};

struct segment_msg {
	uint8_t type;      /* MSG_* of the client */
	uint8_t target;    /* Describe, Close: 'S' or 'P' */
	uint32_t off, len; /* in the client's input, from the segment's start */
	uint32_t rest;     /* Bind: offset in the message behind the two names */
	struct str portal;
	struct str name;        /* statement name; borrowed */
	struct stmt_text *text; /* what it means: owned reference for Parse, borrowed for the others; NULL unknown */
};

struct segment {
	enum segment_end end;
	unsigned n;
	size_t len;       /* bytes of whole messages, and of the part of a large one that is there */
	size_t large_len; /* LARGE: the whole length of its last message */
	bool executes;    /* holds an Execute, Query or FunctionCall */
	bool parses;      /* holds a Parse or a Close of a statement */
	bool known;       /* Bind, perhaps Describe, Execute, Sync of one statement made earlier; no portal name.  Or of
	                     the unnamed one, which the Parse in front of them makes */
	bool single;      /* exactly one statement from Parse or Bind to Sync, or one Query */
	bool only_close;  /* nothing but Close and Sync */
	bool doubted;     /* executes code that may have been replaced since the facts were loaded */
	bool wants_own;   /* shows or resets to the client's start-up values in its middle (E7) */
	bool copies_in;   /* executes COPY FROM STDIN by the extended protocol; its data is not part of the segment */
	bool unknown;     /* executes or describes something that was not made here */
	unsigned n_executed;     /* Execute and Query messages */
	struct sql_shape *shape; /* the one executed statement's; owned reference, or NULL (none, several, unknown) */
	struct params *names;    /* settings with a point that its statements name (E1); owned reference or NULL */
	uint32_t flags, pins;    /* union over what is executed */
	struct route_verdict verdict; /* of the strictest part */
	bool has_verdict;             /* a statement was seen */
	bool shows_time;              /* transaction time (C1), also by a bound value */
	bool keeps_portal;            /* leaves a portal behind that a later segment may go on with */
	int consistency;              /* enum consistency of a hint, or -1 */
	uint64_t facts_id;            /* of the catalog that the verdict and pins are made with; 0: none */
	struct mention *mentions;     /* owned list: names of SQL that it uses or changes, in order (sqlprep.h) */
	struct pgerr *error;          /* BAD; borrowed from the worker */
	struct segment_msg *msgs;     /* borrowed from whatever holds the segment */
};

/* A worker's scratch for the segment that it looks at. */
struct segment_scratch {
	struct segment seg;
	struct pgerr error;
	struct segment_msg msgs[SEGMENT_MESSAGES_MAX];
};
void segment_scratch_init(struct segment_scratch *s);

/* What means something only while a server reads COPY data. */
static inline bool segment_is_copy_data(uint8_t type)
{
	return type == MSG_COPY_DATA_IN || type == MSG_COPY_DONE_IN || type == MSG_COPY_FAIL;
}

/* Looks at the n bytes at p; fills *seg.  Release with segment_done().  `policy`: wish and transaction of the client.
 */
void segment_scan(struct client *c, const uint8_t *p, size_t n, struct route_policy policy, struct segment *seg);
void segment_done(struct worker *w, struct segment *seg);

/* The name that the client has for what that message of its running segment refers to; all of that is kept. */
struct str segment_name_in_message(const struct client *c, uint16_t msg);

/* --- the scan of a client that has to wait for a server ---
 *
 *   worker's scratch --segment_keep()--> client.waiting --segment_kept()--> sent, then segment_forget()
 *
 * It spares the second look at each request of a client that queues.  Small segments only; what does not fit is looked
 * at again.  The objects are recycled by the worker, so that idle clients own none. */
struct segment_waiting;
/* Takes what is in *seg, the worker's scratch, which is empty afterwards as after segment_done(). */
void segment_keep(struct client *c, struct segment *seg);
/* What was kept; NULL when there is nothing, or it is not true any more: the bytes have moved, or the facts have. */
struct segment *segment_kept(struct client *c);
void segment_forget(struct client *c); /* idempotent */
void segment_waiting_free_all(struct worker *w);

#endif
