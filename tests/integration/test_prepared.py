"""Prepared statements under pooling: several clients share one backend, and each sees what it would see on a connection
of its own.  Most tests here run a program of several clients twice, on private connections and through a pool of one, and
compare everything that is said."""
import pytest
from harness.system import wait_until
from harness.wire import bind, close, describe, execute, extended, parse, query, sync

SCHEMA = """
create table t(i int, note text);
insert into t select g, 'n' || g from generate_series(1, 5) g;
create table fixed(i int);
insert into fixed values (1), (2);
"""


@pytest.fixture
def twin(cluster):
    """A second database of the same content, for the private connections."""
    name = cluster.create_database(SCHEMA)
    yield name
    cluster.drop_database(name)


@pytest.fixture(params=["auto", "primary"])
def narrow(request, pgweir, database):
    """One backend on each server; reads go to the standby, or not."""
    proxy = pgweir(settings={"default_pool_size": 1, "workers": 1, "route": request.param})
    return proxy if request.param == "primary" else proxy.wait_for_replicas(database)


@pytest.fixture
def single(pgweir, database):
    """One backend."""
    return pgweir(settings={"default_pool_size": 1, "workers": 1, "route": "primary"})


def told(messages):
    """A conversation with all that an error says but for its place in PostgreSQL's source; settings have tests of their
    own."""
    lines = []
    for m in messages:
        if m.type == "S":
            continue
        lines.append(m.brief)
        if m.type in "EN":
            lines[-1] += " ".join(f" {k}={v}" for k, v in sorted(m.fields.items()) if k in "MDHPpqW")
        elif m.type == "T":
            lines[-1] += " " + ",".join(m.columns)
    return lines


def step(message):
    return query(message) if isinstance(message, str) else message if isinstance(message, bytes) else b"".join(message)


def run(endpoint, database, program, at_end=lambda: None):
    """What each step of [(client's name, SQL or messages), ...] is answered."""
    clients, answers = {}, []
    try:
        for who, message in program:
            if who not in clients:
                clients[who] = endpoint.connect(database=database)
            clients[who].send(step(message))
            answers.append((who, message, told(clients[who].read_until_ready())))
        at_end()
    finally:
        for client in clients.values():
            client.close()
    return answers


def same(cluster, proxy, database, twin, program):
    """The program says the same through the proxy as on private connections, and pins nobody."""
    expected = run(cluster.primary, twin, program)

    def nobody_is_pinned():
        assert not pinned(proxy)

    for (who, message, got), (_, _, private) in zip(run(proxy, database, program, nobody_is_pinned), expected):
        assert got == private, f"{who}: {message}"


def pinned(proxy):
    return proxy.admin("show pins")


def test_names_are_each_clients_own(cluster, narrow, database, twin):
    same(cluster, narrow, database, twin, [
        ("a", "prepare p as select 'a', count(*) from t"),
        ("b", "execute p"),
        ("b", "prepare p(int) as select 'b', i from t where i > $1 order by i"),
        ("a", "execute p"),
        ("b", "execute p(3)"),
        ("b", "execute p"),
        ("a", "execute p(3)"),
        ("a", "prepare p as select 1"),
        ("a", "deallocate p"),
        ("a", "execute p"),
        ("b", "execute p(4)"),
        ("a", "deallocate p"),
        ("c", "deallocate p"),
        ("a", "PREPARE p AS select 'again'"),
        ("b", "execute P(4)"),
        ("a", "execute p"),
        ("a", 'prepare "P" as select 2'),
        ("b", 'execute "P"'),
        ("a", 'execute "P"'),
        ("c", "prepare p as select 3;"),
        ("a", "execute p"),
    ])


def test_deallocate_all_and_discard(cluster, narrow, database, twin):
    program = [(who, f"prepare {name} as select '{who}{name}'") for who in "ab" for name in "pq"]
    for statement in ("deallocate all", "discard all", "discard plans", "deallocate prepare all"):
        program += [("a", statement), ("b", "execute q"), ("a", "execute p"), ("a", "prepare p as select 'new'"), ("b", "execute p"),
                    ("a", "execute p"), ("a", "execute q")]
    same(cluster, narrow, database, twin, program)


def test_prepare_is_not_transactional(cluster, narrow, database, twin):
    same(cluster, narrow, database, twin, [
        ("a", "begin"), ("a", "prepare p as select 1"), ("a", "rollback"),
        ("b", "prepare p as select 2"),
        ("a", "execute p"), ("b", "execute p"),
        ("a", "begin"), ("a", "deallocate p"), ("a", "rollback"), ("b", "select 1"), ("a", "execute p"),
        ("a", "begin"), ("a", "prepare q as select 3"), ("a", "select 1/0"), ("a", "execute q"), ("a", "prepare r as select 4"),
        ("a", "commit"), ("b", "execute q"), ("a", "execute q"), ("a", "execute r"),
        ("a", "begin isolation level repeatable read"), ("a", "execute q"), ("a", "show transaction_isolation"), ("a", "commit"),
        ("b", "prepare q as select 5"), ("b", "execute q"),
        ("a", "begin read only"), ("a", "execute q"), ("a", "prepare s as select 6"), ("a", "execute s"), ("a", "commit"),
        ("b", "execute s"), ("a", "execute s"),
        ("a", "begin"), ("a", "savepoint x"), ("a", "prepare u as select 7"), ("a", "rollback to x"), ("a", "execute u"), ("a", "commit"),
        ("b", "execute u"), ("a", "execute u"),
    ])


def test_a_prepare_that_fails(cluster, narrow, database, twin):
    same(cluster, narrow, database, twin, [
        ("a", "prepare p as select nothing from t"), ("a", "execute p"),
        ("b", "prepare p as select 1"), ("a", "execute p"), ("b", "execute p"),
        ("a", "prepare p as selec"), ("a", "prepare p as select 2"), ("b", "execute p"), ("a", "execute p"),
        ("a", "prepare e(int) as select 1/$1"), ("b", "execute p"), ("a", "execute e(0)"), ("b", "execute p"), ("a", "execute e(1)"),
        ("a", "execute e"), ("a", "execute e('x')"),
    ])


def test_names_of_the_protocol_in_sql(cluster, narrow, database, twin):
    same(cluster, narrow, database, twin, [
        ("a", [parse("p", "select $1::int + 1"), sync()]),
        ("b", "prepare p as select 'b'"),
        ("a", "execute p(1)"), ("b", "execute p"), ("a", "execute p(2)"),
        ("a", "prepare p as select 9"),
        ("b", "execute p"),
        ("a", "deallocate p"), ("a", [bind("", "p", ["1"]), execute(), sync()]), ("a", "execute p(1)"),
        ("a", [parse("q", "select 5"), sync()]), ("b", "execute p"), ("a", "execute q"),
        ("a", "deallocate all"), ("a", [bind("", "q"), execute(), sync()]), ("b", "execute p"),
        ("a", [parse("q", "select 6"), bind("", "q"), execute(), sync()]), ("b", "select 1"),
        ("a", [close("S", "q"), sync()]), ("a", "execute q"), ("b", "execute p"),
    ])


def test_names_of_sql_in_the_protocol(cluster, narrow, database, twin):
    same(cluster, narrow, database, twin, [
        ("a", "prepare p(int) as select i, note from t where i = $1"),
        ("b", "prepare p as select 'b'"),
        ("a", [bind("", "p", ["2"]), describe("P"), execute(), sync()]),
        ("b", [bind("", "p"), execute(), sync()]),
        ("a", [describe("S", "p"), sync()]),
        ("b", [describe("S", "p"), sync()]),
        ("a", [parse("p", "select 1"), sync()]),
        ("a", [bind("", "p", ["3"]), execute(), bind("", "p", ["4"]), execute(), sync()]),
        ("a", [close("S", "p"), sync()]), ("b", [bind("", "p"), execute(), sync()]),
        ("a", [bind("", "p", ["2"]), execute(), sync()]), ("a", "execute p(1)"),
        ("b", [close("S", "p"), bind("", "p"), execute(), sync()]), ("a", "select 1"), ("b", "execute p"),
    ])


def test_a_failed_transaction_counts_values(cluster, narrow, database, twin):
    """Also of a name that the backend has not got and cannot be given: too few or too many are 08P01, the right number 25P02."""
    program = [("a", "prepare p(int, int) as select $1 + $2"), ("a", "prepare q as select 'a'"), ("a", "prepare r as select $1::text || $2"),
               ("b", "prepare p as select 'b'"), ("b", "prepare q as select 'b'"), ("b", "prepare r as select 'b'")]
    for name, counts in (("p", (0, 1, 2, 3)), ("q", (0, 1)), ("r", (1, 2, 3))):
        for n in counts:
            program += [("b", f"execute {name}"), ("a", "begin"), ("a", "select 1/0"),
                        ("a", [bind("", name, ["1"] * n), execute(), sync()]), ("a", [describe("S", name), sync()]), ("a", "rollback")]
    same(cluster, narrow, database, twin, [*program, ("b", "execute p"), ("a", "execute p(1, 2)"), ("a", "execute q"), ("b", "execute r")])


def test_pipelines(cluster, narrow, database, twin):
    same(cluster, narrow, database, twin, [
        ("a", "prepare p as select 'a'"),
        ("b", [extended("prepare p as select 'b'"), extended("execute p"), extended("deallocate p"), extended("execute p"),
               extended("prepare q as select 1"), sync()]),
        ("b", "execute q"), ("a", "execute p"), ("b", "execute p"),
        ("b", [extended("prepare p as select 'b'"), extended("select 1/0"), extended("prepare q as select 1"), sync()]),
        ("a", "execute p"), ("b", "execute p"), ("b", "execute q"),
        ("b", [extended("execute p"), extended("begin"), extended("execute p"), sync()]), ("b", "commit"), ("a", "execute p"),
        ("b", [extended("begin isolation level serializable"), extended("execute p"), sync()]), ("b", "commit"),
    ])


def test_strings_of_several_statements(cluster, narrow, database, twin):
    """DEALLOCATE and EXECUTE among others; a PREPARE among others pins (the next test)."""
    same(cluster, narrow, database, twin, [
        ("a", "prepare p as select 'a'"), ("b", "prepare p as select 'b'"),
        ("a", "execute p; select 1; execute p"), ("b", "select 2; execute p; deallocate p; select 1/0; deallocate p"),
        ("b", "execute p"), ("a", "begin; execute p; commit; execute p"), ("a", "deallocate all; execute p"),
    ])


def test_a_prepare_among_others_keeps_its_backend(cluster, single, database, twin):
    program = [("a", "prepare p as select 'a'; select 1"), ("b", "prepare p as select 'b'"), ("a", "execute p"), ("b", "execute p"),
               ("a", "deallocate p; prepare p as select 'c'; select 1/0"), ("b", "execute p"), ("a", "execute p")]
    expected = run(cluster.primary, twin, program)
    assert run(single, database, program) == expected
    with single.connect(database=database) as client:
        client.query("prepare p as select 'now'::timestamptz; select 1")
        assert [row["reasons"] for row in pinned(single)] == ["PREPARED"]
        client.query("deallocate all")
        wait_until(lambda: not pinned(single), "the pin has ended")


def test_what_uses_a_prepared_statement(cluster, narrow, database, twin):
    same(cluster, narrow, database, twin, [
        ("a", "prepare p(int) as select i from t where i >= $1 order by i"),
        ("b", "prepare p as select 'b'"),
        ("a", "explain (costs off) execute p(3)"), ("b", "explain (costs off) execute p"),
        ("a", "create table made as execute p(4)"), ("a", "table made"), ("b", "execute p"),
        ("a", "explain (analyze, costs off, timing off, summary off, buffers off) create table made2 as execute p(4)"),
        ("a", "select count(*) from made2"), ("b", "execute p"),
    ])


def ran_on(cluster, client, sql):
    mark = cluster.mark()
    client.query(sql)
    return cluster.where(sql, mark)


def test_rule_f2_an_execute_is_what_it_runs(cluster, pgweir, database):
    """A prepared read runs on the standby, a prepared write on the primary."""
    proxy = pgweir(settings={"default_pool_size": 1, "workers": 1}).wait_for_replicas(database)
    with proxy.connect(database=database) as client:
        client.query("prepare r as select pg_is_in_recovery()")
        client.query("prepare t as select count(*), 'of the prepared' from t")
        client.query("prepare w(int) as insert into fixed values ($1)")
        client.query("execute w(7)")
        wait_until(lambda: client.query("select i from fixed where i = 7").rows, "it is there")
        assert client.value("execute r") == "f"  # what a server says of itself is asked of the primary
        wait_until(lambda: ran_on(cluster, client, "execute t") == ["standby1"], "the prepared read runs on the standby")
        client.query("execute w(8)")
        assert client.value("select count(*) from fixed where i = 8") == "1"


def test_every_backend_has_them(pgweir, database):
    """Many clients with one name on several backends."""
    proxy = pgweir(settings={"default_pool_size": 3, "workers": 2, "route": "primary"})
    clients = [proxy.connect(database=database) for _ in range(8)]
    try:
        for number, client in enumerate(clients):
            client.query(f"prepare p as select {number}")
        for _ in range(3):
            for client in clients:
                client.send(query("execute p"))
            for number, client in enumerate(clients):
                assert [m.values for m in client.read_until_ready() if m.type == "D"] == [(str(number),)]
    finally:
        for client in clients:
            client.close()


def test_the_bound(cluster, pgweir, database, twin):
    """max_prepared_statements bounds names of SQL as well, also when a pipeline needs more than that at once."""
    proxy = pgweir(settings={"default_pool_size": 1, "workers": 1, "route": "primary", "max_prepared_statements": 3})
    names = [f"p{n}" for n in range(8)]
    program = [("a", f"prepare {name} as select '{name}'") for name in names]
    program += [("b", f"prepare {name} as select 'b {name}'") for name in names]
    program += [("a", b"".join(extended(f"execute {name}") for name in names) + sync())]
    program += [("b", f"execute {name}") for name in names] + [("a", f"execute {name}") for name in reversed(names)]
    program += [("a", b"".join(parse(f"s{n}", f"select {n}") for n in range(8)) + sync())]
    program += [("a", b"".join(bind("", f"s{n}") + execute() for n in (0, 7, 1, 6, 2, 5, 3, 4)) + sync()), ("b", "execute p0")]
    same(cluster, proxy, database, twin, program)


BINDS_UNNAMED = [bind("", ""), execute(), sync()]
UNNAMED = {
    "never parsed": [],
    "never parsed, described": [("a", [describe("S", ""), sync()])],
    "dropped by a query": [("a", [extended("select 'a'"), sync()]), ("a", "select 1")],
    "dropped by discard all": [("a", [extended("select 'a'"), sync()]), ("a", "discard all")],
    "dropped by close": [("a", [extended("select 'a'"), close("S", ""), sync()])],
    "dropped in the same pipeline": [("a", [extended("select 'a'"), close("S", ""), *BINDS_UNNAMED])],
    "a parse that fails": [("a", [extended("select 'a'"), sync()]), ("a", [parse("", "select * from nowhere"), describe("S", ""), sync()])],
    "a parse that is skipped": [("a", [extended("select 'a'"), sync()]), ("a", [extended("select 1/0"), parse("", "select 'x'"), sync()])],
    "a long parse": [("a", [parse("", "select 'long' --" + 200000 * "x"), sync()]), ("a", BINDS_UNNAMED), ("b", BINDS_UNNAMED)],
    "in a transaction": [("a", "begin"), ("a", BINDS_UNNAMED), ("a", BINDS_UNNAMED), ("a", "rollback")],
}


@pytest.mark.parametrize("name", UNNAMED)
def test_rule_c3_an_unnamed_statement_is_its_clients_own(cluster, narrow, database, twin, name):
    """Where the client has none PostgreSQL says so, whatever another client has left on the backend."""
    spoils = ("b", [extended("select 'of b'"), sync()])
    program = [spoils, *UNNAMED[name], spoils, ("a", BINDS_UNNAMED), ("b", BINDS_UNNAMED), ("a", [describe("S", ""), sync()]), ("b", BINDS_UNNAMED)]
    expected, seen = run(cluster.primary, twin, program), run(narrow, database, program)
    assert seen == expected


SHOWN = "select name, statement, parameter_types, from_sql from pg_prepared_statements order by name"


def test_pg_prepared_statements(cluster, narrow, database, twin):
    same(cluster, narrow, database, twin, [
        ("a", SHOWN), ("a", "prepare p (int, text) as select $1, $2; "), ("a", [parse("q", "select $1::int8"), sync()]),
        ("b", SHOWN), ("b", "prepare p as select 'b'"), ("a", SHOWN), ("b", SHOWN),
        ("a", "begin"), ("a", SHOWN), ("a", "execute p(1, 'x')"), ("a", "commit"),
        ("a", [bind("", "q", ["5"]), execute(), sync()]), ("a", "deallocate p"), ("a", SHOWN), ("b", "execute p"), ("b", SHOWN),
    ])


def test_rule_d1_constants_are_those_of_the_prepare(cluster, single, database, twin):
    """A literal such as 'today' is read when the statement is prepared: it cannot be prepared elsewhere."""
    with single.connect(database=database) as client:
        client.query("prepare p as select 'now'::timestamptz::text")
        first = client.value("execute p")
        single.query("select 1", database=database)
        assert client.value("execute p") == first
        assert pinned(single)


def test_rule_d5_what_code_has_dropped_is_made_again(single, database):
    """Somebody's function deallocates everything on the backend that all share."""
    with single.connect(database=database) as client, single.connect(database=database) as other:
        client.query("prepare p as select 'mine'")
        client.send(parse("q", "select 'parsed'"), sync())
        client.read_until_ready()
        other.query("create function drops() returns void language plpgsql as $$ begin deallocate all; end $$")
        other.query("select drops()")
        other.close()
        assert client.value("execute p") == "mine"
        client.send(bind("", "q"), execute(), sync())
        assert client.brief_until_ready() == ["2", "D parsed", "C SELECT 1", "Z I"]


def test_rule_d5_what_vouched_code_has_dropped_is_made_again(pgweir, cluster, database):
    """The operator has vouched for a function, so that its backend is not doubted; what it deallocates is everybody's."""
    cluster.primary.query("create function vouched() returns void language plpgsql as $$ begin deallocate all; end $$",
                          database=database)
    proxy = pgweir(settings={"default_pool_size": 1, "workers": 1, "read_only_functions": "vouched"}).wait_for_replicas(database)
    to_primary = {"database": database, "options": "-c pgweir.route=primary"}
    with proxy.connect(**to_primary) as client, proxy.connect(**to_primary) as other:
        client.send(parse("q", "select 'parsed', pg_backend_pid()"), bind("", "q"), execute(), sync())
        told = [m.values for m in client.read_until_ready() if m.type == "D"]
        other.query("select vouched()")
        client.send(bind("", "q"), execute(), sync())
        assert [m.values for m in client.read_until_ready() if m.type == "D"] == told


ALTERS = ("d", "alter table fixed add column c int default 7")
STAR = "select * from fixed order by i"
# Each: "a" is told the columns of what it has prepared; then DDL changes them and "b" prepares the same text on the backend.
TOLD = {
    "by Describe": [("a", [parse("s", STAR), describe("S", "s"), sync()])],
    "with a portal": [("a", [parse("s", STAR), sync()]), ("a", [bind("", "s"), describe("P"), execute(), sync()])],
    "unnamed": [("a", [parse("", STAR), describe("S", ""), sync()])],
    "unnamed, with a portal": [("a", [parse("", STAR), sync()]), ("a", [bind(), execute(), sync()]), ("a", [parse("", STAR), sync()]),
                               ("a", [bind(), describe("P"), execute(), sync()])],
    "that it writes": [("a", [parse("s", "insert into fixed values (3) returning *"), describe("S", "s"), sync()])],
    "of all or nothing": [("a", [parse("s", STAR), describe("S", "s"), sync()]), ("d", "alter table fixed alter i type bigint")],
}
PREPARED_BY_B = [("b", [extended(STAR), sync()]), ("b", [parse("s", STAR), bind("", "s"), describe("P"), execute(), sync()]),
                 ("b", [parse("w", "insert into fixed values (3) returning *"), describe("S", "w"), sync()])]


@pytest.mark.parametrize("how", TOLD)
@pytest.mark.parametrize("where", ["alone", "twice", "in a transaction", "in a pipeline", "with a prelude", "in front of a Query"])
def test_rule_d3_who_was_told_other_columns_gets_the_error(cluster, narrow, database, twin, how, where):
    """... that it would get on a private connection, also when the backend has the statement of after the DDL."""
    name = "" if "unnamed" in how else "s"
    use = [bind("", name), execute(), sync()]
    steps = {
        "alone": [("a", use)],
        "twice": [("a", use), ("b", PREPARED_BY_B[0][1]), ("a", use)],
        "in a transaction": [("a", "begin"), ("a", [bind("", name), execute(), sync()] if name else use), ("a", "select 1"), ("a", "rollback")],
        "in a pipeline": [("a", [parse("n", "select 1"), bind("p", "n"), execute("p"), bind("", name), execute(), bind("q", "n"), execute("q"), sync()])],
        "with a prelude": [("a", "set work_mem = '5MB'"), ("b", "set work_mem = '6MB'"), ("a", use), ("a", "show work_mem")],
        "in front of a Query": [("a", [bind("", name), execute(), query("select 5"), sync()])],
    }[where]
    if not name and where in ("in a transaction", "with a prelude"):
        steps = [step for step in steps if not isinstance(step[1], str)]  # a Query drops the unnamed statement
    program = [*TOLD[how], ALTERS, *PREPARED_BY_B, *steps, ("b", "select count(*) from fixed"),
               ("a", [close("S", "s"), parse("s", STAR), describe("S", "s"), bind("", "s"), execute(), sync()]), ("a", [bind("", "s"), execute(), sync()])]
    expected, seen = run(cluster.primary, twin, program), run(narrow, database, program)
    assert seen == expected
    assert any("cached plan must not change result type" in line for _, _, lines in expected for line in lines)


def test_rule_d3_columns_that_are_the_same_are_no_error(cluster, narrow, database, twin):
    """Told columns that are still there, or there again, on a backend that has prepared the statement for somebody else."""
    use = ("a", [bind("", "s"), execute(), sync()])
    same(cluster, narrow, database, twin, [
        *TOLD["by Describe"], ("b", PREPARED_BY_B[1][1]), use, ALTERS, ("d", "alter table fixed drop column c"), ("b", [close("S", "s"), *PREPARED_BY_B[1][1]]),
        use, ("d", "alter table fixed alter i set default 5"), use, ("d", "drop table fixed"), ("d", "create table fixed(i int)"), use,
        ("a", "begin"), ("a", "drop table fixed"), use, ("a", "rollback"), use, ("d", "drop table fixed"), use, use,
    ])


def test_rule_d3_an_outdated_plan_is_made_anew(single, cluster, database):
    """DDL changes the columns of what is prepared: who asks for the columns, or never did, gets the new ones, who knows them gets
    PostgreSQL's error, once; in a transaction everybody does."""
    table = [parse("s", "select * from fixed order by i"), sync()]
    with single.connect(database=database) as asks, single.connect(database=database) as knows, \
            single.connect(database=database) as other, single.connect(database=database) as never:
        for client in (asks, knows, other, never):
            client.send(b"".join(table))
            client.read_until_ready()
        knows.send(describe("S", "s"), sync())
        knows.read_until_ready()
        asks.send(bind("", "s"), describe("P"), execute(), sync())
        assert "D 1" in asks.brief_until_ready()
        number = 1
        for client, message in ((other, [bind("", "s"), describe("P"), execute(), sync()]), (never, [bind("", "s"), execute(), sync()]),
                                (other, [describe("S", "s"), sync()])):
            cluster.primary.query(f"alter table fixed add column c{number} int default {number}", database=database)
            number += 1
            client.send(*message)
            assert not any(line.startswith("E") for line in client.brief_until_ready()), message
        cluster.primary.query("alter table fixed add column d text", database=database)
        knows.send(bind("", "s"), execute(), sync())
        assert knows.brief_until_ready() == ["E 0A000", "Z I"]
        knows.send(close("S", "s"), *table[:1], describe("S", "s"), sync())
        columns = [m.columns for m in knows.read_until_ready() if m.type == "T"]
        knows.send(bind("", "s"), execute(), sync())
        assert "C SELECT 2" in knows.brief_until_ready() and columns[0][-1] == "d"
        for client, status in ((never, "Z T"), (asks, "Z E")):
            client.query("begin")
            client.send(bind("", "s"), execute(), sync())
            assert client.brief_until_ready()[-1] == status
            client.query("rollback")


@pytest.mark.parametrize("setting, shown", [("standard_conforming_strings = off", r"c\d"), ("client_encoding = 'SJIS'", r"c\\d")])
def test_a_statement_is_read_by_its_clients_settings(single, database, setting, shown):
    """Of a text that only a client with settings of its own has sent there is no reading by the default ones."""
    with single.connect(database=database) as client:
        client.query(f"set {setting}")
        client.send(parse("s", r"select 'c\\d', $1::text"), sync(), bind("p", "s", ["1"]), execute("p"), sync())
        client.read_until_ready()
        assert client.brief_until_ready() == ["2", f"D {shown},1", "C SELECT 1", "Z I"]
