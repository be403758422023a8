#!/usr/bin/env python3
"""Each header compiles alone, and its guard is its path: include/wire/frame.h has WIRE_FRAME_H."""
import concurrent.futures
import re
import shlex
import subprocess

from source import TOP, c_files, finish, layer, relative

PACKAGES = ["libevent_core", "libssl", "libcrypto", "libpq", "libprotobuf-c", "libxxhash", "jansson", "libidn"]
FLAGS = ["-std=gnu17", "-D_GNU_SOURCE", "-DPGWEIR_TEST_BUILD", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c"]


def compile_alone(header, flags):
    done = subprocess.run(["gcc", *FLAGS, *flags, "-I", str(TOP / "include"), "-I", str(header.parent),
                           "-include", str(header), "/dev/null"], capture_output=True, text=True)
    return None if done.returncode == 0 else f"{relative(header)} does not compile alone:\n{done.stderr.strip()[:2000]}"


def guard(header):
    wanted = re.sub(r"[^A-Z0-9]", "_", f"{layer(header)}/{header.name}".upper())
    return None if f"#ifndef {wanted}\n" in header.read_text() else f"{relative(header)}: the guard should be {wanted}"


def main():
    flags = shlex.split(subprocess.run(["pkg-config", "--cflags", *PACKAGES], capture_output=True, text=True,
                                       check=True).stdout)
    headers = [p for p in c_files() if p.suffix == ".h"]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        problems = [p for p in pool.map(lambda h: compile_alone(h, flags), headers) if p]
    problems += [p for p in map(guard, headers) if p]
    finish("headers", problems, f"{len(headers)} headers")


main()
