"""pgbench's three scripts in its three protocols: 32 clients over a pool of 10, splitting on.  No error, the books balance, the
reads of select-only ran on the replica and all else on the primary, by the servers' own pg_stat_statements."""
import re
import subprocess

import pytest
from harness.postgres import find_programs

CLIENTS = 32
PROTOCOLS = ["simple", "extended", "prepared"]
SUMS = """select (select coalesce(sum(abalance), 0) from pgbench_accounts), (select coalesce(sum(delta), 0) from pgbench_history),
    (select sum(tbalance) from pgbench_tellers), (select sum(bbalance) from pgbench_branches), (select count(*) from pgbench_history)"""
# What pgbench's scripts say, by pg_stat_statements; the rest is the preparation and the harness.
READS = "select abalance%"
WRITES = "(update|insert into) pgbench_(accounts|tellers|branches|history)%"


def calls(node, database, pattern):
    return int(node.value(f"""select coalesce(sum(calls), 0) from pg_stat_statements s join pg_database d on d.oid = s.dbid
        where datname = '{database}' and lower(query) similar to '{pattern}'""", database="postgres"))


class Bench:
    """pgbench on one database through one proxy."""

    def __init__(self, cluster, proxy, database):
        self.cluster, self.proxy, self.database = cluster, proxy, database

    def pgbench(self, *arguments):
        done = subprocess.run([find_programs() / "pgbench", *map(str, arguments), self.proxy.dsn(self.database)],
                              capture_output=True, text=True, timeout=170, check=False)
        assert done.returncode == 0 and "error" not in done.stderr, done.stderr[-3000:]
        return done.stdout

    def run(self, script, protocol, amount):
        """Transactions that pgbench says have been processed; none may have failed."""
        # One thread per client: with prepared statements pgbench blocks itself otherwise.
        said = self.pgbench("-n", "-b", script, "-M", protocol, "-c", CLIENTS, "-j", CLIENTS, *amount)
        assert re.search(r"failed transactions: 0 ", said), said
        return int(re.search(r"actually processed: (\d+)", said).group(1))

    def sums(self):
        return [int(n) for n in self.cluster.primary.query(SUMS, database=self.database)[0]]

    def forget(self):
        self.cluster.settle()
        for node in self.cluster.nodes:
            node.query("select pg_stat_statements_reset()")

    def counts(self, pattern):
        """Executions on the primary and on the replica."""
        return calls(self.cluster.primary, self.database, pattern), calls(self.cluster.standby, self.database, pattern)


@pytest.fixture
def bench(new_cluster, pgweir):
    """Makes the bench, with a build and settings of the proxy."""
    def make(scale, **options):
        cluster = new_cluster(shared_preload_libraries="pg_stat_statements")
        cluster.primary.query("create extension pg_stat_statements")
        database = cluster.create_database()
        settings = {"default_pool_size": 10, **options.pop("settings", {})}
        made = Bench(cluster, pgweir(on=cluster, settings=settings, **options), database)
        made.pgbench("-i", "-q", "-s", scale)
        made.proxy.wait_for_replicas(database)  # the facts of the new tables are loaded
        for node in cluster.nodes:
            node.reload(log_statement="none")
        return made
    return make


def check_protocol(bench, protocol, amount):
    bench.forget()
    accounts, history, tellers, branches, rows = bench.sums()
    assert accounts == history and tellers == branches
    transactions = bench.run("tpcb-like", protocol, amount)
    after = bench.sums()
    change = after[1] - history
    assert after == [accounts + change, history + change, tellers + change, branches + change, rows + transactions]
    assert bench.counts(WRITES) == (4 * transactions, 0)
    bench.forget()
    transactions = bench.run("simple-update", protocol, amount)
    last = bench.sums()
    assert last[0] == last[1] and last[2:4] == after[2:4] and last[4] == after[4] + transactions
    assert bench.counts(WRITES) == (2 * transactions, 0)
    bench.forget()
    transactions = bench.run("select-only", protocol, amount)
    on_primary, on_replica = bench.counts(READS)
    print(f"select-only, {protocol}: {on_replica} of {transactions} on the replica")
    assert on_primary + on_replica == transactions
    assert on_replica >= 0.99 * transactions
    assert bench.cluster.standby.errors(database=bench.database) == []


def test_pgbench(bench):
    """The short form. A read waits for the replica, whatever it takes: a slow machine is no error."""
    made = bench(1, settings={"replica_wait": "60s"})
    for protocol in PROTOCOLS:
        check_protocol(made, protocol, ["-t", 10])


@pytest.mark.long
@pytest.mark.timeout(900)
def test_pgbench_at_full_length(bench):
    made = bench(10, build="release")
    for protocol in PROTOCOLS:
        check_protocol(made, protocol, ["-T", 30])
