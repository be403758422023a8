"""Real PostgreSQL servers: a primary and streaming standbys on 127.0.0.1, restored from a template made once a session.

Every statement that reaches a server is in that server's own log (log_statement=all) before its answer leaves, so a
test can ask the servers, not the proxy, where a statement ran:

    mark = cluster.mark()
    client.query("select count(*) from accounts")
    assert cluster.where("select count(*) from accounts", mark) == ["standby1"]"""
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess

from . import wire
from .endpoint import Endpoint
from .system import Ended, end, wait_until

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": 120,
    "superuser_reserved_connections": 3,
    "shared_buffers": "32MB",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "replica",
    "wal_keep_size": "128MB",
    "max_wal_senders": 8,
    "max_prepared_transactions": 10,
    "hot_standby": "on",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "50ms",
    "checkpoint_timeout": "10min",
    "autovacuum_naptime": "10min",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_statement": "all",
    "log_min_messages": "warning",
    "log_min_error_statement": "error",
    "log_connections": "on",
    "log_line_prefix": "%m [%p] %e %d %u %a ",
    "lc_messages": "C",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
    "ssl": "on",
}

# Who may come in, and how: the user's name says it.  Everybody else is trusted.
HBA = """\
host    replication  all                127.0.0.1/32  trust
hostssl all          tls_user           127.0.0.1/32  scram-sha-256
host    all          tls_user           127.0.0.1/32  reject
hostssl all          cert_user          127.0.0.1/32  cert
host    all          scram_user         127.0.0.1/32  scram-sha-256
host    all          md5_user           127.0.0.1/32  md5
host    all          password_user      127.0.0.1/32  password
host    all          reject_user        127.0.0.1/32  reject
host    all          all                127.0.0.1/32  trust
"""

PASSWORD = "s3cret, 'quoted' \"pass\""  # of every user that has one
ROLES = f"""
create role scram_user login password {"'" + PASSWORD.replace("'", "''") + "'"};
create role tls_user login password {"'" + PASSWORD.replace("'", "''") + "'"};
create role password_user login password {"'" + PASSWORD.replace("'", "''") + "'"};
create role cert_user login;
create role reject_user login;
create role plain_user login;
create role monitor_user login in role pg_monitor;
set password_encryption = md5;
create role md5_user login password {"'" + PASSWORD.replace("'", "''") + "'"};
"""

# Applications whose statements are no test's: the harness itself and pgweir's monitor.
OWN_APPLICATIONS = ("harness", "pgweir-monitor")
_LOG_LINE = re.compile(r"(\S+ \S+ \S+) \[(\d+)\] (\S{5}) (\S*) (\S*) (.*?) ?(LOG|ERROR|FATAL|PANIC|WARNING|STATEMENT|DETAIL"
                       r"|HINT|CONTEXT|NOTICE|QUERY):  (.*)", re.S)
_STATEMENT = re.compile(r"(statement|execute|execute fetch from) ?(\S*): (.*)", re.S)


def find_programs():
    """PostgreSQL's programs: $PGBIN, or Debian's newest from 14 on."""
    if os.environ.get("PGBIN"):
        return pathlib.Path(os.environ["PGBIN"])
    found = sorted((p for p in pathlib.Path("/usr/lib/postgresql").glob("*/bin") if (p / "initdb").exists()),
                   key=lambda p: -int(p.parent.name))
    assert found and int(found[0].parent.name) >= 14, "PostgreSQL 14 or newer is needed: make deps"
    return found[0]


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@dataclasses.dataclass(frozen=True)
class LogLine:
    """One entry of a server's log."""

    node: str
    pid: int
    sqlstate: str
    database: str
    user: str
    application: str
    level: str
    text: str

    @property
    def statement(self):
        """The SQL of a logged statement (simple or executed), without its prefix; None for other entries."""
        found = _STATEMENT.fullmatch(self.text) if self.level == "LOG" else None
        return found.group(3) if found else None

    @property
    def prepared_name(self):
        """The name of the executed prepared statement; None for a simple query."""
        found = _STATEMENT.fullmatch(self.text) if self.level == "LOG" else None
        return found.group(2) if found and found.group(1) != "statement" else None


class Node(Endpoint):
    """One PostgreSQL server."""

    def __init__(self, cluster, name, data, port):
        self.cluster, self.name, self.data, self.port = cluster, name, data, port
        self.log = data.parent / f"{data.name}.log"
        self.process = None
        self.runner = ()

    def __repr__(self):
        return self.name

    # its life

    def start(self, wait=True):
        self.process = self.cluster.workspace.spawn([self.cluster.programs / "postgres", "-D", self.data], self.log,
                                                    death_signal="SIGQUIT", runner=self.runner)
        if wait:
            wait_until(self.is_ready, f"{self.name} accepts connections")

    def is_ready(self):
        if self.process.poll() is not None:
            raise Ended(f"{self.name} ended with status {self.process.returncode}:\n{self.log_text()[-3000:]}")
        try:
            return self.value("select 1") == "1"
        except (wire.PgError, wire.Closed):
            return False

    def stop(self, mode="fast"):
        """smart waits for clients, fast ends them, immediate is a crash that cleans up its children."""
        how = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        if self.process:
            assert end(self.process, how) in (0, 1, 2, -signal.SIGKILL), f"{self.name} did not stop"
            self.process = None

    def kill(self):
        """As a power cut: every process of the server at once."""
        victims = [self.process.pid, *self.children()]
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self.process = None
        wait_until(lambda: not any(is_running(pid) for pid in victims), "its processes are gone: a new one needs their memory")
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def children(self):
        listing = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in listing.read_text().split()]

    def freeze(self):
        """The host hangs: connections stay open and nobody answers."""
        for pid in [self.process.pid, *self.children()]:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self):
        for pid in [*self.children(), self.process.pid]:
            os.kill(pid, signal.SIGCONT)

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def promote(self):
        self.query("select pg_promote(true, 60)")
        wait_until(lambda: self.value("select pg_is_in_recovery()") == "f", f"{self.name} is promoted")

    # its settings

    def configure(self, **settings):
        """Appends to postgresql.conf; takes effect with reload() or restart()."""
        lines = "".join(f"{name} = '{str(value).replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items())
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(lines)

    def reload(self, **settings):
        """Reloads, having set these; returns when a new connection sees them."""
        self.configure(**settings)
        before = self.value("select pg_conf_load_time()")
        os.kill(self.process.pid, signal.SIGHUP)
        wait_until(lambda: self.value("select pg_conf_load_time()") != before, f"{self.name} has reloaded")

    def replay_lag(self, delay):
        """Holds replay of commits back by a delay such as '50ms'."""
        self.reload(recovery_min_apply_delay=delay)

    def pause_replay(self):
        self.query("select pg_wal_replay_pause()")
        wait_until(lambda: self.value("select pg_get_wal_replay_pause_state()") == "paused", f"{self.name} pauses replay")

    def resume_replay(self):
        self.query("select pg_wal_replay_resume()")

    # asking it, directly

    def connect(self, user="postgres", database="postgres", password=None, **parameters):
        """The harness's own statements carry its name, so that no test takes them for the proxy's, and work on a server
        whose defaults a test has made difficult."""
        parameters.setdefault("application_name", "harness")
        parameters.setdefault("default_transaction_isolation", "read committed")
        return super().connect(user, database, password, **parameters)

    def backends(self, ports=None):
        """Client backends as dicts; only those whose client is on one of these local ports, if given."""
        with self.connect() as connection:
            rows = connection.query(
                "select pid, datname, usename, application_name, client_port, state, query from pg_stat_activity "
                "where backend_type = 'client backend' and pid <> pg_backend_pid()").dicts
        return [row for row in rows if ports is None or int(row["client_port"] or 0) in ports]

    # its log

    def mark(self):
        """A place in the log; log lines and statements can be asked for since then."""
        return self.log.stat().st_size

    def log_text(self, since=0):
        with open(self.log, "rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    def log_lines(self, since=0):
        """Entries since a mark; lines that go on (they begin with a tab) are joined."""
        for entry in re.split(r"\n(?!\t)", self.log_text(since)):
            found = _LOG_LINE.fullmatch(entry)
            if found:
                yield LogLine(self.name, int(found.group(2)), *found.group(3, 4, 5, 6, 7), found.group(8).replace("\n\t", "\n"))

    def statements(self, since=0, harness=False, **fields):
        """Logged statements since a mark, without OWN_APPLICATIONS'; fields narrow it: database=, user=, application=, pid=."""
        return [line for line in self.log_lines(since)
                if line.statement is not None and (harness or line.application not in OWN_APPLICATIONS)
                and all(getattr(line, name) == value for name, value in fields.items())]

    def errors(self, since=0, **fields):
        """Logged errors since a mark."""
        return [line for line in self.log_lines(since) if line.level in ("ERROR", "FATAL", "PANIC")
                and line.application not in OWN_APPLICATIONS and all(getattr(line, k) == v for k, v in fields.items())]


class Template:
    """A primary with its roles, and a base backup as the standby: made once a session, copied for each cluster."""

    def __init__(self, workspace, authority):
        self.workspace, self.authority = workspace, authority
        self.programs = find_programs()
        self.version = int(re.search(r"(\d+)", subprocess.run([self.programs / "postgres", "--version"], check=True,
                                                              capture_output=True, text=True).stdout).group(1))
        self.folder = workspace.folder("template")
        self._make_primary()
        self._make_standby()

    def _make_primary(self):
        data = self.folder / "primary"
        self.workspace.run(self.programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale",
                           "--no-sync")
        certificate, key = self.authority.issue("server")
        conf = {**SETTINGS, "ssl_ca_file": self.authority.ca, "ssl_cert_file": certificate, "ssl_key_file": key}
        with open(data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write("".join(f"{name} = '{value}'\n" for name, value in conf.items()))
        self.workspace.write(data / "pg_hba.conf", HBA, 0o600)

    def _make_standby(self):
        """The backup needs a running primary; it is stopped again, so that both folders are at rest."""
        cluster = Cluster(self, standbys=0, folder=self.folder, copy=False)
        cluster.start()
        cluster.primary.query(ROLES)
        self.workspace.run(self.programs / "pg_basebackup", "-h", "127.0.0.1", "-p", cluster.primary.port, "-U", "postgres",
                           "-D", self.folder / "standby", "-X", "stream", "-c", "fast", "--no-sync")
        cluster.stop()


class Cluster:
    """A primary and its standbys.  A context manager: starts on entry, stops on exit."""

    def __init__(self, template, standbys=1, folder=None, copy=True, hba=None, **settings):
        """hba replaces pg_hba.conf; settings are added to postgresql.conf."""
        self.template, self.workspace, self.programs = template, template.workspace, template.programs
        self.version = template.version
        self.folder = folder or self.workspace.folder("cluster")
        self._hba = hba
        self._databases = 0
        self.primary = self._node("primary", "primary", copy, settings)
        self.standbys = [self._node(f"standby{n}", "standby", copy, settings) for n in range(1, standbys + 1)]

    def _node(self, name, source, copy, settings):
        data = self.folder / name
        if copy:
            subprocess.run(["cp", "-a", self.template.folder / source, data], check=True)
        node = Node(self, name, data, self.workspace.ports.take())
        node.configure(port=node.port, **settings)
        if self._hba:
            self.workspace.write(data / "pg_hba.conf", self._hba, 0o600)
        if source == "standby":
            self.follow(node, self.primary)
        return node

    @property
    def nodes(self):
        return [self.primary, *self.standbys]

    @property
    def standby(self):
        return self.standbys[0]

    def follow(self, node, primary):
        """Makes a stopped node a standby of another."""
        node.configure(primary_conninfo=f"host={primary.host} port={primary.port} user=postgres application_name={node.name}",
                       recovery_target_timeline="latest")
        self.workspace.write(node.data / "standby.signal", "", 0o600)

    def start(self):
        for node in self.nodes:
            node.start(wait=False)
        for node in self.nodes:
            wait_until(node.is_ready, f"{node.name} accepts connections")
        wait_until(lambda: self.primary.value("select count(*) from pg_stat_replication where state = 'streaming'")
                   == str(len(self.standbys)), "the standbys stream")

    def stop(self, mode="fast"):
        """Standbys first: a primary that shuts down waits for them."""
        for node in reversed(self.nodes):
            if node.process:
                node.stop(mode)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.remove()

    def remove(self):
        """The end of a cluster that nobody will look at again."""
        self.stop("immediate")
        for node in self.nodes:
            self.workspace.ports.give_back(node.port)
        shutil.rmtree(self.folder, ignore_errors=True)

    def switch_primary(self, standby):
        """Tells the cluster which node is the primary now; the caller has promoted it."""
        self.standbys = [node for node in self.nodes if node is not standby]
        self.primary = standby

    def rebuild(self, node):
        """Makes a stopped node a standby of the primary, from a new base backup, and starts it."""
        shutil.rmtree(node.data)
        self.workspace.run(self.programs / "pg_basebackup", "-h", self.primary.host, "-p", self.primary.port, "-U", "postgres",
                           "-D", node.data, "-X", "stream", "-c", "fast", "--no-sync")
        node.configure(port=node.port, synchronous_standby_names="")
        self.follow(node, self.primary)
        node.start()

    def settle(self):
        """Waits until every running standby has replayed all that the primary has written."""
        target = self.primary.value("select pg_current_wal_flush_lsn()")
        for node in self.standbys:
            if node.process:
                wait_until(lambda n=node: n.value(f"select pg_last_wal_replay_lsn() >= '{target}'") == "t",
                           f"{node.name} has replayed {target}")

    def create_database(self, sql=""):
        """A new empty database, with these statements run in it, there on every standby too.  Returns its name."""
        self._databases += 1
        name = f"test_{os.getpid()}_{self._databases}"
        self.primary.query(f"create database {name}")
        if sql:
            self.primary.query(sql, database=name)
        self.settle()
        return name

    def drop_database(self, name):
        self.primary.query(f"drop database if exists {name} with (force)")

    # where things ran, by the servers' own logs

    def mark(self):
        return {node.name: node.mark() for node in self.nodes}

    def statements(self, mark, **fields):
        """All statements since a mark: {node name: [LogLine]}."""
        return {node.name: node.statements(mark.get(node.name, 0), **fields) for node in self.nodes}

    def where(self, sql, mark, **fields):
        """Names of the nodes that ran exactly this statement since a mark, once per execution."""
        return [line.node for lines in self.statements(mark, **fields).values() for line in lines if line.statement == sql]
