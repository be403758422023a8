"""How a process starts and who it becomes: daemon, pidfile, takeover, root, systemd."""
import os
import pwd
import signal
import socket
import subprocess
import threading

import pytest
from harness import wire
from harness.proxy import Pgweir, binary
from harness.system import end, wait_until


def account_of(pid):
    return os.stat(f"/proc/{pid}").st_uid


def test_pidfile(workspace, cluster):
    pidfile = workspace.folder("run") / "pgweir.pid"
    with Pgweir(cluster, settings={"pidfile": pidfile}) as proxy:
        assert int(pidfile.read_text()) == proxy.process.pid
        second = Pgweir(cluster, settings={"pidfile": pidfile})
        second.write_config()
        second.spawn()
        assert second.process.wait(60) == 1
        assert "belongs to a running process" in second.log_text()
        assert int(pidfile.read_text()) == proxy.process.pid
    assert not pidfile.exists()


def test_a_stale_pidfile_is_no_obstacle(workspace, cluster):
    pidfile = workspace.folder("run") / "pgweir.pid"
    workspace.write(pidfile, f"{os.getpid()}\n")  # lives, but holds no lock: its number was used again
    with Pgweir(cluster, settings={"pidfile": pidfile}) as proxy:
        assert int(pidfile.read_text()) == proxy.process.pid


class Daemon(Pgweir):
    def spawn(self, *_):
        super().spawn("-d", self.ini)


def test_daemon(workspace, cluster):
    folder = workspace.folder("run")
    proxy = Daemon(cluster, settings={"pidfile": folder / "pgweir.pid", "logfile": folder / "daemon.log"})
    proxy.write_config()
    proxy.spawn()
    assert proxy.process.wait(60) == 0
    pid = wait_until(lambda: int((folder / "pgweir.pid").read_text() or 0), "the daemon's number")
    try:
        wait_until(lambda: proxy.value("select 1") == "1", "it serves")
        assert os.getsid(pid) == pid
    finally:
        os.kill(pid, signal.SIGINT)
        wait_until(lambda: not (folder / "pgweir.pid").exists(), "it ends")
    wait_until(lambda: "stopped" in (folder / "daemon.log").read_text(), "its last words")
    assert proxy.log_text() == ""


def test_daemon_needs_a_log_file(cluster):
    proxy = Daemon(cluster)
    proxy.write_config()
    proxy.spawn()
    assert proxy.process.wait(60) == 1
    assert "logfile" in proxy.log_text()


class Successor(Pgweir):
    def __init__(self, predecessor):
        super().__init__(predecessor.cluster, settings=predecessor.settings)
        self.port = predecessor.port

    def spawn(self, *_):
        super().spawn("-R", self.ini)


@pytest.mark.parametrize("found_by", ["unix socket", "unix socket of a daemon", "pidfile"])
def test_takeover_loses_no_client(workspace, cluster, found_by):
    """Neither so_reuseport nor anything else has been prepared for it."""
    folder = workspace.folder("run")
    settings = {"unix_socket_dir": folder, "logfile": folder / "pgweir.log"}
    if found_by == "pidfile":
        settings.update(unix_socket_dir="", pidfile=folder / "pgweir.pid")
    old = Pgweir(cluster, settings=settings)
    old.write_config()
    old.spawn(*(["-d"] if "daemon" in found_by else []), old.ini)
    wait_until(lambda: "started" in (folder / "pgweir.log").read_text(), "the old one serves")
    busy, idle = old.connect(), old.connect()
    assert idle.value("select 1") == "1"
    busy.query("begin")
    busy.query("select txid_current()")
    stop, failures, count = threading.Event(), [], [0]

    def newcomers():
        while not stop.is_set():
            try:
                with wire.Connection.login(old.port, "postgres", "postgres") as connection:
                    assert connection.value("select 1") == "1"
                count[0] += 1
            except Exception as error:  # noqa: BLE001 - told below
                failures.append(error)
    new = Successor(old)
    new.settings.update(listen_port=old.port, logfile=folder / "new.log")
    new.write_config()
    thread = threading.Thread(target=newcomers)
    thread.start()
    try:
        new.spawn()
        wait_until(lambda: "shutting down" in (folder / "pgweir.log").read_text(), "the old one is told to end")
        before = count[0]
        wait_until(lambda: count[0] > before + 20, "new clients are served")
        assert busy.value("select 'still served'") == "still served"
        busy.query("commit")
        assert idle.value("select 'still served'") == "still served"
        busy.close()
        idle.close()
        wait_until(lambda: (folder / "pgweir.log").read_text().rstrip().endswith("stopped"), "the old one ends")
        old.exit_status = old.process.wait(60)
        old.check_log()
        assert old.exit_status == 0
        if settings["unix_socket_dir"]:
            with wire.Connection.login(old.port, host=str(folder)) as connection:
                assert connection.value("select 'by socket'") == "by socket"
    finally:
        stop.set()
        thread.join()
        old.kill()
    if "pidfile" in settings:
        assert int((folder / "pgweir.pid").read_text()) == new.process.pid
    new.stop()
    assert not (folder / f".s.PGSQL.{old.port}").exists()
    assert not failures


def test_takeover_from_another_program_is_refused(workspace, cluster):
    folder = workspace.folder("run")
    proxy = Successor(Pgweir(cluster, settings={"unix_socket_dir": folder}))
    proxy.write_config()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(folder / f".s.PGSQL.{proxy.settings['listen_port']}"))
        other.listen()
        workspace.own(folder / f".s.PGSQL.{proxy.settings['listen_port']}")
        proxy.spawn()
        assert proxy.process.wait(60) == 1
        assert "cannot be taken over from" in proxy.log_text()


def test_takeover_from_nobody_is_a_start(workspace, cluster):
    folder = workspace.folder("run")
    nobody = Pgweir(cluster, settings={"unix_socket_dir": folder})
    nobody.write_config()
    with Successor(nobody) as proxy:
        assert proxy.value("select 1") == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_root_becomes_somebody(workspace, cluster):
    folder = workspace.folder("rooted")
    os.chown(folder, 0, 0)  # only root may write here
    folder.chmod(0o755)
    proxy = Pgweir(cluster, settings={"user": "postgres", "pidfile": folder / "pgweir.pid", "logfile": folder / "pgweir.log",
                                      "unix_socket_dir": "/tmp", "unix_socket_mode": "0700"})
    proxy.write_config()
    process = subprocess.Popen([workspace.reachable(binary()), proxy.ini], cwd=workspace.root, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: proxy.value("select 1") == "1", "it serves")
        assert account_of(process.pid) == pwd.getpwnam("postgres").pw_uid
        groups = next(line for line in open(f"/proc/{process.pid}/status") if line.startswith("Groups:"))
        assert "0" not in groups.split()[1:]
        proxy.admin("RELOAD")  # opens the log again, without root's rights
        assert "could not open log file" not in (folder / "pgweir.log").read_text()
    finally:
        assert end(process) == 0, process.stderr.read()
    assert (folder / "pgweir.log").stat().st_uid == pwd.getpwnam("postgres").pw_uid
    assert not os.path.exists(f"/tmp/.s.PGSQL.{proxy.port}")
    assert (folder / "pgweir.pid").read_text() == ""  # it may not be removed, but is emptied


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
@pytest.mark.parametrize("user", ["root", "no_such_user_here"])
def test_bad_users_are_refused(workspace, cluster, user):
    proxy = Pgweir(cluster)
    proxy.write_config()
    done = subprocess.run([workspace.reachable(binary()), "-u", user, proxy.ini], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert user in done.stderr


def test_systemd_is_told(workspace, cluster):
    path = workspace.folder("notify") / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        workspace.own(path)
        manager.settimeout(60)
        with Pgweir(cluster, environment={"NOTIFY_SOCKET": str(path)}) as proxy:
            assert manager.recv(100) == b"READY=1"
            proxy.admin("RELOAD")
            assert (manager.recv(100), manager.recv(100)) == (b"RELOADING=1", b"READY=1")
        assert manager.recv(100) == b"STOPPING=1"


def test_socket_activation(workspace, cluster):
    """The listening socket is there before the process: descriptor 3."""
    proxy = Pgweir(cluster, settings={"listen_addr": ""})
    proxy.write_config()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        script = f'exec 3<&{listening.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" "$1"'
        log = open(proxy.log, "ab")
        process = subprocess.Popen(workspace.as_server("bash", "-c", script, workspace.reachable(binary()), proxy.ini),
                                   pass_fds=[listening.fileno()], stderr=log, cwd=workspace.root)
    try:
        with wire.Connection.login(port) as connection:
            assert connection.value("select 'activated'") == "activated"
    finally:
        assert end(process) == 0, proxy.log_text()
        log.close()


def test_nothing_to_listen_on(cluster):
    proxy = Pgweir(cluster, settings={"listen_addr": "", "unix_socket_dir": ""})
    proxy.write_config()
    proxy.spawn()
    assert proxy.process.wait(60) == 1
    assert "nothing to listen on" in proxy.log_text()


@pytest.mark.parametrize("key, value", [("auth_file", "/nonexistent/users"), ("client_tls_key_file", "/nonexistent/key"),
                                        ("logfile", "/nonexistent/log"), ("pidfile", "/nonexistent/pid"),
                                        ("unix_socket_dir", "/nonexistent/dir"), ("http_addr", "192.0.2.1:80")])
def test_what_cannot_be_opened_is_named(cluster, key, value):
    settings = {key: value, **({"client_tls_sslmode": "require", "client_tls_cert_file": value} if "tls" in key else {})}
    proxy = Pgweir(cluster, settings=settings)
    proxy.write_config()
    proxy.spawn()
    assert proxy.process.wait(60) == 1
    assert value in proxy.log_text() or key in proxy.log_text()
    proxy.check_log()


def test_out_of_descriptors_the_listener_waits(workspace, cluster):
    """accept() fails again at once, for ever: without a pause the main thread would spin."""
    proxy = Pgweir(cluster)
    proxy.write_config()
    process = workspace.spawn(["bash", "-c", 'ulimit -n 64; exec "$0" "$1"', workspace.reachable(binary()), proxy.ini], proxy.log)
    proxy.process = process
    try:
        wait_until(proxy.is_accepting, "it accepts connections")
        held = [socket.create_connection(("127.0.0.1", proxy.port), 10) for _ in range(70)]
        proxy.wait_for_log("cannot accept connections for a moment")
        before = cpu_ticks(process.pid)
        threading.Event().wait(1)
        assert cpu_ticks(process.pid) - before < os.sysconf("SC_CLK_TCK") // 2
        for connection in held:
            connection.close()
        wait_until(lambda: proxy.value("select 1") == "1", "it serves again")
    finally:
        assert end(process) == 0
    proxy.check_log()


def cpu_ticks(pid):
    words = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return int(words[11]) + int(words[12])
