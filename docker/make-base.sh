#!/bin/bash
# docker/make-base.sh - makes the image debian:trixie-slim where no registry can be reached.
#
# All images of this folder build from debian:trixie-slim. Where `docker pull` works nothing is to be done, and this script
# does nothing. Elsewhere it makes a minimal Debian 13 with debootstrap (from MIRROR, or Debian's own), without documentation
# and package lists as the official slim image, and imports it under the same name. Needs root and a docker engine.
#   MIRROR=http://...    package mirror, used while building only: the image keeps deb.debian.org
set -euo pipefail

image=debian:trixie-slim
mirror=${MIRROR:-http://deb.debian.org/debian}

if docker image inspect "$image" >/dev/null 2>&1; then
	echo "make-base: $image is there"
	exit 0
fi
if [ -z "${NO_PULL:-}" ] && timeout 60 docker pull -q "$image" >/dev/null 2>&1; then
	echo "make-base: pulled $image"
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "make-base: $image cannot be pulled, and debootstrap needs root" >&2
	exit 1
fi
command -v debootstrap >/dev/null || apt-get install -y -q debootstrap >&2

root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
if ! debootstrap --variant=minbase --include=ca-certificates trixie "$root/fs" "$mirror" >"$root/log" 2>&1; then
	tail -5 "$root/log" >&2
	echo "make-base: debootstrap failed" >&2
	exit 1
fi
fs=$root/fs
chroot "$fs" apt-get clean
rm -rf "$fs"/var/lib/apt/lists/* "$fs"/usr/share/{doc,man,info,locale}/* "$fs"/var/log/{dpkg,bootstrap,alternatives}.log
mkdir -p "$fs"/usr/share/man/man{1,5,7,8}
cat >"$fs/etc/dpkg/dpkg.cfg.d/slim" <<'END'
path-exclude /usr/share/doc/*
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
END
# As in the official image: no fsync per file, no translations, nothing kept of what is downloaded.
echo force-unsafe-io >"$fs/etc/dpkg/dpkg.cfg.d/docker-apt-speedup"
cat >"$fs/etc/apt/apt.conf.d/docker" <<'END'
Acquire::Languages "none";
Apt::AutoRemove::SuggestsImportant "false";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
END
echo 'deb http://deb.debian.org/debian trixie main' >"$fs/etc/apt/sources.list"
: >"$fs/etc/resolv.conf"
rm -f "$fs/etc/hostname"
tar -C "$fs" -c . | docker import -c 'CMD ["bash"]' - "$image" >/dev/null
echo "make-base: made $image with debootstrap"
