#!/usr/bin/env bash
# run-fuzz.sh SECONDS FUZZER...: runs each fuzzer for so long, two at a time.  Starts from tests/fuzz/corpus/NAME (kept
# in the repository, read only) and tests/fuzz/NAME.dict where they exist; what a run discovers stays under build/.
# A finding is left in build/fuzz/findings, with its name printed.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
SECONDS_EACH=$1
shift
WORK=$BUILD_DIR/fuzz
FINDINGS=$WORK/findings
mkdir -p "$FINDINGS"

run_one() {
	local name corpus=() dict=()
	name=$(basename "$1")
	name=${name#fuzz_}
	mkdir -p "$WORK/corpus/$name"
	[ -d "$TOP/tests/fuzz/corpus/$name" ] && corpus=("$TOP/tests/fuzz/corpus/$name")
	[ -f "$TOP/tests/fuzz/$name.dict" ] && dict=("-dict=$TOP/tests/fuzz/$name.dict")
	timeout -k 10 $((SECONDS_EACH + 60)) "$1" "-max_total_time=$SECONDS_EACH" -timeout=20 -rss_limit_mb=2048 \
		-print_final_stats=1 "-artifact_prefix=$FINDINGS/$name-" "${dict[@]}" "$WORK/corpus/$name" "${corpus[@]}" \
		>"$WORK/$name.log" 2>&1 </dev/null
	echo $? >"$WORK/$name.status"
}

for fuzzer in "$@"; do
	while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
	run_one "$fuzzer" &
done
wait

passed=0 failed=0
for fuzzer in "$@"; do
	name=$(basename "$fuzzer")
	name=${name#fuzz_}
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$WORK/$name.log")
	if [ "$(cat "$WORK/$name.status")" = 0 ] && [ "${runs:-0}" -gt 0 ]; then
		passed=$((passed + 1))
		echo "fuzz $name: $runs runs, no finding"
	else
		failed=$((failed + 1))
		echo "FAILED fuzz $name (exit status $(cat "$WORK/$name.status")), see build/fuzz/$name.log"
		grep -aE 'ERROR|SUMMARY|Test unit written' "$WORK/$name.log" | head -5 | sed 's/^/    /'
		tail -n 30 "$WORK/$name.log" | sed 's/^/    /'
	fi
done
counts fuzz $passed $failed 0
[ $failed = 0 ]
