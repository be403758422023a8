"""Scenarios of PgBouncer's topics that no other file has; tests/README.md says which file has which topic."""
import threading

import pytest
from harness.postgres import PASSWORD
from harness.system import wait_until
from harness.tls import Authority
from harness.wire import Connection, PgError, bind, copy_data, copy_done, execute, parse, query, sync

KINDS = ["trust", "plain", "md5", "scram-sha-256"]


def refusal(proxy, *arguments, **more):
    with pytest.raises(PgError) as refused:
        with proxy.connect(*arguments, **more) as client:
            client.query("select 1")
    return refused.value


def errors_of(proxy, *arguments, **more):
    """What a client is told that cannot go on: at its login, or by its first query."""
    try:
        with proxy.connect(*arguments, **more) as client:
            client.send(query("select 1"))
            return [m.fields for m in client.read_to_end() if m.type == "E"]
    except PgError as error:
        return [error.fields]


# --- no database, no user ---


@pytest.fixture(params=KINDS)
def by_kind(request, pgweir):
    """A proxy with that auth_type, with the databases that it lists and no others; and who may log in."""
    auth_type = request.param
    proxy = pgweir(settings={"auth_type": auth_type, "route": "primary"}, accounts={"plain_user": "right"},
                   databases={"listed": "dbname=postgres", "not_on_the_server": "dbname=nowhere_at_all", "forced": "dbname=postgres user=postgres"})
    words = {} if auth_type == "trust" else {"password": "right"}
    return proxy, auth_type, words


def test_databases_that_are_not_there(by_kind):
    proxy, auth_type, words = by_kind
    with proxy.connect("plain_user", "listed", **words) as client:
        assert client.value("select current_database()") == "postgres"
    # the server's own words, by an entry and by "*"
    for database, there in (("not_on_the_server", "nowhere_at_all"), ("by_the_star", "by_the_star")):
        error = refusal(proxy, "plain_user", database, **words)
        assert error.sqlstate == "3D000" and error.fields["M"] == f'database "{there}" does not exist'
    if auth_type != "trust":  # who has not shown who he is learns nothing of databases
        for database in ("listed", "not_on_the_server", "by_the_star"):
            assert refusal(proxy, "plain_user", database, password="wrong").sqlstate == "28P01"


@pytest.mark.parametrize("auth_type", KINDS)
def test_databases_that_no_entry_serves(pgweir, auth_type):
    proxy = pgweir(settings={"auth_type": auth_type}, accounts={"plain_user": "right"}, databases={"listed": "dbname=postgres"})
    words = {} if auth_type == "trust" else {"password": "right"}
    del proxy.sections["databases"]["*"]
    proxy.write_config()
    mark = proxy.mark()
    proxy.process.send_signal(1)
    proxy.wait_for_log("configuration reloaded", mark)
    error = refusal(proxy, "plain_user", "nosuchdb", **words)
    assert error.sqlstate == "3D000" and error.fields["M"] == "no such database: nosuchdb"
    if auth_type != "trust":
        assert refusal(proxy, "plain_user", "nosuchdb", password="wrong").sqlstate == "28P01"
    proxy.connect("plain_user", "listed", **words).close()


def test_users_who_are_not_there(by_kind):
    """Also where the server's role is the database's own (CVE-2015-6817)."""
    proxy, auth_type, _ = by_kind
    for database in ("listed", "forced"):
        error = refusal(proxy, "nosuchuser", database, password="right")
        assert error.sqlstate == ("28000" if auth_type == "trust" else "28P01")
        assert error.fields["M"].endswith('authentication failed for user "nosuchuser"')


# --- COPY ---


COPY = "copy numbers from stdin"


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("when", ["before the end", "at the end"])
@pytest.mark.parametrize("block", ["alone", "in a transaction"])
def test_copy_that_fails_gives_its_server_back(pgweir, cluster, database, protocol, when, block):
    """pgbouncer#1470: an error while the client still sent rows left the server busy for ever, and the pool empty."""
    cluster.primary.query("create table numbers(n int primary key)", database=database)
    proxy = pgweir(settings={"default_pool_size": 1, "query_wait_timeout": 30, "route": "primary"})
    with proxy.connect(database=database) as client, proxy.connect(database=database) as other:
        for _ in range(3):
            if block != "alone":
                client.query("begin")
            if protocol == "simple":
                client.send(query(COPY))
            else:
                client.send(parse("", COPY), bind(), execute(), sync())
            client.read_until("G")
            if when == "before the end":  # the row is wrong at once, and many more are on their way
                client.send(copy_data(b"not a number\n"), *[copy_data(b"1\n" * 1000) for _ in range(200)], copy_done())
            else:
                client.send(copy_data(b"1\n"), copy_data(b"1\n"), copy_done())
            if protocol == "extended":
                client.send(sync())
            answer = client.read_until_ready()
            assert [m.fields["C"] for m in answer if m.type == "E"] == ["22P02" if when == "before the end" else "23505"]
            if block != "alone":
                assert client.query("rollback").tags == ["ROLLBACK"]
            assert other.value("select count(*) from numbers") == "0"
        assert client.value("select 1") == "1"


# --- cancel ---


def test_cancel_of_a_client_that_waits(pgweir):
    """It leaves the queue; whoever has the server is not disturbed."""
    proxy = pgweir(settings={"default_pool_size": 1, "route": "primary"})
    with proxy.connect() as busy, proxy.connect() as waiting, proxy.connect() as next_one:
        busy.query("begin; select txid_current()")
        waiting.send(query("select 'waited'"))
        wait_until(lambda: [r for r in proxy.admin("show pools") if r["database"] == "postgres" and r["cl_waiting"] == "1"], "it waits")
        waiting.cancel()
        assert [m.fields["C"] for m in waiting.read_until_ready() if m.type == "E"] == ["57014"]
        assert busy.value("select 'undisturbed'") == "undisturbed"
        busy.query("commit")
        assert next_one.value("select 1") == "1"
        assert waiting.value("select 1") == "1"


def test_cancel_needs_no_place_in_the_pool(pgweir, cluster):
    """With every server connection busy, all of them can be cancelled."""
    proxy = pgweir(settings={"default_pool_size": 3, "route": "primary"})
    clients = [proxy.connect() for _ in range(3)]
    mark = cluster.mark()
    for client in clients:
        client.send(query("select pg_sleep(300)"))
    wait_until(lambda: len(cluster.statements(mark)[cluster.primary.name]) >= 3, "they run")
    for client in clients:
        client.cancel()
    for client in clients:
        assert [m.fields["C"] for m in client.read_until_ready() if m.type == "E"] == ["57014"]
        client.close()
    with Connection(proxy.port) as late:
        assert late.port == proxy.port
    assert proxy.value("select 1") == "1"


# --- console ---


def test_states_of_a_client(pgweir):
    """Idle, waiting, active: as SHOW CLIENTS says of PgBouncer's."""
    proxy = pgweir(settings={"route": "primary"})

    def state():
        (row,) = [row for row in proxy.admin("show clients") if row["application_name"] == "watched"]
        return row["state"]
    with proxy.connect(application_name="watched") as client:
        assert state() == "idle"
        proxy.admin("PAUSE postgres")
        client.send(query("select txid_current() > 0"))
        wait_until(lambda: state() == "waiting", "it waits")
        proxy.admin("RESUME postgres")
        assert "D t" in client.brief_until_ready()
        assert state() == "idle"
        client.query("begin; select txid_current()")
        assert state() == "active"
        client.query("rollback")
        assert state() == "idle"


def test_kill_of_all_databases(pgweir):
    proxy = pgweir(settings={"route": "primary"}, databases={"one": "dbname=postgres", "other": "dbname=template1"})
    clients = [proxy.connect(database=name) for name in ("one", "other")]
    for client in clients:
        client.query("select 1")
    with proxy.connect("postgres", "pgweir") as console:
        assert console.query("KILL").tags == ["KILL"]
        for client in clients:
            assert [m.fields["C"] for m in client.read_to_end() if m.type == "E"] == ["57P01"]
        assert console.query("RESUME").tags == ["RESUME"]
    assert proxy.value("select 1", "one") == proxy.value("select 1", "other") == "1"


# --- limits ---


def test_no_moment_has_more_connections_than_max_db_connections(pgweir, cluster):
    """Pools of five users and two workers share four, and make room for each other; what the servers say of statements that run
    counts, since a backend that was told to end takes its time."""
    users = ["postgres", "plain_user", "scram_user", "md5_user", "password_user"]
    proxy = pgweir(settings={"route": "primary", "query_wait_timeout": 120},
                   databases={"few": "dbname=postgres max_db_connections=4"})
    running = "select count(*) from pg_stat_activity where state = 'active' and query like 'select ''one of a few''%'"
    done, books, seen = threading.Event(), set(), set()

    def look():
        with cluster.primary.connect() as observer, proxy.connect("postgres", "pgweir") as console:
            while not done.is_set():
                seen.add(int(observer.value(running)))
                books.add(len([row for row in console.query("show servers").dicts if row["database"] == "few"]))

    observer = threading.Thread(target=look)
    observer.start()
    try:
        clients = [proxy.connect(user, "few", password=PASSWORD) for user in users * 2]
        for _ in range(5):
            for client in clients:
                client.send(query("select 'one of a few', pg_sleep(0.1)"))
            for client in clients:
                assert "C SELECT 1" in client.brief_until_ready()
        for client in clients:
            client.close()
    finally:
        done.set()
        observer.join()
    assert max(seen) == max(books) == 4


# --- operations ---


def test_a_server_that_is_restarted(new_cluster, pgweir):
    """In place, without a standby: who is between transactions does not notice, whoever runs something is told the truth."""
    cluster = new_cluster(standbys=0)
    proxy = pgweir(on=cluster, settings={"route": "primary", "server_login_retry": 1, "failover_timeout": "60s"})
    with proxy.connect() as idle, proxy.connect() as running:
        idle.query("select 1")
        mark = cluster.primary.mark()
        running.send(query("select txid_current(), pg_sleep(600)"))
        wait_until(lambda: [line for line in cluster.primary.statements(mark) if "pg_sleep" in line.statement], "it runs")
        cluster.primary.restart("fast")
        errors = [m.fields["C"] for m in running.read_to_end() if m.type == "E"]
        assert errors and errors[0] in ("57P01", "08007"), errors
        assert idle.value("select 'still here'") == "still here"
    assert proxy.value("select 1") == "1"


# --- passwords towards the server ---


def test_a_password_that_changes_on_the_server(pgweir, cluster):
    """Connections that are open go on; then the server's own words come, until the configuration knows the new one."""
    cluster.primary.query("create role changing login password 'old'")
    with open(cluster.primary.data / "pg_hba.conf", encoding="utf-8") as file:
        rules = file.read()
    cluster.workspace.write(cluster.primary.data / "pg_hba.conf", "host all changing 127.0.0.1/32 scram-sha-256\n" + rules, 0o600)
    cluster.primary.reload()
    try:
        proxy = pgweir(settings={"route": "primary", "server_login_retry": 1},
                       databases={"forced": "dbname=postgres user=changing password=old"})
        with proxy.connect("plain_user", "forced") as client:
            assert client.value("select current_user") == "changing"
            cluster.primary.query("alter role changing password 'new'")
            assert client.value("select current_user") == "changing"
            proxy.admin("RECONNECT forced")
            client.send(query("select current_user"))
            assert [m.fields["C"] for m in client.read_to_end() if m.type == "E"] == ["28P01"]
        (error,) = errors_of(proxy, "plain_user", "forced")
        assert error["C"] == "28P01" and "changing" in error["M"]
        proxy.sections["databases"]["forced"] = "dbname=postgres user=changing password=new"
        proxy.reload()
        assert proxy.value("select current_user", "forced") == "changing"
    finally:
        cluster.workspace.write(cluster.primary.data / "pg_hba.conf", rules, 0o600)
        cluster.primary.reload()
        cluster.primary.query("drop role changing")


# --- TLS towards the server ---

ENCRYPTED = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"


def test_server_tls_that_changes(pgweir, authority):
    """A reload of other settings leaves connections as they are; one of these replaces them, not under a transaction."""
    proxy = pgweir(settings={"route": "primary", "default_pool_size": 1, "server_tls_sslmode": "disable"})
    with proxy.connect() as client:
        assert client.value(ENCRYPTED) == "f"
        backend = client.value("select pg_backend_pid()")
        proxy.reload(client_idle_timeout=3600)
        assert client.value("select pg_backend_pid()") == backend
        client.query("begin; select txid_current()")
        proxy.reload(server_tls_sslmode="verify-ca", server_tls_ca_file=authority.ca)
        assert client.value(ENCRYPTED) == "f"
        client.query("commit")
        assert client.value(ENCRYPTED) == "t"
        proxy.reload(server_tls_sslmode="disable")
        assert client.value(ENCRYPTED) == "f"


def test_a_server_whose_certificate_is_not_trusted(pgweir, workspace, authority):
    """The client is told, the log says why, and another authority mends it without a restart."""
    stranger = Authority(workspace, "other_stranger")
    proxy = pgweir(settings={"route": "primary", "server_login_retry": 1, "failover_timeout": "2s", "server_tls_sslmode": "prefer"})
    assert proxy.value("select 1") == "1"
    proxy.reload(server_tls_sslmode="verify-full", server_tls_ca_file=stranger.ca)
    wait_until(lambda: errors_of(proxy)[0]["C"] == "57P03", "who comes now is told that there is no primary")
    proxy.wait_for_log("certificate verify failed")
    proxy.reload(server_tls_ca_file=authority.ca)
    with proxy.connect() as client:
        assert client.value(ENCRYPTED) == "t"


# --- replication ---


def test_tools_of_replication(new_cluster, pgweir, workspace):
    """pg_basebackup, pg_receivewal, pg_recvlogical and a subscription, all through pgweir."""
    cluster = new_cluster(standbys=0, wal_level="logical", max_replication_slots=8)
    source, target = cluster.create_database("create table t(i int primary key)"), cluster.create_database("create table t(i int primary key)")
    proxy = pgweir(on=cluster, settings={"route": "primary"})
    folder = workspace.folder("replication")
    workspace.own(folder)

    def tool(name, *arguments):
        return workspace.run(cluster.programs / name, "-d", proxy.dsn(source), *arguments)

    def flushed():
        return cluster.primary.value("select pg_current_wal_flush_lsn()")

    tool("pg_basebackup", "-D", folder / "backup", "-c", "fast", "--no-sync")
    assert (folder / "backup" / "PG_VERSION").exists()
    tool("pg_receivewal", "--slot=physical", "--create-slot")
    (folder / "wal").mkdir()
    workspace.own(folder / "wal")
    proxy.query("insert into t values (1)", source)
    tool("pg_receivewal", "-D", folder / "wal", "--slot=physical", f"--endpos={flushed()}", "--no-loop", "--no-sync")
    assert list((folder / "wal").iterdir())
    tool("pg_recvlogical", "--slot=logical", "--create-slot", "--plugin=test_decoding")
    proxy.query("insert into t values (2)", source)
    decoded = tool("pg_recvlogical", "--slot=logical", "--start", "--file=-", "--no-loop", f"--endpos={flushed()}")
    assert "table public.t: INSERT: i[integer]:2" in decoded
    proxy.query("create publication p for table t", source)
    proxy.query("select pg_create_logical_replication_slot('subscribed', 'pgoutput')", source)
    publisher = proxy.dsn(source).replace("'", "''")
    proxy.query(f"create subscription s connection '{publisher}' publication p with (slot_name = subscribed, create_slot = false)", target)
    proxy.query("insert into t values (3)", source)
    wait_until(lambda: proxy.value("select count(*) from t where i = 3", target) == "1", "the subscriber has it")
    proxy.query("alter subscription s disable", target)
    proxy.query("alter subscription s set (slot_name = none)", target)
    proxy.query("drop subscription s", target)
