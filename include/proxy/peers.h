/* proxy/peers.h - the other processes of [peers]: where a cancel request goes whose key is not one of ours.
 *
 * Several processes may listen on one port (so_reuseport), and the kernel gives a CancelRequest to any of them.  A
 * process with a peer_id hands an unknown one to every peer, with a mark behind its key that says "do not hand on":
 * the key itself has no room for a number of the owner (4 bytes, all of which are needed against guessing).  What a
 * stranger can make of that is bounded by each peer's pool_size.
 *
 * Immutable, part of struct runtime; made at start and at each reload, where names are looked up. */
#ifndef PROXY_PEERS_H
#define PROXY_PEERS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/check.h"
#include "base/str.h"
#include "io/net.h"

struct config;

struct peer {
	int id;
	int pool_size; /* requests under way to it on one worker; 0: no limit */
	struct net_addr addr;
};

struct peers {
	unsigned n;
	struct peer list[];
};

/* Those that can be reached, without this process itself; a name that cannot be looked up is a warning. */
struct peers *peers_new(const struct config *cfg) MUSTCHECK;
void peers_free(struct peers *peers);

enum { PEER_MARK_BYTES = 16 };
/* Takes the mark from the end of the key; false: there is none. */
bool peers_take_mark(struct str *key);
/* Room for what is in `key` and the mark behind it. */
void peers_put_mark(uint8_t *key, size_t key_len);

#endif
