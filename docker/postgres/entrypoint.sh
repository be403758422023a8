#!/bin/bash
# Entry point of the PostgreSQL image. ROLE=primary makes a cluster and runs init.sql once; ROLE=replica copies the host
# PRIMARY once and follows it. Restarts keep the data.
#   APP_PASSWORD, MONITOR_PASSWORD, REPLICATION_PASSWORD: of the roles that init.sql makes
set -euo pipefail
role=${ROLE:-primary}

settings() {
	cat <<-END
		listen_addresses = '*'
		unix_socket_directories = '/tmp'
		password_encryption = 'scram-sha-256'
		wal_level = replica
		hot_standby = on
		hot_standby_feedback = on
		wal_keep_size = 256MB
		max_connections = 200
		shared_buffers = 64MB
		timezone = 'UTC'
	END
}

make_primary() {
	initdb --pgdata="$PGDATA.new" --username=postgres --encoding=UTF8 --locale=C.UTF-8 --auth=scram-sha-256 \
		--auth-local=trust --pwfile=<(head -c 24 /dev/urandom | base64) >/dev/null
	settings >>"$PGDATA.new/postgresql.conf"
	cat >"$PGDATA.new/pg_hba.conf" <<-END
		local all all trust
		host replication replicator all scram-sha-256
		host all postgres all reject
		host all all all scram-sha-256
	END
	# No TCP until the databases are there: a health check must not see a half-made server.
	pg_ctl --pgdata="$PGDATA.new" --wait --silent --options="-c listen_addresses=''" start
	psql -X -q -h /tmp -U postgres -v ON_ERROR_STOP=1 -v app_password="$APP_PASSWORD" \
		-v monitor_password="$MONITOR_PASSWORD" -v replication_password="$REPLICATION_PASSWORD" -f /usr/local/share/init.sql
	pg_ctl --pgdata="$PGDATA.new" --wait --silent --mode=fast stop
	mv "$PGDATA.new" "$PGDATA"
}

make_replica() {
	export PGPASSWORD=$REPLICATION_PASSWORD
	until pg_isready -q -h "$PRIMARY" && pg_basebackup --pgdata="$PGDATA.new" --host="$PRIMARY" --username=replicator \
		--wal-method=stream --checkpoint=fast --write-recovery-conf; do
		rm -rf "$PGDATA.new"
		sleep 1
	done
	unset PGPASSWORD
	mv "$PGDATA.new" "$PGDATA"
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
	rm -rf "$PGDATA.new"
	"make_$role"
fi
unset APP_PASSWORD MONITOR_PASSWORD REPLICATION_PASSWORD
exec postgres -D "$PGDATA"
