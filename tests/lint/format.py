#!/usr/bin/env python3
"""C files are as clang-format leaves them (`make format`).  Versions differ in small things, so only the pinned one judges."""
import re
import shutil
import subprocess
import sys

from source import c_files, finish, relative

PINNED = 14


def main():
    tool = shutil.which(f"clang-format-{PINNED}") or shutil.which("clang-format")
    version = re.search(r"version (\d+)", subprocess.run([tool, "--version"], capture_output=True, text=True).stdout) \
        if tool else None
    if not version or int(version.group(1)) != PINNED:
        print(f"format: skipped, clang-format {PINNED} is not here")
        sys.exit(77)
    done = subprocess.run([tool, "--dry-run", *map(str, c_files())], capture_output=True, text=True)
    names = sorted({line.split(":")[0] for line in done.stderr.splitlines() if "warning: code should" in line})
    finish("format", [f"{name}: run make format" for name in (relative(p) for p in c_files() if str(p) in names)])


main()
