"""What a session is made of, and how it ends, beside a private connection to the primary: the same messages in the same
order, and nothing that is left behind when a client vanishes or an administrator ends its backend."""
import os
import struct
import subprocess
import threading

import pytest
from harness.postgres import find_programs
from harness.system import wait_until
from harness.wire import (Closed, Connection, bind, close, copy_data, copy_done, copy_fail, describe, execute, extended, flush,
                          function_call, parse, query, startup, sync)

SCHEMA = """
create table t(i int primary key, note text);
create table numbers as select g as i from generate_series(1, 20) g;
"""


@pytest.fixture
def narrow(pgweir, database):
    """One backend on each server: whatever one client leaves in it, the next one meets."""
    return pgweir(settings={"default_pool_size": 1, "workers": 1}).wait_for_replicas(database)


# --- the same as a private connection ---


def told(client, *parts):
    """What one cycle brings, in a few letters."""
    client.send(*parts)
    return client.brief_until_ready()


def asked(client, *statements):
    return [told(client, query(sql)) for sql in statements]


def cursors(client):
    return asked(client, "declare c cursor for select i from numbers", "begin", "declare c scroll cursor for select i from numbers",
                 "fetch 2 from c", "move 3 in c", "fetch backward 2 from c", "fetch absolute 20 from c", "fetch c",
                 "declare d no scroll cursor for table numbers", "fetch prior from d", "fetch c", "rollback", "fetch c",
                 "begin", "savepoint s", "declare e cursor for table numbers", "fetch e", "rollback to s", "fetch e", "rollback")


def held_cursors(client):
    return asked(client, "begin", "declare h cursor with hold for select i from numbers order by i", "fetch h", "commit", "fetch 2 from h",
                 "begin", "fetch h", "rollback", "fetch h", "close h", "fetch h")


def portals(client):
    sql = "select i from numbers order by i"
    return [told(client, query("begin")),
            told(client, parse("s", sql), bind("p", "s"), describe("P", "p"), execute("p", 3), sync()),
            told(client, bind("q", "s"), execute("q", 1), execute("q", 1), sync()),
            told(client, execute("p", 2), describe("P", "p"), sync()),
            told(client, query("fetch 2 from p")),
            told(client, bind("p", "s"), sync()),
            told(client, query("rollback")),
            told(client, execute("p"), sync()),
            told(client, query("begin")),
            told(client, bind("p", "s"), execute("p", 18), sync()),
            told(client, execute("p", 0), sync()),
            told(client, execute("p", 0), sync()),
            told(client, close("P", "p"), close("P", "p"), sync()),
            told(client, query("commit")),
            told(client, bind("p", "s"), execute("p", 1), execute("p", 1), sync()),
            told(client, execute("p", 1), sync())]


def portals_of_writes(client):
    return [told(client, query("begin")),
            told(client, parse("w", "insert into t select i from numbers returning i"), bind("p", "w"), execute("p", 2), sync()),
            told(client, query("select count(*) from t")),
            told(client, execute("p", 1), sync()),
            told(client, query("rollback")),
            told(client, query("select count(*) from t"))]


def declared_portals(client):
    return [told(client, query("begin")),
            told(client, query("declare c cursor for select i as number, 'x'::text as letter from numbers order by i")),
            told(client, describe("P", "c"), sync()),
            told(client, execute("c", 2), sync()),
            told(client, describe("P", "c"), execute("c", 1), sync()),
            told(client, query("fetch c")),
            told(client, close("P", "c"), sync()),
            told(client, query("fetch c")),
            told(client, query("rollback")),
            told(client, describe("P", "c"), sync()),
            [client.send(query("begin"), query("declare c cursor for table numbers"), describe("P", "c"), sync(), query("rollback")),
             *[client.brief_until_ready() for _ in range(4)]][1:]]


LO_CREAT, LO_OPEN, LO_CLOSE, LO_READ, LO_WRITE, LO_LSEEK, LO_TELL, LO_UNLINK = 957, 952, 953, 954, 955, 956, 958, 964


def large_objects_by_function_call(client):
    """As libpq does it: the numbers of these functions never change."""

    def call(oid, *values):
        client.send(function_call(oid, values, [1], 1))
        got = client.read_until_ready()
        found = [m for m in got if m.type == "V"]
        answers.append(["V" if m.type == "V" else m.brief for m in got])
        return found[0].body[4:] if found else None

    answers = []

    def number(n):
        return struct.pack("!i", n)

    client.query("begin")
    name = call(LO_CREAT, number(0x60000))
    handle = call(LO_OPEN, name, number(0x60000))
    answers += [call(LO_WRITE, handle, b"written \0 by function call"), call(LO_LSEEK, handle, number(0), number(0)),
                call(LO_READ, handle, number(7)), call(LO_TELL, handle)]
    client.query("commit")
    call(LO_READ, handle, number(7))
    client.query("begin")
    handle = call(LO_OPEN, name, number(0x40000))
    answers += [call(LO_READ, handle, number(100)), call(LO_CLOSE, handle), call(LO_UNLINK, name)]
    client.query("commit")
    call(LO_UNLINK, name)
    return answers


def large_objects_by_sql(client):
    return asked(client, "select lo_create(4711)", "begin", "select lo_open(4711, 393216)", "select lowrite(0, 'hello')",
                 "select lo_lseek(0, 1, 0)", "select loread(0, 3)", "select lo_tell(0)", "select lo_truncate(0, 2)", "select lo_close(0)",
                 "select lo_close(0)", "rollback", "select lo_get(4711)", "select lo_put(4711, 0, 'all')", "select lo_get(4711)",
                 "begin", "select lo_open(4711, 262144)", "savepoint s", "select lo_open(4711, 262144)", "rollback to s",
                 "select loread(1, 1)", "rollback", "select lo_unlink(4711)", "select lo_get(4711)")


def copies_in_a_transaction(client):
    answers = [told(client, query("begin"))]
    client.send(query("copy t from stdin"))
    answers.append(client.read_until("G", "E")[-1].type)
    answers.append(told(client, copy_data("1\tone\n2\ttwo\n"), copy_done()))
    answers.append(told(client, query("copy t to stdout")))
    answers.append(told(client, query("savepoint s")))
    answers.append(told(client, query("copy t from stdin"), copy_data("3\tthree\n1\tagain\n"), copy_done()))
    answers.append(told(client, query("copy t to stdout")))
    answers.append(told(client, query("rollback to s")))
    answers.append(told(client, query("copy t from stdin"), copy_data("3\tthree\n"), copy_fail("enough")))
    answers.append(told(client, query("rollback to s")))
    answers.append(told(client, query("copy (select 1/(i - 3) from numbers) to stdout")))
    answers.append(told(client, query("rollback to s")))
    answers.append(told(client, extended("copy t to stdout"), sync()))
    answers.append(told(client, query("rollback")))
    answers.append(told(client, query("select count(*) from t")))
    return answers


def copies_ahead(client):
    """COPY data in the same write as what asks for it, before the server has said that it reads any."""
    copy = parse("", "copy t from stdin") + bind() + execute()
    rows = copy_data("1\tone\n") + copy_data("2\ttwo\n" + "".join(f"{n}\tmore\n" for n in range(3, 9000)))
    answers = []
    for start in (copy, copy + flush()):
        for tail in (copy_done(), copy_fail("enough"), copy_data("1\tone\n") + copy_done(), copy_data("x\n") + copy_done() + rows):
            answers.append(told(client, start, rows, tail, sync()))
            answers.append(asked(client, "select count(*), sum(i) from t", "delete from t"))
    answers.append(told(client, extended("select 1"), rows, copy_done(), extended("select 2"), sync()))
    answers.append(told(client, copy, rows, copy_done(), copy, copy_data("9001\tlast\n"), copy_done(), extended("delete from t"), sync()))
    answers.append(told(client, parse("", "copy nothing from stdin"), bind(), execute(), rows, copy_done(), sync()))
    return answers


def errors_in_pipelines(client):
    good, bad = extended("insert into t values (1)"), extended("select 1/0")
    return [told(client, good, bad, good, sync()),
            told(client, query("select count(*) from t")),
            told(client, good, flush(), bad, flush(), good, flush(), sync()),
            told(client, parse("x", "select nonsense"), bind("", "x"), execute(), parse("x", "select 1"), sync()),
            told(client, bind("", "x"), execute(), sync()),
            told(client, extended("begin"), good, sync()),
            told(client, bad, good, sync()),
            told(client, extended("select 2"), sync()),
            told(client, extended("rollback"), extended("select 3"), sync()),
            told(client, bind("nowhere", "missing"), good, query("select 1"), sync()),
            [client.send(bad, sync(), query("select 4"), good, sync(), query("select 1/0; select 5"), good, sync()),
             *[client.brief_until_ready() for _ in range(5)]][1:],
            told(client, close("S", "x"), describe("S", "x"), close("S", "y"), sync()),
            told(client, query("delete from t"))]


def savepoints_and_errors(client):
    return asked(client, "begin", "savepoint a", "insert into t values (1)", "savepoint b", "insert into t values (1)", "select 1",
                 "savepoint c", "rollback to b", "table t", "release a", "rollback to b", "rollback and chain", "table t",
                 "insert into t values (2); savepoint z; insert into t values (2)", "commit and chain", "table t", "commit", "table t",
                 "commit", "rollback", "savepoint s")


PROGRAMS = [cursors, held_cursors, portals, portals_of_writes, declared_portals, large_objects_by_function_call, large_objects_by_sql,
            copies_in_a_transaction, copies_ahead,
            errors_in_pipelines, savepoints_and_errors]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_session_answers_like_a_private_connection(cluster, narrow, database, program):
    """Three times: what is first done may be different from what is done again; and with others in between."""
    with cluster.primary.connect(database=database) as private, narrow.connect(database=database) as client, \
         narrow.connect(database=database) as other:
        for _ in range(3):
            assert program(client) == program(private)
            assert other.query("select count(*) from t; select count(*) from pg_cursors").rows == [("0",), ("0",)]


# --- COPY that fails while its client still sends ---


def send_copy(client, start, size, wrong_at):
    """COPY data of that many bytes, one of whose lines is no number; a thread of its own, since nobody may read meanwhile."""
    line, chunk = b"7\tseven\n", 1 << 16
    block = copy_data(line * (chunk // len(line)))

    def send():
        client.send(start)
        for at in range(0, size, chunk):
            client.send(block if at != wrong_at else copy_data(b"wrong\n"))
        client.send(copy_done(), sync())

    sender = threading.Thread(target=send)
    sender.start()
    return sender


@pytest.mark.timeout(900)
@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("size, begin", [(1 << 17, False), (1 << 17, True), (100 << 20, True)], ids=["small", "in a transaction", "100 MB"])
def test_copy_fails_while_its_client_still_sends(cluster, narrow, database, protocol, size, begin):
    """What is under way is dropped up to its end, on both sides, and nothing of it is taken for a request."""
    def talk(end):
        with end.connect(database=database) as client:
            if begin:
                client.query("begin")
            start = query("copy nums from stdin") if protocol == "simple" else parse("", "copy nums from stdin") + bind() + execute()
            sender = send_copy(client, start, size, 1 << 16)
            answers = [client.brief_until_ready()]
            sender.join()
            if protocol == "simple":
                answers.append(client.brief_until_ready())  # of the Sync
            answers += asked(client, "select 1", "rollback", "select count(*) from nums")
            return answers

    cluster.primary.query("create table nums(i int, note text)", database=database)
    assert talk(narrow) == talk(cluster.primary)


# --- snapshots, and transactions in two phases ---


def test_rule_c6_a_snapshot_is_imported_where_it_was_exported(cluster, pgweir, database):
    """By other clients, over as many connections as there are, while others write."""
    proxy = pgweir(settings={"default_pool_size": 5}).wait_for_replicas(database)
    with proxy.connect(database=database) as one, proxy.connect(database=database) as writer:
        one.query("begin isolation level repeatable read read only")
        snapshot = one.value("select pg_export_snapshot()")
        writer.query("insert into t values (1)")
        for mode in ("repeatable read", "repeatable read read only"):
            with proxy.connect(database=database) as two:
                two.query(f"begin isolation level {mode}")
                two.query(f"set transaction snapshot '{snapshot}'")
                assert two.value("select count(*) from t") == "0"
                two.query("commit")
                assert two.value("select count(*) from t") == "1"
        one.query("commit")
        assert one.query("begin isolation level repeatable read").tags == ["BEGIN"]
        assert one.query(f"set transaction snapshot '{snapshot}'", check=False).sqlstate in ("22023", "42704")
        one.query("rollback")


def test_a_parallel_dump_is_of_one_moment(cluster, pgweir, database, workspace):
    """pg_dump -j: each of its sessions imports the snapshot of the first."""
    proxy = pgweir(settings={"default_pool_size": 5}).wait_for_replicas(database)
    stop, writes = threading.Event(), [0]

    def write():
        with cluster.primary.connect(database=database) as client:
            while not stop.is_set():
                client.query("begin; insert into left_side values (1); insert into right_side values (1); commit")
                writes[0] += 1

    cluster.primary.query("create table left_side(i int); create table right_side(i int)", database=database)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: writes[0] > 20, "somebody writes")
        folder = workspace.folder("dump") / "out"
        pg_dump = find_programs() / "pg_dump"
        subprocess.run([pg_dump, "-Fd", "-j", "3", "-f", folder, proxy.dsn(database)], check=True, timeout=120)
    finally:
        stop.set()
        writer.join()
    listing = subprocess.run([find_programs() / "pg_restore", "-f", "-", folder], check=True, capture_output=True, text=True, timeout=120)
    lines = listing.stdout.splitlines()
    counts = []
    for table in ("left_side", "right_side"):
        at = lines.index(f"COPY public.{table} (i) FROM stdin;")
        counts.append(lines.index("\\.", at) - at)
    assert counts[0] == counts[1] > 20


def prepared(cluster, database):
    return [row[0] for row in cluster.primary.query(f"select gid from pg_prepared_xacts where database = '{database}'", database=database)]


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("gone", [False, True], ids=["while its client stays", "when its client has gone"])
def test_a_prepared_transaction_is_ended_by_others(cluster, narrow, database, end, gone):
    name = f"{database}_{end}_{gone}"
    client = narrow.connect(database=database)
    client.query("begin")
    client.query("set local work_mem = '7MB'")
    client.query("insert into t values (1)")
    assert client.query(f"prepare transaction '{name}'").tags == ["PREPARE TRANSACTION"]
    if gone:
        client.reset()
    else:
        assert client.value("show work_mem") != "7MB"
        assert client.value("select count(*) from t") == "0"
    try:
        assert prepared(cluster, database) == [name]
        with narrow.connect(database=database) as other:
            assert other.value("select count(*) from t") == "0"
            assert other.query(f"{end} prepared '{name}'").tags == [f"{end.upper()} PREPARED"]
            assert other.query(f"{end} prepared '{name}'", check=False).sqlstate == "42704"
            assert other.value("select count(*) from t") == ("1" if end == "commit" else "0")
        if not gone:
            assert client.value("select count(*) from t") == ("1" if end == "commit" else "0")
    finally:
        client.drop()
        for left in prepared(cluster, database):
            cluster.primary.query(f"rollback prepared '{left}'", database=database)


def test_what_cannot_be_prepared_is_the_servers_to_say(cluster, narrow, database):
    def talk(client):
        return asked(client, "prepare transaction 'x'", "begin", "delete from t", "select 1/0", "prepare transaction 'x'", "select 1", "begin",
                     "create temp table x(i int)", "prepare transaction 'x'", "select 1", "begin", "listen c", "prepare transaction 'x'",
                     "commit prepared 'nothing'", "begin", "commit prepared 'nothing'", "rollback", "discard all")

    with cluster.primary.connect(database=database) as private, narrow.connect(database=database) as client:
        assert talk(client) == talk(private)


# --- a client that vanishes ---


def in_a_query(client, cluster, database):
    client.send(query("insert into t values (1); select pg_advisory_xact_lock(5), pg_sleep(600)"))
    busy(cluster, database)


def in_an_extended_query(client, cluster, database):
    client.send(extended("insert into t values (1)"), extended("select pg_advisory_xact_lock(5), pg_sleep(600)"), sync())
    busy(cluster, database)


def in_a_transaction(client, _, __):
    client.query("begin")
    client.query("insert into t values (1)")
    client.query("select pg_advisory_xact_lock(5)")


def in_a_failed_transaction(client, cluster, database):
    in_a_transaction(client, cluster, database)
    client.query("savepoint s")
    client.query("select 1/0", check=False)


def behind_a_deferred_begin(client, _, __):
    client.query("begin")


def in_the_middle_of_a_message(client, cluster, database):
    in_a_transaction(client, cluster, database)
    client.send(query("insert into t values (2)")[:-9])


def in_the_middle_of_a_large_message(client, cluster, database):
    in_a_transaction(client, cluster, database)
    client.send(query("insert into t values (2) /* " + "x" * 300000 + " */")[:200000])


def in_the_middle_of_a_large_message_outside(client, cluster, database):
    client.send(query("insert into t values (2) /* " + "x" * 300000 + " */")[:200000])
    wait_until(lambda: backends(cluster, database), "there is a backend")


def before_sync(client, _, __):
    client.send(extended("insert into t values (1)"), extended("select pg_advisory_xact_lock(5)"), flush())
    client.read_until("C")
    client.read_until("C")


def in_copy_in(client, cluster, database):
    in_a_transaction(client, cluster, database)
    client.send(query("copy t from stdin"), copy_data("2\ttwo\n"))
    client.read_until("G")


def in_copy_in_alone(client, _, __):
    client.send(query("copy t from stdin"), copy_data("2\ttwo\n" * 1))
    client.read_until("G")


def in_the_middle_of_copy_data(client, _, __):
    client.send(query("copy t from stdin"), copy_data("2\ttwo\n")[:-4])
    client.read_until("G")


def in_the_middle_of_much_copy_data(client, _, __):
    client.send(query("copy t from stdin"))
    client.read_until("G")
    client.send(copy_data("2\t" + "x" * 300000)[:-4])


def in_copy_in_extended(client, _, __):
    client.send(parse("", "copy t from stdin"), bind(), execute(), sync())
    client.read_until("G")
    client.send(copy_data("2\ttwo\n"))


def in_copy_out(client, _, __):
    client.send(query("begin; insert into t values (1); select pg_advisory_xact_lock(5); "
                      "copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout"))
    client.read_until("d")


def in_rows(client, _, __):
    client.send(query("begin; insert into t values (1); select repeat('x', 1000) from generate_series(1, 1000000)"))
    client.read_until("D")


def with_a_suspended_portal(client, cluster, database):
    in_a_transaction(client, cluster, database)
    told(client, parse("s", "table numbers"), bind("p", "s"), execute("p", 2), sync())


def with_a_large_object_open(client, cluster, database):
    in_a_transaction(client, cluster, database)
    client.query("select lo_open(lo_create(0), 393216)")


def pinned(client, _, __):
    client.query("select pg_advisory_lock(5)")
    client.query("create temp table x as select 1")


def pinned_in_a_transaction(client, cluster, database):
    pinned(client, cluster, database)
    in_a_transaction(client, cluster, database)


def pinned_in_a_query(client, cluster, database):
    pinned(client, cluster, database)
    in_a_query(client, cluster, database)


POINTS = [in_a_query, in_an_extended_query, in_a_transaction, in_a_failed_transaction, behind_a_deferred_begin, in_the_middle_of_a_message,
          in_the_middle_of_a_large_message, in_the_middle_of_a_large_message_outside, before_sync, in_copy_in, in_copy_in_alone,
          in_the_middle_of_copy_data, in_the_middle_of_much_copy_data, in_copy_in_extended, in_copy_out, in_rows, with_a_suspended_portal,
          with_a_large_object_open, pinned, pinned_in_a_transaction, pinned_in_a_query]


def backends(cluster, database):
    return cluster.primary.query("select pid, state, application_name from pg_stat_activity where backend_type = 'client backend' "
                                 f"and datname = '{database}' and application_name = 'life'")


def busy(cluster, database):
    wait_until(lambda: [row for row in backends(cluster, database) if row[1] == "active"], "the statement runs")


def locks(cluster, database):
    return cluster.primary.query("select pid, locktype, mode from pg_locks l join pg_database d on d.oid = l.database and "
                                 f"d.datname = '{database}' where pid <> pg_backend_pid() and locktype in ('advisory', 'relation')")


def nothing_is_left(cluster, proxy, database):
    wait_until(lambda: not locks(cluster, database), "its locks are gone")
    wait_until(lambda: all(row[1] in ("idle", None) for row in backends(cluster, database)), "its backend is idle or gone")
    with proxy.connect(database=database, application_name="life") as other:
        assert other.query("select count(*) from t").rows == [("0",)]
        assert other.query("/* pgweir: route=primary */ select count(*) from t").rows == [("0",)]
        assert other.query("insert into t values (1); select count(*) from t; select pg_advisory_lock(5); delete from t").tags[0] == "INSERT 0 1"
        assert other.query("select count(*) from pg_largeobject_metadata").rows == [("0",)]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.__name__)
def test_a_client_that_vanishes_leaves_nothing(cluster, narrow, database, point):
    for how in ("reset", "drop"):
        gone = narrow.connect(database=database, application_name="life")
        point(gone, cluster, database)
        getattr(gone, how)()
        nothing_is_left(cluster, narrow, database)


@pytest.mark.parametrize("how", ["reset", "drop"])
def test_a_client_that_vanishes_in_the_queue_runs_nothing(cluster, narrow, database, how):
    with narrow.connect(database=database) as other:
        other.query("begin")
        other.query("insert into t values (7)")
        gone = narrow.connect(database=database, application_name="life")
        gone.send(query("insert into t values (8)"))
        wait_until(lambda: [r for r in narrow.admin("show clients") if r["state"] == "waiting"], "it waits")
        getattr(gone, how)()
        wait_until(lambda: not [r for r in narrow.admin("show clients") if r["state"] == "waiting"], "it waits no more")
        other.query("rollback")
    nothing_is_left(cluster, narrow, database)


LOGINS = [b"", b"\0", startup({"user": "postgres", "database": "x"})[:20], b"\0\0\0\x08\x04\xd2\x16\x2f",
          startup({"user": "scram_user", "database": "postgres"}), startup({"user": "postgres", "database": "postgres"})]


@pytest.mark.parametrize("how", ["reset", "drop"])
def test_a_client_that_vanishes_during_login_is_forgotten(narrow, database, how):
    """Having said nothing, half a packet, SSLRequest; before its password; before it reads."""
    for sent in LOGINS * 3:
        gone = Connection(narrow.port)
        gone.send(sent)
        getattr(gone, how)()
    wait_until(lambda: narrow.client_count() == 0, "nobody is connected")
    assert narrow.value("select 1", database) == "1"


def test_a_client_that_vanishes_while_its_greeting_waits_is_forgotten(cluster, pgweir, database):
    """Nobody knows the parameters yet, and the only backend is busy."""
    proxy = pgweir(settings={"default_pool_size": 1, "workers": 1})
    with proxy.connect(database=database) as other:
        other.query("begin")
        other.query("insert into t values (7)")
        gone = Connection(proxy.port)
        gone.send(startup({"user": "postgres", "database": database, "DateStyle": "German", "application_name": "life"}))
        wait_until(lambda: len(proxy.admin("show clients")) >= 2, "it waits")
        gone.reset()
        wait_until(lambda: len(proxy.admin("show clients")) <= 2, "it waits no more")
        other.query("rollback")
    nothing_is_left(cluster, proxy, database)


# --- a backend that an administrator ends ---


def terminate(cluster, database):
    found = backends(cluster, database)
    assert len(found) == 1
    cluster.primary.query(f"select pg_terminate_backend({found[0][0]})")
    wait_until(lambda: not [row for row in backends(cluster, database) if row[0] == found[0][0]], "it has ended")


def after_the_end(client, *parts):
    """All that is said until the connection ends, or one good cycle."""
    answers = []
    try:
        client.send(*parts)
        while not answers or not answers[-1].startswith("Z"):
            answers.append(client.read().brief)
    except (Closed, ConnectionResetError, BrokenPipeError):
        answers.append("end")
    return [a for a in answers if a != "T" and not a.startswith("S ")]


@pytest.mark.parametrize("point", [in_a_transaction, in_a_failed_transaction, in_a_query, in_an_extended_query, in_copy_in, in_copy_in_alone,
                                   before_sync, with_a_suspended_portal, pinned, pinned_in_a_transaction, pinned_in_a_query],
                         ids=lambda point: point.__name__)
def test_a_session_whose_backend_an_administrator_ends(cluster, narrow, database, point):
    """It is told so in PostgreSQL's words, and ends; its work is undone."""
    def talk(end):
        client = end.connect(database=database, application_name="life")
        point(client, cluster, database)
        terminate(cluster, database)
        answers = after_the_end(client)
        client.drop()
        return answers

    private = talk(cluster.primary)
    assert private[-2:] == ["E 57P01", "end"]
    assert talk(narrow) == private
    nothing_is_left(cluster, narrow, database)


def test_a_client_without_state_does_not_notice_an_administrator(cluster, narrow, database):
    with narrow.connect(database=database, application_name="life") as client:
        for _ in range(3):
            client.query("insert into t values (9)")
            terminate(cluster, database)
            assert client.query("delete from t").tags == ["DELETE 1"]
    nothing_is_left(cluster, narrow, database)


# --- a server that does not read ---


def unsent(local, remote):
    """Bytes that the kernel holds for one end of a TCP connection of this machine."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table:
            words = line.split()
            if words[1].endswith(f":{local:04X}") and words[2].endswith(f":{remote:04X}"):
                return int(words[4].split(":")[0], 16)
    return 0


def test_no_megabytes_wait_in_front_of_a_busy_backend(cluster, pgweir, database):
    """A client that writes a long pipeline is stopped by the backend, not by what the proxy can swallow: it would read of an
    error in its middle when all of it is written (asyncpg's executemany() wants to stop early)."""
    proxy = pgweir(settings={"route": "primary", "workers": 1})
    with cluster.primary.connect(database=database) as locker:
        locker.query("select pg_advisory_lock(5)")
        client = proxy.connect(database=database, application_name="life")
        told(client, parse("w", "select pg_advisory_xact_lock(5)"), parse("s", "select length($1)"), sync())
        row = bind("", "s", ["x" * 32768]) + execute()
        done = threading.Event()

        def send():
            client.send(bind("", "w"), execute(), *[row] * 1000, sync())
            done.set()

        sender = threading.Thread(target=send)
        sender.start()
        busy(cluster, database)
        own = client.sock.getsockname()[1], proxy.port
        seen = []

        def stands_still():
            queues = [unsent(*own), *[unsent(port, cluster.primary.port) for port in proxy.server_ports()]]
            seen.append(queues)
            return queues[0] > 1 << 20 and len(seen) > 20 and all(q == queues for q in seen[-20:])

        wait_until(stands_still, "the client has been stopped")
        assert not done.is_set()
        assert max(seen[-1][1:]) < 1 << 20
        locker.query("select pg_advisory_unlock(5)")
        assert client.brief_until_ready().count("D 32768") == 1000
        sender.join()
        client.close()
