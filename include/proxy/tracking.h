/* proxy/tracking.h - what a client's statements make of its settings.
 *
 *   client.startup   what RESET goes back to: the start-up packet
 *   client.profile   what the session has now, as of the last transaction that has ended
 *   server.profile   what a backend has
 *
 * What code may have set (functions, DO, CALL, triggers, set_config) is read behind its transaction (afterstep.h). */
#ifndef PROXY_TRACKING_H
#define PROXY_TRACKING_H

#include <stdbool.h>
#include <stdint.h>
#include "proxy/afterstep.h"

/* Of a statement's pins those that are settings: they are asked for behind the transaction.  Returns the rest. */
uint32_t tracking_take_pins(struct client *c, uint32_t pins);

#endif
