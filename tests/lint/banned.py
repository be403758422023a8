#!/usr/bin/env python3
"""Calls that we do not make, and words that unfinished code has."""
import re

from source import c_files, finish, layer, relative, without_comments_and_literals

CALLS = {
    "strcpy": "no bound", "strcat": "no bound", "sprintf": "no bound", "vsprintf": "no bound", "gets": "no bound",
    "strncpy": "may leave no NUL", "strncat": "bound is easily wrong", "atoi": "no error", "atol": "no error",
    "atoll": "no error", "strtok": "hidden state", "rand": "predictable", "random": "predictable",
    "alloca": "stack by input", "system": "shell", "popen": "shell", "localtime": "hidden state", "gmtime": "hidden state",
}
ALLOCATION = ("malloc", "calloc", "realloc", "free", "strdup", "strndup", "asprintf", "vasprintf")
CALL = re.compile(r"(?<![\w.>])(" + "|".join([*CALLS, *ALLOCATION]) + r")\s*\(")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|\bnot implemented\b|\bstub\b|\bfor now\b", re.I)
# Memory that a library allocated has to go back by free(): a comment on that line says so.
LIBRARY_MEMORY = "allocated by"


def main():
    problems = []
    for path in c_files():
        text = path.read_text()
        lines = text.split("\n")
        for number, line in enumerate(lines, 1):
            found = UNFINISHED.search(line)
            if found:
                problems.append(f"{relative(path)}:{number}: says {found.group()!r}")
        code = without_comments_and_literals(text)
        for match in CALL.finditer(code):
            number = code.count("\n", 0, match.start()) + 1
            name = match.group(1)
            if name in CALLS:
                problems.append(f"{relative(path)}:{number}: {name}(): {CALLS[name]}")
            elif layer(path) != "base" and LIBRARY_MEMORY not in lines[number - 1]:
                problems.append(f"{relative(path)}:{number}: {name}(): use mem_* (or say 'allocated by LIBRARY' there)")
    finish("banned", problems)


main()
