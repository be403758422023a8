"""The machine under the tests: a temporary folder, free ports, child processes that cannot outlive us, waiting.

PostgreSQL and pgweir refuse to run as root, so under root their processes become the postgres user's; anybody else
runs them as themselves.  Each child gets a parent-death signal: a test run that is killed leaves nothing behind.
That signal is tied to the *thread* that started the child, so servers are started from the main thread only."""
import contextlib
import os
import pathlib
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[3]
BUILD = TOP / "build"
# Below the kernel's ephemeral range, or an outgoing connection of some test could sit on a port just chosen.
PORTS = range(23000, 31000)


def wait_until(condition, what, timeout=60.0, interval=0.02):
    """Calls `condition` until it returns something true, and returns that.  Fails naming `what` after `timeout` seconds.

    An AssertionError or OSError of the condition counts as "not yet", and is told if it never ends."""
    deadline = time.monotonic() + timeout
    while True:
        problem = ""
        try:
            result = condition()
            if result:
                return result
        except (AssertionError, OSError) as error:
            problem = f" ({type(error).__name__}: {error})"
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain: {what}{problem}")
        time.sleep(interval)


class Ended(Exception):
    """A server ended where it should run: no use to go on waiting for it."""


class Ports:
    """Hands out ports that no other test process has.  An abstract unix socket is the lock: it needs no file and the
    kernel drops it with the process, however that ends."""

    def __init__(self):
        self._locks = {}
        self._random = random.Random(os.getpid() ^ time.time_ns())

    def take(self):
        while True:
            port = self._random.choice(PORTS)
            if port not in self._locks and self._lock(port):
                return port

    def give_back(self, port):
        self._locks.pop(port).close()

    def _lock(self, port):
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(f"\0pgweir-test-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            return False
        self._locks[port] = lock
        return True


class Workspace:
    """One temporary folder of a test session, and who owns what is in it."""

    def __init__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="pgweir-test-"))
        self.ports = Ports()
        self._account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self._names = 0
        self.root.chmod(0o711)
        self.own(self.root)

    def own(self, path):
        """Makes a file or folder the server account's."""
        if self._account:
            shutil.chown(path, self._account.pw_uid, self._account.pw_gid)

    def folder(self, name):
        """A new folder of the server account's, with a name that nothing else has."""
        self._names += 1
        path = self.root / f"{name}{self._names}"
        path.mkdir(mode=0o755)
        self.own(path)
        return path

    def write(self, path, text, mode=0o644):
        """Writes a file that the servers can read."""
        path.write_text(text)
        path.chmod(mode)
        self.own(path)
        return path

    def as_server(self, *argv, death_signal="SIGKILL"):
        """The command that runs argv as the server account, with a parent-death signal."""
        drop = ["--reuid", "postgres", "--regid", "postgres", "--init-groups"] if self._account else []
        return ["setpriv", *drop, "--pdeathsig", death_signal, *map(str, argv)]

    def run(self, *argv, **options):
        """Runs a program of the server account's to its end; fails with its output."""
        environment = {**os.environ, "HOME": str(self.root), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(self.as_server(*argv), capture_output=True, text=True, cwd=self.root, env=environment,
                              timeout=300, check=False, **options)
        assert done.returncode == 0, f"{argv}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def spawn(self, argv, log, death_signal="SIGKILL", environment=None, runner=()):
        """Starts a server with its output appended to the file `log`.  runner: what it is started by, as root."""
        assert threading.current_thread() is threading.main_thread(), "servers are started from the main thread"
        with open(log, "ab") as output:
            self.own(log)
            return subprocess.Popen([*runner, *self.as_server(*argv, death_signal=death_signal)], stdin=subprocess.DEVNULL,
                                    stdout=output, stderr=output, cwd=self.root, start_new_session=True,
                                    env={**os.environ, "HOME": str(self.root), "LC_ALL": "C.UTF-8", **(environment or {})})

    def reachable(self, path):
        """A path of this file that the server account can use: itself, or a copy where a folder above is closed to it."""
        test = subprocess.run(self.as_server("test", "-r", path), check=False)
        if test.returncode == 0:
            return path
        copy = self.root / "copies" / f"{path.parent.name}-{path.name}"
        if not copy.exists() or copy.stat().st_mtime < path.stat().st_mtime:
            copy.parent.mkdir(mode=0o755, exist_ok=True)
            shutil.copy2(path, copy)
            copy.chmod(0o755)
        return copy

    def close(self):
        shutil.rmtree(self.root, ignore_errors=True)


def end(process, how=signal.SIGTERM, patience=60.0):
    """Ends one child by its pid and waits for it.  Returns its exit status; kills it when patience ends (status -9)."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def memory_kb(pid, field="Rss"):
    """A figure of /proc/PID/smaps_rollup: Rss, Pss, Private_Dirty, ..."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise AssertionError(f"no {field} of process {pid}")


def tcp_connections(pid):
    """(local port, remote port, state) of the TCP sockets of a process; state is the kernel's: 1 is established."""
    inodes = set()
    for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = []
    for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[9] in inodes:
            found.append((int(words[1].split(":")[1], 16), int(words[2].split(":")[1], 16), int(words[3], 16)))
    return found
