/* control/page.c - the live page at "/": src/control/page.html, as it is, inside the program.
 *
 * The assembler reads the file (the Makefile knows that this object depends on it): no tool is needed that a compiler
 * does not bring, and the page stays a page that can be opened and edited.  Its one script and one style carry a nonce
 * of each answer, and the policy allows nothing else: text that got past the page's own care would not run. */
#include "control/page.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

__asm__(".section .rodata\n"
        ".global page_html\n"
        ".hidden page_html\n"
        "page_html:\n"
        ".incbin \"src/control/page.html\"\n"
        ".byte 0\n"
        ".previous\n");
extern const char page_html[] __attribute__((visibility("hidden")));

#define NONCE_MARK "@NONCE@"

/* Without chance there is no nonce: then a browser runs no script, which is right. */
void page_make_nonce(char out[PAGE_NONCE_SIZE])
{
	uint8_t raw[(PAGE_NONCE_SIZE - 1) / 2];
	out[0] = '\0';
	if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw)
		return;
	for (size_t i = 0; i < sizeof raw; i++)
		snprintf(out + 2 * i, 3, "%02x", raw[i]);
}

bool page_put(struct buf *out, const char *nonce)
{
	const char *from = page_html, *mark;
	bool ok = true;
	while (ok && (mark = strstr(from, NONCE_MARK))) {
		ok = buf_put(out, from, (size_t)(mark - from)) && buf_put(out, nonce, strlen(nonce));
		from = mark + sizeof NONCE_MARK - 1;
	}
	return ok && buf_put(out, from, strlen(from));
}
