#!/usr/bin/env python3
"""User-space instructions and system calls per transaction: what does not depend on the load of the machine.

Instructions: the proxy runs under callgrind for two lengths of the same pgbench run; the difference, divided by the
difference in transactions, is free of start-up and login. Told are all threads together and the busiest one (a worker).
System calls: strace -c -f for two lengths, the same way; the calls are listed by name.

    bench/instructions.py                               # select-only simple, prepared, TLS
    bench/instructions.py --targets pgweir --check bench/limits.json     # CI: exit 1 when a figure grew by more than 5 %
    bench/instructions.py --targets pgweir --save-limits bench/limits.json

Needs valgrind and strace; what is missing is skipped and counted.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kit import cluster, measure, proxies, report, works  # noqa: E402

GROWTH = 1.05


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--targets", default="l4,pgbouncer,pgweir")
    p.add_argument("--works", default="select-simple,select-prepared,select-extended,select-tls")
    p.add_argument("--short", type=int, default=100, help="transactions of each client in the short run (%(default)s)")
    p.add_argument("--long", type=int, default=300)
    p.add_argument("--port", type=int, default=21660)
    p.add_argument("--pool", type=int, default=10)
    p.add_argument("--pgweir", default=str(proxies.BUILD / "pgweir"))
    p.add_argument("--check", type=pathlib.Path, metavar="FILE", help="compare with saved figures")
    p.add_argument("--save-limits", type=pathlib.Path, metavar="FILE")
    p.add_argument("--functions", type=int, default=0, metavar="N", help="print the N dearest functions, per transaction")
    p.add_argument("--out", type=pathlib.Path, default=cluster.ROOT / "bench" / "results")
    return p.parse_args()


def profile_totals(folder):
    """Instructions by thread number, from the files of --separate-threads=yes; a proxy that forks has several of each."""
    totals = collections.Counter()
    for path in folder.glob("cg.*"):
        m = re.search(r"^(?:totals|summary): (\d+)", path.read_text(errors="replace"), re.M)
        thread = re.search(r"-(\d\d)$", path.name)
        if m and thread:
            totals[thread.group(1)] += int(m.group(1))
    return totals


def under_callgrind(clus, args, target_name, work, transactions):
    """-> instructions of one run by thread, and the folder of its profiles"""
    folder = clus.dir / f"callgrind-{time.monotonic_ns()}"
    folder.mkdir()
    folder.chmod(0o777)
    prefix = ["valgrind", "-q", "--tool=callgrind", "--separate-threads=yes", "--trace-children=yes",
              f"--callgrind-out-file={folder}/cg.%p"]
    env = proxies.Env(clus, args.pool, work.clients, args.pgweir, prefix, patience=4)
    env._port = args.port + 20 + int(time.monotonic() * 10) % 15  # pylint: disable=protected-access
    target = proxies.make(env, target_name)
    try:
        res = measure.pgbench(target.conn(work), work, None, clus.dir, 0, transactions=transactions)
    finally:
        for _, proc in target.procs.values():
            cluster.stop(proc, signal.SIGINT, 60)
    if res["error"]:
        raise RuntimeError(res["error"])
    totals = profile_totals(folder)
    if not totals:
        raise RuntimeError(f"no profile was written: {target._log_tail()}")  # pylint: disable=protected-access
    return totals, folder


def by_function(folder):
    """Own instructions of each function, all threads together."""
    costs = collections.Counter()
    for path in folder.glob("cg.*-[0-9][0-9]"):
        out = subprocess.run(["callgrind_annotate", "--threshold=100", "--show-percs=no", "--auto=no", path],
                             capture_output=True, text=True, check=False).stdout
        for count, name in re.findall(r"^\s*([\d,]+)  (\S.*?)(?: \[[^\]]*\])?$", out, re.M):
            if "PROGRAM TOTALS" not in name:
                costs[re.sub(r".*/(?=[^/]+:)", "", name)] += int(count.replace(",", ""))
    return costs


def instructions(clus, args, name, work):
    n = work.clients * (args.long - args.short)
    short, folder = under_callgrind(clus, args, name, work, args.short)
    before = by_function(folder) if args.functions else {}
    shutil.rmtree(folder)
    long, folder = under_callgrind(clus, args, name, work, args.long)
    more = by_function(folder) if args.functions else collections.Counter()
    shutil.rmtree(folder)
    more.subtract(before)
    return {"ir": (sum(long.values()) - sum(short.values())) / n, "ir_worker": max(long[t] - short[t] for t in long) / n,
            "functions": [f"{cost / n:9.1f}  {function}" for function, cost in more.most_common(args.functions)]}


def under_strace(target, work, transactions, summary):
    _, pid = target.at(work)
    pids = [a for p in measure.tree(pid) for a in ("-p", p)]
    tracer = subprocess.Popen(["strace", "-qq", "-c", "-f", "-U", "calls,name", "-o", summary, *map(str, pids)],
                              stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    res = measure.pgbench(target.conn(work), work, None, summary.parent, 0, transactions=transactions)
    tracer.send_signal(signal.SIGINT)
    tracer.wait(20)
    if res["error"]:
        raise RuntimeError(res["error"])
    calls = collections.Counter()
    for line in summary.read_text().splitlines():
        m = re.match(r"\s*(\d+)\s+(\w+)$", line)
        if m and m.group(2) != "total":
            calls[m.group(2)] += int(m.group(1))
    summary.unlink()
    return calls


def system_calls(clus, args, name, work):
    env = proxies.Env(clus, args.pool, work.clients, args.pgweir)
    env._port = args.port + 45 + int(time.monotonic() * 10) % 15  # pylint: disable=protected-access
    target = proxies.make(env, name)
    try:
        summary = clus.dir / "strace.out"
        under_strace(target, work, 20, summary)  # opens the pool
        short = under_strace(target, work, args.short, summary)
        long = under_strace(target, work, args.long, summary)
    finally:
        target.stop()
    n = work.clients * (args.long - args.short)
    by_name = {k: (long[k] - short[k]) / n for k in sorted(long, key=lambda k: -long[k])}
    return {"calls": sum(by_name.values()), "by_name": {k: round(v, 3) for k, v in by_name.items() if abs(v) >= 0.005}}


def grown(doc, limits):
    """Figures of pgweir that are more than 5 % above the saved ones."""
    out = []
    for work, saved in limits.items():
        row = doc["rows"].get(work, {}).get("pgweir", {})
        for key in ("ir", "ir_worker", "calls"):
            if key in saved and key in row and row[key] > saved[key] * GROWTH:
                out.append(f"{work}: {key} {row[key]:.2f}, saved {saved[key]:.2f}")
    return out


def markdown(doc):
    env, versions = doc["environment"], ", ".join(f"{k} {v}".strip() for k, v in doc["versions"].items())
    lines = ["# Instructions and system calls", "",
             f"{env['date']}, commit {env['commit']}. Versions: {versions}. Per transaction, differences of two lengths of "
             "the same run.", "",
             "| workload | target | instructions | of its busiest thread | system calls | which |",
             "|---|---|--:|--:|--:|---|"]
    for work, targets in doc["rows"].items():
        for name, r in targets.items():
            ir = (f"{r['ir']:,.0f}", f"{r['ir_worker']:,.0f}") if "ir" in r else ("-", "-")
            calls = f"{r['calls']:.2f}" if "calls" in r else "-"
            which = ", ".join(f"{k} {v:.2f}" for k, v in r.get("by_name", {}).items())
            lines.append(f"| {work} | {name} | {ir[0]} | {ir[1]} | {calls} | {which} |")
    lines += [f"- {s}" for s in doc["skipped"] + doc["errors"]]
    return "\n".join(lines) + "\n"


def main():
    args = arguments()
    have = {tool: shutil.which(tool) for tool in ("valgrind", "strace")}
    clus = cluster.Cluster(args.port, 1)
    doc = {"environment": report.machine(), "versions": {}, "rows": {}, "errors": [],
           "skipped": [f"skipped: {tool} is not installed" for tool, path in have.items() if not path]}
    try:
        clus.start()
        for name in args.targets.split(","):
            probe = proxies.make(proxies.Env(clus, args.pool, 1, args.pgweir), name)
            if probe.missing():
                doc["skipped"].append(f"skipped: {name}: {probe.missing()}")
                continue
            doc["versions"][name] = probe.version()
            for work in (works.BY_NAME[w] for w in args.works.split(",")):
                if probe.skips(work):
                    doc["skipped"].append(f"skipped: {name}, {work.name}: {probe.skips(work)}")
                    continue
                row = doc["rows"].setdefault(work.name, {}).setdefault(name, {})
                for tool, measured in (("valgrind", instructions), ("strace", system_calls)):
                    try:
                        row.update(measured(clus, args, name, work) if have[tool] else {})
                    except RuntimeError as e:
                        doc["errors"].append(f"ERROR: {name}, {work.name}, {tool}: {e}")
                print(f"  {work.name:16} {name:10} {row.get('ir', 0):9,.0f} instructions "
                      f"({row.get('ir_worker', 0):,.0f} in the busiest thread)  {row.get('calls', 0):5.2f} calls {row.get('by_name', '')}", flush=True)
                for line in row.get("functions", []):
                    print("      " + line)
    finally:
        clus.close()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "instructions.json").write_text(json.dumps(doc, indent=1) + "\n", encoding="utf-8")
    (args.out / "instructions.md").write_text(markdown(doc), encoding="utf-8")
    print((args.out / "instructions.md").read_text(encoding="utf-8"))
    if args.save_limits:
        own = {w: {k: round(r["pgweir"][k], 2) for k in ("ir", "ir_worker", "calls") if k in r["pgweir"]}
               for w, r in doc["rows"].items() if "pgweir" in r}
        args.save_limits.write_text(json.dumps(own, indent=1) + "\n", encoding="utf-8")
    worse = grown(doc, json.loads(args.check.read_text(encoding="utf-8"))) if args.check and args.check.exists() else []
    for line in worse:
        print(f"instructions: GROWN by more than 5 %: {line}")
    return 1 if worse or doc["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
