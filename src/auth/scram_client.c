/* auth/scram_client.c - the client role of SCRAM: how pgweir logs in to servers; see auth/scram.h.
 *
 *   out: client-first   gs2-header "n=,r=" nonce              (the user's name stands in StartupMessage)
 *   in:  server-first   "r=" nonce+ ",s=" salt ",i=" iterations
 *   out: client-final   "c=" binding ",r=" nonce+ ",p=" proof
 *   in:  server-final   "v=" signature | "e=" error
 *
 * The server is not trusted: it may be somebody between us and it. */
#include <openssl/crypto.h>
#include "scram_priv.h"

static enum scram_result fail(struct scram_client *c, enum scram_failure failure)
{
	c->state = SCRAM_STATE_FAILED;
	c->failure = failure;
	return SCRAM_FAILED;
}

bool scram_client_init(struct scram_client *c, const struct scram_client_options *options)
{
	*c = (struct scram_client){ .state = SCRAM_START, .binding = options->binding, .password = options->password };
	if (options->binding_data.n > sizeof(c->binding_data)) {
		fail(c, SCRAM_FAILURE_TOO_LONG);
		return false;
	}
	if (options->binding_data.n)
		memcpy(c->binding_data, options->binding_data.p, options->binding_data.n);
	c->binding_len = options->binding_data.n;
	if (options->keys) {
		c->keys = *options->keys;
		c->has_keys = true;
	}
	if (!scram_nonce_text(options->nonce, c->nonce, sizeof(c->nonce), &c->nonce_len)) {
		fail(c, SCRAM_FAILURE_CRYPTO);
		return false;
	}
	return true;
}

void scram_client_deinit(struct scram_client *c) { OPENSSL_cleanse(c, sizeof(*c)); }

static enum scram_result send_first(struct scram_client *c, struct str *out)
{
	scram_text_add(&c->first_bare, STR("n=,r="));
	scram_text_add(&c->first_bare, (struct str){ c->nonce, c->nonce_len });
	scram_add_gs2_header(&c->out, c->binding);
	scram_text_add(&c->out, scram_text_str(&c->first_bare));
	if (c->first_bare.overflow || c->out.overflow)
		return fail(c, SCRAM_FAILURE_TOO_LONG);
	c->state = SCRAM_FIRST_SENT;
	*out = scram_text_str(&c->out);
	return SCRAM_CONTINUE;
}

struct server_first {
	struct str nonce; /* borrowed from the message */
	uint8_t salt[SCRAM_SALT_MAX];
	size_t salt_len;
	uint32_t iterations;
};

static enum scram_failure parse_server_first(const struct scram_client *c, struct str in, struct server_first *out)
{
	struct str rest = in, salt, iterations;
	int64_t count;
	if (rest.n >= 2 && rest.p[0] == 'm' && rest.p[1] == '=')
		return SCRAM_FAILURE_UNSUPPORTED_EXTENSION;
	if (!scram_take_attribute(&rest, 'r', &out->nonce) || !scram_is_printable(out->nonce))
		return SCRAM_FAILURE_MALFORMED;
	if (out->nonce.n > SCRAM_NONCE_MAX)
		return SCRAM_FAILURE_TOO_LONG;
	/* A server that adds nothing of its own to our nonce lets an old exchange be played again. */
	if (out->nonce.n <= c->nonce_len || CRYPTO_memcmp(out->nonce.p, c->nonce, c->nonce_len) != 0)
		return SCRAM_FAILURE_NONCE;
	if (!scram_take_attribute(&rest, 's', &salt) ||
	    !scram_base64_decode(salt, out->salt, sizeof(out->salt), &out->salt_len))
		return SCRAM_FAILURE_MALFORMED;
	if (!scram_take_attribute(&rest, 'i', &iterations) || rest.n != 0 || iterations.n == 0 ||
	    iterations.p[0] < '0' || iterations.p[0] > '9' || !str_to_i64(iterations, &count))
		return SCRAM_FAILURE_MALFORMED;
	if (count < 1 || count > INT32_MAX)
		return SCRAM_FAILURE_ITERATIONS;
	out->iterations = (uint32_t)count;
	return SCRAM_FAILURE_NONE;
}

/* Settles which keys to sign with: given ones where they belong to this salt, else those of the password. */
static enum scram_failure settle_keys(struct scram_client *c, const struct server_first *first)
{
	if (c->has_keys && (c->keys.iterations == 0 ||
	                    (c->keys.iterations == first->iterations && c->keys.salt_len == first->salt_len &&
	                     memcmp(c->keys.salt, first->salt, first->salt_len) == 0)))
		return SCRAM_FAILURE_NONE;
	if (!c->password.p)
		return SCRAM_FAILURE_OTHER_VERIFIER;
	if (first->iterations > SCRAM_ITERATIONS_MAX)
		return SCRAM_FAILURE_ITERATIONS;
	c->has_keys = scram_keys_derive(c->password, first->salt, first->salt_len, first->iterations, &c->keys);
	return c->has_keys ? SCRAM_FAILURE_NONE : SCRAM_FAILURE_CRYPTO;
}

/* c->out holds client-final without its proof; adds the proof and keeps what the server must answer. */
static bool add_proof(struct scram_client *c, struct str server_first)
{
	uint8_t stored_key[SCRAM_KEY_BYTES], signature[SCRAM_KEY_BYTES], proof[SCRAM_KEY_BYTES];
	struct str bare = scram_text_str(&c->first_bare), without_proof = scram_text_str(&c->out);
	bool ok = scram_hash(c->keys.client_key, stored_key) &&
	          scram_sign(stored_key, bare, server_first, without_proof, signature) &&
	          scram_sign(c->keys.server_key, bare, server_first, without_proof, c->server_signature);
	if (ok) {
		scram_xor(proof, c->keys.client_key, signature);
		scram_text_add(&c->out, STR(",p="));
		scram_text_add_base64(&c->out, proof, sizeof(proof));
	}
	/* The signature and the proof together give the client key away. */
	OPENSSL_cleanse(signature, sizeof(signature));
	OPENSSL_cleanse(proof, sizeof(proof));
	return ok;
}

static enum scram_result send_final(struct scram_client *c, struct str in, struct str *out)
{
	struct server_first first;
	enum scram_failure failure = parse_server_first(c, in, &first);
	if (failure == SCRAM_FAILURE_NONE)
		failure = settle_keys(c, &first);
	if (failure != SCRAM_FAILURE_NONE)
		return fail(c, failure);
	c->out.n = 0;
	scram_add_binding(&c->out, c->binding, c->binding_data, c->binding_len);
	scram_text_add(&c->out, STR(",r="));
	scram_text_add(&c->out, first.nonce);
	if (c->out.overflow)
		return fail(c, SCRAM_FAILURE_TOO_LONG);
	if (!add_proof(c, in))
		return fail(c, SCRAM_FAILURE_CRYPTO);
	if (c->out.overflow)
		return fail(c, SCRAM_FAILURE_TOO_LONG);
	c->state = SCRAM_FINAL_SENT;
	*out = scram_text_str(&c->out);
	return SCRAM_CONTINUE;
}

static enum scram_result check_final(struct scram_client *c, struct str in)
{
	struct str rest = in, value;
	uint8_t signature[SCRAM_KEY_BYTES];
	size_t n;
	if (scram_take_attribute(&rest, 'e', &value))
		return fail(c, SCRAM_FAILURE_SERVER_ERROR);
	if (!scram_take_attribute(&rest, 'v', &value) || rest.n != 0 ||
	    !scram_base64_decode(value, signature, sizeof(signature), &n) || n != sizeof(signature))
		return fail(c, SCRAM_FAILURE_MALFORMED);
	if (CRYPTO_memcmp(signature, c->server_signature, sizeof(signature)) != 0)
		return fail(c, SCRAM_FAILURE_SERVER_PROOF);
	c->state = SCRAM_STATE_DONE;
	return SCRAM_DONE;
}

enum scram_result scram_client_step(struct scram_client *c, struct str in, struct str *out)
{
	*out = STR("");
	if (!scram_is_message(in))
		return fail(c, in.n > SCRAM_MESSAGE_MAX ? SCRAM_FAILURE_TOO_LONG : SCRAM_FAILURE_MALFORMED);
	switch (c->state) {
	case SCRAM_START:
		return send_first(c, out);
	case SCRAM_FIRST_SENT:
		return send_final(c, in, out);
	case SCRAM_FINAL_SENT:
		return check_final(c, in);
	case SCRAM_STATE_DONE:
	case SCRAM_STATE_FAILED:
		break;
	}
	return fail(c, SCRAM_FAILURE_OUT_OF_ORDER);
}

void scram_offer_add(struct scram_offer *offer, struct str mechanism)
{
	if (str_eq(mechanism, STR(SCRAM_MECHANISM)))
		offer->plain = true;
	else if (str_eq(mechanism, STR(SCRAM_MECHANISM_PLUS)))
		offer->plus = true;
}

enum scram_choice scram_choose(const struct scram_offer *offer, enum scram_channel_binding wanted,
                               enum scram_binding *binding)
{
	bool can_bind = offer->has_binding && wanted != SCRAM_CHANNEL_DISABLE;
	if (offer->plus && can_bind) {
		*binding = SCRAM_BINDING_USED;
		return SCRAM_CHOICE_PLUS;
	}
	/* 'y' lets the server notice that somebody has taken PLUS off its offer. */
	*binding = can_bind ? SCRAM_BINDING_POSSIBLE : SCRAM_BINDING_NONE;
	return offer->plain && wanted != SCRAM_CHANNEL_REQUIRE ? SCRAM_CHOICE_PLAIN : SCRAM_CHOICE_NONE;
}
