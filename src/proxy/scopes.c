/* proxy/scopes.c - see proxy/scopes.h. */
#include "proxy/scopes.h"

#include <string.h>
#include "base/mem.h"
#include "proxy/client.h"
#include "proxy/settings.h"
#include "sql/facts.h"

struct routing_scope {
	struct routing_scope *outer; /* owned; NULL: the next one out is the transaction */
	char *name;                  /* owned; NULL: the transaction itself, always the outermost */
	bool saved;                  /* the two below are what the settings were when it began */
	struct conf_routing session, tx;
};

static void push(struct client *c, const char *name)
{
	struct routing_scope *scope = mem_zalloc(sizeof *scope);
	scope->outer = c->scopes;
	scope->name = name ? mem_strdup(name) : NULL;
	c->scopes = scope;
}

static void pop(struct client *c)
{
	struct routing_scope *scope = c->scopes;
	c->scopes = scope->outer;
	mem_free(scope->name);
	mem_free(scope);
}

void scopes_save(struct client *c)
{
	struct routing_scope *scope = c->scopes;
	if (c->tx == CTX_NONE)
		return;
	while (scope && scope->name)
		scope = scope->outer;
	if (!scope) {
		/* The transaction's own goes outermost, below the savepoints that are there. */
		struct routing_scope **at = &c->scopes;
		while (*at)
			at = &(*at)->outer;
		*at = mem_zalloc(sizeof **at);
	}
	for (scope = c->scopes; scope && !scope->saved; scope = scope->outer) {
		scope->session = c->session_routing;
		scope->tx = c->tx_routing;
		scope->saved = true;
	}
}

static struct routing_scope *find(struct client *c, const char *name)
{
	struct routing_scope *scope = c->scopes;
	while (scope && !(scope->name && strcmp(scope->name, name) == 0))
		scope = scope->outer;
	return scope;
}

static void restore(struct client *c, struct routing_scope *scope)
{
	if (!scope->saved)
		return;
	c->session_routing = scope->session;
	c->tx_routing = scope->tx;
	scope->saved = false; /* it lives on, as if it had just begun */
	settings_refresh_routing(c);
}

static void rollback_to(struct client *c, const char *name)
{
	struct routing_scope *scope = find(c, name);
	while (scope && c->scopes != scope)
		pop(c);
	if (scope)
		restore(c, scope);
}

static void release(struct client *c, const char *name)
{
	struct routing_scope *scope = find(c, name);
	struct routing_scope *outer = scope ? scope->outer : NULL;
	while (scope && c->scopes != outer)
		pop(c);
}

void scopes_note_done(struct client *c, const struct sql_facts *facts)
{
	for (unsigned i = 0; i < facts->n_stmts; i++) {
		const struct sql_stmt *stmt = &facts->stmts[i];
		switch ((int)stmt->verb) {
		case SQL_SAVEPOINT:
			if (stmt->name)
				push(c, stmt->name);
			break;
		case SQL_ROLLBACK_TO:
			if (stmt->name)
				rollback_to(c, stmt->name);
			break;
		case SQL_RELEASE:
			if (stmt->name)
				release(c, stmt->name);
			break;
		case SQL_COMMIT:
		case SQL_ROLLBACK:
			if (stmt->chain)
				scopes_end(c, stmt->verb == SQL_COMMIT && c->tx != CTX_FAILED);
			break;
		default:
			break;
		}
	}
}

void scopes_end(struct client *c, bool committed)
{
	if (!c->scopes)
		return;
	struct routing_scope *scope = c->scopes;
	while (scope->name && scope->outer)
		scope = scope->outer;
	if (!scope->name && scope->saved && !committed)
		c->session_routing = scope->session;
	scopes_free(c);
	c->tx_routing = (struct conf_routing){ 0 };
	settings_refresh_routing(c);
}

bool scopes_have_savepoint(const struct client *c)
{
	return c->scopes && c->scopes->name; /* the transaction's own is the outermost */
}

void scopes_free(struct client *c)
{
	while (c->scopes)
		pop(c);
}
