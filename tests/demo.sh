#!/usr/bin/env bash
# make demo / make demo-stop: a primary, a streaming replica and pgweir on 127.0.0.1, to look at and to play with.
#
#   demo.sh start    installs what is missing, builds, starts the three, runs a workload, shows where it ran; leaves them up
#   demo.sh stop     stops exactly these three, by the pids noted in build/demo, and removes their data
#
# As root the servers run as the postgres user, otherwise as yourself.  Everything lives in build/demo, or, where the
# postgres user cannot reach that, in a folder under /tmp named in build/demo/where.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
STATE=$BUILD_DIR/demo
SECONDS_OF_LOAD=${SECONDS_OF_LOAD:-5}
PASSWORD=demo

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port FIRST: the first port from there on that nobody listens on.
free_port() {
	local port=$1
	until port_is_free "$port"; do port=$((port + 1)); done
	echo "$port"
}

# Sets D, the folder of the servers' files.
make_folder() {
	mkdir -p "$STATE"
	D=$STATE
	if [ "$(id -u)" = 0 ]; then
		chown postgres: "$STATE"
		as_server test -x "$STATE" || { D=$(mktemp -d /tmp/pgweir-demo.XXXXXX) && chown postgres: "$D"; }
	fi
	echo "$D" >"$STATE/where"
}

# start_server NAME PORT: a cluster folder that is ready to run.
start_server() {
	as_server "$BIN/pg_ctl" -D "$D/$1" -l "$D/$1.log" -w -t 60 -o "-p $2" start >/dev/null || {
		tail -20 "$D/$1.log"
		die "demo: $1 did not start"
	}
}

make_primary() {
	as_server "$BIN/initdb" -D "$D/primary" -U postgres -A scram-sha-256 --pwfile="$D/password" -E UTF8 --no-locale \
		--no-sync >/dev/null
	as_server tee -a "$D/primary/postgresql.conf" >/dev/null <<-CONF
		listen_addresses = '127.0.0.1'
		unix_socket_directories = ''
		wal_level = replica
		shared_preload_libraries = 'pg_stat_statements'
		pg_stat_statements.track_utility = on
		fsync = off
	CONF
	start_server primary "$PRIMARY_PORT"
	psql_at "$PRIMARY_PORT" postgres postgres -q <<-SQL
		create role demo login password '$PASSWORD';
		create role pgweir_monitor login password '$PASSWORD' in role pg_monitor;
		create database demo owner demo;
		\\c demo
		create extension pg_stat_statements;
	SQL
}

make_replica() {
	PGPASSWORD=$PASSWORD as_server "$BIN/pg_basebackup" -h 127.0.0.1 -p "$PRIMARY_PORT" -U postgres -D "$D/replica" -R \
		-X stream -c fast --no-sync
	start_server replica "$REPLICA_PORT"
}

# psql_at PORT USER DATABASE ARGUMENT...
psql_at() {
	local port=$1 user=$2 database=$3
	shift 3
	PGPASSWORD=$PASSWORD PGCONNECT_TIMEOUT=10 psql -X -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U "$user" -d "$database" "$@"
}

start_pgweir() {
	local program=$TOP/build/pgweir
	as_server tee "$D/pgweir.ini" >/dev/null <<-INI
		[databases]
		demo = host=127.0.0.1,127.0.0.1 port=$PRIMARY_PORT,$REPLICA_PORT
		[pgweir]
		listen_addr = 127.0.0.1
		listen_port = $PORT
		unix_socket_dir =
		http_addr = 127.0.0.1:$HTTP_PORT
		pool_mode = transaction
		default_pool_size = 10
		auth_type = scram-sha-256
		auth_file = $D/users.txt
		admin_users = postgres
		monitor_user = pgweir_monitor
		monitor_password = $PASSWORD
	INI
	printf '"%s" "%s"\n' demo "$PASSWORD" postgres "$PASSWORD" | as_server tee "$D/users.txt" >/dev/null
	as_server chmod 600 "$D/users.txt" "$D/pgweir.ini"
	as_server test -x "$program" || { cp "$program" "$D/pgweir" && chmod 755 "$D/pgweir" && program=$D/pgweir; }
	"${AS_SERVER[@]}" setsid "$program" "$D/pgweir.ini" >"$STATE/pgweir.log" 2>&1 </dev/null &
	echo $! >"$STATE/pgweir.pid"
	disown
	wait_for "pgweir to accept" psql_at "$PORT" demo demo -Atqc 'select 1'
}

# wait_for WHAT COMMAND...: until it succeeds, a minute at most.
wait_for() {
	local what=$1 tries=0
	shift
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ $tries -lt 300 ] || { tail -20 "$STATE/pgweir.log"; die "demo: waited in vain for $what"; }
		sleep 0.2
	done
}

forget_statistics() { psql_at "$1" postgres demo -Atqc 'select pg_stat_statements_reset()' >/dev/null; }

replica_has_caught_up() {
	psql_at "$PRIMARY_PORT" postgres demo -Atqc 'select replay_lsn >= pg_current_wal_lsn() from pg_stat_replication' | grep -qx t
}

read_reached_the_replica() {
	psql_at "$PORT" demo demo -Atqc 'select count(*) from pgbench_accounts' && [ "$(calls "$REPLICA_PORT" select)" -gt 0 ]
}

# calls PORT WORDS: how many statements of the demo user that begin so this server has run, by its own pg_stat_statements.
calls() {
	psql_at "$1" postgres demo -Atqc "select coalesce(sum(calls), 0) from pg_stat_statements s join pg_roles r on r.oid = s.userid
		where r.rolname = 'demo' and query ~* '^\s*($2)\M'"
}

workload() {
	local url=$1
	say "demo: pgbench -i, then reads, then writes, then a few statements by psql, all through pgweir"
	"$BIN/pgbench" -i -q -s 5 "$url" >"$STATE/pgbench.log" 2>&1 || { tail "$STATE/pgbench.log"; die "demo: pgbench -i failed"; }
	wait_for "the replica to catch up" replica_has_caught_up
	wait_for "reads on the replica" read_reached_the_replica
	forget_statistics "$PRIMARY_PORT"
	forget_statistics "$REPLICA_PORT"
	local script
	for script in select-only simple-update tpcb-like; do
		"$BIN/pgbench" -n -b $script -c 16 -j 2 -T "$SECONDS_OF_LOAD" "$url" >>"$STATE/pgbench.log" 2>&1 ||
			{ tail "$STATE/pgbench.log"; die "demo: pgbench failed"; }
		[ $script != select-only ] || note_reads_only
		printf '    %-14s %s\n' $script "$(sed -n 's/^tps = \([0-9]*\).*/\1 transactions per second/p' "$STATE/pgbench.log" | tail -1)"
	done
	psql_at "$PORT" demo demo -q <<-'SQL' >/dev/null
		create table notes (id serial primary key, note text);
		insert into notes (note) values ('one'), ('two');
		begin read only; select count(*) from notes; commit;
		begin; insert into notes (note) values ('three'); select count(*) from notes; commit;
		select n.id, n.note from notes n order by n.id;
		explain select * from notes;
	SQL
}

READS='select|values|table|explain'
WRITES='insert|update|delete|copy|truncate|create|alter|vacuum'

# How many reads each server had run when the select-only part had ended; the parts that follow read inside transactions
# that write, and those belong on the primary.
note_reads_only() {
	PRIMARY_READS=$(calls "$PRIMARY_PORT" "$READS")
	REPLICA_READS=$(calls "$REPLICA_PORT" "$READS")
}

table() {
	local row='    %-22s %14s %22s %10s\n' primary replica
	primary=$(calls "$PRIMARY_PORT" "$READS") replica=$(calls "$REPLICA_PORT" "$READS")
	# shellcheck disable=SC2059 # the format of all rows
	{
		printf "$row" "" "select-only" "reads while writing" "writes"
		printf "$row" "primary, port $PRIMARY_PORT" "$PRIMARY_READS" $((primary - PRIMARY_READS)) "$(calls "$PRIMARY_PORT" "$WRITES")"
		printf "$row" "replica, port $REPLICA_PORT" "$REPLICA_READS" $((replica - REPLICA_READS)) "$(calls "$REPLICA_PORT" "$WRITES")"
	}
}

# The state of /health, if it answers 200.
health() (
	exec 3<>"/dev/tcp/127.0.0.1/$HTTP_PORT"
	printf 'GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
	timeout 5 cat <&3 | head -1 | grep -qE '^HTTP/1\.. 200'
)

report() {
	echo
	echo "Where the statements ran, from the servers' own pg_stat_statements:"
	table
	echo
	echo "  connect      $1"
	echo "               psql '$1'"
	if health 2>/dev/null; then
		echo "  live page    http://127.0.0.1:$HTTP_PORT/"
		echo "  health       http://127.0.0.1:$HTTP_PORT/health"
	fi
	echo "  console      psql 'postgresql://postgres:$PASSWORD@127.0.0.1:$PORT/pgweir' -c 'show pools'"
	echo "  directly     primary 127.0.0.1:$PRIMARY_PORT, replica 127.0.0.1:$REPLICA_PORT (user postgres, password $PASSWORD)"
	echo "  files        $D (pgweir's log: build/demo/pgweir.log)"
	echo "  stop         make demo-stop"
}

start() {
	local url
	[ ! -f "$STATE/where" ] || { say "demo: stopping the one from before"; stop; }
	"$TOP/tests/deps.sh" demo
	say "demo: building"
	make -s -C "$TOP" -j"$(nproc)" all
	BIN=$(pg_bin) || die "demo: no PostgreSQL 14 or newer under /usr/lib/postgresql"
	make_folder
	trap undo EXIT
	trap 'exit 130' INT TERM
	PRIMARY_PORT=$(free_port 15432)
	REPLICA_PORT=$(free_port $((PRIMARY_PORT + 1)))
	PORT=$(free_port 6432)
	HTTP_PORT=$(free_port 9127)
	echo "$PASSWORD" | as_server tee "$D/password" >/dev/null
	say "demo: starting a primary and a replica"
	make_primary
	make_replica
	say "demo: starting pgweir"
	start_pgweir
	url=postgresql://demo:$PASSWORD@127.0.0.1:$PORT/demo
	workload "$url"
	report "$url"
	trap - EXIT
}

# A start that does not come to its end leaves nothing behind but the logs' last lines on the screen.
undo() {
	tail -n 20 "$STATE/pgweir.log" 2>/dev/null
	stop
	echo "demo: failed" >&2
}

# Ends a process only if it is still the pgweir of this demo: a pid may have been given to somebody else meanwhile.
stop_pgweir() {
	local pid tries=0
	pid=$(cat "$STATE/pgweir.pid" 2>/dev/null) || return 0
	tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$D/pgweir.ini" || return 0
	kill -INT "$pid"
	while kill -0 "$pid" 2>/dev/null; do
		tries=$((tries + 1))
		[ $tries != 100 ] || kill -KILL "$pid"
		sleep 0.1
	done
}

stop() {
	local name
	[ -f "$STATE/where" ] || { echo "demo: nothing is running"; return 0; }
	D=$(cat "$STATE/where")
	BIN=$(pg_bin)
	stop_pgweir
	for name in replica primary; do
		[ ! -f "$D/$name/postmaster.pid" ] || as_server "$BIN/pg_ctl" -D "$D/$name" -m immediate -w stop >/dev/null
	done
	[ "$D" = "$STATE" ] || rm -rf "$D"
	rm -rf "$STATE"
	echo "demo: stopped, and its files removed"
}

case ${1:-} in
start) start ;;
stop) stop ;;
*) die "usage: demo.sh start|stop" ;;
esac
