"""State that keeps a client's backend: as long as it is there, and no longer."""
import pytest
from harness.metrics import read_metrics
from harness.system import wait_until
from harness.wire import close, extended, sync

SCHEMA = """
create table t(i int);
create table made(id serial, note text);
create function unlocks() returns bool language sql as 'select pg_advisory_unlock(7)';
"""


@pytest.fixture
def proxy(pgweir, database):
    return pgweir(settings={"default_pool_size": 1, "max_pinned": 5, "workers": 1, "route": "primary"})


def pins(proxy):
    return [row["reasons"] for row in proxy.admin("show pins")]


def is_free(proxy):
    wait_until(lambda: not pins(proxy), "the pin has ended")


# what makes it, what still needs it (a query and its answer), what ends it
STATES = {
    "temporary table": ("TEMP", "create temp table x as select 5 as i", ("select i from x", "5"), "drop table x"),
    "temporary view": ("TEMP", "create temp view v as select 6 as i", ("select i from v", "6"), "drop view v"),
    "discarded": ("TEMP", "create temp table x as select 5 as i", ("select i from x", "5"), "discard temp"),
    "made new": ("TEMP", "create temp table x as select 5 as i", ("select i from x", "5"), "discard all"),
    "cursor": ("HOLD_CURSOR", "begin; declare c cursor with hold for select 7; commit", ("fetch c", "7"), "close c"),
    "all cursors": ("HOLD_CURSOR", "begin; declare c cursor with hold for select 7; commit", ("fetch c", "7"), "close all"),
    "advisory lock": ("ADVISORY_LOCK", "select pg_advisory_lock(7)",
                      ("select count(*) from pg_locks where locktype = 'advisory'", "1"), "select pg_advisory_unlock(7)"),
    "unlocked by a function": ("ADVISORY_LOCK", "select pg_advisory_lock(7)",
                               ("select count(*) from pg_locks where locktype = 'advisory'", "1"), "select unlocks()"),
    "channel": ("LISTEN", "listen c", ("select pg_listening_channels()", "c"), "unlisten c"),
    "all channels": ("LISTEN", "listen c", ("select pg_listening_channels()", "c"), "unlisten *"),
    "statement": ("PREPARED", "prepare p as select 8; select 1", ("execute p", "8"), "deallocate p"),
    "statement with a time": ("PREPARED", "prepare p as select 'now'::timestamptz > '2020-1-1'", ("execute p", "t"), "deallocate p"),
    "all statements": ("PREPARED", "prepare p as select 8; select 1", ("execute p", "8"), "deallocate all"),
}


@pytest.mark.parametrize("name", STATES)
def test_rule_e2_a_pin_ends_with_what_it_was_for(proxy, database, name):
    reason, makes, (asks, answer), ends = STATES[name]
    with proxy.connect(database=database) as client, proxy.connect(database=database) as other:
        client.query(makes)
        assert pins(proxy) == [reason]
        assert other.value("select count(*) from pg_class where relname in ('x', 'v')") in "01"
        assert client.value(asks) == answer
        client.query(ends)
        is_free(proxy)
        assert client.value("select 1") == other.value("select 1")
        assert client.query(asks, check=False).rows != [(answer,)]


def test_rule_e2_what_is_undone_pins_nobody_for_long(proxy, database):
    """ON COMMIT DROP, a savepoint that is rolled back, a transaction that fails: by the end of the transaction."""
    with proxy.connect(database=database) as client:
        for statements in (["create temp table x(i int) on commit drop", "insert into x values (1)"],
                           ["savepoint s", "create temp table x(i int)", "rollback to s"],
                           ["create temp table x(i int)", "select 1/0"],
                           ["declare c cursor with hold for select 1", "close c"],
                           ["listen c", "unlisten c"]):
            client.query("begin")
            for sql in statements:
                client.query(sql, check=False)
            client.query("commit")
            is_free(proxy)


def test_rule_e2_what_is_left_keeps_the_pin(proxy, database):
    with proxy.connect(database=database) as client:
        client.query("create temp table x(i int)")
        client.query("create temp table y(i int)")
        client.query("select pg_advisory_lock(1), pg_advisory_lock(2)")
        client.query("drop table x")
        client.query("select pg_advisory_unlock(1)")
        client.query("table y")
        assert pins(proxy) == ["TEMP,ADVISORY_LOCK"]
        client.query("drop table y")
        client.query("table t")
        assert pins(proxy) == ["ADVISORY_LOCK"]
        client.query("select pg_advisory_unlock(2)")
        is_free(proxy)


def test_rule_e2_the_last_statement_of_its_own_ends_the_pin(proxy, database):
    """By its name, in SQL or by Close, also in a transaction that rolls back; statements that every backend can be given do not count."""
    with proxy.connect(database=database) as client:
        client.query("prepare everywhere as select 1")
        client.query("prepare p as select 'p'; prepare q as select 'q'; prepare r as select 'r'")
        client.query("deallocate p")
        assert pins(proxy) == ["PREPARED"]
        client.send(close("S", "q"), sync())
        assert client.brief_until_ready() == ["3", "Z I"]
        assert client.value("execute r") == "r"
        assert client.query("execute q", check=False).sqlstate == "26000"
        assert pins(proxy) == ["PREPARED"]
        client.query("begin; deallocate r; rollback")
        is_free(proxy)
        assert client.value("execute everywhere") == "1"
        assert client.query("execute r", check=False).sqlstate == "26000"
        client.query("prepare p as select 'p'; deallocate p")
        assert not pins(proxy)


def test_rule_e2_what_only_one_backend_has_is_not_closed_there(pgweir, database):
    """max_prepared_statements bounds what can be made again."""
    proxy = pgweir(settings={"default_pool_size": 1, "workers": 1, "route": "primary", "max_prepared_statements": 2})
    with proxy.connect(database=database) as client:
        for name in "abcd":
            client.query(f"prepare {name} as select '{name}'")
        proxy.admin("RECONNECT")
        client.query("prepare own as select 'own'; select 1")
        assert [client.value(f"execute {name}") for name in ("a", "own", "b", "c", "d", "own")] == ["a", "own", "b", "c", "d", "own"]


# Every reason of SHOW PINS: what makes it, and what ends it by the end of that transaction or the next; None: it is the session's.
KINDS = {
    "SETTING": None, "RESETS": None, "ROLE": None,  # followed, and no reason to keep a backend unless it cannot be asked
    "CUSTOM": ("select set_config('app.' || 'x', 'v', false)", None),
    "PREPARED": ("prepare p as select 8; select 1", ["deallocate p"]),
    "LISTEN": ("listen c", ["unlisten c"]),
    "TEMP": ("create temp table x(i int)", ["drop table x"]),
    "HOLD_CURSOR": ("begin; declare c cursor with hold for select 7; commit", ["close c"]),
    "ADVISORY_LOCK": ("select pg_advisory_lock(7)", ["select pg_advisory_unlock(7)"]),
    "LOADED": ("load 'auto_explain'", None),  # nothing unloads a library
    "SETSEED": ("select setseed(0.5)", None),  # the numbers that follow are the session's
    "SEQUENCE": ("insert into made (note) values ('x')", ["select 1"]),
    "UNKNOWN": ("do $$ begin execute 'select 1'; end $$", None),
}


def test_rule_e2_each_kind_of_pin(pgweir, database):
    """Each is shown by SHOW PINS and by the metrics with its reason and age, and has its end there, or is the session's."""
    proxy = pgweir(settings={"default_pool_size": 1, "max_pinned": 5, "workers": 1, "route": "primary"}, http=True)
    metrics = read_metrics(proxy)
    assert {dict(labels)["reason"] for name, labels in metrics.samples if name == "pgweir_pins_total"} == set(KINDS)
    with proxy.connect(database=database) as client:
        client.query("select lastval()", check=False)
    for kind, (makes, ends) in [(kind, how) for kind, how in KINDS.items() if how]:
        with proxy.connect(database=database) as client:
            client.query(makes)
            (row,) = proxy.admin("show pins")
            assert kind in row["reasons"].split(",") and int(row["age"]) >= 0, (kind, row)
            assert read_metrics(proxy).value("pgweir_pinned_clients", reason=kind) == 1
            wait_until(lambda kind=kind: read_metrics(proxy).value("pgweir_pin_age_seconds", reason=kind) > 0, f"{kind} has an age")
            for sql in ends or ["discard all"]:
                client.query(sql)
            if ends:
                wait_until(lambda kind=kind: not pins(proxy), f"{kind} has ended")
            else:
                assert kind in pins(proxy)[0]
        wait_until(lambda kind=kind: not pins(proxy), f"{kind} has ended with its client")


def test_rule_e5_no_backend_with_a_temporary_schema_is_used_again(cluster, proxy, database):
    with proxy.connect(database=database) as client:
        client.query("create temp table x(i int)")
        dirty = client.value("select pg_backend_pid()")
        client.query("drop table x")
        is_free(proxy)
        wait_until(lambda: not cluster.primary.query(f"select from pg_stat_activity where pid = {dirty}"), "it is closed")
        assert client.value("select pg_my_temp_schema()") == "0"


def test_rule_e4_random_is_seeded_anew(cluster, proxy, database):
    """A seed belongs to its client, on one backend; the next client's numbers are not what it makes of them."""
    with proxy.connect(database=database) as client:
        client.query("select setseed(0.5)")
        first = client.value("select random()")
        with proxy.connect(database=database) as other:
            other.query("select random()")
        second = client.value("select random()")
        assert pins(proxy) == ["SETSEED"]
    private = cluster.primary.connect(database=database)
    with private:
        private.query("select setseed(0.5)")
        numbers = [private.value("select random()") for _ in range(20)]
    assert [first, second] == numbers[:2]
    wait_until(lambda: not pins(proxy), "the client has gone")
    proxy.admin("reconnect")
    with proxy.connect(database=database) as client:
        client.query("select setseed(0.5)")
        backend = client.value("select pg_backend_pid()")
    with proxy.connect(database=database) as other:
        assert other.value("select random()") not in numbers
        assert other.value("select pg_backend_pid()") == backend


def test_a_backend_is_used_again_where_nothing_is_left(cluster, proxy, database):
    with proxy.connect(database=database) as client:
        client.query("listen c")
        client.query("begin; declare c cursor with hold for select 7; commit")
        client.query("select pg_advisory_lock(9)")
        backend = client.value("select pg_backend_pid()")
    # Who comes before it is back gets a new one in its place.
    wait_until(lambda: [s["state"] for s in proxy.admin("show servers")] == ["idle"], "the pinned backend is everybody's again")
    with proxy.connect(database=database) as other:
        assert other.value("select pg_backend_pid()") == backend
        assert other.value("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()") == "0"
        assert other.query("select pg_listening_channels()").rows == []
        assert other.query("table pg_cursors").rows == []


def test_rule_e1_a_parse_that_is_too_long_to_be_read_is_unknown_code(proxy, database):
    """DEALLOCATE ALL takes the statement away, not what it has done."""
    with proxy.connect(database=database) as client, proxy.connect(database=database) as other:
        client.extended(f"select set_config('app.long', 'x', false) /* {'y' * 70000} */")
        client.query("deallocate all")
        client.query("select 1")
        assert client.value("select current_setting('app.long', true)") == "x"
        assert other.value("select current_setting('app.long', true)") is None


def test_show_pins_tells_the_age(proxy, database):
    with proxy.connect(database=database) as client:
        client.query("create temp table x(i int)")
        (row,) = proxy.admin("show pins")
        assert row["reasons"] == "TEMP" and int(row["age"]) >= 0 and row["pinned_time"] >= row["connect_time"]


def test_a_pinned_clients_pipeline_goes_on_behind_the_probe(proxy, database):
    with proxy.connect(database=database) as client:
        client.send(extended("create temp table x(i int)"), sync(), extended("insert into x values (3)"), sync(), extended("table x"),
                    sync(), extended("drop table x"), sync(), extended("select 8"), sync())
        answers = [client.brief_until_ready() for _ in range(5)]
        assert answers[2] == ["1", "2", "T", "D 3", "C SELECT 1", "Z I"]
        assert answers[4] == ["1", "2", "T", "D 8", "C SELECT 1", "Z I"]
        is_free(proxy)


def test_rule_e3_currval_is_never_another_clients(proxy, database):
    """Who asks without having moved the sequence is told so; the first who asks at all, too."""
    with proxy.connect(database=database) as a, proxy.connect(database=database) as b:
        a.query("insert into made (note) values ('a')")
        b.query("insert into made (note) values ('b')")
        assert a.query("select currval('made_id_seq')", check=False).sqlstate == "55000"
        assert b.query("select lastval()", check=False).sqlstate == "55000"
        b.query("begin")
        b.query("insert into made (note) values ('b')")
        b.query("select 1")
        mine = b.value("select currval('made_id_seq')")
        assert b.value("select max(id) from made where note = 'b'") == mine
        b.query("commit")


def test_rule_e3_a_client_keeps_what_it_has_inserted(proxy, database):
    with proxy.connect(database=database) as a, proxy.connect(database=database) as b:
        a.query("select lastval()", check=False)
        for sql in ("insert into made (note) values ('x')", "select nextval('made_id_seq')"):
            a.query(sql)
            assert pins(proxy) == ["SEQUENCE"]
            b.query(sql)
            mine, other = a.value("select lastval()"), b.value("select lastval()")
            assert int(other) == int(mine) + 1
            assert [a.value("select currval('made_id_seq')"), b.value("select currval('made_id_seq')")] == [mine, other]
            a.query("select 1")
            b.query("select 1")
            is_free(proxy)
        backend = a.value("select pg_backend_pid()")
        assert b.value("select pg_backend_pid()") == backend  # it is everybody's again


@pytest.mark.parametrize("learns", ["asked", "default", "function", "made elsewhere"])
def test_rule_e3_a_client_gets_the_server_that_has_its_values(pgweir, cluster, database, learns):
    """Without a pin, as long as nobody else has had to take it; also before anybody of the user has asked."""
    calls = "create function calls() returns bigint language sql as 'select lastval()'"
    if learns == "made elsewhere":
        cluster.primary.query(calls, database=database)
    proxy = pgweir(settings={"default_pool_size": 3, "max_pinned": 3, "workers": 1}).wait_for_replicas(database)
    with proxy.connect(database=database) as a, proxy.connect(database=database) as b, proxy.connect(database=database) as other:
        for sql in ("begin", "insert into t values (1)", "rollback"):  # three servers
            for client in (a, b, other):
                client.query(sql)
        other.query({"asked": "select lastval()", "default": "create table d(i int default currval('made_id_seq'))", "function": calls,
                     "made elsewhere": "select 1"}[learns], check=False)
        proxy.wait_for_replicas(database)
        for client in (a, b, other):
            client.query("select 1")
        a.query("insert into made (note) values ('a')")
        mine = a.value("select max(id) from made")
        a.query("select 1")
        is_free(proxy)
        b.query("insert into made (note) values ('b')")
        b.query("select 1")
        for _ in range(3):
            assert a.value("select currval('made_id_seq')") == mine
            assert int(b.value("select currval('made_id_seq')")) == int(mine) + 1
            other.query("begin; lock table t in share mode; rollback")


def test_rule_e2_new_code_in_c_keeps_its_maker(proxy, database):
    """It may keep state in its library: from the first use on, also before the facts know of it."""
    with proxy.connect(database=database) as client:
        client.query("create function counts() returns trigger language c as '$libdir/autoinc', 'autoinc'")
        client.query("create sequence s")
        client.query("create trigger t before insert on t for each row execute function counts(i, s)")
        assert not pins(proxy)
        client.query("insert into t values (0)")
        assert "UNKNOWN" in pins(proxy)[0]
        backend = client.value("select pg_backend_pid()")
        client.query("insert into t values (0)")
        assert client.value("select pg_backend_pid()") == backend


ADVISORY_LEFT = {
    "called": ["select pg_advisory_lock(7)"],
    "among others": ["select 1; select pg_advisory_lock(7); select 2"],
    "and an error": ["select pg_advisory_lock(7), 1/0"],
    "and an error of syntax that is no error of the statement's": ["select pg_advisory_lock(7), to_tsquery('a b')"],
    "by code": ["do $$ begin perform pg_advisory_lock(7); end $$"],
    "by code that fails": ["do $$ begin perform pg_advisory_lock(7); raise syntax_error; end $$"],
    "by code of a text": ["select runs('select pg_advisory_lock(7)')"],
    "by code while facts are not proved": ["create table new(i int)", "select runs('select pg_advisory_lock(7)')"],
    "by a new function": ["create function locks() returns void language sql as 'select pg_advisory_lock(7)'", "select locks()"],
    "rolled back": ["begin", "select pg_advisory_lock(7)", "rollback"],
    "in a cursor": ["begin", "declare c cursor for select pg_advisory_lock(7)", "fetch c", "commit"],
    "on a standby": ["/* pgweir: route=replica */ select pg_advisory_lock(7)"],
    "on a standby that refuses the rest": ["/* pgweir: route=replica */ select pg_advisory_lock(7), nextval('made_id_seq')"],
}


@pytest.mark.parametrize("protocol", ["query", "extended"])
def test_rule_e2_no_advisory_lock_outlives_its_client(cluster, pgweir, database, protocol):
    """However it was taken, and whatever the client was told."""
    proxy = pgweir(settings={"default_pool_size": 1, "workers": 1}).wait_for_replicas(database)
    cluster.primary.query("create function runs(text) returns void language plpgsql as $$ begin execute $1; end $$", database=database)
    proxy.wait_for_replicas(database)
    counts = f"select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = '{database}')"
    for how, statements in ADVISORY_LEFT.items():
        with proxy.connect(database=database) as client:
            for sql in statements:
                if protocol == "query" or ";" not in sql or "$$" in sql:
                    getattr(client, protocol)(sql, check=False)
        for node in (cluster.primary, *cluster.standbys):
            wait_until(lambda node=node: node.value(counts) == "0", f"no lock is left: {how}")
