#!/usr/bin/env python3
"""Include layers: a file includes headers of a lower rank or of its own folder only, spelled "layer/name.h".

The five folders of rank 1 are peers and never include each other.  Some libraries belong to one layer."""
import re

from source import RANKS, TOP, c_files, finish, layer, relative

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.M)
LIBRARY_HOME = {
    "libpq-fe.h": {"cluster", "conf"},
    "pg_query.h": {"sql"},
    "ini.h": {"conf"},
    "event2/http.h": {"control"},
}


def included(path):
    """(line number, quote character, header) of each include of a file."""
    text = path.read_text()
    return [(text.count("\n", 0, m.start()) + 1, m.group(1), m.group(2)) for m in INCLUDE.finditer(text)]


def verdict(path, quote, header):
    """What is wrong with one include, or None."""
    own = layer(path)
    if quote == "<":
        home = LIBRARY_HOME.get(header)
        return f"<{header}> belongs to {', '.join(sorted(home))}" if home and own not in home else None
    if "/" not in header:
        return None if (path.parent / header).is_file() else f'"{header}" does not name its layer'
    other = header.split("/")[0]
    if other not in RANKS:
        return f'"{header}" is of no layer'
    if other != own and RANKS[other] >= RANKS[own]:
        return f'{own} (rank {RANKS[own]}) includes "{header}" (rank {RANKS[other]})'
    return None


def cycles(headers):
    """Headers that include themselves by way of others."""
    graph = {h: [TOP / "include" / name for _, quote, name in included(h) if quote == '"'] for h in headers}
    found, done = [], set()

    def walk(header, path):
        if header in path:
            found.append(" -> ".join(relative(h) for h in path[path.index(header):] + [header]))
        elif header not in done:
            for other in graph.get(header, []):
                walk(other, path + [header])
            done.add(header)

    for header in graph:
        walk(header, [])
    return found


def main():
    problems = []
    for path in c_files():
        if layer(path) not in RANKS:
            problems.append(f"{relative(path)}: no such layer")
            continue
        for line, quote, header in included(path):
            wrong = verdict(path, quote, header)
            if wrong:
                problems.append(f"{relative(path)}:{line}: {wrong}")
    problems += [f"include cycle: {cycle}" for cycle in cycles([p for p in c_files() if p.suffix == ".h"])]
    finish("layers", problems)


main()
