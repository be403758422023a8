#!/usr/bin/env python3
"""make test-mutants: takes each rule of base/rules.h out in turn and wants its tests to fail.

    run-mutants.py [RULE...]        default: all

A rule's tests are those named test_rule_<id>_..., in the unit tests and in the integration tests.  They must pass as the
program is, and at least one of them must fail with PGWEIR_BREAK=<id>: a rule whose test cannot fail is not tested."""
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[1]
VARIANT = "asan"
UNIT_LINE = re.compile(rb"^\[ +(OK|FAILED) +\] (test_rule_\w+)", re.M)
REPORT_LINE = re.compile(r"^(PASSED|FAILED|ERROR) \S+::(test_rule_\w+)", re.M)


def rules():
    text = (TOP / "include" / "base" / "rules.h").read_text()
    listing = re.search(r"#define RULES\(X\)((?:.*\\\n)*.*)", text).group(1)
    return [name.lower() for name in re.findall(r"X\((\w+)\)", listing)]


def sources(rule):
    """Files that hold tests of a rule: unit programs' sources, integration modules."""
    name = re.compile(rf"\btest_rule_{rule}_\w+")
    unit = [p for p in sorted((TOP / "tests" / "unit").glob("*/test_*.c")) if name.search(p.read_text())]
    python = [p for p in sorted((TOP / "tests" / "integration").glob("test_*.py")) if name.search(p.read_text())]
    return unit, python


def environment(broken):
    options = {**os.environ, "PGWEIR_BUILD": VARIANT, "CMOCKA_MESSAGE_OUTPUT": "STDOUT"}
    options.pop("PGWEIR_BREAK", None)
    return {**options, "PGWEIR_BREAK": broken} if broken else options


def run_unit(source, rule, broken):
    """{test: passed?}; a program that dies has failed the test that it was in."""
    program = TOP / "build" / VARIANT / "unit" / source.parent.name / source.stem
    done = subprocess.run([program], capture_output=True, cwd=TOP, env=environment(broken), timeout=300, check=False)
    output = done.stdout + done.stderr
    results = {name.decode(): word == b"OK" for word, name in UNIT_LINE.findall(output)}
    started = [name.decode() for name in re.findall(rb"^\[ RUN +\] (test_rule_\w+)", output, re.M)]
    results.update({name: False for name in started if name not in results})
    return {name: good for name, good in results.items() if name.startswith(f"test_rule_{rule}_")}


def run_python(modules, rule, broken):
    """{test: passed?}, a parametrised test counting as one.  Without the rule the first failure is enough: many of these
    tests wait a minute for what then never comes."""
    command = [TOP / "build" / "venv" / "bin" / "python", "-B", "-m", "pytest", "-c", TOP / "tests" / "pytest.ini", "-q", "-rA",
               "--tb=no", "-k", f"test_rule_{rule}_", *(["-x"] if broken else []), *modules]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOP, env=environment(broken), timeout=1200, check=False)
    results = {}
    for word, name in REPORT_LINE.findall(done.stdout):
        results[name] = results.get(name, True) and word == "PASSED"
    return results


def run(rule, broken):
    unit, python = sources(rule)
    results = {}
    for source in unit:
        results.update(run_unit(source, rule, broken))
    if python:
        results.update(run_python(python, rule, broken))
    return results


def judge(rule):
    """What is wrong with the tests of a rule, or None."""
    whole = run(rule, "")
    if not whole:
        return "has no test"
    if not all(whole.values()):
        return "fails as it is: " + ", ".join(name for name, good in whole.items() if not good)
    broken = run(rule, rule)
    caught = [name for name in whole if broken.get(name) is False]
    if not caught:
        return "no test notices when it is taken out: " + ", ".join(whole)
    print(f"mutants: {rule} is noticed by {', '.join(caught)}, perhaps by more", flush=True)
    return None


def main():
    subprocess.run(["make", "-s", f"-j{os.cpu_count()}", f"SAN={VARIANT}", "all", "unit-programs"], cwd=TOP, check=True)
    wanted = [rule.lower() for rule in sys.argv[1:]] or rules()
    failed = 0
    for rule in wanted:
        problem = judge(rule)
        if problem:
            failed += 1
            print(f"FAILED mutants: {rule} {problem}", flush=True)
    print(f"mutants: {len(wanted) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
