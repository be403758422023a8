"""What an operator does with the database: extensions, indexes, plans, backup and restore, roles, two engines."""
import asyncio
import gzip
import pathlib

import asyncpg
import pytest
from conftest import PROJECT, URL, psql, run
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from src.shared.config import Settings, libpq_url
from src.shared.database import DatabaseManager, engine, make_engine

EXPLAIN = """
EXPLAIN ANALYZE
SELECT * FROM users
WHERE email ILIKE '%example%'
"""
JOIN = """
SELECT u.*, COUNT(o.id) as order_count
FROM users u
LEFT JOIN orders o ON u.id = o.user_id
WHERE u.is_active = true
GROUP BY u.id
ORDER BY u.created_at DESC
"""


def test_init_script_made_two_databases_and_extensions(migrated):
    assert psql("-c", "select count(*) from pg_database where datname in ('fastapi_dev', 'fastapi_test')") == "2"
    assert psql("-c", "select string_agg(extname, ',' order by extname) from pg_extension where extname <> 'plpgsql'") \
        == "pgcrypto,uuid-ossp"


async def test_extension_functions(client):
    async with engine.connect() as connection:
        assert len(str(await connection.scalar(text("select uuid_generate_v4()")))) == 36
        assert await connection.scalar(text("select encode(digest('abc', 'sha1'), 'hex')")) \
            == "a9993e364706816aba3e25717850c26c9cd0d89d"


async def test_all_indexes_are_valid(client):
    async with engine.connect() as connection:
        rows = await connection.execute(text("select c.relname, i.indisvalid from pg_index i join pg_class c on c.oid = i.indexrelid "
                                             "where c.relname like 'idx%'"))
        assert {tuple(row) for row in rows} == {(name, True) for name in (
            "idx_users_email", "idx_users_active_created", "idx_users_name_search", "idx_orders_user_status",
            "idx_orders_created_amount")}


async def test_create_index_concurrently_by_hand(client):
    async with engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("CREATE INDEX CONCURRENTLY idx_by_hand ON users(full_name)"))
        await connection.execute(text("DROP INDEX CONCURRENTLY idx_by_hand"))


async def test_explain_analyze(client):
    async with engine.connect() as connection:
        plan = "\n".join(await connection.scalars(text(EXPLAIN)))
    assert "Scan" in plan
    assert "Execution Time" in plan


async def test_queries_of_the_console(client):
    async with engine.connect() as connection:
        rows = (await connection.execute(text(JOIN))).all()
        found = await connection.scalars(text("select email from users where to_tsvector('english', full_name) @@ to_tsquery('admin')"))
        assert list(found) == ["admin@example.com"]
    assert len(rows) >= 2


def test_backup_and_restore(migrated, scratch_environment):
    scratch_environment["DATABASE_URL"] = libpq_url(URL)
    output = run("scripts/backup-database.sh", env=scratch_environment)
    backup = pathlib.Path(output.split("Backup completed: ")[1].strip())
    assert b"CREATE TABLE public.users" in gzip.decompress(backup.read_bytes())
    psql("-c", "drop database if exists fastapi_restore", "-c", "create database fastapi_restore")
    restored = URL.replace("/fastapi_dev", "/fastapi_restore")
    run("bash", "-c", 'set -o pipefail; gunzip -c "$0" | psql -X -q -v ON_ERROR_STOP=1 "$1"', backup, libpq_url(restored))
    count = "select count(*), count(distinct email), min(email), max(id) from users"
    assert psql("-c", count, url=restored) == psql("-c", count)
    assert psql("-c", "select count(*) from pg_indexes where indexname like 'idx%'", url=restored) == "5"
    psql("-c", "drop database fastapi_restore with (force)")


async def test_least_privilege_role(client):
    psql("-f", PROJECT / "scripts" / "least-privilege.sql")
    engine_app = make_engine(URL.replace("fastapi_user:fastapi_password", "fastapi_app:secure_password"))
    try:
        async with engine_app.begin() as connection:
            assert await connection.scalar(text("select current_user")) == "fastapi_app"
            await connection.execute(text("insert into users (email, full_name, is_active) values ('least@example.com', 'L', true)"))
            assert await connection.scalar(text("select count(*) from users where email = 'least@example.com'")) == 1
            await connection.execute(text("delete from users where email = 'least@example.com'"))
        with pytest.raises(ProgrammingError, match="permission denied for schema public"):
            async with engine_app.begin() as connection:
                await connection.execute(text("create table not_allowed (id int)"))
    finally:
        await engine_app.dispose()
        psql("-c", "drop owned by fastapi_app", "-c", "drop role fastapi_app")


async def test_two_engines(client):
    """What is written by one is read by the other, as soon as the replica has it."""
    manager = DatabaseManager()
    try:
        async for session in manager.get_write_session():
            await session.execute(text("insert into users (email, full_name, is_active) values ('two@example.com', 'T', true)"))
            await session.commit()
        for _ in range(600):
            async for session in manager.get_read_session():
                seen = await session.scalar(text("select count(*) from users where email = 'two@example.com'"))
            if seen:
                break
            await asyncio.sleep(0.05)
        assert seen == 1
    finally:
        await manager.dispose()


async def test_connection_is_encrypted(client):
    """As production has it: TLS with the certificate verified, the password by SCRAM."""
    assert Settings().database_ssl
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        transport = raw.driver_connection._transport
        assert transport.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")


async def test_wrong_password_is_refused(client):
    wrong = make_engine(URL.replace("fastapi_password", "wrong_password"))
    with pytest.raises(asyncpg.InvalidPasswordError):
        async with wrong.connect():
            pass
    await wrong.dispose()


async def test_statement_timeout_of_a_session(client):
    async with engine.begin() as connection:
        await connection.execute(text("set local statement_timeout = '50ms'"))
        with pytest.raises(Exception, match="statement timeout"):
            await connection.execute(text("select pg_sleep(30)"))
