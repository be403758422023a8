#!/usr/bin/env python3
"""Puts the figures of bench/results/ into README.md, between its two marks: what was wanted, what was measured, where.

    bench/publish.py                 # after make bench or make bench-full, which call it
    bench/publish.py --check         # only says what would be written
"""
import argparse
import json
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kit import cluster  # noqa: E402

BEGIN, END = "<!-- bench: begin (bench/publish.py) -->", "<!-- bench: end -->"
RESULTS = cluster.ROOT / "bench" / "results"
SHOWN = ("tps.svg", "proxy-cpu.svg")


def load(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def verdict(what, value, op, limit):
    if value is None:
        return None
    good = value <= limit if op == "<=" else value >= limit
    return {"what": what, "wanted": f"{op} {limit:.2f}", "value": value, "verdict": "ok" if good else "MISSED"}


def share(row, key, a, b):
    x, y = row.get(a, {}).get(key), row.get(b, {}).get(key)
    return x / y if x and y else None


def of_flat(doc):
    rows = doc.get("rows", {})

    def growth(name, base, kind):
        return share({"a": rows.get(name, {}).get(kind, {}), "b": rows.get(base, {}).get(kind, {})}, "cpu_us", "a", "b")

    for clients in (500, 2000):
        row = rows.get(f"workers-{clients}", {})
        yield verdict(f"two workers, {clients} clients: TPS of two PgBouncers'", share(row, "tps", "pgweir", "pgbouncer"), ">=", 1.0)
        yield verdict(f"two workers, {clients} clients: CPU/txn of two PgBouncers'", share(row, "cpu_us", "pgweir", "pgbouncer"), "<=", 0.85)
        yield verdict(f"two workers, {clients} clients: p99 of two PgBouncers'", share(row, "p99_us", "pgweir", "pgbouncer"), "<=", 1.0)
    other = growth("clients-2000", "base", "pgbouncer")
    if other:
        yield verdict("2,000 clients: CPU/txn of the figure with 32", growth("clients-2000", "base", "pgweir"), "<=", other)
    yield verdict("1,000 pools: CPU/txn of the figure with one", growth("pools-1000", "one-pool", "pgweir"), "<=", 1.2)
    yield verdict("10,000 query shapes: CPU/txn of the figure with one", growth("shapes", "base", "pgweir"), "<=", 1.3)
    yield verdict("10,000 prepared statements: CPU/txn of the figure with 32", growth("prepared-10000", "prepared", "pgweir"), "<=", 1.3)


def of_crowd(doc):
    for row, by in doc.get("rows", {}).items():
        kind, name = row.split()
        own, other = by.get("pgweir"), by.get("pgbouncer")
        if kind == "idle" and own:
            yield verdict(f"{int(name):,} idle clients: TPS of that without", own["ratio"], ">=", 0.95 if int(name) <= 5000 else 0.9)
        if kind == "storm" and own:
            yield verdict(f"storm, {name}: p99 of that before", own["ratio"], "<=", max(2.0, other["ratio"] if other else 0))


def of_instructions(doc):
    for name, most in (("select-simple", 4000), ("select-prepared", 3000)):
        row = doc.get("rows", {}).get(name, {}).get("pgweir", {})
        yield verdict(f"{name}: system calls", row.get("calls"), "<=", 4.3)
        yield verdict(f"{name}: instructions of the worker", row.get("ir_worker"), "<=", most)


def sections():
    """(document, verdicts) of each tool that has run."""
    bench, memory = load("bench"), load("memory")
    yield bench, bench.get("judgements", [])
    yield memory, memory.get("judgements", [])
    for name, judge in (("flat", of_flat), ("crowd", of_crowd), ("instructions", of_instructions)):
        doc = load(name)
        yield doc, [v for v in judge(doc) if v]


def text():
    lines, seen = [], []
    rows = []
    for doc, verdicts in sections():
        env = doc.get("environment")
        if env and env["commit"] not in seen:
            seen.append(env["commit"])
            if len(seen) == 1:
                versions = ", ".join(f"{k} {v}" for k, v in doc.get("versions", {}).items() if v)
                lines += [f"{env['date']}, commit {env['commit']}: {env['cpu']}, {env['cpus']} CPUs, {env['memory_gb']} GB, "
                          f"Linux {env['kernel']}. {versions}.", ""]
        rows += [f"| {v['what']} | {v['wanted']} | {v['value']:,.2f} | {v['verdict']} |" for v in verdicts]
    if len(seen) > 1:
        lines += [f"Some figures are of commits {', '.join(seen[1:])}.", ""]
    lines += ["Ratios of medians of runs in alternation on one machine; all of it is in `bench/results/`.", "",
              "| | wanted | measured | |", "|---|---|--:|---|"] + rows + [""]
    lines += [f"![{name}](bench/results/{name})" for name in SHOWN if (RESULTS / name).exists()]
    return "\n".join(lines).rstrip() + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true")
    args = p.parse_args()
    if not any(doc for doc, _ in sections()):
        print("publish: there are no results")
        return 1
    if args.check:
        print(text())
        return 0
    readme = cluster.ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print("publish: README.md has no place for them")
        return 1
    readme.write_text(f"{before}{BEGIN}\n{text()}{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
