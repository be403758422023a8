"""Transactions that begin on a standby and go on at the primary: the client must not be able to tell."""
import contextlib
import threading

import pytest
from harness.system import wait_until
from harness.wire import bind, describe, execute, extended, flush, parse, query, sync

SCHEMA = """
create table t(i int primary key deferrable, note text);
insert into t values (1, 'one'), (2, 'two');
create function nap() returns int language plpgsql volatile as
    $$ begin while pg_is_in_recovery() loop perform pg_sleep(0.02); end loop; return 7; end $$;
"""
READ = "select count(*) from t"
ON_STANDBY = "/* pgweir: route=replica */"

# What one connection to the primary says to these is what a client must see.
SCRIPTS = {
    "reads": ["begin", READ, READ, ";", "commit"],
    "reads, then rolled back": ["start transaction", READ, "rollback"],
    "a write": ["begin", READ, "insert into t values (9)", READ, "commit", READ],
    "a write taken back": ["begin", READ, "insert into t values (9)", READ, "rollback", READ],
    "a savepoint": ["begin", READ, "savepoint a", "insert into t values (9)", "rollback to a", READ, "release a", "commit", READ],
    "a setting": ["begin", READ, "set local work_mem = '3MB'", "show work_mem", READ, "commit", "show work_mem"],
    "a cursor": ["begin", READ, "declare c cursor for select i from t order by i", "fetch 1 from c", "fetch 1 from c", "close c", "commit"],
    "an error of a read": ["begin", READ, "select 1/0", READ, "commit", READ],
    "an error of a name": ["begin", READ, "select * from nowhere", READ, "rollback"],
    "an error, then prepared": ["begin", READ, "select 1/0", "prepare transaction 'x'", READ],
    "an error of read only, then prepared": ["begin read only", READ, "select 1/0", "prepare transaction 'x'", READ],
    "an error of a write": ["begin", READ, "insert into t values (1)", READ, "end"],
    "isolation too late": ["begin", READ, "set transaction isolation level serializable", "rollback"],
    "isolation too late, behind a savepoint": ["begin", READ, "savepoint a", "set transaction isolation level repeatable read", "rollback"],
    "isolation too late, behind a lock": ["begin", READ, "lock table t", "set transaction isolation level repeatable read", "rollback"],
    "isolation in time": ["begin", "set transaction isolation level repeatable read", READ, "show transaction_isolation", "commit"],
    "the same isolation": ["begin", READ, "set transaction isolation level read committed", "insert into t values (9)", "rollback"],
    "a second begin": ["begin", READ, "begin", READ, "commit"],
    "read write aloud": ["begin isolation level read committed read write", READ, "show transaction_read_only", "insert into t values (9)",
                         "rollback"],
    "read write again": ["begin", READ, "set transaction read write", "insert into t values (9)", "rollback"],
    "read only later": ["begin", READ, "set transaction read only", READ, "insert into t values (9)", "rollback"],
    "read only": ["begin read only", READ, "show transaction_read_only", "insert into t values (9)", "rollback"],
    "chained": ["begin", READ, "commit and chain", READ, "insert into t values (9)", "rollback and chain", READ, "commit"],
    "constraints": ["begin", READ, "set constraints all deferred", "insert into t values (1)", READ, "commit", READ],
    "its own state": ["begin", READ, "select pg_is_in_recovery()", "show transaction_isolation", "show transaction_read_only", "commit"],
    "in one string": ["begin; select count(*) from t; insert into t values (9); rollback", READ],
    "half in one string": ["begin", READ, "insert into t values (9); rollback", READ],
    "prepared in SQL": ["begin", READ, "prepare p as select count(*) from t", "execute p", "deallocate p", "commit"],
    "locked rows": ["begin", READ, "select i from t where i = 1 for update", "update t set note = 'x' where i = 1", "rollback"],
    "copied": ["begin", READ, "copy t to stdout", "delete from t", "copy t to stdout", "rollback"],
}


@pytest.fixture
def proxy(pgweir, database):
    """Patient: a standby that is a little behind on a busy machine must not turn a test's reads away from it."""
    return pgweir(settings={"replica_wait": "20s"}).wait_for_replicas(database)


def connect(proxy, database):
    """A client whose worker knows the primary's defaults (C2), without which each transaction begins there."""
    client = proxy.connect(database=database)
    client.query("/* pgweir: route=primary */ select 'known'")
    return client


def on_standby(cluster, sql, mark):
    """Did it run there, and there only?"""
    return set(cluster.where(sql, mark)) == {"standby1"}


def answers(client, script, protocol):
    got = []
    for sql in script:
        client.send(query(sql) if protocol == "query" or sql.count(";") > 1 or sql == ";" or "; " in sql else extended(sql) + sync())
        got.append((sql, [brief for brief in client.brief_until_ready() if not brief.startswith("S ")]))
    return got


@pytest.mark.parametrize("protocol", ["query", "extended"])
def test_the_client_cannot_tell(cluster, proxy, database, protocol):
    """Every answer, tag, notice, error and status is what one connection to the primary gives."""
    for name, script in SCRIPTS.items():
        with cluster.primary.connect(database=database) as direct:
            expected = answers(direct, script, protocol)
        cluster.primary.query("delete from t where i > 2", database=database)
        mark = cluster.mark()
        with connect(proxy, database) as client:
            assert answers(client, script, protocol) == expected, name
        if "in one string" != name and "isolation in time" != name:
            assert "standby1" in cluster.where(READ, mark), name
        cluster.primary.query("delete from t where i > 2", database=database)


def test_a_transaction_that_only_reads_ends_where_it_began(cluster, proxy, database):
    with connect(proxy, database) as client:
        mark = cluster.mark()
        for sql in ("begin", READ, "select note from t where i = 1", "commit"):
            client.query(sql)
    assert on_standby(cluster, READ, mark) and on_standby(cluster, "select note from t where i = 1", mark)
    assert cluster.statements(mark, database=database)["primary"] == []


def test_statements_of_the_protocol_follow_the_transaction(cluster, proxy, database):
    """Named and unnamed statements, prepared on one server, are used on the other; a Flush leaves the rest to come."""
    with connect(proxy, database) as client:
        client.send(parse("r", "select note from t where i = $1"), parse("w", "insert into t values ($1, $2)"), sync())
        assert client.brief_until_ready() == ["1", "1", "Z I"]
        mark = cluster.mark()
        client.query("begin")
        client.send(parse("", "select note from t where i = $1"), describe("S"), flush())
        assert [client.read().brief for _ in range(3)] == ["1", "t", "T"]
        client.send(bind("", "", ["1"]), execute(), sync())
        assert client.brief_until_ready() == ["2", "D one", "C SELECT 1", "Z T"]
        client.send(bind("", "r", ["2"]), execute(), sync())
        assert client.brief_until_ready() == ["2", "D two", "C SELECT 1", "Z T"]
        assert on_standby(cluster, "select note from t where i = $1", mark)
        client.send(parse("", "insert into t values ($1) returning i"), describe("S"), flush())
        assert [client.read().brief for _ in range(3)] == ["1", "t", "T"]
        client.send(bind("", "", ["3"]), execute(), sync())
        assert client.brief_until_ready() == ["2", "D 3", "C INSERT 0 1", "Z T"]
        client.send(bind("", "w", ["4", "four"]), execute(), bind("", "r", ["4"]), execute(), sync())
        assert client.brief_until_ready() == ["2", "C INSERT 0 1", "2", "D four", "C SELECT 1", "Z T"]
        client.query("commit")
    assert cluster.primary.value(READ, database=database) == "4"


def test_a_portal_is_gone_on_with(proxy, database):
    """Rows by portions: the portal lives on one server, so its transaction runs where it can stay."""
    with connect(proxy, database) as client:
        client.query("begin")
        assert client.value(READ) == "2"
        client.send(parse("", "select i from t order by i"), bind("p"), execute("p", 1), sync())
        assert client.brief_until_ready() == ["1", "2", "D 1", "s", "Z T"]
        client.query("insert into t values (8)")
        client.send(execute("p", 1), sync())
        assert client.brief_until_ready() == ["D 2", "s", "Z T"]
        client.query("rollback")


def test_a_write_behind_a_read_that_was_flushed(cluster, proxy, database):
    """One segment in several parts: what comes after the first is not known when that is sent."""
    with connect(proxy, database) as client:
        client.query("begin")
        assert client.value(READ) == "2"
        client.send(extended(READ), flush())
        assert client.read_until("C")[-1].brief == "C SELECT 1"
        client.send(extended("insert into t values (5)"), sync())
        assert client.brief_until_ready() == ["1", "2", "n", "C INSERT 0 1", "Z T"]
        client.query("commit")
    assert cluster.primary.value(READ, database=database) == "3"


def test_routes_inside_a_transaction(cluster, proxy, database):
    with connect(proxy, database) as client:
        client.query("set pgweir.transaction_reads = 'primary'")
        mark = cluster.mark()
        for sql in ("begin", READ, "commit"):
            client.query(sql)
        assert set(cluster.where(READ, mark)) == {"primary"}
        client.query("reset pgweir.transaction_reads")
        mark = cluster.mark()
        for sql in ("begin", READ, "set local pgweir.route = 'primary'", "select note from t", "commit"):
            client.query(sql)
        assert on_standby(cluster, READ, mark) and set(cluster.where("select note from t", mark)) == {"primary"}


def test_routes_roll_back(proxy, database):
    """SET pgweir.* is answered here, and is as much a part of its transaction as any other SET."""
    with connect(proxy, database) as client:
        for before, end, kept in [([], "rollback", False), ([], "commit", True), ([READ], "rollback", False), ([READ], "commit", True),
                                  (["insert into t values (7)"], "rollback", False), ([READ, "select 1/0"], "commit", False)]:
            client.query("reset pgweir.route")
            client.query("begin")
            for sql in before[:1]:
                client.query(sql)
            client.query("set pgweir.route = 'primary'")
            for sql in before[1:]:
                client.query(sql, check=False)
            client.query(end)
            assert client.value("show pgweir.route") == ("primary" if kept else "auto"), (before, end)


def test_rule_c1_transaction_time_is_one(proxy, database):
    """Whatever shows the time of the transaction shows the same until its end, on whichever server."""
    with connect(proxy, database) as client:
        client.query("begin")
        assert client.value(READ) == "2"
        before = client.value("select now()")
        client.query("insert into t values (9)")
        assert client.value("select now()") == before
        client.query("rollback")
        client.query("begin read only")
        before = client.value("select now()")
        # Not proved to mean the same on a standby: refused rather than answered with another time afterwards.
        client.query("select txid_current_snapshot()", check=False)
        assert client.query("select now()", check=False).rows in ([(before,)], [])
        client.query("rollback")


def test_rule_c4_an_idle_transaction_does_not_hold_replay_up(new_cluster, pgweir):
    """It has read a table that the primary then rewrites: on a standby that never cancels, replay would stand still."""
    cluster = new_cluster(max_standby_streaming_delay=-1)
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, settings={"replica_wait": "20s"}).wait_for_replicas(database)
    with connect(proxy, database) as client:
        mark = cluster.mark()
        client.query("begin")
        assert client.value(READ) == "2"
        assert on_standby(cluster, READ, mark)
        cluster.primary.query("truncate t", database=database)
        target = cluster.primary.value("select pg_current_wal_insert_lsn()")
        wait_until(lambda: cluster.standby.value(f"select pg_last_wal_replay_lsn() >= '{target}'") == "t", "replay goes on", timeout=20)
        assert client.value(READ) == "0"
        assert client.query("insert into t values (3)").tags == ["INSERT 0 1"]
        assert client.query("commit").tags == ["COMMIT"]
    assert cluster.primary.value(READ, database=database) == "1"


def test_rule_c4_the_loss_of_an_idle_transaction_is_silent(cluster, proxy, database):
    """Its backend is ended between two statements: it has only read, so that the next one begins it anew."""
    with connect(proxy, database) as client:
        for _ in range(10):
            client.query("begin")
            assert client.value(READ) == "2"
            cluster.standby.query(f"select pg_terminate_backend(pid, 20000) from pg_stat_activity where datname = '{database}'")
            assert client.value(READ) == "2"
            cluster.standby.query(f"select pg_terminate_backend(pid, 20000) from pg_stat_activity where datname = '{database}'")
            assert client.query("commit").tags == ["COMMIT"]


@pytest.mark.parametrize("begin", [None, "begin"])
def test_a_read_whose_standby_is_lost_runs_at_the_primary(cluster, proxy, database, begin):
    """Alone, or in the middle of a transaction: nothing of its answer had been seen."""
    with connect(proxy, database) as client:
        if begin:
            client.query(begin)
            assert client.value(READ) == "2"
        client.send(query(f"{ON_STANDBY} select nap()"))
        wait_until(lambda: cluster.standby.value("select count(*) from pg_stat_activity where query like '%nap%' and state = 'active' "
                                                 "and pid <> pg_backend_pid()") == "1", "it runs on the standby")
        cluster.standby.query("select pg_terminate_backend(pid) from pg_stat_activity where query like '%nap%' and pid <> pg_backend_pid()")
        assert client.brief_until_ready() == ["T", "D 7", "C SELECT 1", "Z T" if begin else "Z I"]
        if begin:
            client.query("insert into t values (3)")
            assert client.value(READ) == "3"
            client.query("rollback")


def test_a_refusal_in_a_transaction_is_not_shown(cluster, proxy, database):
    with connect(proxy, database) as client:
        client.query("begin")
        assert client.value(READ) == "2"
        assert client.value(f"{ON_STANDBY} select txid_current() > 0") == "t"
        assert client.value(READ) == "2"
        client.query("commit")


def test_rule_c8_a_transaction_survives_the_promotion_of_its_standby(new_cluster, pgweir):
    """Begun in recovery it could not write, though its server could by now."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, settings={"replica_wait": "20s"}).wait_for_replicas(database)
    with connect(proxy, database) as client:
        client.query("begin")
        assert client.value(READ) == "2"
        client.send(query(f"{ON_STANDBY} select nap()"))
        wait_until(lambda: cluster.standby.value("select count(*) from pg_stat_activity where query like '%nap%' and state = 'active' "
                                                 "and pid <> pg_backend_pid()") == "1", "it runs on the standby")
        cluster.primary.stop("immediate")
        standby = cluster.standby
        standby.promote()
        cluster.switch_primary(standby)
        assert client.brief_until_ready() == ["T", "D 7", "C SELECT 1", "Z T"]
        assert client.query("insert into t values (3)").tags == ["INSERT 0 1"]
        assert client.query("commit").tags == ["COMMIT"]
    assert standby.value(READ, database=database) == "3"


@contextlib.contextmanager
def hanging_commit(new_cluster, pgweir, **settings):
    """The synchronous standby is away: a commit waits for it, shown by the other standby and not yet by the primary.  Gives the
    cluster, a client, a function that lets the commit go on, and the proxy."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    cluster.primary.reload(synchronous_standby_names="nobody")
    proxy = pgweir(on=cluster, settings={"replica_wait": "20s", **settings}).wait_for_replicas(database)
    with connect(proxy, database) as client, cluster.primary.connect(database=database) as writer:

        def let_go():
            cluster.primary.reload(synchronous_standby_names="")
            writer.read_until_ready()

        writer.send(query("insert into t values (777)"))
        wait_until(lambda: cluster.standby.value(READ, database=database) == "3", "the standby shows the commit")
        assert cluster.primary.value(READ, database=database) == "2"
        # Nothing else runs: the commit's id is the primary's xmax and not in its xip list.
        assert cluster.primary.query("select pg_snapshot_xip(pg_current_snapshot())") == []
        yield cluster, client, let_go, proxy
        client.query("rollback")


def read_early(cluster, client):
    """In a transaction that has begun on the standby before anybody has noticed."""
    mark = cluster.mark()
    client.query("begin")
    assert client.value(READ) == "3" and on_standby(cluster, READ, mark)


def test_rule_b1_a_move_waits_until_the_primary_shows_what_was_read(new_cluster, pgweir):
    with hanging_commit(new_cluster, pgweir, monitor_interval="10s") as (cluster, client, let_go, _):
        read_early(cluster, client)
        client.send(query("select count(*) from t where txid_current_if_assigned() is null"))
        assert client.nothing_comes()
        let_go()
        assert client.brief_until_ready()[1] == "D 3"
        assert client.query("insert into t values (778)").tags == ["INSERT 0 1"]


def test_rule_b1_a_move_that_would_go_back_fails(new_cluster, pgweir):
    with hanging_commit(new_cluster, pgweir, monitor_interval="10s") as (cluster, client, let_go, _):
        client.query("set pgweir.replica_wait = '1s'")
        read_early(cluster, client)
        assert client.query("insert into t values (778)", check=False).sqlstate == "40001"
        assert client.query(READ, check=False).sqlstate == "25P02"
        assert client.query("rollback").tags == ["ROLLBACK"]
        let_go()
        assert client.query("insert into t values (778)").tags == ["INSERT 0 1"]


def test_rule_b1_while_a_commit_hangs_transactions_begin_at_the_primary(new_cluster, pgweir):
    """And afterwards on replicas again."""
    with hanging_commit(new_cluster, pgweir) as (cluster, client, let_go, proxy):
        proxy.wait_for_log("shows commits that wait for a synchronous standby")

        def transaction():
            """Where its read ran, and what it and the next one said."""
            mark = cluster.mark()
            client.query("begin")
            seen = client.value(READ), client.value("select count(*) from t where txid_current_if_assigned() is null")
            client.query("commit")
            return set(cluster.where(READ, mark)), seen

        def begins_at(node):
            where, (first, then) = transaction()
            assert int(then) >= int(first)
            return where == {node}

        assert begins_at("primary")
        let_go()
        wait_until(lambda: begins_at("standby1"), "it is over")


def test_rule_b1_with_a_synchronous_standby_transactions_move(new_cluster, pgweir):
    """All is well, and writes wait for their standby: each of many transactions reads there and writes at the primary."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    cluster.primary.reload(synchronous_standby_names="*")
    proxy = pgweir(on=cluster, settings={"replica_wait": "20s"}).wait_for_replicas(database)
    failures = []

    def work(number):
        try:
            with connect(proxy, database) as client:
                for turn in range(20):
                    client.query("begin")
                    before = int(client.value(READ))
                    client.query(f"insert into t values ({1000 * number + turn})")
                    if int(client.value(READ)) <= before:
                        failures.append("it went back")
                    client.query("commit")
        except Exception as failure:  # shown by the main thread
            failures.append(repr(failure))

    mark = cluster.mark()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert "standby1" in cluster.where(READ, mark)


@contextlib.contextmanager
def paused(standby):
    standby.pause_replay()
    yield
    standby.resume_replay()


@pytest.mark.parametrize("begin", ["begin", "begin read only"])
def test_rule_b8_each_statement_of_read_committed_is_fresh(new_cluster, pgweir, begin):
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster).wait_for_replicas(database)
    with connect(proxy, database) as client, proxy.connect(database=database) as other:
        client.query("set pgweir.replica_wait = '20s'")
        mark = cluster.mark()
        client.query(begin)
        assert client.value(READ) == "2"
        assert on_standby(cluster, READ, mark)
        client.query("set pgweir.replica_wait = '10ms'")
        with paused(cluster.standby):
            other.query("insert into t values (3)")
            assert client.value(READ) == "3"
        client.query("commit")


def test_who_may_write_reads_no_old_state(new_cluster, pgweir):
    """transaction_consistency: an application reads in order to write back, whatever it allows outside."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, settings={"consistency": "eventual"}).wait_for_replicas(database)
    with connect(proxy, database) as client, proxy.connect(database=database) as other, paused(cluster.standby):
        other.query("insert into t values (3)")
        assert client.value(READ) == "2"
        client.query("begin")
        assert client.value(READ) == "3"
        client.query("commit")
        client.query("set pgweir.transaction_consistency = 'eventual'")
        client.query("begin")
        assert client.value(READ) == "2"
        client.query("commit")


@pytest.mark.threads
def test_transfers_with_a_read_first_lose_nothing(cluster, pgweir, database):
    """The pattern of every ORM: read, then write what follows from it, with the row locked by the write's condition."""
    proxy = pgweir(settings={"default_pool_size": 4}).wait_for_replicas(database)
    cluster.primary.query("create table bank(id int primary key, n int, version int); "
                          "insert into bank select g, 100, 0 from generate_series(1, 4) g", database=database)
    done, failures = [], []

    def transfer(number):
        try:
            with connect(proxy, database) as client:
                for turn in range(25):
                    source, target = (number + turn) % 4 + 1, (number + turn + 1) % 4 + 1
                    client.query("begin")
                    n, version = client.query(f"select n, version from bank where id = {source}").rows[0]
                    moved = client.query(f"update bank set n = {int(n) - 1}, version = version + 1 "
                                         f"where id = {source} and version = {version}").tags == ["UPDATE 1"]
                    if moved:
                        client.query(f"update bank set n = n + 1, version = version + 1 where id = {target}", check=False)
                    moved = client.query("commit").tags == ["COMMIT"] and moved
                    done.append(moved)
        except Exception as failure:  # shown by the main thread
            failures.append(repr(failure))

    threads = [threading.Thread(target=transfer, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and any(done)
    assert cluster.primary.value("select sum(n) from bank", database=database) == "400"
