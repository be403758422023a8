"""The protocol, message by message, as any right pooler passes it on.  Compared with what PostgreSQL itself answers."""
import struct

import pytest
from harness.proxy import Direct
from harness.wire import (GSSENC_REQUEST, PROTOCOL_3_0, SSL_REQUEST, Connection, PgError, bind, close, copy_data, copy_done,
                          copy_fail, describe, execute, extended, flush, function_call, parse, query, request, startup, sync)


@pytest.fixture
def client(target, database):
    with target.connect(database=database) as connection:
        yield connection


def test_startup_reports_parameters_and_a_key(client):
    assert client.parameters["server_version"]
    assert client.parameters["client_encoding"] == "UTF8"
    assert client.pid > 0
    assert len(client.key) == 4


def test_simple_query(client):
    client.send(query("select 1 as one, null as none"))
    assert client.brief_until_ready() == ["T", "D 1,null", "C SELECT 1", "Z I"]


def test_empty_query(client):
    client.send(query(""))
    assert client.brief_until_ready() == ["I", "Z I"]
    client.send(query(" ; "))
    assert client.brief_until_ready() == ["I", "Z I"]


def test_several_statements_in_one_query(client):
    client.send(query("create table t(i int); insert into t values (1), (2); select i from t order by i"))
    assert client.brief_until_ready() == ["C CREATE TABLE", "C INSERT 0 2", "T", "D 1", "D 2", "C SELECT 2", "Z I"]


def test_error_ends_the_string_and_rolls_it_back(client):
    client.query("create table t(i int)")
    client.send(query("insert into t values (1); select 1/0; insert into t values (2)"))
    assert client.brief_until_ready() == ["C INSERT 0 1", "E 22012", "Z I"]
    assert client.value("select count(*) from t") == "0"


def test_transaction_states(client):
    for sql, expected in [("begin", ["C BEGIN", "Z T"]), ("select 1", ["T", "D 1", "C SELECT 1", "Z T"]),
                          ("select 1/0", ["E 22012", "Z E"]), ("select 1", ["E 25P02", "Z E"]),
                          ("rollback", ["C ROLLBACK", "Z I"])]:
        client.send(query(sql))
        assert [b for b in client.brief_until_ready() if not (sql == "select 1/0" and b == "T")] == expected


def test_warnings_of_transaction_commands(client):
    """PostgreSQL's own notices, which a proxy that answers BEGIN itself must not lose."""
    client.send(query("commit"))
    assert client.brief_until_ready() == ["N 25P01", "C COMMIT", "Z I"]
    client.query("begin")
    client.send(query("begin"))
    assert client.brief_until_ready() == ["N 25001", "C BEGIN", "Z T"]
    client.send(query("start transaction"))
    assert client.brief_until_ready() == ["N 25001", "C START TRANSACTION", "Z T"]
    client.send(query("rollback"))
    assert client.brief_until_ready() == ["C ROLLBACK", "Z I"]


def test_commit_of_a_failed_transaction(client):
    client.query("begin")
    client.query("select 1/0", check=False)
    client.send(query("commit"))
    assert client.brief_until_ready() == ["C ROLLBACK", "Z I"]


def test_notices_come_in_order(client):
    client.send(query("do $$ begin raise notice 'one'; raise warning 'two'; end $$"))
    assert client.brief_until_ready() == ["N 00000", "N 01000", "C DO", "Z I"]


def test_extended_unnamed(client):
    client.send(extended("select $1::int + 1", ["41"]), sync())
    assert client.brief_until_ready() == ["1", "2", "T", "D 42", "C SELECT 1", "Z I"]


def test_extended_named_over_many_cycles(client):
    client.send(parse("s1", "select $1::text || 'x'"), sync())
    assert client.brief_until_ready() == ["1", "Z I"]
    for word in ("a", "b", "c"):
        client.send(bind("", "s1", [word]), execute(), sync())
        assert client.brief_until_ready() == ["2", f"D {word}x", "C SELECT 1", "Z I"]
    client.send(describe("S", "s1"), sync())
    assert client.brief_until_ready() == ["t", "T", "Z I"]
    client.send(close("S", "s1"), sync())
    assert client.brief_until_ready() == ["3", "Z I"]
    client.send(bind("", "s1", ["d"]), execute(), sync())
    assert client.brief_until_ready() == ["E 26000", "Z I"]


def test_statement_name_twice(client):
    client.send(parse("twice", "select 1"), sync(), parse("twice", "select 2"), sync())
    assert client.brief_until_ready() == ["1", "Z I"]
    assert client.brief_until_ready() == ["E 42P05", "Z I"]
    client.send(close("S", "twice"), parse("twice", "select 3"), bind("", "twice"), execute(), sync())
    assert client.brief_until_ready() == ["3", "1", "2", "D 3", "C SELECT 1", "Z I"]


def test_statement_is_not_made_by_a_failed_parse(client):
    client.send(parse("bad", "select nonsense from nowhere"), sync())
    assert client.brief_until_ready() == ["E 42P01", "Z I"]
    client.send(bind("", "bad"), execute(), sync())
    assert client.brief_until_ready() == ["E 26000", "Z I"]


def test_close_of_what_is_not_there(client):
    client.send(close("S", "nobody"), close("P", "nobody"), sync())
    assert client.brief_until_ready() == ["3", "3", "Z I"]


def test_unnamed_statement_survives_its_sync(client):
    client.send(parse("", "select 42"), describe("S", ""), sync())
    assert client.brief_until_ready() == ["1", "t", "T", "Z I"]
    client.send(bind(), execute(), sync())
    assert client.brief_until_ready() == ["2", "D 42", "C SELECT 1", "Z I"]


def test_simple_query_drops_the_unnamed_statement(client):
    client.send(parse("", "select 42"), sync())
    client.brief_until_ready()
    client.query("select 1")
    client.send(bind(), execute(), sync())
    assert client.brief_until_ready() == ["E 26000", "Z I"]


def test_error_skips_to_sync(client):
    client.send(extended("select 1/0"), extended("select 2"), sync(), extended("select 3"), sync())
    assert client.brief_until_ready() == ["1", "E 22012", "Z I"] or pytest.fail("the rest of the segment was not skipped")
    assert client.brief_until_ready() == ["1", "2", "T", "D 3", "C SELECT 1", "Z I"]


def test_pipeline_of_many_syncs(client):
    client.query("create table t(i int)")
    count = 50
    client.send(*[extended(f"insert into t values ({n}) returning i") + sync() for n in range(count)])
    for n in range(count):
        assert client.brief_until_ready() == ["1", "2", "T", f"D {n}", "C INSERT 0 1", "Z I"]
    assert client.value("select count(*) from t") == str(count)


def test_pipeline_without_sync_is_one_transaction(client):
    client.query("create table t(i int)")
    client.send(extended("insert into t values (1)"), extended("select 1/0"), sync())
    assert "E 22012" in client.brief_until_ready()
    assert client.value("select count(*) from t") == "0"


def test_rule_a3_begin_in_the_middle_of_a_pipeline(client):
    """It absorbs the implicit transaction: ROLLBACK undoes what came before."""
    client.query("create table t(i int)")
    client.send(extended("insert into t values (1)"), extended("begin"), sync())
    assert client.brief_until_ready()[-1] == "Z T"
    client.query("rollback")
    assert client.value("select count(*) from t") == "0"
    client.send(query("insert into t values (2); begin; select 1"))
    assert client.brief_until_ready()[-1] == "Z T"
    client.query("rollback")
    assert client.value("select count(*) from t") == "0"


def test_pipeline_of_simple_queries(client):
    client.send(*[query(f"select {n}") for n in range(20)])
    for n in range(20):
        assert client.brief_until_ready() == ["T", f"D {n}", "C SELECT 1", "Z I"]


def test_simple_and_extended_mixed_in_one_write(client):
    client.send(query("select 1"), extended("select 2"), sync(), query("select 3"), extended("select 4"), sync())
    assert client.brief_until_ready() == ["T", "D 1", "C SELECT 1", "Z I"]
    assert client.brief_until_ready() == ["1", "2", "T", "D 2", "C SELECT 1", "Z I"]
    assert client.brief_until_ready() == ["T", "D 3", "C SELECT 1", "Z I"]
    assert client.brief_until_ready() == ["1", "2", "T", "D 4", "C SELECT 1", "Z I"]


def test_flush_without_sync(client):
    client.send(parse("", "select 7"), flush())
    assert client.read().type == "1"
    client.send(bind(), describe("P"), flush())
    assert [m.type for m in (client.read(), client.read())] == ["2", "T"]
    client.send(execute(), flush())
    assert [m.brief for m in client.read_until("C")] == ["D 7", "C SELECT 1"]
    client.send(sync())
    assert client.brief_until_ready() == ["Z I"]


def test_portal_with_row_limit(client):
    client.send(parse("", "select * from generate_series(1, 5)"), bind(), execute("", 2), execute("", 2), execute("", 2), sync())
    assert client.brief_until_ready() == ["1", "2", "D 1", "D 2", "s", "D 3", "D 4", "s", "D 5", "C SELECT 1", "Z I"]


def test_named_portal_in_a_transaction(client):
    client.query("begin")
    client.send(parse("rows", "select * from generate_series(1, 3)"), bind("p1", "rows"), execute("p1", 1), sync())
    assert client.brief_until_ready() == ["1", "2", "D 1", "s", "Z T"]
    client.send(query("select 'between'"))
    assert client.brief_until_ready() == ["T", "D between", "C SELECT 1", "Z T"]
    client.send(execute("p1", 0), close("P", "p1"), sync())
    assert client.brief_until_ready() == ["D 2", "D 3", "C SELECT 2", "3", "Z T"]
    client.query("commit")
    client.send(execute("p1", 0), sync())
    assert client.brief_until_ready() == ["E 34000", "Z I"]


def test_sql_cursor_in_a_transaction(client):
    client.query("begin")
    client.query("declare c cursor for select * from generate_series(1, 10)")
    assert client.query("fetch 3 from c").rows == [("1",), ("2",), ("3",)]
    assert client.query("move 5 in c").tags == ["MOVE 5"]
    assert client.query("fetch all from c").rows == [("9",), ("10",)]
    client.query("close c")
    client.query("commit")


def test_copy_in(client):
    client.query("create table t(a int, b text)")
    client.send(query("copy t from stdin"))
    assert client.read().type == "G"
    client.send(*[copy_data(f"{n}\tword {n}\n") for n in range(1000)], copy_done())
    assert client.brief_until_ready() == ["C COPY 1000", "Z I"]
    assert client.query("select count(*), sum(a) from t").rows == [("1000", "499500")]


def test_copy_in_in_one_write_with_the_query(client):
    client.query("create table t(a int)")
    client.send(query("copy t from stdin"), copy_data("1\n2\n"), copy_data("3\n"), copy_done(), query("select sum(a) from t"))
    assert client.brief_until_ready() == ["G", "C COPY 3", "Z I"]
    assert client.brief_until_ready() == ["T", "D 6", "C SELECT 1", "Z I"]


def test_copy_in_extended(client):
    client.query("create table t(a int)")
    client.send(parse("", "copy t from stdin"), bind(), execute(), sync())
    assert [m.type for m in client.read_until("G")] == ["1", "2", "G"]
    client.send(copy_data("1\n"), copy_done(), sync())
    assert client.brief_until_ready() == ["C COPY 1", "Z I"]
    assert client.value("select count(*) from t") == "1"


def test_copy_in_that_the_client_gives_up(client):
    client.query("create table t(a int)")
    client.send(query("copy t from stdin"))
    client.read_until("G")
    client.send(copy_data("1\n"), copy_fail("no more"))
    assert client.brief_until_ready() == ["E 57014", "Z I"]
    assert client.value("select count(*) from t") == "0"


def test_copy_in_that_the_server_refuses(client):
    """The error comes in the middle of the data; what is still under way is ignored."""
    client.query("create table t(a int)")
    client.send(query("copy t from stdin"))
    client.read_until("G")
    client.send(copy_data("1\nnot a number\n"), *[copy_data(f"{n}\n") for n in range(5000)], copy_done())
    assert client.brief_until_ready() == ["E 22P02", "Z I"]
    assert client.query("select 1").rows == [("1",)]


def test_copy_out(client):
    client.send(query("copy (select g, 'x' from generate_series(1, 1000) g) to stdout"))
    messages = client.read_until_ready()
    assert [messages[0].type, messages[-3].type, messages[-2].brief, messages[-1].brief] == ["H", "c", "C COPY 1000", "Z I"]
    assert b"".join(m.body for m in messages if m.type == "d").count(b"\n") == 1000


def test_copy_out_that_fails_in_the_middle(client):
    client.send(query("copy (select 1/(100 - g) from generate_series(1, 200) g) to stdout"))
    messages = client.read_until_ready()
    assert [messages[-2].brief, messages[-1].brief] == ["E 22012", "Z I"]


def test_function_call(client):
    client.send(function_call(1318, ["hello"]))  # length(text) of bpchar is 1318
    assert client.read_until_ready()[-1].brief == "Z I"


def test_listen_and_notify_self(target, database):
    with target.connect(database=database) as client:
        client.send(query("listen news"))
        assert client.brief_until_ready() == ["C LISTEN", "Z I"]
        client.send(query("notify news, 'hello'"))
        assert client.brief_until_ready() == ["C NOTIFY", "A news hello", "Z I"]


NOTIFIES = {
    "notify": ["notify news, 'x'"],
    "a function": ["select pg_notify('news', 'x')"],
    "a transaction": ["begin", "notify news, 'x'", "select 1", "commit"],
    "a trigger": ["insert into told values (1)"],
    "code": ["do $$ begin notify news, 'x'; end $$"],
    "a pipeline": [extended("select 1") + extended("notify news, 'x'") + extended("select 2") + sync()],
}


@pytest.mark.parametrize("how", NOTIFIES)
def test_a_notification_names_its_sender_by_the_pid_that_it_was_told(target, database, how):
    with target.connect(database=database) as listener, target.connect(database=database) as sender, target.connect(database=database) as other:
        sender.query("create table told(i int); create function tells() returns trigger language plpgsql as"
                     " $$ begin notify news, 'x'; return new; end $$; create trigger t after insert on told for each row execute function tells()")
        other.query("begin; select 1 for update; commit")
        listener.query("listen news")
        for sql in NOTIFIES[how]:
            sender.send(query(sql) if isinstance(sql, str) else sql)
            sender.read_until_ready()
        told = listener.read()
        assert (told.brief, struct.unpack_from("!I", told.body)[0]) == ("A news x", sender.pid)
        listener.send(query("notify news, 'mine'"))
        told = [m for m in listener.read_until_ready() if m.type == "A"]
        assert [struct.unpack_from("!I", m.body)[0] for m in told] == [listener.pid]


def test_no_notification_is_lost_right_behind_its_listen(target, database):
    """While something of the proxy's own may still be with the server."""
    with target.connect(database=database) as listener, target.connect(database=database) as sender:
        sender.query("create temp table t(i int)")
        for number in range(300):
            listener.query(f"listen channel{number}")
            sender.query(f"notify channel{number}")
            assert listener.read().brief == f"A channel{number}"


@pytest.mark.parametrize("size", [100, 8000, 70000, 3_000_000])
def test_rows_of_any_size(client, size):
    result = client.extended(f"select repeat('x', {size}), 'end'")
    assert len(result.rows[0][0]) == size
    assert result.rows[0][1] == "end"


@pytest.mark.parametrize("size", [100, 8000, 70000, 3_000_000])
def test_queries_of_any_size(client, size):
    assert client.query(f"select length('{'y' * size}')").rows == [(str(size),)]
    assert client.extended("select length($1)", ["z" * size]).rows == [(str(size),)]


def test_many_rows(client):
    result = client.query("select g, repeat('r', g % 300) from generate_series(1, 20000) g")
    assert len(result.rows) == 20000
    assert all(len(text) == int(number) % 300 for number, text in result.rows)


def test_every_split_of_a_conversation(client):
    """The same bytes in pieces of every small size have the same answer."""
    client.query("create table t(i int)")
    data = (parse("", "select $1::int") + bind("", "", ["5"]) + describe("P") + execute() + sync() + query("select 'q'")
            + parse("s", "insert into t values (1)") + bind("", "s") + execute() + close("S", "s") + sync())
    for size in (1, 2, 3, 5, 7, 11, 23, len(data)):
        client.send_split(data, size)
        assert client.brief_until_ready() == ["1", "2", "T", "D 5", "C SELECT 1", "Z I"]
        assert client.brief_until_ready() == ["T", "D q", "C SELECT 1", "Z I"]
        assert client.brief_until_ready() == ["1", "2", "C INSERT 0 1", "3", "Z I"]
    assert client.value("select count(*) from t") == "8"


def test_split_startup(target, database):
    with Connection(target.port) as client:
        client.send_split(startup({"user": "postgres", "database": database}))
        client.authenticate("postgres", None)
        assert client.read_until_ready()[-1].brief == "Z I"


def test_encryption_requests_are_answered(target, database):
    with Connection(target.port) as client:
        client.send(request(GSSENC_REQUEST))
        answer = client.read_byte()
        if isinstance(target, Direct) and answer == b"G":
            return  # a server built with GSSAPI, which a pooler cannot speak
        assert answer == b"N"
        client.send(request(SSL_REQUEST))
        if client.read_byte() == b"N":
            client.send(startup({"user": "postgres", "database": database}))
            client.authenticate("postgres", None)
            assert client.read_until_ready()[-1].brief == "Z I"


def test_missing_database_is_refused_with_the_servers_error(target):
    with pytest.raises(PgError) as refusal:
        target.connect(database="there_is_no_such_database")
    assert refusal.value.sqlstate == "3D000"


def test_newer_protocol_is_negotiated(target, database):
    """A minor version or an option that nobody knows is answered with what is known, and login goes on."""
    with Connection(target.port) as client:
        client.send(startup({"user": "postgres", "database": database, "_pq_.unheard_of": "1"}, PROTOCOL_3_0 + 9999))
        messages = [client.read()]
        assert messages[0].type == "v"
        assert b"_pq_.unheard_of" in messages[0].body
        client.authenticate("postgres", None)
        assert client.read_until_ready()[-1].brief == "Z I"


def test_unknown_major_protocol_is_refused(target):
    with Connection(target.port) as client:
        client.send(startup({"user": "postgres"}, 4 << 16))
        messages = client.read_to_end()
        assert [m.type for m in messages] in (["E"], [])


def test_terminate_ends_the_connection(target, database):
    client = target.connect(database=database)
    client.send(b"X\0\0\0\4")
    assert client.is_closed()
    client.drop()


def test_client_that_vanishes_in_a_transaction_leaves_no_lock(target, database):
    target.query("create table t(i int)", database=database)
    gone = target.connect(database=database)
    gone.query("begin")
    gone.query("lock table t in access exclusive mode")
    gone.reset()
    with target.connect(database=database) as client:
        client.query("insert into t values (1)")


def test_cancel_hits_the_right_query(target, database):
    with target.connect(database=database) as client, target.connect(database=database) as other:
        other.send(query("select pg_sleep(2), 'not hit'"))
        client.send(query("select pg_sleep(600)"))
        # A cancel that comes before the query has started is lost, by PostgreSQL's own rules: so it is repeated.
        while not client.backlog:
            client.cancel()
            if not client.nothing_comes(0.2):
                break
        assert [b for b in client.brief_until_ready() if b != "T"] == ["E 57014", "Z I"]
        assert "D ,not hit" in other.brief_until_ready()
        assert client.query("select 1").rows == [("1",)]


def test_cancel_with_a_wrong_key_hits_nothing(target, database):
    with target.connect(database=database) as client:
        client.send(query("select pg_sleep(1), 'whole'"))
        client.cancel(key=bytes(byte ^ 0x55 for byte in client.key))
        assert "D ,whole" in client.brief_until_ready()
