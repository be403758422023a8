#!/usr/bin/env python3
"""What many clients do to the few that work: idle ones by the thousand, and a storm of new ones.

idle:   select-only with and without N idle clients, in turns in the same process; told is the ratio of TPS.
storm:  select-only at half of what the target can do (pgbench --rate), with and without 500 new connections a second beside
        it (trust, SCRAM, SCRAM over TLS); told are the p99 of the running clients, both ways, their ratio, and the proxy's
        CPU per new connection (its one select included), which is what the storm's run takes more.

    bench/crowd.py                                # 5,000 idle, and the most that this machine allows; all storms; 3 rounds
    bench/crowd.py --idle 5000 --storms trust --rounds 1 --targets pgweir

Figures of a storm depend on the machine's spare CPUs more than on the proxy: pgbench's own side of TLS and SCRAM is as dear.
"""
import argparse
import json
import pathlib
import resource
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kit import cluster, measure, proxies, report, wire  # noqa: E402
from kit.works import Work  # noqa: E402

STORMS = {"trust": Work("trust", "", connect=True), "scram": Work("scram", "", connect=True, scram=True),
          "tls-scram": Work("tls-scram", "", connect=True, scram=True, tls=True)}
PER_SECOND = 500
SPARE_FILES = 1000  # descriptors that are not idle clients


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--targets", default="pgbouncer,pgweir")
    p.add_argument("--idle", default="5000,most", help="numbers of idle clients, or nothing (%(default)s)")
    p.add_argument("--storms", default=",".join(STORMS), help="or nothing (%(default)s)")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=int, default=5, help="of each run with idle clients (%(default)s)")
    p.add_argument("--storm-seconds", type=int, default=10)
    p.add_argument("--port", type=int, default=21700)
    p.add_argument("--pgweir", default=str(proxies.BUILD / "pgweir"))
    p.add_argument("--out", type=pathlib.Path, default=cluster.ROOT / "bench" / "results")
    a = p.parse_args()
    soft_hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = max(1000, min(100000, soft_hard - SPARE_FILES))
    a.idle = sorted({min(most, most if n == "most" else int(n)) for n in a.idle.split(",") if n})
    a.storms = [s for s in a.storms.split(",") if s]
    return a


def select_only(target, work, seconds, rate=None):
    script = ("-b", "select-only") + (("-R", str(rate)) if rate else ())
    run = Work(work.name, work.title, script=script, scram=work.scram, tls=work.tls)
    res = measure.pgbench(target.conn(work), run, seconds, target.env.cluster.dir, 1 if rate else 0.1)
    if res["error"] or not res["tps"]:
        raise RuntimeError(f"{target.name}: {res['error'] or 'no transaction'}")
    return res


def crowd(port, count):
    clients = []
    for n in range(count):
        clients.append(wire.Client(port, source=f"127.0.{n // 20000}.{2 + n % 100}"))
        clients[-1].query("SELECT 1")
    return clients


def idle_round(target, count, seconds):
    """TPS alone and with `count` idle clients that have had time to fall asleep."""
    work = Work("idle", "")
    port, pid = target.at(work)
    alone = select_only(target, work, seconds)["tps"]
    before = measure.tree_memory_kb(pid)["pss"]
    clients = crowd(port, count)
    try:
        time.sleep(4)
        per_client = (measure.tree_memory_kb(pid)["pss"] - before) / count
        beside = select_only(target, work, seconds)["tps"]
    finally:
        for c in clients:
            c.close()
    time.sleep(1)
    return {"alone": alone, "beside": beside, "ratio": beside / alone, "kb_per_client": per_client}


def start_storm(target, work, seconds):
    env = cluster.clean_env()
    env["PGPASSWORD"] = cluster.SCRAM_PASSWORD
    return subprocess.Popen([str(a) for a in (cluster.PG_BIN / "pgbench", "-n", "-C", "-S", "-c", 20, "-j", 2, "-T", seconds, "-R",
                                              PER_SECOND, target.conn(work))],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/", env=env)


def storm_round(target, name, seconds):
    work = STORMS[name]
    rate = max(1, int(select_only(target, work, 3)["tps"] / 2))
    cpu = [target.cpu_us(work)]
    calm = select_only(target, work, seconds, rate)
    cpu.append(target.cpu_us(work))
    storm = start_storm(target, work, seconds)
    stormy = select_only(target, work, seconds, rate)
    text = storm.communicate(timeout=120)[0]
    cpu.append(target.cpu_us(work))
    made = sum(int(line.rsplit(":", 1)[1].split("/")[0]) for line in text.splitlines() if "actually processed" in line)
    if storm.returncode or not made:
        raise RuntimeError(f"{target.name}, storm: {text[-300:]}")
    more = (cpu[2] - cpu[1]) - (cpu[1] - cpu[0]) * stormy["transactions"] / calm["transactions"]
    return {"calm_p99_ms": calm["p99_ms"], "p99_ms": stormy["p99_ms"], "ratio": stormy["p99_ms"] / calm["p99_ms"],
            "connections": made, "cpu_us_per_connection": more / made}


def medians(rounds):
    return {k: measure.median([r[k] for r in rounds]) for k in rounds[0]} if rounds else None


def run_all(args, targets, doc):
    runs = {}

    def one(row, target, fn, *more):
        try:
            result = fn(target, *more)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
            doc["errors"].append(f"ERROR: {target.name}, {row}: {e}")
            return
        runs.setdefault(row, {}).setdefault(target.name, []).append(result)
        print(f"  {row:16} {target.name:10} " + "  ".join(f"{k} {v:.2f}" for k, v in result.items()), flush=True)

    for _ in range(args.rounds):
        for count in args.idle:
            for t in targets:
                one(f"idle {count}", t, idle_round, count, args.seconds)
    for name in args.storms:
        for _ in range(args.rounds):
            for t in targets:
                one(f"storm {name}", t, storm_round, name, args.storm_seconds)
    doc["rows"] = {row: {t: medians(r) for t, r in by.items()} for row, by in runs.items()}


def markdown(doc):
    env = doc["environment"]
    lines = ["# Crowds", "", f"{env['date']}, commit {env['commit']}; {env['cpus']} CPUs, Linux {env['kernel']}. Versions: "
             + ", ".join(f"{k} {v}" for k, v in doc["versions"].items()) + f". {doc['rounds']} rounds in alternation, medians.", "",
             "| idle clients | target | TPS alone | TPS beside them | ratio | kB of PSS each |", "|---|---|--:|--:|--:|--:|"]
    for row, by in doc["rows"].items():
        if row.startswith("idle"):
            lines += [f"| {row.split()[1]} | {t} | {r['alone']:,.0f} | {r['beside']:,.0f} | {r['ratio']:.2f} | {r['kb_per_client']:.2f} |"
                      for t, r in by.items()]
    lines += ["", f"| storm, {PER_SECOND}/s | target | p99 ms before | p99 ms in it | ratio | connections | CPU us per connection |",
              "|---|---|--:|--:|--:|--:|--:|"]
    for row, by in doc["rows"].items():
        if row.startswith("storm"):
            lines += [f"| {row.split()[1]} | {t} | {r['calm_p99_ms']:.2f} | {r['p99_ms']:.2f} | {r['ratio']:.2f} | {r['connections']:.0f} "
                      f"| {r['cpu_us_per_connection']:.0f} |" for t, r in by.items()]
    return "\n".join(lines + [""] + [f"- {e}" for e in doc["errors"]]) + "\n"


def main():
    args = arguments()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clus = cluster.Cluster(args.port, 10)
    doc = {"environment": report.machine(), "versions": {}, "rounds": args.rounds, "rows": {}, "errors": []}
    targets = []
    try:
        clus.start()
        env = proxies.Env(clus, 10, 32, args.pgweir)
        for name in args.targets.split(","):
            t = proxies.make(env, name)
            if t.missing():
                print(f"crowd: without {t.name}: {t.missing()}")
                continue
            doc["versions"][t.name] = t.version()
            targets.append(t)
        run_all(args, targets, doc)
    finally:
        for t in targets:
            t.stop()
        clus.close()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "crowd.json").write_text(json.dumps(doc, indent=1) + "\n", encoding="utf-8")
    (args.out / "crowd.md").write_text(markdown(doc), encoding="utf-8")
    print(markdown(doc))
    return 1 if doc["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
