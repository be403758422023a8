"""Unnamed statements that repeat are run as shared prepared ones (unnamed_statement_cache), and nobody can tell: rules D1 to
D5 of CORRECTNESS.md.  The server's log says which name a statement was executed by."""
import itertools

import pytest
from harness.system import wait_until
from harness.wire import bind, describe, execute, parse, sync

SCHEMA = """
create table t(i int, note text);
insert into t select g, 'n' || g from generate_series(1, 5) g;
create table fixed(i int);
insert into fixed values (1);
"""
ROUNDS = 4  # a statement is parsed anew after a second: on a slow machine not every round finds the one of before
ONE = {"default_pool_size": 1, "workers": 1, "route": "primary"}


@pytest.fixture
def single(pgweir, database):
    """One backend."""
    return pgweir(settings=ONE)


def segment(sql, values=()):
    return parse("", sql) + bind("", "", values) + describe("P") + execute() + sync()


def told(messages):
    """All that is said, errors with their fields but for PostgreSQL's source; settings apart."""
    lines = []
    for m in messages:
        if m.type == "E":
            lines.append(m.brief + "".join(f" {k}={v}" for k, v in sorted(m.fields.items()) if k not in "FLR"))
        elif m.type == "T":
            lines.append("T " + ",".join(m.columns))
        elif m.type != "S":
            lines.append(m.brief)
    return lines


def run(client, sql, values=()):
    client.send(segment(sql, values))
    return told(client.read_until_ready())


def names(node, sql, mark):
    return [line.prepared_name for line in node.statements(mark) if line.statement == sql]


def until_shared(client, node, sql, values=()):
    """Repeats until the server runs it as a prepared statement of ours; the answers."""
    answers = []

    def is_shared():
        mark = node.mark()
        answers.append(run(client, sql, values))
        return any((name or "").startswith("pgweir_") for name in names(node, sql, mark))

    wait_until(is_shared, f"{sql} is shared")
    return answers


def test_an_unnamed_statement_becomes_a_shared_one(cluster, single, database):
    """The answers stay the same, message by message, and another client shares it."""
    sql = "select note from t where i = $1"
    with single.connect(database=database) as client, single.connect(database=database) as other:
        for answer in until_shared(client, cluster.primary, sql, ["2"]):
            assert answer == ["1", "2", "T note", "D n2", "C SELECT 1", "Z I"]
        mark = cluster.primary.mark()
        assert run(other, sql, ["3"]) == ["1", "2", "T note", "D n3", "C SELECT 1", "Z I"]
        assert [name.startswith("pgweir_") for name in names(cluster.primary, sql, mark)] == [True]


def test_it_stays_the_clients_unnamed_statement(cluster, single, database):
    """A later Bind without a Parse means it, whatever the backend's own unnamed statement is."""
    sql = "select note from t where i = $1"
    with single.connect(database=database) as client, single.connect(database=database) as other:
        run(other, "select 'of the other'")
        until_shared(client, cluster.primary, sql, ["2"])
        run(other, "select 'of the other'")
        client.send(bind("", "", ["4"]), execute(), sync())
        assert client.brief_until_ready() == ["2", "D n4", "C SELECT 1", "Z I"]
        client.query("select 1")
        client.send(bind("", "", ["4"]), execute(), sync())
        assert client.brief_until_ready() == ["E 26000", "Z I"]


def test_it_can_be_turned_off(cluster, pgweir, database):
    proxy = pgweir(settings={**ONE, "unnamed_statement_cache": 0})
    mark, sql = cluster.primary.mark(), "select note from t where i = $1"
    with proxy.connect(database=database) as client:
        for _ in range(30):
            run(client, sql, ["2"])
    assert set(names(cluster.primary, sql, mark)) == {"<unnamed>"}


@pytest.mark.parametrize("values", [["x"], ["99999999999"], [], ["1", "2"]])
def test_errors_are_those_of_a_private_connection(cluster, single, database, values):
    sql = "select note from t where i = $1"
    with single.connect(database=database) as client, cluster.primary.connect(database=database) as private:
        until_shared(client, cluster.primary, sql, ["2"])
        assert run(client, sql, values) == run(private, sql, values)
        assert run(client, sql, ["2"])[3:] == ["D n2", "C SELECT 1", "Z I"]


def test_errors_while_it_runs_too(cluster, single, database):
    sql = "select 10 / $1::int"
    with single.connect(database=database) as client, cluster.primary.connect(database=database) as private:
        until_shared(client, cluster.primary, sql, ["2"])
        assert run(client, sql, ["0"]) == run(private, sql, ["0"])


def test_writes_are_shared_and_done_once(cluster, single, database):
    sql = "insert into t values ($1::int, 'new')"
    with single.connect(database=database) as client:
        n = len(until_shared(client, cluster.primary, sql, ["77"]))
        for _ in range(20):
            assert run(client, sql, ["77"])[-2:] == ["C INSERT 0 1", "Z I"]
    assert cluster.primary.value("select count(*) from t where i = 77", database=database) == str(n + 20)


def test_on_a_standby(cluster, pgweir, database):
    proxy = pgweir(settings={"default_pool_size": 1, "workers": 1}).wait_for_replicas(database)
    sql = "select note from t where i = $1"
    with proxy.connect(database=database) as client:
        until_shared(client, cluster.standby, sql, ["2"])
        assert run(client, sql, ["5"])[3:] == ["D n5", "C SELECT 1", "Z I"]


def test_a_temporary_table_hides_the_other_at_once(cluster, single, database):
    sql = "select count(*) from fixed"
    with single.connect(database=database) as client:
        until_shared(client, cluster.primary, sql)
        client.query("create temporary table fixed(i int)")
        assert "D 0" in run(client, sql)


def test_ddl_that_passes_is_heeded_at_once(cluster, single, database):
    """A table of the same name in a schema that comes first: PostgreSQL itself would go on with the old one."""
    sql = "select count(*) from fixed"
    with single.connect(database=database, options="-c search_path=first,public") as client, \
            single.connect(database=database) as other:
        until_shared(client, cluster.primary, sql)
        other.query("create schema first; create table first.fixed(i int)")
        assert "D 0" in run(client, sql)


def test_ddl_elsewhere_is_heeded_in_a_moment(cluster, single, database):
    sql = "select count(*) from fixed"
    with single.connect(database=database, options="-c search_path=first,public") as client:
        until_shared(client, cluster.primary, sql)
        cluster.primary.query("create schema first; create table first.fixed(i int)", database=database)
        wait_until(lambda: "D 0" in run(client, sql), "the new table is seen")


def test_rule_d1_the_present_is_the_present(cluster, single, database):
    """A literal that means now is read at each Parse."""
    with single.connect(database=database) as client:
        times = [run(client, "select extract(epoch from 'now'::timestamptz) + $1::int", ["0"])[3] for _ in range(40)]
    assert len(set(times)) == len(times)


def test_rule_d1_constants_are_read_by_the_clients_own_settings(cluster, single, database):
    sql = "select to_char('01/02/2024'::date + $1::int, 'MM')"
    with single.connect(database=database, DateStyle="ISO, MDY") as mdy, single.connect(database=database, DateStyle="ISO, DMY") as dmy:
        until_shared(mdy, cluster.primary, sql, ["0"])
        for _ in range(ROUNDS):
            assert "D 01" in run(mdy, sql, ["0"])
            assert "D 02" in run(dmy, sql, ["0"])


def test_rule_d2_types_are_looked_up_anew(cluster, single, database):
    """A column that becomes text: a parameter whose type was inferred before would be refused."""
    with single.connect(database=database) as client:
        for n in range(ROUNDS):
            cluster.primary.query(f"create table p{n}(i int, note text); insert into p{n} values (5, 'five')", database=database)
            sql = f"select note from p{n} where i = $1"
            until_shared(client, cluster.primary, sql, ["5"])
            cluster.primary.query(f"alter table p{n} alter i type text; insert into p{n} values ('abc', 'letters')", database=database)
            assert run(client, sql, ["abc"]) == ["1", "2", "T note", "D letters", "C SELECT 1", "Z I"]


def test_rule_d3_nothing_is_shared_in_a_transaction(cluster, single, database):
    """An outdated plan would be an error there, and the transaction lost."""
    with single.connect(database=database) as client:
        for n in range(ROUNDS):
            until_shared(client, cluster.primary, "select * from fixed")
            client.query("begin")
            client.query("select 1")
            cluster.primary.query(f"alter table fixed add column c{n} int", database=database)
            answer = run(client, "select * from fixed")
            assert answer[-1] == "Z T", answer
            client.query("commit")


def test_rule_d4_a_worse_plan_is_given_up(cluster, single, database):
    """The generic plan is right for the common value and reads the whole table for one that is not there."""
    cluster.primary.query("create table skew(id int primary key, k int); create index on skew(k); "
                          "insert into skew select g, 1 from generate_series(1, 200000) g; analyze skew", database=database)
    sql = "select id from skew where k = $1 order by id limit 1"
    with single.connect(database=database) as client:
        until_shared(client, cluster.primary, sql, ["1"])
        for _ in range(10):
            run(client, sql, ["1"])

        def is_given_up():
            mark = cluster.primary.mark()
            for _ in range(8):
                run(client, sql, ["0"])
            return names(cluster.primary, sql, mark) == ["<unnamed>"] * 8

        wait_until(is_given_up, "the shared statement is given up")


def test_rule_d5_a_parse_alone_is_judged_by_the_server(cluster, single, database):
    sql = "select note from t where i = $1"
    with single.connect(database=database) as client:
        until_shared(client, cluster.primary, sql, ["2"])
        cluster.primary.query("alter table t rename note to other", database=database)
        client.send(parse("", sql), describe("S"), sync())
        assert client.brief_until_ready() == ["E 42703", "Z I"]
        assert run(client, sql, ["2"])[0].startswith("E 42703")


def test_rule_d5_what_code_has_dropped_is_made_again(cluster, pgweir, database):
    cluster.primary.query("create function vouched() returns void language plpgsql as $$ begin deallocate all; end $$",
                          database=database)
    proxy = pgweir(settings={**ONE, "read_only_functions": "vouched"})
    sql = "select note from t where i = $1"
    with proxy.connect(database=database) as client, proxy.connect(database=database) as other:
        for _ in range(ROUNDS):
            until_shared(client, cluster.primary, sql, ["2"])
            other.query("select vouched()")
            assert run(client, sql, ["2"]) == ["1", "2", "T note", "D n2", "C SELECT 1", "Z I"]


def test_many_texts_stay_within_the_bound(cluster, pgweir, database):
    """More repeating texts than a connection may keep: each answers for itself."""
    proxy = pgweir(settings={**ONE, "max_prepared_statements": 5})
    texts = [f"select $1::int + {n}" for n in range(12)]
    with proxy.connect(database=database) as client:
        for _, (n, sql) in itertools.product(range(25), enumerate(texts)):
            assert f"D {100 + n}" in run(client, sql, ["100"])
