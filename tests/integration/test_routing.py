"""Where statements run, by the servers' own logs: reads on the standby, everything else on the primary."""
import pytest
from harness import wire
from harness.proxy import Pgweir

SCHEMA = """
create table accounts(id int primary key, balance int);
insert into accounts select g, 100 from generate_series(1, 50) g;
create unlogged table scratch(i int);
create sequence numbers;
create view rich as select * from accounts where balance > 1000;
create function reads(int) returns int language sql stable as 'select balance from accounts where id = $1';
create function writes(int) returns int language sql volatile as 'update accounts set balance = balance + 1 where id = $1 returning balance';
create view sneaky as select writes(1) as w;
"""

READS = [
    "select count(*) from accounts",
    "select * from accounts where id = 7",
    "values (1, 'two')",
    "table rich",
    "with a as (select * from accounts) select max(balance) from a",
    "select upper('x'), length('yy'), 1 + 1",
    "select (select balance from accounts where id = 3) + 1",
    "explain select * from accounts",
    "select reads(5)",
    "(select 1 union select 2) order by 1",
    "copy (select * from accounts) to stdout",
]
WRITES = [
    "insert into accounts values (1001, 5)",
    "update accounts set balance = 0 where id = 9",
    "delete from accounts where id = 50",
    "with gone as (delete from accounts where id = 49 returning *) select count(*) from gone",
    "select * from accounts where id = 1 for update",
    "select nextval('numbers')",
    "select writes(2)",
    "select * from sneaky",
    "select count(*) from scratch",
    "select last_value from numbers",
    "create table made(i int)",
    "select * into copied from accounts",
    "explain analyze update accounts set balance = 1 where id = 2",
    "select pg_advisory_xact_lock(1)",
    "select count(*) from pg_stat_activity",
    "do $$ begin perform 1; end $$",
    "select txid_current() is not null",
    "vacuum accounts",
    "select pg_notify('x', 'y')",
]


@pytest.fixture(scope="module")
def proxy_for_routing(shared_cluster):
    """Freshness is another matter (test_consistency.py): here a read goes to the standby whenever it may.  One worker: each of
    them begins a transaction on the primary as long as it has not heard from there which isolation is the default."""
    with Pgweir(shared_cluster, settings={"consistency": "eventual", "workers": 1}) as proxy:
        yield proxy


@pytest.fixture
def proxy(proxy_for_routing, database):
    """Ready: the facts of the database are loaded, and its replica is used."""
    proxy_for_routing.wait_for_replicas(database)
    return proxy_for_routing


@pytest.fixture
def client(proxy, database):
    with proxy.connect(database=database) as connection:
        yield connection


def ran_on(cluster, client, send, sql):
    """Runs one statement; names of the servers that logged it."""
    mark = cluster.mark()
    result = send(sql)
    assert not result.errors, result.errors
    return cluster.where(sql, mark)


@pytest.mark.parametrize("sql", READS)
@pytest.mark.parametrize("protocol", ["query", "extended"])
def test_reads_run_on_the_standby(cluster, client, protocol, sql):
    assert ran_on(cluster, client, getattr(client, protocol), sql) == ["standby1"]


@pytest.mark.parametrize("sql", WRITES)
@pytest.mark.parametrize("protocol", ["query", "extended"])
def test_the_rest_runs_on_the_primary_and_nowhere_else(cluster, client, protocol, sql):
    mark = cluster.standby.mark()
    assert ran_on(cluster, client, getattr(client, protocol), sql) == ["primary"]
    assert cluster.standby.errors(mark) == []


def test_strictest_part_of_a_multi_statement_string(cluster, client):
    sql = "select 1; insert into accounts values (2000, 1); select 2"
    assert ran_on(cluster, client, client.query, sql) == ["primary"]
    assert ran_on(cluster, client, client.query, "select 1; select count(*) from accounts") == ["standby1"]


def test_named_statement_runs_on_both_servers_as_routing_wants(cluster, client):
    """Prepared once by the client; read on the standby, then on the primary inside a writing transaction."""
    client.send(wire.parse("s", "select balance from accounts where id = $1"), wire.sync())
    client.brief_until_ready()
    mark = cluster.mark()
    client.send(wire.bind("", "s", ["3"]), wire.execute(), wire.sync())
    assert client.brief_until_ready() == ["2", "D 100", "C SELECT 1", "Z I"]
    client.query("begin")
    client.query("update accounts set balance = 101 where id = 3")
    client.send(wire.bind("", "s", ["3"]), wire.execute(), wire.sync())
    assert client.brief_until_ready() == ["2", "D 101", "C SELECT 1", "Z T"]
    client.query("commit")
    assert cluster.where("select balance from accounts where id = $1", mark) == ["primary", "standby1"]


def test_read_only_transactions_run_on_the_standby(cluster, client):
    mark = cluster.mark()
    for begin in ("begin read only", "start transaction isolation level repeatable read, read only"):
        client.query(begin)
        assert client.query("select sum(balance) from accounts").rows
        assert client.query("select count(*) from accounts").rows
        assert client.query("insert into accounts values (3000, 1)", check=False).sqlstate == "25006"
        client.query("rollback")
    assert set(cluster.where("select sum(balance) from accounts", mark)) == {"standby1"}


def test_writing_transactions_run_on_the_primary(cluster, client):
    mark = cluster.mark()
    client.query("begin")
    client.query("update accounts set balance = balance - 1 where id = 1")
    assert client.query("select balance from accounts where id = 1").rows == [("99",)]
    client.query("commit")
    assert cluster.where("select balance from accounts where id = 1", mark) == ["primary"]
    assert cluster.standby.errors(mark["standby1"]) == []


def test_serializable_runs_on_the_primary(cluster, client):
    mark = cluster.mark()
    client.query("begin isolation level serializable")
    client.query("select max(id) from accounts")
    client.query("commit")
    assert cluster.where("select max(id) from accounts", mark) == ["primary"]


def test_hint_sends_a_read_to_the_primary(cluster, client):
    sql = "/* pgweir: route=primary */ select count(*) from accounts"
    assert ran_on(cluster, client, client.query, sql) == ["primary"]


def test_session_setting_routes(cluster, client):
    client.query("set pgweir.route = 'primary'")
    assert ran_on(cluster, client, client.query, "select 'by the session'") == ["primary"]
    client.query("reset pgweir.route")
    assert ran_on(cluster, client, client.query, "select 'by default'") == ["standby1"]


def test_startup_option_routes(cluster, proxy, database):
    with proxy.connect(database=database, options="-c pgweir.route=primary") as client:
        assert ran_on(cluster, client, client.query, "select 'by start-up option'") == ["primary"]


@pytest.mark.parametrize("text", [
    "set pgweir.route = 'primary'; insert into accounts values (2000, 1)",
    "insert into accounts values (2000, 1); set pgweir.route = 'primary'",
    "begin; set local pgweir.route = 'primary'; insert into accounts values (2000, 1); commit",
    "set pgweir.route = 'nowhere'; insert into accounts values (2000, 1)",
    "insert into accounts values (2000, 1); show pgweir.route", "reset pgweir.route; insert into accounts values (2000, 1)"])
@pytest.mark.parametrize("begin", [[], ["begin"], ["begin", "savepoint s"], ["begin", "select count(*) from accounts"],
                                   ["begin", "update accounts set balance = 1 where id = 1"]], ids=lambda begin: begin[-1] if begin else "alone")
def test_a_setting_among_other_statements_is_an_error(client, text, begin):
    """Of which nothing is executed: not the others without the setting, and not the setting without the others."""
    for sql in begin:
        client.query(sql)
    result = client.query(text, check=False)
    assert result.sqlstate == "0A000" and result.tags == [] and "pgweir" in result.errors[0]["M"]
    if begin:
        assert client.query("select 1", check=False).sqlstate == "25P02"
        assert client.query(text, check=False).sqlstate == "25P02"
        assert client.query("commit").tags == ["ROLLBACK"]
    assert client.value("show pgweir.route") == "auto"
    assert client.value("/* pgweir: route=primary */ select count(*) from accounts where id = 2000") == "0"


def test_route_of_a_database_alias(pgweir, cluster, database):
    proxy = pgweir(databases={"only_primary": {"dbname": database, "route": "primary"}})
    proxy.wait_for_replicas(database)
    with proxy.connect(database="only_primary") as client:
        assert ran_on(cluster, client, client.query, "select 'by alias'") == ["primary"]


def test_explain_route_on_the_console(proxy, database):
    answer = proxy.admin(f"explain route on {database} select count(*) from accounts")
    assert answer[0]["target"] == "replica"
    answer = proxy.admin(f"explain route on {database} update accounts set balance = 0")
    assert answer[0]["target"] == "primary"
    assert answer[0]["reason"]


def test_new_function_is_known_soon_and_never_guessed(cluster, client):
    """DDL that passes makes facts stale: until they are new, what it may have changed goes to the primary."""
    client.query("create table audit(i int)")
    client.query("create function innocent() returns int language sql stable as 'select 1'")
    assert client.query("select innocent()").rows == [("1",)]
    client.query("create or replace function innocent() returns int language sql volatile as "
                 "'insert into audit values (1) returning i'")
    mark = cluster.mark()
    assert client.query("select innocent()").rows == [("1",)]
    assert cluster.where("select innocent()", mark) == ["primary"]
    assert client.value("/* pgweir: route=primary */ select count(*) from audit") == "1"
