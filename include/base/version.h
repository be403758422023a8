/* base/version.h - PGWEIR_VERSION as a string; the Makefile says it.  A checker that compiles one file alone does not.
 */
#ifndef BASE_VERSION_H
#define BASE_VERSION_H

#ifndef PGWEIR_VERSION
#define PGWEIR_VERSION "unknown"
#endif

#endif
