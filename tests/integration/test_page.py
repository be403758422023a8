"""The live page at "/": what it is served with, and (in make test-long) what a browser makes of it under load."""
import contextlib
import pathlib
import re
import threading
import urllib.request

import pytest
from harness.browser import Browser, find_chromium
from harness.proxy import Pgweir
from harness.system import BUILD, wait_until

XSS = [
    "<script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "\"><svg onload=window.hacked=1>",
    "'-window.hacked=1-'",
    "javascript:window.hacked=1",
    "</script><script>window.hacked=1//",
    "&lt;b&gt;{{7*7}}${window.hacked=1}",
    "</style><iframe srcdoc='<script>1'>",
]


@pytest.fixture(scope="module")
def proxy(shared_cluster):
    settings = {"default_pool_size": 3, "log_min_duration": "off"}
    with Pgweir(shared_cluster, settings=settings, http=True) as running:
        running.wait_for_replicas()
        yield running


def address(proxy):
    return f"http://127.0.0.1:{proxy.http_port}/"


def test_served_with_a_policy_and_nothing_from_elsewhere(proxy):
    pages = []
    for _ in range(2):
        with urllib.request.urlopen(address(proxy), timeout=30) as answer:
            pages.append((answer.headers, answer.read().decode()))
    nonces = [re.search(r"script-src 'nonce-([0-9a-f]{32})'", headers["Content-Security-Policy"])[1] for headers, _ in pages]
    assert nonces[0] != nonces[1]
    for nonce, (headers, text) in zip(nonces, pages):
        assert headers["Content-Type"].startswith("text/html")
        assert text.count(f'nonce="{nonce}"') == 2 and "@NONCE@" not in text
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert set(re.findall(r"\w+://[^\"' )]+", text)) <= {"http://www.w3.org/2000/svg"}
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function| on\w+=", text)


def test_what_the_page_reads(proxy):
    with proxy.connect(application_name=XSS[0]) as client:
        client.query(f'select 1 as "{XSS[1]}"')
        status, body = proxy.http_get("/api/live")
    assert status == 200
    assert {"version", "state", "databases", "pools", "stats", "servers", "latencies", "queries", "applications"} == set(body)
    assert XSS[0] in [row["application_name"] for row in body["applications"]]
    assert any(XSS[1] in row["query"] for row in body["queries"])
    assert {row["what"] for row in body["latencies"]} <= {"primary", "replica", "wait"}
    assert sum(row["requests"] for row in body["latencies"] if row["what"] == "wait") == sum(
        row["requests"] for row in body["latencies"] if row["what"] != "wait")


@contextlib.contextmanager
def load(proxy, clients=6):
    """Names and statements from the list, reads and writes, more clients than servers."""
    stop = threading.Event()

    def work(i):
        with proxy.connect(application_name=XSS[i % len(XSS)]) as client:
            while not stop.is_set():
                name = XSS[i % len(XSS)].replace('"', '""')
                client.query(f'select count(*) as "{name}" from generate_series(1, {i * 1000 + 1})')
                client.query("select txid_current(), pg_sleep(0.002)")
                if i == 0:
                    client.query("select 1 / 0", check=False)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.long
def test_in_a_browser_under_load(proxy):
    assert find_chromium(), "make test-long installs Chromium"
    folder = pathlib.Path(BUILD) / "screenshots"
    folder.mkdir(exist_ok=True)
    with load(proxy, clients=len(XSS)), Browser() as browser:
        browser.size(1280, 900)
        browser.open(address(proxy))
        wait_until(lambda: browser.evaluate("document.querySelectorAll('#queries tbody tr').length > 8 "
                                            "&& document.querySelectorAll('#throughput path').length >= 4"), "it shows something", timeout=60)
        points = "document.querySelector('#throughput path[stroke-width]')?.getAttribute('d').length || 0"
        wait_until(lambda: browser.evaluate(points) > 150, "lines have grown", timeout=90)
        shown = browser.evaluate("document.body.innerText")
        for text in XSS[:len(XSS) - 1]:
            assert text in shown, text
        assert browser.evaluate("window.hacked === undefined")
        assert browser.evaluate("document.querySelectorAll('img, iframe, script, object, embed').length") == 1
        for width, dark in ((1280, False), (1280, True), (480, False)):
            browser.size(width, 900)
            browser.dark(dark)
            wait_until(lambda: browser.evaluate("document.querySelectorAll('#lag svg').length") == 1, "drawn")
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"wider than {width}"
            browser.screenshot(folder / f"page-{width}{'-dark' if dark else ''}.png")
        assert [url for url in browser.requests() if not url.startswith((address(proxy), "data:", "about:"))] == []
        assert browser.complaints() == []
