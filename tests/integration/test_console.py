"""The admin console and the HTTP pages: tables, commands, roles, both protocols, and what operators' tools read of them."""
import contextlib
import json
import os
import re
import signal
import socket
import threading
import time

import asyncpg
import psycopg
import pytest
from harness import wire
from harness.postgres import find_programs
from harness.proxy import Pgweir
from harness.system import wait_until
from harness.wire import PgError

# PgBouncer's columns, in its order; ours may follow at the right end only.
SOCKETS = ("type user database replication state addr port local_addr local_port connect_time request_time wait wait_us close_needed "
           "ptr link remote_pid tls application_name prepared_statements id")
COUNTERS = "server_assignment_count xact_count query_count {} {} xact_time query_time wait_time client_parse_count server_parse_count " \
           "bind_count client_login_count"


def prefixed(prefix, names):
    return " ".join(prefix + name for name in names.split())


COLUMNS = {
    "pools": "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel "
             "sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts",
    "clients": SOCKETS,
    "servers": SOCKETS,
    "databases": "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode "
                 "load_balance_hosts max_connections current_connections max_client_connections current_client_connections "
                 "paused disabled",
    "stats": "database " + prefixed("total_", COUNTERS.format("received", "sent")) + " " +
             prefixed("avg_", COUNTERS.format("recv", "sent")),
    "stats_totals": "database " + COUNTERS.format("bytes_received", "bytes_sent"),
    "stats_averages": "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time "
                      "wait_time avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count",
    "totals": "name value",
    "users": "name pool_size reserve_pool_size pool_mode max_user_connections current_connections max_user_client_connections "
             "current_client_connections",
    "lists": "list items",
    "config": "key value default changeable",
    "state": "key value",
    "version": "version",
    "mem": "name size used free memtotal",
    "peers": "peer_id host port pool_size",
    "peer_pools": "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login",
    "dns_hosts": "hostname ttl addrs",
    "dns_zones": "zonename serial count",
    "sockets": SOCKETS + " recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail",
    "active_sockets": SOCKETS + " recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail",
    "fds": "fd task user database addr port cancel link client_encoding std_strings datestyle timezone password scram_client_key "
           "scram_server_key",
}
EXACT = {"config", "lists", "totals", "version", "mem"}  # the exporter counts these tables' columns


@pytest.fixture(scope="module")
def proxy(shared_cluster):
    with Pgweir(shared_cluster, settings={"stats_users": "plain_user", "stats_period": 1}, http=True) as running:
        running.wait_for_replicas()
        yield running


@pytest.fixture
def console(proxy):
    with proxy.connect("postgres", "pgweir") as connection:
        yield connection


# --- tables ---


@pytest.mark.parametrize("table", sorted(COLUMNS))
def test_columns_are_pgbouncers(proxy, console, table):
    with proxy.connect() as client:
        client.query("select 1")
        result = console.query(f"SHOW {table}")
    assert not result.errors
    expected = COLUMNS[table].split()
    assert result.columns[:len(expected)] == expected
    if table in EXACT:
        assert result.columns == expected
    assert result.tags == ["SHOW"]


@pytest.mark.parametrize("table", ["replicas", "host_pools", "pins", "routes", "workers"])
def test_own_tables(proxy, console, table):
    with proxy.connect() as client:
        client.query("create temp table t_pin(x int)" if table == "pins" else "select 1")
        result = console.query(f"show {table};")
    assert not result.errors
    assert result.rows


def test_pools_have_one_row_per_database_and_user(proxy, console):
    """Two rows with the same labels would be an error to Prometheus."""
    with proxy.connect() as reader, proxy.connect() as writer:
        reader.query("select 1")
        writer.query("begin")
        writer.query("update pg_description set description = '' where false")
        rows = console.query("show pools").dicts
    keys = [(row["database"], row["user"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert ("pgbouncer", "pgbouncer") in keys
    mine = next(row for row in rows if (row["database"], row["user"]) == ("postgres", "postgres"))
    assert int(mine["sv_active"]) >= 1
    assert int(mine["cl_active"]) >= 2
    assert mine["pool_mode"] == "transaction"


def test_clients_and_servers_point_at_each_other(proxy, console):
    with proxy.connect(application_name="pointing") as client:
        client.query("begin")
        client.query("select txid_current()")
        mine = next(row for row in console.query("show clients").dicts if row["application_name"] == "pointing")
        server = next(row for row in console.query("show servers").dicts if row["ptr"] == mine["link"])
        assert server["link"] == mine["ptr"]
        assert (mine["state"], mine["transaction"], server["state"], server["role"]) == ("active", "open", "active", "primary")
        assert mine["addr"] == "127.0.0.1" and int(mine["port"]) > 0 and int(mine["local_port"]) == proxy.port
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", mine["connect_time"])
        assert int(server["remote_pid"]) > 0
        client.query("rollback")
    assert any(row["database"] == "pgbouncer" and row["user"] == "postgres" for row in console.query("show clients").dicts)


def test_databases_show_what_is_configured_and_in_use(pgweir):
    proxy = pgweir(databases={"named": {"dbname": "postgres", "pool_size": "7"}})
    with proxy.connect() as client:
        client.query("select 1")
        rows = {row["name"]: row for row in proxy.admin("show databases")}
    assert rows["named"]["pool_size"] == "7" and rows["named"]["database"] == "postgres"
    assert rows["postgres"]["current_client_connections"] == "1"
    assert rows["pgbouncer"]["pool_mode"] == "statement"
    assert "*" not in rows


def test_lists_and_users_agree(pgweir):
    proxy = pgweir(users={"scram_user": "pool_size=3"})
    with proxy.connect("plain_user"), proxy.connect("scram_user"), proxy.connect("postgres"):
        lists = {row["list"]: row["items"] for row in proxy.admin("SHOW LISTS")}
        assert int(lists["users"]) == len(proxy.admin("SHOW USERS")) == 3
        assert lists["pools"] == str(len(proxy.admin("SHOW POOLS")))


def test_statistics_count(proxy, console):
    def totals():
        return next((row for row in console.query("show stats").dicts if row["database"] == "postgres"), None)
    before = totals()
    with proxy.connect() as client:
        for _ in range(10):
            client.query("select 1")
        client.query("begin; update pg_description set description = '' where false; commit")
    after = totals()

    def grown(name):
        return int(after[name]) - int(before[name] if before else 0)
    assert grown("total_query_count") >= 11
    assert grown("total_xact_count") >= 10
    assert grown("total_client_login_count") == 1
    assert grown("total_to_primary") >= 1
    wait_until(lambda: proxy.log_text().count("stats: ") >= 2, "log_stats writes")


def test_statistics_count_prepared_statements(proxy, console):
    """By database, as exporters read them."""
    def row():
        return next((row for row in console.query("show stats_totals").dicts if row["database"] == "postgres"), {})
    before = row()
    with psycopg.connect(proxy.dsn(), autocommit=True) as client:
        for _ in range(5):
            client.execute("select 'counted', %s", ("x",), prepare=True)
    after = row()
    grown = {name: int(after[name]) - int(before.get(name) or 0) for name in ("client_parse_count", "server_parse_count", "bind_count")}
    assert grown["client_parse_count"] >= 1 and grown["server_parse_count"] >= 1 and grown["bind_count"] >= 5


def test_averages_are_of_the_last_period(pgweir):
    proxy = pgweir(settings={"stats_period": 1})

    def average():
        with proxy.connect() as client:
            for _ in range(50):
                client.query("select 1")
        return next(int(row["avg_query_count"]) for row in proxy.admin("show stats") if row["database"] == "postgres")
    wait_until(lambda: average() > 0, "an average of a busy second")
    wait_until(lambda: all(row["query_count"] == "0" for row in proxy.admin("show stats_averages")), "an idle second")


def test_config_shows_values_defaults_and_no_secret(pgweir):
    proxy = pgweir(settings={"default_pool_size": 7, "monitor_password": "a secret word"})
    rows = {row["key"]: row for row in proxy.admin("show config")}
    assert (rows["default_pool_size"]["value"], rows["default_pool_size"]["default"]) == ("7", "20")
    assert rows["listen_port"]["changeable"] == "no" and rows["default_pool_size"]["changeable"] == "yes"
    assert "a secret word" not in str(rows)


def test_replicas(proxy, console):
    rows = console.query("show replicas").dicts
    assert sorted(row["role"] for row in rows) == ["primary"] + ["replica"] * (len(rows) - 1)
    assert all(re.fullmatch(r"[0-9A-F]+/[0-9A-F]{8}", row["lsn"]) for row in rows)
    assert len({row["system_identifier"] for row in rows}) == 1


def test_version(proxy, console, workspace):
    version = console.value("show version")
    assert re.fullmatch(r"pgweir \S+ \(PgBouncer 1\.25 compatible\)", version)
    assert workspace.run(workspace.reachable(proxy.program()), "--version").splitlines()[0] == version


def test_help_is_a_notice(console):
    result = console.query("show help")
    assert result.rows == [] and result.tags == ["SHOW"]
    for word in ("SHOW POOLS", "RELOAD", "EXPLAIN ROUTE"):
        assert word in result.notices[0]["D"]


# --- the protocol ---


def test_welcome_looks_like_a_server(console):
    assert re.match(r"15\.0 .*/bouncer$", console.parameters["server_version"])
    assert console.parameters["client_encoding"] == "UTF8"
    assert console.parameters["standard_conforming_strings"] == "on"
    assert 0 < console.pid < 2 ** 31


def test_extended_protocol(console):
    console.send(wire.parse("s", "SHOW VERSION"), wire.describe("S", "s"), wire.bind("", "s"), wire.describe("P"),
                 wire.execute(), wire.close("S", "s"), wire.sync())
    kinds = [m.type for m in console.read_until_ready()]
    assert kinds == ["1", "t", "T", "2", "T", "D", "C", "3", "Z"]


def test_row_limit_suspends_the_portal(console):
    console.send(wire.parse("", "show lists"), wire.bind(), wire.execute(max_rows=3), wire.execute(max_rows=3), wire.execute(),
                 wire.sync())
    messages = console.read_until_ready()
    kinds = "".join(m.type for m in messages)
    assert re.fullmatch("12DDDsDDDsD{8}CZ", kinds)


def test_binary_results(console):
    console.send(wire.parse("", "show lists"), wire.bind(result_formats=[1]), wire.execute(max_rows=1), wire.sync())
    row = next(m for m in console.read_until_ready() if m.type == "D")
    assert row.body[2:] == b"\0\0\0\x09databases\0\0\0\x04" + row.body[-4:]
    console.send(wire.parse("", "show stats"), wire.bind(result_formats=[1]), wire.execute(), wire.sync())
    assert any(m.type == "C" for m in console.read_until_ready())


def test_error_skips_to_sync(console):
    console.send(wire.parse("", "show nothing"), wire.bind(), wire.execute(), wire.sync(), wire.query("show version"))
    assert console.brief_until_ready() == ["E 42704", "Z I"]
    assert console.brief_until_ready()[-1] == "Z I"


def test_several_requests_in_one_write(console):
    console.send(wire.query("show version"), wire.query(""), wire.query(";"), wire.query("show state"))
    assert [m.type for m in console.read_until_ready()] == ["T", "D", "C", "Z"]
    assert [m.type for m in console.read_until_ready()] == ["I", "Z"]
    assert [m.type for m in console.read_until_ready()] == ["I", "Z"]
    assert console.read_until_ready()[-1].type == "Z"


def test_byte_by_byte(console):
    console.send_split(wire.parse("", "show version") + wire.bind() + wire.execute() + wire.sync())
    assert [m.type for m in console.read_until_ready()] == ["1", "2", "D", "C", "Z"]


@pytest.mark.parametrize("sql, sqlstate, hint", [
    ("SELECT 1", "42704", "SHOW HELP"),
    ("SHOW POOL", "42704", "SHOW POOLS"),
    ("DROP TABLE x", "42601", "SHOW HELP"),
    ("PAUSE a b", "42601", "SHOW HELP"),
    ("PAUSE nowhere_at_all", None, ""),
    ("SET nothing = 1", "22023", ""),
    ("SET default_pool_size = many", "22023", ""),
    ("KILL_CLIENT x", "42601", ""),
    ("KILL_CLIENT 4000000000", "42704", ""),
    ("EXPLAIN ROUTE", "42601", ""),
])
def test_errors(console, sql, sqlstate, hint):
    result = console.query(sql, check=False)
    if sqlstate:
        assert result.sqlstate == sqlstate
        assert hint in result.errors[0].get("H", "")
    assert console.value("show version")
    if not result.errors:
        console.query("RESUME")


@pytest.mark.parametrize("sql", ["SET client_encoding TO 'UTF8'", "set extra_float_digits = 3", "SET application_name = 'x'",
                                 "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET NAMES 'UTF8'", "RESET ALL", "DISCARD ALL",
                                 "SHOW standard_conforming_strings", "show timezone", "SHOW transaction_isolation", "/* a comment */ SHOW VERSION"])
def test_what_drivers_say_by_themselves(console, sql):
    assert not console.query(sql).errors


def test_startup_parameters_of_drivers(proxy):
    """lib/pq, and with it PgBouncer's exporter, sends extra_float_digits."""
    with proxy.connect("postgres", "pgbouncer", extra_float_digits="2", application_name="exporter") as connection:
        assert connection.value("SHOW application_name") == "exporter"


def test_psycopg(proxy):
    with psycopg.connect(proxy.dsn("pgbouncer")) as connection:
        for _ in range(8):  # prepares by itself after five
            assert connection.execute("SHOW STATS").description[0].name == "database"
        connection.commit()
        pools = connection.execute("SHOW POOLS", binary=True).fetchall()
        assert isinstance(pools[0][2], int)
    with psycopg.connect(proxy.dsn("pgweir"), autocommit=True) as connection, pytest.raises(psycopg.errors.UndefinedObject):
        connection.execute("SHOW nothing")


async def test_asyncpg(proxy):
    """Asks for binary results only."""
    connection = await asyncpg.connect(host="127.0.0.1", port=proxy.port, user="postgres", database="pgbouncer", ssl=False)
    try:
        pools = await connection.fetch("SHOW POOLS")
        assert isinstance(pools[0]["cl_active"], int) and isinstance(pools[0]["pool_mode"], str)
        stats = await connection.fetch("SHOW STATS")
        assert all(row["total_query_count"] >= 0 for row in stats)
        replicas = await connection.fetch("SHOW REPLICAS")
        assert replicas[0]["system_identifier"] > 2 ** 60
    finally:
        await connection.close()


def test_psql(proxy, workspace):
    output = workspace.run(find_programs() / "psql", "-X", "-A", proxy.dsn("pgbouncer"), "-c", "SHOW VERSION", "-c", "SHOW HELP", "-c", "SHOW STATE")
    assert "PgBouncer 1.25 compatible" in output and "active|yes" in output


@pytest.mark.parametrize("data", [b"Q\0\0\0\3", b"Q\0\0\0\x08abcd", b"z\0\0\0\4", b"F\0\0\0\4", wire.message("P", b"abc"),
                                  b"Q\x7f\xff\xff\xff"])
def test_nonsense_ends_the_session_only(proxy, data):
    with proxy.connect("postgres", "pgweir") as connection:
        connection.send(data)
        assert [m.fields["C"] for m in connection.read_to_end() if m.type == "E"] == ["08P01"]
    assert proxy.value("select 1") == "1"


def test_a_client_that_leaves_in_mid_command(proxy):
    for _ in range(20):
        connection = proxy.connect("postgres", "pgweir")
        connection.send(wire.query("show clients"), wire.query("show config"), wire.query("reload"))
        connection.sock.close()
    assert proxy.admin("show version")


# --- roles ---

ADMIN_COMMANDS = ["RELOAD", "PAUSE", "RESUME", "RECONNECT", "WAIT_CLOSE", "KILL postgres", "KILL_CLIENT 1", "SHUTDOWN",
                  "SET default_pool_size = 3", "EXPLAIN ROUTE ON postgres SELECT 1", "SUSPEND", "DISABLE postgres", "ENABLE postgres",
                  "SHOW FDS", "SELECT fds"]


@pytest.mark.parametrize("command", ADMIN_COMMANDS)
def test_stats_users_only_look(proxy, command):
    """CVE-2026-6667: one command had forgotten to check."""
    with proxy.connect("plain_user", "pgweir") as connection:
        assert connection.query(command, check=False).sqlstate == "42501"
        connection.send(wire.extended(command), wire.sync())
        assert "E 42501" in connection.brief_until_ready()
        assert connection.query("show pools").rows
    assert proxy.value("select 1") == "1"


def test_others_are_not_let_in(proxy):
    with pytest.raises(PgError) as refused:
        proxy.connect("monitor_user", "pgweir")
    assert refused.value.sqlstate == "42501"


def test_owner_by_unix_socket(workspace, cluster):
    folder = workspace.folder("socket")
    with Pgweir(cluster, settings={"unix_socket_dir": folder, "admin_users": "", "auth_type": "scram-sha-256"}) as proxy:
        with pytest.raises(PgError):
            proxy.connect("pgweir", "pgweir")
        wait_until(lambda: (folder / f".s.PGSQL.{proxy.port}").exists(), "the socket")
        if folder.stat().st_uid == os.geteuid():
            with wire.Connection.login(proxy.port, "pgbouncer", "pgbouncer", host=str(folder)) as connection:
                assert not connection.query("reload").errors
    assert not (folder / f".s.PGSQL.{proxy.port}").exists()


# --- commands ---


def test_reload_holds_when_it_is_answered(pgweir):
    proxy = pgweir(settings={"default_pool_size": 5})
    proxy.configure(default_pool_size=6)
    with proxy.connect("postgres", "pgweir") as connection:
        assert connection.query("RELOAD").tags == ["RELOAD"]
        assert {row["key"]: row["value"] for row in connection.query("show config").dicts}["default_pool_size"] == "6"


def test_bad_reload_says_what_is_wrong(pgweir):
    proxy = pgweir(settings={"default_pool_size": 5})
    proxy.configure(default_pool_size="lots", pool_mode="sesion")
    with proxy.connect("postgres", "pgweir") as connection:
        result = connection.query("RELOAD", check=False)
        assert result.sqlstate == "F0000"
        assert "pool_mode" in result.errors[0]["D"] and str(proxy.ini) in result.errors[0]["D"]
        assert {row["key"]: row["value"] for row in connection.query("show config").dicts}["default_pool_size"] == "5"
    assert re.search("error: .*default_pool_size", proxy.log_text())
    proxy.configure(default_pool_size=5, pool_mode="transaction")


def test_restart_keys_are_kept_by_a_reload(pgweir):
    proxy = pgweir(settings={"listen_backlog": 100})
    proxy.reload(listen_backlog=200)
    assert {row["key"]: row["value"] for row in proxy.admin("show config")}["listen_backlog"] == "100"
    assert re.search("warning.*listen_backlog", proxy.log_text())


def test_set(pgweir):
    proxy = pgweir(settings={"default_pool_size": 5})
    with proxy.connect("postgres", "pgweir") as connection:
        for sql, value in [("SET default_pool_size = 9", "9"), ("set default_pool_size to '8';", "8"), ("SET default_pool_size=7", "7")]:
            assert connection.query(sql).tags == ["SET"]
            assert {row["key"]: row["value"] for row in connection.query("show config").dicts}["default_pool_size"] == value
        assert connection.query("SET listen_port = 1", check=False).errors
        connection.query("RELOAD")
        assert {row["key"]: row["value"] for row in connection.query("show config").dicts}["default_pool_size"] == "5"


def test_pause_waits_for_transactions_and_resume_goes_on(pgweir, cluster):
    proxy = pgweir()
    with proxy.connect() as client, proxy.connect("postgres", "pgweir") as admin, proxy.connect() as other:
        client.query("begin")
        client.query("select txid_current()")
        other.query("select 1")
        admin.send(wire.query("PAUSE"))
        admin.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            admin.read()
        admin.sock.settimeout(60)
        assert client.value("select 2") == "2"
        client.query("commit")
        assert admin.brief_until_ready() == ["C PAUSE", "Z I"]
        assert admin.query("show servers").rows == []
        other.send(wire.query("select 3"))
        other.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            other.read()
        other.sock.settimeout(60)
        assert admin.query("show state").dicts[1] == {"key": "paused", "value": "yes"}
        assert admin.query("RESUME").tags == ["RESUME"]
        assert "D 3" in other.brief_until_ready()


def test_pause_one_database(pgweir, cluster):
    other = cluster.create_database()
    try:
        proxy = pgweir()
        with proxy.connect() as client, proxy.connect(database=other) as elsewhere, proxy.connect("postgres", "pgweir") as admin:
            assert client.value("select 1") == elsewhere.value("select 1")
            assert admin.query(f'PAUSE "{other}"').tags == ["PAUSE"]
            assert client.value("select 1") == "1"
            elsewhere.send(wire.query("select 'after'"))
            rows = {row["name"]: row["paused"] for row in admin.query("show databases").dicts}
            assert (rows[other], rows["postgres"]) == ("1", "0")
            admin.query(f"RESUME {other}")
            assert "D after" in elsewhere.brief_until_ready()
        proxy.stop()
    finally:
        cluster.drop_database(other)


def test_signals_pause_and_resume(pgweir):
    proxy = pgweir()
    with proxy.connect() as client:
        client.query("select 1")
        proxy.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: {row["key"]: row["value"] for row in proxy.admin("show state")}["paused"] == "yes", "paused")
        client.send(wire.query("select 'resumed'"))
        proxy.process.send_signal(signal.SIGUSR2)
        assert "D resumed" in client.brief_until_ready()


def test_orders_hold_for_who_comes_later(pgweir):
    """PAUSE before anybody has used the database, and then a user who has never been here."""
    proxy = pgweir()
    with proxy.connect("postgres", "pgweir") as admin:
        admin.query("PAUSE")
        with socket.create_connection(("127.0.0.1", proxy.port)) as late:
            late.sendall(wire.startup({"user": "postgres", "database": "postgres"}))
            assert admin.query("show state").dicts[1] == {"key": "paused", "value": "yes"}
            wait_until(lambda: admin.query("show pools").dicts[0]["cl_waiting"] == "1", "the client waits")
            assert admin.query("RESUME postgres", check=False).sqlstate == "55000"
            admin.query("RESUME")
            with proxy.connect() as client:
                assert client.value("select 1") == "1"


def test_disable_refuses_new_logins_only(pgweir):
    proxy = pgweir()
    with proxy.connect() as client, proxy.connect("postgres", "pgweir") as admin:
        assert admin.query("DISABLE postgres").tags == ["DISABLE"]
        assert {row["name"]: row["disabled"] for row in admin.query("show databases").dicts}["postgres"] == "1"
        with pytest.raises(PgError) as refused:
            proxy.connect()
        assert refused.value.sqlstate == "55000"
        assert client.value("select 'goes on'") == "goes on"
        proxy.reload(default_pool_size=3)
        with pytest.raises(PgError):
            proxy.connect()
        assert admin.query("ENABLE postgres").tags == ["ENABLE"]
        assert proxy.value("select 1") == "1"
        assert admin.query("DISABLE", check=False).sqlstate == "42601"
        assert admin.query("DISABLE pgweir_no_such", check=False).errors == [] and admin.query("ENABLE pgweir_no_such").tags == ["ENABLE"]


def test_suspend_keeps_servers(pgweir, cluster):
    proxy = pgweir()
    with proxy.connect() as client, proxy.connect("postgres", "pgweir") as admin, proxy.connect() as other, \
            cluster.primary.connect() as blocker:
        other.query("select txid_current()")
        before = {row["remote_pid"] for row in admin.query("show servers").dicts}
        blocker.query("select pg_advisory_lock(4711)")
        client.send(wire.query("select pg_advisory_xact_lock(4711)"))
        wait_until(lambda: any(row["state"] == "active" for row in admin.query("show servers").dicts), "the statement runs")
        admin.send(wire.query("SUSPEND"))
        wait_until(lambda: proxy.admin("show state")[2]["value"] == "yes", "suspended")
        blocker.query("select pg_advisory_unlock(4711)")
        assert admin.brief_until_ready() == ["C SUSPEND", "Z I"]
        assert not any(row["state"] == "active" for row in admin.query("show servers").dicts)
        assert client.read_until_ready()
        assert admin.query("show state").dicts[2] == {"key": "suspended", "value": "yes"}
        other.send(wire.query("select 'later'"))
        wait_until(lambda: any(row["cl_waiting"] == "1" for row in admin.query("show pools").dicts), "it waits")
        assert before <= {row["remote_pid"] for row in admin.query("show servers").dicts}
        admin.query("RESUME")
        assert "D later" in other.brief_until_ready()


def test_fds_show_no_secret(proxy, console):
    with proxy.connect():
        rows = console.query("show fds").dicts
    assert any(row["task"] == "client" and row["std_strings"] == "on" for row in rows)
    assert {row["password"] for row in rows} | {row["scram_client_key"] for row in rows} | {row["cancel"] for row in rows} == {None}


def test_reconnect_replaces_servers(pgweir):
    proxy = pgweir()
    with proxy.connect() as client, proxy.connect("postgres", "pgweir") as admin:
        client.query("begin")
        old = client.value("select pg_backend_pid() from txid_current()")
        before = {row["remote_pid"] for row in admin.query("show servers").dicts}
        assert admin.query("RECONNECT").tags == ["RECONNECT"]
        assert client.value("select 'still here'") == "still here"
        client.query("commit")
        assert admin.query("WAIT_CLOSE").tags == ["WAIT_CLOSE"]
        client.query("select txid_current()")
        after = {row["remote_pid"] for row in admin.query("show servers").dicts}
        assert old and not before & after


def test_kill(pgweir):
    proxy = pgweir()
    with proxy.connect() as client, proxy.connect("postgres", "pgweir") as admin:
        client.query("begin")
        client.query("select txid_current()")
        assert admin.query("KILL postgres").tags == ["KILL"]
        assert [m.fields["C"] for m in client.read_to_end() if m.type == "E"] == ["57P01"]
        assert admin.query("show servers").rows == []
        admin.query("RESUME postgres")
    assert proxy.value("select 1") == "1"


def test_kill_client(pgweir):
    proxy = pgweir()
    with proxy.connect(application_name="doomed") as client, proxy.connect(application_name="spared") as spared:
        client.query("select 1")
        row = next(row for row in proxy.admin("show clients") if row["application_name"] == "doomed")
        proxy.admin(f"KILL_CLIENT {row['id']}")
        assert [m.fields["C"] for m in client.read_to_end() if m.type == "E"] == ["57P01"]
        assert spared.value("select 1") == "1"


def test_console_can_kill_itself(pgweir):
    proxy = pgweir()
    with proxy.connect("postgres", "pgweir", application_name="lemming") as admin:
        row = next(row for row in admin.query("show clients").dicts if row["application_name"] == "lemming")
        admin.send(wire.query(f"KILL_CLIENT {row['id']}"))
        assert [m.fields["C"] for m in admin.read_to_end() if m.type == "E"] == ["57P01"]
    assert proxy.admin("show version")


@pytest.mark.parametrize("command", ["SHUTDOWN", "SHUTDOWN WAIT_FOR_SERVERS", "SHUTDOWN WAIT_FOR_CLIENTS"])
def test_shutdown(cluster, command):
    with Pgweir(cluster) as proxy:
        with proxy.connect("postgres", "pgweir") as admin:
            admin.send(wire.query(command))
            assert admin.read().brief == "C SHUTDOWN"
        assert proxy.process.wait(30) == 0
        proxy.exit_status = 0
        proxy.check_log()


def test_int_lets_transactions_end(cluster):
    with Pgweir(cluster) as proxy:
        idle, busy = proxy.connect(), proxy.connect()
        idle.query("select 1")
        busy.query("begin")
        busy.query("select txid_current()")
        proxy.process.send_signal(signal.SIGINT)
        assert [m.fields["C"] for m in idle.read_to_end() if m.type == "E"] == ["57P01"]
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", proxy.port), 5)
        assert busy.value("select 'in peace'") == "in peace"
        assert busy.query("commit").tags == ["COMMIT"]
        assert [m.fields["C"] for m in busy.read_to_end() if m.type == "E"] == ["57P01"]
        assert proxy.process.wait(30) == 0
        proxy.exit_status = 0
        proxy.check_log()


def refuses_connections(proxy):
    try:
        socket.create_connection(("127.0.0.1", proxy.port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_term_waits_for_clients(cluster):
    """They go on as if nothing were, new work included; SIGINT ends the waiting."""
    with Pgweir(cluster) as proxy:
        leaving, staying = proxy.connect(), proxy.connect()
        leaving.query("select 1")
        proxy.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(proxy), "nobody new is taken")
        for client in (leaving, staying):
            assert client.query("begin; select txid_current(); commit").tags[-1] == "COMMIT"
        leaving.close()
        assert staying.value("select 'still here'") == "still here"
        proxy.process.send_signal(signal.SIGINT)
        assert [m.fields["C"] for m in staying.read_to_end() if m.type == "E"] == ["57P01"]
        assert proxy.process.wait(30) == 0
        proxy.exit_status = 0
        proxy.check_log()


def test_int_waits_for_sessions(cluster):
    """In session mode a server is released when its client leaves, not before."""
    with Pgweir(cluster, settings={"pool_mode": "session"}) as proxy:
        session = proxy.connect()
        session.query("set work_mem = 4321; create temp table mine(x int)")
        proxy.process.send_signal(signal.SIGINT)
        wait_until(lambda: refuses_connections(proxy), "nobody new is taken")
        for _ in range(20):
            assert session.value("select current_setting('work_mem') || count(*) from mine") == "4321kB0"
        session.close()
        assert proxy.process.wait(30) == 0
        proxy.exit_status = 0
        proxy.check_log()


@pytest.mark.parametrize("command", ["SHUTDOWN WAIT_FOR_CLIENTS", "SHUTDOWN WAIT_FOR_SERVERS"])
def test_console_while_clients_are_waited_for(workspace, cluster, command):
    """By the unix socket, for the console only, and without being waited for itself."""
    folder = workspace.folder("watch")
    with Pgweir(cluster, settings={"unix_socket_dir": folder}) as proxy:
        busy = proxy.connect()
        busy.query("begin; select txid_current()")
        proxy.admin(command)
        wait_until(lambda: refuses_connections(proxy), "nobody new is taken")
        connect = lambda database: wire.Connection.login(proxy.port, "postgres", database, host=str(folder))  # noqa: E731

        def only_the_console():
            try:
                connect("postgres").close()
            except PgError as error:
                return error.sqlstate == "57P01"
            return False
        wait_until(only_the_console, "clients are refused there")
        with connect("pgbouncer") as console:
            assert [row["state"] for row in console.query("show clients").dicts if row["database"] == "postgres"]
            assert "shutting down" in console.query("resume", check=False).errors[0]["M"]
            proxy.process.send_signal(signal.SIGUSR2)
            proxy.wait_for_log("got SIGUSR2 while shutting down")
            busy.query("commit")
            if command.endswith("CLIENTS"):
                busy.close()
            assert proxy.process.wait(30) == 0
        proxy.exit_status = 0
        proxy.check_log()
    assert not (folder / f".s.PGSQL.{proxy.port}").exists()


def test_term_ends_with_the_last_client(cluster):
    with Pgweir(cluster) as proxy:
        client = proxy.connect()
        client.query("select 1")
        proxy.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(proxy), "nobody new is taken")
        assert client.value("select 1") == "1"
        client.close()
        assert proxy.process.wait(30) == 0
        proxy.exit_status = 0
        proxy.check_log()


@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGINT, signal.SIGTERM],
                                     [signal.SIGINT, signal.SIGINT]])
def test_ends_at_once(cluster, signals):
    with Pgweir(cluster) as proxy:
        busy = proxy.connect()
        busy.query("begin")
        busy.query("select txid_current()")
        for number in signals:
            proxy.process.send_signal(number)
            time.sleep(0.1)
        assert "57P01" in [m.fields["C"] for m in busy.read_to_end() if m.type == "E"]
        assert proxy.process.wait(30) == 0
        proxy.exit_status = 0
        proxy.check_log()


@pytest.mark.parametrize("command", ["PAUSE", "WAIT_CLOSE"])
def test_end_while_a_command_waits(cluster, command):
    with Pgweir(cluster, http=True) as proxy:
        busy, admin = proxy.connect(), proxy.connect("postgres", "pgweir")
        busy.query("begin")
        busy.query("select txid_current()")
        if command == "WAIT_CLOSE":
            admin.query("RECONNECT")
        admin.send(wire.query(command))
        time.sleep(0.2)
        proxy.process.send_signal(signal.SIGQUIT)
        assert "57P01" in [m.fields["C"] for m in admin.read_to_end() if m.type == "E"]
        assert proxy.process.wait(30) == 0
        proxy.exit_status = 0
        proxy.check_log()


def test_a_client_that_leaves_while_its_command_waits(pgweir):
    proxy = pgweir()
    with proxy.connect() as busy:
        busy.query("begin")
        busy.query("select txid_current()")
        for _ in range(5):
            admin = proxy.connect("postgres", "pgweir")
            admin.send(wire.query("PAUSE"))
            admin.drop()
        proxy.admin("RESUME")
        assert busy.value("select 1") == "1"


@pytest.mark.threads
def test_console_in_a_storm(pgweir):
    """Clients come and go on all workers while the console looks at them."""
    proxy = pgweir(settings={"max_client_conn": 200})
    stop = threading.Event()
    failures = []

    def client():
        try:
            while not stop.is_set():
                with proxy.connect() as connection:
                    connection.query("select 1")
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)
    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with proxy.connect("postgres", "pgweir") as admin:
            for n in range(60):
                for table in ("clients", "servers", "pools", "stats", "host_pools"):
                    assert not admin.query(f"show {table}").errors
                if n % 20 == 10:
                    assert not admin.query("RELOAD").errors
                    assert not admin.query("RECONNECT").errors
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


@pytest.mark.threads
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_end_in_a_storm(cluster, how):
    """Questions between threads are under way when the threads are to end."""
    proxy = Pgweir(cluster, settings={"max_client_conn": 200, "stats_period": 1}, http=True)
    with proxy:
        stop = threading.Event()

        def again_and_again(work):
            while not stop.is_set():
                with contextlib.suppress(Exception):  # whatever a client may see when the process ends
                    work()

        def query():
            with proxy.connect() as connection:
                while not stop.is_set():
                    connection.query("select 1")

        def console():
            with proxy.connect("postgres", "pgweir") as connection:
                while not stop.is_set():
                    for command in ("show clients", "show stats", "reload", "reconnect", "explain route on postgres select 1"):
                        connection.query(command)
        work = [query, query, console, console, lambda: proxy.http_get("/metrics"), lambda: proxy.http_get("/api/status")]
        threads = [threading.Thread(target=again_and_again, args=[one]) for one in work]
        for thread in threads:
            thread.start()
        try:
            time.sleep(1)
            proxy.process.send_signal(how)
            assert proxy.process.wait(60) == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        proxy.exit_status = 0
        proxy.check_log()


# --- EXPLAIN ROUTE ---


@pytest.mark.parametrize("sql, target, reason", [
    ("select 1", "replica", "READ"),
    ("select count(*) from pg_class", "replica", "READ"),
    ("create table t(x int)", "primary", "DDL"),
    ("delete from pg_description where false", "primary", "WRITE"),
    ("select nextval('s')", "primary", None),
    ("select 1 from pg_class for update", "primary", "LOCKING"),
    ("/* pgweir: route=primary */ select 1", "primary", "MODE"),
    ("this is no sql", "primary", "SYNTAX"),
])
def test_explain_route(console, sql, target, reason):
    row = console.query(f"EXPLAIN ROUTE ON postgres {sql}").dicts[0]
    assert row["target"] == target
    assert reason is None or row["reason"] == reason
    assert row["rule"] and (row["replica"] is not None) == (target == "replica")


def test_explain_route_for_a_database(pgweir):
    proxy = pgweir(databases={"ro": {"dbname": "postgres", "route": "primary"}})
    proxy.wait_for_replicas()
    with proxy.connect("postgres", "pgweir") as admin:
        assert admin.query("EXPLAIN ROUTE select 1").dicts[0]["reason"] == "MODE"  # the only one that is named
        assert admin.query("EXPLAIN ROUTE ON postgres AS plain_user select 1").dicts[0]["target"] == "replica"
        assert admin.query("EXPLAIN ROUTE ON ro AS plain_user select 1").dicts[0]["target"] == "primary"


# --- HTTP ---


def test_health(proxy):
    status, body = proxy.http_get("/health")
    assert status == 200
    assert body["status"] == "healthy"
    assert isinstance(body["active_connections"], int)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", body["timestamp"])
    assert {server["role"] for server in body["servers"]} == {"primary", "replica"}


def test_ready(proxy):
    status, body = proxy.http_get("/ready")
    assert (status, body["ready"]) == (200, True)


def test_health_without_a_primary(new_cluster, pgweir):
    cluster = new_cluster()
    proxy = pgweir(cluster, http=True)
    proxy.wait_for_replicas()
    cluster.primary.stop()
    wait_until(lambda: proxy.http_get("/health")[0] == 503, "unhealthy")
    status, body = proxy.http_get("/health")
    assert body["status"] == "unhealthy"
    cluster.primary.start()
    wait_until(lambda: proxy.http_get("/health")[0] == 200, "healthy again")


def test_status(proxy):
    status, body = proxy.http_get("/api/status")
    assert status == 200
    assert body["version"][0]["version"].startswith("pgweir")
    assert {row["role"] for row in body["servers"]} == {"primary", "replica"}
    assert isinstance(body["pools"][0]["cl_active"], int)


def test_http_errors(proxy):
    status, body = proxy.http_get("/etc/passwd")
    assert status == 404 and "/health" in body
    with socket.create_connection(("127.0.0.1", proxy.http_port), 10) as connection:
        connection.sendall(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert b" 501 " in connection.recv(100) + b" 501 "
    with socket.create_connection(("127.0.0.1", proxy.http_port), 10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")  # and leaves without reading
    assert proxy.http_get("/health")[0] == 200


def test_http_is_off_unless_asked_for(pgweir):
    assert json.dumps(pgweir().admin("show config")).count('"http_addr", "value": ""') == 1
