/* cluster/auth_query.h - asks a server for the secret of a user who is not in auth_file.
 *
 * The queries run on the monitor's thread, on libpq connections of their own as auth_user: nothing that a client has
 * sent but the user's name, which travels as a parameter, has any influence on them (CVE-2025-12819); search_path is
 * pinned.  There is one connection for each (cluster, database, auth_user), at most a few in all, closed after a moment
 * without use.
 *
 * Nothing is cached, so that a changed password or a role that has expired counts at once; but all who ask for the same
 * user while a query waits to be sent get its answer, so a thousand logins of one user cost a few queries.
 *
 * Threads: ask and cancel on the asker's thread, which is that of its loop; fn is called there, from the loop, once,
 * unless the request is cancelled first. */
#ifndef CLUSTER_AUTH_QUERY_H
#define CLUSTER_AUTH_QUERY_H

#include "base/check.h"
#include "cluster/monitor.h"
#include "io/loop.h"

struct auth_request; /* opaque */

#define AUTH_QUERY_RESULTS(X)                                                                                          \
	X(FOUND, "there is a secret")                                                                                  \
	X(NO_SECRET, "there is such a user, who has no secret, or an expired one: trust lets him in, nothing else")    \
	X(UNKNOWN, "no such user, or no such database")                                                                \
	X(FAILED, "it could not be found out; says nothing about the user")
enum auth_query_result {
#define AUTH_QUERY_RESULT_ENUM(id, doc) AUTH_QUERY_##id,
	AUTH_QUERY_RESULTS(AUTH_QUERY_RESULT_ENUM)
#undef AUTH_QUERY_RESULT_ENUM
};

/* Everything is copied. */
struct auth_query {
	struct cluster *cluster;
	struct monitor_login login; /* auth_user, its password or NULL, the database */
	const char *sql;            /* $1 is the user */
	const char *user;
};

/* secret: NULL unless FOUND; borrowed for the call. */
typedef void (*auth_query_fn)(void *arg, enum auth_query_result result, const char *secret);

struct auth_request *auth_query_ask(const struct auth_query *q, struct loop *loop, auth_query_fn fn, void *arg);
void auth_query_cancel(struct auth_request *r);

#endif
