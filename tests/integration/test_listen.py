"""LISTEN without a pin (shared_listen): all clients of a database hear by one connection what PostgreSQL would tell each of
them, in its order, at its times."""
import asyncio
import socket
import struct
import threading

import asyncpg
import psycopg
import pytest
from harness.system import wait_until
from harness.wire import Closed, bind, describe, execute, extended, flush, parse, query, sync, terminate

SCHEMA = """
create table t(i int, note text);
create table counters(id int primary key, n int);
insert into counters select g, 0 from generate_series(1, 5) g;
create function tells() returns trigger language plpgsql as $$ begin perform pg_notify('c', new.note); return new; end $$;
create trigger tells after insert on t for each row execute function tells();
"""


@pytest.fixture
def proxy(pgweir):
    """A pool of two, so that whoever would be pinned is noticed."""
    return pgweir(settings={"shared_listen": 1, "default_pool_size": 2, "max_pinned": 4, "workers": 1, "route": "primary"})


@pytest.fixture
def single(pgweir):
    """One backend for all."""
    return pgweir(settings={"shared_listen": 1, "default_pool_size": 1, "workers": 1, "route": "primary"})


def says(client, *messages):
    """A cycle in a few letters, without its rows and what stands in front of them."""
    client.send(*[query(m) if isinstance(m, str) else m for m in messages])
    return [m.brief for m in client.read_until_ready() if m.type in "ACEZ"]


def notified(messages):
    return [m.brief for m in messages if m.type == "A"]


def pids(messages):
    return [struct.unpack_from("!I", m.body)[0] for m in messages if m.type == "A"]


def pins(proxy):
    return [row["reasons"] for row in proxy.admin("show pins")]


def channels(proxy, database):
    """How many channels each client hears, the silent ones left out."""
    rows = proxy.admin("show clients")
    return sorted(int(row["channels"]) for row in rows if row["database"] == database and row["channels"] != "0")


def listening_backends(cluster, database):
    rows = cluster.primary.query("select pid from pg_stat_activity where application_name = 'pgweir-monitor' and datname = "
                                 f"'{database}' and query ~ '^(LISTEN|UNLISTEN|$)'")
    return [pid for (pid,) in rows]


# nobody is pinned


def test_rule_g2_twenty_listen_over_two_backends(cluster, proxy, database):
    listeners = [proxy.connect(database=database) for _ in range(20)]
    try:
        for client in listeners:
            assert says(client, "listen c") == ["C LISTEN", "Z I"]
        assert pins(proxy) == []
        assert channels(proxy, database) == [1] * 20
        with proxy.connect(database=database) as sender:
            for number in range(5):
                assert says(sender, f"notify c, '{number}'") == ["C NOTIFY", "Z I"]
        for client in listeners:
            assert [client.read().brief for _ in range(5)] == [f"A c {number}" for number in range(5)]
        for client in listeners:
            assert client.value("select 1") == "1"
        assert pins(proxy) == []
        assert len(listening_backends(cluster, database)) == 1
    finally:
        for client in listeners:
            client.close()
    wait_until(lambda: not listening_backends(cluster, database), "nobody listens, and the shared connection is closed")


def test_by_the_extended_protocol(proxy, database):
    with proxy.connect(database=database) as client:
        client.send(extended("listen c"), sync())
        assert client.brief_until_ready() == ["1", "2", "n", "C LISTEN", "Z I"]
        client.send(parse("l", "listen d"), describe("S", "l"), sync())
        assert client.brief_until_ready() == ["1", "t", "n", "Z I"]
        client.send(bind("", "l"), execute(), sync())
        assert client.brief_until_ready() == ["2", "C LISTEN", "Z I"]
        client.send(extended("notify d, 'x'"), sync())
        assert client.brief_until_ready() == ["1", "2", "n", "C NOTIFY", "A d x", "Z I"]
        assert pins(proxy) == []
        assert channels(proxy, database) == [2]


def test_by_the_extended_protocol_with_a_flush_in_its_middle(proxy, database):
    """As asyncpg does it: the server has parsed it by then, and executes nothing."""
    with proxy.connect(database=database) as client, proxy.connect(database=database) as other:
        for turn in range(5):
            for name in ("", f"l{turn}"):
                client.send(parse(name, f"listen c{turn}"), describe("S", name), flush())
                assert [client.read().brief for _ in range(3)] == ["1", "t", "n"]
                client.send(bind("", name), execute(), sync())
                assert client.brief_until_ready() == ["2", "C LISTEN", "Z I"]
            assert says(other, f"notify c{turn}, 'x'") == ["C NOTIFY", "Z I"]
            assert client.read().brief == f"A c{turn} x"
        client.send(parse("", "unlisten *"), flush())
        assert client.read().brief == "1"
        client.send(bind(), execute(), sync())
        assert client.brief_until_ready() == ["2", "C UNLISTEN", "Z I"]
        assert channels(proxy, database) == []
        client.send(extended("select 1"), flush(), extended("listen c"), sync())
        assert client.brief_until_ready()[-2:] == ["C LISTEN", "Z I"]
        assert pins(proxy) == ["LISTEN"]


def test_names_are_postgresqls(proxy, database):
    """Folded, quoted, with quotes in them, beyond ASCII; those that are cut off are the server's to speak of."""
    with proxy.connect(database=database) as client:
        for name, heard in [("Mixed", "mixed"), ('"Mixed"', "Mixed"), ('"with ""quotes"" and spaces"', 'with "quotes" and spaces'),
                            ("größe", "größe"), ('"' + "x" * 62 + '"', "x" * 62)]:
            assert says(client, f"listen {name}") == ["C LISTEN", "Z I"]
            assert says(client, f"notify {name}") == ["C NOTIFY", f"A {heard}", "Z I"]
        assert pins(proxy) == []
        long = "y" * 70
        client.send(query(f"listen {long}"))
        assert [m.brief for m in client.read_until_ready() if m.type != "S"] == ["N 42622", "C LISTEN", "Z I"]
        assert pins(proxy) == ["LISTEN"]


def test_what_cannot_be_heard_is_an_error_as_ever(proxy, database):
    with proxy.connect(database=database) as client:
        assert says(client, 'listen ""') == ["E 42601", "Z I"]
        assert says(client, "begin") == ["C BEGIN", "Z T"]
        assert says(client, "select 1/0") == ["E 22012", "Z E"]
        assert says(client, "listen c") == ["E 25P02", "Z E"]
        assert says(client, "rollback") == ["C ROLLBACK", "Z I"]
        assert channels(proxy, database) == []
        assert pins(proxy) == []


# when, and in which order

OWN = {
    "simple": [query("notify c, 'own'")],
    "extended": [extended("notify c, 'own'"), sync()],
    "function": [query("select pg_notify('c', 'own')")],
    "trigger": [query("insert into t values (1, 'own')")],
    "trigger, extended": [extended("insert into t values ($1, $2)", ["1", "own"]), sync()],
    "code": [query("do $$ begin perform pg_notify('c', 'own'); end $$")],
    "string": [query("select 1; notify c, 'own'; select 2")],
}


@pytest.mark.parametrize("how", OWN)
def test_rule_g2_ones_own_stands_before_ready_with_ones_own_pid(single, database, how):
    """On a backend on which somebody else has notified just before."""
    with single.connect(database=database) as client, single.connect(database=database) as other:
        says(client, "listen c")
        for turn in range(25):
            says(other, f"notify c, 'other {turn}'")
            client.send(*OWN[how])
            answer = client.read_until_ready()
            assert notified(answer) == [f"A c other {turn}", "A c own"]
            assert pids(answer)[1] == client.pid != pids(answer)[0]
            assert answer[-1].brief == "Z I"
        assert pins(single) == (["UNKNOWN"] if how == "code" else [])


def test_rule_g2_ones_own_at_the_end_of_a_transaction(single, database):
    with single.connect(database=database) as client:
        says(client, "listen c")
        assert says(client, "begin") == ["C BEGIN", "Z T"]
        assert says(client, "notify c, 'one'") == ["C NOTIFY", "Z T"]
        assert says(client, "insert into t values (1, 'two')") == ["C INSERT 0 1", "Z T"]
        assert says(client, "savepoint s") == ["C SAVEPOINT", "Z T"]
        assert says(client, "notify c, 'not this'") == ["C NOTIFY", "Z T"]
        assert says(client, "rollback to s") == ["C ROLLBACK", "Z T"]
        client.send(query("commit"))
        answer = client.read_until_ready()
        assert [m.brief for m in answer if m.type in "ACZ"] == ["C COMMIT", "A c one", "A c two", "Z I"]
        assert pids(answer) == [client.pid] * 2


@pytest.mark.parametrize("round_trip", ["select 1", "", "begin; commit", "select count(*) from t", "set work_mem = '5MB'"])
def test_rule_g2_what_was_acknowledged_is_heard_by_the_next_ready(proxy, database, round_trip):
    with proxy.connect(database=database) as listener, proxy.connect(database=database) as sender:
        says(listener, "listen c")
        heard = []
        for number in range(200):
            says(sender, f"notify c, '{number}'")
            listener.send(query(round_trip))
            heard += notified(listener.read_until_ready())
            assert heard == [f"A c {n}" for n in range(number + 1)]


def test_rule_g2_also_where_a_replica_answers(cluster, pgweir, database):
    proxy = pgweir(settings={"shared_listen": 1}).wait_for_replicas(database)
    sql = "select n from counters where id = 4"
    with proxy.connect(database=database) as listener, cluster.primary.connect(database=database) as sender:
        says(listener, "listen c")
        mark, heard = cluster.mark(), []
        for number in range(200):
            sender.query(f"notify c, '{number}'")
            listener.send(query(sql))
            heard += notified(listener.read_until_ready())
            assert heard == [f"A c {n}" for n in range(number + 1)]
        wait_until(lambda: listener.value(sql) == "0" and "standby1" in cluster.where(sql, mark), "the client reads on the standby")


def test_rule_g2_never_inside_a_block_nor_of_what_was_rolled_back(cluster, proxy, database):
    with proxy.connect(database=database) as listener, cluster.primary.connect(database=database) as sender:
        says(listener, "listen c")
        for begin in ("begin", "begin; select 1", "begin isolation level repeatable read"):
            assert says(listener, begin)[-1] == "Z T"
            sender.query("notify c, 'while it was open'")
            sender.query("begin; notify c, 'nothing'; rollback")
            for _ in range(5):
                assert notified_in(listener, "select count(*) from t") == []
            assert listener.nothing_comes()
            assert says(listener, "select 1/0") == ["E 22012", "Z E"]
            assert says(listener, "select 1") == ["E 25P02", "Z E"]
            assert says(listener, "rollback") == ["C ROLLBACK", "A c while it was open", "Z I"]
        sender.query("begin")
        sender.query("notify c, 'late'")
        assert says(listener, "select 1") == ["C SELECT 1", "Z I"]
        sender.query("commit")
        assert listener.read().brief == "A c late"


def notified_in(client, sql):
    client.send(query(sql))
    return notified(client.read_until_ready())


@pytest.mark.parametrize("by", ["server", "proxy"])
def test_nothing_comes_between_an_error_and_its_sync(cluster, single, database, by):
    """Whoever has refused it; the rest is skipped up to Sync."""
    with single.connect(database=database) as listener, single.connect(database=database) as other, \
            cluster.primary.connect(database=database) as sender:
        says(listener, "listen c")
        if by == "server":
            listener.send(extended("select 1/0"), flush())
            assert listener.read_until("E")[-1].brief == "E 22012"
        else:
            other.query("begin; select 1")
            listener.send(extended("select 1"), flush())
            wait_until(lambda: any(row["state"] == "waiting" for row in single.admin("show clients")), "it waits for a server")
            listener.cancel()
            assert listener.read().brief == "E 57014"
            other.query("commit")
        sender.query("notify c, 'x'")
        assert listener.nothing_comes()
        listener.send(extended("select 2"), sync())
        assert listener.brief_until_ready() == ["A c x", "Z I"]


def test_order_is_that_of_the_commits_over_all_channels(cluster, proxy, database):
    """Compared with what a private connection to the primary hears."""
    with proxy.connect(database=database) as listener, cluster.primary.connect(database=database) as witness:
        for channel in ("c", "d", "e"):
            says(listener, f"listen {channel}")
            says(witness, f"listen {channel}")

        def send(number):
            with proxy.connect(database=database) as sender:
                for turn in range(40):
                    sender.query("begin")
                    for channel in "cde"[turn % 3:] + "cde"[:turn % 3]:
                        sender.query(f"notify {channel}, '{number} {turn}'")
                    sender.query("rollback" if turn % 7 == 3 else "commit")

        senders = [threading.Thread(target=send, args=(n,)) for n in range(4)]
        for thread in senders:
            thread.start()
        expected = [witness.read().brief for _ in range(4 * 34 * 3)]
        assert [listener.read().brief for _ in expected] == expected
        for thread in senders:
            thread.join()
        assert listener.nothing_comes()


def test_pipelines(proxy, database):
    with proxy.connect(database=database) as client:
        says(client, "listen c")
        client.send(*[part for n in range(50) for part in (extended(f"notify c, '{n}'"), sync())])
        for n in range(50):
            assert [m.brief for m in client.read_until_ready() if m.type in "ACZ"] == ["C NOTIFY", f"A c {n}", "Z I"]
        client.send(extended("select 1"), extended("notify c, 'a'"), extended("notify c, 'b'"), sync(), query("select 2"))
        assert notified(client.read_until_ready()) == ["A c a", "A c b"]
        assert notified(client.read_until_ready()) == []
        client.send(*[query("notify c, 'left'")] * 3, terminate())
    with proxy.connect(database=database) as client:
        assert client.value("select 1") == "1"


# how it ends

ENDS = {
    "unlisten": ["unlisten c"],
    "unlisten all": ["unlisten *"],
    "discard all": ["discard all"],
    "extended": [(extended("unlisten c"), sync())],
    "among others": ["select pg_advisory_unlock_all(); close all; unlisten *; reset all"],
    "in a transaction": ["begin", "unlisten c", "commit"],
    "in a string with one": ["begin; unlisten c; commit"],
}


@pytest.mark.parametrize("how", ENDS)
def test_rule_g2_it_ends(cluster, proxy, database, how):
    with proxy.connect(database=database) as client, proxy.connect(database=database) as other:
        says(client, "listen c")
        says(other, "listen c")
        for step in ENDS[how]:
            says(client, *(step if isinstance(step, tuple) else (step,)))
        assert channels(proxy, database) == [1]
        cluster.primary.query("notify c, 'x'", database=database)
        assert says(client, "select 1") == ["C SELECT 1", "Z I"]
        assert says(other, "select 1") == ["A c x", "C SELECT 1", "Z I"] or other.backlog == b""
        says(client, "listen c")
        cluster.primary.query("notify c, 'again'", database=database)
        assert client.read().brief == "A c again"


@pytest.mark.parametrize("how", [["begin", "unlisten c", "rollback"], ["begin", "unlisten *", "select 1/0", "commit"],
                                 ["select 1; unlisten c; select 1/0"], ["unlisten d"],
                                 ["begin", "savepoint s", "unlisten c", "rollback to s", "commit"]])
def test_it_does_not_end_by_what_was_rolled_back(cluster, proxy, database, how):
    with proxy.connect(database=database) as client:
        says(client, "listen c")
        for sql in how:
            says(client, sql)
        assert channels(proxy, database) == [1]
        cluster.primary.query("notify c, 'x'", database=database)
        assert client.read().brief == "A c x"


def test_a_channel_lives_as_long_as_somebody_hears_it(cluster, proxy, database):
    """They come and go at random; whoever listens hears all."""
    with proxy.connect(database=database) as sender, proxy.connect(database=database) as steady:
        says(steady, "listen d")
        for turn in range(40):
            clients = [proxy.connect(database=database) for _ in range(1 + turn % 3)]
            for client in clients:
                says(client, "listen c")
            if turn % 2:
                says(clients[0], "unlisten c")
                says(clients[0], "listen c")
            if turn % 5 == 1:
                clients.pop().drop()
            says(sender, f"notify c, '{turn}'")
            for client in clients:
                assert client.read().brief == f"A c {turn}"
                if turn % 2:
                    client.drop()
                else:
                    client.close()
        says(sender, "notify d, 'still'")
        assert steady.read().brief == "A d still"


def test_what_was_committed_before_listen_is_not_heard(proxy, database):
    with proxy.connect(database=database) as sender, proxy.connect(database=database) as steady:
        says(steady, "listen c")
        for turn in range(60):
            with proxy.connect(database=database) as client:
                says(sender, f"notify c, 'old {turn}'")
                assert says(client, "listen c") == ["C LISTEN", "Z I"]
                assert says(client, "select 1") == ["C SELECT 1", "Z I"]


# what still pins


@pytest.mark.parametrize("end, pinned", [("commit", ["LISTEN"]), ("rollback", [])])
def test_listen_in_a_block_pins(cluster, proxy, database, end, pinned):
    with proxy.connect(database=database) as client:
        says(client, "begin")
        assert says(client, "listen c") == ["C LISTEN", "Z T"]
        says(client, end)
        wait_until(lambda: pins(proxy) == pinned, "what is asked behind the transaction is known")
        cluster.primary.query("notify c, 'x'", database=database)
        if pinned:
            assert client.read().brief == "A c x"
            assert says(client, "listen d") == ["C LISTEN", "Z I"]
            assert channels(proxy, database) == []
            assert says(client, "notify d, 'own'") == ["C NOTIFY", "A d own", "Z I"]
        else:
            assert says(client, "select 1") == ["C SELECT 1", "Z I"]


def test_who_does_both_hears_everything_once(cluster, proxy, database):
    with proxy.connect(database=database) as client:
        says(client, "listen c")
        for sql in ("begin", "listen c", "listen d", "commit"):
            says(client, sql)
        assert pins(proxy) == ["LISTEN"]
        for turn in range(20):
            cluster.primary.query(f"notify c, '{turn}'; notify d, '{turn}'", database=database)
        heard = []
        while len(heard) < 40:
            heard += notified(client.read_until("A"))
        assert [h for h in heard if h[2] == "c"] == [f"A c {n}" for n in range(20)]
        assert [h for h in heard if h[2] == "d"] == [f"A d {n}" for n in range(20)]
        assert says(client, "unlisten *") == ["C UNLISTEN", "Z I"]
        cluster.primary.query("notify c; notify d", database=database)
        assert says(client, "select 1") == ["C SELECT 1", "Z I"]
        wait_until(lambda: not pins(proxy), "the pin has ended")


def test_who_is_pinned_for_another_reason_need_not_be_for_this(proxy, database):
    with proxy.connect(database=database) as client:
        client.query("create temp table x as select 5 as i")
        says(client, "listen c")
        assert pins(proxy) == ["TEMP"]
        assert channels(proxy, database) == [1]
        assert says(client, "notify c, 'own'") == ["C NOTIFY", "A c own", "Z I"]
        client.query("drop table x")
        wait_until(lambda: not pins(proxy), "the pin has ended")
        assert says(client, "notify c, 'own'") == ["C NOTIFY", "A c own", "Z I"]


def test_other_encodings_and_session_pools_have_their_own(cluster, pgweir, proxy, database):
    with proxy.connect(database=database, client_encoding="LATIN1") as client:
        says(client, "listen c")
        assert pins(proxy) == ["LISTEN"]
        cluster.primary.query("notify c, 'é'", database=database)
        assert client.read().body[4:] == b"c\0\xe9\0"
    whole = pgweir(settings={"shared_listen": 1, "pool_mode": "session"})
    with whole.connect(database=database) as client:
        says(client, "listen c")
        assert channels(whole, database) == []
        assert client.value("select pg_listening_channels()") == "c"


def test_where_it_is_off_or_not_to_be_had_it_pins(cluster, pgweir, database):
    cluster.primary.query("do $$ begin create role watcher login in role pg_monitor; exception when duplicate_object then null; end $$")
    cluster.primary.query(f"revoke connect on database {database} from public")
    for settings in ({}, {"shared_listen": 1, "monitor_user": "watcher"}):
        proxy = pgweir(settings={**settings, "workers": 1})
        with proxy.connect(database=database) as client:
            for channel in ("c", "d"):
                assert says(client, f"listen {channel}") == ["C LISTEN", "Z I"]
                assert pins(proxy) == ["LISTEN"]
                assert says(client, f"notify {channel}, 'x'") == ["C NOTIFY", f"A {channel} x", "Z I"]


def test_switched_off_it_goes_on_for_who_listens(proxy, database):
    with proxy.connect(database=database) as client, proxy.connect(database=database) as other:
        says(client, "listen c")
        proxy.reload(shared_listen=0)
        says(client, "listen d")
        assert channels(proxy, database) == [2]
        says(other, "listen c")
        assert pins(proxy) == ["LISTEN"]
        assert says(client, "notify c, 'x'") == ["C NOTIFY", "A c x", "Z I"]


# what is read behind a notification


def test_rule_b2_a_shared_notification_is_not_ahead_of_its_data(new_cluster, pgweir):
    """The writer is not a client of this proxy, and the level is that of the session: only what it has heard counts."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, settings={"shared_listen": 1, "consistency": "session"}).wait_for_replicas(database)
    sql = "select n from counters where id = 2"
    with proxy.connect(database=database) as listener, cluster.primary.connect(database=database) as writer:
        says(listener, "listen changed")
        mark = cluster.mark()
        wait_until(lambda: listener.value(sql) == "0" and "standby1" in cluster.where(sql, mark), "the client reads on the standby")
        cluster.standby.pause_replay()
        writer.query("begin; update counters set n = 9 where id = 2; notify changed; commit")
        assert listener.read_until("A")[-1].brief == "A changed"
        assert listener.value(sql) == "9"
    cluster.standby.resume_replay()


# losses and bounds


def ends_with(client, sqlstate):
    rest = client.read_to_end()
    return [m.brief for m in rest][-1:] == [f"E {sqlstate}"]


@pytest.mark.parametrize("how", ["restart", "terminate"])
def test_rule_g2_a_loss_is_told_by_the_end_of_the_session(new_cluster, pgweir, how):
    cluster = new_cluster(standbys=0)
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, settings={"shared_listen": 1, "default_pool_size": 2})
    with proxy.connect(database=database) as idle, proxy.connect(database=database) as open_, proxy.connect(database=database) as other:
        says(idle, "listen c")
        says(open_, "listen c")
        says(open_, "begin")
        assert other.value("select 1") == "1"
        if how == "restart":
            cluster.primary.restart()
        else:
            for pid in listening_backends(cluster, database):
                cluster.primary.query(f"select pg_terminate_backend({pid})")
        assert ends_with(idle, "57P01")
        assert ends_with(open_, "57P01")
        assert other.value("select 1") == "1"
        with proxy.connect(database=database) as client:
            says(client, "listen c")
            assert says(client, "notify c, 'x'") == ["C NOTIFY", "A c x", "Z I"]


@pytest.mark.parametrize("old_one", ["has ended", "goes on"])
def test_a_promotion_ends_the_listeners(new_cluster, pgweir, old_one):
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, settings={"shared_listen": 1})
    with proxy.connect(database=database) as client:
        says(client, "listen c")
        if old_one == "has ended":
            cluster.primary.stop("immediate")
        cluster.standby.promote()
        assert ends_with(client, "57P01")
    with proxy.connect(database=database) as client:
        says(client, "listen c")
        assert says(client, "notify c, 'x'") == ["C NOTIFY", "A c x", "Z I"]


def test_who_does_not_come_to_an_end_is_ended(cluster, proxy, database):
    """Of what waits for the end of a transaction, four megabytes are kept."""
    with proxy.connect(database=database) as client, proxy.connect(database=database) as other:
        says(client, "listen c")
        says(other, "listen c")
        says(client, "begin; select 1")
        cluster.primary.query("select pg_notify('c', n || repeat('x', 7900)) from generate_series(1, 700) n", database=database)
        assert ends_with(client, "53200")
        assert [number_of(other.read()) for _ in range(700)] == list(range(1, 701))


def test_who_reads_slowly_hears_everything(cluster, proxy, database):
    """More than the sockets take: what is left goes out when they have room again, without a word of the client's."""
    with proxy.connect(database=database) as client, proxy.connect(database=database) as other:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        says(client, "listen c")
        says(other, "listen c")
        for _ in range(9):
            cluster.primary.query("select pg_notify('c', n || repeat('x', 7900)) from generate_series(1, 100) n", database=database)
        expected = [n for _ in range(9) for n in range(1, 101)]
        assert [number_of(other.read()) for _ in expected] == expected
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        assert [number_of(client.read()) for _ in expected] == expected


def number_of(message):
    return int(message.body[6:].split(b"x")[0])


def test_a_client_that_vanishes_in_its_wait(proxy, database):
    """In its LISTEN, in a statement, in front of its ReadyForQuery; the pool is as before."""
    for turn in range(60):
        client = proxy.connect(database=database)
        says(client, "listen c")
        client.send(*[query("notify c, 'x'"), query("listen d"), query("insert into t values (1, 'x')")][turn % 3:])
        if turn % 2:
            client.drop()
        else:
            client.reset()
    with proxy.connect(database=database) as client, proxy.connect(database=database) as other:
        wait_until(lambda: channels(proxy, database) == [], "they have gone")
        assert client.value("select 1") == other.value("select 1") == "1"
        says(client, "listen d")
        assert says(other, "notify d, 'y'") == ["C NOTIFY", "Z I"]
        assert client.read().brief == "A d y"


# drivers


async def test_asyncpg_hears(proxy, database):
    heard = asyncio.Queue()

    def hears(_, *what):
        heard.put_nowait(what)

    made = await asyncpg.connect(proxy.url(database), ssl=False)
    try:
        await made.add_listener("news", hears)
        own = made.get_server_pid()
        await made.execute("notify news, 'own'")
        assert await heard.get() == (own, "news", "own")
        async with made.transaction():
            await made.execute("select pg_notify('news', 'inside')")
        assert await heard.get() == (own, "news", "inside")
        assert pins(proxy) == []
        await made.remove_listener("news", hears)
        await made.execute("notify news, 'nobody'")
        assert heard.empty()
    finally:
        await made.close()


async def test_an_asyncpg_pool_resets_what_it_hears(proxy, database):
    async with asyncpg.create_pool(proxy.url(database), ssl=False, min_size=1, max_size=1) as pool:
        async with pool.acquire() as made:
            await made.execute("listen news")
            assert channels(proxy, database) == [1]
        assert await pool.fetchval("select 1") == 1
        assert channels(proxy, database) == []


def test_psycopg_hears(proxy, database):
    with psycopg.connect(proxy.url(database), autocommit=True) as listener, psycopg.connect(proxy.url(database), autocommit=True) as sender:
        listener.execute("listen news")
        for number in range(3):
            sender.execute(f"notify news, '{number}'")
        told = []
        for notify in listener.notifies():
            told.append((notify.channel, notify.payload))
            if len(told) == 3:
                break
        assert told == [("news", str(n)) for n in range(3)]
        assert pins(proxy) == []


# threads


@pytest.mark.threads
def test_listeners_of_all_workers_hear_all(pgweir, database):
    proxy = pgweir(settings={"shared_listen": 1, "workers": 2, "default_pool_size": 3})
    failures = []

    def listen(number):
        try:
            with proxy.connect(database=database) as client:
                says(client, "listen c")
                ready.wait()
                heard = []
                while sum(h.endswith("end") for h in heard) < 3:
                    heard += notified_in(client, f"notify own{number}" if number % 2 else "select 1") if number < 4 else [client.read().brief]
                for sender in range(3):
                    mine = [h for h in heard if h.startswith(f"A c {sender}:")]
                    assert mine == [f"A c {sender}:{n}" for n in range(60)] + [f"A c {sender}:end"]
        except (AssertionError, Closed, OSError) as failure:
            failures.append(failure)

    def send(number):
        with proxy.connect(database=database) as client:
            ready.wait()
            for n in [*range(60), "end"]:
                client.query(f"notify c, '{number}:{n}'")

    def come_and_go():
        ready.wait()
        for turn in range(60):
            client = proxy.connect(database=database)
            says(client, f"listen c{turn % 3}")
            client.drop()

    ready = threading.Barrier(8 + 3 + 1)
    threads = [threading.Thread(target=listen, args=(n,)) for n in range(8)]
    threads += [threading.Thread(target=send, args=(n,)) for n in range(3)] + [threading.Thread(target=come_and_go)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
