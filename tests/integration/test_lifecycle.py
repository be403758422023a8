"""The process: its arguments, signals, configuration and log."""
import os
import re
import signal
import subprocess

import pytest
from harness.proxy import ENVIRONMENT, Pgweir, binary
from harness.system import wait_until
from harness.wire import PgError
from harness.wire import PgError


def run(workspace, *arguments, environment=None):
    """Runs the program to its end, as the servers' account."""
    return subprocess.run(workspace.as_server(workspace.reachable(binary()), *arguments), capture_output=True, text=True,
                          timeout=60, check=False, env={**os.environ, **ENVIRONMENT, **(environment or {})})


def ini(workspace, text):
    folder = workspace.folder("config")
    return workspace.write(folder / "pgweir.ini", text)


def test_version(workspace):
    done = run(workspace, "--version")
    assert done.returncode == 0
    assert re.search(r"\d+\.\d+\.\d+", done.stdout)


def test_check_config_accepts_a_good_file(workspace):
    path = ini(workspace, "[databases]\n* = host=127.0.0.1\n[pgweir]\nlisten_port = 6432\n")
    done = run(workspace, "--check-config", path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text, expected", [
    ("[pgweir]\nlisten_prot = 6432\n", ["2", "listen_prot", "listen_port"]),
    ("[pgweir]\nlisten_port = 99999999\n", ["2", "listen_port"]),
    ("[pgweir]\npool_mode = transation\n", ["2", "pool_mode", "transaction"]),
    ("[pgweir]\n\nroute = nowhere\n", ["3", "route", "replica"]),
    ("[pgweir]\nauth_dbname = pgbouncer\n", ["2", "auth_dbname", "reserved"]),
    ("[pgweir]\nclient_tls_sslmode = verify-full\n", ["2", "client_tls_sslmode", "client_tls_ca_file"]),
    ("[nonsense]\nx = 1\n", ["nonsense"]),
])
def test_check_config_names_file_line_and_key(workspace, text, expected):
    path = ini(workspace, text)
    done = run(workspace, "--check-config", path)
    assert done.returncode != 0
    for word in [path.name, *expected]:
        assert word in done.stderr + done.stdout


def test_missing_file(workspace):
    done = run(workspace, "/nonexistent/pgweir.ini")
    assert done.returncode != 0
    assert "/nonexistent/pgweir.ini" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_root_is_refused_without_a_user(workspace):
    path = ini(workspace, "[databases]\n* = host=127.0.0.1\n[pgweir]\n")
    done = subprocess.run([binary(), path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "root" in done.stderr


def test_port_in_use_is_an_error(workspace, cluster):
    path = ini(workspace, f"[databases]\n* = host=127.0.0.1\n[pgweir]\nlisten_addr = 127.0.0.1\nlisten_port = {cluster.primary.port}\n"
                          "unix_socket_dir =\n")
    done = run(workspace, path)
    assert done.returncode != 0
    assert str(cluster.primary.port) in done.stderr


def test_start_from_a_connection_string(workspace, cluster):
    class FromUrl(Pgweir):
        def spawn(self, *_):
            hosts = ",".join(f"127.0.0.1:{port}" for port in self.hosts)
            super().spawn(f"postgresql://postgres@{hosts}/postgres?sslmode=disable")

    proxy = FromUrl(cluster)
    proxy.environment = {"PGWEIR_LISTEN_PORT": str(proxy.port), "PGWEIR_LISTEN_ADDR": "127.0.0.1", "PGWEIR_UNIX_SOCKET_DIR": "",
                         "PGWEIR_AUTH_TYPE": "trust"}
    with proxy:
        assert proxy.value("select 'from a url'") == "from a url"


def settings_of(proxy):
    return {row["key"]: row["value"] for row in proxy.admin("show config")}


def test_environment_overrides_the_file(pgweir):
    proxy = pgweir(settings={"max_client_conn": 70}, environment={"PGWEIR_MAX_CLIENT_CONN": "90"})
    assert settings_of(proxy)["max_client_conn"] == "90"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_signals_end_it_with_clients_connected(cluster, how):
    proxy = Pgweir(cluster)
    proxy.start()
    idle = proxy.connect()
    assert idle.value("select 1") == "1"
    proxy.stop(how)
    idle.drop()


def test_hangup_reloads(pgweir):
    proxy = pgweir(settings={"max_client_conn": 50})
    proxy.configure(max_client_conn=60)
    proxy.process.send_signal(signal.SIGHUP)
    wait_until(lambda: settings_of(proxy)["max_client_conn"] == "60",
               "the new setting holds")


def test_bad_reload_keeps_the_old_settings(pgweir):
    proxy = pgweir(settings={"max_client_conn": 50})
    mark = proxy.mark()
    proxy.configure(max_client_conn="many")
    proxy.process.send_signal(signal.SIGHUP)
    proxy.wait_for_log("max_client_conn", mark)
    with pytest.raises(PgError) as refused:
        proxy.admin("RELOAD")
    assert "RELOAD failed" in refused.value.fields["M"] and "max_client_conn" in refused.value.fields["D"]
    assert settings_of(proxy)["max_client_conn"] == "50"
    assert proxy.value("select 1") == "1"


def test_logins_are_logged(pgweir):
    proxy = pgweir()
    with proxy.connect("plain_user", "template1"):
        proxy.wait_for_log(r"\[C-\d+ template1/plain_user.*\] login attempt: db=template1 user=plain_user tls=no from 127\.0\.0\.1")
    proxy.reload(log_connections=0)
    mark = proxy.mark()
    proxy.query("select 1", "template1", "plain_user")
    proxy.wait_for_log("closing because: client closed the session", mark)
    assert "login attempt: db=template1" not in proxy.log_text(mark)


def test_no_password_in_the_log(pgweir):
    proxy = pgweir(settings={"auth_type": "scram-sha-256", "log_connections": 1, "verbose": 2},
                   accounts={"plain_user": "a very secret word"})
    with proxy.connect("plain_user", password="a very secret word") as client:
        client.query("select 1")
    assert "a very secret word" not in proxy.log_text()


@pytest.mark.parametrize("show", ["pools", "clients", "servers", "stats", "databases", "replicas", "config", "version"])
def test_console_tables(pgweir, show):
    proxy = pgweir()
    with proxy.connect() as client:
        client.query("select 1")
        rows = proxy.admin(f"show {show}")
    assert rows
    assert all(rows[0])


def test_console_is_for_admins(pgweir):
    proxy = pgweir(settings={"admin_users": "postgres"})
    with pytest.raises(PgError):
        proxy.connect("plain_user", "pgweir")
