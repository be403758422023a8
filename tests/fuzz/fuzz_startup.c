/* fuzz_startup.c - the first packet of a connection: whatever is accepted must come out the same when built again. */
#include <stdlib.h>
#include "wire/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAIRS_MAX = STARTUP_BYTES_MAX / 2 };

static void rebuild(const struct msg_startup *m, struct wire_writer *w)
{
	static struct msg_pair pairs[PAIRS_MAX];
	struct wire_reader params = m->params;
	size_t count = 0;
	switch (m->kind) {
	case MSG_STARTUP:
		while (msg_startup_next(&params, &pairs[count].name, &pairs[count].value))
			CHECK(++count < PAIRS_MAX);
		CHECK(wr_done(&params));
		msg_put_startup(w, m->code, pairs, count);
		return;
	case MSG_SSL_REQUEST:
		msg_put_ssl_request(w);
		return;
	case MSG_CANCEL_REQUEST:
		msg_put_cancel_request(w, m->cancel.pid, m->cancel.key);
		return;
	case MSG_GSSENC_REQUEST:
	case MSG_OTHER_PROTOCOL:
		return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct msg_startup m;
	struct buf b = { 0 };
	struct wire_writer w;
	size_t len;
	if (startup_peek(data, size, &len) != FRAME_OK || len > size)
		return 0;
	uint8_t *copy = malloc(len);
	memcpy(copy, data, len);
	if (msg_parse_startup(copy, len, &m)) {
		ww_init(&w, &b);
		rebuild(&m, &w);
		CHECK(ww_finish(&w));
		CHECK(buf_len(&b) == 0 || (buf_len(&b) == len && memcmp(buf_head(&b), copy, len) == 0));
		buf_deinit(&b);
	}
	free(copy);
	return 0;
}
