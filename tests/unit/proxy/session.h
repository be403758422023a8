/* A client with a worker, a database and a configuration around it, but no sockets: what the proxy's pure modules see.
 *
 * The catalog is that of a database without any object of its own: what is built in is known, nothing else is. */
#ifndef PROXY_SESSION_H
#define PROXY_SESSION_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/mem.h"
#include "cluster/dbfacts.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/sqlprep.h"
#include "proxy/worker.h"
#include "sql/catalog.h"
#include "sql/shapes.h"

struct session {
	struct worker worker;
	struct cluster cluster;
	struct shared_db db;
	struct dbfacts facts;
	struct dbuser du;
	struct client client;
	struct net_addr peer;
	struct config *config; /* owned */
};

/* The database is called "app", the user "joe". */
static inline struct session *session_new(const char *ini)
{
	struct session *x = mem_zalloc(sizeof *x);
	struct config_errors errs = { 0 };
	struct catalog_options none = { 0 };
	struct params *empty;
	x->config = config_load_text("test.ini", ini, strlen(ini), &errs);
	config_errors_free(&errs);
	assert_non_null(x->config);
	params_table_init(&x->worker.params);
	segment_scratch_init(&x->worker.scan);
	empty = x->worker.params.empty;
	x->worker.shapes = shapes_new(1000, 1024 * 1024);
	stmt_texts_init(&x->worker.texts, 1024, shape_unref);
	pthread_mutex_init(&x->facts.mutex, NULL);
	x->facts.used = true;
	x->facts.version = x->facts.ddl_seq = x->facts.proved_seq = 1;
	x->db.cluster = &x->cluster;
	x->du = (struct dbuser){ .worker = &x->worker,
		                 .owner = &x->du,
		                 .config = x->config,
		                 .conf = config_database(x->config, STR("app")),
		                 .db = &x->db,
		                 .facts = &x->facts,
		                 .database = mem_strdup("app"),
		                 .user = mem_strdup("joe"),
		                 .pool_mode = POOL_MODE_TRANSACTION,
		                 .primary_isolation = 'c',
		                 .catalog = catalog_build_finish(catalog_build_start(&none)),
		                 .catalog_version = 1 };
	x->client = (struct client){ .worker = &x->worker,
		                     .du = &x->du,
		                     .peer = &x->peer,
		                     .state = CLIENT_IDLE,
		                     .profile = params_ref(empty),
		                     .startup = params_ref(empty),
		                     .home = params_ref(empty),
		                     .custom = params_ref(empty),
		                     .session = params_ref(empty),
		                     .view = params_ref(empty),
		                     .sql_options.std_strings = true,
		                     .routing = config_routing(x->config, x->du.conf, NULL, NULL) };
	return x;
}

/* Fails when a test has kept a reference. */
static inline void session_free(struct session *x)
{
	struct worker *w = &x->worker;
	segment_forget(&x->client);
	segment_waiting_free_all(w);
	measure_client_gone(&x->client);
	measures_free(w);
	client_stmts_deinit(&x->client.stmts, &w->texts);
	sqlprep_clear_client(&x->client);
	buf_deinit(&w->reply);
	assert_int_equal(HASH_COUNT(w->texts.by_key), w->texts.n_unused);
	stmt_texts_deinit(&w->texts);
	shapes_free(w->shapes);
	params_unref(&w->params, x->client.profile);
	params_unref(&w->params, x->client.startup);
	params_unref(&w->params, x->client.home);
	params_unref(&w->params, x->client.base);
	params_unref(&w->params, x->client.custom);
	params_unref(&w->params, x->client.session);
	params_unref(&w->params, x->client.view);
	params_table_deinit(&w->params);
	assert_null(w->params.by_key);
	mem_free(x->client.application);
	catalog_unref(x->du.catalog);
	mem_free(x->du.database);
	mem_free(x->du.user);
	config_unref(x->config);
	pthread_mutex_destroy(&x->facts.mutex);
	mem_free(x);
}

#endif
