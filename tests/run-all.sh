#!/usr/bin/env bash
# make test: all that CI runs, from nothing, on a machine that may lack everything.
#
#   run-all.sh [PART...]     parts: lint unit fuzz integration tsan app speed docker (default: all but docker, in this order;
#                            docker, which builds images, is part of make test-long)
#
# Each part runs in a process of its own with a time limit and ends with "NAME: P passed, F failed, S skipped"; a part
# that ends badly without having counted a failure counts as one.  The last line is the sum.  FUZZ_SECONDS, JOBS and
# PYTEST_WORKERS can be set.  What a part printed stays in build/test-results, logs of failed tests in build/test-logs.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
cd "$TOP" || exit 1
declare -A LIMIT_SECONDS=([lint]=400 [unit]=600 [fuzz]=900 [integration]=1200 [tsan]=600 [app]=500 [speed]=600 [docker]=1500)
RESULTS=$BUILD_DIR/test-results
JOBS=${JOBS:-$(nproc)}
PYTEST_WORKERS=${PYTEST_WORKERS:-3}
export FUZZ_SECONDS=${FUZZ_SECONDS:-60}

# build VARIANT TARGET...: warnings are errors here.
build() {
	local variant=$1
	shift
	say "build $variant: $*"
	make -s -j"$JOBS" CI=1 SAN="$variant" "$@"
}

# The server and the tests need each other only from here on: no main, no binary, no integration tests.
have_program() { [ -f src/main.c ]; }

# The lints want the objects (for their symbols), but judge the rest also when those do not build; part_unit reports that.
part_lint() {
	build asan -k unit-programs >/dev/null 2>&1
	tests/lint/run.sh
}

part_unit() { build asan unit-programs && make -s CI=1 SAN=asan unit; }

part_fuzz() {
	# shellcheck disable=SC2046 # a list of words
	ls tests/fuzz/fuzz_*.c >/dev/null 2>&1 || { echo "no fuzzers yet"; counts fuzz 0 0 1; return 0; }
	make -s -j"$JOBS" fuzz
}

# pytest_part NAME PYTEST-ARGUMENT...: runs it and takes the counts from its own report.
pytest_part() {
	local name=$1 status
	shift
	"$VENV/bin/python" -B -m pytest -c tests/pytest.ini --junitxml="$RESULTS/$name.xml" -q "$@"
	status=$?
	"$VENV/bin/python" -B tests/junit_counts.py "$name" "$status" "$RESULTS/$name.xml"
}

part_integration() {
	have_program || { echo "no program yet"; counts integration 0 0 1; return 0; }
	build asan all && build release all || return 1
	PGWEIR_BUILD=asan pytest_part integration -n "$PYTEST_WORKERS" --dist loadgroup -m "not long and not valgrind" tests/integration
}

# ThreadSanitizer slows everything down tenfold: the tests marked `threads`, which cross workers on purpose.
part_tsan() {
	have_program || { echo "no program yet"; counts tsan 0 0 1; return 0; }
	build tsan all || return 1
	PGWEIR_BUILD=tsan pytest_part tsan -n "$PYTEST_WORKERS" --dist loadgroup -m "threads and not long and not valgrind" tests/integration
}

part_app() {
	have_program || { echo "no program yet"; counts app 0 0 1; return 0; }
	build release all || return 1
	"$VENV/bin/python" -B tests/app/run.py
}

# What a query costs, in instructions and system calls: bench/guard.py says how the saved figures are renewed.
part_speed() {
	have_program || { echo "no program yet"; counts speed 0 0 1; return 0; }
	build release all || return 1
	"$VENV/bin/python" -B bench/guard.py
}

part_docker() { tests/docker/run.sh; }

# run_part NAME: its output goes to the terminal and to a file, from which the sum is made.
run_part() {
	local name=$1 log=$RESULTS/$1.log began=$SECONDS status
	say "== $name"
	STARTED=$((STARTED - SECONDS)) timeout -k 30 "${LIMIT_SECONDS[$name]}" "$0" --part "$name" </dev/null 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	if ! grep -qE "^$name: [0-9]+ passed, " "$log"; then
		echo "FAILED $name gave no result (exit status $status; 124 is the time limit)"
		counts "$name" 0 1 0 | tee -a "$log"
	elif [ "$status" != 0 ] && grep -qE "^$name: [0-9]+ passed, 0 failed" "$log"; then
		echo "FAILED $name ended with status $status"
		counts "$name-exit" 0 1 0 | tee -a "$log"
	fi
	say "== $name took $((SECONDS - began)) s"
}

if [ "${1:-}" = --part ]; then
	"part_$2"
	exit
fi

PARTS=("$@")
[ ${#PARTS[@]} -gt 0 ] || PARTS=(lint unit fuzz integration tsan app speed)
rm -rf "$RESULTS" "$BUILD_DIR/test-logs"
mkdir -p "$RESULTS"
tests/deps.sh test || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }
for part in "${PARTS[@]}"; do run_part "$part"; done

say "== in all $((SECONDS - STARTED)) s"
cat "$RESULTS"/*.log | sed -nE 's/^[a-z-]+: ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' |
	awk '{p += $1; f += $2; s += $3} END {printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 || p == 0}'
