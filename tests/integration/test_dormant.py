"""Clients that have nothing to do are made small (proxy/dormant.h), and nobody sees it.

In a test build every idle client falls asleep at the next look, a tenth of a second later; SHOW MEM tells how many do."""
import pytest
from harness.system import wait_until
from harness.wire import bind, describe, execute, parse, query, sync, tls_context

ENOUGH_KB = 0.45  # what SHOW MEM may say of one; its event in libevent and its cancel key come on top


def asleep(proxy):
    row = next(row for row in proxy.admin("show mem") if row["name"] == "idle_clients")
    return int(row["used"]), int(row["memtotal"])


def wait_for_sleep(proxy, count=1):
    wait_until(lambda: asleep(proxy)[0] == count, f"{count} clients are asleep")


@pytest.fixture(params=["plain", "tls"])
def settings(request, authority):
    if request.param == "plain":
        return {"tls": None}, {}
    certificate, key = authority.issue("proxy")
    return ({"tls": tls_context(authority.ca)},
            {"client_tls_cert_file": certificate, "client_tls_key_file": key, "client_tls_sslmode": "allow"})


def test_a_session_outlives_its_sleep(pgweir, database, settings):
    tls, keys = settings
    proxy = pgweir(settings={"default_pool_size": 2, **keys})
    with proxy.connect(database=database, application_name="sleeper", **tls) as client:
        client.query("set work_mem = '1234kB'")
        client.query("set my.own = 'kept'")
        client.query("prepare by_sql as select 'sql ' || $1::text")
        client.send(parse("by_name", "select 'name ' || $1::text"), sync())
        client.read_until_ready()
        for turn in ("one", "two", "three"):
            wait_for_sleep(proxy)
            row = next(row for row in proxy.admin("show clients") if row["application_name"] == "sleeper")
            assert (row["state"], row["port"]) == ("idle", str(client.sock.getsockname()[1]))
            client.send(bind("", "by_name", [turn]), describe("P"), execute(), sync())
            assert [m.values for m in client.read_until_ready() if m.type == "D"] == [(f"name {turn}",)]
            wait_for_sleep(proxy)
            assert client.value(f"execute by_sql('{turn}')") == f"sql {turn}"
            assert client.value("show work_mem") == "1234kB"
            assert client.value("select current_setting('my.own')") == "kept"
            assert client.value("select current_setting('application_name')") == "sleeper"


def test_what_may_not_sleep(pgweir, database):
    """A transaction, half a message, a pin: the tests of these would not notice, SHOW MEM does."""
    proxy = pgweir()
    with proxy.connect(database=database) as awake, proxy.connect(database=database) as half, \
            proxy.connect(database=database) as pinned, proxy.connect(database=database) as idle:
        awake.query("begin; select 1")
        pinned.query("select pg_advisory_lock(4711)")
        half.send(query("select 'whole'")[:7])
        idle.query("select 1")
        wait_for_sleep(proxy)
        assert awake.query("commit").tags == ["COMMIT"]
        half.send(query("select 'whole'")[7:])
        assert [m.values for m in half.read_until_ready() if m.type == "D"] == [("whole",)]
        wait_for_sleep(proxy, 3)
        assert pinned.value("select pg_advisory_unlock(4711)") == "t"


def test_many_kinds_of_sleepers(pgweir, database):
    """More than one template is made on the way; each wakes up as itself."""
    proxy = pgweir(settings={"default_pool_size": 5, "max_client_conn": 1000})
    clients = [proxy.connect(database=database, application_name=f"number {n}") for n in range(300)]
    try:
        for n, client in enumerate(clients):
            if n % 3 == 0:
                client.query(f"set my.number_{n} = '{n}'")
            client.query("select 1")
        for turn in range(2):
            wait_for_sleep(proxy, len(clients))
            rows = {row["application_name"] for row in proxy.admin("show clients")}
            assert {f"number {n}" for n in range(300)} <= rows
            for n, client in enumerate(clients):
                assert client.value("show application_name") == f"number {n}"
                if n % 3 == 0:
                    assert client.value(f"show my.number_{n}") == str(n)
                if turn == 0 and n % 7 == 0:
                    client.query("select 2")
    finally:
        for client in clients:
            client.close()
    wait_until(lambda: asleep(proxy)[0] == 0, "all have left")


def test_a_sleeper_is_small(pgweir, database):
    """Deterministic: bytes that the proxy asks for, not pages that it gets."""
    proxy = pgweir(settings={"default_pool_size": 5, "max_client_conn": 1000})
    clients = [proxy.connect(database=database, application_name="app") for _ in range(200)]
    for client in clients:
        client.query("select 1")
    wait_for_sleep(proxy, len(clients))
    count, total = asleep(proxy)
    for client in clients:
        client.close()
    assert total / count <= ENOUGH_KB * 1024


def test_a_sleeper_can_be_cancelled_after_it_woke_up(pgweir, database):
    proxy = pgweir()
    with proxy.connect(database=database) as client:
        client.query("select 1")
        wait_for_sleep(proxy)
        client.cancel()  # hits nothing
        assert client.value("select 'unhurt'") == "unhurt"
        wait_for_sleep(proxy)
        client.send(query("select pg_sleep(300)"))
        answers = []

        def cancelled():
            client.cancel()
            client.sock.settimeout(1)
            try:
                answers.append(client.read_until_ready())
            except TimeoutError:
                return False
            finally:
                client.sock.settimeout(60)
            return True

        wait_until(cancelled, "the query is cancelled")
        assert [m.fields["C"] for m in answers[0] if m.type == "E"] == ["57014"]


def test_sleepers_hear_commands(pgweir, database):
    """KILL_CLIENT, KILL, a reload and the end of the proxy find them."""
    proxy = pgweir(settings={"route": "primary"})
    doomed = proxy.connect(database=database, application_name="doomed")
    spared = proxy.connect(database=database, application_name="spared")
    for client in (doomed, spared):
        client.query("select 1")
    wait_for_sleep(proxy, 2)
    row = next(row for row in proxy.admin("show clients") if row["application_name"] == "doomed")
    wait_for_sleep(proxy, 2)
    proxy.admin(f"KILL_CLIENT {row['id']}")
    assert [m.fields["C"] for m in doomed.read_to_end() if m.type == "E"] == ["57P01"]
    doomed.close()
    assert spared.value("show pgweir.route") == "primary"
    wait_for_sleep(proxy)
    proxy.reload(route="auto")
    wait_until(lambda: spared.value("show pgweir.route") == "auto", "the reload has come")
    wait_for_sleep(proxy)
    proxy.admin(f"KILL {database}")
    assert [m.fields["C"] for m in spared.read_to_end() if m.type == "E"] == ["57P01"]
    spared.close()
    proxy.admin(f"RESUME {database}")
    last = proxy.connect(database=database)
    last.query("select 1")
    wait_for_sleep(proxy)
    proxy.stop()
    assert [m.fields["C"] for m in last.read_to_end() if m.type == "E"] == ["57P01"]
    last.close()


def test_sleepers_are_counted(pgweir, database):
    proxy = pgweir()
    with proxy.connect(database=database) as client:
        client.query("select 1")
        wait_for_sleep(proxy)
        pool = next(row for row in proxy.admin("show pools") if row["database"] == database)
        assert pool["cl_active"] == "1"
        lists = {row["list"]: row["items"] for row in proxy.admin("show lists")}
        assert lists["used_clients"] == "2"  # with the console's own
        client.drop()
    wait_until(lambda: asleep(proxy)[0] == 0, "it has left")
    assert not [row for row in proxy.admin("show clients") if row["database"] == database]
