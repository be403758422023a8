/* proxy/peers.c - see proxy/peers.h. */
#include "proxy/peers.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "conf/config.h"

static const char mark[PEER_MARK_BYTES + 1] = "pgweir-peer-0001";

/* Blocks for names: at start and reload only, on the main thread. */
static bool look_up(const struct conf_peer *p, struct net_addr *out)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *found = NULL;
	char port[16];
	if (net_addr_parse(p->host, (uint16_t)p->port, out))
		return true;
	snprintf(port, sizeof port, "%d", p->port);
	int code = getaddrinfo(p->host, port, &hints, &found);
	if (code != 0 || found->ai_addrlen > sizeof out->ss) {
		log_warning(NULL, "peer %s: host \"%s\" cannot be looked up: %s", p->name, p->host,
		            code ? gai_strerror(code) : "strange address");
		if (found)
			freeaddrinfo(found);
		return false;
	}
	memset(out, 0, sizeof *out);
	memcpy(&out->ss, found->ai_addr, found->ai_addrlen);
	out->len = found->ai_addrlen;
	freeaddrinfo(found);
	return true;
}

struct peers *peers_new(const struct config *cfg)
{
	struct peers *peers = mem_zalloc(sizeof *peers + (size_t)cfg->n_peers * sizeof peers->list[0]);
	for (int i = 0; cfg->peer_id && i < cfg->n_peers; i++) {
		const struct conf_peer *p = &cfg->peers[i];
		struct peer *to = &peers->list[peers->n];
		if (p->id == cfg->peer_id || !look_up(p, &to->addr))
			continue;
		to->id = p->id;
		to->pool_size = config_peer_pool_size(cfg, p);
		peers->n++;
	}
	return peers;
}

void peers_free(struct peers *peers) { mem_free(peers); }

bool peers_take_mark(struct str *key)
{
	if (key->n <= PEER_MARK_BYTES || memcmp(key->p + key->n - PEER_MARK_BYTES, mark, PEER_MARK_BYTES) != 0)
		return false;
	key->n -= PEER_MARK_BYTES;
	return true;
}

void peers_put_mark(uint8_t *key, size_t key_len) { memcpy(key + key_len, mark, PEER_MARK_BYTES); }
