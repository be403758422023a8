#!/usr/bin/env python3
"""The tree as a whole: text files are tidy, scripts parse and are executable, nothing names one developer's machine."""
import ast
import os
import re
import subprocess

from source import TOP, finish, relative, tracked_files

MAX_BYTES = 1 << 20
BINARY = {".png", ".jpg", ".gif", ".ico", ".bin", ".woff2", ".gz"}
TABS_MATTER = {".tsv", ".diff", ".patch", ".md"}
# Spelled in pieces, or this file would find itself.
PLACES = re.compile(r"""(?:^|[\s=(:,\[`']|[\s=(:,\[`]")/(?:""" + "|".join(["wo" + "rk", "ro" + "ot", "ho" + "me/[a-z]", "Us" + "ers", "fa" + "rm"]) + r")/")
PEOPLE = re.compile(r"\bsub" + r"agent|helper " + r"session", re.I)
GENERATED = ("tests/fuzz/corpus/",)


def text_problems(path, text):
    name = relative(path)
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip() and path.suffix not in TABS_MATTER:
            yield f"{name}:{number}: space at the end of the line"
        if PLACES.search(line):
            yield f"{name}:{number}: a path of one machine: {line.strip()[:80]}"
        if PEOPLE.search(line):
            yield f"{name}:{number}: {line.strip()[:80]}"
    if "\r\n" in text and path.suffix not in TABS_MATTER:
        yield f"{name}: lines end with CR LF"
    if text and not text.endswith("\n"):
        yield f"{name}: no newline at the end"


def script_problems(path, text):
    name = relative(path)
    if text.startswith("#!") and not os.access(path, os.X_OK):
        yield f"{name}: has #! and is not executable"
    if path.suffix == ".sh" or re.match(r"#!.*\b(ba)?sh\b", text):
        done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
        if done.returncode:
            yield f"{name}: {done.stderr.strip()}"
    if path.suffix == ".py":
        try:
            ast.parse(text)
        except SyntaxError as error:
            yield f"{name}: {error}"


def main():
    problems = []
    for path in tracked_files():
        name = relative(path)
        if path.stat().st_size > MAX_BYTES:
            problems.append(f"{name}: larger than a megabyte")
        elif path.suffix not in BINARY and not name.startswith(GENERATED):
            try:
                text = path.read_text()
            except UnicodeDecodeError:
                problems.append(f"{name}: not UTF-8")
                continue
            problems += [*text_problems(path, text), *script_problems(path, text)]
    finish("tree", problems)


main()
