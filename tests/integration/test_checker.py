"""Histories of concurrent clients, checked in the manner of Jepsen: whatever happens to the servers meanwhile, nobody reads what
the level of consistency forbids, and no acknowledged write is lost or doubled.

Registers hold the number of the last write, each of which is made once: so a read says how far behind it is.  Lists grow by
unique elements.  The sum of the bank never changes."""
import contextlib
import itertools
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
        self.early = self.failovers = 0
        self.appended, self.unsure = {}, {}
        self.no_step_back = False  # is each step back within a transaction a problem, or may the primary be late (B1)?
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
    """Writes its own register and list, reads everybody's on all routes; reads what `level` says that it must see."""

    def __init__(self, number, endpoint, database, level, history, torn=False, only_reads=False):
        """endpoint: the proxy, or the primary itself; torn: it commits half of its transfers, so that the checker has a thief to
        catch; only_reads: what it may see depends on others alone."""
        super().__init__(name=f"client-{number}")
        self.number, self.endpoint, self.database, self.level, self.history = number, endpoint, database, level, history
        self.torn, self.only_reads = torn, only_reads
        self.random = random.Random(number)
        self.key = number if number <= KEYS else None
        self.habits = (1, 0, 0, 0, 0, 0) if only_reads else (6, 2, 1, 1, 1, 2)
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
        with self.endpoint.connect(database=self.database) as self.connection:
            self.seen = dict.fromkeys(range(1, KEYS + 1), 0)
            while not self.history.stop.is_set():
                self.random.choices((self.read, self.read_and_write, self.write, self.append, self.transfer, self.audit),
                                    self.habits)[0]()

    def read(self, key=None, hint=None):
        """Not less than this client, or any, has seen.  But for one thing, which no proxy can mend (B1): a commit shows on a
        standby before the primary shows it and its writer is told; to go back behind such a one is counted only."""
        key = key or self.random.randint(1, KEYS)
        if hint is None:
            # What is read at the primary tells the proxy how new the client's answers are.
            hint = "" if self.only_reads else self.random.choices(("", "/* pgweir: route=primary */", "/* pgweir: route=replica */"), (8, 1, 1))[0]
        told, acknowledged = self.history.newest(key)
        floor = self.seen[key] if self.level == "session" else max(self.seen[key], told)
        value = int(self.connection.value(f"{hint} select v from registers where k = {key}"))
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
        """A transaction that begins as a read, on a replica perhaps, and moves: to read once more, or to write."""
        key = self.random.randint(1, KEYS)
        self.connection.query("begin")
        shown = [self.read(key, ""), self.read(key, ""), self.read(key, "/* pgweir: route=primary */")]
        if shown != sorted(shown) and self.history.no_step_back:
            self.history.problem(f"{self.name}: in one transaction register {key} showed {shown}")
        if self.key is not None:
            self.value += 1
            self.connection.query(f"update registers set v = {self.value} where k = {self.key} and v < {self.value}")
        self.connection.query("commit")
        if self.key is not None:
            self.seen[self.key] = self.value
            self.history.tell(self.key, self.value, acknowledged=True)

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
            if self.torn and account == high:
                self.connection.query("commit")
                self.connection.query("begin")
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


def disturb(cluster, links, proxy, history, seconds, fails_over):
    """Until the time is over and something has been read and written: standbys that stand still, backends that are ended,
    connections that are cut, and where the history is long enough for it, primaries that are killed or switched over."""
    chance = random.Random(1)
    end = time.monotonic() + seconds
    long_end = end + 120
    next_failover = time.monotonic() + 20
    kinds = itertools.cycle(("kill", "switch over"))
    with contextlib.ExitStack() as at_end:
        at_end.callback(lambda: cluster.standbys[-1].resume_replay())
        while not history.stop.is_set() and (time.monotonic() < end or (history.is_short() and time.monotonic() < long_end)):
            what = chance.choice(("pause", "resume", "end", "cut"))
            slow = cluster.standbys[-1]
            if fails_over and next_failover < time.monotonic() < end - 30:
                slow.resume_replay()
                fail_over(cluster, proxy, history, next(kinds))
                next_failover = time.monotonic() + 20
            elif what == "pause":
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


def fail_over(cluster, proxy, history, how="kill", comes_back=True):
    """The primary loses its power, or is stopped after an announcement; the first standby, which every acknowledged write has waited
    for, takes over.  What was the primary comes back as the standby that is waited for next."""
    if history.stop.is_set():
        return
    old, standby = cluster.primary, cluster.standby
    if how == "kill":
        old.kill()
    else:
        proxy.admin("PAUSE")
        old.stop("fast")
    standby.promote()
    cluster.switch_primary(standby)
    history.failovers += 1
    others = [node for node in cluster.standbys if node is not old]
    for node in others:
        cluster.follow(node, standby)
        node.reload()
    if how != "kill":
        proxy.admin("RESUME")
    wrote = history.writes
    wait_until(lambda: history.writes > wrote or history.stop.is_set(), "writes go on at the new primary")
    if comes_back:
        cluster.rebuild(old)
        cluster.standbys = [old, *others]
        old.replay_lag("30ms")
        wait_until(lambda: standby.value("select count(*) from pg_stat_replication where state = 'streaming' and application_name = "
                                         f"'{old.name}'") == "1", "it streams")
        standby.reload(synchronous_standby_names=old.name)


def check_end(cluster, database, history):
    """No acknowledged element is missing, none is there that nobody added, and none twice (its primary key sees to that)."""
    there = {(int(owner), int(element)) for owner, element in cluster.primary.query("select owner, element from list", database=database)}
    lost = set(history.appended) - there
    invented = there - set(history.unsure)
    assert not lost and not invented, f"lost {sorted(lost)[:5]}, invented {sorted(invented)[:5]}"
    registers = {int(k): int(v) for k, v in cluster.primary.query("select k, v from registers", database=database)}
    assert all(registers[key] >= value for key, value in history.acknowledged.items()), (registers, history.acknowledged)
    assert cluster.primary.value("select sum(n) from bank", database=database) == str(100 * ACCOUNTS)


def check(new_cluster, pgweir, level, seconds, fails_over="", synchronous=False, broken=None, past_the_proxy=False, torn=False, split=False,
          one_replica=False, **settings):
    """A history: the cluster, its database, and what was found.  fails_over: at the "end", or "often"; synchronous: each commit waits
    until a standby that is late shows it, while the other one shows it already; broken: rules that this proxy
    shall not keep; past_the_proxy: every second client writes to the primary itself;
    split: every other one only reads, and so do always the last two; one_replica: the proxy has only that which is paused now and
    then: who reads there stays there, with answers from before."""
    cluster = new_cluster(standbys=2)
    database = cluster.create_database(SCHEMA)
    cluster.standbys[0].replay_lag("30ms")
    history = History()
    if fails_over or synchronous:
        cluster.primary.reload(synchronous_standby_names="standby1", **({"synchronous_commit": "remote_apply"} if synchronous else {}))
    history.no_step_back = synchronous
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(Link(node.port)) for node in cluster.nodes]
        proxy = pgweir(on=cluster, hosts=[link.port for link in links[::2 if one_replica else 1]], environment=broken and {"PGWEIR_BREAK": broken},
                       settings={"consistency": level, "transaction_consistency": level, "monitor_interval": "100ms", **settings})
        wait_until(lambda: proxy.query("select 1", database=database), "it serves")
        clients = [Client(number, cluster.primary if past_the_proxy and number % 2 else proxy, database, level, history, torn,
                          only_reads=number > KEYS + 2 or (split and number % 2 == 0))
                   for number in range(1, KEYS + 5)]
        for client in clients:
            client.start()
        try:
            disturb(cluster, links, proxy, history, seconds, fails_over == "often")
            if fails_over:
                fail_over(cluster, proxy, history, comes_back=False)
        finally:
            history.stop.set()
            for client in clients:
                client.join()
        stats = proxy.admin("SHOW STATS")
        proxy.stop()
    print(f"{level}: {history.reads} reads, {history.writes} writes, {history.errors} errors, {history.early} early reads, "
          f"{history.failovers} failovers, {len(history.problems)} problems, {len(stats)} databases")
    return cluster, database, history


@pytest.mark.parametrize("level", ["session", "database", "strong"])
def test_histories_are_consistent(new_cluster, pgweir, level):
    cluster, database, history = check(new_cluster, pgweir, level, SECONDS / 3)
    assert history.problems == []
    assert not history.is_short(), (history.reads, history.writes, history.errors)
    check_end(cluster, database, history)


def test_a_history_through_failovers_keeps_what_was_acknowledged(new_cluster, pgweir):
    """Under synchronous replication, on all routes.  In the long form the primary is killed and switched over again and again."""
    cluster, database, history = check(new_cluster, pgweir, "database", SECONDS / 4, fails_over="often")
    assert history.problems == []
    check_end(cluster, database, history)


def test_no_transaction_goes_back_under_synchronous_replication(new_cluster, pgweir):
    """Rule B1: what its replica has shown is there when it moves."""
    cluster, database, history = check(new_cluster, pgweir, "database", SECONDS / 4, synchronous=True)
    assert history.problems == []
    check_end(cluster, database, history)


def test_an_asynchronous_failover_loses_an_end_and_invents_nothing(new_cluster, pgweir):
    """What the standby has not got is lost with the primary: that is counted.  It is the last that each client was told before;
    nothing of before or after it is missing, and nothing is there that nobody has sent."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    history = History()
    proxy = pgweir(on=cluster, settings={"monitor_interval": "100ms"}).wait_for_replicas(database)
    clients = [Client(number, proxy, database, "database", history) for number in range(1, KEYS + 1)]

    def appended():
        return set(history.appended.copy())

    def go_on():
        before = appended()
        wait_until(lambda: history.stop.is_set() or {owner for owner, _ in appended() - before} == set(range(1, KEYS + 1)),
                   "each client has added something")
        return appended()

    for client in clients:
        client.habits = (0, 0, 0, 1, 0, 0)
        client.start()
    try:
        go_on()
        old, standby = cluster.primary, cluster.standby
        cluster.settle()
        safe = appended()
        cluster.settle()
        standby.reload(primary_conninfo="")
        wait_until(lambda: old.value("select count(*) from pg_stat_replication") == "0", "the standby gets no more")
        go_on()
        old.kill()
        standby.promote()
        cluster.switch_primary(standby)
        gone = appended()
        later = go_on() - gone
    finally:
        history.stop.set()
        for client in clients:
            client.join()
    proxy.stop()
    assert history.problems == []
    there = {(int(owner), int(element)) for owner, element in standby.query("select owner, element from list", database=database)}
    lost = appended() - there
    print(f"{len(lost)} of {len(appended())} acknowledged elements were lost with the old primary")
    assert lost and not lost & safe and not there - set(history.unsure)
    for owner, element in lost:
        assert element < min((e for o, e in later & there if o == owner), default=element + 1)


# --- the checker sees what it looks for, when the guarantee is switched off ---

OLD = {"max_replica_lag": "60s"}


@pytest.mark.parametrize("guarantee, given", [("session", "eventual"), ("database", "session")])
def test_the_checker_sees_an_old_read(new_cluster, pgweir, guarantee, given):
    """Replicas that may be old, or that are fresh only for the client that has written."""
    settings = {"consistency": given, "transaction_consistency": given, **OLD}
    _, _, history = check(new_cluster, pgweir, guarantee, 60, split=True, one_replica=True, **settings)
    assert any("showed" in problem for problem in history.problems), history.problems


def test_the_checker_sees_a_read_that_is_not_linearizable(new_cluster, pgweir):
    """At `database`, of what was written past the proxy."""
    settings = {"consistency": "database", "transaction_consistency": "database", **OLD}
    _, _, history = check(new_cluster, pgweir, "strong", 60, past_the_proxy=True, split=True, one_replica=True, **settings)
    assert any("showed" in problem for problem in history.problems), history.problems


def test_linearizable_reads_of_what_is_written_past_the_proxy(new_cluster, pgweir):
    """At `strong` it is not so."""
    _, _, history = check(new_cluster, pgweir, "strong", SECONDS / 4, past_the_proxy=True, split=True)
    assert history.problems == []


def test_the_checker_sees_a_transaction_that_goes_back(new_cluster, pgweir):
    """Without rule B1."""
    _, _, history = check(new_cluster, pgweir, "database", 60, synchronous=True, broken="b1", replica_wait="1s")
    assert any("in one transaction" in problem for problem in history.problems), history.problems


def test_the_checker_sees_a_bank_that_does_not_add_up(new_cluster, pgweir):
    _, _, history = check(new_cluster, pgweir, "database", 60, torn=True)
    assert any("the bank has" in problem for problem in history.problems), history.problems


def test_the_checker_sees_a_lost_write(new_cluster, pgweir):
    """An acknowledged element that the primary does not have, and one that nobody has added."""
    cluster, database, history = check(new_cluster, pgweir, "database", 1)
    check_end(cluster, database, history)
    lost, = cluster.primary.query("delete from list where (owner, element) in (select owner, element from list limit 1) "
                                  "returning owner, element", database=database)
    with pytest.raises(AssertionError, match="lost"):
        check_end(cluster, database, history)
    cluster.primary.query(f"insert into list values ({lost[0]}, {lost[1]}), (99, 1)", database=database)
    with pytest.raises(AssertionError, match="invented"):
        check_end(cluster, database, history)
