/* proxy/stats.h - counters of one worker; plain adds on the worker's thread, read by others without a lock.
 *
 * A torn or late read makes a number of SHOW STATS old by a moment, never wrong for good. */
#ifndef PROXY_STATS_H
#define PROXY_STATS_H

#include <stdint.h>

/* name, help */
#define STATS_COUNTERS(X)                                                                                              \
	X(server_assignments, "times a server was given to a client")                                                  \
	X(xacts, "transactions ended")                                                                                 \
	X(queries, "ReadyForQuery seen for clients")                                                                   \
	X(received_bytes, "bytes received from clients")                                                               \
	X(sent_bytes, "bytes sent to clients")                                                                         \
	X(xact_us, "time clients were in transactions")                                                                \
	X(query_us, "time servers worked on queries")                                                                  \
	X(wait_us, "time clients waited for a server")                                                                 \
	X(client_parses, "Parse messages of clients")                                                                  \
	X(server_parses, "Parse messages sent to servers")                                                             \
	X(binds, "Bind messages sent to servers")                                                                      \
	X(logins, "clients logged in")                                                                                 \
	X(to_primary, "segments sent to the primary")                                                                  \
	X(to_replica, "segments sent to a replica")                                                                    \
	X(retries, "segments run again on the primary after a standby refused or was lost")                            \
	X(fresh_waits, "reads that waited for a standby to catch up")                                                  \
	X(fresh_timeouts, "of these, that went to the primary in the end")                                             \
	X(moves, "transactions that went from a replica to the primary at a statement that needs it")                  \
	X(errors, "ErrorResponses shown to clients")                                                                   \
	X(local_answers, "messages answered without a server")

struct stats_block {
#define STATS_FIELD(name, help) uint64_t name;
	STATS_COUNTERS(STATS_FIELD)
#undef STATS_FIELD
};

struct worker_stats {
	struct stats_block total;
	uint64_t turns;
	uint64_t cancels;
};

#endif
