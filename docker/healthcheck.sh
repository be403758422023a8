#!/bin/bash
# Health of the container. With an HTTP address set, pgweir's own /health decides (503 without a primary); without one it
# is enough that the listener answers an SSLRequest by S or N, as any PostgreSQL server does.
set -u
http=${PGWEIR_HTTP_ADDR:-}
port=${PGWEIR_LISTEN_PORT:-6432}

if [ -n "$http" ]; then
	exec 3<>"/dev/tcp/127.0.0.1/${http##*:}" || exit 1
	printf 'GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
	read -r -t 3 _ status _ <&3 || exit 1
	[ "$status" = 200 ]
	exit
fi
exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
printf '\0\0\0\010\004\322\026\057' >&3
IFS= read -r -t 3 -N 1 answer <&3 || exit 1
[ "$answer" = S ] || [ "$answer" = N ]
