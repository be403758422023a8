#!/usr/bin/env python3
"""Does the cost of a transaction stay flat?  Clients, pools, query shapes and prepared statements by the thousand, and two
workers, between a load generator (load.c) and a server that answers without looking (stub.c), so that the proxy is the
bottleneck and the machine's PostgreSQL does not show.

    bench/flat.py                                     # all rows, 3 rounds in alternation
    bench/flat.py --rows base,shapes --rounds 5

Told is the proxy's own CPU time per transaction, as medians, and each row's ratio to the row that it is compared with, for
pgweir and for PgBouncer (two processes with so_reuseport where pgweir has two workers).  Only ratios carry over.
"""
import argparse
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kit import cluster, measure, proxies, report  # noqa: E402

STUB, LOAD = proxies.BUILD / "bench" / "stub", proxies.BUILD / "bench" / "load"


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    title: str
    to: str = "base"  # the row that it is compared with
    clients: int = 32
    mode: str = "simple"
    databases: int = 1
    texts: int = 1
    workers: int = 1
    warm_up: int = 1  # seconds; each of the pool's connections has to meet each statement


ROWS = (
    Row("base", "32 clients, one pool, one shape, simple"),
    Row("clients-2000", "2,000 clients", clients=2000),
    Row("one-pool", "1,000 clients, one pool", clients=1000),
    Row("pools-1000", "1,000 clients, 1,000 pools", to="one-pool", clients=1000, databases=1000),
    Row("shapes", "10,000 query shapes", texts=10000),
    Row("prepared", "32 prepared statements", to="base", mode="prepared", texts=32),
    Row("prepared-10000", "10,000 prepared statements", to="prepared", mode="prepared", texts=10000, warm_up=12),
    Row("workers-500", "500 clients, two workers", clients=500, workers=2),
    Row("workers-2000", "2,000 clients, two workers", clients=2000, workers=2),
)
BY_NAME = {r.name: r for r in ROWS}


class Stubbed:
    """What the two kinds of proxy have in common here: databases on the stub, and several processes."""

    processes = 1

    def databases(self):
        port = self.env.stub_port
        names = [cluster.DB] + [f"{cluster.DB}{i}" for i in range(self.env.databases)]
        return "\n".join(f"{name} = host=127.0.0.1 port={port} dbname={cluster.DB}" for name in names)

    def start(self, instance):
        port, path = self.ini(instance)
        self.all = [self.spawn([self.program(), path]) for _ in range(self.processes)]
        return port, self.all[0]

    def cpu_us_of_all(self):
        return sum(measure.threads_cpu_us(p.pid) for p in self.all)

    def stop(self):
        for p in self.all:
            cluster.stop(p)
        self.procs = {}


class Pgweir(Stubbed, proxies.Pgweir):
    def __init__(self, env):
        super().__init__(env, settings={"workers": env.workers, "max_prepared_statements": 20000, "monitor_user": "postgres"})

    def program(self):
        return self.binary


class PgBouncer(Stubbed, proxies.PgBouncer):
    def __init__(self, env):
        super().__init__(env)
        self.processes = env.workers

    def extra(self, scram):
        new = proxies.version_tuple(self.version()) >= (1, 21)
        return "so_reuseport = 1\n" + ("max_prepared_statements = 20000" if new else "")

    def program(self):
        return proxies.PGBOUNCER


KINDS = {"pgweir": Pgweir, "pgbouncer": PgBouncer}


def run_load(target, row, seconds):
    """One run; the load generator signals when its count begins and ends."""
    cpu = []
    port, _ = target.at(None)
    before = signal.signal(signal.SIGUSR1, lambda *_: cpu.append(target.cpu_us_of_all()))
    try:
        done = subprocess.run([LOAD, str(port), str(row.clients), str(seconds), row.mode, str(row.databases), str(row.texts),
                               str(row.warm_up)],
                              capture_output=True, text=True, timeout=seconds + 120, check=False)
    finally:
        signal.signal(signal.SIGUSR1, before)
    if done.returncode or len(cpu) != 2:
        raise RuntimeError(f"load: {done.stderr[-500:]!r}")
    result = json.loads(done.stdout)
    result["cpu_us"] = (cpu[1] - cpu[0]) / result["transactions"]
    return result


def one(args, clus, kind, row, number):
    env = proxies.Env(clus, 10, row.clients, args.pgweir)
    env._port = args.port + 30 + number % 40  # pylint: disable=protected-access
    env.stub_port, env.databases, env.workers = args.port + 20, row.databases, row.workers
    target = KINDS[kind](env)
    target.at = lambda _work: target.procs["x"]
    target.procs["x"] = target.start(False)
    try:
        target._wait(target.procs["x"], False)  # pylint: disable=protected-access
        return run_load(target, row, args.seconds)
    finally:
        target.stop()


def table(doc):
    env, versions = doc["environment"], ", ".join(f"{k} {v}" for k, v in doc["versions"].items())
    lines = ["# Flat cost", "", f"{env['date']}, commit {env['commit']}. Versions: {versions}. {env.get('cpu', '')}", "",
             "Stub server, medians; CPU of the proxy in microseconds per transaction, ratio to the row that it is compared with.", "",
             "| row | compared with | pgweir CPU | ratio | TPS | p99 ms | PgBouncer CPU | ratio | TPS | p99 ms |",
             "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for name, kinds in doc["rows"].items():
        row, cells = BY_NAME[name], []
        for kind in KINDS:
            r, base = kinds.get(kind), doc["rows"].get(row.to, {}).get(kind)
            if not r:
                cells += ["-"] * 4
                continue
            ratio = f"{r['cpu_us'] / base['cpu_us']:.2f}" if base else "-"
            cells += [f"{r['cpu_us']:.2f}", ratio, f"{r['tps']:,.0f}", f"{r['p99_us'] / 1000:.2f}"]
        lines.append(f"| {row.title} | {BY_NAME[row.to].title if row.to != name else '-'} | " + " | ".join(cells) + " |")
    lines += [f"- {s}" for s in doc["skipped"] + doc["errors"]]
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", default=",".join(BY_NAME))
    p.add_argument("--targets", default=",".join(KINDS))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=int, default=3)
    p.add_argument("--port", type=int, default=21960)
    p.add_argument("--pgweir", default=str(proxies.BUILD / "pgweir"))
    p.add_argument("--out", type=pathlib.Path, default=cluster.ROOT / "bench" / "results")
    args = p.parse_args()
    doc = {"environment": report.machine(), "versions": {}, "rows": {}, "errors": [], "skipped": []}
    clus, stub, runs, number = cluster.Cluster(args.port, 1), None, {}, 0
    try:
        clus.start()
        stub = cluster.spawn([STUB, f"{args.port + 20}:{clus.primary_port}"], clus.dir / "stub.log")
        time.sleep(0.3)
        kinds = []
        for kind in args.targets.split(","):
            env = proxies.Env(clus, 10, 1, args.pgweir)
            env.workers = env.databases = 1
            probe = KINDS[kind](env)
            if probe.missing():
                doc["skipped"].append(f"skipped: {kind}: {probe.missing()}")
                continue
            doc["versions"][kind] = probe.version()
            kinds.append(kind)
        for _ in range(args.rounds):
            for name in args.rows.split(","):
                for kind in kinds:
                    number += 1
                    try:
                        result = one(args, clus, kind, BY_NAME[name], number)
                    except (RuntimeError, subprocess.TimeoutExpired) as e:
                        doc["errors"].append(f"ERROR: {kind}, {name}: {e}")
                        continue
                    runs.setdefault((name, kind), []).append(result)
                    print(f"  {name:16} {kind:10} {result['cpu_us']:6.2f} us  {result['tps']:9,.0f} TPS  p99 {result['p99_us'] / 1000:.2f} ms",
                          flush=True)
    finally:
        if stub:
            cluster.stop(stub)
        clus.close()
    for (name, kind), results in runs.items():
        doc["rows"].setdefault(name, {})[kind] = {k: measure.median([r[k] for r in results]) for k in results[0]}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "flat.json").write_text(json.dumps(doc, indent=1) + "\n", encoding="utf-8")
    (args.out / "flat.md").write_text(table(doc), encoding="utf-8")
    print(table(doc))
    return 1 if doc["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
