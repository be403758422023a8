#!/usr/bin/env python3
"""junit_counts.py NAME STATUS FILE.xml: prints the part's counts from pytest's report; exit status 1 if anything failed.

STATUS is pytest's own: a run that ended badly without a failed test (a crash, nothing collected) counts as a failure."""
import sys
import xml.etree.ElementTree as ElementTree


def count(path):
    passed = failed = skipped = 0
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed += 1
        elif "skipped" in kinds:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def main():
    name, status, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    try:
        passed, failed, skipped = count(path)
    except (OSError, ElementTree.ParseError) as error:
        print(f"{name}: no report: {error}")
        passed, failed, skipped = 0, 1, 0
    if status and not failed:
        failed = 1
    print(f"{name}: {passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


main()
