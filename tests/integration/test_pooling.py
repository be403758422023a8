"""Pools: how many backends, who gets one, and what a client sees of the one it got."""
import pytest
from harness.postgres import OWN_APPLICATIONS
from harness.system import wait_until
from harness.wire import PgError, bind, execute, parse, query, sync


def backends_of(cluster, database):
    """Backends that serve clients of a database, on all servers: not the harness's own and not the monitor's."""
    return [row for node in cluster.nodes for row in node.backends()
            if row["datname"] == database and row["application_name"] not in OWN_APPLICATIONS]


@pytest.fixture
def small(pgweir):
    """A proxy with two backends for a pool, on the primary alone unless routing says otherwise."""
    return pgweir(settings={"default_pool_size": 2, "route": "primary"})


def test_pool_size_bounds_the_backends(small, cluster, database):
    clients = [small.connect(database=database) for _ in range(10)]
    for client in clients:
        client.send(query("select pg_sleep(0.05)"))
    for client in clients:
        assert client.brief_until_ready()[-1] == "Z I"
    assert 1 <= len(backends_of(cluster, database)) <= 2
    for client in clients:
        client.close()


def test_first_come_first_served(small, cluster, database):
    """With every backend taken, those who wait are served in the order in which they asked."""
    small.query("create table served(n int, at bigserial)", database=database)
    holders = [small.connect(database=database) for _ in range(2)]
    for holder in holders:
        holder.query("begin")
        holder.query("select 1 from served for update")
    waiting = []
    for n in range(8):
        client = small.connect(database=database)
        client.send(query(f"insert into served(n) values ({n})"))
        wait_until(lambda count=n + 1: sum(int(row["cl_waiting"]) for row in small.admin("show pools")
                                           if row["database"] == database) == count, f"client {n} waits")
        waiting.append(client)
    holders[0].query("commit")
    for client in waiting:
        assert client.brief_until_ready() == ["C INSERT 0 1", "Z I"]
    holders[1].query("commit")
    order = small.query("select n from served order by at", database=database)
    assert order == [(str(n),) for n in range(8)]
    for client in [*holders, *waiting]:
        client.close()


def wait_for_waiting(proxy, database, count):
    wait_until(lambda: sum(int(row["cl_waiting"]) for row in proxy.admin("show pools") if row["database"] == database) == count,
               f"{count} clients wait")


def test_a_free_backend_goes_to_whom_it_suits(pgweir, database):
    """Of those who wait, the first one with the settings that the backend has; but nobody is overtaken by more than 16."""
    proxy = pgweir(settings={"default_pool_size": 1, "route": "primary", "workers": 1})
    proxy.query("create table served(n int, at bigserial)", database=database)
    zone = {"TimeZone": "Asia/Tokyo"}
    holder = proxy.connect(database=database, **zone)
    holder.query("begin")
    holder.query("lock table served in access exclusive mode")
    waiting = []
    for n in range(24):
        client = proxy.connect(database=database, **({} if n in (0, 1, 20) else zone))
        client.send(query(f"insert into served(n) values ({n})"))
        waiting.append(client)
        wait_for_waiting(proxy, database, len(waiting))
    holder.query("commit")
    for client in waiting:
        assert client.brief_until_ready() == ["C INSERT 0 1", "Z I"]
    order = [int(n) for n, in proxy.query("select n from served order by at", database=database)]
    others = [n for n in range(24) if n not in (0, 1, 20)]
    # 16 overtake the first two; then it is their turn, with the third of their kind; the rest follow.
    assert order == [*others[:16], 0, 1, 20, *others[16:]]
    for client in [holder, *waiting]:
        client.close()


def test_an_idle_backend_is_taken_by_whom_it_suits(pgweir, cluster, database):
    """Clients with settings of their own each get the backend that has them; no SET is sent any more."""
    proxy = pgweir(settings={"default_pool_size": 12, "route": "primary", "workers": 1})
    zones = ["Asia/Tokyo", "America/Lima", "Europe/Berlin", "Asia/Kolkata", "Africa/Cairo", "Asia/Dubai", "Asia/Seoul", "Europe/Rome",
             "Europe/Paris", "Asia/Baku", "Asia/Kabul", "Europe/Oslo"]
    clients = [proxy.connect(database=database, TimeZone=zone) for zone in zones]
    for client in clients:
        client.query("begin")
        client.query("select 1")
    for client in clients:
        client.query("commit")
    mark = cluster.primary.mark()
    for _ in range(2):
        for client, zone in zip(clients, zones):
            assert client.value("show timezone") == zone
    client.query("select 'the last'")
    wait_until(lambda: any("the last" in line.statement for line in cluster.primary.statements(mark)), "the log is complete")
    assert not [line.statement for line in cluster.primary.statements(mark) if "timezone to" in line.statement.lower()]
    for client in clients:
        client.close()


def test_waiting_too_long_is_an_error(pgweir, database):
    proxy = pgweir(settings={"default_pool_size": 1, "route": "primary", "query_wait_timeout": 1})
    holder = proxy.connect(database=database)
    holder.query("begin")
    holder.query("select 1")
    client = proxy.connect(database=database)
    client.send(query("select 2"))
    assert client.read_until("E")[-1].type == "E"
    holder.query("commit")
    holder.close()
    client.drop()


def test_max_client_conn(pgweir):
    proxy = pgweir(settings={"max_client_conn": 3})
    clients = [proxy.connect() for _ in range(3)]
    with pytest.raises(PgError) as refusal:
        proxy.connect()
    assert refusal.value.sqlstate == "53300"
    clients.pop().close()
    wait_until(lambda: proxy.client_count() == 2, "the closed client is gone")
    clients.append(proxy.connect())
    for client in clients:
        client.close()


def test_transaction_keeps_its_backend(small, database):
    with small.connect(database=database) as one, small.connect(database=database) as two:
        for client in (one, two):
            client.query("begin")
            client.query("create temp table mine(i int) on commit drop")
        one.query("insert into mine values (1)")
        two.query("insert into mine values (2), (3)")
        assert one.value("select count(*) from mine") == "1"
        assert two.value("select count(*) from mine") == "2"
        one.query("commit")
        two.query("commit")


@pytest.mark.threads
def test_named_statements_work_on_every_backend(pgweir, database):
    """Many clients with the same and with different statements under the same names, over few backends."""
    proxy = pgweir(settings={"default_pool_size": 3, "route": "primary", "max_prepared_statements": 5})
    clients = [proxy.connect(database=database) for _ in range(8)]
    for n, client in enumerate(clients):
        client.send(parse("same", "select $1::int + 1"), parse("own", f"select $1::int + {1000 * n}"), sync())
        assert client.brief_until_ready() == ["1", "1", "Z I"]
    for turn in range(10):
        for client in clients:
            client.send(bind("", "same", [turn]), execute(), bind("", "own", [turn]), execute(), sync())
        for n, client in enumerate(clients):
            assert client.brief_until_ready() == ["2", f"D {turn + 1}", "C SELECT 1", "2", f"D {turn + 1000 * n}", "C SELECT 1", "Z I"]
    for client in clients:
        client.close()


def test_backends_show_their_clients_application_name(pgweir, cluster, database):
    proxy = pgweir(settings={"route": "primary"})
    with proxy.connect(database=database, application_name="app one") as client:
        client.query("begin")
        client.query("select 1")
        assert {row["application_name"] for row in backends_of(cluster, database)} == {"app one"}
        assert client.value("show application_name") == "app one"
        client.query("commit")
    with proxy.connect(database=database, application_name="app two") as client:
        client.query("begin")
        client.query("select 1")
        assert "app two" in {row["application_name"] for row in backends_of(cluster, database)}
        client.query("commit")


def test_application_name_format(pgweir, cluster, database):
    proxy = pgweir(settings={"route": "primary", "application_name_format": "%a/%u/%d"})
    with proxy.connect(database=database, application_name="app") as client:
        client.query("begin")
        client.query("select 1")
        assert {row["application_name"] for row in backends_of(cluster, database)} == {f"app/postgres/{database}"}
        assert client.value("show application_name") == "app"
        client.query("commit")


def test_startup_settings_are_the_clients_own(pgweir, database):
    """Two clients with different time zones share the backends; neither sees the other's."""
    proxy = pgweir(settings={"default_pool_size": 1, "route": "primary"})
    with proxy.connect(database=database, TimeZone="Asia/Tokyo") as one, \
            proxy.connect(database=database, options="-c timezone=America/Lima -c search_path=pg_catalog") as two:
        assert one.parameters["TimeZone"] == "Asia/Tokyo"
        for _ in range(3):
            assert one.value("show timezone") == "Asia/Tokyo"
            assert two.value("show timezone") == "America/Lima"
            assert two.value("show search_path") == "pg_catalog"


def test_settings_of_a_session_are_not_anothers(pgweir, database):
    """SET, SET ROLE and search_path stay with their client."""
    proxy = pgweir(settings={"default_pool_size": 2, "route": "primary"})
    with proxy.connect(database=database) as one, proxy.connect(database=database) as two:
        one.query("set work_mem = '7MB'")
        one.query("set search_path = pg_catalog")
        one.query("set role plain_user")
        for _ in range(5):
            assert two.value("show work_mem") != "7MB"
            assert two.value("select current_user") == "postgres"
            assert one.value("show work_mem") == "7MB"
            assert one.value("select current_user") == "plain_user"
        one.query("reset role")


def test_temporary_tables_live_as_long_as_the_client(pgweir, database):
    proxy = pgweir(settings={"default_pool_size": 2, "route": "primary"})
    with proxy.connect(database=database) as one, proxy.connect(database=database) as two:
        one.query("create temp table mine(i int)")
        for n in range(5):
            one.query(f"insert into mine values ({n})")
            assert two.query("select * from mine", check=False).sqlstate == "42P01"
        assert one.value("select count(*) from mine") == "5"
    with proxy.connect(database=database) as three:
        assert three.query("select * from mine", check=False).sqlstate == "42P01"


def test_session_mode_keeps_one_backend(pgweir, database):
    proxy = pgweir(settings={"pool_mode": "session", "route": "primary"})
    with proxy.connect(database=database) as client:
        pids = {client.value("select pg_backend_pid()") for _ in range(5)}
        assert pids == {str(client.pid)}


def test_statement_mode_refuses_transactions(pgweir, database):
    proxy = pgweir(settings={"pool_mode": "statement", "route": "primary"})
    with proxy.connect(database=database) as client:
        assert client.query("select 1").rows == [("1",)]
    client = proxy.connect(database=database)
    client.send(query("begin"))
    assert client.read_until("E", "Z")[-1].type == "E"
    client.drop()


def test_pids_of_clients_are_their_own(pgweir, database):
    proxy = pgweir()
    clients = [proxy.connect(database=database) for _ in range(5)]
    assert len({client.pid for client in clients}) == 5
    assert all(client.pid > 4194304 for client in clients)
    for client in clients:
        client.close()


def test_idle_clients_hold_no_backend(pgweir, cluster, database):
    proxy = pgweir(settings={"default_pool_size": 2, "max_client_conn": 300})
    clients = [proxy.connect(database=database) for _ in range(100)]
    for client in clients:
        assert client.value("select 1") == "1"
    assert len(backends_of(cluster, database)) <= 4
    for client in clients:
        client.close()
