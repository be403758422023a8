#!/usr/bin/env python3
"""No global symbol of ours is also one of a library that we link.

libpg_query exports more than two thousand of PostgreSQL's internal names; a clash would silently swap functions.
Looks at the object files of build/VARIANT, which must have been built (symbols.py [VARIANT], default asan)."""
import re
import subprocess
import sys

from source import TOP, finish

LIBRARIES = re.compile(r"lib(pg_query|pq|event\w*|ssl|crypto|inih|protobuf-c|xxhash|jansson|idn|cmocka|systemd|c)[.-]")
PREFIXES = ("list_", "hash_", "parser_", "timer_", "clock_", "event_")
SANITIZER = ("__asan", "__ubsan", "__tsan", "__odr_asan", "_GLOBAL_")


def nm(*arguments):
    return subprocess.run(["nm", "--defined-only", "--format=posix", *arguments], capture_output=True, text=True,
                          check=True).stdout


def our_symbols(variant):
    found = {}
    for path in sorted((TOP / "build" / variant / "src").rglob("*.o")):
        if not (TOP / path.relative_to(TOP / "build" / variant).with_suffix(".c")).exists():
            continue
        for line in nm("--extern-only", str(path)).splitlines():
            name = line.split()[0]
            if not name.startswith(SANITIZER):
                found[name] = path.name
    return found


def library_symbols(binary):
    """Names that the shared libraries of the program export, by name of the library."""
    found = {}
    listing = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"=> (/\S+)", listing):
        if LIBRARIES.search(path):
            for line in nm("--dynamic", path).splitlines():
                found.setdefault(line.split()[0].split("@")[0], path.rsplit("/", 1)[-1])
    return found


def main():
    variant = sys.argv[1] if len(sys.argv) > 1 else "asan"
    binary = next((p for p in [TOP / "build" / variant / "pgweir", *sorted((TOP / "build" / variant / "unit").glob("*/*"))]
                   if p.is_file() and p.suffix == ""), None)
    ours = our_symbols(variant)
    if not ours or not binary:
        print(f"symbols: skipped, nothing is built in build/{variant}: make SAN={variant} unit first")
        sys.exit(77)
    theirs = library_symbols(binary)
    problems = [f"{name} ({ours[name]}) is also in {theirs[name]}" for name in sorted(ours)
                if name in theirs and name != "main"]
    problems += [f"{name} ({ours[name]}): prefix is PostgreSQL's or libevent's" for name in sorted(ours)
                 if name.startswith(PREFIXES)]
    finish("symbols", problems, f"{len(ours)} of ours against {len(theirs)} of libraries")


main()
