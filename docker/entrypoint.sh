#!/bin/sh
# Entry point of the pgweir image: makes what is not mounted, then becomes pgweir.
#
#   /run/pgweir/tls.crt, tls.key   a self-signed certificate for the clients' side, unless TLS_CERT and TLS_KEY name files
#   /run/pgweir/users              the auth_file, from CLIENT_USER and CLIENT_PASSWORD, unless USERS_FILE names one
#
# Keys of the configuration are overridden by PGWEIR_<KEY> as anywhere.
set -eu
umask 077
run=/run/pgweir

if [ -n "${TLS_CERT:-}" ]; then
	ln -sf "$TLS_CERT" $run/tls.crt
	ln -sf "$TLS_KEY" $run/tls.key
elif [ ! -s $run/tls.key ]; then
	openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=${TLS_NAME:-pgweir}" \
		-addext "subjectAltName=DNS:${TLS_NAME:-pgweir},DNS:localhost" -keyout $run/tls.key -out $run/tls.crt 2>/dev/null
fi

if [ -n "${USERS_FILE:-}" ]; then
	ln -sf "$USERS_FILE" $run/users
elif [ -n "${CLIENT_USER:-}" ]; then
	# The file's syntax doubles a quote inside a name or a password.
	quote() { printf '"%s"' "$(printf %s "$1" | sed 's/"/""/g')"; }
	printf '%s %s\n' "$(quote "$CLIENT_USER")" "$(quote "${CLIENT_PASSWORD:-}")" >$run/users
fi
unset CLIENT_PASSWORD

exec /usr/local/bin/pgweir "$@"
