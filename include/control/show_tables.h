/* control/show_tables.h - the tables themselves, by the file that makes them. */
#ifndef CONTROL_SHOW_TABLES_H
#define CONTROL_SHOW_TABLES_H

#include "control/show.h"

/* show_pools.c: from struct usage_table */
extern const struct show_table show_pools, show_stats, show_stats_totals, show_stats_averages, show_totals,
    show_databases, show_users, show_lists, show_routes;
/* show_sockets.c: clients and servers one by one */
extern const struct show_table show_clients, show_servers, show_sockets, show_active_sockets, show_fds, show_pins,
    show_host_pools;
/* show_queries.c: from proxy/measure.h */
extern const struct show_table show_queries, show_applications, show_latencies;
/* advice_watch.c */
extern const struct show_table show_advice;
/* show_misc.c */
extern const struct show_table show_config, show_version, show_state, show_mem, show_replicas, show_peers,
    show_peer_pools, show_dns_hosts, show_dns_zones, show_workers;

#endif
