"""Reads see what they must: one's own writes and everybody's acknowledged ones, however far the standby lags."""
import threading

import pytest
from harness.system import wait_until

SCHEMA = "create table counters(id int primary key, n int not null); insert into counters select g, 0 from generate_series(1, 8) g"


def write_and_read_back(proxy, database, number, turns, failures):
    """One writer with a second connection that reads; every read must be the value just written or a newer one."""
    try:
        with proxy.connect(database=database) as writer, proxy.connect(database=database) as reader:
            for turn in range(1, turns + 1):
                writer.query(f"update counters set n = {turn} where id = {number}")
                for name, connection in (("same", writer), ("other", reader)):
                    seen = int(connection.value(f"select n from counters where id = {number}"))
                    if seen != turn:
                        failures.append(f"client {number}, turn {turn}, {name} connection: saw {seen}")
    except Exception as failure:  # shown by the main thread
        failures.append(f"client {number}: {failure!r}")


@pytest.mark.threads
def test_own_writes_are_read_on_every_connection_while_the_standby_lags(new_cluster, pgweir):
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(database)
    cluster.standby.replay_lag("50ms")
    failures = []
    threads = [threading.Thread(target=write_and_read_back, args=(proxy, database, n, 40, failures)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    proxy.wait_for_replicas(database)  # when the writing has ended, reads go to the standby again


def test_a_paused_standby_never_shows_the_past(new_cluster, pgweir):
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(database)
    cluster.standby.pause_replay()
    with proxy.connect(database=database) as writer, proxy.connect(database=database) as reader:
        writer.query("update counters set n = 7 where id = 1")
        assert reader.value("select n from counters where id = 1") == "7"
        assert writer.value("select n from counters where id = 1") == "7"
    cluster.standby.resume_replay()
    proxy.wait_for_replicas(database)


def test_rule_b3_a_restarted_standby_never_goes_back(new_cluster, pgweir):
    """After a crash a standby serves older states than it had shown; its old proofs must not count."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(database)
    with proxy.connect(database=database) as client:
        for turn in range(1, 4):
            client.query(f"update counters set n = {turn} where id = 1")
            cluster.standby.stop("immediate")
            assert client.value("select n from counters where id = 1") == str(turn)
            cluster.standby.start()
            for _ in range(20):
                assert client.value("select n from counters where id = 1") == str(turn)
        proxy.wait_for_replicas(database)


def test_eventual_reads_may_be_old_and_still_go_to_the_standby(new_cluster, pgweir):
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, settings={"consistency": "eventual"})
    proxy.wait_for_replicas(database)
    cluster.standby.pause_replay()
    with proxy.connect(database=database) as client:
        client.query("update counters set n = 7 where id = 1")
        assert client.value("select n from counters where id = 1") == "0"
    cluster.standby.resume_replay()
    cluster.settle()
    wait_until(lambda: proxy.value("select n from counters where id = 1", database=database) == "7", "the standby catches up")


def test_rule_b2_a_notification_is_not_ahead_of_its_data(new_cluster, pgweir):
    """LISTEN, NOTIFY after a write, then a read: the read sees the write."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(database)
    cluster.standby.pause_replay()
    with proxy.connect(database=database) as listener, proxy.connect(database=database) as writer:
        listener.query("listen changed")
        writer.query("begin")
        writer.query("update counters set n = 9 where id = 2")
        writer.query("notify changed")
        writer.query("commit")
        listener.read_until("A")
        assert listener.value("select n from counters where id = 2") == "9"
    cluster.standby.resume_replay()
