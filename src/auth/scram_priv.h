/* auth/scram_priv.h - what both roles of SCRAM share: bounded texts, attribute lists, keyed hashes. */
#ifndef AUTH_SCRAM_PRIV_H
#define AUTH_SCRAM_PRIV_H

#include "auth/scram.h"

enum {
	SCRAM_RAW_NONCE_BYTES = 18, /* as PostgreSQL: 24 characters of base64 */
	SCRAM_KEY_TEXT_BYTES = 44,  /* base64 of SCRAM_KEY_BYTES */
};

/* Appends that do not fit set t->overflow and add nothing: callers ask once, at the end. */
void scram_text_add(struct scram_text *t, struct str s);
void scram_text_add_base64(struct scram_text *t, const uint8_t *p, size_t n);
static inline struct str scram_text_str(const struct scram_text *t) { return (struct str){ t->p, t->n }; }
bool scram_text_set(struct scram_text *t, struct str s) MUSTCHECK;

/* Strict: alphabet, padding and length are checked, no white space.  false also when it does not fit into size. */
bool scram_base64_decode(struct str s, uint8_t *out, size_t size, size_t *n) MUSTCHECK;

/* Takes "X=value" and the comma behind it off the front of *rest; false when another attribute or nothing is there. */
bool scram_take_attribute(struct str *rest, char name, struct str *value) MUSTCHECK;
bool scram_is_printable(struct str s); /* 0x21 to 0x7e without comma: what a nonce may consist of */
bool scram_is_message(struct str s);   /* not longer than SCRAM_MESSAGE_MAX and without NUL */
bool scram_nonce_text(struct str fixed, char *out, size_t size, size_t *n) MUSTCHECK;

bool scram_hmac(const uint8_t key[SCRAM_KEY_BYTES], struct str data, uint8_t out[SCRAM_KEY_BYTES]) MUSTCHECK;
bool scram_hash(const uint8_t in[SCRAM_KEY_BYTES], uint8_t out[SCRAM_KEY_BYTES]) MUSTCHECK;
/* HMAC over AuthMessage = client-first-bare "," server-first "," client-final-without-proof. */
bool scram_sign(const uint8_t key[SCRAM_KEY_BYTES], struct str first_bare, struct str server_first,
                struct str final_without_proof, uint8_t out[SCRAM_KEY_BYTES]) MUSTCHECK;
/* "c=" attribute: base64 of the gs2 header and, with SCRAM_BINDING_USED, the binding data. */
void scram_add_binding(struct scram_text *t, enum scram_binding binding, const uint8_t *data, size_t n);
void scram_add_gs2_header(struct scram_text *t, enum scram_binding binding);
void scram_xor(uint8_t out[SCRAM_KEY_BYTES], const uint8_t a[SCRAM_KEY_BYTES], const uint8_t b[SCRAM_KEY_BYTES]);

#endif
