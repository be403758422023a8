"""The failover tests once more, with each server on a host of its own whose packets are dropped rather than refused."""
import time

import pytest
from harness.namespaces import SUBNET, Network, why_not
from harness.postgres import HBA, Cluster
from harness.system import wait_until
from harness.tellers import BANK, Tellers

pytestmark = pytest.mark.long
HERE = f"{SUBNET}.1"


@pytest.fixture
def hosts(template, pgweir):
    """A primary and a synchronous standby in namespaces, a database, and a proxy that knows their addresses."""
    missing = why_not()
    if missing:
        pytest.skip(missing)
    hba = HBA + f"host all all {SUBNET}.0/24 trust\nhost replication all {SUBNET}.0/24 trust\n"
    with Network() as network:
        cluster = Cluster(template, hba=hba, listen_addresses="*")
        try:
            for number, node in enumerate(cluster.nodes, 1):
                network.place(node, number)
            for node in cluster.standbys:
                cluster.follow(node, cluster.primary)
            cluster.start()
            database = cluster.create_database(BANK)
            cluster.primary.reload(synchronous_standby_names="standby1")
            addresses = {"host": ",".join(node.host for node in cluster.nodes), "port": ",".join(str(node.port) for node in cluster.nodes)}
            proxy = pgweir(on=cluster, databases={"*": addresses}, settings={"monitor_interval": "100ms"}).wait_for_replicas(database)
            yield network, cluster, database, proxy
            for node in cluster.nodes:
                network.heal(node)
            proxy.stop()
        finally:
            cluster.remove()


def role_of(proxy, node):
    return next(row["role"] for row in proxy.admin("SHOW REPLICAS") if row["host"] == node.host)


def test_a_primary_without_network_is_replaced(hosts):
    """And is fenced when it is back."""
    network, cluster, database, proxy = hosts
    with Tellers(proxy, database) as tellers:
        tellers.wait_for_work()
        old, standby = cluster.primary, cluster.standby
        network.cut(old)
        standby.promote()
        at = time.monotonic()
        cluster.switch_primary(standby)
        tellers.wait_for_work()
        first = min(t.when for t in tellers.all if t.when > at)
        wait_until(lambda: role_of(proxy, old) == "down", "the old primary is known to be away")
        network.heal(old)
        wait_until(lambda: role_of(proxy, old) == "fenced", "it is fenced")
        tellers.wait_for_work()
    errors = tellers.check(standby, database)
    print(f"{errors} of 20 clients saw an error; the first commit {1000 * (first - at):.0f} ms after the promotion")
    with proxy.connect(database=database) as client:
        client.query("insert into history values (99, 1)")
    assert standby.value("select count(*) from history where client = 99", database=database) == "1"


def test_a_replica_without_network_costs_nothing_but_time(hosts):
    network, cluster, database, proxy = hosts
    cluster.primary.reload(synchronous_standby_names="")
    with Tellers(proxy, database) as tellers:
        tellers.wait_for_work()
        network.cut(cluster.standby, HERE)
        tellers.wait_for_work()
        network.heal(cluster.standby)
        tellers.wait_for_work()
    assert tellers.check(cluster.primary, database) == 0
    proxy.wait_for_replicas(database)


def test_a_primary_that_only_we_cannot_reach(hosts):
    """Nobody is promoted: all wait, up to failover_timeout, and go on when it can be reached again."""
    network, cluster, database, proxy = hosts
    with Tellers(proxy, database) as tellers:
        tellers.wait_for_work()
        mark = proxy.mark()
        network.cut(cluster.primary, HERE)
        proxy.wait_for_log("no primary", mark)
        network.heal(cluster.primary)
        tellers.wait_for_work()
    tellers.check(cluster.primary, database)


def test_the_servers_lose_each_other(hosts):
    """The synchronous standby cannot be reached by its primary: commits hang, and end when it can."""
    network, cluster, database, proxy = hosts
    with Tellers(proxy, database) as tellers:
        tellers.wait_for_work()
        network.cut(cluster.standby, cluster.primary.host)
        wait_until(lambda: int(cluster.primary.value("select count(*) from pg_stat_activity where wait_event = 'SyncRep'")) > 0,
                   "commits wait for the standby")
        network.heal(cluster.standby)
        tellers.wait_for_work()
    assert tellers.check(cluster.primary, database) == 0
