#!/bin/bash
# bench/get-pgbouncer.sh - a PgBouncer new enough for prepared statements (1.21 or later), beside the one of the system.
#
# Debian 12 packages 1.18. This makes a folder with Debian 13's packages by debootstrap and a small wrapper that runs its
# pgbouncer with the folder's own loader and libraries, so that it starts as an ordinary process (no chroot, no
# container): its CPU, memory and system calls are counted as those of any other proxy.
#
#   export PGBOUNCER=$(bench/get-pgbouncer.sh)
#
# The path is the only thing printed on stdout. Needs root (debootstrap does). Repeated calls are free.
#   SUITE, MIRROR: another release or mirror       KEEP_ALL=1: do not delete what pgbouncer does not need
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
suite=${SUITE:-trixie}
mirror=${MIRROR:-http://deb.debian.org/debian}
dest=$here/build/pgbouncer-$suite
wrapper=$dest/pgbouncer

if [ -x "$wrapper" ] && "$wrapper" --version >/dev/null 2>&1; then
	echo "$wrapper"
	exit 0
fi
if ! command -v debootstrap >/dev/null; then
	if [ "$(id -u)" = 0 ]; then
		apt-get install -y -q debootstrap >&2
	else
		echo "get-pgbouncer: debootstrap is not installed (apt-get install debootstrap)" >&2
		exit 1
	fi
fi
if [ "$(id -u)" != 0 ]; then
	echo "get-pgbouncer: debootstrap needs root" >&2
	exit 1
fi

rm -rf "$dest"
mkdir -p "$dest"
log=$dest/debootstrap.log
if ! debootstrap --variant=minbase --include=pgbouncer "$suite" "$dest/root" "$mirror" >"$log" 2>&1; then
	tail -5 "$log" >&2
	tail -5 "$dest/root/debootstrap/debootstrap.log" >&2 2>/dev/null || true
	echo "get-pgbouncer: debootstrap failed, see $log" >&2
	exit 1
fi

# Only the program and the libraries are wanted: a folder of packages is 250 MB, these are 30.
if [ -z "${KEEP_ALL:-}" ]; then
	mkdir -p "$dest/keep/bin" "$dest/keep/lib"
	cp -p "$dest/root/usr/sbin/pgbouncer" "$dest/keep/bin/"
	cp -pL "$dest"/root/usr/lib/*-linux-gnu*/*.so* "$dest/keep/lib/"
	rm -rf --one-file-system "$dest/root"
	bin=$dest/keep/bin/pgbouncer
	lib=$dest/keep/lib
else
	bin=$dest/root/usr/sbin/pgbouncer
	lib=$(echo "$dest"/root/usr/lib/*-linux-gnu*)
fi
loader=$(echo "$lib"/ld-linux*.so.*)
cat >"$wrapper" <<END
#!/bin/sh
exec '$loader' --library-path '$lib' '$bin' "\$@"
END
chmod -R a+rX "$dest"
chmod 0755 "$wrapper"
"$wrapper" --version >&2
echo "$wrapper"
