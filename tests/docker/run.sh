#!/usr/bin/env bash
# Builds docker/compose.yaml's images, starts them all, runs the application's tests in them, takes the replica away under
# load in three ways, and takes everything down again.
#
#   tests/docker/run.sh            KEEP=1: leave it running (prints how to stop it)
#
# Skipped, with the reason, where no docker engine answers. The images and volumes made here are removed at the end, the
# base image debian:trixie-slim stays. What the machine's apt is told (proxy, clock checks) is passed on to the builds.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$TOP"
LOG_DIR=$BUILD_DIR/docker
mkdir -p "$LOG_DIR"
passed=0 failed=0

skip() {
	say "docker: skipped: $1"
	counts docker 0 0 1
	exit 0
}

# check WHAT COMMAND...: a command of the smoke test, its output kept.
check() {
	local what=$1
	shift
	if "$@" >"$LOG_DIR/check.log" 2>&1; then
		passed=$((passed + 1))
		say "docker: ok: $what"
	else
		failed=$((failed + 1))
		say "docker: FAILED: $what"
		sed 's/^/    /' "$LOG_DIR/check.log" | tail -15
	fi
}

command -v docker >/dev/null || skip "no docker here"
timeout 20 docker info >/dev/null 2>&1 || skip "no docker engine answers"
if docker compose version >/dev/null 2>&1; then
	COMPOSE=(docker compose)
elif command -v docker-compose >/dev/null; then
	COMPOSE=(docker-compose)
	PARALLEL=--parallel # the plugin does so by itself
else
	skip "neither docker compose nor docker-compose"
fi
docker/make-base.sh >"$LOG_DIR/base.log" 2>&1 || skip "no base image: $(tail -1 "$LOG_DIR/base.log")"

export TAG=test-$$
export PGWEIR_PORT=${PGWEIR_PORT:-0} APP_PORT=${APP_PORT:-0} HTTP_PORT=${HTTP_PORT:-0} PROMETHEUS_PORT=${PROMETHEUS_PORT:-0}
export APP_PASSWORD=app_${RANDOM}_$RANDOM MONITOR_PASSWORD=monitor_$RANDOM REPLICATION_PASSWORD=replication_$RANDOM
APT_CONF=$(apt-config dump 2>/dev/null | grep -E '^Acquire::(https?::Proxy|Check-Date|Check-Valid-Until)' || true)
export APT_CONF
export COMPOSE_PROJECT_NAME=pgweirtest$$
compose() { "${COMPOSE[@]}" -f docker/compose.yaml "$@"; }

cleanup() {
	local status=$?
	if [ -n "${KEEP:-}" ]; then
		say "docker: left running; stop with: TAG=$TAG ${COMPOSE[*]} -p $COMPOSE_PROJECT_NAME -f docker/compose.yaml down -v --rmi all"
		return
	fi
	[ $status = 0 ] && [ $failed = 0 ] || compose logs --no-color >"$LOG_DIR/containers.log" 2>&1 || true
	if ! compose down -v >"$LOG_DIR/down.log" 2>&1; then
		say "docker: containers are left behind:"
		tail -3 "$LOG_DIR/down.log"
		status=1
	fi
	for image in pgweir pgweir-postgres pgweir-app pgweir-prometheus; do
		docker image rm -f "$image:$TAG" >>"$LOG_DIR/down.log" 2>&1 || true
	done
	# What a build leaves beside its image (the first stage, a step that failed); images with a name are not touched.
	docker container prune -f --filter label=org.pgweir.part >>"$LOG_DIR/down.log" 2>&1 || true
	docker image prune -f --filter label=org.pgweir.part >>"$LOG_DIR/down.log" 2>&1 || true
	exit $status
}
trap cleanup EXIT

# Where containers cannot check PyPI's certificate (a proxy in between), wheels made out here help; elsewhere they do no harm.
say "docker: wheels for the application"
python=3.13 # Debian 13's
rm -rf "$BUILD_DIR/wheels"
mkdir -p "$BUILD_DIR/wheels"
python3 -m pip download -q --disable-pip-version-check --only-binary=:all: --python-version "$python" \
	--platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 -d "$BUILD_DIR/wheels" -r tests/app/requirements.txt -r tests/app/requirements-test.txt \
	>"$LOG_DIR/wheels.log" 2>&1 || { say "docker: no wheels from here, images ask PyPI themselves"; rm -rf "$BUILD_DIR/wheels"; }

say "docker: building with ${COMPOSE[*]}"
if ! compose build ${PARALLEL:-} >"$LOG_DIR/build.log" 2>&1; then
	tail -25 "$LOG_DIR/build.log"
	say "docker: FAILED: build, see $LOG_DIR/build.log"
	counts docker 0 1 0
	exit 1
fi
say "docker: starting"
if ! compose up -d >"$LOG_DIR/up.log" 2>&1; then
	tail -5 "$LOG_DIR/up.log"
	say "docker: FAILED: up"
	failed=1
fi

# sql DATABASE SQL: through pgweir, with TLS and SCRAM, from the primary's container (it has psql)
sql() {
	compose exec -T -e PGPASSWORD="$APP_PASSWORD" primary psql -XAtq -v ON_ERROR_STOP=1 \
		"host=pgweir port=6432 dbname=$1 user=fastapi_user sslmode=require" -c "$2"
}

equals() {
	local wanted=$1 got
	shift
	got=$("$@") || return 1
	[ "$got" = "$wanted" ] || { echo "wanted \"$wanted\", got \"$got\""; return 1; }
}

refused() { ! "$@"; }

healthy() {
	local id=$1 i
	for i in $(seq 60); do
		[ "$(docker inspect -f '{{.State.Health.Status}}' "$id" 2>/dev/null)" = healthy ] && return 0
		sleep 1
	done
	docker inspect -f '{{json .State.Health}}' "$id"
	return 1
}

# http URL WORD: the answer contains the word
http() {
	python3 -c 'import sys, urllib.request as u
answer = u.urlopen(sys.argv[1], timeout=10).read().decode()
print(answer)
sys.exit(sys.argv[2] not in answer)' "$1" "$2"
}

# The part of the application's tests that needs no servers of its own, in its container, through pgweir.
app_tests() {
	compose exec -T primary psql -XAtq -v ON_ERROR_STOP=1 -h /tmp -U postgres -c "ALTER ROLE fastapi_user CREATEDB" \
		-c "DROP DATABASE IF EXISTS fastapi_test WITH (FORCE)" && compose exec -T app /venv/bin/python -m pytest -q -c pytest.ini tests/users
}

# Readers and writers through pgweir until load_ends; each transaction in a failed state would be counted by pgbench.
load_begins() {
	local script
	for script in read write; do
		compose exec -T -e PGPASSWORD="$APP_PASSWORD" -e PGSSLMODE=require primary sh -c \
			"pgbench -n -h pgweir -p 6432 -U fastapi_user -c 4 -T ${LOAD_SECONDS} -f - fastapi_dev" <"$LOG_DIR/$script.sql" \
			>"$LOG_DIR/load-$script.log" 2>&1 &
		load_pids+=($!)
	done
}
load_ends() {
	local pid log status=0
	for pid in "${load_pids[@]}"; do wait "$pid" || status=1; done
	load_pids=()
	for log in "$LOG_DIR"/load-{read,write}.log; do
		cat "$log"
		grep -q '^number of failed transactions: 0 ' "$log" && ! grep -qi 'error\|abort' "$log" || status=1
	done
	return $status
}
load_pids=()
LOAD_SECONDS=60
echo 'SELECT count(*) FROM smoke;' >"$LOG_DIR/read.sql"
echo 'INSERT INTO smoke VALUES (1); SELECT count(*) FROM smoke;' >"$LOG_DIR/write.sql"

replica_is() {
	local i
	for i in $(seq 60); do
		http_get "$page/metrics" | grep -q "^pgweir_server_up{.*host=\"replica\".*} $1" && return 0
		sleep 1
	done
	http_get "$page/metrics" | grep '^pgweir_server'
	return 1
}
http_get() { python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())' "$1"; }
replica_network() { docker network "$@" "${COMPOSE_PROJECT_NAME}_servers" "$(compose ps -q replica)"; }

if [ $failed = 0 ]; then
	for service in primary replica pgweir app; do
		check "$service is healthy" healthy "$(compose ps -q "$service")"
	done
	check "a write" sql fastapi_dev "CREATE TABLE smoke (n int); INSERT INTO smoke SELECT generate_series(1, 100)"
	check "a read after the write" equals 100 sql fastapi_dev "SELECT count(*) FROM smoke"
	check "an extension" equals 36 sql fastapi_dev "SELECT length(uuid_generate_v4()::text)"
	check "another extension, other database" equals t sql fastapi_test "SELECT gen_salt('bf') <> ''"
	check "a clear connection is refused" refused compose exec -T -e PGPASSWORD="$APP_PASSWORD" primary psql -XAtq \
		"host=pgweir port=6432 dbname=fastapi_dev user=fastapi_user sslmode=disable" -c "SELECT 1"
	check "a wrong password is refused" refused compose exec -T -e PGPASSWORD=wrong primary psql -XAtq \
		"host=pgweir port=6432 dbname=fastapi_dev user=fastapi_user sslmode=require" -c "SELECT 1"
	check "pgweir runs as an ordinary user" equals 6432 compose exec -T pgweir id -u
	check "its root file system is read-only" refused compose exec -T pgweir touch /etc/pgweir/x
	url=http://127.0.0.1:$(compose port app 8000 | sed 's/.*://')
	check "the application's /health" http "$url/health" '"healthy"'
	check "the application's migrations" equals t sql fastapi_dev "SELECT to_regclass('users') IS NOT NULL"
	check "the application's users" http "$url/users" '['
	check "the application's tests in its container" app_tests
	page=http://127.0.0.1:$(compose port pgweir 9127 | sed 's/.*://')
	prometheus=http://127.0.0.1:$(compose port prometheus 9090 | sed 's/.*://')
	check "pgweir's /health" http "$page/health" '"status"'
	check "the replica is in use" replica_is 1
	load_begins
	check "the replica is stopped under load" compose stop -t 10 replica
	check "which is noticed" replica_is 0
	check "a read without the replica" sql fastapi_dev "SELECT count(*) FROM smoke"
	check "the replica comes back" compose start replica
	check "which is noticed, too" replica_is 1
	check "its network is cut" replica_network disconnect
	check "which is noticed as well" replica_is 0
	check "its network is back" replica_network connect --alias replica
	check "and the replica in use" replica_is 1
	check "no client has seen an error" load_ends
	check "Prometheus has the figures" http "$prometheus/api/v1/query?query=pgweir_server_up" '"replica"'
fi
counts docker $passed $failed 0
[ $failed = 0 ]
