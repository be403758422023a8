"""JSON, a Markdown table and SVG plots from the runs. No dependency: the plots are written by hand."""
import datetime
import html
import json
import os
import platform
import re
import subprocess

from . import cluster
from .measure import median

COLOURS = {"direct": "#8c8c8c", "l4": "#c9a227", "pgbouncer": "#c05a3c", "pgpool": "#7b5ea7", "pgweir": "#2f6fab"}
SPARE_COLOURS = ("#3a9d8f", "#5c4b8a", "#1d3f5e", "#6aa84f")

# metric -> (heading, digits)
METRICS = {
    "tps": ("TPS", 0),
    "p50_ms": ("p50 ms", 2),
    "p95_ms": ("p95 ms", 2),
    "p99_ms": ("p99 ms", 2),
    "proxy_us": ("proxy CPU us/txn", 2),
    "server_us": ("server CPU us/txn", 1),
    "replica_share": ("on replica", 2),
    "pss_kb": ("PSS kB", 0),
}


def machine():
    """What the figures depend on, without naming the machine."""
    cpu = ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            m = re.search(r"model name\s*:\s*(.*)", f.read())
            cpu = m.group(1) if m else ""
        with open("/proc/meminfo", encoding="utf-8") as f:
            mem_gb = round(int(f.readline().split()[1]) / 1048576)
    except OSError:
        mem_gb = 0
    git = subprocess.run(["git", "-C", str(cluster.ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                         check=False).stdout.strip()
    return {"cpu": cpu, "cpus": len(os.sched_getaffinity(0)), "memory_gb": mem_gb,
            "kernel": re.match(r"[\d.]*\d", platform.release()).group(0),
            "commit": git, "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")}


def _fmt(value, digits):
    if value is None:
        return "-"
    return f"{value:,.0f}" if digits == 0 else f"{value:.{digits}f}"


def summarise(runs, targets):
    """{target: {metric: median}} of one workload's runs; runs is a list of {target: result}, one per round."""
    out = {}
    for t in targets:
        rows = [r[t] for r in runs if t in r and not r[t].get("error")]
        if rows:
            out[t] = {m: median([row.get(m) for row in rows]) for m in METRICS}
            out[t]["rounds"] = len(rows)
    return out


def ratio(runs, a, b, metric):
    """(median, lowest, highest) of a/b over the rounds in which both ran; None when there are none."""
    values = []
    for r in runs:
        x, y = r.get(a, {}), r.get(b, {})
        if x.get("error") or y.get("error") or not x.get(metric) or not y.get(metric):
            continue
        values.append(x[metric] / y[metric])
    return (median(values), min(values), max(values)) if values else None


def steal(doc):
    """[median, highest] share of the CPUs that the machine's host gave to others during the runs, in percent."""
    values = [r["steal_percent"] for w in doc["workloads"].values() for rnd in w["runs"] for r in rnd.values()]
    return [median(values), max(values)] if values else [0, 0]


def markdown(doc):
    env, lines = doc["environment"], []
    lines += ["# pgweir benchmark", "",
              f"{env['date']}, commit {env['commit']}. {env['cpu']}, {env['cpus']} CPUs, {env['memory_gb']} GB, Linux {env['kernel']}; "
              f"CPU pinning: {env['pinning']}; load before the run {env['load']}; "
              f"CPU time taken by the machine's host during the runs: median {doc['steal'][0]:.1f} %, at most {doc['steal'][1]:.1f} %.",
              "Versions: " + ", ".join(f"{k} {v}" for k, v in doc["versions"].items() if v) + ".",
              f"pgbench scale {doc['scale']}, pool of {doc['pool']}, {doc['rounds']} rounds of {doc['seconds']} s in alternation; "
              "medians. Proxy CPU is the on-CPU time of its threads (its processes, where it forks); server CPU is that of the "
              "primary and the replica together. fsync is off. Only ratios within one run carry over to another machine; "
              "with few rounds, ratios between 0.92 and 1.08 are no result.", ""]
    if float(env["load"]) > env["cpus"] / 2:
        lines += ["**The machine was busy with other things: these figures say little.**", ""]
    for name, w in doc["workloads"].items():
        lines += [f"## {w['title']} (`{name}`, {w['clients']} clients)", "",
                  "| target | " + " | ".join(h for h, _ in METRICS.values()) + " |", "|---|" + "--:|" * len(METRICS)]
        for t, row in w["summary"].items():
            lines.append(f"| {t} | " + " | ".join(_fmt(row[m], d) for m, (_, d) in METRICS.items()) + " |")
        lines.append("")
        for r in w["ratios"]:
            lines.append(f"- {r['a']} / {r['b']}: " + ", ".join(
                f"{METRICS[m][0]} **{v[0]:.3f}** [{v[1]:.2f} .. {v[2]:.2f}]" for m, v in r["metrics"].items()))
        for t, why in w["skipped"].items():
            lines.append(f"- skipped: {t}: {why}")
        for e in w["errors"]:
            lines.append(f"- ERROR: {e}")
        lines.append("")
    if doc["judgements"]:
        lines += ["## Targets", "", "| target | wanted | measured | |", "|---|---|--:|---|"]
        lines += [f"| {j['what']} | {j['wanted']} | {_fmt(j['value'], 3)} | {j['verdict']} |" for j in doc["judgements"]]
        lines.append("")
    lines.append(f"Skipped: {doc['skipped_rows']} rows. Errors: {doc['error_rows']}.")
    return "\n".join(lines) + "\n"


def _colour(target, spare):
    if target in COLOURS:
        return COLOURS[target]
    return spare.setdefault(target, SPARE_COLOURS[len(spare) % len(SPARE_COLOURS)])


def bars(doc, metric, title, note):
    """Horizontal bars, a group per workload, each group on its own scale (what matters is the ratio within a group)."""
    groups = [(w["title"], [(t, row[metric]) for t, row in w["summary"].items() if row.get(metric)])
              for w in doc["workloads"].values()]
    groups = [g for g in groups if g[1]]
    if not groups:
        return None
    left, width, bar, gap, top = 110, 560, 17, 30, 62
    height = top + sum(gap + bar * len(rows) for _, rows in groups) + 16
    spare = {}
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 110} {height}" '
           'font-family="system-ui, sans-serif" font-size="12">',
           f'<rect width="100%" height="100%" fill="#ffffff"/><text x="14" y="26" font-size="17" font-weight="600">'
           f'{html.escape(title)}</text><text x="14" y="45" fill="#666666">{html.escape(note)}</text>']
    y = top
    for name, rows in groups:
        out.append(f'<text x="14" y="{y + 14}" font-weight="600">{html.escape(name)}</text>')
        y += 20
        most = max(v for _, v in rows)
        for t, v in rows:
            w = max(1, width * v / most)
            label = f"{v:,.0f}" if v >= 1000 else f"{v:.2f}"
            out.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end" fill="#333333">{html.escape(t)}</text>'
                       f'<rect x="{left}" y="{y + 2}" width="{w:.1f}" height="{bar - 4}" rx="2" fill="{_colour(t, spare)}"/>'
                       f'<text x="{left + w + 6:.1f}" y="{y + 12}" fill="#333333">{label}</text>')
            y += bar
        y += gap - 20
    out.append("</svg>")
    return "\n".join(out) + "\n"


PLOTS = (
    ("tps", "tps.svg", "Throughput", "transactions per second, more is better; each group has its own scale"),
    ("p99_ms", "p99.svg", "Latency, 99th percentile", "milliseconds, less is better; each group has its own scale"),
    ("proxy_us", "proxy-cpu.svg", "The proxy's own CPU", "microseconds per transaction, less is better; each group has its own scale"),
    ("server_us", "server-cpu.svg", "The servers' CPU",
     "microseconds per transaction, primary and replica, less is better; each group has its own scale"),
)


def write(doc, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(doc, indent=1) + "\n", encoding="utf-8")
    (folder / "bench.md").write_text(markdown(doc), encoding="utf-8")
    for metric, name, title, note in PLOTS:
        svg = bars(doc, metric, title, note)
        if svg:
            (folder / name).write_text(svg, encoding="utf-8")
