#!/usr/bin/env python3
"""What a standby refused: the judge of routing, with PostgreSQL's own regression suite as the workload.

    refusals.py judge STANDBY_LOG PRIMARY_LOG   each shape at most one refusal, fewer than 1% of shapes any; else exit status 1
    refusals.py replay PRIMARY_LOG PORT DB      sends each query that the primary has logged once more, alone, to a proxy

The servers log with log_statement=all and LOG_PREFIX. A shape is a text without its literals, blanks and comments, as it is to
the proxy, whose workers learn a shape once for all. A refusal is 25006, 0A000, 55000 or XX000, also where the primary says the
same of that statement (these are counted apart as well); all else are errors of the statement itself. A standby that refuses
has cost time and nothing else: the proxy runs the statement again on the primary."""
import collections
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "integration"))
from harness import wire  # noqa: E402

LOG_PREFIX = "%m [%p] %e %d %a|"  # as run-long.sh sets it
REFUSALS = ("25006", "0A000", "55000", "XX000")
LIMIT_PERCENT = 1.0
LEAST_SHAPES = 300  # a suite that hardly reached the standby has shown nothing
LINE = re.compile(r"\d{4}-\d\d-\d\d \S+ \S+ \[(\d+)\] (\S{5}) (\S*) ([^|]*)\|(LOG|ERROR|FATAL|STATEMENT): +(.*)", re.S)
STATEMENT = re.compile(r"(?:statement|execute [^:]*|execute fetch from [^:]*): (.*)", re.S)
MONITOR = "pgweir-monitor"
# Replayed are queries: what writes would change what the rest sees, and these words would stop the run or last for ever.
QUERY = re.compile(r"\s*(select|values|table|with|explain|\(|copy\b.*\bto stdout)", re.I | re.S)
LEFT_OUT = re.compile(r"pg_sleep|pg_terminate_backend|pg_cancel_backend|pg_promote|pg_rotate_logfile|advisory|pg_switch_wal|\binto\b", re.I)


# A literal or a number; blanks and comments; all else is itself.
TOKEN = re.compile(r"""(?P<literal>[eEnNbBxX]?'(?:[^']|'')*'|\$(\w*)\$.*?\$\2\$|(?<![\w$])\d[\w.]*)|(?P<blank>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<quoted>"(?:[^"]|"")*")|(?P<word>\w+)|(?P<other>.)""", re.S | re.X)


def shape_of(text):
    parts = []
    for found in TOKEN.finditer(text):
        kind = found.lastgroup
        parts.append({"literal": "?", "blank": " "}.get(kind) or (found.group().lower() if kind == "word" else found.group()))
    return re.sub(" +", " ", "".join(parts)).strip(" ;")


def entries(path):
    """(pid, sqlstate, database, application, level, text) of a log; lines that go on begin with a tab."""
    text = pathlib.Path(path).read_text(errors="replace")
    for entry in re.split(r"\n(?!\t)", text):
        found = LINE.fullmatch(entry)
        if found and found.group(4) != MONITOR:
            yield (*found.groups()[:5], found.group(6).replace("\n\t", "\n"))


def errors(path):
    """(SQLSTATE, message, statement) of each error that a statement has met."""
    pending = {}
    for pid, sqlstate, _, _, level, text in entries(path):
        if level in ("ERROR", "FATAL"):
            pending[pid] = (sqlstate, text)
        elif level == "STATEMENT" and pid in pending:
            yield (*pending.pop(pid), text)


def judge(path, primary_path):
    texts = [found.group(1) for *_, level, text in entries(path) if level == "LOG" and (found := STATEMENT.fullmatch(text))]
    seen, refused, examples = set(map(shape_of, texts)), collections.Counter(), {}
    also = {(sqlstate, text) for sqlstate, _, text in errors(primary_path)}
    own = 0
    for sqlstate, message, text in errors(path):
        shape = shape_of(text)
        seen.add(shape)
        if sqlstate in REFUSALS:
            refused[shape] += 1
            own += (sqlstate, text) not in also
            examples.setdefault(shape, f"{sqlstate} {message}: {' '.join(text.split())[:160]}")
    often = [shape for shape, times in refused.items() if times > 1]
    percent = 100 * len(refused) / len(seen) if seen else 0
    print(f"standby: {len(texts)} statements of {len(seen)} shapes, {sum(refused.values())} refusals of {len(refused)} shapes "
          f"({percent:.2f}%), {len(often)} shapes more than once; {own} that the primary did not refuse as well")
    for shape, times in refused.most_common():
        print(f"  {times} x {examples[shape]}")
    problems = [f"shape refused {refused[shape]} times: {examples[shape]}" for shape in often]
    problems += [f"{percent:.2f}% of shapes refused"] if percent >= LIMIT_PERCENT else []
    problems += [f"only {len(seen)} shapes reached the standby"] if len(seen) < LEAST_SHAPES else []
    for problem in problems:
        print(f"FAILED refusals: {problem}")
    print(f"refusals: {len(seen) - len(refused)} passed, {len(problems)} failed, 0 skipped")
    return 1 if problems else 0


def replay(path, port, database):
    """Each distinct text once, in the order of the log, each on a connection of its own: some leave state, which pins."""
    texts = dict.fromkeys(STATEMENT.fullmatch(text).group(1) for _, _, where, _, level, text in entries(path)
                          if level == "LOG" and where == database and STATEMENT.fullmatch(text))
    wanted = [text for text in texts if QUERY.match(text) and not LEFT_OUT.search(text)]
    failed = 0
    for text in wanted:
        try:
            with wire.Connection.login(int(port), "postgres", database, options="-c statement_timeout=5s") as client:
                failed += bool(client.query(text, check=False).errors)
        except (wire.Closed, AssertionError, OSError):  # a COPY that waits for data, a session that is ended
            failed += 1
    print(f"replay: {len(wanted)} of {len(texts)} texts sent, {failed} with an error of their own")
    return 0


if __name__ == "__main__":
    sys.exit({"judge": judge, "replay": replay}[sys.argv[1]](*sys.argv[2:]))
