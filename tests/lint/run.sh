#!/usr/bin/env bash
# make lint: runs each lint and counts them.  A lint ends with 0 (ok), 77 (cannot be judged here) or anything else.
set -uo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$TOP/tests/lint" || exit 1
passed=0 failed=0 skipped=0
for lint in layers headers functions banned symbols tree docs format; do
	python3 -B "./$lint.py"
	case $? in
	0) passed=$((passed + 1)) ;;
	77) skipped=$((skipped + 1)) ;;
	*) failed=$((failed + 1)) ;;
	esac
done
counts lint $passed $failed $skipped
[ $failed = 0 ]
