/* cluster/balance.h - which of several eligible replicas.  Pure: counts and chance are arguments.
 *
 * Two different replicas are drawn by weight; the one with less outstanding work per weight gets the read.  Compared
 * with "least of all" this does not send all workers to the same replica at once, compared with round robin it avoids
 * one that has become slow. */
#ifndef CLUSTER_BALANCE_H
#define CLUSTER_BALANCE_H

#include <stdint.h>

struct host;

struct balance_candidate {
	struct host *host;    /* borrowed */
	unsigned weight;      /* 0: only when all others are 0 too */
	unsigned outstanding; /* requests running or waiting for it */
};

/* Index of the choice, or -1 when n is 0.  `random` must be uniform over its 64 bits. */
int balance_pick(const struct balance_candidate *candidates, unsigned n, uint64_t random);

/* A small generator of one's own per worker (splitmix64); seed it with anything. */
uint64_t balance_random(uint64_t *state);

#endif
