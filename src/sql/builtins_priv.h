/* builtins_priv.h - what PostgreSQL's own functions may do, by name (rule F3). */
#ifndef SQL_BUILTINS_PRIV_H
#define SQL_BUILTINS_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include "sql/route_reason.h"

/* id, reason, shows transaction time (C1) */
#define BUILTIN_CLASSES(X)                                                                                             \
	X(READ, READ, false)                                                                                           \
	X(TEXT_SEARCH, READ, false) /* READ unless users have made text search templates or parsers */                 \
	X(TIME, READ, true)                                                                                            \
	X(OPAQUE, UNPROVED_FUNCTION, false)                                                                            \
	X(STATE, SERVER_STATE, false)                                                                                  \
	X(SETTING, SETTING, false)                                                                                     \
	X(TEXT, SQL_TEXT, false)                                                                                       \
	X(SESSION, SESSION_FUNCTION, false)                                                                            \
	X(SIDE, SIDE_EFFECT, false)                                                                                    \
	X(WRITE, WRITE_FUNCTION, false)                                                                                \
	X(SNAPSHOT, SNAPSHOT, false)
enum builtin_class {
#define BUILTIN_CLASS_ENUM(id, reason, time) BUILTIN_##id,
	BUILTIN_CLASSES(BUILTIN_CLASS_ENUM)
#undef BUILTIN_CLASS_ENUM
};

struct builtin {
	const char *name;
	enum builtin_class class;
	enum route_reason reason;
	bool shows_time;
	bool one;      /* may be called with one argument, so also as x.name (F4) */
	uint32_t pins; /* enum sql_pin */
};

/* False: PostgreSQL has no function of that name, or one newer than the list. */
bool builtin_find(const char *name, struct builtin *out);
/* Whether an unqualified or so qualified name may mean a builtin. */
bool builtin_schema(const char *schema);

#endif
