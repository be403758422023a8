/* cluster/balance.c - see cluster/balance.h. */
#include "cluster/balance.h"

static unsigned weight_of(const struct balance_candidate *c, unsigned all) { return all ? c->weight : 1; }

/* Index of the candidate at `point` on the line of weights, leaving out `skip`. */
static unsigned draw(const struct balance_candidate *c, unsigned n, unsigned all, uint64_t point, unsigned skip)
{
	unsigned last = 0;
	for (unsigned i = 0; i < n; i++) {
		if (i == skip || weight_of(&c[i], all) == 0)
			continue;
		last = i;
		if (point < weight_of(&c[i], all))
			return i;
		point -= weight_of(&c[i], all);
	}
	return last;
}

int balance_pick(const struct balance_candidate *c, unsigned n, uint64_t random)
{
	if (n <= 1)
		return (int)n - 1;
	unsigned all = 0;
	for (unsigned i = 0; i < n; i++)
		all += c[i].weight;
	uint64_t total = all ? all : n;
	/* The two halves of one random number are enough: weights are small. */
	unsigned a = draw(c, n, all, (random & UINT32_MAX) % total, n);
	uint64_t rest = total - weight_of(&c[a], all);
	if (rest == 0)
		return (int)a;
	unsigned b = draw(c, n, all, (random >> 32) % rest, a);
	/* outstanding/weight, compared without a division; equal loads stay with the first draw. */
	uint64_t load_a = (uint64_t)c[a].outstanding * weight_of(&c[b], all);
	uint64_t load_b = (uint64_t)c[b].outstanding * weight_of(&c[a], all);
	return (int)(load_b < load_a ? b : a);
}

uint64_t balance_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}
