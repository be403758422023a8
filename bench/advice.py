#!/usr/bin/env python3
"""Is SHOW ADVICE right?  One pgweir, pool sizes 1 to 64 in turn under pgbench, then its advice; the best size of the sweep is the
smallest whose throughput is within 3 % of the highest.  Right is an advised size within one step (a factor of two) of that.

    bench/advice.py                       # select-only, tpcb-like, and a mix with statements that sleep 10 ms
    bench/advice.py --seconds 5 --sizes 1,4,16 --works select-only

Writes bench/results/advice.json and a plot for each workload (throughput and p99 over the size, the advised size marked).
"""
import argparse
import html
import json
import math
import pathlib
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kit import cluster, measure, proxies, works  # noqa: E402

SLEEP = "select pg_sleep(0.01);\n"
WORKS = {
    "select-only": ("one select by key", ("-b", "select-only")),
    "tpcb-like": ("seven statements in a transaction", ("-b", "tpcb-like")),
    "mix-10ms": ("half select-only, half statements of 10 ms", ("-b", "select-only@1", "-f", "{sleep}@1")),
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--works", default=",".join(WORKS))
    p.add_argument("--sizes", default="1,2,4,8,16,32,64")
    p.add_argument("--seconds", type=int, default=10, help="of each size (%(default)s)")
    p.add_argument("--clients", type=int, default=64)
    p.add_argument("--port", type=int, default=21760)
    p.add_argument("--scale", type=int, default=20)
    p.add_argument("--pgweir", default=str(proxies.BUILD / "pgweir"))
    p.add_argument("--out", type=pathlib.Path, default=cluster.ROOT / "bench" / "results")
    return p.parse_args()


def console(target, work, sql, columns=None):
    text = cluster.psql(target.at(work)[0], sql, db="pgweir", user=cluster.USER)
    return [dict(zip(columns, line.split("|"))) for line in text.splitlines()] if columns else text


COLUMNS = ("database user host pool_size advised_size not_needed reason arrivals service_us variation busy waiting wait_us target_us "
           "expected_wait_us rate_by_busy seconds").split()


def advice(clus, target, work):
    rows = console(target, work, "SHOW ADVICE", COLUMNS)
    return next(row for row in rows if row["host"].endswith(f":{clus.primary_port}"))


def sweep(clus, args, name):
    title, script = WORKS[name]
    sleep = clus.dir / "sleep.sql"
    sleep.write_text(SLEEP)
    sleep.chmod(0o644)
    script = tuple(s.format(sleep=sleep) for s in script)
    work = works.Work(name, title, script=script, clients=args.clients, writes=True)
    env = proxies.Env(clus, 1, args.clients, args.pgweir)
    env._port = args.port + 20 + 2 * list(WORKS).index(name)  # pylint: disable=protected-access
    target = proxies.Pgweir(env, f"pgweir-{name}", {"route": "primary"})
    points, found = [], {}
    try:
        for size in map(int, args.sizes.split(",")):
            for sql in (f"SET default_pool_size = {size}", "RECONNECT", "WAIT_CLOSE"):
                console(target, work, sql)
            last = {}
            res = measure.pgbench(target.conn(work), work, args.seconds, clus.dir, 1,
                                  while_running=lambda: last.update(advice(clus, target, work)))
            if res["error"]:
                raise RuntimeError(res["error"])
            points.append({"size": size, "tps": res["tps"], "p50_ms": res["p50_ms"], "p99_ms": res["p99_ms"], "advice": dict(last)})
            found = last
            print(f"  size {size:3}: {res['tps']:9.0f} tps, p99 {res['p99_ms']:8.2f} ms; advised so far {last['advised_size'] or '-':>3} "
                  f"({last['reason']})", flush=True)
            time.sleep(1)
    finally:
        target.stop()
    most = max(p["tps"] for p in points)
    best = next(p["size"] for p in points if p["tps"] >= 0.97 * most)
    advised = int(found["advised_size"] or 0)
    near = advised > 0 and 0.5 <= advised / best <= 2
    print(f"{name}: advised {advised}, best {best}: {'within one step' if near else 'NOT within one step'}; by busy servers: "
          f"{found['rate_by_busy']}", flush=True)
    return {"title": title, "points": points, "best": best, "advised": advised, "within_one_step": near, "advice": found}


def panel(points, key, unit, advised, top, colour):
    """One plot with an axis of its own: key over the size, sizes as equal steps."""
    left, width, height = 70, 560, 170
    most = max(p[key] for p in points) or 1
    steps = [math.log2(p["size"]) for p in points]
    span = (steps[-1] - steps[0]) or 1
    def x(size): return left + (math.log2(size) - steps[0]) / span * width
    def y(v): return top + height - v / most * (height - 14)
    out = [f'<text x="14" y="{top - 8}" font-weight="600">{unit}</text>']
    for part in (0, .5, 1):
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y(most * part):.1f}" y2="{y(most * part):.1f}" stroke="#e1e0d9"/>'
                   f'<text x="{left - 8}" y="{y(most * part) + 4:.1f}" text-anchor="end" fill="#666">{most * part:,.4g}</text>')
    if advised:
        at = x(min(max(advised, points[0]["size"]), points[-1]["size"]))
        out.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{top + height}" stroke="#d03b3b" stroke-dasharray="4 3"/>'
                   f'<text x="{at + 5:.1f}" y="{top + 10}" fill="#d03b3b">advised: {advised}</text>')
    line = " ".join(f'{x(p["size"]):.1f},{y(p[key]):.1f}' for p in points)
    out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for p in points:
        out.append(f'<circle cx="{x(p["size"]):.1f}" cy="{y(p[key]):.1f}" r="3.5" fill="{colour}"/>'
                   f'<text x="{x(p["size"]):.1f}" y="{top + height + 16}" text-anchor="middle" fill="#666">{p["size"]}</text>')
    return out


def plot(name, doc):
    head = html.escape(f"{name}: throughput and latency over the pool's size")
    note = html.escape(f"{doc['title']}; the smallest size within 3 % of the highest rate is {doc['best']}, advised is {doc['advised']}")
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 520" font-family="system-ui, sans-serif" font-size="12">',
           f'<rect width="100%" height="100%" fill="#fff"/><text x="14" y="26" font-size="17" font-weight="600">{head}</text>'
           f'<text x="14" y="45" fill="#666">{note}</text>',
           *panel(doc["points"], "tps", "transactions per second", doc["advised"], 84, "#2a78d6"),
           *panel(doc["points"], "p99_ms", "p99, milliseconds", doc["advised"], 312, "#4a3aa7"), "</svg>"]
    return "\n".join(out) + "\n"


def main():
    args = arguments()
    results = {}
    clus = cluster.Cluster(args.port, args.scale)
    try:
        clus.start()
        for name in args.works.split(","):
            results[name] = sweep(clus, args, name)
    finally:
        clus.close()
    args.out.mkdir(parents=True, exist_ok=True)
    doc = {"clients": args.clients, "seconds": args.seconds, "works": results}
    (args.out / "advice.json").write_text(json.dumps(doc, indent=1) + "\n", encoding="utf-8")
    for name, result in results.items():
        (args.out / f"advice-{name}.svg").write_text(plot(name, result), encoding="utf-8")
    wrong = [name for name, result in results.items() if not result["within_one_step"]]
    print(f"advice: {len(results) - len(wrong)} right, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
