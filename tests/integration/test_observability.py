"""What operators see of the queries: the slow-query log, SHOW QUERIES, SHOW APPLICATIONS, metrics."""
import json
import os
import re

import pytest
from harness import wire
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
