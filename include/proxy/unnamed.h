/* proxy/unnamed.h - unnamed statements that repeat, run as shared prepared ones (unnamed_statement_cache).
 *
 *   Parse "" Bind "" [Describe] Execute Sync   ->   Bind pgweir_<id> [Describe] Execute Sync, ParseComplete said here
 *
 * Drivers without a statement cache have PostgreSQL parse, analyse and plan the same text for each execution, half of
 * what a short query costs.  It is spared only where nobody can tell the difference but by the time:
 *
 *   D1  the text is shared among clients whose settings read it alike, and holds no literal such as 'now';
 *   D2  what Bind refuses may be due to types that were looked up earlier: it is parsed truly and run again, once;
 *   D3  that cannot be done inside of a transaction, so there nothing is shared;
 *   D4  a generic plan may be worse: its time is compared with that of true executions, one in SAMPLE_EVERY goes on
 *       being one, and what is slower is not shared for a while; unnamed_plan=custom takes no generic plans;
 *   D5  Parse without a Bind behind it is for the server to judge, and a statement that has been lost is made anew.
 *
 * What a shared statement was parsed with is no older than the facts of the database, which follow DDL that passes here
 * at once, nor than MADE_ANEW_US, for DDL that does not: PostgreSQL itself looks at changed tables anew, but not at
 * names that another object would answer to now. */
#ifndef PROXY_UNNAMED_H
#define PROXY_UNNAMED_H

#include <stdbool.h>
#include <stdint.h>
#include "base/check.h"

struct client;
struct segment;
struct sql_facts;
struct unnamed_use;
struct server;
struct sstmt;

enum unnamed_way {
	UNNAMED_PLAIN,  /* as it came, and nothing is learnt from it */
	UNNAMED_TRUE,   /* as it came, and its time is what the shared one's is compared with */
	UNNAMED_SHARED, /* as a prepared statement */
};

/* The way of a segment that is known and begins with a Parse. Counts: to be asked once per segment. */
enum unnamed_way unnamed_choose(const struct client *c, const struct segment *seg);
/* The next execution's way, of what is fit. */
enum unnamed_way unnamed_turn(struct unnamed_use *u);
/* Statements that mean the same whenever they were parsed, as far as their text tells. */
bool unnamed_fits(const struct sql_facts *f);
/* The server's entry (may be NULL) is as good as a statement parsed now; else it is to be parsed again. */
bool unnamed_is_current(const struct client *c, const struct segment *seg, const struct sstmt *at);
/* It is being parsed now. */
void unnamed_note_parsed(const struct client *c, const struct segment *seg, struct sstmt *at);
/* The segment that c->seg.unnamed tells of has been answered: its time is known (D4). */
void unnamed_note_done(const struct client *c, bool failed);

/* What is known of a text that clients execute unnamed; in stmt_text, and as long-lived as that. */
struct unnamed_use {
	uint8_t fit;        /* UNNAMED_FIT_* once its facts have been looked at */
	uint8_t seen;       /* true executions, up to those that come before the first shared one */
	uint16_t turn;      /* picks the executions that stay true ones */
	uint32_t rest;      /* the shared one was slower: true executions until it is tried again */
	uint32_t rest_next; /* how long the next such rest will be */
	uint32_t n_true;    /* of the mean, up to its window */
	uint32_t n_shared;  /* in a row without a rest */
	float true_us;      /* mean */
	float excess_us;    /* time that shared executions have taken beyond what is expected of them; never below 0 */
};
enum { UNNAMED_FIT_UNKNOWN, UNNAMED_FIT, UNNAMED_UNFIT };

#endif
