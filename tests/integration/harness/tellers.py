"""Twenty clients with pgbench's transaction, who know what they were about when an error came.

    with Tellers(proxy, database) as tellers:     # a database made with BANK
        tellers.wait_for_work()
    tellers.check(node, database)                 # only writers saw errors, and what was acknowledged is there"""
import threading
import time

from .system import wait_until
from .wire import Closed, PgError

BANK = """
create table accounts(id int primary key, n int not null);
insert into accounts select g, 0 from generate_series(1, 1000) g;
create table branches(id int primary key, n int not null);
insert into branches select g, 0 from generate_series(1, 40) g;
create table history(client int, turn int, unique (client, turn));
"""


class Teller(threading.Thread):
    """A client with pgbench's transaction; every second one reads first, on a replica perhaps.  It knows what it was about when
    an error came."""

    def __init__(self, number, proxy, database, stop):
        super().__init__(name=f"teller-{number}")
        self.number, self.proxy, self.database, self.stopped = number, proxy, database, stop
        self.turn, self.state, self.when = 0, "idle", 0.0
        self.acknowledged, self.errors, self.surprise = [], [], None

    def run(self):
        try:
            while not self.stopped.is_set():
                with self.proxy.connect(database=self.database) as connection:
                    self.work(connection)
        except (Closed, OSError, PgError) as failure:  # shown by the main thread
            self.surprise = f"{self.name}, {self.state}: {failure!r}"

    def work(self, connection):
        """Returns when the connection is over: a backend that has the time to say that it ends (57P01) ends it for its client,
        too, if that was writing."""
        while not self.stopped.is_set():
            self.turn += 1
            try:
                self.transaction(connection)
                self.acknowledged.append(self.turn)
                self.when = time.monotonic()
            except PgError as error:
                self.errors.append((self.state, error.sqlstate))
                connection.query("rollback")
            except (Closed, OSError):
                if self.state not in ("writing", "committing"):
                    raise
                self.errors.append((self.state, "closed"))
                return

    def transaction(self, connection):
        self.state = "reading"
        connection.query("begin")
        if self.number % 2:
            connection.query(f"select n from accounts where id = {self.turn % 1000 + 1}")
        self.state = "writing"
        connection.query(f"update accounts set n = n + 1 where id = {(self.number * 31 + self.turn) % 1000 + 1}")
        connection.query(f"update branches set n = n + 1 where id = {self.number}")
        connection.query(f"insert into history values ({self.number}, {self.turn})")
        self.state = "committing"
        connection.query("commit")
        self.state = "idle"


class Tellers:
    """Twenty of them at work."""

    def __init__(self, proxy, database):
        self.stop = threading.Event()
        self.all = [Teller(number, proxy, database, self.stop) for number in range(1, 21)]

    def __enter__(self):
        for teller in self.all:
            teller.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for teller in self.all:
            teller.join()

    def wait_for_work(self, since=None):
        """Each has done something since that time."""
        since = since or time.monotonic()
        wait_until(lambda: all(t.when > since or t.surprise for t in self.all), "each client works")

    def check(self, node, database, codes=("08006", "08007", "closed")):
        """Only who was writing has seen an error, each at most one; what was acknowledged is there."""
        surprises = [t.surprise for t in self.all if t.surprise]
        assert not surprises, surprises
        errors = [error for t in self.all for error in t.errors]
        wrong = {t.name: t.errors for t in self.all if len(t.errors) > 1 or any(
            state not in ("writing", "committing") or code not in codes for state, code in t.errors)}
        assert not wrong, wrong
        there = {(int(client), int(turn)) for client, turn in node.query("select client, turn from history", database=database)}
        acknowledged = {(t.number, turn) for t in self.all for turn in t.acknowledged}
        assert acknowledged <= there, sorted(acknowledged - there)[:5]
        begun = {(t.number, turn) for t in self.all for turn in range(1, t.turn + 1)}
        assert there <= begun
        assert node.value("select sum(n) from accounts", database=database) == str(len(there))
        return len(errors)
