/* auth/scram_server.c - the server role of SCRAM: how clients log in to pgweir; see auth/scram.h.
 *
 *   in:  client-first   gs2-header client-first-bare
 *   out: server-first   "r=" nonce+ ",s=" salt ",i=" iterations
 *   in:  client-final   "c=" binding ",r=" nonce+ [extensions] ",p=" proof
 *   out: server-final   "v=" signature
 *
 * The rules are those of PostgreSQL's auth-scram.c: a client that cannot log in there cannot log in here, and the
 * name in the message is ignored in favour of the one in StartupMessage.  Every message comes from somebody who is
 * not authenticated. */
#include <openssl/crypto.h>
#include <stdio.h>
#include "scram_priv.h"

static enum scram_result fail(struct scram_server *s, enum scram_failure failure)
{
	s->state = SCRAM_STATE_FAILED;
	s->failure = failure;
	return SCRAM_FAILED;
}

static bool refuse_init(struct scram_server *s, enum scram_failure failure)
{
	fail(s, failure);
	return false;
}

bool scram_server_init(struct scram_server *s, const struct scram_server_options *options)
{
	*s = (struct scram_server){ .state = SCRAM_START,
		                    .verifier = *options->verifier,
		                    .is_mock = options->is_mock,
		                    .binding_offered = options->binding_offered };
	s->is_plus = options->binding_offered && str_eq(options->mechanism, STR(SCRAM_MECHANISM_PLUS));
	if (!s->is_plus && !str_eq(options->mechanism, STR(SCRAM_MECHANISM)))
		return refuse_init(s, SCRAM_FAILURE_MECHANISM);
	if (options->binding_data.n > sizeof(s->binding_data))
		return refuse_init(s, SCRAM_FAILURE_TOO_LONG);
	if (options->binding_data.n)
		memcpy(s->binding_data, options->binding_data.p, options->binding_data.n);
	s->binding_len = options->binding_data.n;
	if (!scram_nonce_text(options->nonce, s->own_nonce, sizeof(s->own_nonce), &s->own_nonce_len))
		return refuse_init(s, SCRAM_FAILURE_CRYPTO);
	return true;
}

void scram_server_deinit(struct scram_server *s) { OPENSSL_cleanse(s, sizeof(*s)); }

/* The flag at the head of client-first against the mechanism that the client chose. */
static enum scram_failure check_binding_flag(struct scram_server *s, struct str flag)
{
	if (str_eq(flag, STR("n"))) {
		s->binding = SCRAM_BINDING_NONE;
		return s->is_plus ? SCRAM_FAILURE_BINDING_NOT_USED : SCRAM_FAILURE_NONE;
	}
	if (str_eq(flag, STR("y"))) {
		s->binding = SCRAM_BINDING_POSSIBLE;
		if (s->is_plus)
			return SCRAM_FAILURE_BINDING_NOT_USED;
		/* The client could bind but was not told that we can: somebody between us has cut the offer. */
		return s->binding_offered ? SCRAM_FAILURE_BINDING_DOWNGRADE : SCRAM_FAILURE_NONE;
	}
	if (flag.n < 2 || flag.p[0] != 'p' || flag.p[1] != '=')
		return SCRAM_FAILURE_MALFORMED;
	s->binding = SCRAM_BINDING_USED;
	if (!s->is_plus)
		return SCRAM_FAILURE_BINDING_NOT_CHOSEN;
	return str_eq(flag, STR("p=tls-server-end-point")) ? SCRAM_FAILURE_NONE : SCRAM_FAILURE_BINDING_TYPE;
}

/* Takes what stands before the next comma, and the comma, off *rest. */
static bool take_field(struct str *rest, struct str *field)
{
	const char *comma = rest->n ? memchr(rest->p, ',', rest->n) : NULL;
	if (!comma)
		return false;
	*field = (struct str){ rest->p, (size_t)(comma - rest->p) };
	*rest = (struct str){ comma + 1, rest->n - field->n - 1 };
	return true;
}

static enum scram_failure parse_client_first(struct scram_server *s, struct str in)
{
	struct str rest = in, flag, authzid, user, nonce;
	if (!take_field(&rest, &flag))
		return SCRAM_FAILURE_MALFORMED;
	enum scram_failure failure = check_binding_flag(s, flag);
	if (failure != SCRAM_FAILURE_NONE)
		return failure;
	if (!take_field(&rest, &authzid))
		return SCRAM_FAILURE_MALFORMED;
	if (authzid.n != 0)
		return authzid.p[0] == 'a' ? SCRAM_FAILURE_AUTHZID : SCRAM_FAILURE_MALFORMED;
	if (!scram_text_set(&s->first_bare, rest))
		return SCRAM_FAILURE_TOO_LONG;
	if (rest.n >= 2 && rest.p[0] == 'm' && rest.p[1] == '=')
		return SCRAM_FAILURE_UNSUPPORTED_EXTENSION;
	if (!scram_take_attribute(&rest, 'n', &user) || !scram_take_attribute(&rest, 'r', &nonce) ||
	    !scram_is_printable(nonce))
		return SCRAM_FAILURE_MALFORMED; /* optional extensions may follow and mean nothing to us */
	if (nonce.n > SCRAM_NONCE_MAX - s->own_nonce_len || !scram_text_set(&s->nonce, nonce))
		return SCRAM_FAILURE_TOO_LONG;
	return SCRAM_FAILURE_NONE;
}

static enum scram_result send_first(struct scram_server *s, struct str in, struct str *out)
{
	char number[16];
	enum scram_failure failure = parse_client_first(s, in);
	if (failure != SCRAM_FAILURE_NONE)
		return fail(s, failure);
	scram_text_add(&s->nonce, (struct str){ s->own_nonce, s->own_nonce_len });
	snprintf(number, sizeof(number), "%u", s->verifier.iterations);
	scram_text_add(&s->first, STR("r="));
	scram_text_add(&s->first, scram_text_str(&s->nonce));
	scram_text_add(&s->first, STR(",s="));
	scram_text_add_base64(&s->first, s->verifier.salt, s->verifier.salt_len);
	scram_text_add(&s->first, STR(",i="));
	scram_text_add(&s->first, str_of(number));
	if (s->nonce.overflow || s->first.overflow)
		return fail(s, SCRAM_FAILURE_TOO_LONG);
	s->state = SCRAM_FIRST_SENT;
	*out = scram_text_str(&s->first);
	return SCRAM_CONTINUE;
}

struct client_final {
	struct str without_proof; /* borrowed from the message, as are the next two */
	struct str binding, nonce;
	uint8_t proof[SCRAM_KEY_BYTES];
};

/* The proof comes last; between nonce and proof there may be extensions. */
static enum scram_failure parse_client_final(struct str in, struct client_final *out)
{
	struct str rest = in, value;
	size_t n;
	const char *proof_start;
	/* As long as it is compared as text, "c=" needs no decoding. */
	if (!scram_take_attribute(&rest, 'c', &value))
		return SCRAM_FAILURE_MALFORMED;
	out->binding = (struct str){ in.p, value.n + 2 };
	if (!scram_take_attribute(&rest, 'r', &out->nonce))
		return SCRAM_FAILURE_MALFORMED;
	for (;;) {
		proof_start = rest.p;
		if (rest.n == 0 || !((rest.p[0] >= 'a' && rest.p[0] <= 'z') || (rest.p[0] >= 'A' && rest.p[0] <= 'Z')))
			return SCRAM_FAILURE_MALFORMED;
		bool is_proof = rest.p[0] == 'p';
		if (!scram_take_attribute(&rest, rest.p[0], &value))
			return SCRAM_FAILURE_MALFORMED;
		if (is_proof)
			break;
	}
	if (rest.n != 0 || value.p + value.n != in.p + in.n ||
	    !scram_base64_decode(value, out->proof, sizeof(out->proof), &n) || n != sizeof(out->proof))
		return SCRAM_FAILURE_MALFORMED;
	out->without_proof = (struct str){ in.p, (size_t)(proof_start - in.p) - 1 };
	return SCRAM_FAILURE_NONE;
}

static bool same_bytes(struct str a, struct str b) { return a.n == b.n && CRYPTO_memcmp(a.p, b.p, a.n) == 0; }

static enum scram_failure check_binding_and_nonce(struct scram_server *s, const struct client_final *final)
{
	struct scram_text expected = { .n = 0 };
	scram_add_binding(&expected, s->binding, s->binding_data, s->binding_len);
	if (expected.overflow || !same_bytes(final->binding, scram_text_str(&expected)))
		return SCRAM_FAILURE_BINDING_MISMATCH;
	return same_bytes(final->nonce, scram_text_str(&s->nonce)) ? SCRAM_FAILURE_NONE : SCRAM_FAILURE_NONCE;
}

/* The client's key is what its proof leaves when our part is taken away; it is right if it hashes to StoredKey. */
static enum scram_failure check_proof(struct scram_server *s, const struct client_final *final)
{
	uint8_t signature[SCRAM_KEY_BYTES], client_key[SCRAM_KEY_BYTES], stored_key[SCRAM_KEY_BYTES];
	enum scram_failure failure = SCRAM_FAILURE_CRYPTO;
	if (scram_sign(s->verifier.stored_key, scram_text_str(&s->first_bare), scram_text_str(&s->first),
	               final->without_proof, signature)) {
		scram_xor(client_key, final->proof, signature);
		if (scram_hash(client_key, stored_key))
			failure = SCRAM_FAILURE_PROOF;
		/* A mock takes as long as a real user, up to here. */
		if (failure == SCRAM_FAILURE_PROOF &&
		    CRYPTO_memcmp(stored_key, s->verifier.stored_key, sizeof(stored_key)) == 0 && !s->is_mock) {
			memcpy(s->keys.client_key, client_key, sizeof(client_key));
			failure = SCRAM_FAILURE_NONE;
		}
	}
	OPENSSL_cleanse(signature, sizeof(signature));
	OPENSSL_cleanse(client_key, sizeof(client_key));
	return failure;
}

static void keep_keys(struct scram_server *s)
{
	memcpy(s->keys.server_key, s->verifier.server_key, SCRAM_KEY_BYTES);
	s->keys.iterations = s->verifier.iterations;
	s->keys.salt_len = s->verifier.salt_len;
	memcpy(s->keys.salt, s->verifier.salt, s->verifier.salt_len);
}

static enum scram_result send_final(struct scram_server *s, struct str in, struct str *out)
{
	struct client_final final;
	uint8_t signature[SCRAM_KEY_BYTES];
	enum scram_failure failure = parse_client_final(in, &final);
	if (failure == SCRAM_FAILURE_NONE)
		failure = check_binding_and_nonce(s, &final);
	if (failure == SCRAM_FAILURE_NONE)
		failure = check_proof(s, &final);
	if (failure != SCRAM_FAILURE_NONE)
		return fail(s, failure);
	if (!scram_sign(s->verifier.server_key, scram_text_str(&s->first_bare), scram_text_str(&s->first),
	                final.without_proof, signature))
		return fail(s, SCRAM_FAILURE_CRYPTO);
	scram_text_add(&s->out, STR("v="));
	scram_text_add_base64(&s->out, signature, sizeof(signature));
	keep_keys(s);
	s->state = SCRAM_STATE_DONE;
	*out = scram_text_str(&s->out);
	return SCRAM_DONE;
}

enum scram_result scram_server_step(struct scram_server *s, struct str in, struct str *out)
{
	*out = STR("");
	if (!scram_is_message(in))
		return fail(s, in.n > SCRAM_MESSAGE_MAX ? SCRAM_FAILURE_TOO_LONG : SCRAM_FAILURE_MALFORMED);
	switch (s->state) {
	case SCRAM_START:
		return send_first(s, in, out);
	case SCRAM_FIRST_SENT:
		return send_final(s, in, out);
	case SCRAM_FINAL_SENT:
	case SCRAM_STATE_DONE:
	case SCRAM_STATE_FAILED:
		break;
	}
	return fail(s, SCRAM_FAILURE_OUT_OF_ORDER);
}
