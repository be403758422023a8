#!/usr/bin/env bash
# run-unit.sh TEST...: runs cmocka programs, two at a time, each in its own process and with its own time limit, and
# ends with the sum of their tests.  A program that crashes, hangs or prints no result counts as one failure.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
LIMIT_SECONDS=${LIMIT_SECONDS:-120}
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:detect_stack_use_after_return=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
export LSAN_OPTIONS=${LSAN_OPTIONS:-suppressions=$TOP/tests/sanitizers/lsan.supp:print_suppressions=0}
export CMOCKA_MESSAGE_OUTPUT=STDOUT
cd "$TOP" || exit 1
if [ $# = 0 ]; then
	echo "no unit tests yet"
	counts unit 0 0 1
	exit 0
fi

run_one() {
	local out=$OUT/$(echo "$1" | tr / _) status
	timeout -k 5 "$LIMIT_SECONDS" "$1" >"$out" 2>&1 </dev/null
	status=$?
	echo "$status $1" >"$out.status"
}

for program in "$@"; do
	while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
	run_one "$program" &
done
wait

# summary WORD FILE: the number that cmocka gives at the end of each group, added up.
summary() { sed -nE "s/.*\\[ +$1 +\\] ([0-9]+) test\\(s\\).*/\\1/p" "$2" | awk '{n += $1} END {print n + 0}'; }

passed=0 failed=0 skipped=0
for program in "$@"; do
	out=$OUT/$(echo "$program" | tr / _)
	status=$(cut -d' ' -f1 "$out.status")
	p=$(summary PASSED "$out") f=$(summary FAILED "$out") s=$(summary SKIPPED "$out")
	if { [ "$status" != 0 ] && [ "$f" = 0 ]; } || [ $((p + f + s)) = 0 ]; then f=$((f + 1)); fi
	if [ "$f" -gt 0 ]; then
		echo "FAILED $program (exit status $status)"
		tail -n 60 "$out" | sed 's/^/    /'
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
counts unit $passed $failed $skipped
[ $failed = 0 ]
