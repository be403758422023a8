/* auth/scram.c - verifiers, keys and the pieces that both roles of SCRAM share; see auth/scram.h.
 *
 *   SaltedPassword = PBKDF2(SASLprep(password), salt, iterations)
 *   ClientKey      = HMAC(SaltedPassword, "Client Key")      StoredKey = SHA256(ClientKey)
 *   ServerKey      = HMAC(SaltedPassword, "Server Key")
 *
 * base64 and the hashes are OpenSSL's, SASLprep is libidn's.  Lengths are checked before OpenSSL sees them, since its
 * functions take int. */
#include "auth/scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stringprep.h>
#include "scram_priv.h"
#include "base/mem.h"

static const struct {
	bool is_protocol;
	const char *text;
} failures[] = {
#define FAILURE_ROW(id, protocol, text) [SCRAM_FAILURE_##id] = { protocol, text },
	SCRAM_FAILURES(FAILURE_ROW)
#undef FAILURE_ROW
};

const char *scram_failure_text(enum scram_failure failure) { return failures[failure].text; }
bool scram_failure_is_protocol(enum scram_failure failure) { return failures[failure].is_protocol; }

/* --- bounded texts --- */

void scram_text_add(struct scram_text *t, struct str s)
{
	if (t->overflow || s.n > sizeof(t->p) - t->n) {
		t->overflow = true;
		return;
	}
	if (s.n)
		memcpy(t->p + t->n, s.p, s.n);
	t->n += s.n;
}

bool scram_text_set(struct scram_text *t, struct str s)
{
	t->n = 0;
	t->overflow = false;
	scram_text_add(t, s);
	return !t->overflow;
}

void scram_text_add_base64(struct scram_text *t, const uint8_t *p, size_t n)
{
	uint8_t encoded[4 * SCRAM_SALT_MAX]; /* the longest of what we encode is SCRAM_SALT_MAX */
	if (n > SCRAM_SALT_MAX) {
		t->overflow = true;
		return;
	}
	int len = EVP_EncodeBlock(encoded, p, (int)n);
	scram_text_add(t, (struct str){ (const char *)encoded, (size_t)len });
	OPENSSL_cleanse(encoded, sizeof(encoded));
}

static bool is_base64(struct str s, size_t *padding)
{
	size_t pad = 0;
	while (pad < 2 && pad < s.n && s.p[s.n - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < s.n - pad; i++) {
		char c = s.p[i];
		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
		      c == '/'))
			return false;
	}
	*padding = pad;
	return s.n > 0 && s.n % 4 == 0;
}

bool scram_base64_decode(struct str s, uint8_t *out, size_t size, size_t *n)
{
	uint8_t decoded[SCRAM_MESSAGE_MAX];
	size_t padding;
	/* EVP_DecodeBlock() skips white space and counts padding as bytes: both are dealt with here. */
	if (s.n > sizeof(decoded) || !is_base64(s, &padding))
		return false;
	int len = EVP_DecodeBlock(decoded, (const unsigned char *)s.p, (int)s.n);
	bool ok = len >= 0 && (size_t)len >= padding && (size_t)len - padding <= size;
	if (ok) {
		*n = (size_t)len - padding;
		memcpy(out, decoded, *n);
	}
	OPENSSL_cleanse(decoded, sizeof(decoded));
	return ok;
}

/* --- messages --- */

bool scram_take_attribute(struct str *rest, char name, struct str *value)
{
	if (rest->n < 2 || rest->p[0] != name || rest->p[1] != '=')
		return false;
	const char *start = rest->p + 2;
	size_t left = rest->n - 2;
	const char *comma = left ? memchr(start, ',', left) : NULL;
	size_t n = comma ? (size_t)(comma - start) : left;
	*value = (struct str){ start, n };
	*rest = comma ? (struct str){ comma + 1, left - n - 1 } : (struct str){ start + n, 0 };
	return true;
}

bool scram_is_printable(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < 0x21 || s.p[i] > 0x7e || s.p[i] == ',')
			return false;
	}
	return s.n > 0;
}

bool scram_is_message(struct str s) { return s.n <= SCRAM_MESSAGE_MAX && (s.n == 0 || !memchr(s.p, 0, s.n)); }

bool scram_nonce_text(struct str fixed, char *out, size_t size, size_t *n)
{
	uint8_t raw[SCRAM_RAW_NONCE_BYTES];
	uint8_t encoded[2 * SCRAM_RAW_NONCE_BYTES];
	if (fixed.n == 0) {
		if (RAND_bytes(raw, sizeof(raw)) != 1)
			return false;
		fixed = (struct str){ (const char *)encoded, (size_t)EVP_EncodeBlock(encoded, raw, sizeof(raw)) };
	}
	if (fixed.n > size)
		return false;
	memcpy(out, fixed.p, fixed.n);
	*n = fixed.n;
	return true;
}

void scram_add_gs2_header(struct scram_text *t, enum scram_binding binding)
{
	switch (binding) {
	case SCRAM_BINDING_NONE:
		scram_text_add(t, STR("n,,"));
		return;
	case SCRAM_BINDING_POSSIBLE:
		scram_text_add(t, STR("y,,"));
		return;
	case SCRAM_BINDING_USED:
		scram_text_add(t, STR("p=tls-server-end-point,,"));
		return;
	}
}

void scram_add_binding(struct scram_text *t, enum scram_binding binding, const uint8_t *data, size_t n)
{
	struct scram_text input = { .n = 0 };
	scram_add_gs2_header(&input, binding);
	if (binding == SCRAM_BINDING_USED)
		scram_text_add(&input, (struct str){ (const char *)data, n });
	if (input.overflow)
		t->overflow = true;
	scram_text_add(t, STR("c="));
	scram_text_add_base64(t, (const uint8_t *)input.p, input.n);
}

/* --- hashes --- */

static bool hmac_bytes(const uint8_t *key, size_t key_len, const void *data, size_t n, uint8_t out[SCRAM_KEY_BYTES])
{
	unsigned len = 0;
	return HMAC(EVP_sha256(), key, (int)key_len, data, n, out, &len) != NULL && len == SCRAM_KEY_BYTES;
}

bool scram_hmac(const uint8_t key[SCRAM_KEY_BYTES], struct str data, uint8_t out[SCRAM_KEY_BYTES])
{
	return hmac_bytes(key, SCRAM_KEY_BYTES, data.p, data.n, out);
}

bool scram_hash(const uint8_t in[SCRAM_KEY_BYTES], uint8_t out[SCRAM_KEY_BYTES])
{
	return EVP_Digest(in, SCRAM_KEY_BYTES, out, NULL, EVP_sha256(), NULL) == 1;
}

bool scram_sign(const uint8_t key[SCRAM_KEY_BYTES], struct str first_bare, struct str server_first,
                struct str final_without_proof, uint8_t out[SCRAM_KEY_BYTES])
{
	const struct str parts[] = { first_bare, STR(","), server_first, STR(","), final_without_proof };
	char message[3 * SCRAM_MESSAGE_MAX + 2];
	size_t n = 0;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		if (parts[i].n > sizeof(message) - n)
			return false;
		if (parts[i].n)
			memcpy(message + n, parts[i].p, parts[i].n);
		n += parts[i].n;
	}
	return hmac_bytes(key, SCRAM_KEY_BYTES, message, n, out);
}

void scram_xor(uint8_t out[SCRAM_KEY_BYTES], const uint8_t a[SCRAM_KEY_BYTES], const uint8_t b[SCRAM_KEY_BYTES])
{
	for (size_t i = 0; i < SCRAM_KEY_BYTES; i++)
		out[i] = a[i] ^ b[i];
}

/* --- passwords --- */

static bool is_ascii(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if ((uint8_t)s.p[i] >= 0x80)
			return false;
	}
	return true;
}

/* PostgreSQL looks for what SASLprep forbids in the text before NFKC, where RFC 3454 and libidn look behind it.  The
 * two differ for a handful of characters (U+0340, some Arabic ligatures), and we must agree with the server: so NFKC is
 * taken out of libidn's profile and done as a step of its own. */
static int prepare_without_nfkc(char *text, size_t size)
{
	Stringprep_profile steps[32];
	size_t n = 0;
	for (const Stringprep_profile *step = stringprep_saslprep; step->operation; step++) {
		if (step->operation == STRINGPREP_NFKC)
			continue;
		CHECK(n < ARRAY_LEN(steps) - 1);
		steps[n++] = *step;
	}
	steps[n] = (Stringprep_profile){ 0 };
	return stringprep(text, size, STRINGPREP_NO_UNASSIGNED, steps);
}

/* SASLprep into new memory, to be wiped and freed.  NULL: use the password as it is, which is what PostgreSQL does with
 * bytes that are not UTF-8 and with characters that SASLprep forbids or does not know. */
static char *saslprep(struct str password)
{
	char *normal = NULL;
	if (is_ascii(password) || memchr(password.p, 0, password.n) || password.n > SIZE_MAX / 4)
		return NULL;
	size_t size = password.n * 2 + 64; /* mapping shrinks the text, or leaves it as long as it was */
	char *text = mem_try_alloc(size);
	if (!text)
		return NULL;
	memcpy(text, password.p, password.n);
	text[password.n] = '\0';
	if (prepare_without_nfkc(text, size) == STRINGPREP_OK && text[0] != '\0')
		normal = stringprep_utf8_nfkc_normalize(text, -1);
	mem_free_secret(text, size);
	return normal;
}

static bool salted_password(struct str password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
                            uint8_t out[SCRAM_KEY_BYTES])
{
	char *prepared = saslprep(password);
	struct str key = prepared ? str_of(prepared) : password;
	bool ok = key.n <= INT32_MAX && salt_len <= INT32_MAX &&
	          PKCS5_PBKDF2_HMAC(key.n ? key.p : "", (int)key.n, salt, (int)salt_len, (int)iterations, EVP_sha256(),
	                            SCRAM_KEY_BYTES, out) == 1;
	mem_free_secret(prepared, prepared ? strlen(prepared) : 0);
	return ok;
}

bool scram_keys_derive(struct str password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
                       struct scram_keys *out)
{
	uint8_t salted[SCRAM_KEY_BYTES];
	/* Whoever chose the number could otherwise stop this thread for an hour. */
	if (iterations < 1 || iterations > SCRAM_ITERATIONS_MAX || salt_len > SCRAM_SALT_MAX)
		return false;
	out->iterations = iterations;
	out->salt_len = salt_len;
	memcpy(out->salt, salt, salt_len);
	bool ok = salted_password(password, salt, salt_len, iterations, salted) &&
	          scram_hmac(salted, STR("Client Key"), out->client_key) &&
	          scram_hmac(salted, STR("Server Key"), out->server_key);
	OPENSSL_cleanse(salted, sizeof(salted));
	return ok;
}

/* --- verifiers --- */

bool scram_verifier_make_salted(struct str password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
                                struct scram_verifier *out)
{
	struct scram_keys keys;
	bool ok = scram_keys_derive(password, salt, salt_len, iterations, &keys) &&
	          scram_hash(keys.client_key, out->stored_key);
	if (ok) {
		out->iterations = iterations;
		out->salt_len = salt_len;
		memcpy(out->salt, salt, salt_len);
		memcpy(out->server_key, keys.server_key, SCRAM_KEY_BYTES);
	}
	OPENSSL_cleanse(&keys, sizeof(keys));
	return ok;
}

bool scram_verifier_make(struct str password, uint32_t iterations, struct scram_verifier *out)
{
	uint8_t salt[SCRAM_SALT_BYTES];
	return RAND_bytes(salt, sizeof(salt)) == 1 &&
	       scram_verifier_make_salted(password, salt, sizeof(salt), iterations, out);
}

/* Takes the text before the next c off *rest. */
static bool take_until(struct str *rest, char c, struct str *part)
{
	const char *end = rest->n ? memchr(rest->p, c, rest->n) : NULL;
	if (!end)
		return false;
	*part = (struct str){ rest->p, (size_t)(end - rest->p) };
	*rest = (struct str){ end + 1, rest->n - part->n - 1 };
	return true;
}

static bool parse_iterations(struct str s, uint32_t *out)
{
	int64_t v;
	if (s.n == 0 || s.p[0] < '0' || s.p[0] > '9' || !str_to_i64(s, &v) || v < 1 || v > INT32_MAX)
		return false;
	*out = (uint32_t)v;
	return true;
}

bool scram_verifier_parse(struct str text, struct scram_verifier *out)
{
	struct str rest = text, scheme, iterations, salt, stored;
	size_t stored_len, server_len;
	return take_until(&rest, '$', &scheme) && str_eq(scheme, STR(SCRAM_MECHANISM)) &&
	       take_until(&rest, ':', &iterations) && parse_iterations(iterations, &out->iterations) &&
	       take_until(&rest, '$', &salt) &&
	       scram_base64_decode(salt, out->salt, sizeof(out->salt), &out->salt_len) &&
	       take_until(&rest, ':', &stored) &&
	       scram_base64_decode(stored, out->stored_key, SCRAM_KEY_BYTES, &stored_len) &&
	       scram_base64_decode(rest, out->server_key, SCRAM_KEY_BYTES, &server_len) &&
	       stored_len == SCRAM_KEY_BYTES && server_len == SCRAM_KEY_BYTES;
}

bool scram_verifier_format(const struct scram_verifier *v, char *out, size_t size)
{
	struct scram_text t = { .n = 0 };
	char number[16];
	snprintf(number, sizeof(number), "%u", v->iterations);
	scram_text_add(&t, STR(SCRAM_MECHANISM "$"));
	scram_text_add(&t, str_of(number));
	scram_text_add(&t, STR(":"));
	scram_text_add_base64(&t, v->salt, v->salt_len);
	scram_text_add(&t, STR("$"));
	scram_text_add_base64(&t, v->stored_key, SCRAM_KEY_BYTES);
	scram_text_add(&t, STR(":"));
	scram_text_add_base64(&t, v->server_key, SCRAM_KEY_BYTES);
	bool ok = !t.overflow && str_copy(out, size, scram_text_str(&t));
	OPENSSL_cleanse(&t, sizeof(t));
	return ok;
}

bool scram_verifier_check_password(const struct scram_verifier *v, struct str password)
{
	struct scram_verifier own;
	bool ok = scram_verifier_make_salted(password, v->salt, v->salt_len, v->iterations, &own) &&
	          CRYPTO_memcmp(own.stored_key, v->stored_key, SCRAM_KEY_BYTES) == 0;
	OPENSSL_cleanse(&own, sizeof(own));
	return ok;
}

bool scram_verifier_equal(const struct scram_verifier *a, const struct scram_verifier *b)
{
	return a->iterations == b->iterations && a->salt_len == b->salt_len &&
	       memcmp(a->salt, b->salt, a->salt_len) == 0 &&
	       CRYPTO_memcmp(a->stored_key, b->stored_key, SCRAM_KEY_BYTES) == 0 &&
	       CRYPTO_memcmp(a->server_key, b->server_key, SCRAM_KEY_BYTES) == 0;
}

/* Keeps the salts of users that do not exist the same from one attempt to the next, as a real user's would be. */
static uint8_t mock_secret[SCRAM_KEY_BYTES];
static bool mock_secret_is_set;
static pthread_once_t mock_once = PTHREAD_ONCE_INIT;

static void make_mock_secret(void) { mock_secret_is_set = RAND_bytes(mock_secret, sizeof(mock_secret)) == 1; }

bool scram_verifier_mock(struct str user, uint32_t iterations, struct scram_verifier *out)
{
	uint8_t digest[SCRAM_KEY_BYTES];
	pthread_once(&mock_once, make_mock_secret);
	if (!mock_secret_is_set || !scram_hmac(mock_secret, user, digest))
		return false;
	out->iterations = iterations;
	out->salt_len = SCRAM_SALT_BYTES;
	memcpy(out->salt, digest, SCRAM_SALT_BYTES);
	return scram_hmac(digest, STR("stored"), out->stored_key) && scram_hmac(digest, STR("server"), out->server_key);
}
