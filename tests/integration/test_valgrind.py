"""No leak and no bad access after a thousand connections, by valgrind on the debug build."""
import contextlib
import itertools
import threading

import pytest
from harness import wire
from harness.postgres import PASSWORD
from harness.proxy import SANITIZERS

CONNECTIONS, AT_ONCE = 1000, 8
VALGRIND = ("valgrind", "--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect", "--show-leak-kinds=definite,indirect",
            "--error-exitcode=98", "--child-silent-after-fork=yes", "--num-callers=30")


def ask_and_leave(c):
    assert c.value("select 42") == "42"


def write_in_a_transaction(c):
    c.query("begin")
    c.extended("insert into t values ($1)", ["1"])
    c.query("commit")


def prepare_and_pipeline(c):
    c.send(wire.parse("s", "select $1::int"), wire.bind("", "s", ["7"]), wire.execute(), wire.sync(),
           wire.bind("p", "s", ["8"]), wire.describe("P", "p"), wire.execute("p"), wire.close("S", "s"), wire.sync())
    c.read_until_ready()
    c.read_until_ready()


def copy_both_ways(c):
    c.send(wire.query("copy t from stdin"))
    c.read_until("G")
    c.send(wire.copy_data("5\n"), wire.copy_done())
    c.read_until_ready()
    c.query("copy t to stdout")


def leave_settings(c):
    c.query("set work_mem = '5MB'")
    c.query("create temp table mine(i int)")


def make_errors(c):
    c.query("select 1/0", check=False)
    c.extended("select nonsense", check=False)
    c.query("begin; insert into t values (1); select", check=False)


def vanish_in_a_transaction(c):
    c.query("begin")
    c.query("insert into t values (9)")
    c.reset()


def vanish_under_a_query(c):
    c.send(wire.query("select pg_sleep(0.01), i from generate_series(1, 3) i"))
    c.drop()


def cancel(c):
    c.send(wire.query("/* pgweir: route=primary */ select count(*) from generate_series(1, 100000)"))
    c.cancel()
    c.read_until_ready()


def large_row(c):
    c.query("select repeat('x', 300000)")


SESSIONS = [ask_and_leave, write_in_a_transaction, prepare_and_pipeline, copy_both_ways, leave_settings, make_errors,
            vanish_in_a_transaction, vanish_under_a_query, cancel, large_row]


def wrong_password(proxy, database):
    with pytest.raises(wire.PgError):
        wire.Connection.login(proxy.port, "scram_user", database, "wrong")


def nonsense(proxy):
    with contextlib.suppress(ConnectionResetError), wire.Connection(proxy.port) as c:
        c.send(b"GET / HTTP/1.0\r\n\r\n")
        c.read_to_end()


def one_client(proxy, database, tls, number):
    if number % 50 == 0:
        wrong_password(proxy, database)
    if number % 50 == 1:
        nonsense(proxy)
    login = {"user": "scram_user", "password": PASSWORD, "application_name": f"client {number % 5}", "timeout": 170}
    with wire.Connection.login(proxy.port, database=database, tls=tls if number % 3 == 0 else None, **login) as c:
        with contextlib.suppress(OSError):
            SESSIONS[number % len(SESSIONS)](c)


@pytest.mark.valgrind
@pytest.mark.timeout(1200)
def test_no_leak_after_a_thousand_connections(cluster, pgweir, authority, workspace):
    database = cluster.create_database("create table t(i int); grant all on t to public")
    certificate, key = authority.issue("localhost")
    known = f"--suppressions={workspace.reachable(SANITIZERS / 'valgrind.supp')}"
    proxy = pgweir(build="debug", runner=(*VALGRIND, known), http=True,
                   settings={"auth_type": "scram-sha-256", "default_pool_size": 5, "max_pinned": 0, "client_tls_sslmode": "allow",
                             "client_tls_cert_file": certificate, "client_tls_key_file": key})
    numbers, failures = itertools.count(), []

    def work():
        try:
            while not failures and (number := next(numbers)) < CONNECTIONS:
                one_client(proxy, database, wire.tls_context(), number)
        except Exception as failure:  # shown by the main thread
            failures.append(repr(failure))

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert proxy.http_get("/metrics")[0] == 200
    proxy.stop()
    cluster.drop_database(database)
