#!/usr/bin/env bash
# make deps: installs what building and testing need and nothing that is already there.
#
#   deps.sh [build|demo|test|long]   build: the compiler and libraries; demo: also PostgreSQL's servers; test (default):
#                                    also clang, valgrind and the Python environment under build/venv; long: also
#                                    PgBouncer, promtool, Chromium, pgjdbc, Patroni and etcd, for test-long and bench
#
# Wants Debian 12 or newer, root or sudo.  apt's PostgreSQL would make and start a cluster on port 5432; where we are
# the ones who install it, it is told not to.  A machine that lacks nothing is not touched: no root, no network.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
GROUP=${1:-test}

BUILD_PACKAGES=(gcc libc6-dev make pkg-config bison libevent-dev libssl-dev libpq-dev libinih-dev libcmocka-dev libpg-query-dev
	libprotobuf-c-dev libxxhash-dev uthash-dev libjansson-dev libidn-dev libsystemd-dev)
DEMO_PACKAGES=(postgresql postgresql-contrib postgresql-client util-linux)
TEST_PACKAGES=(openssl clang clang-format python3 python3-venv git procps valgrind binutils)
LONG_PACKAGES=(pgbouncer prometheus chromium default-jdk-headless libpostgresql-jdbc-java patroni etcd-server
	python3-asyncpg python3-pytest python3-pytest-timeout)

missing() {
	local package
	for package in "$@"; do
		dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
	done
}

# Fuzzers link clang's runtime, which Debian packages apart from the compiler, by version.
clang_runtime() {
	local version
	version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -1)
	[ -z "$version" ] || echo "libclang-rt-$version-dev"
}

# The groups that run tests want clang's runtime and the Python environment as well.
needs_python() { [ "$GROUP" = test ] || [ "$GROUP" = long ]; }

SUDO=()
need_root() {
	[ "$(id -u)" = 0 ] && return
	command -v sudo >/dev/null || die "deps: these packages are missing, and there is neither root nor sudo: $*"
	SUDO=(sudo)
}

# Daemons that come with packages stay off while we install, unless the machine has its own policy.
install_packages() {
	local policy=/usr/sbin/policy-rc.d cluster=/etc/postgresql-common/createcluster.d/no-main-cluster.conf made=()
	need_root "$@"
	say "deps: installing $*"
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' | "${SUDO[@]}" tee $policy >/dev/null
		"${SUDO[@]}" chmod 755 $policy
		made+=("$policy")
	fi
	if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
		"${SUDO[@]}" mkdir -p "$(dirname $cluster)"
		echo "create_main_cluster = false" | "${SUDO[@]}" tee $cluster >/dev/null
		made+=("$cluster")
	fi
	# shellcheck disable=SC2064 # the list as it is now
	trap "${SUDO[*]} rm -f ${made[*]}" EXIT
	"${SUDO[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
		-o DPkg::Lock::Timeout=300 "$@" >"$LOG" 2>&1 || { tail -20 "$LOG" >&2; die "deps: apt-get install failed, see $LOG"; }
	"${SUDO[@]}" rm -f "${made[@]}"
	trap - EXIT
}

packages() {
	local wanted=("${BUILD_PACKAGES[@]}") lacking
	case $GROUP in
	build) ;;
	demo) wanted+=("${DEMO_PACKAGES[@]}") ;;
	test) wanted+=("${DEMO_PACKAGES[@]}" "${TEST_PACKAGES[@]}") ;;
	long) wanted+=("${DEMO_PACKAGES[@]}" "${TEST_PACKAGES[@]}" "${LONG_PACKAGES[@]}") ;;
	*) die "deps: no such group: $GROUP" ;;
	esac
	mapfile -t lacking < <(missing "${wanted[@]}")
	if [ ${#lacking[@]} -gt 0 ]; then
		need_root "${lacking[@]}"
		say "deps: apt-get update"
		"${SUDO[@]}" apt-get update -q -o DPkg::Lock::Timeout=300 >"$LOG" 2>&1 || tail -5 "$LOG" >&2
		install_packages "${lacking[@]}"
	fi
	if needs_python; then
		mapfile -t lacking < <(missing $(clang_runtime))
		[ ${#lacking[@]} = 0 ] || install_packages "${lacking[@]}"
	fi
}

# Rebuilt only when the pinned list changes.
python_environment() {
	local requirements=$TOP/tests/requirements.txt stamp=$VENV/.requirements
	cat "$requirements" "$TOP/tests/app/requirements.txt" | cmp -s - "$stamp" && return
	say "deps: Python environment in build/venv"
	rm -rf "$VENV"
	/usr/bin/python3 -m venv "$VENV"
	"$VENV/bin/pip" install -q --disable-pip-version-check --retries 10 -r "$requirements" >"$LOG" 2>&1 ||
		{ tail -20 "$LOG" >&2; die "deps: pip failed, see $LOG"; }
	cat "$requirements" "$TOP/tests/app/requirements.txt" >"$stamp"
}

mkdir -p "$BUILD_DIR"
LOG=$BUILD_DIR/deps.log
packages
! needs_python || python_environment
say "deps: all there"
