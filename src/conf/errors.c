/* conf/errors.c - see conf/errors.h. */
#include "conf/errors.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

const char *config_severity_name(enum config_severity severity)
{
	switch (severity) {
	case CONFIG_NOTICE:
		return "notice";
	case CONFIG_WARNING:
		return "warning";
	case CONFIG_ERROR:
		return "error";
	}
	return "error";
}

static char *place_text(struct config_place place)
{
	if (!place.file)
		return mem_strdup("");
	return place.line > 0 ? mem_printf("%s:%d: ", place.file, place.line) : mem_printf("%s: ", place.file);
}

static char *formatted(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));
static char *formatted(const char *fmt, va_list ap)
{
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	char *text = mem_zalloc(n > 0 ? (size_t)n + 1 : 1);
	if (n > 0)
		(void)vsnprintf(text, (size_t)n + 1, fmt, ap);
	return text;
}

void config_errors_add(struct config_errors *errs, enum config_severity severity, struct config_place place,
                       const char *key, const char *fmt, ...)
{
	va_list ap;
	if (severity == CONFIG_ERROR)
		errs->n_errors++;
	if (errs->n >= CONFIG_ERRORS_MAX) { /* a file of another kind must not fill the memory with complaints */
		errs->n_dropped++;
		return;
	}
	va_start(ap, fmt);
	char *message = formatted(fmt, ap);
	va_end(ap);
	char *where = place_text(place);
	errs->items = mem_realloc(errs->items, (size_t)(errs->n + 1) * sizeof(*errs->items));
	errs->items[errs->n++] = (struct config_error){
		.severity = severity,
		.text = mem_printf("%s%s%s%s", where, key ? key : "", key ? ": " : "", message),
	};
	mem_free(where);
	mem_free(message);
}

void config_errors_free(struct config_errors *errs)
{
	for (int i = 0; i < errs->n; i++)
		mem_free(errs->items[i].text);
	mem_free(errs->items);
	*errs = (struct config_errors){ NULL, 0, 0, 0 };
}
