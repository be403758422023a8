#!/usr/bin/env python3
"""How much memory a proxy needs for data that is larger than its memory, and for clients that do nothing.

For each target, plain and over TLS, with a fresh process: one warm-up connection, then 1 GiB through COPY in, COPY out, and
a SELECT whose reader takes no more than 20 MB/s. Told is by how much the process' peak resident size (VmHWM, and the
highest Rss of smaps_rollup, sampled) rises over that after the warm-up; pgweir's limit is 1 MiB, and missing it is an
error. With --idle N: the growth of PSS per idle client that has run one query.

    bench/memory.py                       # 1 GiB, about 4 minutes per target
    bench/memory.py --mib 64 --targets pgweir
    bench/memory.py --idle 5000 --mib 0
"""
import argparse
import json
import pathlib
import resource
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kit import cluster, measure, proxies, report, wire  # noqa: E402
from kit.works import Work  # noqa: E402

LIMIT_KB = 1024
SLOW = 20_000_000


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--targets", default="pgbouncer,pgweir")
    p.add_argument("--mib", type=int, default=1024, help="of data in each case (%(default)s); 0: none")
    p.add_argument("--idle", type=int, default=0, help="idle clients (default: not measured)")
    p.add_argument("--repeat", type=int, default=1, help="times that the cases are gone through in one process")
    p.add_argument("--port", type=int, default=21640)
    p.add_argument("--pool", type=int, default=10)
    p.add_argument("--pgweir", default=str(proxies.BUILD / "pgweir"))
    p.add_argument("--out", type=pathlib.Path, default=cluster.ROOT / "bench" / "results")
    return p.parse_args()


class Peak:
    """The highest resident size while the block runs."""

    def __init__(self, pid):
        self.pid, self.kb, self.on = pid, 0, True
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        while self.on:
            self.kb = max(self.kb, measure.tree_memory_kb(self.pid)["rss"])
            time.sleep(0.05)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.on = False
        self.thread.join()
        now = measure.tree_memory_kb(self.pid)
        self.hwm_kb = now["peak"]
        self.kb = max(self.kb, now["rss"])


def copy_in(client, total):
    return client.copy_in("COPY sink FROM STDIN WHERE false", total)


def copy_out(client, total):
    client.send(b"Q", f"COPY (SELECT repeat('x', 1023) FROM generate_series(1, {total // 1024})) TO STDOUT\0".encode())
    return client.until(b"Z")


def slow_rows(client, total):
    return client.query(f"SELECT repeat('x', 1013) FROM generate_series(1, {total // 1024})", SLOW)


def one_row(client, total):
    """One value of an eighth of the size: a row larger than any buffer."""
    return client.query(f"SELECT repeat('x', {min(total // 8, 200 << 20)})")


CASES = (("COPY in", copy_in), ("COPY out", copy_out), ("SELECT, reader of 20 MB/s", slow_rows), ("one large row", one_row))


def large_data(target, work, args):
    port, pid = target.at(work)
    total = args.mib << 20
    warm = wire.Client(port, work.tls)
    warm.query("SELECT 1")
    warm.query("COPY (SELECT 1) TO STDOUT")
    warm.copy_in("COPY sink FROM STDIN WHERE false", 1)
    warm.close()
    time.sleep(0.3)
    base = measure.tree_memory_kb(pid)
    rows = []
    for n in range(args.repeat):
        for name, case in CASES:
            client = wire.Client(port, work.tls)
            cpu, started = target.cpu_us(work), time.monotonic()
            with Peak(pid) as peak:
                moved = case(client, total)
            took = time.monotonic() - started
            client.close()
            rise = max(peak.hwm_kb - base["peak"], peak.kb - base["rss"], 0)
            row = {"case": name, "tls": work.tls, "mib": round(moved / 2**20), "rise_kb": rise, "base_kb": base["peak"],
                   "cpu_s_per_gb": (target.cpu_us(work) - cpu) / 1e6 / (moved / 1e9), "mb_per_s": moved / 1e6 / took}
            rows.append(row)
            print(f"  {target.name:10} {'TLS  ' if work.tls else 'plain'} {name:26} {row['mib']:5} MiB  rise {rise:6} kB "
                  f"over {base['peak']} kB  {row['cpu_s_per_gb']:.2f} CPU-s/GB  {row['mb_per_s']:.0f} MB/s", flush=True)
    return rows


def settled_pss(pid):
    """PSS in kB once it stands still for three seconds: what a proxy gives back, it gives back some time after."""
    last, since, until = measure.tree_memory_kb(pid)["pss"], time.monotonic(), time.monotonic() + 30
    while time.monotonic() < min(since + 3, until):
        time.sleep(0.25)
        now = measure.tree_memory_kb(pid)["pss"]
        if abs(now - last) > last / 1000:
            last, since = now, time.monotonic()
    return measure.tree_memory_kb(pid)["pss"]


def idle_clients(target, work, count):
    port, pid = target.at(work)
    first = [wire.Client(port, work.tls) for _ in range(20)]
    for c in first:
        c.query("SELECT 1")
    before = settled_pss(pid)
    clients = []
    for _ in range(count):
        clients.append(wire.Client(port, work.tls))
        clients[-1].query("SELECT 1")
    per = (settled_pss(pid) - before) / count
    for c in first + clients:
        c.close()
    print(f"  {target.name:10} {'TLS  ' if work.tls else 'plain'} {count} idle clients: {per:.2f} kB each", flush=True)
    return {"tls": work.tls, "clients": count, "kb_per_client": per}


IDLE_KB = {False: 0.5, True: 14.5}  # a client, plain and over TLS
COPY_OF_PGBOUNCER = {"COPY in": 0.65, "COPY out": 0.75}  # CPU


def judge(doc):
    out = []

    def add(what, value, limit):
        out.append({"what": what, "wanted": f"<= {limit:.2f}", "value": value, "verdict": "ok" if value <= limit else "MISSED"})

    for r in doc["idle"].get("pgweir", []):
        add(f"kB of an idle client, {'TLS' if r['tls'] else 'plain'}", r["kb_per_client"], IDLE_KB[r["tls"]])
    for case, limit in COPY_OF_PGBOUNCER.items():
        own, other = ([r["cpu_s_per_gb"] for r in doc["large"].get(t, []) if r["case"] == case and not r["tls"]]
                      for t in ("pgweir", "pgbouncer"))
        if own and other:
            add(f"CPU per GB of PgBouncer's, {case}", measure.median(own) / measure.median(other), limit)
    return out


def markdown(doc):
    env = doc["environment"]
    lines = ["# Memory", "", f"{env['date']}, commit {env['commit']}; {env['cpus']} CPUs, Linux {env['kernel']}. Versions: "
             + ", ".join(f"{k} {v}".strip() for k, v in doc["versions"].items()) + ".", "",
             f"Rise of the peak resident size over that after one warm-up connection; pgweir's limit is {LIMIT_KB} kB.", "",
             "| target | client | case | MiB | rise kB | over kB | CPU-s/GB | MB/s |", "|---|---|---|--:|--:|--:|--:|--:|"]
    for name, rows in doc["large"].items():
        lines += [f"| {name} | {'TLS' if r['tls'] else 'plain'} | {r['case']} | {r['mib']} | {r['rise_kb']} | "
                  f"{r['base_kb']} | {r['cpu_s_per_gb']:.2f} | {r['mb_per_s']:.0f} |" for r in rows]
    if any(doc["idle"].values()):
        lines += ["", "| target | client | idle clients | kB of PSS each |", "|---|---|--:|--:|"]
        lines += [f"| {name} | {'TLS' if r['tls'] else 'plain'} | {r['clients']} | {r['kb_per_client']:.2f} |"
                  for name, rows in doc["idle"].items() for r in rows]
    lines += ["", f"Missed limits: {doc['missed']}."]
    return "\n".join(lines) + "\n"


def main():
    args = arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clus = cluster.Cluster(args.port, 1)
    doc = {"environment": report.machine(), "versions": {}, "large": {}, "idle": {}, "missed": 0}
    try:
        clus.start()
        cluster.psql(clus.primary_port, "CREATE TABLE sink (t text)", user=cluster.USER)
        clus.catch_up()
        doc["versions"]["PostgreSQL"] = clus.version()
        env = proxies.Env(clus, args.pool, 32, args.pgweir)
        for name in args.targets.split(","):
            target = proxies.make(env, name)
            if target.missing():
                print(f"memory: without {target.name}: {target.missing()}")
                continue
            doc["versions"][target.name] = target.version()
            doc["large"][target.name], doc["idle"][target.name] = [], []
            for tls in (False, True):
                work = Work("memory", "memory", tls=tls)
                if target.skips(work):
                    continue
                if args.mib:
                    doc["large"][target.name] += large_data(target, work, args)
                    target.stop()
                if args.idle:
                    doc["idle"][target.name].append(idle_clients(target, work, args.idle))
                target.stop()
        own = [r for name, rows in doc["large"].items() if name.startswith("pgweir") for r in rows]
        doc["judgements"] = judge(doc)
        doc["missed"] = sum(r["rise_kb"] >= LIMIT_KB for r in own)
    finally:
        clus.close()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "memory.json").write_text(json.dumps(doc, indent=1) + "\n", encoding="utf-8")
    (args.out / "memory.md").write_text(markdown(doc), encoding="utf-8")
    print((args.out / "memory.md").read_text(encoding="utf-8"))
    return 1 if doc["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
