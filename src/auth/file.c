/* auth/file.c - see file_priv.h.  Files here hold secrets: what was read is overwritten before it is freed. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file_priv.h"

enum { FILE_BYTES_MAX = 256 << 20, FILE_CHUNK_BYTES = 64 << 10 };

static bool reserve(struct buf *text, size_t more)
{
	if (buf_reserve(text, more))
		return true;
	errno = ENOMEM;
	return false;
}

static bool read_all(int fd, struct buf *text)
{
	struct stat st;
	/* All at once where the size is known: growing would leave copies of secrets in freed memory. */
	if (fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size <= FILE_BYTES_MAX &&
	    !reserve(text, (size_t)st.st_size + 2 * FILE_CHUNK_BYTES))
		return false;
	for (;;) {
		if (buf_len(text) > FILE_BYTES_MAX) {
			errno = EFBIG;
			return false;
		}
		if (!reserve(text, FILE_CHUNK_BYTES))
			return false;
		ssize_t n = read(fd, buf_tail(text), buf_room(text));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0;
		text->tail += (size_t)n;
	}
}

bool auth_file_read(const char *path, struct buf *text)
{
	*text = (struct buf){ 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool ok = read_all(fd, text);
	int saved = errno;
	close(fd);
	errno = saved;
	return ok;
}

void auth_file_wipe(struct buf *text)
{
	if (text->data)
		OPENSSL_cleanse(text->data, text->cap);
	buf_deinit(text);
}
