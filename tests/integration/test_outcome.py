"""A COMMIT whose answer was lost: the client is told what became of it, where that can be known (A4)."""
import pytest
from harness.network import Link
from harness.system import wait_until
from harness.wire import extended, flush, query, sync

SCHEMA = "create table t(i int)"
OPTIONS = {"ask_commit_outcome": 1, "failover_timeout": "60s"}


@pytest.fixture
def broken_cluster(new_cluster):
    """A cluster of the test's own with a database; both are the test's to break."""
    cluster = new_cluster()
    cluster.database = cluster.create_database(SCHEMA)
    return cluster


def commits_hang(node):
    """From now on each commit is written, shipped, and not acknowledged."""
    node.reload(synchronous_standby_names="nobody")


def wait_for_hanging(node):
    wait_until(lambda: node.value("select count(*) from pg_stat_activity where wait_event = 'SyncRep' and datname like 'test%'")
               == "1", "the commit hangs")


def begin(proxy, database, value=1):
    """A client with a transaction that has written."""
    client = proxy.connect(database=database)
    client.query("begin")
    client.query(f"insert into t values ({value})")
    return client


def rows(node, database):
    return [int(row[0]) for row in node.query("select i from t order by i", database=database)]


def no_more_wal(standby):
    """Cuts its replication."""
    standby.reload(primary_conninfo="")
    wait_until(lambda: standby.value("select count(*) from pg_stat_wal_receiver") == "0", "it receives nothing")


def wait_until_seen(proxy, standby, lsn):
    """The monitor has seen that the standby is there, in a probe, which looks at its transaction ids too."""
    wait_until(lambda: standby.value(f"select pg_last_wal_replay_lsn() >= '{lsn}'") == "t", "it has replayed that")

    def seen():
        row = next(row for row in proxy.admin("show replicas") if row["port"] == str(standby.port))
        return standby.value(f"select '{row['lsn']}'::pg_lsn >= '{lsn}'") == "t"

    wait_until(seen, "the monitor knows")


@pytest.mark.parametrize("protocol", ["query", "extended"])
def test_a_commit_that_the_promoted_standby_has_is_acknowledged(broken_cluster, pgweir, protocol):
    cluster = broken_cluster
    proxy = pgweir(on=cluster, settings=OPTIONS)
    proxy.wait_for_replicas(cluster.database)
    commits_hang(cluster.primary)
    client = begin(proxy, cluster.database)
    client.send(query("commit") if protocol == "query" else extended("commit") + sync())
    wait_for_hanging(cluster.primary)
    wait_until_seen(proxy, cluster.standby, cluster.primary.value("select pg_current_wal_flush_lsn()"))
    cluster.primary.kill()
    standby = cluster.standby
    standby.promote()
    cluster.switch_primary(standby)
    assert client.brief_until_ready() == [*(["1", "2", "n"] if protocol == "extended" else []), "C COMMIT", "Z I"]
    assert client.value("select count(*) from t") == "1"
    assert client.query("insert into t values (2)").tags == ["INSERT 0 1"]
    assert rows(standby, cluster.database) == [1, 2]


def test_a_commit_with_its_sync_apart_is_never_repeated(broken_cluster, pgweir):
    """transaction_replay too: it runs at Execute, and nobody can tell for whom only the Sync went to a dead server."""
    cluster = broken_cluster
    proxy = pgweir(on=cluster, settings={**OPTIONS, "transaction_replay": 1})
    proxy.wait_for_replicas(cluster.database)
    commits_hang(cluster.primary)
    client = begin(proxy, cluster.database)
    client.send(extended("commit") + flush())
    wait_for_hanging(cluster.primary)
    client.send(sync())
    wait_until_seen(proxy, cluster.standby, cluster.primary.value("select pg_current_wal_flush_lsn()"))
    cluster.primary.kill()
    standby = cluster.standby
    standby.promote()
    cluster.switch_primary(standby)
    assert [line for line in client.brief_until_ready() if line.startswith(("E", "C"))] == ["E 08007"]
    assert rows(standby, cluster.database) == [1]


def test_a_commit_that_the_promoted_standby_has_not_is_known_to_be_none(broken_cluster, pgweir):
    cluster = broken_cluster
    proxy = pgweir(on=cluster, settings=OPTIONS)
    proxy.wait_for_replicas(cluster.database)
    no_more_wal(cluster.standby)
    commits_hang(cluster.primary)
    client = begin(proxy, cluster.database)
    client.send(query("commit"))
    wait_for_hanging(cluster.primary)
    cluster.primary.kill()
    standby = cluster.standby
    standby.promote()
    cluster.switch_primary(standby)
    assert client.brief_until_ready() == ["E 40001", "Z I"]
    assert client.query("insert into t values (2)").tags == ["INSERT 0 1"]
    assert rows(standby, cluster.database) == [2]


def test_rule_a4_the_id_of_a_lost_commit_that_somebody_else_got_proves_nothing(broken_cluster, pgweir):
    """The promoted standby never had the transaction, and gives its id to another one, which commits."""
    cluster = broken_cluster
    standby = cluster.standby
    with Link(standby.port) as link:
        proxy = pgweir(on=cluster, hosts=[cluster.primary.port, link.port], settings=OPTIONS)
        proxy.wait_for_replicas(cluster.database)
        no_more_wal(standby)
        commits_hang(cluster.primary)
        client = begin(proxy, cluster.database)
        xid = int(client.value("select pg_current_xact_id()"))
        client.send(query("commit"))
        wait_for_hanging(cluster.primary)
        link.refuse()
        link.cut()
        cluster.primary.kill()
        standby.promote()
        cluster.switch_primary(standby)
        while int(standby.value("select pg_current_xact_id()")) <= xid:
            pass
        assert standby.value(f"select pg_xact_status('{xid}')") == "committed"
        link.allow()
        assert client.brief_until_ready() == ["E 08007", "Z E"]
        assert rows(standby, cluster.database) == []
        client.query("rollback")
        assert client.query("insert into t values (2)").tags == ["INSERT 0 1"]


def test_a_commit_whose_connection_was_cut_is_waited_for(broken_cluster, pgweir):
    """The server lives on: what is in progress is asked for again, until it is done."""
    cluster = broken_cluster
    with Link(cluster.primary.port) as link:
        proxy = pgweir(on=cluster, hosts=[link.port, cluster.standby.port], settings=OPTIONS)
        proxy.wait_for_replicas(cluster.database)
        client = begin(proxy, cluster.database)
        for _ in range(20):  # the id may get lost with the connection: then nobody can tell
            commits_hang(cluster.primary)
            client.send(query("commit"))
            wait_for_hanging(cluster.primary)
            link.cut()
            cluster.primary.reload(synchronous_standby_names="")
            told = client.brief_until_ready()
            if told == ["C COMMIT", "Z I"]:
                break
            assert told == ["E 08007", "Z E"]
            client.query("rollback")
            client.query("begin")
            client.query("insert into t values (1)")
        assert told == ["C COMMIT", "Z I"]
        assert set(rows(cluster.primary, cluster.database)) == {1}


def test_a_commit_is_not_believed_of_a_server_that_crashed(broken_cluster, pgweir):
    """It comes back by itself and says committed; but its crash may have lost ids that others got then."""
    cluster = broken_cluster
    proxy = pgweir(on=cluster, settings=OPTIONS)
    proxy.wait_for_replicas(cluster.database)
    commits_hang(cluster.primary)
    client = begin(proxy, cluster.database)
    client.send(query("commit"))
    wait_for_hanging(cluster.primary)
    cluster.primary.kill()
    cluster.primary.configure(synchronous_standby_names="")
    cluster.primary.start()
    assert client.brief_until_ready() == ["E 08007", "Z E"]
    assert rows(cluster.primary, cluster.database) == [1]


def test_what_else_hangs_on_a_commit_stays_unknown(broken_cluster, pgweir):
    """A setting made in the transaction: half an answer would be wrong."""
    cluster = broken_cluster
    proxy = pgweir(on=cluster, settings=OPTIONS)
    proxy.wait_for_replicas(cluster.database)
    commits_hang(cluster.primary)
    client = begin(proxy, cluster.database)
    client.query("set work_mem = '5MB'")
    client.send(query("commit"))
    wait_for_hanging(cluster.primary)
    cluster.primary.kill()
    assert client.brief_until_ready() == ["E 08007", "Z E"]


def test_a_commit_is_unknown_when_no_primary_comes(broken_cluster, pgweir):
    cluster = broken_cluster
    proxy = pgweir(on=cluster, settings={**OPTIONS, "failover_timeout": "2s"})
    proxy.wait_for_replicas(cluster.database)
    commits_hang(cluster.primary)
    client = begin(proxy, cluster.database)
    client.send(query("commit"))
    wait_for_hanging(cluster.primary)
    cluster.primary.kill()
    assert client.brief_until_ready() == ["E 08007", "Z E"]


def test_a_client_that_leaves_while_its_commit_is_asked_for(broken_cluster, pgweir):
    cluster = broken_cluster
    proxy = pgweir(on=cluster, settings=OPTIONS)
    proxy.wait_for_replicas(cluster.database)
    commits_hang(cluster.primary)
    client = begin(proxy, cluster.database)
    client.send(query("commit"))
    wait_for_hanging(cluster.primary)
    cluster.primary.kill()
    wait_until(lambda: [row for row in proxy.admin("show clients") if row["state"] == "waiting"], "it waits")
    client.drop()
    wait_until(lambda: not [row for row in proxy.admin("show clients") if row["database"] == cluster.database], "it has left")
    standby = cluster.standby
    standby.promote()
    cluster.switch_primary(standby)
    with proxy.connect(database=cluster.database) as other:
        assert other.query("insert into t values (2)").tags == ["INSERT 0 1"]


def test_without_the_option_nothing_is_asked(broken_cluster, pgweir):
    cluster = broken_cluster
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(cluster.database)
    commits_hang(cluster.primary)
    client = begin(proxy, cluster.database)
    client.send(query("commit"))
    wait_for_hanging(cluster.primary)
    cluster.primary.kill()
    assert client.brief_until_ready() == ["E 08007", "Z E"]


def test_the_question_leaves_commit_as_it_is(cluster, pgweir):
    """Answers, prepared statements and errors of COMMIT are PostgreSQL's own; who has not written is not asked."""
    database = cluster.create_database(SCHEMA + "; create table parent(i int primary key); create table child("
                                       "i int references parent deferrable initially deferred)")
    proxy = pgweir(settings={"ask_commit_outcome": 1, "default_pool_size": 1})
    proxy.wait_for_replicas(database)
    mark = cluster.mark()
    with proxy.connect(database=database) as client:
        for turn in range(3):
            client.query("begin")
            client.query(f"insert into t values ({turn})")
            client.send(extended("commit"), sync())
            assert client.brief_until_ready() == ["1", "2", "n", "C COMMIT", "Z I"]
        client.query("begin")
        client.query("insert into child values (7)")
        client.send(query("commit"))
        assert client.brief_until_ready() == ["E 23503", "Z I"]
        client.query("begin")
        client.send(query("insert into nowhere values (7)"))
        assert client.brief_until_ready() == ["E 42P01", "Z E"]
        assert client.query("commit").tags == ["ROLLBACK"]
        client.query("begin")
        assert client.value("select count(*) from t") == "3"
        assert client.query("commit").tags == ["COMMIT"]
    asked = [line for line in cluster.primary.statements(mark["primary"]) if "pg_current_xact_id_if_assigned" in line.statement]
    assert len(asked) == 4
    cluster.drop_database(database)
