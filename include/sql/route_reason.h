/* sql/route_reason.h - why a statement goes where it goes.
 *
 * The order is by severity: when several apply, the last in this list wins.  The columns: id, class, text.
 *   READ     a replica gives the same answer
 *   VOUCHED  not proved: the primary, unless the client asked for a replica (route=replica)
 *   PRIMARY  the primary, whatever was asked for */
#ifndef SQL_ROUTE_REASON_H
#define SQL_ROUTE_REASON_H

#define ROUTE_REASONS(X)                                                                                               \
	X(READ, READ, "reads what a replica has")                                                                      \
	X(WISH, READ, "route=replica vouches for it")                                                                  \
	X(EMPTY, PRIMARY, "no statement")                                                                              \
	X(IN_TRANSACTION, PRIMARY, "belongs where its transaction is")                                                 \
	X(CURSOR, PRIMARY, "belongs where its cursor is")                                                              \
	X(MODE, PRIMARY, "route=primary")                                                                              \
	X(TRANSACTION_READS, PRIMARY, "transaction_reads=primary")                                                     \
	X(READ_WRITE_TRANSACTION, PRIMARY, "the transaction may write and cannot move")                                \
	X(TRANSACTION_TIME, PRIMARY, "shows transaction time in a transaction that may move")                          \
	X(CURSOR_MAY_MOVE, PRIMARY, "a cursor outside a READ ONLY transaction")                                        \
	X(NO_FACTS, VOUCHED, "the database's facts are not loaded")                                                    \
	X(UNKNOWN_RELATION, VOUCHED, "a relation that the facts do not hold")                                          \
	X(UNKNOWN_FUNCTION, VOUCHED, "a function that the facts do not hold")                                          \
	X(UNKNOWN_OPERATOR, VOUCHED, "an operator that the facts do not hold")                                         \
	X(UNKNOWN_TYPE, VOUCHED, "a type that the facts do not hold")                                                  \
	X(UNPROVED_TYPE, VOUCHED, "a type whose functions are not proved")                                             \
	X(UNPROVED_CAST, VOUCHED, "a cast whose function is not proved")                                               \
	X(UNPROVED_FUNCTION, VOUCHED, "a function whose body is not proved")                                           \
	X(VOLATILE_FUNCTION, VOUCHED, "a function declared volatile")                                                  \
	X(COLUMN_FUNCTION, VOUCHED, "a function call written as a column")                                             \
	X(SEQUENCE, VOUCHED, "a sequence's state")                                                                     \
	X(SERVER_STATE, VOUCHED, "shows the server's own state")                                                       \
	X(SETTING, VOUCHED, "reads a setting that is not tracked")                                                     \
	X(SHOW, PRIMARY, "SHOW of a setting that is not tracked")                                                      \
	X(TABLE_STORAGE, PRIMARY, "a relation whose storage may not reach replicas")                                   \
	X(UNLOGGED, PRIMARY, "an unlogged relation")                                                                   \
	X(TEMPORARY, PRIMARY, "a temporary relation")                                                                  \
	X(FOREIGN_TABLE, PRIMARY, "a foreign table")                                                                   \
	X(SQL_TEXT, PRIMARY, "a function that runs SQL given as text")                                                 \
	X(SESSION_FUNCTION, PRIMARY, "a function that uses the session's state")                                       \
	X(SIDE_EFFECT, PRIMARY, "a function with effects that a replica would allow")                                  \
	X(UNTRUSTED_LANGUAGE, PRIMARY, "a function in an untrusted language")                                          \
	X(WRITE_FUNCTION, PRIMARY, "a function that writes")                                                           \
	X(SNAPSHOT, PRIMARY, "an exported snapshot")                                                                   \
	X(UNKNOWN_NODE, PRIMARY, "syntax that no rule covers")                                                         \
	X(MULTI, PRIMARY, "several statements, not all of them proved reads")                                          \
	X(LOCKING, PRIMARY, "locks rows")                                                                              \
	X(SESSION, PRIMARY, "session state")                                                                           \
	X(PREPARED, PRIMARY, "PREPARE, EXECUTE or DEALLOCATE in SQL")                                                  \
	X(NOTIFY, PRIMARY, "LISTEN, UNLISTEN or NOTIFY")                                                               \
	X(LOCK_TABLE, PRIMARY, "locks a table")                                                                        \
	X(UTILITY, PRIMARY, "a utility command")                                                                       \
	X(DDL, PRIMARY, "changes the catalog")                                                                         \
	X(WRITE, PRIMARY, "writes")                                                                                    \
	X(PROCEDURE, PRIMARY, "DO or CALL")                                                                            \
	X(COPY_FILE, PRIMARY, "COPY with a file or a program")                                                         \
	X(TWO_PHASE, PRIMARY, "a prepared transaction")                                                                \
	X(SERIALIZABLE, PRIMARY, "SERIALIZABLE")                                                                       \
	X(SYNTAX, PRIMARY, "the parser does not understand it")                                                        \
	X(TOO_LARGE, PRIMARY, "larger than the parse bound")                                                           \
	X(TOO_DEEP, PRIMARY, "nested too deeply")                                                                      \
	X(ENCODING, PRIMARY, "cannot be read in the client's encoding or string syntax")                               \
	X(REFUSED, PRIMARY, "a replica refused it before")
enum route_reason {
#define ROUTE_REASON_ENUM(id, class, text) REASON_##id,
	ROUTE_REASONS(ROUTE_REASON_ENUM)
#undef ROUTE_REASON_ENUM
	    ROUTE_REASON_COUNT
};

#endif
