#!/usr/bin/env bash
# make test-long: what takes too long for CI, on the release build unless said.
#
#   run-long.sh [PART...]    parts: mutants long checker memory tsan valgrind fuzz regress pipeline pgtools asyncpg docker
#
# LONG_FUZZ_SECONDS (600) for each fuzzer.  The conformance suites run directly and through pgweir and fail where the
# proxy breaks what passes directly; they keep their files in $CONF.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
cd "$TOP" || exit 1
PARTS=("$@")
[ ${#PARTS[@]} -gt 0 ] || PARTS=(mutants long checker memory tsan valgrind fuzz regress pipeline pgtools asyncpg docker)
RESULTS=$BUILD_DIR/test-results
export CONF=${CONF:-/tmp/pgweir-conf}
export PRIMARY_PORT=${PRIMARY_PORT:-7001} STANDBY_PORT=${STANDBY_PORT:-7002}
export ADMIN_PORT=$PRIMARY_PORT
PROXY_PORT=${PROXY_PORT:-7031}
mkdir -p "$RESULTS"

part_docker() { tests/docker/run.sh; }

part_mutants() { tests/run-mutants.py; }

# Integration tests marked long, which say themselves what build they want.
part_long() {
	make -s -j"$(nproc)" all && make -s -j"$(nproc)" SAN=asan all || return 1
	"$VENV/bin/python" -B -m pytest -c tests/pytest.ini --junitxml="$RESULTS/long.xml" -q -m long tests/integration
	"$VENV/bin/python" -B tests/junit_counts.py long $? "$RESULTS/long.xml"
}

# The checker of histories, for ten minutes instead of seconds.
part_checker() {
	make -s -j"$(nproc)" SAN=asan all || return 1
	PGWEIR_CHECKER_SECONDS="${LONG_CHECKER_SECONDS:-600}" "$VENV/bin/python" -B -m pytest -c tests/pytest.ini \
		--junitxml="$RESULTS/checker.xml" -q --timeout=1200 tests/integration/test_checker.py
	"$VENV/bin/python" -B tests/junit_counts.py checker $? "$RESULTS/checker.xml"
}

# All integration tests once with ThreadSanitizer, not only those that cross threads on purpose.
part_tsan() {
	make -s -j"$(nproc)" all && make -s -j"$(nproc)" SAN=tsan all || return 1 # some tests want the release build by name
	PGWEIR_BUILD=tsan "$VENV/bin/python" -B -m pytest -c tests/pytest.ini --junitxml="$RESULTS/long-tsan.xml" -q \
		-n 2 --dist loadgroup -m "not long and not valgrind" tests/integration
	"$VENV/bin/python" -B tests/junit_counts.py tsan $? "$RESULTS/long-tsan.xml"
}

# 1 GiB by COPY in, COPY out, to a slow reader and as one row, plain and over TLS: less than 1 MiB of memory for any.
part_memory() {
	make -s -j"$(nproc)" all || return 1
	# What it says of misses is counted below, from its file and no older one; without a file that fails.
	rm -rf "$RESULTS/memory"
	"$VENV/bin/python" -B bench/memory.py --targets pgweir --out "$RESULTS/memory" || true
	"$VENV/bin/python" -B - "$RESULTS/memory/memory.json" <<-'PY'
		import json, sys
		found = json.load(open(sys.argv[1], encoding="utf-8"))
		cases = sum(len(rows) for rows in found["large"].values())
		print(f"memory: {cases - found['missed']} passed, {found['missed'] + (cases != 8)} failed, 0 skipped")
	PY
}

# No leak after a thousand connections, by valgrind on the debug build.
part_valgrind() {
	make -s -j"$(nproc)" SAN=debug all || return 1
	"$VENV/bin/python" -B -m pytest -c tests/pytest.ini --junitxml="$RESULTS/valgrind.xml" -q -m valgrind tests/integration
	"$VENV/bin/python" -B tests/junit_counts.py valgrind $? "$RESULTS/valgrind.xml"
}

part_fuzz() { make -s -j"$(nproc)" fuzz FUZZ_SECONDS="${LONG_FUZZ_SECONDS:-600}"; }

# --- conformance: suites of others against the servers of cluster.sh ---

# The proxy as those suites want it: any database, any role, trust; ten connections for a database, and for sixty sessions more
# one of their own while they have state that cannot be moved.
start_pgweir() {
	local folder=$CONF/run/pgweir tries=0
	mkdir -p "$folder"
	cat >"$folder/pgweir.ini" <<-INI
		[databases]
		* = host=127.0.0.1,127.0.0.1 port=$PRIMARY_PORT,$STANDBY_PORT auth_user=postgres
		[pgweir]
		listen_addr = 127.0.0.1
		listen_port = $PROXY_PORT
		unix_socket_dir =
		auth_type = any
		pool_mode = transaction
		max_client_conn = 300
		consistency = session
		default_pool_size = 10
		max_pinned = 60
		monitor_user = postgres
		workers = auto
	INI
	[ "$(id -u)" != 0 ] || chown -R postgres "$folder"
	local program=$TOP/build/pgweir
	as_server test -x "$program" || { cp "$program" "$folder/pgweir" && chmod 755 "$folder/pgweir" && program=$folder/pgweir; }
	"${AS_SERVER[@]}" "$program" "$folder/pgweir.ini" >"$folder/log" 2>&1 </dev/null &
	PROXY_PID=$!
	until psql -XAtqh 127.0.0.1 -p "$PROXY_PORT" -U postgres -d postgres -c 'select 1' >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ $tries -lt 150 ] || { tail "$folder/log"; return 1; }
		sleep 0.2
	done
}

stop_pgweir() {
	kill -INT "$PROXY_PID" && wait "$PROXY_PID"
}

# What a suite still has to do while its servers and pgweir run.
AFTER_SUITE=true

# conformance SUITE: directly, then through pgweir, each on a fresh cluster; what broke is a failure.
conformance() {
	local suite=$1 log=$CONF/log broken passed status
	make -s -j"$(nproc)" all || return 1
	tests/conformance/get-pg.sh || return 1
	tests/conformance/cluster.sh fresh && "tests/conformance/run-$suite.sh" 127.0.0.1 "$PRIMARY_PORT" direct || return 1
	tests/conformance/cluster.sh fresh && start_pgweir || return 1
	"tests/conformance/run-$suite.sh" 127.0.0.1 "$PROXY_PORT" pgweir
	"$AFTER_SUITE"
	stop_pgweir
	status=$?
	tests/conformance/cluster.sh stop
	tests/conformance/compare.sh "$suite" pgweir
	broken=$(cat "$log/$suite.pgweir.broken" "$log/$suite.pgweir.missing" | sort -u | wc -l)
	passed=$(comm -12 <(sort -u "$log/$suite.direct.ok") <(sort -u "$log/$suite.pgweir.ok") | wc -l)
	[ $status = 0 ] || { echo "FAILED pgweir ended with status $status"; broken=$((broken + 1)); }
	sed 's/^/FAILED /' "$log/$suite.pgweir.broken"
	counts "$suite" "$passed" "$broken" 0
	[ "$broken" = 0 ]
}

# The regression suite is also the judge of routing: by the standby's log, what it refused.  While the suite runs, its DDL
# keeps most reads on the primary; so afterwards each of its queries is sent once more.
replay_queries() { "$VENV/bin/python" -B tests/refusals.py replay "$CONF/run/p.log" "$PROXY_PORT" regression; }

part_regress() {
	local status
	export EXTRA_CONF="log_statement = all
log_line_prefix = '%m [%p] %e %d %a|'"
	AFTER_SUITE=replay_queries
	conformance regress
	status=$?
	AFTER_SUITE=true
	unset EXTRA_CONF
	"$VENV/bin/python" -B tests/refusals.py judge "$CONF/run/s.log" "$CONF/run/p.log" && return $status
}
part_pipeline() { conformance pipeline; }
part_pgtools() { conformance pgtools; }
part_asyncpg() { VENV=$VENV tests/conformance/get-asyncpg.sh && conformance asyncpg; }

tests/deps.sh long || exit 1
for part in "${PARTS[@]}"; do
	say "== $part"
	"part_$part" </dev/null 2>&1 | tee "$RESULTS/long-$part.log"
	[ "${PIPESTATUS[0]}" = 0 ] || grep -qE ': [0-9]+ passed, [1-9][0-9]* failed' "$RESULTS/long-$part.log" ||
		counts "$part-exit" 0 1 0 | tee -a "$RESULTS/long-$part.log"
done
for part in "${PARTS[@]}"; do cat "$RESULTS/long-$part.log"; done |
	sed -nE 's/^[a-z-]+: ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' |
	awk '{p += $1; f += $2; s += $3} END {printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 || p == 0}'
