"""With Patroni and etcd, as Debian packages them: pgweir looks at the servers, so that whoever promotes them is all the same."""
import json
import os
import shutil
import signal
import urllib.request

import pytest
from harness.postgres import HBA, SETTINGS, Node, find_programs
from harness.system import end, wait_until
from harness.tellers import BANK, Tellers
from harness.wire import Closed, PgError

pytestmark = pytest.mark.long
# Patroni wants at least these 20 seconds before it believes that a leader is gone.
TTL = 20


def program(name):
    """On the PATH, or in a folder where somebody has unpacked the packages ($PATRONI_ROOT)."""
    return shutil.which(name, path=os.environ.get("PATRONI_ROOT", "") + "/usr/bin:" + os.environ["PATH"])


class PatroniCluster:
    """etcd, and two servers under Patroni."""

    def __init__(self, workspace):
        self.workspace, self.programs = workspace, find_programs()
        self.folder = workspace.folder("patroni")
        self.ports = [workspace.ports.take() for _ in range(6)]
        self.etcd = workspace.spawn([program("etcd"), "--data-dir", self.folder / "etcd",
                                     "--listen-client-urls", f"http://127.0.0.1:{self.ports[0]}",
                                     "--advertise-client-urls", f"http://127.0.0.1:{self.ports[0]}",
                                     "--listen-peer-urls", f"http://127.0.0.1:{self.ports[1]}",
                                     "--initial-advertise-peer-urls", f"http://127.0.0.1:{self.ports[1]}",
                                     "--initial-cluster", f"default=http://127.0.0.1:{self.ports[1]}"], self.folder / "etcd.log")
        self.nodes = [Node(self, f"node{n}", self.folder / f"data{n}", self.ports[1 + n]) for n in (1, 2)]

    def start(self):
        for number, node in enumerate(self.nodes, 1):
            self.spawn(node, self.ports[3 + number])
            wait_until(node.is_ready, f"{node.name} answers", timeout=120)
        wait_until(lambda: self.leader() and self.leader().value("select count(*) from pg_stat_replication where sync_state = 'sync'") == "1",
                   "the standby is waited for", timeout=120)

    def spawn(self, node, rest_port):
        parameters = {name: value for name, value in SETTINGS.items() if not name.startswith(("ssl", "listen", "hot_standby", "wal_level"))}
        config = {
            "scope": "pgweir", "name": node.name,
            "restapi": {"listen": f"127.0.0.1:{rest_port}", "connect_address": f"127.0.0.1:{rest_port}"},
            "etcd3": {"host": f"127.0.0.1:{self.ports[0]}"},
            "bootstrap": {"dcs": {"ttl": TTL, "loop_wait": 1, "retry_timeout": 3, "synchronous_mode": True},
                          "initdb": [{"encoding": "UTF8"}, {"auth": "trust"}, "no-locale", "no-sync"],
                          "pg_hba": [line for line in HBA.splitlines() if line.endswith("trust")]},
            "postgresql": {"listen": f"127.0.0.1:{node.port}", "connect_address": f"127.0.0.1:{node.port}", "data_dir": str(node.data),
                           "bin_dir": str(self.programs), "pgpass": str(self.folder / f"pgpass{node.name}"),
                           "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "postgres"}},
                           "parameters": parameters}}
        file = self.workspace.write(self.folder / f"{node.name}.yml", json.dumps(config))  # JSON is YAML
        root = os.environ.get("PATRONI_ROOT")
        node.process = self.workspace.spawn(["/usr/bin/python3", program("patroni"), file], node.log,
                                            environment={"PYTHONPATH": f"{root}/usr/lib/python3/dist-packages"} if root else None)
        node.rest_port = rest_port

    def leader(self):
        for node in self.nodes:
            try:
                if node.process and node.value("select pg_is_in_recovery()") == "f":
                    return node
            except (OSError, PgError, Closed):
                pass
        return None

    def kill(self, node):
        """As a power cut: Patroni, the server and all its processes."""
        postmaster = int((node.data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGSTOP)  # so that neither it nor they say goodbye for each other
        with open(f"/proc/{postmaster}/task/{postmaster}/children", encoding="ascii") as children:
            victims = [*map(int, children.read().split()), node.process.pid, postmaster]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        node.process.wait()
        node.process = None

    def stop(self):
        for node in self.nodes:
            if node.process:
                end(node.process)
        end(self.etcd)
        shutil.rmtree(self.folder, ignore_errors=True)

    def roles(self, port):
        """What Patroni itself says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/cluster", timeout=20) as answer:
            return {member["name"]: member["role"] for member in json.load(answer)["members"]}


@pytest.fixture
def patroni(workspace):
    missing = [name for name in ("patroni", "etcd") if not program(name)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} missing: tests/deps.sh long")
    cluster = PatroniCluster(workspace)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def test_patroni_fails_over(patroni, pgweir):
    """The leader loses its power under load; Patroni promotes the other one when its lease is over, and writers go on there."""
    leader = patroni.leader()
    leader.query("create database bank")
    leader.query(BANK, database="bank")
    proxy = pgweir(on=patroni, settings={"failover_timeout": "90s"})
    wait_until(lambda: sorted(row["role"] for row in proxy.admin("SHOW REPLICAS")) == ["primary", "replica"], "pgweir sees both")
    standby = next(node for node in patroni.nodes if node is not leader)

    def reads_reach_the_standby():
        proxy.query("select count(*) from accounts", database="bank")
        return standby.value("select numbackends from pg_stat_database where datname = 'bank'") != "0"

    wait_until(reads_reach_the_standby, "the facts of the new database are known")
    with Tellers(proxy, "bank") as tellers:
        tellers.wait_for_work()
        patroni.kill(leader)
        wait_until(lambda: patroni.leader() not in (None, leader), "Patroni promotes", timeout=90)
        tellers.wait_for_work()
    other = patroni.leader()
    errors = tellers.check(other, "bank")
    print(f"{errors} of 20 clients saw an error; Patroni says {patroni.roles(other.rest_port)}")
    # It returns as a standby, by Patroni's doing, and is read from again.
    patroni.spawn(leader, leader.rest_port)
    wait_until(lambda: sorted(row["role"] for row in proxy.admin("SHOW REPLICAS")) == ["primary", "replica"], "it is a replica now", timeout=90)
