"""Limits of connections, memory and time by PgBouncer's names, checks of idle connections, and what is sent at login."""
import re

import pytest
from harness.system import wait_until
from harness.wire import Connection, PgError, bind, close, execute, extended, query, startup, sync


def refused(proxy, *arguments, **more):
    with pytest.raises(PgError) as error:
        proxy.connect(*arguments, **more)
    return error.value


def servers(proxy, **fields):
    """SHOW SERVERS, of the fields given."""
    return [row for row in proxy.admin("SHOW SERVERS") if all(row[name] == value for name, value in fields.items())]


# how many


def test_clients_of_a_database(pgweir):
    proxy = pgweir(settings={"max_db_client_connections": 2}, databases={"big": "dbname=postgres max_db_client_connections=3"})
    with proxy.connect(), proxy.connect("plain_user"):
        error = refused(proxy)
        assert error.sqlstate == "53300" and "max_db_client_connections" in error.fields["M"]
        with proxy.connect(database="big"), proxy.connect(database="big"), proxy.connect(database="big"):
            assert refused(proxy, database="big").sqlstate == "53300"
    wait_until(lambda: proxy.connect().close() is None, "there is room again")
    proxy.reload(max_db_client_connections=0)
    with proxy.connect(), proxy.connect(), proxy.connect():
        pass


def test_clients_of_a_user(pgweir):
    proxy = pgweir(settings={"max_user_client_connections": 1}, users={"plain_user": "max_user_client_connections=2"})
    with proxy.connect(database="template1"):
        error = refused(proxy)
        assert error.sqlstate == "53300" and "max_user_client_connections" in error.fields["M"]
    with proxy.connect("plain_user"), proxy.connect("plain_user", "template1"):
        assert refused(proxy, "plain_user").sqlstate == "53300"


@pytest.mark.parametrize("setting, clients", [
    ("max_user_connections", [("postgres", "a"), ("postgres", "b")]),
    ("max_db_connections", [("postgres", "a"), ("plain_user", "a")])])
def test_server_connections_that_pools_share(pgweir, setting, clients):
    """An idle connection of another pool makes room; a busy one does not."""
    proxy = pgweir(settings={setting: 1, "query_wait_timeout": 60, "pool_mode": "transaction", "route": "primary"},
                   databases={"a": "dbname=postgres", "b": "dbname=template1"})
    with proxy.connect(*clients[0]) as first, proxy.connect(*clients[1]) as second:
        for _ in range(3):
            assert first.value("select 1") == "1"
            assert second.value("select 2") == "2"
        first.query("begin; select 1")
        second.send(query("select 3"))
        assert second.nothing_comes()
        first.query("commit")
        assert "D 3" in second.brief_until_ready()
        assert len(servers(proxy)) == 1


def test_entries_of_one_database_have_limits_of_their_own(pgweir):
    """max_db_connections is of an entry, as in PgBouncer: a busy one leaves the others theirs."""
    proxy = pgweir(settings={"route": "primary", "query_wait_timeout": 60},
                   databases={"many": "dbname=postgres", "few": "dbname=postgres max_db_connections=1"})
    busy = [proxy.connect(database="many") for _ in range(3)]
    for client in busy:
        client.query("begin; select txid_current()")
    with proxy.connect(database="few") as first, proxy.connect(database="few") as second:
        first.query("begin; select txid_current()")
        second.send(query("select 2"))
        assert second.nothing_comes()
        first.query("commit")
        assert "D 2" in second.brief_until_ready()
    for client in busy:
        client.close()


def test_applications_share_of_a_pool(pgweir):
    """Two of its clients hold what it may; the third waits for them, and for nobody else's sake."""
    proxy = pgweir(applications={"reports": "pool_size=2 query_wait_timeout=60"}, settings={"route": "primary", "default_pool_size": 4})
    reports = [proxy.connect(application_name="reports") for _ in range(4)]
    other = proxy.connect(application_name="shop")
    for client in reports[:2]:
        client.query("begin; select 1")
    reports[2].send(query("select 'third'"))
    reports[3].send(query("select 'fourth'"))
    assert reports[2].nothing_comes()
    assert other.value("select 'other'") == "other"
    with proxy.connect(application_name="shop") as another:
        another.query("begin; select 1")
        assert other.value("select 'other'") == "other"
        another.query("commit")
    reports[0].query("commit")
    assert "D third" in reports[2].brief_until_ready()
    assert "D fourth" in reports[3].brief_until_ready()
    reports[1].drop()
    reports[0].query("begin; select 1")
    reports[2].query("begin; select 1")
    reports[3].send(query("select 'raised'"))
    assert reports[3].nothing_comes()
    proxy.sections["applications"]["reports"] = "pool_size=3"
    proxy.reload()
    assert "D raised" in reports[3].brief_until_ready()
    for client in [*reports, other]:
        client.close()


def test_a_forced_users_pool_is_its_own(pgweir):
    """As in PgBouncer: the role on the server decides, not who the client is."""
    proxy = pgweir(databases={"forced": "dbname=postgres user=plain_user"}, users={"scram_user": "pool_size=1", "plain_user": "pool_size=2"},
                   settings={"route": "primary"})
    with proxy.connect("scram_user", "forced") as first, proxy.connect("scram_user", "forced") as second, \
            proxy.connect("scram_user", "forced") as third:
        first.query("begin; select 1")
        second.query("begin; select 1")
        third.send(query("select 3"))
        assert third.nothing_comes()
        second.query("commit")
        assert "D 3" in third.brief_until_ready()


def test_clients_of_a_forced_user_share_its_pool(pgweir):
    """Whoever they are; SHOW POOLS has the pool once, SHOW USERS and SHOW CLIENTS have who has come."""
    proxy = pgweir(databases={"forced": "dbname=postgres user=postgres pool_size=1"}, settings={"route": "primary", "query_wait_timeout": 60})
    with proxy.connect("plain_user", "forced") as first, proxy.connect("scram_user", "forced") as second, \
            proxy.connect("postgres", "forced") as third:
        first.query("begin; select txid_current()")
        for other in (second, third):
            other.send(query("select current_user"))
            assert other.nothing_comes()
        first.query("set local work_mem = '5MB'; set application_name = 'first'; commit")
        assert "D postgres" in second.brief_until_ready() and "D postgres" in third.brief_until_ready()
        backends = {client.value("select pg_backend_pid()") for client in (first, second, third)}
        assert len(backends) == 1
        assert second.value("show application_name") != "first" and first.value("show application_name") == "first"
        pool, = [row for row in proxy.admin("SHOW POOLS") if row["database"] == "forced"]
        assert (pool["user"], pool["cl_active"], pool["sv_idle"]) == ("postgres", "3", "1")
        assert {row["user"] for row in proxy.admin("SHOW CLIENTS") if row["database"] == "forced"} == {"plain_user", "scram_user", "postgres"}
        users = {row["name"]: row for row in proxy.admin("SHOW USERS")}
        assert [users[name]["current_client_connections"] for name in ("plain_user", "scram_user")] == ["1", "1"]
        assert users["postgres"]["current_connections"] == "1" and users["plain_user"]["current_connections"] == "0"


def test_a_forced_user_that_changes(pgweir):
    """A reload gives the clients that are there the new one's pool, and back."""
    proxy = pgweir(databases={"forced": "dbname=postgres user=postgres"}, settings={"route": "primary", "pool_idle_timeout": 1})
    with proxy.connect("scram_user", "forced") as first, proxy.connect("postgres", "forced") as second:
        for who in ("plain_user", "postgres", None, "plain_user"):
            proxy.sections["databases"]["forced"] = f"dbname=postgres user={who}" if who else "dbname=postgres"
            proxy.reload()
            assert first.value("select current_user") == (who or "scram_user")
            assert second.value("select current_user") == (who or "postgres")
            # by PostgreSQL's word (the monitor has connections of "postgres"): before the next reload gives an old one its name back
            wait_until(lambda: {row["usename"] for row in proxy.backends()} == {who or "scram_user", "postgres"},
                       "the others' connections are gone")
        pools = {row["user"]: row["cl_active"] for row in proxy.admin("SHOW POOLS") if row["database"] == "forced"}
        assert pools["plain_user"] == "2"
    wait_until(lambda: not [row for row in proxy.admin("SHOW CLIENTS") if row["database"] == "forced"], "they have left")


def idle(proxy, **fields):
    return len(servers(proxy, state="idle", **fields))


def test_a_forced_users_pool_is_filled_before_anybody_comes(pgweir):
    """min_pool_size, on each server that clients are sent to; a pause lasts, and what is paused is not filled."""
    proxy = pgweir(databases={"forced": "dbname=postgres user=postgres min_pool_size=3", "own": "dbname=postgres min_pool_size=2"})
    wait_until(lambda: idle(proxy, database="forced") == 6, "three to the primary, three to the replica")
    assert not servers(proxy, database="own")
    proxy.admin("PAUSE forced")
    assert not servers(proxy, database="forced")
    with proxy.connect(database="own") as client:
        wait_until(lambda: idle(proxy, database="own") == 2, "as soon as it has a client")
        assert client.value("select 1") == "1"
        assert not servers(proxy, database="forced")
        proxy.admin("RESUME forced")
        wait_until(lambda: idle(proxy, database="forced") == 6, "filled again")
    proxy.reload(server_idle_timeout=1)
    wait_until(lambda: not servers(proxy, database="own"), "nobody uses it")
    assert len(servers(proxy, database="forced")) == 6


def test_min_pool_size_is_of_all_workers(pgweir):
    proxy = pgweir(settings={"min_pool_size": 3, "workers": 2, "route": "primary", "server_idle_timeout": 1})
    clients = [proxy.connect() for _ in range(4)]
    for client in clients:  # on both workers
        client.query("begin; select txid_current()")
    for client in clients:
        client.query("commit")
    wait_until(lambda: len(servers(proxy, database="postgres")) == 3, "one too many goes")
    for client in clients:
        assert client.value("select 1") == "1"
        client.close()


def test_min_pool_size_closes_nothing_of_others(pgweir):
    """Two pools under one limit, both below their minimum: neither takes from the other without somebody who waits."""
    proxy = pgweir(settings={"route": "primary", "min_pool_size": 4, "max_user_connections": 5},
                   databases={"a": "dbname=postgres", "b": "dbname=template1"})
    with proxy.connect(database="a") as first, proxy.connect(database="b") as second:
        wait_until(lambda: len(servers(proxy)) == 5, "as many as there may be")
        for client in (first, second):
            assert client.value("select 1") == "1"
        mark = proxy.mark()
        wait_until(lambda: int(proxy.admin("SHOW STATS_TOTALS")[0]["query_count"]) >= 0 and first.value("select 1") == "1" and idle(proxy) == 5,
                   "time passes")
        assert "makes room" not in proxy.log_text()[mark:]


def test_a_pool_that_a_reload_makes_smaller(pgweir):
    proxy = pgweir(settings={"route": "primary", "default_pool_size": 5, "reserve_pool_size": 1})
    clients = [proxy.connect() for _ in range(5)]

    def all_at_once():
        for client in clients:
            client.query("begin; select txid_current()")
        for client in clients:
            client.query("commit")
        return idle(proxy, database="postgres") == 5

    # Before the facts of the database are there, a connection that has called a function is not kept.
    wait_until(all_at_once, "five connections are kept")
    proxy.reload(default_pool_size=2)
    # Workers that look at the same moment may close one more.
    wait_until(lambda: idle(proxy, database="postgres") <= 3, "the rest goes, but for the reserve")
    for client in clients:
        assert client.value("select 1") == "1"
        client.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_replication_counts_in_its_pool(pgweir, workers):
    """An idle connection goes for it; without one it waits, like everybody, and no longer than query_wait_timeout."""
    proxy = pgweir(settings={"default_pool_size": 2, "route": "primary", "query_wait_timeout": 60, "workers": workers, "server_idle_timeout": 0})
    pair = [proxy.connect() for _ in range(2)]
    for client in pair:
        client.query("begin; select txid_current()")
    for client in pair:
        client.query("commit")
    assert len(servers(proxy)) == 2
    replicating = [proxy.connect(replication="database") for _ in range(2)]
    assert [row["replication"] for row in servers(proxy)] == ["yes", "yes"]
    with Connection(proxy.port) as third:
        third.send(startup({"user": "postgres", "database": "postgres", "replication": "database"}))
        assert third.nothing_comes()
        pair[0].send(query("select 'waits'"))
        assert pair[0].nothing_comes()
        for client in replicating:
            assert client.query("IDENTIFY_SYSTEM").rows
            client.close()
        assert "D waits" in pair[0].brief_until_ready()
        third.read_until_ready(welcome=True)
        assert third.query("IDENTIFY_SYSTEM").rows
        proxy.reload(query_wait_timeout=1, default_pool_size=1)
        with pytest.raises(PgError) as late:
            proxy.connect(replication="database")
        assert late.value.fields["M"] == "query_wait_timeout"
    assert pair[1].value("select 1") == "1"


def test_replication_waits_for_a_primary(pgweir, cluster):
    """At start the servers' roles are not known yet; and without a primary there is an error in the end."""
    proxy = pgweir(hosts=[cluster.standby.port], settings={"failover_timeout": "1s"})
    assert refused(proxy, replication="database").sqlstate == "57P03"
    proxy.value = lambda *_: None


def test_replication_that_the_server_refuses(pgweir):
    """Its own words reach the client."""
    proxy = pgweir()
    for value in ("database", "true"):
        error = refused(proxy, "plain_user", replication=value)
        assert error.sqlstate in ("42501", "28000") and ("replication" in error.fields["M"] or "walsender" in error.fields["M"])


def test_memory(pgweir):
    proxy = pgweir()
    with proxy.connect() as stays:
        proxy.reload(max_memory="1MB")
        wait_until(lambda: "max_memory" in str(attempt(proxy)), "new clients are refused")
        assert stays.value("select 1") == "1"
        proxy.reload(max_memory=0)
        proxy.connect().close()


def attempt(proxy):
    try:
        proxy.connect().close()
    except PgError as error:
        assert error.sqlstate == "53200"
        return error
    return None


def test_reserve(pgweir):
    """reserve_pool_timeout = 0 is never."""
    proxy = pgweir(settings={"default_pool_size": 1, "reserve_pool_size": 1, "reserve_pool_timeout": 0, "route": "primary"})
    with proxy.connect() as first, proxy.connect() as second:
        first.query("begin; select 1")
        second.send(query("select 2"))
        assert second.nothing_comes()
        assert "reserve_pool" not in proxy.log_text()
        proxy.reload(reserve_pool_timeout=1)
        assert "D 2" in second.brief_until_ready()
        proxy.wait_for_log("taking connection from reserve_pool")


# how long


def test_waiting_clients_are_told(pgweir):
    proxy = pgweir(settings={"default_pool_size": 1, "query_wait_notify": 1, "route": "primary"})
    with proxy.connect() as first, proxy.connect() as second:
        first.query("begin; select 1")
        second.send(query("select 2"))
        notice = second.read()
        assert notice.type == "N" and "client being queued" in notice.fields["M"]
        first.query("commit")
        assert "D 2" in second.brief_until_ready()


def test_waiting_time_of_an_application(pgweir):
    proxy = pgweir(settings={"default_pool_size": 1, "query_wait_timeout": 0, "route": "primary"},
                   applications={"hasty": "query_wait_timeout=1"})
    with proxy.connect() as first, proxy.connect() as patient, proxy.connect(application_name="hasty") as hasty:
        first.query("begin; select 1")
        patient.send(query("select 2"))
        hasty.send(query("select 3"))
        assert "query_wait_timeout" in hasty.read_to_end()[-1].fields["M"]
        first.query("commit")
        assert "D 2" in patient.brief_until_ready()


def test_connections_used_once(pgweir):
    """server_lifetime = 0."""
    proxy = pgweir(settings={"server_lifetime": 0, "route": "primary"})
    with proxy.connect() as client:
        assert client.value("select 1") == "1"
        assert client.value("select 2") == "2"
        assert len(re.findall(r"new connection to server \(from 127\.0\.0\.1:\d+\): connected to 127", proxy.log_text())) >= 2
        wait_until(lambda: not servers(proxy), "no server connection is kept")


@pytest.mark.parametrize("star", ["dbname=postgres", "dbname=postgres min_pool_size=2", "dbname=postgres user=postgres min_pool_size=2"])
@pytest.mark.parametrize("pool_idle_timeout, database", [(0, "made_up"), (1, "named")])
def test_what_is_not_used_is_forgotten(pgweir, pool_idle_timeout, database, star):
    """autodb_idle_timeout for what "*" made, pool_idle_timeout for every pool; statistics go with it."""
    proxy = pgweir(settings={"autodb_idle_timeout": 1, "pool_idle_timeout": pool_idle_timeout, "server_idle_timeout": 1},
                   databases={"*": star, "named": "dbname=postgres", "stays": "dbname=postgres"})

    def pools():
        return {row["database"] for row in proxy.admin("SHOW POOLS")}

    with proxy.connect(database="stays") as stays:
        stays.query("select 1")
        proxy.query("select 1", database)
        assert pools() >= {database, "stays"}
        wait_until(lambda: database not in pools(), f"{database} is forgotten")
        assert "stays" in pools()
        assert stays.value("select 1") == "1"
        assert proxy.value("select 1", database) == "1"


@pytest.mark.parametrize("workers", [1, 2])
def test_made_up_names_leave_nothing_behind(pgweir, workers):
    """Whoever may log in can say any name of a database: what is kept for each must go with it."""
    proxy = pgweir(settings={"autodb_idle_timeout": 1, "server_idle_timeout": 1, "workers": workers, "route": "primary"},
                   databases={"*": "dbname=postgres", "stays": "dbname=postgres max_db_connections=5"})

    def books():
        return {row["name"]: int(row["used"]) for row in proxy.admin("SHOW MEM") if row["name"] in ("pool_budgets", "limits")}

    with proxy.connect(database="stays") as stays:
        for _ in range(2):
            stays.query("begin; select txid_current()")
            before = books()
            clients = [proxy.connect(database=f"made_up_{i}") for i in range(20)]
            for client in clients:
                assert client.value("select 1") == "1"
            assert books()["pool_budgets"] >= before["pool_budgets"] + 20 and books()["limits"] >= before["limits"] + 40
            for client in clients:
                client.close()
            stays.query("commit")
            wait_until(lambda: books()["pool_budgets"] <= before["pool_budgets"] and books()["limits"] <= before["limits"],
                       "all of it is forgotten")
    assert proxy.value("select 1", "made_up_1") == "1"


def test_a_database_that_is_gone_lets_nobody_in(pgweir):
    proxy = pgweir(databases={"old": "dbname=postgres"})
    with proxy.connect(database="old") as stays:
        del proxy.sections["databases"]["old"], proxy.sections["databases"]["*"]
        proxy.sections["databases"]["postgres"] = {}
        proxy.reload()
        assert stays.value("select 1") == "1"
        assert refused(proxy, database="old").sqlstate == "3D000"
        proxy.sections["databases"]["old"] = "dbname=postgres"
        proxy.reload()
        proxy.connect(database="old").close()


# checks and resets


@pytest.mark.parametrize("check, seen", [("<empty>", ""), ("select 'check'", "select 'check'")])
def test_idle_connections_are_checked(pgweir, cluster, check, seen):
    proxy = pgweir(settings={"server_check_query": check, "server_check_delay": 0, "route": "primary", "workers": 1})
    with proxy.connect() as client:
        client.query("select 1")
        mark = cluster.mark()
        assert client.value("select 'mine'") == "mine"
        ran = [line.statement for line in cluster.primary.statements(mark["primary"])]
        assert ran[-2:] == [seen, "select 'mine'"]
        proxy.reload(server_check_delay=1000)
        mark = cluster.mark()
        client.query("select 'mine'")
        assert [line.statement for line in cluster.primary.statements(mark["primary"])] == ["select 'mine'"]


def test_a_check_that_fails_costs_a_connection_not_a_client(pgweir):
    proxy = pgweir(settings={"server_check_query": "select 1/0", "server_check_delay": 0, "route": "primary", "workers": 1})
    with proxy.connect() as client:
        for _ in range(3):
            assert client.value("select 1") == "1"
        assert "reset failed" in proxy.log_text()


@pytest.mark.parametrize("reset", ["DISCARD ALL", "select 'reset'"])
def test_reset_query_always(pgweir, cluster, reset):
    proxy = pgweir(settings={"server_reset_query_always": 1, "server_reset_query": reset, "route": "primary", "workers": 1})
    with proxy.connect(TimeZone="Asia/Tokyo") as client, proxy.connect(TimeZone="Europe/Rome") as other:
        client.query("select 1")
        mark = cluster.mark()
        client.query("select 'mine'")
        wait_until(lambda: reset in [line.statement for line in cluster.primary.statements(mark["primary"])], "it is reset")
        for _ in range(3):
            assert client.value("show timezone") == "Asia/Tokyo"
            assert other.value("show timezone") == "Europe/Rome"
            client.send(extended("select $1::int", ["5"], statement="s"), sync())
            assert "D 5" in client.brief_until_ready()
            client.send(close("S", "s"), sync())
            client.brief_until_ready()


# what is let through


def test_simple_queries_disallowed(pgweir):
    proxy = pgweir(settings={"disable_pqexec": 1})
    with proxy.connect() as client:
        assert client.extended("select 1").rows == [("1",)]
        client.send(query("select 1"))
        error = client.read_to_end()[-1].fields
        assert error["C"] == "08P01" and error["M"] == "PQexec disallowed"
    proxy.value = lambda *_: None


def test_large_messages(pgweir):
    proxy = pgweir(settings={"max_packet_size": 100000})
    with proxy.connect() as client:
        assert client.value("select length(repeat('x', 90000))") == "90000"
        assert client.value(f"select length('{'x' * 90000}')") == "90000"
        client.send(query(f"select '{'x' * 100000}'"))
        assert client.read_to_end()[-1].type == "E"
    with proxy.connect() as client:
        assert len(client.value("select repeat('x', 90000)")) == 90000
        assert client.query("select repeat('x', 100001)", check=False).sqlstate in ("08006", "08007")
        assert client.value("select 1") == "1"
    proxy.reload(max_packet_size=2147483647)
    assert len(proxy.value("select repeat('x', 100001)")) == 100001


def test_message_at_login(pgweir):
    proxy = pgweir(settings={"login_notify_message": "maintenance on Tuesday"})
    with proxy.connect() as first:
        assert first.value("select 1") == "1"
    with Connection(proxy.port) as client:
        client.send(startup({"user": "postgres", "database": "postgres"}))
        notices = [m.fields for m in client.read_until("Z") if m.type == "N"]
        assert [notice["M"] for notice in notices] == ["maintenance on Tuesday"] and notices[0]["S"] == "NOTICE"


def test_host_in_the_application_name(pgweir):
    proxy = pgweir(settings={"application_name_add_host": 1, "route": "primary"})
    with proxy.connect(application_name="shop") as client:
        assert client.value("select application_name from pg_stat_activity where pid = pg_backend_pid()").startswith("shop - 127.0.0.1:")
        assert client.value("show application_name") == "shop"


def test_fewer_prepared_statements_under_a_client(pgweir):
    """The limit of a server connection is lowered while it has more: they go, one after the other, once each."""
    proxy = pgweir(settings={"route": "primary", "workers": 1, "max_prepared_statements": 1})
    with proxy.connect() as client:
        def prepare(numbers):
            for i in numbers:
                client.send(extended(f"select '{i}'", statement=f"s{i}"), sync())
                assert f"D {i}" in client.brief_until_ready()

        def kept():
            return client.value("select count(*) from pg_prepared_statements where name like 'pgweir%' or name like 's%'")

        prepare(range(5))
        proxy.reload(max_prepared_statements=5)
        prepare(range(5, 10))
        proxy.reload(max_prepared_statements=2)
        prepare(range(10, 14))
        for i in (13, 3, 8, 12, 0, 13):
            client.send(bind("", f"s{i}"), execute(), sync())
            assert f"D {i}" in client.brief_until_ready()
        client.send(b"".join(bind("", f"s{i}") + execute() for i in (1, 2, 1, 5, 2)), sync())
        assert [line for line in client.brief_until_ready() if line.startswith("D")] == ["D 1", "D 2", "D 1", "D 5", "D 2"]
        assert int(kept()) <= 14
