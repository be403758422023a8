#!/usr/bin/env python3
"""Has the path of a query become dearer?  Fails when a transaction takes 5 % more instructions than saved.

    bench/guard.py            # compares with bench/limits.json; part of make test
    bench/guard.py --save     # after a change that is worth its price: measures and saves; commit the file with the reason

Both are counted by callgrind for the worker's thread, in two runs of different length whose difference is divided by the
difference in transactions: start-up and logins fall out.  Counted is only what happens inside of the callback of a stream's
event (on_event), so that timers do not show on a slow machine.  Instructions are those inside the pgweir binary only, so
that versions of libevent and libc, and how many events one wake-up of a loaded machine brings, do not show.  What is left to
vary is the compiler: figures are saved by its major version, and one without figures is skipped and counted.  The proxy has a
primary only and one server connection for one client, which never waits, or for four, which nearly always do.  What
seems to have grown is counted again, and the smallest counts: noise only adds.  System calls are shown and not judged: as
callgrind counts them they differ by 6 % from run to run; bench/instructions.py has the real ones, by strace.
"""
import argparse
import collections
import dataclasses
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kit import cluster, measure, proxies, works  # noqa: E402

GROWTH = 1.05
TRIES = 3
LIMITS = pathlib.Path(__file__).resolve().parent / "limits.json"
SHORT, LONG = 200, 1000  # transactions of all clients together
ALONE, WAITING = 1, 4
ROWS = (("select-simple", ALONE), ("select-prepared", WAITING), ("select-extended", ALONE))


class OnPrimary(proxies.Pgweir):
    def __init__(self, env):
        # Whether a statement is shared depends on how long it takes (D4), and on a slow machine that varies.
        super().__init__(env, settings={"unnamed_statement_cache": 0})

    def databases(self):
        return f"{cluster.DB} = host=127.0.0.1 port={self.env.cluster.primary_port} dbname={cluster.DB}"


def own_instructions(text):
    """Self cost inside the pgweir binary: the lines of its objects, without those that repeat what a call has cost."""
    total, ours, skip, names = 0, False, False, {}
    for line in text.splitlines():
        m = re.match(r"ob=\((\d+)\)(?: (.*))?$", line)
        if m:
            names.setdefault(m.group(1), m.group(2))
            ours = bool(re.search(r"/pgweir$", names[m.group(1)] or ""))
        elif line.startswith("cob="):
            m = re.match(r"cob=\((\d+)\)(?: (.*))?$", line)
            names.setdefault(m.group(1), m.group(2))
        elif line.startswith("calls="):
            skip = True
        elif re.match(r"[+\-*\d]", line):
            if ours and not skip:
                total += int((line.split() + ["0", "0"])[1])
            skip = False
    return total


def system_calls(text):
    events = re.search(r"^events: (.*)$", text, re.M).group(1).split()
    sums = re.search(r"^(?:totals|summary): (.*)$", text, re.M).group(1).split()
    return int(dict(zip(events, sums)).get("sysCount", 0))


def count(clus, port, pgweir, work, transactions):
    """-> for each thread its own instructions and system calls"""
    folder = clus.dir / f"callgrind-{port}"
    folder.mkdir()
    folder.chmod(0o777)
    prefix = ["valgrind", "-q", "--tool=callgrind", "--separate-threads=yes", "--collect-systime=yes", "--collect-atstart=no", "--toggle-collect=on_event*",
              f"--callgrind-out-file={folder}/cg.%p"]
    env = proxies.Env(clus, 1, work.clients, pgweir, prefix, patience=4)
    env._port = port - 1  # pylint: disable=protected-access
    target = OnPrimary(env)
    try:
        res = measure.pgbench(target.conn(work), work, None, clus.dir, 0, transactions=transactions // work.clients)
    finally:
        for _, proc in target.procs.values():
            cluster.stop(proc, signal.SIGINT, 60)
    if res["error"]:
        raise SystemExit(f"guard: {res['error']}")
    out = collections.defaultdict(lambda: (0, 0))
    for path in folder.glob("cg.*-[0-9][0-9]"):
        text = path.read_text(errors="replace")
        out[path.name[-2:]] = own_instructions(text), system_calls(text)
    shutil.rmtree(folder)
    if not out:
        raise SystemExit("guard: callgrind has written nothing")
    return out


def figures(clus, port, pgweir, name, clients):
    work = dataclasses.replace(works.BY_NAME[name], clients=clients)
    short, long = (count(clus, port + i, pgweir, work, n) for i, n in enumerate((SHORT, LONG)))
    worker = max(long, key=lambda t: long[t][0] - short[t][0])
    ir, calls = ((a - b) / (LONG - SHORT) for a, b in zip(long[worker], short[worker]))
    return {"instructions": ir, **({"calls": calls} if clients == ALONE else {})}


def figures_of_row(clus, port, pgweir, name, clients, limit):
    """The smallest of up to TRIES counts, as soon as it is within the limit."""
    best = {}
    for i in range(TRIES):
        found = figures(clus, port + 2 * i, pgweir, name, clients)
        best = {what: min(n, best.get(what, n)) for what, n in found.items()}
        if limit is None or best["instructions"] <= limit * GROWTH:
            break
    return best


def compiler(pgweir):
    """As the binary itself says: "gcc 12"."""
    text = subprocess.run(["readelf", "-p", ".comment", pgweir], capture_output=True, text=True, check=False).stdout
    m = re.search(r"GCC: \(.*?\) (\d+)", text)
    return f"gcc {m.group(1)}" if m else "another compiler"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--save", action="store_true", help="save what is measured as the new limits")
    p.add_argument("--pgweir", default=str(proxies.BUILD / "pgweir"))
    p.add_argument("--port", type=int, default=21860)
    args = p.parse_args()
    saved = json.loads(LIMITS.read_text(encoding="utf-8")) if LIMITS.exists() else {}
    by = compiler(args.pgweir)
    if not shutil.which("valgrind") or (by not in saved and not args.save):
        print(f"guard: no {'figures of ' + by if shutil.which('valgrind') else 'valgrind'}: skipped")
        print(f"speed: 0 passed, 0 failed, {len(ROWS)} skipped")
        return 0
    clus, found, grown = cluster.Cluster(args.port, 1), {}, []
    try:
        clus.start()
        for i, (name, clients) in enumerate(ROWS):
            row = f"{name}, {clients} on one connection"
            was = saved.get(by, {}).get(row, {})
            found[row] = figures_of_row(clus, args.port + 10 + 2 * TRIES * i, args.pgweir, name, clients,
                                        None if args.save else was.get("instructions"))
            print(f"  {row:36} " + ", ".join(f"{n:,.1f} {what} (saved {was.get(what, 0):,.1f})" for what, n in found[row].items()),
                  flush=True)
            n = found[row]["instructions"]
            if "instructions" in was and n > was["instructions"] * GROWTH:
                grown.append(f"{row}: {n:,.1f} instructions, saved {was['instructions']:,.1f}")
    finally:
        clus.close()
    if args.save:
        saved[by] = {row: {what: round(n, 1) for what, n in f.items()} for row, f in found.items()}
        LIMITS.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
        return 0
    for line in grown:
        print(f"guard: GROWN by more than 5 %: {line}")
    if grown:
        print("guard: bench/instructions.py --targets pgweir --functions 40 says where; if it is worth its price: bench/guard.py --save")
    failed = len({line.split(":")[0] for line in grown})
    print(f"speed: {len(ROWS) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
