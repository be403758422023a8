"""Time-outs of clients and servers: who is sent away, with which words, and what happens to what he held."""
import contextlib
import socket

import pytest
from harness.network import Link
from harness.system import wait_until
from harness.wire import PgError, query


def last_error(client):
    errors = [message for message in client.read_to_end() if message.type == "E"]
    return errors[-1].fields if errors else {}


@pytest.mark.parametrize("setting, begin, sqlstate, text", [
    ("query_timeout", "select pg_sleep(300)", "57014", "query timeout"),
    ("transaction_timeout", "begin; select txid_current()", "25P04", "transaction timeout"),
    ("idle_transaction_timeout", "begin; select txid_current()", "25P03", "idle transaction timeout"),
    ("client_idle_timeout", "select 1", "57P05", "client_idle_timeout"),
])
@pytest.mark.parametrize("scope", ["global", "user", "application"])
def test_a_client_is_sent_away(pgweir, cluster, setting, begin, sqlstate, text, scope):
    """PgBouncer's words; what it had is rolled back, and others are served by the same pool."""
    where = {"global": {"settings": {setting: 1}}, "user": {"users": {"plain_user": f"{setting}=1"}},
             "application": {"applications": {"slow": f"{setting}=1"}}}[scope]
    settings = {"default_pool_size": 1, "route": "primary", **where.pop("settings", {})}
    proxy = pgweir(settings=settings, **where)
    client = proxy.connect("plain_user", application_name="slow")
    if setting == "transaction_timeout":  # however busy it is
        client.query(begin)
        begin = "select pg_sleep(300)"
    client.send(query(begin))
    fields = last_error(client)
    assert (fields["C"], fields["M"], fields["S"]) == (sqlstate, text, "FATAL")
    proxy.wait_for_log(f"closing because: {text} ")
    with proxy.connect("plain_user", application_name="quick") as other:
        assert other.value("select 1") == "1"


def test_a_transaction_that_goes_on_is_not_idle(pgweir):
    proxy = pgweir(settings={"idle_transaction_timeout": 5, "route": "primary"})
    with proxy.connect() as client:
        client.query("begin; select txid_current()")
        for _ in range(12):
            assert client.value("select pg_sleep(0.5) is not null") == "t"
        assert client.query("commit").tags == ["COMMIT"]


@pytest.mark.parametrize("scope", ["settings", "databases", "users"])
def test_waiting_for_a_server_ends(pgweir, scope):
    value = {"query_wait_timeout": 1}
    scoped = {"settings": {}, "databases": {"shop": "dbname=postgres query_wait_timeout=1"}, "users": {"plain_user": "query_wait_timeout=1"}}
    more = {} if scope == "settings" else {scope: scoped[scope]}
    more.setdefault("databases", {"shop": "dbname=postgres"})
    proxy = pgweir(settings={"default_pool_size": 1, "route": "primary", **(value if scope == "settings" else {"query_wait_timeout": 200})},
                   **more)
    with proxy.connect("plain_user", "shop") as first, proxy.connect("plain_user", "shop") as second:
        first.query("begin; select txid_current()")
        second.send(query("select 1"))
        assert "query_wait_timeout" in last_error(second)["M"]
        assert first.query("commit").tags == ["COMMIT"]  # the other one's server is not touched


@pytest.mark.parametrize("waits_for", ["server", "primary", "greeting"])
def test_a_query_that_waits_is_timed_out_too(pgweir, cluster, waits_for):
    """As in PgBouncer: query_timeout is from when it was asked, and a login that waits for a server is held to it."""
    settings = {"query_timeout": 1, "query_wait_timeout": 0, "failover_timeout": "300s", "default_pool_size": 1, "route": "primary"}
    proxy = pgweir(hosts=[cluster.standby.port] if waits_for == "primary" else None, settings=settings,
                   users={"plain_user": "query_timeout=300"}, databases={"forced": "dbname=postgres user=postgres"})
    if waits_for == "primary":
        with pytest.raises(PgError) as refused:
            proxy.connect(database="forced")
        fields = refused.value.fields
        proxy.value = lambda *_: None  # there is no primary to ask when the proxy ends
    else:
        with proxy.connect("plain_user", "forced") as busy:
            waiting = proxy.connect(database="forced") if waits_for == "server" else None
            busy.query("begin; select txid_current()")
            if waiting:
                waiting.send(query("select 1"))
                fields = last_error(waiting)
            else:  # settings that nobody has come with yet
                with pytest.raises(PgError) as refused:
                    proxy.connect(database="forced", datestyle="German")
                fields = refused.value.fields
            assert busy.query("commit").tags == ["COMMIT"]
    assert (fields["C"], fields["M"], fields["S"]) == ("57014", "query_timeout", "FATAL")


def test_login_ends(pgweir):
    proxy = pgweir(settings={"client_login_timeout": 1})
    with socket.create_connection(("127.0.0.1", proxy.port), 60) as silent:
        silent.settimeout(60)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := silent.recv(1000):
                answer += data
        assert b"client_login_timeout" in answer


@pytest.mark.parametrize("setting", ["server_idle_timeout", "server_lifetime"])
def test_a_server_connection_is_given_up(pgweir, setting):
    """Not under a client: in a transaction it stays."""
    proxy = pgweir(settings={setting: 1, "route": "primary", "default_pool_size": 1})
    with proxy.connect("plain_user") as client:
        client.query("begin")
        pid = client.value("select pg_backend_pid()")
        wait_until(lambda: client.value("select now() + interval '2 seconds' < clock_timestamp()") == "t", "time passes")
        assert client.value("select pg_backend_pid()") == pid
        client.query("commit")
        wait_until(lambda: not [row for row in proxy.admin("show servers") if row["user"] == "plain_user"], "it is closed")
        assert client.value("select 1") == "1"
    proxy.wait_for_log("closing because: .*age=")


def test_a_server_that_does_not_answer(pgweir, cluster):
    """server_connect_timeout ends the attempt, query_wait_timeout the waiting; when it answers again all is well."""
    with Link(cluster.primary.port) as link:
        proxy = pgweir(hosts=[link.port], settings={"server_connect_timeout": 1, "server_login_retry": 1, "query_wait_timeout": 30,
                                                    "failover_timeout": "60s"})
        assert proxy.value("select 1") == "1"
        proxy.admin("RECONNECT")
        link.stall()
        with proxy.connect() as client:
            client.send(query("select 2"))
            proxy.wait_for_log("closing because: (connect|login) failed .*server_connect_timeout|is not reachable")
            link.resume()
            assert "D 2" in client.brief_until_ready()


def test_a_refused_login_is_told_to_those_who_wait(pgweir, cluster, database):
    """And after server_login_retry the server is asked again."""
    proxy = pgweir(settings={"server_login_retry": 1, "route": "primary"}, accounts={"late_role": ""})
    cluster.primary.query("create role late_role login")
    try:
        with proxy.connect("late_role", database) as client:
            assert client.value("select current_user") == "late_role"
        cluster.primary.query("alter role late_role nologin")
        cluster.primary.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'late_role'")

        def refused():
            try:
                with proxy.connect("late_role", database) as client:
                    client.send(query("select 1"))
                    answer = client.read()
                    return answer.type == "E" and "not permitted to log in" in answer.fields["M"]
            except PgError as error:
                return "not permitted to log in" in error.fields["M"]
        wait_until(refused, "the server's own words reach the client")
        proxy.wait_for_log("closing because: login failed ")
        cluster.primary.query("alter role late_role login")
        wait_until(lambda: not refused(), "it is tried again")
    finally:
        cluster.primary.query("drop owned by late_role; drop role late_role")
