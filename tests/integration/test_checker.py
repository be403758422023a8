"""Histories of concurrent clients, checked in the manner of Jepsen: whatever happens to the servers meanwhile, nobody reads what
the level of consistency forbids, and no acknowledged write is lost or doubled.

Registers hold the number of the last write, each of which is made once: so a read says how far behind it is.  Lists grow by
unique elements.  The sum of the bank never changes."""
import contextlib
import os
import random
import threading
import time

import pytest
from harness.network import Link
from harness.system import wait_until
from harness.wire import Closed, PgError

KEYS, ACCOUNTS = 4, 6
SCHEMA = f"""
create table registers(k int primary key, v int not null);
insert into registers select g, 0 from generate_series(1, {KEYS}) g;
create table list(owner int, element int, primary key (owner, element));
create table bank(id int primary key, n int not null);
insert into bank select g, 100 from generate_series(1, {ACCOUNTS}) g;
"""
SECONDS = float(os.environ.get("PGWEIR_CHECKER_SECONDS", "9"))
BROKEN = (PgError, Closed, OSError)


class History:
    """What all clients know together.  A register's `told`: the newest value that anybody has seen; `acknowledged`: whose
    writer has been told that it is there."""

    def __init__(self):
        self.lock = threading.Lock()
        self.told = dict.fromkeys(range(1, KEYS + 1), 0)
        self.acknowledged = dict(self.told)
        self.early = 0
        self.appended, self.unsure = {}, {}
        self.problems, self.reads, self.writes, self.errors = [], 0, 0, 0
        self.stop = threading.Event()

    def is_short(self):
        """Too little has happened to say anything."""
        return self.reads <= 50 or self.writes <= 5

    def problem(self, text):
        with self.lock:
            self.problems.append(text)
        self.stop.set()

    def tell(self, key, value, acknowledged=False):
        with self.lock:
            self.told[key] = max(self.told[key], value)
            if acknowledged:
                self.acknowledged[key] = max(self.acknowledged[key], value)

    def newest(self, key):
        with self.lock:
            return self.told[key], self.acknowledged[key]


class Client(threading.Thread):
    """Writes its own register and list, reads everybody's; reads what `level` says that it must see."""

    def __init__(self, number, proxy, database, level, history):
        super().__init__(name=f"client-{number}")
        self.number, self.proxy, self.database, self.level, self.history = number, proxy, database, level, history
        self.random = random.Random(number)
        self.key = number if number <= KEYS else None
        self.value = self.element = 0
        self.seen = {}  # of this connection
        self.connection = None

    def run(self):
        while not self.history.stop.is_set():
            try:
                self.session()
            except BROKEN:
                self.history.errors += 1
            except Exception as failure:  # shown by the main thread
                self.history.problem(f"{self.name}: {failure!r}")

    def session(self):
        with self.proxy.connect(database=self.database) as self.connection:
            self.seen = dict.fromkeys(range(1, KEYS + 1), 0)
            while not self.history.stop.is_set():
                self.random.choices((self.read, self.read_and_write, self.write, self.append, self.transfer, self.audit),
                                    (6, 2, 1, 1, 1, 2))[0]()

    def read(self, key=None):
        """Not less than this client, or any, has seen.  But for one thing, which no proxy can mend (B1): a commit shows on a
        standby before the primary shows it and its writer is told; to go back behind such a one is counted only."""
        key = key or self.random.randint(1, KEYS)
        told, acknowledged = self.history.newest(key)
        floor = self.seen[key] if self.level == "session" else max(self.seen[key], told)
        value = int(self.connection.value(f"select v from registers where k = {key}"))
        if value < min(floor, acknowledged):
            self.history.problem(f"{self.name}: register {key} showed {value} after {floor}")
        self.history.early += value < floor
        self.seen[key] = max(self.seen[key], value)
        self.history.tell(key, value)
        self.history.reads += 1
        return value

    def write(self):
        if self.key is None:
            return
        self.value += 1
        # Its outcome may stay unknown; the value is never used again.
        tags = self.connection.query(f"update registers set v = {self.value} where k = {self.key} and v < {self.value}").tags
        assert tags == ["UPDATE 1"]
        self.seen[self.key] = self.value
        self.history.tell(self.key, self.value, acknowledged=True)
        self.history.writes += 1

    def read_and_write(self):
        """A transaction that begins as a read, on a replica perhaps, and moves."""
        key = self.key or self.random.randint(1, KEYS)
        self.connection.query("begin")
        self.read(key)
        self.read(key)
        if self.key is not None:
            self.value += 1
            self.connection.query(f"update registers set v = {self.value} where k = {key} and v < {self.value}")
        self.connection.query("commit")
        if self.key is not None:
            self.seen[key] = self.value
            self.history.tell(key, self.value, acknowledged=True)

    def append(self):
        """Read, then write what follows from it: each element once."""
        self.element += 1
        mine = (self.number, self.element)
        self.history.unsure[mine] = True
        self.connection.query("begin")
        count = int(self.connection.value(f"select count(*) from list where owner = {self.number} and element = {self.element}"))
        if count:
            self.history.problem(f"{self.name}: element {self.element} is there before it was added")
        self.connection.query(f"insert into list values ({self.number}, {self.element})")
        self.connection.query("commit")
        self.history.appended[mine] = True

    def transfer(self):
        source, target = self.random.sample(range(1, ACCOUNTS + 1), 2)
        low, high = min(source, target), max(source, target)
        self.connection.query("begin")
        self.connection.query("select count(*) from bank")
        for account in (low, high):
            self.connection.query(f"update bank set n = n + {-1 if account == source else 1} where id = {account}")
        self.connection.query("commit")

    def audit(self):
        repeatable = self.random.random() < 0.3
        if repeatable:
            self.connection.query("begin isolation level repeatable read" + self.random.choice(("", " read only")))
        total = sum(int(self.connection.value(f"select n from bank where id = {n}")) for n in range(1, ACCOUNTS + 1)) if repeatable \
            else int(self.connection.value("select sum(n) from bank"))
        if total != 100 * ACCOUNTS:
            self.history.problem(f"{self.name}: the bank has {total}")
        if repeatable:
            self.connection.query("commit")


def disturb(cluster, links, history, seconds):
    """Until the time is over and something has been read and written: standbys that stand still, backends that are ended,
    connections that are cut."""
    chance = random.Random(1)
    end = time.monotonic() + seconds
    long_end = end + 120
    with contextlib.ExitStack() as at_end:
        slow = cluster.standbys[-1]
        at_end.callback(slow.resume_replay)
        while not history.stop.is_set() and (time.monotonic() < end or (history.is_short() and time.monotonic() < long_end)):
            what = chance.choice(("pause", "resume", "end", "cut"))
            if what == "pause":
                slow.pause_replay()
            elif what == "resume":
                slow.resume_replay()
            elif what == "end":
                node = chance.choice(cluster.nodes)
                node.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = '' and "
                           "backend_type = 'client backend' and datname like 'test%' order by random() limit 2")
            else:
                chance.choice(links).cut()
            history.stop.wait(0.3)


def fail_over(cluster, history):
    """The primary loses its power; the first standby, which every acknowledged write has waited for, takes over."""
    if history.stop.is_set():
        return
    standby = cluster.standby
    cluster.primary.kill()
    standby.promote()
    cluster.switch_primary(standby)
    wrote = history.writes
    wait_until(lambda: history.writes > wrote or history.stop.is_set(), "writes go on at the new primary")


def check_end(cluster, database, history):
    """No acknowledged element is missing, none is there that nobody added, and none twice (its primary key sees to that)."""
    there = {(int(owner), int(element)) for owner, element in cluster.primary.query("select owner, element from list", database=database)}
    lost = set(history.appended) - there
    invented = there - set(history.unsure)
    assert not lost and not invented, f"lost {sorted(lost)[:5]}, invented {sorted(invented)[:5]}"
    registers = {int(k): int(v) for k, v in cluster.primary.query("select k, v from registers", database=database)}
    assert all(registers[key] >= value for key, value in history.told.items()), (registers, history.told)
    assert cluster.primary.value("select sum(n) from bank", database=database) == str(100 * ACCOUNTS)


def check(new_cluster, pgweir, level, seconds, kills_primary=False, **settings):
    cluster = new_cluster(standbys=2)
    database = cluster.create_database(SCHEMA)
    cluster.standbys[0].replay_lag("30ms")
    if kills_primary:
        cluster.primary.reload(synchronous_standby_names="standby1")
    history = History()
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(Link(node.port)) for node in cluster.nodes]
        proxy = pgweir(on=cluster, hosts=[link.port for link in links], settings={"consistency": level, "transaction_consistency": level,
                                                                                  "monitor_interval": "100ms", **settings})
        wait_until(lambda: proxy.query("select 1", database=database), "it serves")
        clients = [Client(number, proxy, database, level, history) for number in range(1, KEYS + 3)]
        for client in clients:
            client.start()
        try:
            disturb(cluster, links, history, seconds)
            if kills_primary:
                fail_over(cluster, history)
        finally:
            history.stop.set()
            for client in clients:
                client.join()
        proxy.stop()
    return cluster, database, history


@pytest.mark.parametrize("level", ["session", "database", "strong"])
def test_histories_are_consistent(new_cluster, pgweir, level):
    cluster, database, history = check(new_cluster, pgweir, level, SECONDS / 3)
    assert history.problems == []
    assert not history.is_short(), (history.reads, history.writes, history.errors)
    check_end(cluster, database, history)


def test_a_history_through_a_failover_keeps_what_was_acknowledged(new_cluster, pgweir):
    """Under synchronous replication.  A commit that waits for its standby shows on the others before: what is read of it outside of
    transactions is looked at on the primary."""
    cluster, database, history = check(new_cluster, pgweir, "database", SECONDS / 4, kills_primary=True, route="primary")
    assert history.problems == []
    check_end(cluster, database, history)


def test_the_checker_sees_an_old_read(new_cluster, pgweir):
    """Without the guarantee it must find what it looks for: replicas that may be old."""
    old = {"consistency": "eventual", "transaction_consistency": "eventual", "max_replica_lag": "60s"}
    _, _, history = check(new_cluster, pgweir, "database", 60, **old)
    assert any("showed" in problem for problem in history.problems)
