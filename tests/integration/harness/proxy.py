"""The proxy under test, as a child process: its ini file, its console, its log, and a strict end.

    with Pgweir(cluster, settings={"default_pool_size": 5}) as proxy:
        proxy.query("select 1")

Leaving the block stops it with SIGINT and fails on a sanitizer's report, a failed CHECK, an exit status other than 0, a
server connection left in a transaction after the last client has gone, and one that outlives the process."""
import json
import os
import pathlib
import re
import signal
import urllib.error
import urllib.request

from . import wire
from .endpoint import Endpoint
from .postgres import PASSWORD
from .system import BUILD, Ended, end, memory_kb, tcp_connections, wait_until

TROUBLE = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|check failed|\bPANIC\b|SUMMARY: \w+Sanitizer")
SANITIZERS = pathlib.Path(__file__).resolve().parents[2] / "sanitizers"
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}
# The users of the test clusters (harness/postgres.py) with their passwords; those without one log in by trust.
USERS = {"postgres": "", "plain_user": "", "monitor_user": "", "cert_user": "", "scram_user": PASSWORD, "md5_user": PASSWORD,
         "password_user": PASSWORD, "tls_user": PASSWORD, "reject_user": PASSWORD}
ESTABLISHED = 1


def binary(build=None):
    """The program of a build variant: $PGWEIR_BINARY, or the variant asked for, or $PGWEIR_BUILD, or asan."""
    if os.environ.get("PGWEIR_BINARY") and build is None:
        return pathlib.Path(os.environ["PGWEIR_BINARY"])
    variant = build or os.environ.get("PGWEIR_BUILD", "asan")
    return BUILD / "pgweir" if variant == "release" else BUILD / variant / "pgweir"


class Pgweir(Endpoint):
    """One pgweir in front of a cluster."""

    section = "pgweir"
    console = "pgweir"
    started = "started"  # in the log: from here on it takes signals
    good_exit = {0}
    defaults = {
        "listen_addr": "127.0.0.1",
        "unix_socket_dir": "",
        "auth_type": "trust",
        "admin_users": "postgres",
        "pool_mode": "transaction",
        "workers": 2,
        "monitor_user": "postgres",
        "server_tls_sslmode": "disable",
    }

    def __init__(self, cluster, settings=None, databases=None, users=None, applications=None, accounts=None, hosts=None,
                 build=None, environment=None, http=False, runner=()):
        """settings: of the main section. databases, users, applications: sections, {name: "key=value ..."} or
        {name: {key: value}}; "host" and "port" of a database default to the whole cluster's, or to `hosts`, a list of
        ports.  accounts: {user: password} of the auth_file, added to the cluster's own.  runner: what runs the program."""
        self.cluster, self.workspace = cluster, cluster.workspace
        self.folder = self.workspace.folder("proxy")
        self.port = self.workspace.ports.take()
        self.http_port = self.workspace.ports.take() if http else None
        self.hosts = hosts or [node.port for node in cluster.nodes]
        self.settings = {**self.defaults, "listen_port": self.port, "auth_file": self.folder / "users.txt", **(settings or {})}
        if http:
            self.settings.setdefault("http_addr", f"127.0.0.1:{self.http_port}")
        self.sections = {"databases": {"*": {}, **(databases or {})}, "users": users or {}, "applications": applications or {}}
        self.accounts = {**USERS, **(accounts or {})}
        self.build = build
        self.runner = runner
        self.environment = environment or {}
        self.ini = self.folder / f"{self.section}.ini"
        self.log = self.folder / f"{self.section}.log"
        self.process = None
        self.exit_status = None

    # configuration

    def program(self):
        return binary(self.build)

    def database_keys(self, keys):
        """Host and port of a database, libpq's lists, and what else is set."""
        hosts = {"host": ",".join(["127.0.0.1"] * len(self.hosts)), "port": ",".join(map(str, self.hosts))}
        return {**hosts, **keys}

    @staticmethod
    def _keys(value):
        if isinstance(value, str):
            return dict(re.findall(r"(\w+)=('[^']*'|\S+)", value))
        return value

    def write_config(self):
        """Writes the ini file and the auth_file from what is set now."""
        text = []
        for name, entries in self.sections.items():
            if entries:
                text.append(f"[{name}]")
            for key, value in entries.items():
                keys = self._keys(value)
                keys = self.database_keys(keys) if name == "databases" else keys
                text.append(f"{key} = {' '.join(f'{k}={v}' for k, v in keys.items())}")
        text.append(f"[{self.section}]")
        text += [f"{key} = {value}" for key, value in self.settings.items() if value is not None]
        self.workspace.write(self.ini, "\n".join(text) + "\n")
        quoted = [f'"{user}" "{password.replace(chr(34), chr(34) * 2)}"\n' for user, password in self.accounts.items()]
        self.workspace.write(self.folder / "users.txt", "".join(quoted), 0o600)

    def configure(self, **settings):
        """Changes settings in the file; None removes one."""
        self.settings.update(settings)
        self.write_config()

    def reload(self, **settings):
        """Changes settings and has the proxy read them; returns when they hold."""
        self.configure(**settings)
        self.admin("RELOAD")

    # its life

    def spawn(self, *arguments):
        """Starts it without waiting for anything."""
        program = self.program()
        assert program.exists(), f"{program} is not built"
        suppressions = {f"{name}_OPTIONS": ":".join(filter(None, [
            os.environ.get(f"{name}_OPTIONS"), f"suppressions={self.workspace.reachable(SANITIZERS / file)}"]))
            for name, file in (("LSAN", "lsan.supp"), ("TSAN", "tsan.supp"))}
        self.process = self.workspace.spawn([*self.runner, self.workspace.reachable(program), *(arguments or [self.ini])], self.log,
                                            environment={**ENVIRONMENT, **suppressions, **self.environment})

    def start(self):
        self.write_config()
        self.spawn()
        wait_until(self.is_accepting, f"{self.program()} accepts connections", timeout=60)
        return self

    def is_accepting(self):
        if self.process.poll() is not None:
            raise Ended(f"{self.program()} ended with status {self.process.returncode}:\n{self.log_text()[-4000:]}")
        with wire.Connection(self.port, self.host):
            return self.started in self.log_text()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:  # the test's own failure is what shall be read
            self.kill()
            self.check_log()

    def kill(self):
        if self.process:
            end(self.process, signal.SIGKILL)

    def stop(self, how=signal.SIGINT):
        """Ends it and checks how it went."""
        if self.process is None or self.exit_status is not None:
            return
        mine = set()
        try:
            if self.process.poll() is None:
                self.check_quiet()
                mine = {(row["node"], row["pid"]) for row in self.backends()}
        finally:
            self.exit_status = end(self.process, how)
            self.check_log()
        assert self.exit_status in self.good_exit, f"exit status {self.exit_status}:\n{self.log_text()[-4000:]}"
        wait_until(lambda: not mine & {(node.name, row["pid"]) for node in self.cluster.nodes if node.process for row in node.backends()},
                   "the servers have seen the proxy's connections end")

    # what must hold

    def check_log(self):
        """No sanitizer report and no failed check."""
        found = TROUBLE.search(self.log_text())
        assert not found, f"{self.log}:\n{self.log_text()[max(0, found.start() - 2000):found.start() + 8000]}"

    def check_quiet(self):
        """With no client left, no server connection is busy or in a transaction."""
        if self.client_count() == 0:
            wait_until(lambda: all(row["state"] in ("idle", None) for row in self.backends()),
                       "with no client left every server connection is idle")

    def client_count(self):
        """Connections to the listening port, by the kernel's account."""
        return sum(1 for local, _, state in tcp_connections(self.process.pid) if local == self.port and state == ESTABLISHED)

    def server_ports(self, nodes=None):
        """Our ends of the connections to the cluster's servers, or to these."""
        servers = {node.port for node in nodes or self.cluster.nodes}
        return {local for local, remote, state in tcp_connections(self.process.pid)
                if remote in servers and state == ESTABLISHED}

    def backends(self):
        """Backends that serve this proxy, of every running node."""
        # By node: somebody else's connection to another server may have the same port.
        ports = {node: self.server_ports([node]) for node in self.cluster.nodes if node.process}
        return [{**row, "node": node.name} for node in ports if ports[node] for row in node.backends(ports[node])]

    def wait_for_replicas(self, database="postgres"):
        """Waits until reads reach every running standby: the monitor has found them, knows them to be fresh, and has
        loaded the facts of the database (without which a call of length() might be anybody's function)."""
        probe = f"select length('looking for the replicas of {self.port}')"
        waiting = {node: node.mark() for node in self.cluster.standbys if node.process}

        def all_reached():
            self.query(probe, database, application_name="harness")
            for node, mark in list(waiting.items()):
                if any(line.statement == probe for line in node.statements(mark, harness=True)):
                    del waiting[node]
            return not waiting

        wait_until(all_reached, "reads reach the standbys")
        return self

    # console, log, figures

    def admin(self, command):
        """A command on the console; rows as dicts."""
        with self.connect("postgres", self.console) as connection:
            return connection.query(command).dicts

    def log_text(self, since=0):
        if not self.log.exists():
            return ""
        with open(self.log, "rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    def mark(self):
        return self.log.stat().st_size

    def wait_for_log(self, pattern, since=0, timeout=60):
        return wait_until(lambda: re.search(pattern, self.log_text(since)), f"{pattern!r} in the proxy's log", timeout)

    def memory_kb(self, field="Rss"):
        return memory_kb(self.process.pid, field)

    def http_get(self, path):
        """(status, body) of a GET; the body is decoded when it is JSON."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=60) as answer:
                status, kind, body = answer.status, answer.headers.get_content_type(), answer.read()
        except urllib.error.HTTPError as error:
            status, kind, body = error.code, error.headers.get_content_type(), error.read()
        return status, json.loads(body) if kind == "application/json" else body.decode()


class PgBouncer(Pgweir):
    """PgBouncer in pgweir's place, on the primary alone: for trying the tests themselves, and for comparisons."""

    section = "pgbouncer"
    console = "pgbouncer"
    started = "process up"
    good_exit = {0, 1}
    ours = {"workers", "monitor_user", "monitor_password", "http_addr", "route", "consistency", "replica_wait", "failover_timeout"}

    def __init__(self, cluster, **options):
        super().__init__(cluster, **{**options, "hosts": [cluster.primary.port]})
        self.settings = {"ignore_startup_parameters": "extra_float_digits,options",
                         **{key: value for key, value in self.settings.items() if key not in self.ours}}

    def program(self):
        return pathlib.Path(os.environ.get("PGBOUNCER", "/usr/sbin/pgbouncer"))

    def wait_for_replicas(self, database="postgres"):
        return self


class Direct(Endpoint):
    """No proxy at all, the primary itself: what is right by definition."""

    def __init__(self, cluster, **_):
        self.cluster, self.port = cluster, cluster.primary.port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait_for_replicas(self, database="postgres"):
        return self
