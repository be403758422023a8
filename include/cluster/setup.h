/* cluster/setup.h - from the configuration to clusters and the monitor's options.
 *
 * Called by main at start and after each reload; the workers find their clusters by cluster_of_database(). */
#ifndef CLUSTER_SETUP_H
#define CLUSTER_SETUP_H

#include "base/check.h"
#include "cluster/monitor.h"
#include "cluster/topology.h"
#include "conf/config.h"

/* Room for what monitor_options refers to and the configuration does not hold as it is needed. */
struct cluster_setup {
	struct monitor_options options; /* borrows from the configuration and from here */
	char min_protocol[16], max_protocol[16];
};

/* auth_user_password: what auth_file says of auth_user, or NULL; used when there is no monitor_user. */
void cluster_setup_options(struct cluster_setup *s, const struct config *cfg, const char *auth_user_password);
/* Watches the cluster of every database, and no other one. */
void cluster_setup_watch(const struct config *cfg);
/* NULL: more than CLUSTER_MAX_HOSTS hosts. */
struct cluster *cluster_of_database(const struct conf_database *db) MUSTCHECK;

#endif
