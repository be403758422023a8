# shellcheck shell=bash
# Shared by the scripts beside it: where things are, timestamps, and the one form in which every part reports its counts.
# Sourced, not run.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD_DIR=$TOP/build
VENV=$BUILD_DIR/venv
STARTED=${STARTED:-$SECONDS}

# say TEXT: one line of progress with the wall clock and the seconds since the start.
say() { printf '%s +%4ds  %s\n' "$(date +%H:%M:%S)" "$((SECONDS - STARTED))" "$*"; }

die() {
	printf '%s\n' "$*" >&2
	exit 1
}

# counts NAME PASSED FAILED SKIPPED: the last line of every part; run-all.sh adds them up.
counts() { printf '%s: %d passed, %d failed, %d skipped\n' "$1" "$2" "$3" "$4"; }

# The newest PostgreSQL server programs on this machine that the proxy supports, or $PGBIN.
pg_bin() {
	local dir
	if [ -n "${PGBIN:-}" ]; then
		echo "$PGBIN"
		return
	fi
	for dir in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -rn); do
		if [ -x "$dir/initdb" ] && [ "$(echo "$dir" | cut -d/ -f5)" -ge 14 ]; then
			echo "$dir"
			return
		fi
	done
	return 1
}

# as_server COMMAND...: PostgreSQL refuses to run as root, so root drops to the postgres user; anybody else stays.
AS_SERVER=()
[ "$(id -u)" != 0 ] || AS_SERVER=(setpriv --reuid postgres --regid postgres --init-groups env -C / HOME=/tmp)
as_server() { "${AS_SERVER[@]}" "$@"; }
