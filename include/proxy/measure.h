/* proxy/measure.h - what is measured of every segment: by database and route, by application, by statement shape.
 *
 * measure_segment() runs at each ReadyForQuery: plain adds on the worker's own blocks, no clock but the turn's, no
 * allocation but for the first use of a shape.  Readers visit the worker by message (control/ask.h).  Slow segments go
 * to the log from here: the one look that they cost is a comparison. */
#ifndef PROXY_MEASURE_H
#define PROXY_MEASURE_H

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>
#include "base/histogram.h"
#include "sql/shapes.h"

struct client;
struct server;
struct worker;

/* SQLSTATE classes that are counted one by one; all others are one more. */
/* clang-format off */
#define ERROR_CLASSES(X)                                                                                               \
	X("08") X("0A") X("21") X("22") X("23") X("25") X("26") X("28") X("34") X("3D") X("3F") X("40") X("42")        \
	X("44") X("53") X("54") X("55") X("57") X("58") X("F0") X("P0") X("XX") X("other")
/* clang-format on */
#define ERROR_CLASS_ONE(text) +1
enum { ERROR_CLASS_COUNT = 0 ERROR_CLASSES(ERROR_CLASS_ONE) };
const char *error_class_name(unsigned at);

/* Of one database and user on one worker. */
struct measures {
	struct histogram latency[2]; /* by enum server_role: from the request's arrival to its ReadyForQuery */
	uint64_t latency_us[2];
	struct histogram wait; /* of that, before it was sent to a server */
	uint64_t waiting_us;
	uint32_t errors[ERROR_CLASS_COUNT];
	uint32_t pins[SQL_PIN_COUNT]; /* times that a client was pinned, by reason */
};

/* Of one worker: lines in the current second. */
enum { SLOW_LINES_MAX = 50 };
struct slow_log {
	uint64_t second;
	unsigned lines, left_out;
};

/* Of one application_name on one worker. */
enum { APPLICATIONS_MAX = 200 }; /* more share one entry: names come from the network */
struct application {
	UT_hash_handle hh; /* in worker.applications */
	unsigned clients;  /* that point here */
	uint64_t logins, errors;
	struct shape_use use;
	char name[];
};

/* The client's application_name is known or has changed, or the configuration has: what follows from them is looked
 * up once, here. */
void measure_client(struct client *c);
void measure_client_gone(struct client *c);
/* The client's ReadyForQuery is on its way. */
void measure_segment(struct client *c, const struct server *s, bool failed);
/* An ErrorResponse is shown to the client. */
void measure_error(struct client *c, const char sqlstate[5]);
void measure_pins(struct client *c, uint32_t pins);
void measures_sum(struct measures *to, const struct measures *from);
void measures_free(struct worker *w);

#endif
