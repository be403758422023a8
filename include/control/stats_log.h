/* control/stats_log.h - averages over the last stats_period, and the line that log_stats writes about them.
 *
 * Main thread, but for stats_average(), which any thread may call. */
#ifndef CONTROL_STATS_LOG_H
#define CONTROL_STATS_LOG_H

#include <stdbool.h>
#include "base/check.h"
#include "conf/config.h"
#include "proxy/stats.h"

struct loop;

void stats_log_start(struct loop *main_loop, const struct config *cfg);
void stats_log_configure(const struct config *cfg);
void stats_log_stop(void);

/* Of one database, or of all for NULL: rates per second, and times per transaction, query or wait.  All zero before
 * the first period is over. */
struct stats_block stats_average(const char *database);
/* The difference of two readings, `us` apart, as such rates. */
struct stats_block stats_rates(const struct stats_block *difference, uint64_t us);

#endif
