/* sql/facts.h - what one SQL string says, independent of any database: verbs, flags, names.
 *
 * Made once per statement shape by sqlparse.h (or by a token scan when the parser cannot be asked), immutable, counted
 * references.  Owner: the worker that made it; not thread-safe.  All strings live in the facts' own block. */
#ifndef SQL_FACTS_H
#define SQL_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/check.h"

#define SQL_VERBS(X)                                                                                                   \
	X(EMPTY, "no statement")                                                                                       \
	X(SELECT, "SELECT, VALUES, TABLE, WITH")                                                                       \
	X(SELECT_INTO, "SELECT INTO")                                                                                  \
	X(INSERT, "INSERT")                                                                                            \
	X(UPDATE, "UPDATE")                                                                                            \
	X(DELETE, "DELETE")                                                                                            \
	X(MERGE, "MERGE")                                                                                              \
	X(COPY_TO, "COPY TO STDOUT")                                                                                   \
	X(COPY_FROM, "COPY FROM STDIN")                                                                                \
	X(COPY_FILE, "COPY with a file or a program")                                                                  \
	X(EXPLAIN, "EXPLAIN")                                                                                          \
	X(SHOW, "SHOW")                                                                                                \
	X(SET, "SET")                                                                                                  \
	X(SET_LOCAL, "SET LOCAL")                                                                                      \
	X(RESET, "RESET")                                                                                              \
	X(RESET_ALL, "RESET ALL")                                                                                      \
	X(SET_TRANSACTION, "SET TRANSACTION")                                                                          \
	X(SET_SNAPSHOT, "SET TRANSACTION SNAPSHOT")                                                                    \
	X(SET_CHARACTERISTICS, "SET SESSION CHARACTERISTICS")                                                          \
	X(SET_CONSTRAINTS, "SET CONSTRAINTS")                                                                          \
	X(BEGIN, "BEGIN or START TRANSACTION")                                                                         \
	X(COMMIT, "COMMIT or END")                                                                                     \
	X(ROLLBACK, "ROLLBACK or ABORT")                                                                               \
	X(SAVEPOINT, "SAVEPOINT")                                                                                      \
	X(RELEASE, "RELEASE SAVEPOINT")                                                                                \
	X(ROLLBACK_TO, "ROLLBACK TO SAVEPOINT")                                                                        \
	X(PREPARE_TRANSACTION, "PREPARE TRANSACTION")                                                                  \
	X(COMMIT_PREPARED, "COMMIT PREPARED")                                                                          \
	X(ROLLBACK_PREPARED, "ROLLBACK PREPARED")                                                                      \
	X(PREPARE, "PREPARE")                                                                                          \
	X(EXECUTE, "EXECUTE")                                                                                          \
	X(DEALLOCATE, "DEALLOCATE; name NULL: ALL")                                                                    \
	X(DISCARD_ALL, "DISCARD ALL")                                                                                  \
	X(DISCARD_PLANS, "DISCARD PLANS")                                                                              \
	X(DISCARD_SEQUENCES, "DISCARD SEQUENCES")                                                                      \
	X(DISCARD_TEMP, "DISCARD TEMP")                                                                                \
	X(LISTEN, "LISTEN")                                                                                            \
	X(UNLISTEN, "UNLISTEN; name NULL: *")                                                                          \
	X(NOTIFY, "NOTIFY")                                                                                            \
	X(DECLARE, "DECLARE CURSOR")                                                                                   \
	X(FETCH, "FETCH or MOVE")                                                                                      \
	X(CLOSE, "CLOSE; name NULL: ALL")                                                                              \
	X(LOCK, "LOCK TABLE")                                                                                          \
	X(DO, "DO")                                                                                                    \
	X(CALL, "CALL")                                                                                                \
	X(LOAD, "LOAD")                                                                                                \
	X(VACUUM, "VACUUM")                                                                                            \
	X(ANALYZE, "ANALYZE")                                                                                          \
	X(CLUSTER, "CLUSTER")                                                                                          \
	X(REINDEX, "REINDEX")                                                                                          \
	X(TRUNCATE, "TRUNCATE")                                                                                        \
	X(REFRESH, "REFRESH MATERIALIZED VIEW")                                                                        \
	X(CHECKPOINT, "CHECKPOINT")                                                                                    \
	X(ALTER_SYSTEM, "ALTER SYSTEM")                                                                                \
	X(DATABASE, "CREATE, ALTER, DROP DATABASE; name: that nobody may be connected to")                             \
	X(DDL, "anything that changes the catalog")                                                                    \
	X(UNPARSED, "not known: the parser could not be asked, or did not understand")
enum sql_verb {
#define SQL_VERB_ENUM(id, doc) SQL_##id,
	SQL_VERBS(SQL_VERB_ENUM)
#undef SQL_VERB_ENUM
	    SQL_VERB_COUNT
};

#define SQL_FLAGS(X)                                                                                                   \
	X(TX_CONTROL_INSIDE, "several statements, one of them BEGIN, COMMIT, SAVEPOINT or the like (A3)")              \
	X(NO_TX_BLOCK, "refuses to run in a transaction block or behind a prelude in a pipeline (C7)")                 \
	X(DDL, "changes the catalog, or may: facts must be loaded again")                                              \
	X(CODE_DDL, "DDL that makes or changes what runs inside other statements: functions, triggers, operators...")  \
	X(USER_CODE, "calls a function that does not have the name of one of PostgreSQL's own")                        \
	X(WRITES, "INSERT, UPDATE, DELETE, MERGE, COPY FROM, TRUNCATE anywhere, also in a CTE")                        \
	X(DROPS_STATEMENTS, "DEALLOCATE ALL, DISCARD ALL: the server's prepared statements are gone")                  \
	X(MAY_TOUCH_SESSION, "DO, CALL, or text that could not be parsed: anything may have been set")                 \
	X(SHOWS_TIME, "now(), CURRENT_TIMESTAMP and the like, or a literal for it (C1); views: route_class")           \
	X(SNAPSHOT, "exports or imports a snapshot (C6)")                                                              \
	X(LITERAL_SENSITIVE, "its literals say what it is: never cached by shape (F5)")                                \
	X(NOW_LITERAL, "a literal that a datetime input may read as the present (D1)")                                 \
	X(FIXED_RESULT, "its result's columns cannot change without DDL on a named column (D3)")                       \
	X(LOCKS_ROWS, "FOR UPDATE or SHARE")                                                                           \
	X(INTO, "SELECT INTO or CREATE TABLE AS inside")                                                               \
	X(UNKNOWN_NODE, "holds a parse node that no rule covers")                                                      \
	X(USES_SEQUENCE, "nextval, currval, lastval, setval by name, or INSERT (E3)")                                  \
	X(DUMP, "LOCK TABLE, an exported snapshot: looks like pg_dump (C5)")                                           \
	X(LOCAL_SETTING, "SET, RESET or SHOW of pgweir.*: answered here")                                              \
	X(READS_SETTING, "current_setting()")                                                                          \
	X(EXPLAIN_ANALYZE, "EXPLAIN that runs its statement")                                                          \
	X(RESETS_SETTINGS, "RESET, DISCARD ALL: what was set on the server connection for a client may be gone")       \
	X(PREPARED_NAMES, "PREPARE, EXECUTE, DEALLOCATE, DISCARD ALL: statements under names of SQL")                  \
	X(SHOWS_PREPARED, "pg_prepared_statements")                                                                    \
	X(SHOWS_SETTINGS, "pg_settings")                                                                               \
	X(SETS, "SET, RESET, set_config(): settings of the session or of the transaction are others afterwards")       \
	X(CUSTOM_SETTING, "names settings with a point (facts.settings), which stay behind (E1)")                      \
	X(ODD_PATH, "a search_path in which something comes before pg_catalog, or pg_temp: names mean anything (E5)")  \
	X(DYNAMIC, "runs SQL that is made at run time")                                                                \
	X(SWALLOWS_ERRORS, "a PL/pgSQL block with EXCEPTION: a refusal may be lost in it (A6)")
enum sql_flag_bit {
#define SQL_FLAG_ENUM(id, doc) SQL_FLAG_BIT_##id,
	SQL_FLAGS(SQL_FLAG_ENUM)
#undef SQL_FLAG_ENUM
};
enum sql_flag {
#define SQL_FLAG_ENUM(id, doc) SQL_F_##id = 1u << SQL_FLAG_BIT_##id,
	SQL_FLAGS(SQL_FLAG_ENUM)
#undef SQL_FLAG_ENUM
};

/* Why a client keeps its server connection after the transaction. */
#define SQL_PINS(X)                                                                                                    \
	X(SETTING, "changed a setting of the session")                                                                 \
	X(CUSTOM, "may set a setting whose name is not known, and would stay behind (E1)")                             \
	X(RESETS, "code or one of several statements that may RESET; keeps nothing")                                   \
	X(ROLE, "SET ROLE or SET SESSION AUTHORIZATION")                                                               \
	X(PREPARED, "PREPARE in SQL")                                                                                  \
	X(LISTEN, "LISTEN")                                                                                            \
	X(TEMP, "a temporary object")                                                                                  \
	X(HOLD_CURSOR, "a cursor WITH HOLD")                                                                           \
	X(ADVISORY_LOCK, "an advisory lock of the session")                                                            \
	X(LOADED, "LOAD")                                                                                              \
	X(SETSEED, "setseed()")                                                                                        \
	X(SEQUENCE, "currval() or lastval()")                                                                          \
	X(UNKNOWN, "code or text that cannot be looked into")
enum sql_pin_bit {
#define SQL_PIN_ENUM(id, doc) SQL_PIN_BIT_##id,
	SQL_PINS(SQL_PIN_ENUM)
#undef SQL_PIN_ENUM
	    SQL_PIN_COUNT
};
enum sql_pin {
#define SQL_PIN_ENUM(id, doc) SQL_PIN_##id = 1u << SQL_PIN_BIT_##id,
	SQL_PINS(SQL_PIN_ENUM)
#undef SQL_PIN_ENUM
};

/* Why there is no parse tree. */
#define SQL_UNPARSED_REASONS(X)                                                                                        \
	X(NONE, "there is one")                                                                                        \
	X(SYNTAX, "the parser does not understand it")                                                                 \
	X(TOO_LARGE, "larger than the parse bound")                                                                    \
	X(TOO_DEEP, "nested too deeply")                                                                               \
	X(ENCODING, "bytes that a lexer cannot read in the client's encoding")                                         \
	X(BACKSLASH, "a backslash in a plain literal while standard_conforming_strings is off")
enum sql_unparsed {
#define SQL_UNPARSED_ENUM(id, doc) SQL_UNPARSED_##id,
	SQL_UNPARSED_REASONS(SQL_UNPARSED_ENUM)
#undef SQL_UNPARSED_ENUM
};

enum sql_isolation {
	SQL_ISO_UNSET,
	SQL_ISO_READ_UNCOMMITTED,
	SQL_ISO_READ_COMMITTED,
	SQL_ISO_REPEATABLE_READ,
	SQL_ISO_SERIALIZABLE
};
enum sql_tristate { SQL_UNSET, SQL_NO, SQL_YES };

/* The modes of BEGIN, START TRANSACTION, SET TRANSACTION, SET SESSION CHARACTERISTICS. */
struct sql_begin {
	bool start; /* START TRANSACTION: its command tag differs (C3) */
	enum sql_isolation isolation;
	enum sql_tristate read_only, deferrable;
};

struct sql_stmt {
	enum sql_verb verb;
	struct sql_begin begin; /* BEGIN, SET_TRANSACTION, SET_CHARACTERISTICS */
	bool chain;             /* COMMIT, ROLLBACK: AND CHAIN */
	bool hold;              /* DECLARE: WITH HOLD */
	bool inner_read;        /* EXPLAIN, COPY_TO, DECLARE: of a SELECT */
	/* Setting, savepoint, prepared statement, cursor, channel, database or gid; NULL where there is none.  Settings
	 * as the parser gives them: SET TIME ZONE is "timezone", SET NAMES "client_encoding", SET ROLE "role". */
	const char *name;
	const char *value; /* SET, SET_LOCAL: one literal, or several joined by ", "; NULL: DEFAULT */
	const char *runs;  /* prepared statement: EXECUTE, EXPLAIN EXECUTE, CREATE TABLE AS EXECUTE; else NULL */
};

/* A name as written.  schema NULL: unqualified. */
struct sql_ref {
	const char *schema, *name;
	uint8_t arg; /* functions: number of arguments or SQL_REF_ARGS_MANY; relations: 0 or SQL_REF_WRITTEN;
	              aliases: 0 or SQL_REF_FUNCTION */
	bool cte;    /* relations: unqualified, and a WITH of the same string has that name */
};
enum { SQL_REF_ARGS_MANY = 255, SQL_REF_WRITTEN = 1, SQL_REF_FUNCTION = 1 };
struct sql_refs {
	const struct sql_ref *v;
	unsigned n;
};

struct sql_facts {
	unsigned refs;
	enum sql_unparsed unparsed;
	bool multi;       /* more than one statement */
	unsigned n_stmts; /* at least 1: an empty string has one EMPTY */
	const struct sql_stmt *stmts;
	uint32_t flags; /* enum sql_flag */
	uint32_t pins;  /* enum sql_pin; what its text shows */
	struct sql_refs relations;
	struct sql_refs functions;
	struct sql_refs operators;
	struct sql_refs types;
	/* F4: a.b, (x).b: schema is the qualifier (NULL: an expression), name the field; may be a function call. */
	struct sql_refs columns;
	/* Aliases and names of relations that a column's qualifier may mean: schema is the alias, name the relation;
	 * name NULL: a subquery, function or CTE. */
	struct sql_refs aliases;
	struct sql_refs settings; /* names with a point that SET, SET LOCAL or set_config() has for settings */
	/* Of a scanned PL/pgSQL body: every identifier, whatever it is. */
	struct sql_refs words;
	unsigned n_binds; /* a SELECT's parameters that stand where a literal means the same (sql/binds.h) */
	size_t bytes;     /* memory of the block */
};

/* E5: with pg_catalog behind another schema, a function of PostgreSQL's own may be hidden by one of the same name. */
bool sql_path_is_odd(const char *search_path);

struct sql_facts *sql_facts_ref(struct sql_facts *f);
void sql_facts_unref(struct sql_facts *f); /* NULL is fine */
const char *sql_verb_name(enum sql_verb verb);
const char *sql_flag_name(enum sql_flag_bit bit);
const char *sql_pin_name(enum sql_pin_bit bit);
const char *sql_unparsed_name(enum sql_unparsed why);
/* First statement's verb; SQL_UNPARSED for a string of several. */
static inline enum sql_verb sql_facts_verb(const struct sql_facts *f)
{
	return f->multi ? SQL_UNPARSED : f->stmts[0].verb;
}

#endif
