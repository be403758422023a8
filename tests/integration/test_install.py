"""make install: what packagers get, whether systemd and man understand it, and that it leaves a configuration alone."""
import os
import re
import shutil
import stat
import subprocess

import pytest
from harness.system import TOP

FILES = {
    "usr/bin/pgweir": 0o755,
    "usr/share/man/man1/pgweir.1": 0o644,
    "usr/share/man/man5/pgweir.ini.5": 0o644,
    "usr/share/pgweir/minimal.ini": 0o644,
    "usr/share/pgweir/pgweir.ini": 0o644,
    "usr/share/doc/pgweir/README.md": 0o644,
    "usr/share/doc/pgweir/LICENSE": 0o644,
    "usr/share/doc/pgweir/CHANGELOG.md": 0o644,
    "usr/share/doc/pgweir/docs/from-pgbouncer.md": 0o644,
    "usr/share/doc/pgweir/docs/operating.md": 0o644,
    "usr/share/doc/pgweir/docs/quick-starts.md": 0o644,
    "usr/share/doc/pgweir/docs/security.md": 0o644,
    "usr/share/doc/pgweir/docs/tuning.md": 0o644,
    "usr/share/doc/pgweir/docs/from-pgpool.md": 0o644,
    "usr/lib/systemd/system/pgweir.service": 0o644,
    "etc/pgweir/pgweir.ini": 0o640,
}


def run(*argv, **more):
    return subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=120, check=False, **more)


def install(destination):
    """Of the release build as it is: `-o all` builds nothing."""
    done = run("make", "-s", "-C", TOP, "-o", "all", "install", f"DESTDIR={destination}", "PREFIX=/usr")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    assert (TOP / "build/pgweir").exists(), "make builds the release"
    folder = tmp_path_factory.mktemp("install")
    install(folder)
    return folder


def test_the_files_are_there(installed):
    found = {str(path.relative_to(installed)): stat.S_IMODE(path.stat().st_mode) for path in installed.rglob("*") if path.is_file()}
    missing = {name: mode for name, mode in FILES.items() if found.get(name) != mode}
    assert not missing, found
    # Whatever else there is, is documentation.
    assert all(name.startswith("usr/share/doc/pgweir/") for name in found.keys() - FILES.keys())


def test_the_program_runs(installed):
    version = (TOP / "VERSION").read_text().strip()
    assert version in run(installed / "usr/bin/pgweir", "--version").stdout
    done = run(installed / "usr/bin/pgweir", "--check-config", installed / "usr/share/pgweir/pgweir.ini")
    assert done.returncode == 0 and "error" not in done.stderr, done.stderr
    # What is left to the operator is to say who may log in.
    done = run(installed / "usr/bin/pgweir", "--check-config", installed / "etc/pgweir/pgweir.ini")
    assert [line for line in done.stderr.splitlines() if "error" in line and "/etc/pgweir/users.txt" not in line] == []


def test_a_configuration_is_left_alone(tmp_path):
    (tmp_path / "etc/pgweir").mkdir(parents=True)
    (tmp_path / "etc/pgweir/pgweir.ini").write_text("; mine\n")
    install(tmp_path)
    assert (tmp_path / "etc/pgweir/pgweir.ini").read_text() == "; mine\n"


def test_the_unit(installed):
    unit = (installed / "usr/lib/systemd/system/pgweir.service").read_text()
    assert "@" not in unit.replace("@system-service", "").replace("@privileged", "").replace("@resources", "")
    program, configuration = re.search(r"^ExecStart=(\S+) (\S+)$", unit, re.M).groups()
    assert (installed / program[1:]).exists() and (installed / configuration[1:]).exists()
    for wanted in ("Type=notify", "KillSignal=SIGINT", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n"):
        assert wanted in unit


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_understands_the_unit(installed, tmp_path):
    """With the path of the program that is there: verify looks for it."""
    text = (installed / "usr/lib/systemd/system/pgweir.service").read_text()
    unit = tmp_path / "pgweir.service"
    unit.write_text(text.replace("ExecStart=/usr/bin/pgweir", f"ExecStart={installed}/usr/bin/pgweir"))
    done = run("systemd-analyze", "verify", unit)
    about = [line for line in (done.stdout + done.stderr).splitlines() if "pgweir.service" in line and "'man " not in line]
    assert not about, about


@pytest.mark.skipif(not shutil.which("man"), reason="no man here")
@pytest.mark.parametrize("page, words", [("man1/pgweir.1", ["SIGTERM", "--check-config", "NOTIFY_SOCKET"]),
                                         ("man5/pgweir.ini.5", ["auth_query", "consistency", "server_idle_timeout"])])
def test_the_manual_pages(installed, page, words):
    done = run("man", "--warnings", "-l", installed / "usr/share/man" / page, env={**os.environ, "MANWIDTH": "200", "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    text = re.sub(r".\x08", "", done.stdout)
    assert not [word for word in words if word not in text]
