"""What operators see of the queries: the slow-query log, SHOW QUERIES, SHOW APPLICATIONS, metrics."""
import contextlib
import json
import os
import re
import threading

import pytest
from harness import wire
from harness.metrics import read_metrics
from harness.proxy import Pgweir
from harness.system import wait_until

SECRETS = ["s3cret-one", "s3cret-two", "s3cret-three", "4711471147", "s3cret-four", "s3cret-five"]
# Statements with a secret each, in every kind of literal; most fail, and all are measured.
TELLTALES = [
    f"select '{SECRETS[0]}'",
    f"alter role nobody_of_this_name password '{SECRETS[1]}'",
    f"select $body${SECRETS[2]}$body$ -- {SECRETS[2]}",
    f"select {SECRETS[3]} /* {SECRETS[3]} */",
    f"select E'\\'{SECRETS[4]}', U&'{SECRETS[4]}', x'4711', b'0101'",
    f"select '{SECRETS[5]}",
]


@pytest.fixture(scope="module")
def proxy(shared_cluster):
    with Pgweir(shared_cluster, settings={"log_min_duration": 0, "stats_users": "plain_user"}, http=True) as running:
        running.wait_for_replicas()
        yield running


def slow_lines(proxy, word):
    return [line for line in proxy.log_text().splitlines() if "slow query" in line and word in line]


# --- the slow-query log ---


def test_slow_query_says_who_where_why_and_how_long(proxy):
    with proxy.connect(application_name="slow_app") as client:
        client.query("select 'telltale' as slow_one from txid_current()")
    wait_until(lambda: slow_lines(proxy, "slow_one"), "the line")
    line = slow_lines(proxy, "slow_one")[0]
    assert re.search(r"\[C-\d+ postgres/postgres app=slow_app 127\.0\.0\.1:\d+\] slow query: duration_ms=\d+\.\d{3} wait_ms=\d+\.\d{3} "
                     r"server=127\.0\.0\.1:\d+ route=primary reason=\w+ rows=1 bytes=\d+ "
                     r'query="select \? as slow_one from txid_current\(\)"', line), line


def test_no_literal_in_the_log(proxy):
    with proxy.connect() as client:
        for sql in TELLTALES:
            client.query(sql, check=False)
        client.send(wire.parse("", f"select $1, '{SECRETS[0]}'"), wire.bind("", "", [SECRETS[1].encode()]), wire.execute(), wire.sync())
        client.read_until_ready()
        client.query("select 1 as the_end")
    wait_until(lambda: slow_lines(proxy, "the_end"), "the last line")
    log = proxy.log_text()
    assert [secret for secret in SECRETS if secret in log] == []
    assert slow_lines(proxy, "alter role nobody_of_this_name password ?") and slow_lines(proxy, "failed=yes")


def test_literals_in_the_log_for_who_asks(pgweir):
    """Word by word, of each protocol; no sooner than asked for, and no longer."""
    proxy = pgweir(settings={"log_min_duration": 0, "log_literals": 1, "route": "primary"})
    with proxy.connect() as client:
        client.query("select 'told' as simple_one")
        client.send(wire.parse("named", "select $1::text, $2::text, 'O''Hara' as by_name"), wire.sync())
        client.read_until_ready()
        client.send(wire.bind("", "named", [b"it's", None]), wire.execute(), wire.sync())
        client.read_until_ready()
        client.send(wire.parse("", "select $1::text as without_name"), wire.bind("", "", [b"x" * 500]), wire.execute(), wire.sync())
        client.read_until_ready()
        client.send(wire.query("select '" + "y" * 70000 + "' as large_one"))
        client.read_until_ready()
        wait_until(lambda: slow_lines(proxy, "large_one") or slow_lines(proxy, "too large to be read"), "the last line")
        assert 'query="select \'told\' as simple_one"' in slow_lines(proxy, "simple_one")[0]
        named = slow_lines(proxy, "by_name")[-1]
        assert "'O''Hara' as by_name" in named and '''parameters="$1 = 'it''s', $2 = NULL"''' in named
        assert f'''parameters="$1 = '{"x" * 200}...'"''' in slow_lines(proxy, "without_name")[0]
        assert "yyyy" not in proxy.log_text()
        proxy.reload(log_literals=0)
        client.query("select 'not told' as after_reload")
        wait_until(lambda: slow_lines(proxy, "after_reload"), "its line")
        assert "not told" not in proxy.log_text()


def test_slow_queries_as_json_in_a_file_that_is_opened_again(pgweir):
    proxy = pgweir(settings={"log_min_duration": 0, "log_format": "json"})
    logfile = proxy.folder / "rotated.log"
    proxy.reload(logfile=logfile)

    def entries():
        return [entry for entry in map(json.loads, logfile.read_text().splitlines()) if entry["message"] == "slow query"]
    with proxy.connect(application_name='a "name" <b>') as client:
        client.query("select 1 as first_file")
        wait_until(entries, "a line in the file")
        entry = entries()[0]
        assert entry["application"] == 'a "name" <b>' and entry["query"] == "select ? as first_file"
        assert entry["duration_ms"] >= entry["wait_ms"] >= 0 and entry["rows"] == 1 and entry["route"] in ("primary", "replica")
        os.rename(logfile, proxy.folder / "old.log")
        proxy.process.send_signal(1)
        wait_until(logfile.exists, "the new file")
        client.query("select 1 as second_file")
        wait_until(lambda: any("second_file" in e["query"] for e in entries()), "a line in the new file")


def test_only_slow_ones_and_by_application(pgweir):
    proxy = pgweir(settings={"log_min_duration": "60min"}, applications={"watched": "log_min_duration=0"})
    with proxy.connect() as client, proxy.connect(application_name="watched") as watched:
        client.query("select 1 as not_slow")
        watched.query("select 1 as watched_one")
        wait_until(lambda: slow_lines(proxy, "watched_one"), "its line")
        assert not slow_lines(proxy, "not_slow")
        proxy.reload(log_min_duration="off")
        proxy.sections["applications"]["watched"] = "log_min_duration=off"
        proxy.reload()
        watched.query("select 1 as after_reload")
    with proxy.connect("postgres", "pgweir") as admin:
        admin.query("show version")
    assert not slow_lines(proxy, "after_reload")


def test_slow_lines_are_bounded(pgweir):
    """When all is slow, writing of it must not make it slower."""
    proxy = pgweir(settings={"log_min_duration": "1us", "workers": 1})
    with proxy.connect() as client:
        def some_were_left_out():
            for _ in range(200):
                client.query("select 1 as bounded")
            return re.findall(r"info: (\d+) more slow queries were not logged", proxy.log_text())
        wait_until(some_were_left_out, "a line says so", interval=0.0)
    assert len(slow_lines(proxy, "bounded")) > 50


# --- SHOW QUERIES and SHOW APPLICATIONS ---


def test_queries_by_shape(proxy):
    with proxy.connect("postgres", "pgweir") as admin, proxy.connect() as client, proxy.connect() as other:
        for i in range(20):
            (client if i % 2 else other).query(f"select {i} as by_shape, 'x{i}' from generate_series(1, 3)")
        client.query("select 1 / 0 as by_shape_failing", check=False)
        rows = {row["query"]: row for row in admin.query("show queries").dicts}
    mine = rows["select ? as by_shape, ? from generate_series(?, ?)"]
    assert (mine["calls"], mine["rows"], mine["errors"]) == ("20", "60", "0")
    assert 0 < int(mine["p50_us"]) <= int(mine["p95_us"]) <= int(mine["p99_us"]) <= int(mine["max_us"]) * 2
    assert int(mine["bytes"]) > 20 * 60 and 0 <= int(mine["replica_percent"]) <= 100
    assert (rows["select ? / ? as by_shape_failing"]["calls"], rows["select ? / ? as by_shape_failing"]["errors"]) == ("1", "1")


def test_applications(proxy):
    def row(name):
        return next((row for row in proxy.admin("show applications") if row["application_name"] == name), None)
    with proxy.connect(application_name="counted <app>") as client, proxy.connect(application_name="counted <app>") as other:
        for connection in (client, other):
            connection.query("select 1 from generate_series(1, 5)")
        client.query("select no_such_column", check=False)
        mine = row("counted <app>")
        assert (mine["clients"], mine["calls"], mine["rows"], mine["errors"]) == ("2", "3", "10", "1")
    wait_until(lambda: row("counted <app>")["clients"] == "0", "they are gone")


def test_applications_are_bounded(pgweir):
    """Names come from the network."""
    proxy = pgweir(settings={"workers": 1, "max_client_conn": 1000})
    kept = []
    try:
        for i in range(210):
            kept.append(proxy.connect(application_name=f"app{i}"))
        kept[-1].query("select 1")
        rows = {row["application_name"]: row for row in proxy.admin("show applications")}
        assert len(rows) <= 202
        assert int(rows["(other)"]["clients"]) >= 9 and rows["(other)"]["calls"] == "1"
    finally:
        for connection in kept:
            connection.close()
    wait_until(lambda: proxy.client_count() == 0, "all have left")
    with proxy.connect(application_name="a new one") as client:
        client.query("select 1")
        assert any(row["application_name"] == "a new one" for row in proxy.admin("show applications"))


# --- metrics ---


def test_metrics(proxy):
    before = read_metrics(proxy)
    with proxy.connect() as client:
        for _ in range(10):
            client.query("select txid_current()")
        client.query("select 1 / 0", check=False)
        client.query("create temp table pinned_by(x int)")
    wait_until(lambda: proxy.client_count() == 0, "it has left")
    after = read_metrics(proxy)

    def grown(name, **labels):
        return after.value(name, **labels) - before.value(name, **labels)
    assert grown("pgweir_query_duration_seconds_count", database="postgres", route="primary") >= 11
    assert grown("pgweir_query_duration_seconds_sum", database="postgres", route="primary") > 0
    assert grown("pgweir_query_wait_seconds_count", database="postgres") >= 11
    assert grown("pgweir_errors_by_class_total", database="postgres", **{"class": "22"}) == 1
    assert grown("pgweir_errors_total", database="postgres") >= 1
    assert grown("pgweir_pins_total", reason="TEMP") == 1
    for name in ("pgweir_queries_total", "pgweir_pool_clients", "pgweir_server_up", "pgweir_xact_seconds_total"):
        assert name in after.kinds
    assert after.kinds["pgweir_replica_lag_seconds"] == after.kinds["pgweir_replica_rounds_behind"] == "gauge"
    assert len(after.samples) < 500


def test_metrics_of_pins(pgweir, database):
    """Why clients keep their server connection, and since when; gone with the pin."""
    proxy = pgweir(settings={"workers": 1}, http=True)
    with proxy.connect(database=database) as client:
        client.query("create temp table x(i int)")
        client.query("select pg_advisory_lock(7)")

        def age(reason):
            return read_metrics(proxy).value("pgweir_pin_age_seconds", reason=reason)
        wait_until(lambda: age("TEMP") > 0 and age("ADVISORY_LOCK") > 0, "the age grows")
        assert read_metrics(proxy).value("pgweir_pinned_clients", reason="TEMP") == 1
        client.query("drop table x")
        wait_until(lambda: age("TEMP") == 0, "the table's pin is gone")
        assert age("ADVISORY_LOCK") > 0
        client.query("select pg_advisory_unlock_all()")
        wait_until(lambda: read_metrics(proxy).value("pgweir_pinned_clients", reason="ADVISORY_LOCK") == 0, "the lock's is gone")


def test_metrics_are_bounded(pgweir):
    """With "*" in [databases] everybody who may log in can make up names."""
    proxy = pgweir(settings={"workers": 1}, http=True)
    for i in range(320):
        wire_client = wire.Connection(proxy.port)
        wire_client.send(wire.startup({"user": "postgres", "database": f"db\x01\"\\{i}"}))
        wire_client.read()
        wire_client.sock.close()
    metrics = read_metrics(proxy)
    assert metrics.value("pgweir_pool_clients", database="(other)", user="(other)") >= 0
    assert len({labels for (name, labels) in metrics.samples if name == "pgweir_pool_clients"}) == 301


@pytest.mark.long
def test_promtool(proxy, workspace):
    with proxy.connect() as client:
        client.query("select 1")
        client.query("select 1 / 0", check=False)
    path = workspace.write(proxy.folder / "metrics.txt", proxy.http_get("/metrics")[1])
    workspace.run("bash", "-c", f"promtool check metrics <{path}")


# --- SHOW ADVICE ---


@contextlib.contextmanager
def working(proxy, sql, clients):
    stop = threading.Event()

    def work():
        with proxy.connect() as client:
            while not stop.is_set():
                client.query(sql)
    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_advice_for_a_pool_that_is_too_small(pgweir):
    """One server for four clients whose statements sleep: twice as many would serve twice as much."""
    proxy = pgweir(settings={"default_pool_size": 1})

    def advice():
        rows = [row for row in proxy.admin("show advice") if row["host"].endswith(str(proxy.cluster.primary.port))]
        waits = rows and rows[0]["rate_by_busy"] and int(rows[0]["wait_us"]) > int(rows[0]["target_us"])
        return rows[0] if waits and rows[0]["advised_size"] and "try more" in rows[0]["reason"] else None
    assert proxy.admin("show advice") == [] or advice() is None
    with working(proxy, "select txid_current(), pg_sleep(0.02)", 4):
        row = wait_until(advice, "there is advice")
    assert (row["pool_size"], row["advised_size"], row["not_needed"]) == ("1", "2", "0")
    assert float(row["waiting"]) > 0.5 and int(row["service_us"]) > 20000
    assert re.fullmatch(r"1:\d+", row["rate_by_busy"])
