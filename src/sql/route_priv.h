/* route_priv.h - what catalog_build.c asks of route.c. */
#ifndef SQL_ROUTE_PRIV_H
#define SQL_ROUTE_PRIV_H

#include "sql/facts.h"
#include "sql/route_reason.h"

/* What a text that runs inside others (a body, a view, an expression) is by itself, names aside. */
enum route_reason route_body_reason(const struct sql_facts *f);

#endif
