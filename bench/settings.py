#!/usr/bin/env python3
"""What settings cost: select-only pgbench of 32 clients over a pool of 10, in turns with none and with three different
settings for each of four groups of clients; both medians and their ratio.

    build/venv/bin/python -B bench/settings.py [--seconds 10] [--rounds 5]

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

GROUPS = [f"-c work_mem={n}MB -c timezone={zone} -c extra_float_digits={n % 4}"
          for n, zone in enumerate(["Asia/Tokyo", "America/Lima", "UTC", "Europe/Berlin"], 5)]


def run(proxy, database, options, seconds):
    """Transactions per second of all groups together."""
    command = ["pgbench", "-n", "-S", "-M", "prepared", "-c", "8", "-j", "1", "-T", str(seconds), "-h", "127.0.0.1", "-p", str(proxy.port),
               "-U", "postgres", database]
    runs = [subprocess.Popen(command, env={**os.environ, "PGOPTIONS": words}, stdout=subprocess.PIPE, text=True) for words in options]
    return sum(float(re.search(r"tps = ([\d.]+)", process.communicate()[0])[1]) for process in runs)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=int, default=10)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--same", action="store_true", help="the same three for all clients")
    given = arguments.parse_args()
    space = Workspace()
    with Cluster(Template(space, Authority(space))) as cluster:
        database = cluster.create_database()
        subprocess.run(["pgbench", "-i", "-q", "-s", "5", "-h", "127.0.0.1", "-p", str(cluster.primary.port), "-U", "postgres", database],
                       check=True, capture_output=True)
        with Pgweir(cluster, settings={"default_pool_size": 10, "workers": 1}) as proxy:
            proxy.wait_for_replicas(database)
            plain, with_settings = [], []
            for _ in range(given.rounds):
                plain.append(run(proxy, database, [""] * 4, given.seconds))
                with_settings.append(run(proxy, database, GROUPS[:1] * 4 if given.same else GROUPS, given.seconds))
            a, b = statistics.median(plain), statistics.median(with_settings)
            print(f"none: {a:.0f} tps, three settings each: {b:.0f} tps, ratio {b / a:.3f}  {[round(x) for x in plain]} {[round(x) for x in with_settings]}")
    space.close()


main()
