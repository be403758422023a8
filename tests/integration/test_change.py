"""Change without loss: reloads under load, processes that take turns on one port, cancel requests between them."""
import itertools
import shutil
import subprocess

import pytest
from harness.postgres import find_programs
from harness.proxy import Pgweir
from harness.system import wait_until
from harness.wire import Connection, query

PGBENCH = find_programs() / "pgbench"


class Load:
    """pgbench in the background; leaving the block ends it by its own time and fails on any client error."""

    def __init__(self, proxy, database, *arguments):
        self.proxy = proxy
        self.command = [PGBENCH, "-n", "-h", "127.0.0.1", "-p", proxy.port, "-U", "postgres", *arguments, database]

    def __enter__(self):
        self.process = subprocess.Popen(list(map(str, self.command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return self

    def is_running(self):
        return self.process.poll() is None

    def __exit__(self, kind, *_):
        if kind:
            self.process.kill()
        output = self.process.communicate(timeout=300)[0]
        if kind is None:
            assert self.process.returncode == 0, output
            assert "number of failed transactions: 0" in output and "abort" not in output, output


def prepare(cluster, database):
    subprocess.run(list(map(str, [PGBENCH, "-i", "-q", "-h", "127.0.0.1", "-p", cluster.primary.port, "-U", "postgres", database])),
                   check=True, capture_output=True, timeout=120)


def reload_under_load(cluster, workspace, authority, database, clients, seconds, rounds):
    """Sizes, routes, time-outs, rules and certificates change; at least `rounds` reloads while pgbench runs."""
    prepare(cluster, database)
    folder = workspace.folder("certificates")
    pairs = [authority.issue(f"proxy{i}") for i in range(2)]

    def use(pair):
        for source, name in zip(pair, ("server.crt", "server.key")):
            shutil.copyfile(source, folder / name)
            (folder / name).chmod(0o600)
            workspace.own(folder / name)

    use(pairs[0])
    settings = {"client_tls_sslmode": "allow", "client_tls_cert_file": folder / "server.crt",
                "client_tls_key_file": folder / "server.key", "max_client_conn": 300, "query_wait_timeout": 120}
    changes = {
        "default_pool_size": [5, 20, 11], "min_pool_size": [0, 3], "reserve_pool_size": [0, 2], "max_db_connections": [0, 40],
        "route": ["auto", "primary", "replica"], "consistency": ["database", "session", "eventual"], "replica_wait": ["1ms", "20ms"],
        "server_lifetime": [3600, 1], "server_idle_timeout": [600, 1], "query_wait_timeout": [120, 100],
        "server_check_delay": [30, 0], "server_round_robin": [0, 1], "max_prepared_statements": [200, 3],
        "server_reset_query_always": [0, 1], "log_min_duration": ["off", "100ms"], "monitor_interval": ["200ms", "50ms"],
        "application_name_format": ["%a", "%a-%p"], "client_tls_protocols": ["secure", "tlsv1.3"], "auth_type": ["trust", "md5"],
        "server_tls_sslmode": ["disable", "prefer"], "max_pinned": ["pool_size", 0], "tcp_keepidle": [0, 60], "log_level": ["info", "error"],
    }
    del changes["auth_type"]  # pgbench has no password
    with Pgweir(cluster, settings=settings) as proxy:
        proxy.wait_for_replicas(database)
        done, use_in_turn = 0, itertools.cycle(pairs)
        while done < rounds or done % 6:
            # A slow machine gets more load, not fewer reloads.
            with Load(proxy, database, "-c", clients, "-j", 2, "-T", seconds) as load, \
                    Load(proxy, database, "-c", clients // 5, "-T", seconds, "-S", "-C"):
                while load.is_running() and (done < rounds or done % 6):
                    done += 1
                    use(next(use_in_turn))
                    proxy.sections["databases"][database] = "connect_query='select 1'" if done % 3 else ""
                    proxy.reload(**{key: values[done % len(values)] for key, values in changes.items()})
                    with proxy.connect(database=database):
                        pass


def test_reload_under_load(cluster, workspace, authority, database):
    reload_under_load(cluster, workspace, authority, database, clients=10, seconds=8, rounds=5)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_reload_under_load_long(cluster, workspace, authority, database):
    reload_under_load(cluster, workspace, authority, database, clients=50, seconds=240, rounds=200)


class Peers:
    """Processes that share a port, each with a number and a socket folder of its own."""

    def __init__(self, cluster, workspace):
        self.cluster, self.workspace = cluster, workspace
        self.folders = {number: workspace.folder(f"peer{number}") for number in (1, 2)}
        for folder in self.folders.values():
            folder.chmod(0o777)
        self.port = None

    def start(self, number):
        proxy = Pgweir(self.cluster, settings={"so_reuseport": 1, "peer_id": number, "unix_socket_dir": self.folders[number],
                                               "workers": 1, "max_client_conn": 300, "listen_backlog": 1000})
        self.port = self.port or proxy.port
        proxy.port = proxy.settings["listen_port"] = self.port
        proxy.sections["peers"] = {n: f"host={folder}" for n, folder in self.folders.items()}
        proxy.sections["peers"] = {n: f"{keys} port={self.port}" for n, keys in proxy.sections["peers"].items()}
        proxy.host = str(self.folders[number])  # the harness talks to this one
        return proxy.start()


def test_cancel_reaches_the_process_that_has_the_client(cluster, workspace):
    peers = Peers(cluster, workspace)
    first, second = peers.start(1), peers.start(2)
    try:
        for own, other in ((first, second), (second, first)):
            with own.connect() as client:
                mark = own.cluster.mark()
                client.send(query("select pg_sleep(300)"))
                wait_until(lambda: own.cluster.where("select pg_sleep(300)", mark), "it runs")
                with Connection(peers.port, other.host) as messenger:
                    messenger.pid, messenger.key = client.pid, client.key
                    wrong = Connection(peers.port, other.host)
                    wrong.pid, wrong.key, wrong.port, wrong.host = client.pid, b"\0\0\0\0", peers.port, other.host
                    wrong.cancel()
                    wrong.close()
                    messenger.cancel()
                answer = client.read_until_ready()
                assert [m.fields["C"] for m in answer if m.type == "E"] == ["57014"]
                assert client.value("select 1") == "1"
    finally:
        for proxy in (first, second):
            proxy.stop()


def restarts(cluster, workspace, database, clients, rounds):
    prepare(cluster, database)
    peers = Peers(cluster, workspace)
    old = peers.start(1)
    load = Load(old, database, "-c", clients, "-j", 2, "-C", "-S", "-t", 10 ** 9)  # for ever
    process = subprocess.Popen(list(map(str, load.command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for number in itertools.islice(itertools.cycle((2, 1)), rounds):
            new = peers.start(number)
            if number == 2:
                old.admin("SHUTDOWN WAIT_FOR_CLIENTS")
            else:
                old.process.terminate()  # the same
            assert old.process.wait(120) == 0
            old.exit_status = 0
            old.check_log()
            old = new
            assert process.poll() is None, process.communicate()[0]
        wait_until(lambda: any(int(row["query_count"]) for row in old.admin("SHOW STATS_TOTALS") if row["database"] == database),
                   "the last one has served queries")
    finally:
        process.terminate()
        output = process.communicate(timeout=60)[0]
        old.kill()
    assert "error" not in output.lower() and "FATAL" not in output, output


def test_processes_take_turns(cluster, workspace, database):
    restarts(cluster, workspace, database, clients=10, rounds=2)


@pytest.mark.long
def test_processes_take_turns_long(cluster, workspace, database):
    restarts(cluster, workspace, database, clients=50, rounds=20)
