/* cluster/dbfacts.h - the catalog facts of one database of one cluster, loaded on the monitor's thread.
 *
 * A worker keeps a reference to the catalog it uses and looks at one atomic word per query; only when a newer version
 * was published does it take the mutex.  A catalog is proved for the DDL that this process has let pass (counted in
 * ddl_seq) before the load began: from a DDL's dispatch until a load begun after its last Z has ended, what needs
 * facts goes to the primary.
 *
 * Loads: at first use, 20 ms after DDL (in a storm at most every 200 ms), every facts_refresh while the database is
 * used.  Each is one short-lived connection with one REPEATABLE READ READ ONLY transaction on the primary: a lasting
 * one would be in the way of DROP DATABASE.  DDL that does not pass through this process is therefore seen at the next
 * load; until then it is unknown here (documented).  Databases that cannot be read have no facts; tried again with
 * back-off, and at once when the primary is another.
 *
 * A struct dbfacts lives for the process's life. */
#ifndef CLUSTER_DBFACTS_H
#define CLUSTER_DBFACTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include "base/check.h"
#include "io/loop.h"

struct catalog;
struct catalog_options;
struct cluster;
struct dbfacts_loader;
struct monitor_login;

enum { DBFACTS_CHANGES = 4 };

struct dbfacts {
	struct cluster *cluster;     /* borrowed, for ever */
	char *dbname;                /* owned; the name on the servers */
	_Atomic uint64_t version;    /* of the catalog; 0: none yet */
	_Atomic uint64_t ddl_seq;    /* starts at 1, grows with dbfacts_note_ddl() */
	_Atomic uint64_t code_seq;   /* ddl_seq after the newest DDL that may have changed code; 0: none */
	_Atomic uint64_t proved_seq; /* ddl_seq as the newest finished load began; 0: no load, or too long ago */
	_Atomic uint32_t loads_begun,
	    loads_done; /* numbers of the newest load that has begun, and that has ended well */
	/* E7: the newest changes of ALTER ROLE and ALTER DATABASE SET that a load has found: the load in the lower
	 * half, the one before it that had not found them in the upper half; 0: none.  Written by the loader. */
	_Atomic uint64_t defaults_changed[DBFACTS_CHANGES];
	_Atomic uint32_t n_defaults_changed;
	_Atomic bool used;               /* since the loader looked last */
	_Atomic bool loading;            /* a load has a connection, and perhaps a snapshot */
	_Atomic uint64_t quiet_until_us; /* of mono_now_us(): no load begins before that */
	_Atomic bool woken;              /* the loader has been told and has not looked yet */
	pthread_mutex_t mutex;           /* guards current, and what find_or_add and configure set */
	struct catalog *current;         /* owned reference or NULL */
	struct loop_msg wake;            /* the loader's */
	struct dbfacts_loader *loader;   /* owned */
	LIST_ENTRY(dbfacts) link;
};

/* Finds or adds; takes a mutex: at login only.  `login`: credentials of the database (for what the monitor's options
 * leave open); may be NULL. */
struct dbfacts *dbfacts_find_or_add(struct cluster *c, const char *dbname, const struct monitor_login *login);
/* NULL: nobody has asked for it yet. */
struct dbfacts *dbfacts_find(struct cluster *c, const char *dbname);
/* No load begins for so long (longer than two seconds it is not put off); false: one is under way still. */
bool dbfacts_hush(struct dbfacts *f, uint64_t us);
/* Sets read_only_functions and write_functions; a change is followed by a load, and unproved until then. */
void dbfacts_configure(struct dbfacts *f, const struct catalog_options *options);
/* Starts loading if there is nothing proved; cheap when there is, or when it has been asked for. */
void dbfacts_want(struct dbfacts *f);
/* Makes *catalog (the caller's own reference, NULL at first) the newest one; *version is what it is.  Returns whether
 * that catalog (never NULL then) is proved for all DDL seen so far.  A few atomic loads while there is nothing new. */
bool dbfacts_refresh(struct dbfacts *f, uint64_t *version, struct catalog **catalog);
/* For SHOW; for a decision use dbfacts_refresh(), which looks at both in the right order. */
bool dbfacts_is_proved(const struct dbfacts *f);
/* E7: when a client has logged in, and when a server connection begins to be opened. */
static inline uint32_t dbfacts_login_no(const struct dbfacts *f) { return atomic_load(&f->loads_begun); }
static inline uint32_t dbfacts_open_no(const struct dbfacts *f) { return atomic_load(&f->loads_done); }
/* The backend may have started with the settings of roles and databases that the client's would have had at its login,
 * or with newer ones.  False: the backend is older than a change that the client, for all that is known, is not. */
bool dbfacts_defaults_suit(const struct dbfacts *f, uint32_t open_no, uint32_t login_no);
/* And not with newer ones. */
bool dbfacts_defaults_agree(const struct dbfacts *f, uint32_t open_no, uint32_t login_no);
/* DDL is being sent, and again at the Z that ends its transaction: facts are unproved until a later load is done. */
enum ddl_kind { DDL_PLAIN, DDL_OF_CODE }; /* DDL_OF_CODE: what other statements call may have changed */
void dbfacts_note_ddl(struct dbfacts *f, enum ddl_kind kind);
/* False: a function, trigger or the like may not be what the newest catalog says. */
bool dbfacts_code_is_proved(const struct dbfacts *f);

/* --- when to load: the loader's; no clock, nothing else is looked at --- */

struct load_history {
	uint64_t begun_us;   /* when the last load began; 0: none has */
	uint64_t asked_us;   /* when the first DDL since then was noticed; 0: none */
	unsigned failures;   /* in a row */
	uint32_t role_epoch; /* the cluster's as the last load began */
};
/* Something is unproved: when the next load begins. */
uint64_t dbfacts_next_load(struct load_history *h, uint32_t role_epoch, uint64_t now_us);
/* A load has failed: how long to wait if nobody asks. */
uint64_t dbfacts_retry_in(struct load_history *h, uint32_t role_epoch);

#endif
