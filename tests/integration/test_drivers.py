"""Real drivers and programs through the pooler, in transaction mode, with the settings that they have on a plain server."""
import asyncio
import subprocess
import threading

import asyncpg
import psycopg
import pytest
from harness.postgres import find_programs


@pytest.fixture
def dsn(target, database):
    return target.dsn(database)


def psql(dsn, *arguments, text=None, check=True):
    done = subprocess.run([find_programs() / "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", *arguments, dsn],
                          input=text, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip() if check else done


# psql


def test_psql_script(dsn):
    script = """
        create table t(i int, note text);
        insert into t values (1, 'one'), (2, 'two');
        begin; update t set note = 'zwei' where i = 2; savepoint s; delete from t; rollback to s; commit;
        \\copy (select * from t order by i) to stdout
        select count(*) from t \\gset c_
        select :c_count + 40;
    """
    assert psql(dsn, text=script).split("\n") == ["1\tone", "2\tzwei", "42"]


def test_psql_describe_commands(dsn):
    psql(dsn, "-c", "create table described(i int primary key, note text default 'x')")
    assert "described" in psql(dsn, "-c", "\\d")
    assert "note|text" in psql(dsn, "-c", "\\d described")
    assert "plpgsql" in psql(dsn, "-c", "\\dx")


def test_psql_shows_an_error_and_goes_on(dsn):
    done = psql(dsn, "-v", "ON_ERROR_STOP=0", text="select 1/0;\nselect 'after';\n", check=False)
    assert "division by zero" in done.stderr
    assert done.stdout.strip() == "after"


def test_psql_fetch_count_uses_a_cursor(dsn):
    rows = psql(dsn, "-v", "FETCH_COUNT=100", text="select * from generate_series(1, 2500);\n")
    assert rows.split("\n") == [str(n) for n in range(1, 2501)]


def test_pg_dump_restores_to_the_same(target, dsn, cluster):
    psql(dsn, text="create table t as select g i, repeat('x', g % 50) s from generate_series(1, 5000) g; create index on t(i);")
    dump = subprocess.run([find_programs() / "pg_dump", dsn], capture_output=True, text=True, timeout=120, check=True).stdout
    other = cluster.create_database()
    psql(target.dsn(other), text=dump)
    question = "select count(*), sum(i), sum(length(s)) from t"
    assert psql(target.dsn(other), "-c", question) == psql(dsn, "-c", question)
    cluster.drop_database(other)


@pytest.mark.threads
@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_pgbench_keeps_its_books(dsn, protocol):
    pgbench = find_programs() / "pgbench"
    for arguments in (["-i", "-q", "-s", "1"], ["-n", "-M", protocol, "-c", "8", "-j", "8", "-t", "50"],
                      ["-n", "-M", protocol, "-S", "-c", "8", "-j", "8", "-t", "50"]):
        done = subprocess.run([pgbench, *arguments, dsn], capture_output=True, text=True, timeout=170, check=False)
        assert done.returncode == 0, done.stderr
    sums = ("select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history), "
            "(select sum(tbalance) from pgbench_tellers) = (select sum(bbalance) from pgbench_branches), "
            "(select count(*) from pgbench_history)")
    assert psql(dsn, "-c", sums) == "t|t|400"


# psycopg (libpq)


def test_psycopg_prepares_on_its_own(dsn):
    """After five executions psycopg names a statement; its name must mean the same on every backend."""
    with psycopg.connect(dsn) as connection:
        connection.execute("create table t(i int)")
        for n in range(30):
            connection.execute("insert into t values (%s)", (n,))
            connection.commit()
        assert connection.execute("select sum(i) from t").fetchone() == (435,)


def test_psycopg_pipeline(dsn):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create table t(i int)")
        with connection.pipeline():
            cursors = [connection.execute("insert into t values (%s) returning i * 2", (n,)) for n in range(100)]
            assert [cursor.fetchone()[0] for cursor in cursors] == [n * 2 for n in range(100)]
        with pytest.raises(psycopg.errors.DivisionByZero):
            with connection.pipeline():
                connection.execute("insert into t values (1000)")
                connection.execute("select 1/0").fetchone()
        assert connection.execute("select count(*) from t").fetchone() == (100,)


def test_psycopg_copy_both_ways(dsn):
    with psycopg.connect(dsn) as connection:
        connection.execute("create table t(i int, s text)")
        with connection.cursor().copy("copy t from stdin") as copy:
            for n in range(10000):
                copy.write_row((n, f"row {n}"))
        with connection.cursor().copy("copy t to stdout") as copy:
            assert sum(1 for _ in copy.rows()) == 10000


def test_psycopg_server_side_cursor(dsn):
    with psycopg.connect(dsn) as connection, connection.cursor("named") as cursor:
        cursor.execute("select * from generate_series(1, 1000)")
        assert [row[0] for row in cursor.fetchmany(10)] == list(range(1, 11))
        assert len(cursor.fetchall()) == 990


@pytest.mark.threads
def test_psycopg_cancel(dsn):
    with psycopg.connect(dsn, autocommit=True) as connection:
        ended = threading.Event()

        def keep_cancelling():  # one that comes too early is lost, by PostgreSQL's rules
            while not ended.wait(0.2):
                connection.cancel()

        canceller = threading.Thread(target=keep_cancelling)
        canceller.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(600)")
        ended.set()
        canceller.join()
        connection.close()


@pytest.mark.threads
def test_many_clients_at_once(target, database):
    """More clients than backends; each has its own transaction's result."""
    failures = []

    def work(number):
        try:
            with psycopg.connect(target.dsn(database)) as connection:
                for turn in range(10):
                    connection.execute("insert into t values (%s, %s)", (number, turn))
                    assert connection.execute("select count(*) from t where c = %s", (number,)).fetchone() == (turn + 1,)
                    connection.commit()
        except Exception as failure:  # shown by the main thread
            failures.append(f"client {number}: {failure!r}")

    target.query("create table t(c int, turn int)", database=database)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert target.value("select count(*) from t", database=database) == "400"


# asyncpg (its own implementation of the protocol)


@pytest.fixture
async def connection(target, database):
    made = await asyncpg.connect(target.url(database), ssl=False)
    yield made
    await made.close()


async def test_asyncpg_statements_and_transactions(connection):
    await connection.execute("create table t(i int primary key, at timestamptz default now(), tags text[])")
    async with connection.transaction():
        await connection.executemany("insert into t(i, tags) values ($1, $2)", [(n, [str(n), None]) for n in range(100)])
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("insert into t(i) values (1)")
    assert await connection.fetchval("select count(*) from t where i = any($1::int[])", [1, 2, 3, 1000]) == 3
    assert (await connection.fetchrow("select tags from t where i = 7"))["tags"] == ["7", None]


async def test_asyncpg_cursor_and_savepoint(connection):
    async with connection.transaction():
        async with connection.transaction():
            assert [row[0] async for row in connection.cursor("select generate_series(1, 200)", prefetch=7)] == list(range(1, 201))


async def test_asyncpg_copy(connection):
    await connection.execute("create table t(i int, s text)")
    await connection.copy_records_to_table("t", records=[(n, str(n)) for n in range(5000)])
    assert await connection.fetchval("select sum(i) from t") == 12497500


async def test_asyncpg_composite_types_are_introspected(connection):
    await connection.execute("create type pair as (a int, b text); create table p(v pair); insert into p values ((1, 'x'))")
    assert tuple(await connection.fetchval("select v from p")) == (1, "x")


async def test_asyncpg_timeout_cancels(connection):
    with pytest.raises(asyncio.TimeoutError):
        await connection.execute("select pg_sleep(600)", timeout=0.5)
    assert await connection.fetchval("select 1") == 1


@pytest.mark.threads
async def test_asyncpg_pool_with_prepared_statements(target, database):
    """One cached statement per connection of the application's pool, on whatever backends there are."""
    async with asyncpg.create_pool(target.url(database), ssl=False, min_size=10, max_size=10) as pool:
        async def one(n):
            for turn in range(20):
                assert await pool.fetchval("select $1::int + $2::int", n, turn) == n + turn

        await asyncio.gather(*[one(n) for n in range(30)])


async def test_asyncpg_startup_settings(target, database):
    made = await asyncpg.connect(target.url(database), ssl=False,
                                 server_settings={"application_name": "an application", "timezone": "Asia/Tokyo"})
    try:
        assert made.get_settings().TimeZone == "Asia/Tokyo"
        assert await made.fetchval("show timezone") == "Asia/Tokyo"
        assert await made.fetchval("show application_name") == "an application"
    finally:
        await made.close()
