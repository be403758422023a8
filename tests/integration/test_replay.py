"""transaction_replay: a read-write transaction whose server was lost is repeated on the next one, if nothing is different there."""
import contextlib

import pytest
from harness.network import Link
from harness.system import wait_until
from harness.tellers import BANK, Tellers
from harness.wire import Closed, bind, describe, execute, extended, flush, parse, query, sync

SCHEMA = """
create table t(i int primary key, n int not null);
insert into t select g, 0 from generate_series(1, 10) g;
create table log(i int);
create function touches() returns int language sql volatile as 'insert into log values (0) returning i';
"""
LOST = ("08006", "08007")  # the second one if the statement was on its way before the loss was noticed
OPTIONS = {"transaction_replay": 1, "failover_timeout": "60s"}


@pytest.fixture
def broken_cluster(new_cluster):
    """A cluster of the test's own with a database; both are the test's to break."""
    cluster = new_cluster()
    cluster.database = cluster.create_database(SCHEMA)
    return cluster


@pytest.fixture
def linked(cluster, pgweir):
    """A proxy whose connections to the primary can be cut, and a database."""
    database = cluster.create_database(SCHEMA)
    with Link(cluster.primary.port) as link:
        proxy = pgweir(hosts=[link.port, cluster.standby.port], settings=OPTIONS)
        proxy.wait_for_replicas(database)
        yield proxy, database, link
    cluster.drop_database(database)


def fail_over(cluster):
    standby = cluster.standby
    cluster.settle()
    cluster.primary.kill()
    standby.promote()
    cluster.switch_primary(standby)
    return standby


def logged(node, database):
    return [int(row[0]) for row in node.query("select i from log order by i", database=database)]


def write(client):
    """The beginning of a transaction: reads, writes, a savepoint, with results."""
    client.query("begin")
    assert client.value("select n from t where i = 1") == "0"
    assert client.query("update t set n = n + 1 where i = 1").tags == ["UPDATE 1"]
    client.query("savepoint one")
    assert client.value("insert into log values (1) returning i") == "1"
    client.query("savepoint two")
    client.query("insert into log values (2)")
    client.query("rollback to two")
    assert client.extended("select n from t where i = $1", ["1"]).rows == [("1",)]


def test_a_transaction_outlives_its_primary(broken_cluster, pgweir):
    cluster = broken_cluster
    proxy = pgweir(on=cluster, settings=OPTIONS)
    proxy.wait_for_replicas(cluster.database)
    client = proxy.connect(database=cluster.database)
    write(client)
    standby = fail_over(cluster)
    assert client.value("insert into log values (3) returning i") == "3"
    assert client.query("commit").tags == ["COMMIT"]
    assert logged(standby, cluster.database) == [1, 3]
    assert standby.value("select n from t where i = 1", database=cluster.database) == "1"


def test_without_the_option_it_does_not(broken_cluster, pgweir):
    cluster = broken_cluster
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(cluster.database)
    client = proxy.connect(database=cluster.database)
    write(client)
    standby = fail_over(cluster)
    with contextlib.suppress(Closed):  # by a backend that had the time to say that it ends (57P01)
        assert client.query("insert into log values (3)", check=False).sqlstate in LOST
        client.query("rollback")
    assert logged(standby, cluster.database) == []


def test_the_statement_under_way_is_repeated_last(cluster, linked):
    """It waits for a lock when its connection is cut, and for the same lock again."""
    proxy, database, link = linked
    with cluster.primary.connect(database=database) as holder:
        holder.query("begin")
        holder.query("update t set n = 7 where i = 2")
        client = proxy.connect(database=database)
        write(client)
        client.send(extended("update t set n = n + 1 where i = 2 returning n"), sync())
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        wait_until(lambda: cluster.primary.value(waiting, database=database) == "1", "it waits for the lock")
        link.cut()
        # The old backend is still there: it holds what the transaction locked, until it notices.
        cluster.primary.query("select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' and "
                              f"datname = '{database}' and query like 'update t set n = n + 1 where i = 2%'")
        wait_until(lambda: cluster.primary.value(waiting, database=database) == "1", "it waits again")
        holder.query("commit")
    assert "D 8" in client.brief_until_ready()
    assert client.query("commit").tags == ["COMMIT"]
    assert logged(cluster.primary, database) == [1]


def test_another_result_is_an_error(cluster, linked):
    """What it has read is something else by now: it must not go on."""
    proxy, database, link = linked
    client = proxy.connect(database=database)
    client.query("begin")
    client.query("insert into log values (1)")
    assert client.value("select n from t where i = 3") == "0"
    cluster.primary.query("update t set n = 5 where i = 3", database=database)
    link.cut()
    assert client.query("insert into log values (2)", check=False).sqlstate == "40001"
    assert client.query("select 1", check=False).sqlstate == "25P02"
    assert client.query("rollback").tags == ["ROLLBACK"]
    assert client.query("insert into log values (3)").tags == ["INSERT 0 1"]
    assert logged(cluster.primary, database) == [3]


def test_another_number_of_rows_is_an_error(cluster, linked):
    proxy, database, link = linked
    client = proxy.connect(database=database)
    client.query("begin")
    assert client.query("update t set n = 1 where n = 0 and i > 5").tags == ["UPDATE 5"]
    mark = proxy.mark()
    cluster.primary.query(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}' "
                          "and state = 'idle in transaction'; ")
    # A COMMIT that meets the backend's end on its way may have taken the last words with it, and nobody knows what it did.
    proxy.wait_for_log(r"\[S-\d+ .*closing because", mark)
    assert client.query("commit", check=False).tags == ["COMMIT"]
    client.query("begin")
    client.query("insert into log values (1)")
    assert client.query("delete from t where i = 10").tags == ["DELETE 1"]
    link.refuse()
    link.cut()
    # It waits until the old backend has let go.
    assert cluster.primary.query("delete from t where i = 10 returning i", database=database) == [("10",)]
    link.allow()
    assert client.query("commit", check=False).sqlstate == "40001"
    client.query("rollback")
    assert logged(cluster.primary, database) == []


@pytest.mark.parametrize("spoil", ["set local work_mem = '5MB'", "create table other(i int)", "declare c cursor for select 1",
                                   "select touches()", "insert into log values (9); select 1",
                                   "do $$ begin insert into log values (8); end $$", "select pg_advisory_lock(1)", "select lo_export(0, '/nowhere/x') where false"])
def test_what_cannot_be_repeated_is_not(cluster, linked, spoil):
    proxy, database, link = linked
    client = proxy.connect(database=database)
    client.query("begin")
    client.query("insert into log values (1)")
    client.query(spoil)
    link.cut()
    with contextlib.suppress(Closed):  # with session state the whole session is lost
        assert client.query("insert into log values (2)", check=False).sqlstate in LOST
    client.drop()
    assert logged(cluster.primary, database) == []


def test_after_an_error_it_is_not_repeated(cluster, linked):
    proxy, database, link = linked
    client = proxy.connect(database=database)
    client.query("begin")
    client.query("insert into log values (1)")
    client.query("savepoint one")
    assert client.query("select 1 / 0", check=False).sqlstate == "22012"
    client.query("rollback to one")
    link.cut()
    assert client.query("insert into log values (2)", check=False).sqlstate in LOST
    client.query("rollback")
    assert logged(cluster.primary, database) == []


def test_repeatable_read_is_not_repeated(cluster, linked):
    """Its results were those of one snapshot, which is gone."""
    proxy, database, link = linked
    client = proxy.connect(database=database)
    client.query("begin isolation level repeatable read")
    client.query("insert into log values (1)")
    link.cut()
    assert client.query("insert into log values (2)", check=False).sqlstate in LOST
    client.query("rollback")
    assert logged(cluster.primary, database) == []


def test_a_long_transaction_is_not_kept(cluster, pgweir):
    database = cluster.create_database(SCHEMA)
    with Link(cluster.primary.port) as link:
        proxy = pgweir(hosts=[link.port, cluster.standby.port], settings={**OPTIONS, "transaction_replay_limit": "2kB"})
        proxy.wait_for_replicas(database)
        client = proxy.connect(database=database)
        for size, outcomes in ((100, (None,)), (3000, LOST)):
            client.query("begin")
            client.query(f"insert into log values (1) /* {'x' * size} */")
            link.cut()
            assert client.query("insert into log values (2)", check=False).sqlstate in outcomes
            client.query("rollback")
    cluster.drop_database(database)


def test_statements_mean_what_they_meant(cluster, linked):
    """Prepared in other segments, unnamed, with Flush as asyncpg does; and a name that means another one by now."""
    proxy, database, link = linked
    client = proxy.connect(database=database)
    client.query("begin")
    client.send(parse("s", "insert into log values ($1) returning i"), describe("S", "s"), flush())
    client.read_until("T")
    client.send(bind("", "s", ["1"]), execute(), sync())
    assert "D 1" in client.brief_until_ready()
    client.send(parse("", "insert into log values (2)"), bind(), execute(), sync())
    client.brief_until_ready()
    client.send(parse("", "insert into log values (3)"), sync())
    client.brief_until_ready()
    link.cut()
    client.send(bind(), execute(), sync())
    assert client.brief_until_ready() == ["2", "C INSERT 0 1", "Z T"]
    client.send(bind("", "s", ["4"]), execute(), sync())
    assert "D 4" in client.brief_until_ready()
    assert client.query("commit").tags == ["COMMIT"]
    assert logged(cluster.primary, database) == [1, 2, 3, 4]
    client.query("begin")
    client.send(bind("", "s", ["5"]), execute(), sync())
    client.brief_until_ready()
    client.query("deallocate s", check=False)
    client.drop()


def test_a_transaction_is_repeated_again_and_again(cluster, linked):
    """Its connection is cut before each statement, and while it is being repeated."""
    proxy, database, link = linked
    client = proxy.connect(database=database)
    client.query("begin")
    for n in range(12):
        assert client.value(f"insert into log values ({n}) returning i") == str(n)
        link.cut()
    assert client.query("commit").tags == ["COMMIT"]
    assert logged(cluster.primary, database) == list(range(12))


def test_a_transaction_that_moved_is_repeated_with_its_reads(cluster, linked):
    proxy, database, link = linked
    client = proxy.connect(database=database)
    cluster.settle()
    client.query("begin")
    assert client.value("select count(*) from t") == "10"
    client.query("insert into log values (1)")
    link.cut()
    assert client.query("commit").tags == ["COMMIT"]
    client.query("begin")
    assert client.value("select count(*) from log") == "1"
    client.query("insert into log values (2)")
    cluster.primary.query("insert into log values (3)", database=database)
    link.cut()
    assert client.query("commit", check=False).sqlstate == "40001"
    client.query("rollback")
    assert logged(cluster.primary, database) == [1, 3]


def test_a_client_that_leaves_in_the_middle(broken_cluster, pgweir):
    cluster = broken_cluster
    proxy = pgweir(on=cluster, settings=OPTIONS)
    proxy.wait_for_replicas(cluster.database)
    client = proxy.connect(database=cluster.database)
    write(client)
    client.send(query("insert into log values (3)"))
    client.brief_until_ready()
    cluster.settle()
    cluster.primary.kill()
    wait_until(lambda: [row for row in proxy.admin("show clients") if row["state"] == "waiting"], "it waits for a primary")
    client.drop()
    standby = cluster.standby
    standby.promote()
    cluster.switch_primary(standby)
    with proxy.connect(database=cluster.database) as other:
        assert other.query("insert into log values (9)").tags == ["INSERT 0 1"]
    wait_until(lambda: proxy.client_count() == 0, "it has left")
    assert logged(standby, cluster.database) == [9]


def test_without_a_primary_it_ends(broken_cluster, pgweir):
    cluster = broken_cluster
    proxy = pgweir(on=cluster, settings={**OPTIONS, "failover_timeout": "2s"})
    proxy.wait_for_replicas(cluster.database)
    client = proxy.connect(database=cluster.database)
    write(client)
    cluster.settle()
    cluster.primary.kill()
    assert client.query("insert into log values (3)", check=False).sqlstate == "57P03"
    assert client.query("rollback").tags == ["ROLLBACK"]


def test_a_killed_primary_costs_only_unknown_commits(broken_cluster, pgweir):
    """Twenty clients at work: nobody else sees an error, everything that was acknowledged is there, once."""
    cluster = broken_cluster
    database = cluster.create_database(BANK)
    proxy = pgweir(on=cluster, settings={**OPTIONS, "default_pool_size": 20})
    proxy.wait_for_replicas(database)
    standby = cluster.standby
    with Tellers(proxy, database) as tellers:
        tellers.wait_for_work()
        cluster.primary.reload(synchronous_standby_names="*")
        tellers.wait_for_work()
        cluster.primary.kill()
        standby.promote()
        cluster.switch_primary(standby)
        tellers.wait_for_work()
    errors = [error for teller in tellers.all for error in teller.errors]
    assert all(state == "committing" and code in ("08007", "40001") for state, code in errors), errors
    tellers.check(standby, database, codes=("08007", "40001"))
