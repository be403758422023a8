"""Scenarios of PgBouncer's topics that no other file has: databases and users that are not there, COPY that fails under a small
pool, cancel requests of clients that wait."""
import pytest
from harness.system import wait_until
from harness.wire import Connection, PgError, bind, copy_data, copy_done, execute, parse, query, sync

KINDS = ["trust", "plain", "md5", "scram-sha-256"]


def refusal(proxy, *arguments, **more):
    with pytest.raises(PgError) as refused:
        with proxy.connect(*arguments, **more) as client:
            client.query("select 1")
    return refused.value


# --- no database, no user ---


@pytest.fixture(params=KINDS)
def by_kind(request, pgweir):
    """A proxy with that auth_type, with the databases that it lists and no others; and who may log in."""
    auth_type = request.param
    proxy = pgweir(settings={"auth_type": auth_type, "route": "primary"}, accounts={"plain_user": "right"},
                   databases={"listed": "dbname=postgres", "not_on_the_server": "dbname=nowhere_at_all", "forced": "dbname=postgres user=postgres"})
    words = {} if auth_type == "trust" else {"password": "right"}
    return proxy, auth_type, words


def test_databases_that_are_not_there(by_kind):
    proxy, auth_type, words = by_kind
    with proxy.connect("plain_user", "listed", **words) as client:
        assert client.value("select current_database()") == "postgres"
    # the server's own words, by an entry and by "*"
    for database, there in (("not_on_the_server", "nowhere_at_all"), ("by_the_star", "by_the_star")):
        error = refusal(proxy, "plain_user", database, **words)
        assert error.sqlstate == "3D000" and error.fields["M"] == f'database "{there}" does not exist'
    if auth_type != "trust":  # who has not shown who he is learns nothing of databases
        for database in ("listed", "not_on_the_server", "by_the_star"):
            assert refusal(proxy, "plain_user", database, password="wrong").sqlstate == "28P01"


@pytest.mark.parametrize("auth_type", KINDS)
def test_databases_that_no_entry_serves(pgweir, auth_type):
    proxy = pgweir(settings={"auth_type": auth_type}, accounts={"plain_user": "right"}, databases={"listed": "dbname=postgres"})
    words = {} if auth_type == "trust" else {"password": "right"}
    del proxy.sections["databases"]["*"]
    proxy.write_config()
    mark = proxy.mark()
    proxy.process.send_signal(1)
    proxy.wait_for_log("configuration reloaded", mark)
    error = refusal(proxy, "plain_user", "nosuchdb", **words)
    assert error.sqlstate == "3D000" and error.fields["M"] == "no such database: nosuchdb"
    if auth_type != "trust":
        assert refusal(proxy, "plain_user", "nosuchdb", password="wrong").sqlstate == "28P01"
    proxy.connect("plain_user", "listed", **words).close()


def test_users_who_are_not_there(by_kind):
    """Also where the server's role is the database's own (CVE-2015-6817)."""
    proxy, auth_type, _ = by_kind
    for database in ("listed", "forced"):
        error = refusal(proxy, "nosuchuser", database, password="right")
        assert error.sqlstate == ("28000" if auth_type == "trust" else "28P01")
        assert error.fields["M"].endswith('authentication failed for user "nosuchuser"')


# --- COPY ---


COPY = "copy numbers from stdin"


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("when", ["before the end", "at the end"])
@pytest.mark.parametrize("block", ["alone", "in a transaction"])
def test_copy_that_fails_gives_its_server_back(pgweir, cluster, database, protocol, when, block):
    """pgbouncer#1470: an error while the client still sent rows left the server busy for ever, and the pool empty."""
    cluster.primary.query("create table numbers(n int primary key)", database=database)
    proxy = pgweir(settings={"default_pool_size": 1, "query_wait_timeout": 30, "route": "primary"})
    with proxy.connect(database=database) as client, proxy.connect(database=database) as other:
        for _ in range(3):
            if block != "alone":
                client.query("begin")
            if protocol == "simple":
                client.send(query(COPY))
            else:
                client.send(parse("", COPY), bind(), execute(), sync())
            client.read_until("G")
            if when == "before the end":  # the row is wrong at once, and many more are on their way
                client.send(copy_data(b"not a number\n"), *[copy_data(b"1\n" * 1000) for _ in range(200)], copy_done())
            else:
                client.send(copy_data(b"1\n"), copy_data(b"1\n"), copy_done())
            if protocol == "extended":
                client.send(sync())
            answer = client.read_until_ready()
            assert [m.fields["C"] for m in answer if m.type == "E"] == ["22P02" if when == "before the end" else "23505"]
            if block != "alone":
                assert client.query("rollback").tags == ["ROLLBACK"]
            assert other.value("select count(*) from numbers") == "0"
        assert client.value("select 1") == "1"


# --- cancel ---


def test_cancel_of_a_client_that_waits(pgweir):
    """It leaves the queue; whoever has the server is not disturbed."""
    proxy = pgweir(settings={"default_pool_size": 1, "route": "primary"})
    with proxy.connect() as busy, proxy.connect() as waiting, proxy.connect() as next_one:
        busy.query("begin; select txid_current()")
        waiting.send(query("select 'waited'"))
        wait_until(lambda: [r for r in proxy.admin("show pools") if r["database"] == "postgres" and r["cl_waiting"] == "1"], "it waits")
        waiting.cancel()
        assert [m.fields["C"] for m in waiting.read_until_ready() if m.type == "E"] == ["57014"]
        assert busy.value("select 'undisturbed'") == "undisturbed"
        busy.query("commit")
        assert next_one.value("select 1") == "1"
        assert waiting.value("select 1") == "1"


def test_cancel_needs_no_place_in_the_pool(pgweir, cluster):
    """With every server connection busy, all of them can be cancelled."""
    proxy = pgweir(settings={"default_pool_size": 3, "route": "primary"})
    clients = [proxy.connect() for _ in range(3)]
    mark = cluster.mark()
    for client in clients:
        client.send(query("select pg_sleep(300)"))
    wait_until(lambda: len(cluster.statements(mark)[cluster.primary.name]) >= 3, "they run")
    for client in clients:
        client.cancel()
    for client in clients:
        assert [m.fields["C"] for m in client.read_until_ready() if m.type == "E"] == ["57014"]
        client.close()
    with Connection(proxy.port) as late:
        assert late.port == proxy.port
    assert proxy.value("select 1") == "1"
