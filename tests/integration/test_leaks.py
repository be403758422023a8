"""A client cannot tell that it is pooled: random programs of many clients over few backends, each beside a private
connection to the primary that runs the same.

    PGWEIR_LEAK_SEED=17 PGWEIR_LEAK_STEPS=500 ... -k leaks_of_one_seed      one program
    PGWEIR_LEAK_REPLAY=FILE                   ... -k leaks_of_one_seed      a program printed by a failure"""
import ast
import os
import pathlib
import time

import pytest
from harness.proxy import Direct, Pgweir
from harness.system import wait_until
from leaks import program as programs
from leaks import world
from leaks.found import FOUND
from leaks.statements import KINDS, MASKED
from leaks.twin import POOL, Difference, Twins

CI_SEEDS = range(2, 10)
CI_STEPS = 250
LONG_STEPS = 100_000
STEPS_OF_A_PROGRAM = 400


class Bench:
    """The two databases, the proxy in front of one of them, and how a program is run on both."""

    def __init__(self, cluster, new_target, workers=1):
        cluster.primary.query(world.ROLES)
        self.cluster = cluster
        self.databases = [cluster.create_database(world.build()) for _ in range(2)]
        for name in self.databases:
            cluster.primary.query("; ".join(f"alter database {name} set {setting}" for setting in world.DATABASE_SETTINGS))
        self.proxy = new_target(accounts={world.LOGIN: ""}, settings={
            "default_pool_size": POOL, "max_pinned": 0, "pool_mode": "transaction", "workers": workers})
        self.direct = Direct(cluster)
        self.proxy.wait_for_replicas(self.databases[0])
        self.drawn = {}
        self.steps = 0
        self.dirty = set()

    def fresh(self):
        """Twins without a past: new backends, rows as in the beginning."""
        for database, letter in zip(self.databases, "pd"):
            with self.cluster.primary.connect(database=database) as connection:
                for gid, in connection.query(f"select gid from pg_prepared_xacts where gid like 'leak\\_{letter}\\_%' and database = current_database()").rows:
                    connection.query(f"rollback prepared '{gid}'")
                connection.query(world.clean(sorted(self.dirty)))
        self.dirty = set()
        self.cluster.settle()
        if isinstance(self.proxy, Pgweir):
            self.proxy.admin("reconnect")
        return Twins(self.proxy, self.direct, *self.databases)

    def end(self, twins):
        self.dirty |= set(twins.pairs)
        twins.close()
        self.steps += twins.steps
        if isinstance(self.proxy, Pgweir):
            wait_until(lambda: self.proxy.client_count() == 0, "the proxy has seen its clients go")

    def replay(self, program):
        """Runs a given program; the Difference or None."""
        twins = self.fresh()
        try:
            twins.run(program)
        except Difference as difference:
            return difference
        finally:
            self.end(twins)
        return None

    def run(self, seed, steps, patience):
        """Runs a new program; fails with the shortest form of it that shows the difference."""
        twins = self.fresh()
        try:
            drawn, program, difference = programs.generate_and_run(seed, steps, twins)
        finally:
            self.end(twins)
        for name, count in drawn.items():
            self.drawn[name] = self.drawn.get(name, 0) + count
        if difference is None:
            self.check_nothing_left()
            return
        shrinker = programs.Shrinker(self.replay, difference.signature(), patience)
        short = shrinker.shrink(program)
        again = shrinker.last
        raise AssertionError(f"seed {seed}: {difference}\n" + (f"shortest program that shows it, {len(short)} groups: {again}\n"
                             if again else "not shown again when the program was repeated; the whole of it:\n") + programs.printed(short))

    def check_nothing_left(self):
        """With the clients gone the servers hold nothing of theirs."""
        wait_until(lambda: self.cluster.primary.value(
            "select count(*) from pg_locks l join pg_database d on d.oid = l.database "
            f"where d.datname = '{self.databases[0]}' and locktype = 'advisory'") == "0", "no advisory lock is left behind")


@pytest.fixture
def bench(cluster, new_target):
    made = Bench(cluster, new_target)
    yield made
    for name in made.databases:
        for gid, in cluster.primary.query(f"select gid from pg_prepared_xacts where database = '{name}'"):
            cluster.primary.query(f"rollback prepared '{gid}'", database=name)
        cluster.drop_database(name)


def test_there_are_enough_kinds():
    assert len(KINDS) >= 60


def test_what_is_masked():
    """These are rules of the design (ARCHITECTURE.md, "What a client may still observe"); nothing else may join them."""
    assert set(MASKED) == {"settings_source", "current_value", "libraries", "read only on a replica"}


def test_what_was_found_before(bench):
    """Each program by which a difference was found shows none any more."""
    differences = {name: str(difference) for name, program in FOUND.items() if (difference := bench.replay(program))}
    assert not differences, "\n".join(f"{name}: {text}" for name, text in differences.items())


def test_an_error_of_ours_fails_the_transaction(pgweir, database):
    """A statement that is refused in a transaction leaves it failed, as PostgreSQL's refusal would."""
    with pgweir().connect(database=database) as connection:
        for sql in ("begin", "create table t(i int)", "set pgweir.route = 'nowhere'"):
            answer = connection.query(sql, check=False)
        assert answer.sqlstate == "22023" and answer.status == "E"
        assert connection.query("select 1", check=False).sqlstate == "25P02"
        assert connection.query("rollback").status == "I"
        assert connection.query("select to_regclass('t') is null").rows == [("t",)]


@pytest.mark.timeout(400)
def test_leaks(bench):
    """2,000 steps of fixed seeds."""
    for seed in CI_SEEDS:
        bench.run(seed, CI_STEPS, patience=60)
    assert len(bench.drawn) >= 60


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_leaks_long(bench):
    """100,000 steps, seeds of today."""
    seed = int(os.environ.get("PGWEIR_LEAK_SEED", time.time()))
    while bench.steps < LONG_STEPS:
        bench.run(seed, STEPS_OF_A_PROGRAM, patience=600)
        seed += 1
    assert len(bench.drawn) >= 60


if {"PGWEIR_LEAK_SEED", "PGWEIR_LEAK_REPLAY"} & set(os.environ):

    @pytest.mark.timeout(3600)
    def test_leaks_of_one_seed(bench):
        """For whoever mends what was found."""
        if "PGWEIR_LEAK_REPLAY" in os.environ:
            difference = bench.replay(ast.literal_eval(pathlib.Path(os.environ["PGWEIR_LEAK_REPLAY"]).read_text(encoding="utf-8")))
            assert difference is None, difference
        else:
            bench.run(int(os.environ["PGWEIR_LEAK_SEED"]), int(os.environ.get("PGWEIR_LEAK_STEPS", CI_STEPS)), patience=600)
