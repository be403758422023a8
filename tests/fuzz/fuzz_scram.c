/* fuzz_scram.c - SCRAM in both roles against a peer that says anything, and the texts that secrets are read from.
 *
 * First byte: what is tried, and how.  The rest: the peer's messages, one per line.  Nonces are fixed, so that the
 * corpus can hold exchanges that go all the way.  Properties: never a success without the right proof (the verifier's
 * password is known to nobody but the corpus), outputs bounded, and every text that parses comes out the same. */
#include <stdlib.h>
#include "auth/hba.h"
#include "auth/password.h"
#include "auth/userdb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The verifier and the exchange of RFC 7677. */
#define VERIFIER                                                                                                       \
	"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                    \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static bool next_line(struct str *rest, struct str *line)
{
	if (rest->n == 0)
		return false;
	const char *newline = memchr(rest->p, '\n', rest->n);
	line->p = rest->p;
	line->n = newline ? (size_t)(newline - rest->p) : rest->n;
	rest->p += line->n + (newline ? 1 : 0);
	rest->n -= line->n + (newline ? 1 : 0);
	return true;
}

static void fuzz_server(uint8_t how, struct str rest)
{
	struct scram_verifier v;
	struct scram_server s;
	struct str line, out;
	CHECK(scram_verifier_parse(STR(VERIFIER), &v));
	bool plus = how & 1, offered = how & 2;
	struct scram_server_options o = { .verifier = &v,
		                          .is_mock = (how & 4) != 0,
		                          .binding_offered = offered,
		                          .mechanism = plus ? STR(SCRAM_MECHANISM_PLUS) : STR(SCRAM_MECHANISM),
		                          .binding_data = STR("0123456789abcdef0123456789abcdef"),
		                          .nonce = STR("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0") };
	if (!scram_server_init(&s, &o)) {
		CHECK(plus && !offered);
		return;
	}
	while (next_line(&rest, &line)) {
		enum scram_result result = scram_server_step(&s, line, &out);
		CHECK(out.n <= SCRAM_MESSAGE_MAX);
		if (result == SCRAM_FAILED)
			CHECK(s.failure != SCRAM_FAILURE_NONE && out.n == 0);
		if (result == SCRAM_DONE) {
			CHECK(!o.is_mock);
			/* Only who knows the password gets here. */
			struct scram_keys keys;
			CHECK(scram_keys_derive(STR("pencil"), v.salt, v.salt_len, v.iterations, &keys));
			CHECK(memcmp(keys.client_key, s.keys.client_key, SCRAM_KEY_BYTES) == 0);
		}
	}
	scram_server_deinit(&s);
}

/* Derivations are slow, and their number of rounds is the peer's choice. */
static bool is_slow(struct str s)
{
	for (size_t i = 0; i + 6 < s.n; i++) {
		if (s.p[i] == 'i' && s.p[i + 1] == '=' && s.p[i + 6] >= '0' && s.p[i + 6] <= '9')
			return true;
	}
	return false;
}

static void fuzz_client(uint8_t how, struct str rest)
{
	static const enum scram_binding bindings[] = { SCRAM_BINDING_NONE, SCRAM_BINDING_POSSIBLE, SCRAM_BINDING_USED,
		                                       SCRAM_BINDING_NONE };
	struct scram_keys keys = { .iterations = how & 4 ? 0 : 4096 };
	struct scram_client c;
	struct str line, out;
	if (is_slow(rest))
		return;
	struct scram_client_options o = { .password = how & 8 ? STR("pencil") : (struct str){ NULL, 0 },
		                          .keys = how & 8 ? NULL : &keys,
		                          .binding = bindings[how & 3],
		                          .binding_data = STR("0123456789abcdef0123456789abcdef"),
		                          .nonce = STR("rOprNGfwEbeRWgbNEkqO") };
	CHECK(scram_client_init(&c, &o));
	CHECK(scram_client_step(&c, STR(""), &out) == SCRAM_CONTINUE);
	while (next_line(&rest, &line)) {
		enum scram_result result = scram_client_step(&c, line, &out);
		CHECK(out.n <= SCRAM_MESSAGE_MAX);
		if (result == SCRAM_FAILED)
			CHECK(c.failure != SCRAM_FAILURE_NONE && out.n == 0);
	}
	scram_client_deinit(&c);
}

static void fuzz_secret(struct str text)
{
	struct scram_verifier v, again;
	char formatted[SCRAM_VERIFIER_TEXT_MAX];
	if (scram_verifier_parse(text, &v)) {
		CHECK(scram_verifier_format(&v, formatted, sizeof(formatted)));
		CHECK(scram_verifier_parse(str_of(formatted), &again));
		CHECK(scram_verifier_equal(&v, &again));
		CHECK(secret_parse(text) == SECRET_SCRAM);
	}
	(void)!password_check_md5(text, STR("user"), (const uint8_t *)"salt", STR("md5"));
	/* One round suffices to bring any password through SASLprep. */
	CHECK(scram_verifier_make_salted(text, (const uint8_t *)"salt", 4, 1, &v));
	CHECK(scram_verifier_check_password(&v, text));
}

static void fuzz_users(struct str text)
{
	char error[128];
	struct userdb *db = userdb_parse(text, "users", error, sizeof(error));
	CHECK(db || str_has_prefix(str_of(error), STR("users:")));
	if (db)
		(void)userdb_typical_kind(db);
	userdb_unref(db);
}

static void fuzz_rules(struct str text)
{
	char error[128];
	if (text.n && memchr(text.p, '@', text.n))
		return; /* would read whatever file it names */
	struct hba *hba = hba_parse(text, "rules", error, sizeof(error));
	CHECK(hba || str_has_prefix(str_of(error), STR("rules:")));
	if (hba) {
		struct hba_verdict v = hba_match(hba, &(struct hba_query){ .transport = HBA_UNIX, .user = STR("u") });
		CHECK(v.matched || v.method == AUTH_METHOD_REJECT);
	}
	hba_unref(hba);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	char *copy = malloc(size);
	memcpy(copy, data + 1, size - 1);
	struct str rest = { copy, size - 1 };
	switch (data[0] >> 6) {
	case 0:
		fuzz_server(data[0], rest);
		break;
	case 1:
		fuzz_client(data[0], rest);
		break;
	case 2:
		fuzz_secret(rest);
		break;
	case 3:
		if (data[0] & 1)
			fuzz_rules(rest);
		else
			fuzz_users(rest);
		break;
	}
	free(copy);
	return 0;
}
