"""Servers that stop, hang, lag and change roles."""
import subprocess
import threading

import pytest
from harness.network import Link
from harness.postgres import find_programs
from harness.system import wait_until
from harness.wire import PgError, query

SCHEMA = "create table t(i int)"


@pytest.fixture
def broken_cluster(new_cluster):
    """A cluster of the test's own with a database; both are the test's to break."""
    cluster = new_cluster()
    cluster.database = cluster.create_database(SCHEMA)
    return cluster


def test_without_a_replica_the_primary_serves(broken_cluster, pgweir):
    cluster = broken_cluster
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(cluster.database)
    cluster.standby.stop("fast")
    with proxy.connect(database=cluster.database) as client:
        for n in range(20):
            assert client.value(f"select {n}") == str(n)
    cluster.standby.start()
    proxy.wait_for_replicas(cluster.database)


def test_a_replica_that_is_killed_under_load_costs_no_read(broken_cluster, pgweir):
    """Reads under way are repeated on the primary: nothing of their answers had been seen."""
    cluster = broken_cluster
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(cluster.database)
    failures, stop = [], threading.Event()

    def read():
        try:
            with proxy.connect(database=cluster.database) as client:
                while not stop.is_set():
                    if client.value("select count(*) from t") != "0":
                        failures.append("a wrong count")
        except Exception as failure:  # shown by the main thread
            failures.append(repr(failure))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    cluster.standby.kill()
    cluster.standby.start()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    proxy.wait_for_replicas(cluster.database)


def test_a_dead_primary_holds_writes_and_then_says_so_while_reads_go_on(broken_cluster, pgweir):
    cluster = broken_cluster
    proxy = pgweir(on=cluster, settings={"failover_timeout": "2s"})
    proxy.wait_for_replicas(cluster.database)
    with proxy.connect(database=cluster.database) as writer, proxy.connect(database=cluster.database) as reader:
        mark = cluster.mark()
        # What the standby is proved to have must not be older than the reader's own start.
        wait_until(lambda: reader.value("select count(*) from t") == "0" and "standby1" in cluster.where("select count(*) from t", mark),
                   "the reader reads on the standby")
        cluster.primary.kill()
        refused = []

        def write():
            try:
                writer.query("insert into t values (1)")
            except PgError as error:
                refused.append(error.sqlstate)

        thread = threading.Thread(target=write)
        thread.start()
        while thread.is_alive():
            assert reader.value("select count(*) from t") == "0"
        thread.join()
        assert refused == ["57P03"]
        cluster.primary.start()
        wait_until(lambda: writer.query("insert into t values (2)", check=False).tags, "the primary is back")
    cluster.settle()
    proxy.wait_for_replicas(cluster.database)


def test_writes_wait_for_a_promotion(broken_cluster, pgweir):
    cluster = broken_cluster
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(cluster.database)
    with proxy.connect(database=cluster.database) as client:
        client.query("insert into t values (1)")
        cluster.settle()
        mark = proxy.mark()
        cluster.primary.kill()
        proxy.wait_for_log("no primary", mark)
        client.send(query("insert into t values (2)"))
        standby = cluster.standby
        standby.promote()
        cluster.switch_primary(standby)
        assert client.brief_until_ready() == ["C INSERT 0 1", "Z I"]
    assert standby.query("select i from t order by i", database=cluster.database) == [("1",), ("2",)]


def test_a_lagging_replica_is_left_alone(broken_cluster, pgweir):
    cluster = broken_cluster
    proxy = pgweir(on=cluster, settings={"consistency": "eventual", "max_replica_lag": "500ms"})
    proxy.wait_for_replicas(cluster.database)
    cluster.standby.pause_replay()
    with proxy.connect(database=cluster.database) as client:
        client.query("insert into t values (1)")
        wait_until(lambda: client.value("select count(*) from t") == "1", "reads leave the standby that lags")
    cluster.standby.resume_replay()
    proxy.wait_for_replicas(cluster.database)


def test_a_replica_that_hangs_is_left_alone(broken_cluster, pgweir):
    """Its connections stay open and nothing answers, as when a host loses its network."""
    cluster = broken_cluster
    with Link(cluster.standby.port) as link:
        proxy = pgweir(on=cluster, hosts=[cluster.primary.port, link.port], settings={"query_timeout": "0"})
        proxy.wait_for_replicas(cluster.database)
        link.stall()
        with proxy.connect(database=cluster.database) as client:
            client.query("insert into t values (1)")
            wait_until(lambda: client.value("select count(*) from t") == "1", "reads go on", timeout=100)
        link.resume()
        proxy.wait_for_replicas(cluster.database)


def test_connections_to_a_server_that_are_cut_are_replaced(broken_cluster, pgweir):
    cluster = broken_cluster
    with Link(cluster.primary.port) as link:
        proxy = pgweir(on=cluster, hosts=[link.port, cluster.standby.port])
        proxy.wait_for_replicas(cluster.database)
        with proxy.connect(database=cluster.database) as client:
            client.query("insert into t values (1)")
            link.cut()
            wait_until(lambda: client.query("insert into t values (2)", check=False).tags, "writes go on")


def test_a_transaction_whose_server_is_gone_fails_and_the_next_one_works(broken_cluster, pgweir):
    cluster = broken_cluster
    with Link(cluster.primary.port) as link:
        proxy = pgweir(on=cluster, hosts=[link.port, cluster.standby.port])
        proxy.wait_for_replicas(cluster.database)
        client = proxy.connect(database=cluster.database)
        client.query("begin")
        client.query("insert into t values (3)")
        link.cut()
        client.send(query("select 1"))
        assert any(m.type == "E" for m in client.read_until("Z", "E"))
        client.drop()
        wait_until(lambda: proxy.value("select count(*) from t", database=cluster.database) == "0", "nothing was committed")


def test_an_announced_switchover_costs_no_client_an_error(broken_cluster, pgweir):
    """PAUSE, stop, promote, RESUME, with twenty clients at work."""
    cluster = broken_cluster
    pgbench = find_programs() / "pgbench"
    subprocess.run([pgbench, "-i", "-q", cluster.primary.dsn(cluster.database)], check=True, capture_output=True, timeout=120)
    cluster.settle()
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(cluster.database)
    with subprocess.Popen([pgbench, "-n", "-c", "20", "-t", "60", proxy.dsn(cluster.database)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as load:
        wait_until(lambda: int(cluster.primary.value("select count(*) from pgbench_history", database=cluster.database)) > 100,
                   "the load is under way")
        proxy.admin(f"PAUSE {cluster.database}")
        cluster.settle()
        cluster.primary.stop("fast")
        standby = cluster.standby
        standby.promote()
        cluster.switch_primary(standby)
        proxy.admin(f"RESUME {cluster.database}")
        output = load.communicate(timeout=150)[0]
    assert load.returncode == 0 and "actually processed: 1200/1200" in output, output
    assert standby.value("select count(*) from pgbench_history", database=cluster.database) == "1200"
