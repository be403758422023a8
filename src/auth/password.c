/* auth/password.c - see auth/password.h. */
#include "auth/password.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

static const char *const kind_names[] = {
#define KIND_ROW(id, name) [SECRET_##id] = name,
	SECRET_KINDS(KIND_ROW)
#undef KIND_ROW
};

static const char *const method_names[] = {
#define METHOD_ROW(id, name) [AUTH_METHOD_##id] = name,
	AUTH_METHODS(METHOD_ROW)
#undef METHOD_ROW
};

const char *secret_kind_name(enum secret_kind kind) { return kind_names[kind]; }
const char *auth_method_name(enum auth_method method) { return method_names[method]; }

bool auth_method_parse(struct str name, enum auth_method *out)
{
	if (str_eq(name, STR("plain"))) {
		*out = AUTH_METHOD_PASSWORD;
		return true;
	}
	for (size_t i = 0; i < ARRAY_LEN(method_names); i++) {
		if (str_eq(name, str_of(method_names[i]))) {
			*out = (enum auth_method)i;
			return true;
		}
	}
	return false;
}

static bool is_md5(struct str text)
{
	if (text.n != MD5_TEXT_BYTES || !str_has_prefix(text, STR("md5")))
		return false;
	for (size_t i = 3; i < text.n; i++) {
		if (!((text.p[i] >= '0' && text.p[i] <= '9') || (text.p[i] >= 'a' && text.p[i] <= 'f')))
			return false;
	}
	return true;
}

enum secret_kind secret_parse(struct str text)
{
	struct scram_verifier v;
	if (text.n == 0)
		return SECRET_NONE;
	if (is_md5(text))
		return SECRET_MD5;
	bool is_scram = scram_verifier_parse(text, &v);
	OPENSSL_cleanse(&v, sizeof(v));
	return is_scram ? SECRET_SCRAM : SECRET_PLAIN;
}

/* "md5" + hex(md5(a + b)) */
static bool md5_text(struct str a, struct str b, char out[MD5_TEXT_BYTES + 1])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_md5(), NULL) == 1 && EVP_DigestUpdate(ctx, a.p, a.n) == 1 &&
	          EVP_DigestUpdate(ctx, b.p, b.n) == 1 && EVP_DigestFinal_ex(ctx, digest, &n) == 1 && n == 16;
	EVP_MD_CTX_free(ctx);
	memcpy(out, "md5", 4);
	for (size_t i = 0; ok && i < n; i++) {
		out[3 + 2 * i] = digits[digest[i] >> 4];
		out[4 + 2 * i] = digits[digest[i] & 15];
		out[5 + 2 * i] = '\0';
	}
	OPENSSL_cleanse(digest, sizeof(digest));
	return ok;
}

bool md5_secret(struct str password, struct str user, char out[MD5_TEXT_BYTES + 1])
{
	return md5_text(password, user, out);
}

bool md5_response(struct str stored_md5, const uint8_t salt[MD5_SALT_BYTES], char out[MD5_TEXT_BYTES + 1])
{
	if (!is_md5(stored_md5))
		return false;
	struct str hex = { stored_md5.p + 3, stored_md5.n - 3 };
	return md5_text(hex, (struct str){ (const char *)salt, MD5_SALT_BYTES }, out);
}

bool md5_answer(struct str secret, struct str user, const uint8_t salt[MD5_SALT_BYTES], char out[MD5_TEXT_BYTES + 1])
{
	char stored[MD5_TEXT_BYTES + 1];
	bool ok = false;
	switch (secret_parse(secret)) {
	case SECRET_MD5:
		return md5_response(secret, salt, out);
	case SECRET_PLAIN:
		ok = md5_secret(secret, user, stored) && md5_response(str_of(stored), salt, out);
		OPENSSL_cleanse(stored, sizeof(stored));
		return ok;
	case SECRET_NONE:
	case SECRET_SCRAM: /* nobody can compute md5 from a verifier */
		break;
	}
	return false;
}

bool password_check_md5(struct str secret, struct str user, const uint8_t salt[MD5_SALT_BYTES], struct str response)
{
	char expected[MD5_TEXT_BYTES + 1];
	bool ok = md5_answer(secret, user, salt, expected) && response.n == MD5_TEXT_BYTES &&
	          CRYPTO_memcmp(expected, response.p, MD5_TEXT_BYTES) == 0;
	OPENSSL_cleanse(expected, sizeof(expected));
	return ok;
}

/* Compares digests, so that the time tells nothing about where two passwords part. */
static bool same_secret(struct str a, struct str b)
{
	uint8_t da[SCRAM_KEY_BYTES], db[SCRAM_KEY_BYTES];
	bool ok = EVP_Digest(a.p, a.n, da, NULL, EVP_sha256(), NULL) == 1 &&
	          EVP_Digest(b.p, b.n, db, NULL, EVP_sha256(), NULL) == 1 && CRYPTO_memcmp(da, db, sizeof(da)) == 0;
	OPENSSL_cleanse(da, sizeof(da));
	OPENSSL_cleanse(db, sizeof(db));
	return ok;
}

static bool check_clear_md5(struct str secret, struct str user, struct str password)
{
	char own[MD5_TEXT_BYTES + 1];
	bool ok = md5_secret(password, user, own) && CRYPTO_memcmp(own, secret.p, MD5_TEXT_BYTES) == 0;
	OPENSSL_cleanse(own, sizeof(own));
	return ok;
}

static bool check_clear_scram(struct str secret, struct str password)
{
	struct scram_verifier v;
	bool ok = scram_verifier_parse(secret, &v) && scram_verifier_check_password(&v, password);
	OPENSSL_cleanse(&v, sizeof(v));
	return ok;
}

bool password_check_clear(struct str secret, struct str user, struct str password)
{
	if (password.n == 0)
		return false; /* PostgreSQL refuses the empty password too, whatever is stored */
	switch (secret_parse(secret)) {
	case SECRET_PLAIN:
		return same_secret(secret, password);
	case SECRET_MD5:
		return check_clear_md5(secret, user, password);
	case SECRET_SCRAM:
		return check_clear_scram(secret, password);
	case SECRET_NONE:
		break;
	}
	return false;
}

enum auth_exchange auth_exchange_pick(enum auth_method method, enum secret_kind kind)
{
	switch (method) {
	case AUTH_METHOD_TRUST:
	case AUTH_METHOD_ANY:
	case AUTH_METHOD_CERT:
	case AUTH_METHOD_PEER:
		return AUTH_EXCHANGE_NONE;
	case AUTH_METHOD_PASSWORD:
		return AUTH_EXCHANGE_CLEARTEXT;
	case AUTH_METHOD_MD5:
		/* md5 means "md5 or better", as in PostgreSQL. */
		return kind == SECRET_SCRAM ? AUTH_EXCHANGE_SCRAM : AUTH_EXCHANGE_MD5;
	case AUTH_METHOD_SCRAM:
		return kind == SECRET_SCRAM || kind == SECRET_PLAIN ? AUTH_EXCHANGE_SCRAM : AUTH_EXCHANGE_SCRAM_MOCK;
	case AUTH_METHOD_REJECT:
	case AUTH_METHOD_HBA: /* the file's rule decides, and gives another method; without one nobody enters */
		break;
	}
	return AUTH_EXCHANGE_REJECT;
}
