#!/usr/bin/env python3
"""What settings cost: select-only pgbench of 32 clients over a pool of 10, in turns with none and with three different
settings for each of some groups of clients; both medians and their ratio.  Beside the transactions per second it tells what
a transaction costs the proxy and the servers in CPU time, which depends less on what else the machine does.

    build/venv/bin/python -B bench/settings.py [--seconds 10] [--rounds 5] [--groups 4]

Starts servers of its own; wants the release build."""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/integration"))
os.environ.setdefault("PGWEIR_BUILD", "release")
from harness.postgres import Cluster, Template  # noqa: E402
from harness.proxy import Pgweir  # noqa: E402
from harness.system import Workspace  # noqa: E402
from harness.tls import Authority  # noqa: E402

CLIENTS = 32
ZONES = ["Asia/Tokyo", "America/Lima", "UTC", "Europe/Berlin"]
TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


def options_of(group):
    return f"-c work_mem={5 + group}MB -c timezone={ZONES[group % len(ZONES)]} -c extra_float_digits={group % 4}"


def cpu_us(parents):
    """Of these processes and their children that live."""
    total = 0
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(entry.parent.name) in parents or int(fields[1]) in parents:
            total += int(fields[11]) + int(fields[12])
    return total * TICK_US


def run(proxy, servers, database, options, seconds):
    """Transactions per second of all groups together; microseconds of the proxy and of the servers for each."""
    command = ["pgbench", "-n", "-S", "-M", "prepared", "-c", str(CLIENTS // len(options)), "-j", "1", "-T", str(seconds), "-h", "127.0.0.1",
               "-p", str(proxy.port), "-U", "postgres", database]
    before = [cpu_us(x) for x in ({proxy.process.pid}, servers)]
    runs = [subprocess.Popen(command, env={**os.environ, "PGOPTIONS": words}, stdout=subprocess.PIPE, text=True) for words in options]
    texts = [process.communicate()[0] for process in runs]
    after = [cpu_us(x) for x in ({proxy.process.pid}, servers)]
    done = sum(int(re.search(r"processed: (\d+)", text)[1]) for text in texts)
    return sum(float(re.search(r"tps = ([\d.]+)", text)[1]) for text in texts), *((b - a) / done for a, b in zip(before, after))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=int, default=10)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--groups", type=int, default=4, choices=[1, 2, 4, 8, 16, 32], help="of clients with equal settings (%(default)s)")
    given = arguments.parse_args()
    space = Workspace()
    with Cluster(Template(space, Authority(space))) as cluster:
        database = cluster.create_database()
        subprocess.run(["pgbench", "-i", "-q", "-s", "5", "-h", "127.0.0.1", "-p", str(cluster.primary.port), "-U", "postgres", database],
                       check=True, capture_output=True)
        servers = {int((node.data / "postmaster.pid").read_text().split()[0]) for node in (cluster.primary, *cluster.standbys)}
        with Pgweir(cluster, settings={"default_pool_size": 10, "workers": 1}) as proxy:
            proxy.wait_for_replicas(database)
            plain, other = [], []
            for _ in range(given.rounds):
                plain.append(run(proxy, servers, database, [""] * given.groups, given.seconds))
                other.append(run(proxy, servers, database, [options_of(n) for n in range(given.groups)], given.seconds))
            for name, rows in (("none", plain), ("three settings each", other)):
                print(f"{name}: {statistics.median(r[0] for r in rows):.0f} tps {sorted(round(r[0]) for r in rows)}, proxy "
                      f"{statistics.median(r[1] for r in rows):.1f} us, servers {statistics.median(r[2] for r in rows):.1f} us a transaction")
            ratios = [b[0] / a[0] for a, b in zip(plain, other)]
            print(f"ratio of pairs: {statistics.median(ratios):.3f} {[round(r, 3) for r in ratios]}")
    space.close()


main()
