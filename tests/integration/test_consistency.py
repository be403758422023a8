"""Reads see what they must: one's own writes and everybody's acknowledged ones, however far the standby lags."""
import statistics
import subprocess
import threading
import time

import pytest
from harness.postgres import find_programs
from harness.system import wait_until

SCHEMA = "create table counters(id int primary key, n int not null); insert into counters select g, 0 from generate_series(1, 8) g"


class Writers:
    """Eight clients, each with a row of its own and two connections: one writes, and both must see that at once.  The second
    one looks at everybody's rows, which must never go back."""

    def __init__(self, proxy, database):
        self.proxy, self.database = proxy, database
        self.failures, self.turns = [], [0] * 8
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._work, args=(n,)) for n in range(1, 9)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def have_turned(self, times):
        """Has each client made so many turns from the start, or has something gone wrong?"""
        return self.failures or min(self.turns) >= times

    def _work(self, number):
        try:
            with self.proxy.connect(database=self.database) as writer, self.proxy.connect(database=self.database) as reader:
                newest = [0] * 8
                while not self.ended.is_set():
                    newest = self._turn(number, writer, reader, newest)
        except Exception as failure:  # shown by the main thread
            self.failures.append(f"client {number}: {failure!r}")

    def _turn(self, number, writer, reader, newest):
        turn = self.turns[number - 1] + 1
        writer.query(f"update counters set n = {turn} where id = {number}")
        same = int(writer.value(f"select n from counters where id = {number}"))
        others = [int(row[0]) for row in reader.query("select n from counters order by id").rows]
        if (same, others[number - 1]) != (turn, turn):
            self.failures.append(f"client {number} wrote {turn}; the same connection saw {same}, the other {others[number - 1]}")
        if any(now < before for now, before in zip(others, newest)):
            self.failures.append(f"client {number} saw {newest} and then {others}")
        self.turns[number - 1] = turn
        return others


def lagging(new_cluster, pgweir, **options):
    """A cluster whose standby lags by 50 ms, a database, and a proxy with default settings."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, **options).wait_for_replicas(database)
    cluster.standby.replay_lag("50ms")
    return cluster, database, proxy


@pytest.mark.threads
def test_own_writes_are_read_on_every_connection_while_the_standby_lags(new_cluster, pgweir):
    cluster, database, proxy = lagging(new_cluster, pgweir)
    with Writers(proxy, database) as writers:
        wait_until(lambda: writers.have_turned(15), "the clients write")
        cluster.standby.restart()
        turned = max(writers.turns)
        wait_until(lambda: writers.have_turned(turned + 15), "the clients go on")
    assert writers.failures == []
    proxy.wait_for_replicas(database)  # when the writing has ended, reads go to the standby again


@pytest.mark.long
def test_read_your_writes_at_full_length(new_cluster, pgweir):
    """A minute, with the standby restarted in the middle; from a second after the last write on, reads run on the standby."""
    cluster, database, proxy = lagging(new_cluster, pgweir, build="release")
    cluster.primary.reload(log_statement="none")
    began = time.monotonic()
    with Writers(proxy, database) as writers:
        wait_until(lambda: writers.failures or time.monotonic() > began + 30, "half a minute has passed")
        cluster.standby.restart()
        wait_until(lambda: writers.failures or time.monotonic() > began + 60, "a minute has passed")
    last_write = time.monotonic()
    assert writers.failures == []
    sql, reads = "select sum(n) from counters", 2000
    with proxy.connect(database=database) as client:
        wait_until(lambda: client.query("select 1") and time.monotonic() > last_write + 1, "a second has passed")
        mark = cluster.mark()
        for _ in range(reads):
            assert client.value(sql) == str(sum(writers.turns))
    on_standby = cluster.where(sql, mark).count("standby1")
    print(f"{sum(writers.turns)} writes, each read twice; then {on_standby} of {reads} reads on the standby")
    assert on_standby >= 0.99 * reads


def test_a_paused_standby_never_shows_the_past(new_cluster, pgweir):
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(database)
    cluster.standby.pause_replay()
    with proxy.connect(database=database) as writer, proxy.connect(database=database) as reader:
        writer.query("update counters set n = 7 where id = 1")
        assert reader.value("select n from counters where id = 1") == "7"
        assert writer.value("select n from counters where id = 1") == "7"
    cluster.standby.resume_replay()
    proxy.wait_for_replicas(database)


def test_rule_b3_a_restarted_standby_never_goes_back(new_cluster, pgweir):
    """After a crash a standby serves older states than it had shown; its old proofs must not count."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(database)
    with proxy.connect(database=database) as client:
        for turn in range(1, 4):
            client.query(f"update counters set n = {turn} where id = 1")
            cluster.standby.stop("immediate")
            assert client.value("select n from counters where id = 1") == str(turn)
            cluster.standby.start()
            for _ in range(20):
                assert client.value("select n from counters where id = 1") == str(turn)
        proxy.wait_for_replicas(database)


def test_eventual_reads_may_be_old_and_still_go_to_the_standby(new_cluster, pgweir):
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, settings={"consistency": "eventual"})
    proxy.wait_for_replicas(database)
    cluster.standby.pause_replay()
    with proxy.connect(database=database) as client:
        client.query("update counters set n = 7 where id = 1")
        assert client.value("select n from counters where id = 1") == "0"
    cluster.standby.resume_replay()
    cluster.settle()
    wait_until(lambda: proxy.value("select n from counters where id = 1", database=database) == "7", "the standby catches up")


def test_rule_b2_a_read_on_the_primary_is_never_followed_by_an_older_one(new_cluster, pgweir):
    """What a client has read on the primary it must see on the standby, even if nobody wrote it through this proxy."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(database)
    sql = "select n from counters where id = 3"
    with proxy.connect(database=database) as client:
        mark = cluster.mark()
        wait_until(lambda: client.value(sql) == "0" and "standby1" in cluster.where(sql, mark), "the client reads on the standby")
        cluster.standby.pause_replay()
        cluster.primary.query("update counters set n = 5 where id = 3", database=database)
        assert client.value("/* pgweir: route=primary */ " + sql) == "5"
        assert client.value(sql) == "5"
    cluster.standby.resume_replay()


def test_rule_b2_a_notification_is_not_ahead_of_its_data(new_cluster, pgweir):
    """LISTEN, NOTIFY after a write, then a read: the read sees the write."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster)
    proxy.wait_for_replicas(database)
    cluster.standby.pause_replay()
    with proxy.connect(database=database) as listener, proxy.connect(database=database) as writer:
        listener.query("listen changed")
        writer.query("begin")
        writer.query("update counters set n = 9 where id = 2")
        writer.query("notify changed")
        writer.query("commit")
        listener.read_until("A")
        assert listener.value("select n from counters where id = 2") == "9"
    cluster.standby.resume_replay()


def test_rule_b8_strong_reads_see_what_anybody_was_told(new_cluster, pgweir):
    """Written past this proxy, where it cannot know of it; each statement of READ COMMITTED must see it, on the standby."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, settings={"consistency": "strong", "replica_wait": "20s"}).wait_for_replicas(database)
    read = "select n from counters where id = 1"
    with proxy.connect(database=database) as client, cluster.primary.connect(database=database) as writer:
        client.query("/* pgweir: route=primary */ select 'known'")
        mark = cluster.mark()
        for turn in range(1, 60):
            inside = turn % 3 == 0
            if inside:
                client.query("begin")
                client.value(read)
            writer.query(f"update counters set n = {turn} where id = 1")
            assert client.value(read) == str(turn)
            if inside:
                client.query("commit")
        assert set(cluster.where(read, mark)) == {"standby1"}


def test_strong_reads_share_their_samples(new_cluster, pgweir):
    """Whoever waits at the same time waits for one look at the primary's position."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    proxy = pgweir(on=cluster, settings={"consistency": "strong", "replica_wait": "20s", "default_pool_size": 32,
                                         "monitor_interval": "10s"}).wait_for_replicas(database)
    script = cluster.workspace.write(cluster.folder / "read.sql", "select n from counters where id = 1;\n")
    before = int(proxy.admin("SHOW REPLICAS")[0]["round"])
    subprocess.run([find_programs() / "pgbench", "-n", "-c", "32", "-t", "40", "-f", script, proxy.dsn(database)], check=True,
                   capture_output=True, timeout=120)
    rounds = int(proxy.admin("SHOW REPLICAS")[0]["round"]) - before
    assert rounds * 2 < 32 * 40, rounds


@pytest.mark.long
def test_what_strong_reads_cost(new_cluster, pgweir):
    """Figures, with the primary idle: a strong read's time at the median beside an eventual one's, taken in turns, and how many strong
    reads of 32 clients share one sample of the primary.  Of these only the sharing is asserted."""
    cluster = new_cluster()
    database = cluster.create_database(SCHEMA)
    cluster.primary.reload(log_statement="none")
    proxy = pgweir(on=cluster, settings={"replica_wait": "1s", "default_pool_size": 32}).wait_for_replicas(database)
    cluster.standby.reload(log_statement="none")
    levels = ("eventual", "session", "database", "strong")
    took = {level: [] for level in levels}
    with proxy.connect(database=database) as client:
        for turn in range(2000):
            level = levels[turn % 4]
            began = time.perf_counter()
            client.query(f"/* pgweir: consistency={level} */ select n from counters where id = 1")
            took[level].append(1e6 * (time.perf_counter() - began))
    print("; ".join(f"{level}: {statistics.median(times):.0f} us" for level, times in took.items()))
    script = cluster.workspace.write(cluster.folder / "read.sql", "/* pgweir: consistency=strong */ select n from counters where id = 1;\n")
    before, replica = int(proxy.admin("SHOW REPLICAS")[0]["round"]), cluster.standby.value("select xact_commit from pg_stat_database "
                                                                                           f"where datname = '{database}'")
    subprocess.run([find_programs() / "pgbench", "-n", "-c", "32", "-t", "500", "-f", script, proxy.dsn(database)], check=True,
                   capture_output=True, timeout=170)
    rounds = int(proxy.admin("SHOW REPLICAS")[0]["round"]) - before
    there = int(cluster.standby.value(f"select xact_commit from pg_stat_database where datname = '{database}'")) - int(replica)
    print(f"32 clients: {32 * 500} strong reads, {there} transactions on the standby, {rounds} samples: "
          f"{32 * 500 / rounds:.1f} reads for each sample")
    assert rounds * 5 < 32 * 500
