/* control/report.h - the bodies of the HTTP answers, made from SHOW tables and from what all workers add up to.
 *
 * Pure but for reading the monitor's status: /metrics in Prometheus's text format 0.0.4, the others as JSON. */
#ifndef CONTROL_REPORT_H
#define CONTROL_REPORT_H

#include <stdbool.h>
#include "base/buf.h"
#include "base/check.h"
#include "conf/config.h"
#include "control/show.h"

struct usage_table;

/* Appends; false: no memory.  *ok: is there a primary (for every watched cluster)? */
bool report_health(struct buf *out, const struct usage_table *usage, bool *ok) MUSTCHECK;
bool report_ready(struct buf *out, bool *ok) MUSTCHECK;
bool report_metrics(struct buf *out, struct usage_table *usage, const struct config *cfg) MUSTCHECK;
bool report_table(struct buf *out, const struct show_rows *rows) MUSTCHECK; /* a JSON array of objects */

#endif
