"""A throwaway primary with one streaming replica, and the way all programs of a benchmark are started.

Everything listens on 127.0.0.1 and lives in one temporary folder. Under root the servers and proxies run as the user
postgres (PostgreSQL refuses root), otherwise as the caller. Durability is off (fsync, full_page_writes): the disk of the
machine is no part of what is compared.
"""
import ctypes
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

PG_BIN = pathlib.Path(os.environ.get("PGBIN", "/usr/lib/postgresql/15/bin"))
ROOT = pathlib.Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

SERVER_CONF = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{sockets}'
max_connections = 1000
superuser_reserved_connections = 3
shared_buffers = 512MB
fsync = off
full_page_writes = off
synchronous_commit = on
max_wal_size = 4GB
checkpoint_timeout = 1h
autovacuum = off
wal_level = replica
max_wal_senders = 10
hot_standby = on
max_standby_streaming_delay = -1
log_min_messages = fatal
log_checkpoints = off
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '{cert}'
ssl_key_file = '{key}'
port = {port}
"""

HBA = """
local all all trust
host replication all 127.0.0.1/32 trust
host all bench_scram 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""

SCRAM_USER = "bench_scram"
SCRAM_PASSWORD = "a long enough bench password"
USER = "bench"
DB = "bench"


def clean_env():
    """The caller's PG* variables must not leak into clients, servers or proxies."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PGWEIR_"))}
    env["LC_ALL"] = "C.UTF-8"
    return env


def _die_with_parent(sig):
    def child():
        _libc.prctl(_PR_SET_PDEATHSIG, sig, 0, 0, 0)
    return child


def as_server_user():
    """Arguments for subprocess that drop root to postgres; nothing to do for anybody else."""
    if os.geteuid() != 0:
        return {}
    pw = pwd.getpwnam("postgres")
    return {"user": pw.pw_uid, "group": pw.pw_gid, "extra_groups": os.getgrouplist("postgres", pw.pw_gid)}


def spawn(cmd, log, sig=signal.SIGTERM, env=None, cwd="/"):
    """Start a long-lived program of the benchmark; it gets `sig` when this process goes away."""
    with open(log, "ab") as out:
        return subprocess.Popen([str(c) for c in cmd], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd,
                                env={**clean_env(), **(env or {})}, preexec_fn=_die_with_parent(sig), **as_server_user())


def stop(proc, sig=signal.SIGTERM, seconds=15):
    if proc is None or proc.poll() is not None:
        return
    proc.send_signal(sig)
    try:
        proc.wait(seconds)
    except subprocess.TimeoutExpired:
        proc.kill()
        proc.wait()


def run_as_server(cmd, **kw):
    r = subprocess.run([str(c) for c in cmd], capture_output=True, text=True, env=clean_env(), cwd="/", **as_server_user(), **kw)
    if r.returncode:
        raise SystemExit(f"bench: {' '.join(map(str, cmd))} failed:\n{r.stdout}{r.stderr}")
    return r.stdout


def psql(port, sql, db=DB, user="postgres", extra=""):
    """One connection, all of sql; returns unaligned text. SystemExit on failure."""
    conn = f"host=127.0.0.1 port={port} dbname={db} user={user} sslmode=disable {extra}"
    return run_as_server([PG_BIN / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, conn]).strip()


class Cluster:
    """ports: primary = base, replica = base + 1."""

    def __init__(self, base_port, scale):
        self.primary_port, self.replica_port, self.scale = base_port, base_port + 1, scale
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="pgweir-bench-"))
        self.sockets = self.dir / "run"
        self.sockets.mkdir()
        self.procs = []
        self.cert, self.key = self.dir / "tls.crt", self.dir / "tls.key"
        if os.geteuid() == 0:
            pw = pwd.getpwnam("postgres")
            for p in (self.dir, self.sockets):
                os.chown(p, pw.pw_uid, pw.pw_gid)

    def reachable(self, program):
        """A path by which the servers' account can run it: itself, or a copy where a folder above is closed to that account."""
        program = pathlib.Path(program).resolve()
        if subprocess.run(["test", "-x", program], check=False, **as_server_user()).returncode == 0:
            return program
        copy = self.dir / "programs" / program.name
        copy.parent.mkdir(mode=0o755, exist_ok=True)
        shutil.copy2(program, copy)
        copy.chmod(0o755)
        return copy

    def conf(self, port):
        return SERVER_CONF.format(port=port, sockets=self.sockets, cert=self.cert, key=self.key)

    def start(self):
        run_as_server(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost",
                       "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", self.key, "-out", self.cert])
        os.chmod(self.key, 0o600)
        prim, repl = self.dir / "primary", self.dir / "replica"
        run_as_server([PG_BIN / "initdb", "-D", prim, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"])
        (prim / "pg_hba.conf").write_text(HBA)
        with open(prim / "postgresql.conf", "a", encoding="utf-8") as f:
            f.write(self.conf(self.primary_port))
        self._server(prim, self.primary_port)
        for sql in (f"CREATE ROLE {USER} LOGIN", f"CREATE ROLE {SCRAM_USER} LOGIN PASSWORD '{SCRAM_PASSWORD}'",
                    f"GRANT pg_read_all_data, pg_write_all_data TO {SCRAM_USER}", f"CREATE DATABASE {DB} OWNER {USER}"):
            psql(self.primary_port, sql, db="postgres")
        run_as_server([PG_BIN / "pgbench", "-i", "-q", "-s", self.scale, "-I", "dtgvp", "-F", "90",
                       f"host=127.0.0.1 port={self.primary_port} dbname={DB} user={USER} sslmode=disable"])
        run_as_server([PG_BIN / "pg_basebackup", "-D", repl, "-R", "-X", "stream", "-c", "fast",
                       "-d", f"host=127.0.0.1 port={self.primary_port} user=postgres sslmode=disable"])
        with open(repl / "postgresql.conf", "a", encoding="utf-8") as f:
            f.write(self.conf(self.replica_port))
        self._server(repl, self.replica_port)
        self.catch_up()
        for port in (self.primary_port, self.replica_port):
            psql(port, "SELECT sum(abalance) FROM pgbench_accounts")

    def _server(self, data, port):
        proc = spawn([PG_BIN / "postgres", "-D", data], self.dir / f"{data.name}.log", sig=signal.SIGINT)
        self.procs.append(proc)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if proc.poll() is not None:
                raise SystemExit(f"bench: postgres on port {port} ended: {(self.dir / f'{data.name}.log').read_text()[-2000:]}")
            r = subprocess.run([PG_BIN / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False, env=clean_env())
            if r.returncode == 0:
                return
            time.sleep(0.1)
        raise SystemExit(f"bench: no PostgreSQL on port {port} after 60 s")

    def catch_up(self, seconds=60):
        """Until the replica has replayed all that the primary has written."""
        lsn = psql(self.primary_port, "SELECT pg_current_wal_insert_lsn()")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            # By a database that it has at once: the benchmark's own may still be on its way.
            if psql(self.replica_port, f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'", db="postgres") == "t":
                return
            time.sleep(0.05)
        raise SystemExit("bench: the replica does not catch up")

    def tidy(self):
        """Before a run that writes: the same bloat for everybody."""
        psql(self.primary_port, "TRUNCATE pgbench_history")
        psql(self.primary_port, "VACUUM pgbench_branches, pgbench_tellers, pgbench_accounts")
        self.catch_up()

    def version(self):
        return psql(self.primary_port, "SHOW server_version")

    def commits(self):
        """(primary, replica): transactions so far by the servers' own statistics; up to a second late."""
        sql = f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{DB}'"
        return int(psql(self.primary_port, sql, db="postgres")), int(psql(self.replica_port, sql, db="postgres"))

    def close(self):
        for proc in reversed(self.procs):
            stop(proc, signal.SIGINT, 30)
        shutil.rmtree(self.dir, ignore_errors=True)
