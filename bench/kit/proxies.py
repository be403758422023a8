"""The things that pgbench can be pointed at: nothing (direct), the forwarder, PgBouncer, Pgpool-II and pgweir.

Each target starts one process per kind of authentication, on ports of its own, when it is first asked for. All proxies get
the same pool (size, mode, log level, no statistics period worth mentioning); what is set beyond that is in the templates.
"""
import os
import pathlib
import re
import shutil
import subprocess
import time

from . import cluster, measure

BUILD = cluster.ROOT / "build"
_NEWER = BUILD / "pgbouncer-trixie" / "pgbouncer"  # made by bench/get-pgbouncer.sh
PGBOUNCER = os.environ.get("PGBOUNCER") or (str(_NEWER) if _NEWER.exists() else "/usr/sbin/pgbouncer")
PGPOOL = os.environ.get("PGPOOL") or shutil.which("pgpool") or "/usr/sbin/pgpool"
L4 = BUILD / "bench" / "l4"

POOLER_INI = """
[databases]
{databases}
[{section}]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = {auth}
auth_file = {dir}/{name}.users
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 200000
admin_users = bench
client_tls_sslmode = allow
client_tls_cert_file = {cert}
client_tls_key_file = {key}
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
log_stats = 0
ignore_startup_parameters = extra_float_digits
{extra}
"""

PGPOOL_CONF = """
backend_clustering_mode = 'streaming_replication'
listen_addresses = '127.0.0.1'
port = {port}
socket_dir = '{dir}'
pcp_port = {pcp_port}
pcp_socket_dir = '{dir}'
pid_file_name = '{dir}/pgpool.pid'
logdir = '{dir}'
backend_hostname0 = '127.0.0.1'
backend_port0 = {primary}
backend_weight0 = 0
backend_hostname1 = '127.0.0.1'
backend_port1 = {replica}
backend_weight1 = 1
load_balance_mode = on
num_init_children = {children}
max_pool = 1
connection_cache = on
sr_check_user = 'bench'
sr_check_period = 5
health_check_period = 0
enable_pool_hba = off
ssl = {tls}
ssl_cert = '{cert}'
ssl_key = '{key}'
"""


class Target:
    """One thing to measure. what(work) tells why a workload makes no sense for it, or None."""

    name = ""
    splits = False  # whether reads may go to the replica

    def __init__(self, env):
        self.env = env
        self.procs = {}

    def version(self):
        return ""

    def missing(self):
        return None

    def skips(self, work):
        return None

    def start(self, instance):
        """-> (port, process or None)"""
        raise NotImplementedError

    def instance(self, work):
        """What tells one process of this target from another: start() gets it."""
        return bool(work.scram)

    def at(self, work):
        """(port, pid or None), started if need be"""
        key = self.instance(work)
        if key not in self.procs:
            self.procs[key] = self.start(key)
            self._wait(self.procs[key], work.scram)
        port, proc = self.procs[key]
        if proc is not None and proc.poll() is not None:
            raise RuntimeError(f"{self.name} has ended with status {proc.returncode}: {self._log_tail()}")
        return port, proc.pid if proc else None

    def log(self):
        return self.env.cluster.dir / f"{self.name}.log"

    def _log_tail(self):
        return self.log().read_text(errors="replace")[-1500:] if self.log().exists() else ""

    def _wait(self, started, scram):
        port, proc = started
        user = cluster.SCRAM_USER if scram else cluster.USER
        conn = f"host=127.0.0.1 port={port} dbname={cluster.DB} user={user} sslmode=disable connect_timeout=5"
        env = {**cluster.clean_env(), "PGPASSWORD": cluster.SCRAM_PASSWORD}
        deadline = time.monotonic() + 30 * self.env.patience
        r = None
        while time.monotonic() < deadline:
            if proc is not None and proc.poll() is not None:
                break
            r = subprocess.run([cluster.PG_BIN / "psql", "-XAtqc", "SELECT 1", conn], capture_output=True, text=True, env=env,
                               check=False)
            if r.returncode == 0 and r.stdout.strip() == "1":
                return
            time.sleep(0.2)
        raise RuntimeError(f"{self.name} does not answer on port {port}: {r.stderr if r else ''}{self._log_tail()}")

    def conn(self, work):
        port, _ = self.at(work)
        user = cluster.SCRAM_USER if work.scram else cluster.USER
        return (f"host=127.0.0.1 port={port} dbname={cluster.DB} user={user} gssencmode=disable "
                f"sslmode={'require' if work.tls else 'disable'}")

    def cpu_us(self, work):
        _, pid = self.at(work)
        return None if pid is None else measure.tree_cpu_us(pid)

    def by_thread_us(self, work):
        _, pid = self.at(work)
        return {} if pid is None else measure.by_thread_us(pid)

    def memory_kb(self, work):
        _, pid = self.at(work)
        return None if pid is None else measure.tree_memory_kb(pid)

    def stop(self):
        for _, proc in self.procs.values():
            if proc is not None:
                cluster.stop(proc)
        self.procs = {}

    def spawn(self, cmd, env=None):
        return cluster.spawn([*self.env.prefix, *cmd], self.log(), env=env)


class Direct(Target):
    name = "direct"

    def start(self, scram):
        return self.env.cluster.primary_port, None


class Forwarder(Target):
    name = "l4"

    def missing(self):
        return None if L4.exists() else f"{L4} is not built (make bench does)"

    def skips(self, work):
        return "it does not end TLS" if work.tls else None

    def start(self, scram):
        port = self.env.port()
        return port, self.spawn([self.env.cluster.reachable(L4), f"{port}:{self.env.cluster.primary_port}"])


def version_tuple(text):
    return tuple(int(n) for n in re.findall(r"\d+", text)[:2])


class Pooler(Target):
    """What PgBouncer and pgweir have in common: one ini file."""

    section = "pgbouncer"

    def databases(self):
        raise NotImplementedError

    def extra(self, scram):
        return ""

    def ini(self, scram):
        name = f"{self.name}{'-scram' if scram else ''}"
        d = self.env.cluster.dir
        users = d / f"{name}.users"
        users.write_text(f'"{cluster.USER}" ""\n"{cluster.SCRAM_USER}" "{cluster.SCRAM_PASSWORD}"\n')
        port = self.env.port()
        path = d / f"{name}.ini"
        path.write_text(POOLER_INI.format(
            databases=self.databases(), section=self.section, port=port, auth="scram-sha-256" if scram else "trust", dir=d,
            name=name, pool=self.env.pool, cert=self.env.cluster.cert, key=self.env.cluster.key, extra=self.extra(scram)))
        for p in (users, path):
            p.chmod(0o644)
        return port, path


class PgBouncer(Pooler):
    name = "pgbouncer"

    def __init__(self, env):
        super().__init__(env)
        self._version = None

    def missing(self):
        return None if os.access(PGBOUNCER, os.X_OK) else f"no PgBouncer at {PGBOUNCER}"

    def version(self):
        if self._version is None:
            out = subprocess.run([PGBOUNCER, "--version"], capture_output=True, text=True, check=False).stdout
            self._version = out.splitlines()[0].split()[-1] if out else "unknown"
        return self._version

    def skips(self, work):
        if work.needs_named_statements and version_tuple(self.version()) < (1, 21):
            return f"PgBouncer {self.version()} is older than 1.21 (bench/get-pgbouncer.sh makes a newer one)"
        return None

    def databases(self):
        return f"{cluster.DB} = host=127.0.0.1 port={self.env.cluster.primary_port} dbname={cluster.DB}"

    def extra(self, scram):
        return "max_prepared_statements = 200" if version_tuple(self.version()) >= (1, 21) else ""

    def start(self, scram):
        port, path = self.ini(scram)
        return port, self.spawn([PGBOUNCER, path])


class Pgweir(Pooler):
    section = "pgweir"
    splits = True

    def __init__(self, env, name="pgweir", settings=None):
        super().__init__(env)
        self.name = name
        self.binary = pathlib.Path(env.pgweir)
        # host and user may be given as a variant's settings too: host=/run/... tries a unix socket.
        self.settings = {"workers": 1, **(settings or {})}

    def missing(self):
        return None if os.access(self.binary, os.X_OK) else f"no pgweir at {self.binary}"

    def version(self):
        r = subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=False)
        words = (r.stdout or r.stderr).split()
        return next((w for w in words if w[0].isdigit()), "unknown")

    def databases(self):
        c = self.env.cluster
        host = "127.0.0.1"
        if self.settings.get("sockets"):
            host = str(c.sockets)
        return f"{cluster.DB} = host={host},{host} port={c.primary_port},{c.replica_port} dbname={cluster.DB}"

    def extra(self, scram):
        own = {k: v for k, v in self.settings.items() if k != "sockets"}
        own.setdefault("monitor_user", "postgres")
        own.setdefault("log_min_duration", "off")  # under callgrind everything is slow
        return "\n".join(f"{k} = {v}" for k, v in own.items())

    def start(self, scram):
        port, path = self.ini(scram)
        return port, self.spawn([self.binary, path])


class Pgpool(Target):
    name = "pgpool"
    splits = True

    def missing(self):
        return None if os.access(PGPOOL, os.X_OK) else f"no Pgpool-II at {PGPOOL} ($PGPOOL names another)"

    def version(self):
        r = subprocess.run([PGPOOL, "--version"], capture_output=True, text=True, check=False)
        m = re.search(r"([\d.]+)", r.stdout + r.stderr)
        return m.group(1) if m else "unknown"

    def skips(self, work):
        return "its SCRAM needs a password file of its own" if work.scram else None

    def instance(self, work):
        # Its ssl = on is for the servers' side as well, which is not what the plain workloads compare.
        return work.tls

    def start(self, tls):
        c = self.env.cluster
        d = c.dir / f"pgpool-{'tls' if tls else 'plain'}"
        d.mkdir(exist_ok=True)
        d.chmod(0o777)
        port = self.env.port()
        conf = d / "pgpool.conf"
        conf.write_text(PGPOOL_CONF.format(port=port, pcp_port=self.env.port(), dir=d, primary=c.primary_port,
                                           replica=c.replica_port, children=self.env.clients + 4,
                                           tls="on" if tls else "off", cert=c.cert, key=c.key))
        for name in ("pcp.conf", "pool_hba.conf"):
            (d / name).touch()
        return port, self.spawn([PGPOOL, "-n", "-f", conf, "-F", d / "pcp.conf", "-a", d / "pool_hba.conf"])


class Env:
    """What the targets share."""

    def __init__(self, clus, pool, clients, pgweir, prefix=(), patience=1):
        self.cluster, self.pool, self.clients, self.pgweir = clus, pool, clients, clus.reachable(pgweir)
        self.prefix = list(prefix)
        self.patience = patience
        self._port = clus.primary_port + 9

    def port(self):
        self._port += 1
        return self._port


def make(env, name):
    """A target from its name; `pgweir:NAME:key=value,key=value` is a variant."""
    simple = {"direct": Direct, "l4": Forwarder, "pgbouncer": PgBouncer, "pgpool": Pgpool, "pgweir": Pgweir}
    if name in simple:
        return simple[name](env)
    kind, _, rest = name.partition(":")
    label, _, settings = rest.partition(":")
    if kind != "pgweir" or not label:
        raise SystemExit(f"bench: unknown target \"{name}\" (one of {', '.join(simple)}, pgweir:NAME:key=value,...)")
    pairs = dict(s.split("=", 1) for s in settings.split(",") if s)
    return Pgweir(env, f"pgweir-{label}", pairs)
