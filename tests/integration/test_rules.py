"""The rules of correctness, one test or more for each, named after it.  `make test-mutants` takes each rule out of the
program (PGWEIR_BREAK) and wants its tests to fail."""
import contextlib
import threading
import time

import pytest
from harness.network import Link
from harness.system import wait_until
from harness.wire import Closed, bind, describe, execute, extended, flush, parse, query, sync

SCHEMA = """
create table t(i int, note text);
create table accounts(id int primary key, balance int);
insert into accounts select g, 100 from generate_series(1, 10) g;
create unlogged table scratch(i int);
create function writes(int) returns int language sql volatile as 'insert into t values ($1) returning i';
create function noisy(int) returns int language plpgsql volatile as
    $$ begin raise notice 'heard once'; insert into t values ($1); return $1; end $$;
"""


@pytest.fixture
def proxy(pgweir, database):
    """Default settings, ready to use the standby for the test's database."""
    return pgweir().wait_for_replicas(database)


@pytest.fixture
def narrow(pgweir, database):
    """One backend on each server: whatever one client leaves in it, the next one meets."""
    return pgweir(settings={"default_pool_size": 1}).wait_for_replicas(database)


def rows(cluster, database, sql="select i from t order by i"):
    return [row[0] for row in cluster.primary.query(sql, database=database)]


# --- A: writes are not lost, doubled or misplaced ---


@pytest.mark.parametrize("protocol", ["query", "extended"])
def test_rule_a1_a_failed_prelude_stops_the_statement(cluster, narrow, database, protocol):
    """The role that a client started with is gone: its INSERT must not run as somebody else."""
    cluster.primary.query("drop role if exists short_lived; create role short_lived; grant short_lived to postgres")
    with narrow.connect(database=database, options="-c role=short_lived") as client, narrow.connect(database=database) as other:
        assert client.value("select current_user") == "short_lived"
        other.query("insert into t values (1)")
        cluster.primary.query("drop role short_lived")
        with contextlib.suppress(Closed):
            assert getattr(client, protocol)("insert into t values (2)", check=False).errors
    assert rows(cluster, database) == ["1"]


def test_rule_a1_a_cancelled_begin_takes_its_statement_along(cluster, narrow, database):
    """Cancels that hit the deferred BEGIN must not leave the INSERT behind it alone, committed."""
    stop = threading.Event()
    with narrow.connect(database=database) as client:

        def cancel():
            while not stop.is_set():
                client.cancel()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            for n in range(150):
                client.query("begin", check=False)
                client.query(f"insert into t values ({n})", check=False)
                client.query("rollback", check=False)
        finally:
            stop.set()
            canceller.join()
    assert rows(cluster, database) == []


def test_rule_a2_preludes_leave_the_unnamed_statement_alone(narrow, database):
    """Two clients with different settings take turns on one backend, between a Parse and its Bind."""
    with narrow.connect(database=database, TimeZone="Asia/Tokyo") as one, \
            narrow.connect(database=database, TimeZone="America/Lima") as two:
        for client, number in ((one, 42), (two, 43)):
            client.send(parse("", f"insert into t values ({number}) returning i"), describe("S"), sync())
            assert client.brief_until_ready() == ["1", "t", "T", "Z I"]
        for client, number, zone in ((one, 42, "Asia/Tokyo"), (two, 43, "America/Lima"), (one, 42, "Asia/Tokyo")):
            client.send(bind(), execute(), sync())
            assert client.brief_until_ready() == ["2", f"D {number}", "C INSERT 0 1", "Z I"]
            client.send(extended("select current_setting('TimeZone')"), sync())
            assert f"D {zone}" in client.brief_until_ready()
            client.send(parse("", f"insert into t values ({number}) returning i"), sync())
            assert client.brief_until_ready() == ["1", "Z I"]


def test_rule_a2_a_deferred_begin_leaves_the_unnamed_statement_alone(narrow, database):
    """A named BEGIN between a Parse of the unnamed statement and its Bind: it is sent right in front of that Bind."""
    with narrow.connect(database=database) as client:
        client.send(parse("", "insert into t values (42) returning i"), parse("b", "begin"), sync())
        assert client.brief_until_ready() == ["1", "1", "Z I"]
        client.send(bind("p", "b"), execute("p"), sync())
        assert client.brief_until_ready() == ["2", "C BEGIN", "Z T"]
        client.send(bind(), execute(), sync())
        assert client.brief_until_ready() == ["2", "D 42", "C INSERT 0 1", "Z T"]


def test_rule_a3_begin_in_a_pipeline_is_passed_on(cluster, proxy, database):
    """It absorbs the open implicit transaction, so ROLLBACK undoes the INSERT before it."""
    with proxy.connect(database=database) as client:
        client.send(extended("insert into t values (1)"), extended("begin"), sync())
        assert client.brief_until_ready()[-1] == "Z T"
        client.query("rollback")
    assert rows(cluster, database) == []


def test_rule_a5_an_answer_without_ready_is_no_acknowledgement(new_cluster, pgweir):
    """The connection is lost between CommandComplete and ReadyForQuery: the outcome is unknown, and nothing is repeated."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    with Link(cluster.primary.port) as link:
        proxy = pgweir(on=cluster, hosts=[link.port, cluster.standby.port])
        proxy.wait_for_replicas(database)
        cluster.primary.reload(synchronous_standby_names="nobody")
        client = proxy.connect(database=database)
        client.send(extended("insert into t values (1)"), flush())
        assert client.read_until("C")[-1].brief == "C INSERT 0 1"
        client.send(sync())
        wait_until(lambda: cluster.primary.value("select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == "1",
                   "the commit hangs")
        link.cut()
        assert "08007" in [m.fields["C"] for m in client.read_until("E", "Z") if m.type == "E"]
        client.drop()
        cluster.primary.reload(synchronous_standby_names="")
        assert rows(cluster, database) in (["1"], [])


def test_rule_a6_a_function_that_swallows_the_refusal_is_not_tried(cluster, proxy, database):
    """Marked stable, it hides a standby's 25006 from everybody: only its body can tell."""
    cluster.primary.query("""create function swallows() returns text language plpgsql stable as $$
        begin perform writes(1); return 'written'; exception when others then return 'swallowed'; end $$""", database=database)
    with proxy.connect(database=database) as client:
        proxy.wait_for_replicas(database)
        assert client.value("select swallows()") == "written"
    assert rows(cluster, database) == ["1"]


def test_rule_a7_effects_outside_the_database_are_never_tried_on_a_standby(cluster, proxy, database):
    """COPY TO PROGRAM succeeds on a standby; a wish for a replica does not vouch for it."""
    mark = cluster.mark()
    sql = "/* pgweir: route=replica */ copy (select 1) to program 'cat > /dev/null'"
    with proxy.connect(database=database) as client:
        assert client.query(sql).tags == ["COPY 1"]
    assert cluster.where(sql, mark) == ["primary"]


@pytest.mark.parametrize("call", ["writes", "noisy"])
def test_rule_a8_the_whole_segment_is_repeated_after_a_refusal(cluster, proxy, database, call):
    """A wish sends a writer to the standby, which refuses in the middle of a pipeline; notices do not come twice."""
    with proxy.connect(database=database) as client:
        client.send(extended("select 'before'"), extended(f"/* pgweir: route=replica */ select {call}(7)"),
                    extended("select 'after'"), sync())
        got = client.brief_until_ready()
    assert [brief for brief in got if brief.startswith("D")] == ["D before", "D 7", "D after"]
    assert [brief for brief in got if brief.startswith("N")] == (["N 00000"] if call == "noisy" else [])
    assert got[-1] == "Z I" and not any(brief.startswith("E") for brief in got)
    assert rows(cluster, database) == ["7"]


def test_rule_a8_a_simple_query_is_repeated_after_a_refusal(cluster, proxy, database):
    with proxy.connect(database=database) as client:
        client.send(query("/* pgweir: route=replica */ select writes(8)"))
        assert client.brief_until_ready() == ["T", "D 8", "C SELECT 1", "Z I"]
    assert rows(cluster, database) == ["8"]


# --- C: transactions that are deferred ---


def test_rule_c2_defaults_of_one_server_are_not_the_clients(new_cluster, pgweir):
    """A standby whose own configuration says serializable refuses every transaction block, if one lets it."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    cluster.standby.reload(default_transaction_isolation="serializable")
    proxy = pgweir(on=cluster).wait_for_replicas(database)
    with proxy.connect(database=database) as client:
        assert client.value("select count(*) from accounts") == "10"
        client.query("begin read only")
        assert client.value("select count(*) from accounts") == "10"
        assert client.value("show transaction_isolation") == "read committed"
        client.query("commit")


def test_rule_c3_what_makes_a_notice_or_an_error_is_the_servers(proxy, database):
    with proxy.connect(database=database) as client:
        for sql, expected in [("commit", ["N 25P01", "C COMMIT", "Z I"]), ("begin", ["C BEGIN", "Z T"]),
                              ("begin", ["N 25001", "C BEGIN", "Z T"]), (";", ["I", "Z T"]),
                              ("select * from nowhere", ["E 42P01", "Z E"]), (";", ["I", "Z E"]),
                              ("commit", ["C ROLLBACK", "Z I"]), ("start transaction", ["C START TRANSACTION", "Z T"]),
                              ("end", ["C COMMIT", "Z I"])]:
            client.send(query(sql))
            assert client.brief_until_ready() == expected, sql
        client.query("begin")
        client.query("select 1/0", check=False)
        client.send(parse("", "select 1"), sync())
        assert client.brief_until_ready() == ["E 25P02", "Z E"]


def test_rule_c5_a_repeatable_read_transaction_sees_one_snapshot(cluster, proxy, database):
    """Declared READ ONLY it may use the standby, but only if its first statement is proved; it never changes servers."""
    with proxy.connect(database=database) as client:
        client.query("begin isolation level repeatable read read only")
        assert client.value("select count(*) from scratch") == "0"
        assert client.value("select count(*) from accounts") == "10"
        client.query("commit")
        mark = cluster.mark()
        client.query("begin isolation level repeatable read")
        before = client.value("select sum(balance) from accounts")
        with proxy.connect(database=database) as other:
            other.query("update accounts set balance = balance + 1")
        assert client.value("select sum(balance) from accounts") == before
        client.query("commit")
        assert set(cluster.where("select sum(balance) from accounts", mark)) == {"primary"}


def test_rule_c6_snapshots_are_exported_and_imported_on_the_primary(cluster, proxy, database):
    with proxy.connect(database=database) as one, proxy.connect(database=database) as two:
        one.query("begin isolation level repeatable read read only")
        snapshot = one.value("select pg_export_snapshot()")
        two.query("begin isolation level repeatable read read only")
        two.query(f"set transaction snapshot '{snapshot}'")
        assert two.value("select count(*) from accounts") == "10"
        two.query("commit")
        one.query("commit")


def test_rule_c7_settings_survive_a_failed_first_statement(narrow, database):
    """The prelude's SET is rolled back with the segment that fails; the next one must have it again."""
    with narrow.connect(database=database, TimeZone="Asia/Tokyo") as client, narrow.connect(database=database) as other:
        for _ in range(3):
            other.query("select 1")
            other.query("insert into t values (1)")
            assert client.query("insert into t values (1/0)", check=False).sqlstate == "22012"
            assert client.value("/* pgweir: route=primary */ select current_setting('timezone')") == "Asia/Tokyo"


@pytest.mark.parametrize("protocol", ["query", "extended"])
@pytest.mark.parametrize("sql", ["vacuum accounts", "create index concurrently on accounts(balance)", "reindex table concurrently t"])
def test_rule_c7_statements_that_stand_alone_do_so(narrow, database, protocol, sql):
    """VACUUM and its like refuse to run in a pipeline, so a prelude before them has its own Sync."""
    with narrow.connect(database=database, TimeZone="Asia/Tokyo") as client, narrow.connect(database=database) as other:
        other.query("insert into t values (1)")
        assert getattr(client, protocol)(sql).tags


# --- E: session state ---


def test_rule_c8_a_session_follows_the_promotion(new_cluster, pgweir):
    """A standby is promoted while the old primary lives on: who holds a connection to that must not write there."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    old, new = cluster.primary, cluster.standby
    proxy = pgweir(on=cluster, settings={"pool_mode": "session"}).wait_for_replicas(database)
    with proxy.connect(database=database) as client:
        client.query("insert into t values (1)")
        cluster.settle()
        mark = proxy.mark()
        new.promote()
        proxy.wait_for_log(rf"{new.port} is primary", mark)
        client.query("insert into t values (2)")
    cluster.switch_primary(new)
    assert rows(cluster, database) == ["1", "2"]
    assert old.value("select count(*) from t", database=database) == "1"


def test_rule_d1_constants_are_read_by_their_own_clients_settings(narrow, database):
    """Two clients prepare the same text, whose date means two days, and take turns on one backend."""
    sql = "insert into t values (to_char('01/02/2024'::date, 'MM')::int) returning i"
    with narrow.connect(database=database, DateStyle="ISO, MDY") as mdy, narrow.connect(database=database, DateStyle="ISO, DMY") as dmy:
        for client in (mdy, dmy):
            client.send(parse("s", sql), sync())
            client.read_until_ready()
        for client, month in ((mdy, 1), (dmy, 2), (mdy, 1)):
            client.send(bind("", "s"), execute(), sync())
            assert f"D {month}" in client.brief_until_ready()


def test_rule_d1_now_is_when_it_was_prepared(pgweir, database):
    """It is a constant from PREPARE on, also when another client has taken the server connection meanwhile."""
    proxy = pgweir(settings={"default_pool_size": 2, "workers": 1}).wait_for_replicas(database)
    with proxy.connect(database=database) as client, proxy.connect(database=database) as other:
        client.query("prepare p as select 'now'::timestamptz as at, (select count(*) from scratch)")
        first = client.value("execute p")
        other.query("begin; insert into t values (1)")
        assert client.value("execute p") == first
        other.query("rollback")


def test_rule_e5_a_temporary_table_shadows(narrow, database, pgweir):
    """Every statement of its client, reads too, must meet it, and no other client may."""
    proxy = pgweir(settings={"default_pool_size": 3}).wait_for_replicas(database)
    with proxy.connect(database=database) as one, proxy.connect(database=database) as two:
        assert one.value("select count(*) from accounts") == "10"
        one.query("create temp table accounts(id int)")
        for _ in range(5):
            assert one.value("select count(*) from accounts") == "0"
            assert two.value("select count(*) from accounts") == "10"


def test_rule_e6_parameter_status_is_the_clients_own(narrow, database):
    """Settings that change under the hand-over of a backend are nobody's news; the client's own SET is, once."""
    with narrow.connect(database=database, application_name="one", TimeZone="Asia/Tokyo") as one, \
            narrow.connect(database=database, application_name="two", TimeZone="America/Lima") as two:
        for _ in range(3):
            for client in (one, two):
                client.send(query("insert into t values (1)"))
                assert [m.brief for m in client.read_until_ready()] == ["C INSERT 0 1", "Z I"]
        one.send(query("set application_name = 'mine'"))
        assert [m.brief for m in one.read_until_ready()] == ["C SET", "S application_name=mine", "Z I"]
        assert one.value("show application_name") == "mine"
        assert two.value("show application_name") == "two"


# --- F: routing ---

REFUSED = {
    "25006": ["select writes(3)"],
    "0A000": ["select count(*) from scratch"],
    "55000": ["select pg_current_wal_lsn() is not null"],
}


@pytest.mark.parametrize("sqlstate", REFUSED)
@pytest.mark.parametrize("protocol", ["query", "extended"])
def test_rule_f1_a_refusal_is_never_shown(proxy, database, sqlstate, protocol):
    with proxy.connect(database=database) as client:
        for sql in REFUSED[sqlstate]:
            assert getattr(client, protocol)(f"/* pgweir: route=replica */ {sql}").rows


def test_rule_f1_ddl_that_has_not_arrived_is_no_error(new_cluster, pgweir):
    """42P01 on a standby that lags: the table is there, on the primary."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, settings={"consistency": "eventual"}).wait_for_replicas(database)
    cluster.standby.pause_replay()
    cluster.primary.query("create table newer(i int); insert into newer values (1)", database=database)
    with proxy.connect(database=database) as client:
        assert client.value("/* pgweir: route=replica */ select count(*) from newer") == "1"
    cluster.standby.resume_replay()


@pytest.mark.parametrize("sql", [
    "select pg_advisory_lock(1), pg_advisory_unlock(1)", "select pg_export_snapshot() is not null", "checkpoint", "select setseed(0.5)",
    "lock table accounts in access share mode", "select pg_stat_reset_single_table_counters('accounts'::regclass)", "load 'plpgsql'",
])
def test_rule_f2_what_a_standby_would_allow_is_not_sent_there(cluster, proxy, database, sql):
    mark = cluster.mark()
    hinted = f"/* pgweir: route=replica */ {sql}"
    with proxy.connect(database=database) as client:
        client.query(hinted, check=False)
    assert cluster.where(hinted, mark) == ["primary"]


@pytest.mark.parametrize("sql", [
    "select count(*) from pg_stat_user_tables", "select inet_server_port()", "select count(*) from pg_locks", "select pg_is_in_recovery()",
    "show transaction_read_only", "select count(*) from pg_settings", "select pg_postmaster_start_time() is not null",
])
def test_rule_f3_what_means_something_else_on_a_standby_runs_on_the_primary(cluster, proxy, database, sql):
    mark = cluster.mark()
    with proxy.connect(database=database) as client:
        client.query(sql)
    assert cluster.where(sql, mark) == ["primary"]


HIDDEN = """
create function add_and_write(int, int) returns int language plpgsql as 'begin insert into t values ($2); return $1 + $2; end';
create aggregate sum_and_write(int) (sfunc = add_and_write, stype = int, initcond = 0);
create function audit(accounts) returns int language sql as 'insert into t values (1) returning i';
create function valid(int) returns bool language plpgsql as 'begin insert into t values ($1); return true; end';
create domain checked as int check (valid(value));
create function plus_and_write(int, text) returns int language sql as 'insert into t values ($1) returning i';
create operator <+> (leftarg = int, rightarg = text, function = plus_and_write);
"""


@pytest.mark.parametrize("sql", ["select sum_and_write(balance) from accounts", "select a.audit from accounts a", "select 5::checked",
                                 "select 1 <+> 'x'"])
def test_rule_f4_functions_that_hide(cluster, pgweir, database, sql):
    """An aggregate, column notation, a domain's check, an operator: each writes, and none is called by its name."""
    cluster.primary.query(HIDDEN, database=database)
    cluster.settle()
    proxy = pgweir().wait_for_replicas(database)
    mark = cluster.mark()
    with proxy.connect(database=database) as client:
        assert client.query(sql).rows
    assert cluster.where(sql, mark) == ["primary"]
    assert cluster.standby.errors(mark["standby1"]) == []
    assert rows(cluster, database)


def test_rule_f5_literals_that_decide_are_not_forgotten(cluster, proxy, database):
    """Statements that differ in a literal only, and must not share a class."""
    with proxy.connect(database=database) as client:
        for sql, node in [("explain (analyze 0) delete from t", "primary"), ("select set_config('work_mem', '5MB', true)", "primary"),
                          ("select query_to_xml('select 1', true, false, '')", "primary"),
                          ("select query_to_xml('select writes(1)', true, false, '')", "primary")]:
            mark = cluster.mark()
            client.query(sql)
            assert cluster.where(sql, mark) == [node], sql
    assert rows(cluster, database) == ["1"]


# --- G: protocol, cancel, conflicts ---


@pytest.mark.parametrize("begin", [None, "begin"])
def test_rule_g1_a_recovery_conflict_is_not_shown(new_cluster, pgweir, begin):
    """Alone, or in a READ COMMITTED transaction that has only read.  Cleanup on the primary cancels a read on the standby that has begun to answer; that is repeated, and nobody sees it."""
    cluster = new_cluster(max_standby_streaming_delay="0", hot_standby_feedback="off")
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, settings={"consistency": "eventual"}).wait_for_replicas(database)
    with proxy.connect(database=database) as client:
        client.query("/* pgweir: route=primary */ select 'known'")
        if begin:
            client.query(begin)
            client.query("select 7")
        mark = cluster.standby.mark()
        client.send(query("/* pgweir: route=replica */ select (select count(*) from accounts), case when i > 1 then pg_sleep(3) end, "
                          "repeat('x', 9500) from generate_series(1, 2) i"))  # the first row does not fit into the server's buffer
        wait_until(lambda: cluster.standby.statements(mark, database=database), "the read runs on the standby")
        cluster.primary.query("delete from accounts where id > 5", database=database)
        cluster.primary.query("vacuum (freeze) accounts", database=database)
        wait_until(lambda: cluster.standby.errors(mark, database=database), "the standby has cancelled it")
        assert [m[:4] for m in client.brief_until_ready()] == ["T", "D 5,", "D 5,", "C SE", "Z T" if begin else "Z I"]


def test_rule_g2_notifications_come_when_their_transaction_is_over(cluster, proxy, database):
    """One's own stand before ReadyForQuery and never inside a block; others' come after their commit, in its order, and name
    their sender by the pid that it was told."""
    cluster.primary.query("create function tells() returns trigger language plpgsql as $$ begin perform pg_notify('c', new.note); "
                          "return new; end $$; create trigger tells after insert on t for each row execute function tells()",
                          database=database)
    with proxy.connect(database=database) as listener, proxy.connect(database=database) as other:

        def says(client, sql):
            client.send(query(sql))
            return [m for m in client.read_until_ready() if m.type in "ACZ"]

        def briefly(sql):
            return [m.brief for m in says(listener, sql)]

        assert briefly("listen c") == ["C LISTEN", "Z I"]
        own = says(listener, "notify c, 'own'")
        assert [m.brief for m in own] == ["C NOTIFY", "A c own", "Z I"]
        assert own[1].body[:4] == listener.pid.to_bytes(4, "big")
        assert briefly("begin") == ["C BEGIN", "Z T"]
        assert briefly("notify c, 'inside'") == ["C NOTIFY", "Z T"]
        assert briefly("insert into t values (1, 'by trigger')") == ["C INSERT 0 1", "Z T"]
        for number in range(3):
            says(other, f"notify c, 'other {number}'")
        assert briefly("select 1") == ["C SELECT 1", "Z T"]
        heard = says(listener, "commit")
        assert sorted(m.brief for m in heard[1:-1]) == ["A c by trigger", "A c inside", *(f"A c other {n}" for n in range(3))]
        theirs = [m for m in heard if m.brief.startswith("A c other")]
        assert [m.brief for m in theirs] == [f"A c other {n}" for n in range(3)]
        assert {m.body[:4] for m in theirs} == {other.pid.to_bytes(4, "big")}
        assert (heard[0].brief, heard[-1].brief) == ("C COMMIT", "Z I")
        for end in ("rollback", "commit"):
            says(other, "begin")
            says(other, f"notify c, 'before the {end}'")
            assert briefly("select 1") == ["C SELECT 1", "Z I"]
            says(other, end)
        assert listener.read_until("A")[-1].brief == "A c before the commit"
        assert briefly("unlisten c") == ["C UNLISTEN", "Z I"]
        says(other, "notify c, 'to nobody'")
        assert briefly("select 1") == ["C SELECT 1", "Z I"]


def test_rule_g3_a_cancel_never_hits_the_next_client(narrow, database):
    """Cancels and short queries race on one backend: only the client that was cancelled may see 57014."""
    stop = threading.Event()
    with narrow.connect(database=database) as victim, narrow.connect(database=database) as bystander:

        def cancel():
            while not stop.is_set():
                victim.cancel()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            for _ in range(150):
                victim.send(query("/* pgweir: route=primary */ select count(*) from generate_series(1, 3000)"))
                bystander.send(query("/* pgweir: route=primary */ select 'unharmed'"))
                assert "D unharmed" in bystander.brief_until_ready()
                assert victim.read_until_ready()[-1].brief == "Z I"
        finally:
            stop.set()
            canceller.join()


def test_rule_g3_a_late_cancel_finds_nobody(cluster, pgweir, database):
    """The CancelRequest is on its way to the server when the query ends: its connection is nobody else's until it is there."""
    hint, locks = "/* pgweir: route=primary */", "select pg_advisory_lock(1), pg_advisory_lock(2)"
    with Link(cluster.primary.port) as link, cluster.primary.connect(database=database) as holder:
        holder.query(locks)
        proxy = pgweir(hosts=[link.port], settings={"default_pool_size": 1, "workers": 1})
        with proxy.connect(database=database) as victim, proxy.connect(database=database) as bystander:
            link.hold_cancels()
            victim.send(query(f"{hint} select 'victim' from pg_advisory_xact_lock(1)"))
            canceller = threading.Thread(target=victim.cancel)
            canceller.start()
            wait_until(lambda: link.held, "the cancel under way")
            holder.query("select pg_advisory_unlock(1)")
            assert "D victim" in victim.brief_until_ready()
            bystander.send(query(f"{hint} select 'unharmed' from pg_advisory_xact_lock(2)"))
            waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            for _ in range(40):  # it must not get there: not an event that one could wait for
                if cluster.primary.value(waiting) != "0":
                    break
                time.sleep(0.02)
            link.resume()
            canceller.join()
            wait_until(lambda: link.delivered, "the cancel at the server")
            holder.query("select pg_advisory_unlock(2)")
            assert "D unharmed" in bystander.brief_until_ready()


def test_rule_g4_replication_connections_reach_the_primary(cluster, proxy, database):
    for kind in ("database", "true"):
        with proxy.connect(database=database, replication=kind) as client:
            answer = client.query("IDENTIFY_SYSTEM")
            assert answer.dicts[0]["systemid"] == cluster.primary.value("select system_identifier from pg_control_system()")
            assert client.query("SHOW wal_level").rows == [("replica",)]
