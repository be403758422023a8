"""What a run costs: CPU of processes from the scheduler, memory from smaps, latencies from pgbench's own log."""
import glob
import os
import pathlib
import re
import subprocess
import time

from . import cluster

_TICK = os.sysconf("SC_CLK_TCK")


def _read(path):
    try:
        return pathlib.Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def threads_cpu_us(pid):
    """On-CPU time of all threads of one process, in microseconds (nanosecond counters of the scheduler)."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        text = _read(path)
        if text:
            total += int(text.split()[0])
    return total / 1000


def by_thread_us(pid):
    """{name: on-CPU time} of the threads of one process, those of one name together."""
    out = {}
    for path in glob.glob(f"/proc/{pid}/task/*"):
        name, text = _read(f"{path}/comm").strip(), _read(f"{path}/schedstat")
        if text:
            out[name] = out.get(name, 0) + int(text.split()[0]) / 1000
    return out


def reaped_cpu_us(pid):
    """CPU of the children that this process has already waited for."""
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return 0
    fields = text.rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) * 1e6 / _TICK


def children(pid):
    kids = []
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        kids += [int(p) for p in _read(path).split()]
    return kids


def tree_cpu_us(pid):
    """A server and its children, those that have come and gone included.

    A child that is reaped between the look at its parent's total and the look at itself would be lost (after a run many
    are): looked at again until nothing changed in between.
    """
    while True:
        reaped, kids = reaped_cpu_us(pid), children(pid)
        total = threads_cpu_us(pid) + reaped + sum(tree_cpu_us(kid) for kid in kids)
        if reaped == reaped_cpu_us(pid) and set(children(pid)) == set(kids):
            return total
        time.sleep(0.01)


def tree(pid):
    return [pid] + [p for kid in children(pid) for p in tree(kid)]


def machine_ticks():
    """(all, stolen) ticks of the machine's CPUs so far; stolen ones went to other guests of its host."""
    fields = [int(n) for n in _read("/proc/stat").splitlines()[0].split()[1:9]]
    return sum(fields), fields[7]


def steal_percent(before, after):
    return 100 * (after[1] - before[1]) / max(1, after[0] - before[0])


def memory_kb(pid):
    """{'rss', 'pss', 'peak'} of one process, in kB."""
    out = {"rss": 0, "pss": 0, "peak": 0}
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        name, _, rest = line.partition(":")
        if name in ("Rss", "Pss"):
            out[name.lower()] = int(rest.split()[0])
    m = re.search(r"VmHWM:\s+(\d+)", _read(f"/proc/{pid}/status"))
    out["peak"] = int(m.group(1)) if m else 0
    return out


def tree_memory_kb(pid):
    parts = [memory_kb(p) for p in tree(pid)]
    return {k: sum(p[k] for p in parts) for k in ("rss", "pss", "peak")}


def percentile(sorted_values, p):
    if not sorted_values:
        return None
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * p / 100))]


def median(values):
    values = sorted(v for v in values if v is not None)
    if not values:
        return None
    mid = len(values) // 2
    return values[mid] if len(values) % 2 else (values[mid - 1] + values[mid]) / 2


def _latencies_ms(prefix):
    values = []
    for path in glob.glob(f"{prefix}.*"):
        with open(path, encoding="ascii") as f:
            for line in f:
                fields = line.split(" ", 3)
                if fields[2].isdigit():
                    values.append(int(fields[2]) / 1000)
        os.unlink(path)
    values.sort()
    return values


def pgbench(conn, work, seconds, logdir, sampling, while_running=None, transactions=None):
    """One pgbench run. Returns the numbers, with 'error' set when any transaction failed or pgbench complained.

    while_running() is called once, after four fifths of the time, with the clients connected.
    """
    prefix = pathlib.Path(logdir) / f"log-{time.monotonic_ns()}"
    cmd = [cluster.PG_BIN / "pgbench", "-n", "-M", work.mode, "-c", work.clients, "-j", work.threads, *work.script]
    cmd += ["-t", transactions] if transactions else ["-T", seconds]
    if sampling:
        cmd += ["-l", f"--log-prefix={prefix}"] + ([f"--sampling-rate={sampling}"] if sampling < 1 else [])
    if work.connect:
        cmd.append("-C")
    env = cluster.clean_env()
    if work.scram:
        env["PGPASSWORD"] = cluster.SCRAM_PASSWORD
    proc = subprocess.Popen([str(c) for c in cmd + [conn]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
                            env=env)
    limit = (seconds or 0) + 120
    if while_running:
        time.sleep(seconds * 0.8)
        while_running()
    try:
        out, err = proc.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        proc.kill()
        proc.communicate()
        return {"error": f"pgbench did not end within {limit} s", "tps": None, "transactions": 0}
    res = {"transactions": 0, "tps": None, "failed": 0, "error": None}
    m = re.search(r"number of transactions actually processed: (\d+)", out)
    if m:
        res["transactions"] = int(m.group(1))
    m = re.search(r"number of failed transactions: (\d+)", out)
    if m:
        res["failed"] = int(m.group(1))
    m = re.search(r"tps = ([\d.]+)", out)
    if m:
        res["tps"] = float(m.group(1))
    complaints = [ln for ln in err.splitlines() if "error" in ln.lower() or "fatal" in ln.lower() or "aborted" in ln.lower()]
    if proc.returncode or res["failed"] or complaints:
        res["error"] = (complaints or err.splitlines() or [f"exit status {proc.returncode}"])[0]
    if sampling:
        lat = _latencies_ms(prefix)
        for p in (50, 95, 99):
            res[f"p{p}_ms"] = percentile(lat, p)
    return res
