/* The registry, published words, wake-ups and listeners. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/rules.h"
#include "cluster/topology.h"

static int forget(void **state)
{
	(void)state;
	cluster_set_monitor(NULL, NULL);
	cluster_forget_all();
	return 0;
}

static struct cluster *make_cluster(void)
{
	struct host_spec specs[] = { { "b", 5433 }, { "a", 5432 }, { "b", 5432 } };
	struct cluster *c = cluster_find_or_add(specs, ARRAY_LEN(specs));
	assert_non_null(c);
	return c;
}

static void test_same_set_same_cluster(void **state)
{
	(void)state;
	struct cluster *c = make_cluster();
	struct host_spec again[] = { { "b", 5432 }, { "a", 5432 }, { "b", 5433 }, { "a", 5432 } };
	struct host_spec fewer[] = { { "b", 5432 }, { "a", 5432 } };
	assert_ptr_equal(cluster_find_or_add(again, 4), c);
	assert_ptr_not_equal(cluster_find_or_add(fewer, 2), c);
	assert_int_equal(c->n_hosts, 3);
	assert_string_equal(c->label, "a:5432,b:5432,b:5433");
	assert_int_equal(cluster_find_host(c, "b", 5433)->index, 2);
	assert_null(cluster_find_host(c, "c", 5432));
}

static void test_bad_sets(void **state)
{
	(void)state;
	struct host_spec many[CLUSTER_MAX_HOSTS + 1];
	for (int i = 0; i <= CLUSTER_MAX_HOSTS; i++)
		many[i] = (struct host_spec){ "h", 1000 + i };
	assert_null(cluster_find_or_add(many, CLUSTER_MAX_HOSTS + 1));
	assert_null(cluster_find_or_add(many, 0));
	assert_non_null(cluster_find_or_add(many, CLUSTER_MAX_HOSTS));
}

/* The worker reads the round after it has received; only a round begun later proves anything. */
static void test_rule_b6_round_after_the_answer(void **state)
{
	(void)state;
	struct cluster *c = make_cluster();
	struct host *h = &c->hosts[0];
	uint64_t in_flight = cluster_begin_round(c); /* sent before the answer came */
	uint64_t seen = cluster_round(c);
	atomic_store(&h->fresh_round, in_flight);
	assert_false(host_is_fresh(h, seen));
	atomic_store(&h->fresh_round, cluster_begin_round(c));
	assert_true(host_is_fresh(h, seen));
	atomic_store(&h->fresh_round, 0);
	assert_false(host_is_fresh(h, 0)); /* nothing proved is never fresh */
}

static void test_lag(void **state)
{
	(void)state;
	struct cluster *c = make_cluster();
	struct host *h = &c->hosts[0];
	atomic_store(&h->role, HOST_REPLICA);
	assert_true(host_lag_us(h, 1000) == HOST_LAG_UNKNOWN);
	assert_false(host_is_usable_replica(h, UINT64_MAX - 1, 1000));
	atomic_store(&h->fresh_round, 1);
	assert_int_equal(host_lag_us(h, 1000), 0);
	atomic_store(&h->behind_since_us, 400);
	assert_int_equal(host_lag_us(h, 1000), 600);
	assert_true(host_is_usable_replica(h, 600, 1000));
	assert_false(host_is_usable_replica(h, 599, 1000));
	atomic_store(&h->role, HOST_DOWN);
	assert_false(host_is_usable_replica(h, 600, 1000));
}

static void test_addresses(void **state)
{
	(void)state;
	struct cluster *c = make_cluster();
	struct net_addr a, b, out;
	uint32_t epoch, later;
	assert_false(host_address(&c->hosts[0], &out, &epoch));
	assert_true(net_addr_parse("127.0.0.1", 5432, &a));
	assert_true(net_addr_parse("127.0.0.2", 5432, &b));
	host_publish_address(&c->hosts[0], &a);
	assert_true(host_address(&c->hosts[0], &out, &epoch));
	assert_true(net_addr_equal(&out, &a));
	host_publish_address(&c->hosts[0], &a);
	assert_true(host_address(&c->hosts[0], &out, &later));
	assert_int_equal(later, epoch);
	host_publish_address(&c->hosts[0], &b);
	assert_true(host_address(&c->hosts[0], &out, &later));
	assert_int_not_equal(later, epoch);
}

static unsigned changes;
static void on_change(void *arg) { changes += *(unsigned *)arg; }

static void test_listeners(void **state)
{
	(void)state;
	unsigned one = 1;
	struct loop *loop = loop_new("test");
	struct cluster_listener l = { .loop = loop, .on_change = on_change, .arg = &one };
	struct cluster *c = make_cluster();
	enum host_role roles[3] = { HOST_PRIMARY, HOST_REPLICA, HOST_DOWN };
	changes = 0;
	cluster_listener_add(&l);
	cluster_notify(NEWS_ROUND);
	loop_turn(loop, LOOP_POLL);
	assert_int_equal(changes, 0); /* nobody waits */
	cluster_listener_set_waiting(&l, true);
	cluster_notify(NEWS_ROUND);
	cluster_notify(NEWS_ROUND);
	loop_turn(loop, LOOP_POLL);
	assert_int_equal(changes, 1); /* one message at a time */
	cluster_listener_set_waiting(&l, false);
	uint32_t epoch = cluster_role_epoch(c);
	assert_true(cluster_publish_roles(c, roles, &c->hosts[0]));
	assert_false(cluster_publish_roles(c, roles, &c->hosts[0]));
	loop_turn(loop, LOOP_POLL);
	assert_int_equal(changes, 2);
	assert_int_equal(cluster_role_epoch(c), epoch + 1);
	assert_ptr_equal(cluster_primary(c), &c->hosts[0]);
	assert_int_equal(cluster_count_role(c, HOST_REPLICA), 1);
	cluster_listener_remove(&l);
	loop_free(loop);
}

static unsigned wakes;
static void on_wake(struct loop *loop, struct loop_msg *msg)
{
	struct cluster *c = CONTAINER_OF(msg, struct cluster, wake);
	(void)loop;
	atomic_store(&c->woken, false);
	wakes++;
}

static void test_one_wake_per_round(void **state)
{
	(void)state;
	struct loop *loop = loop_new("test");
	struct cluster *c = make_cluster();
	wakes = 0;
	cluster_want_round(c, 1, 100); /* no monitor: nothing happens */
	cluster_set_monitor(loop, on_wake);
	for (int i = 0; i < 10; i++)
		cluster_want_round(c, 5, 1000);
	loop_turn(loop, LOOP_POLL);
	assert_int_equal(wakes, 1);
	atomic_store(&c->serving, true);
	for (int i = 0; i < 10; i++)
		cluster_want_round(c, 5, 2000 + (uint64_t)i);
	loop_turn(loop, LOOP_POLL);
	assert_int_equal(wakes, 1); /* it looks at want_until_us by itself */
	assert_int_equal(atomic_load(&c->want_until_us), 2009);
	cluster_want_round(c, 6, 2000);
	cluster_want_round(c, 4, 2000);
	loop_turn(loop, LOOP_POLL);
	assert_int_equal(wakes, 2);
	assert_int_equal(atomic_load(&c->want_round), 6);
	atomic_store(&c->serving, false);
	cluster_want_round(c, 6, 3000);
	cluster_report_suspect(c, &c->hosts[1]);
	cluster_report_suspect(c, &c->hosts[1]);
	loop_turn(loop, LOOP_POLL);
	assert_int_equal(wakes, 3);
	cluster_set_monitor(NULL, NULL);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_same_set_same_cluster, forget),
		cmocka_unit_test_teardown(test_bad_sets, forget),
		cmocka_unit_test_teardown(test_rule_b6_round_after_the_answer, forget),
		cmocka_unit_test_teardown(test_lag, forget),
		cmocka_unit_test_teardown(test_addresses, forget),
		cmocka_unit_test_teardown(test_listeners, forget),
		cmocka_unit_test_teardown(test_one_wake_per_round, forget),
	};
	rules_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
