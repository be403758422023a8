"""Fixtures: the databases of the init script, all tables created and dropped, and a session that is rolled back."""
import os
import pathlib
import subprocess
import sys

import httpx
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import sessionmaker

from src.main import app
from src.shared.config import get_settings, libpq_url
from src.shared.database import Base, engine, make_engine

PROJECT = pathlib.Path(__file__).resolve().parents[1]
URL = get_settings().database_url
TEST_DATABASE_URL = URL.replace("/fastapi_dev", "/fastapi_test")


def run(*argv, check=True, **options):
    """Runs a program of the project to its end; returns its output."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=100, check=False,
                          **{"cwd": PROJECT, **options})
    assert done.returncode == 0 or not check, f"{argv}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def psql(*arguments, url=URL):
    return run("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", libpq_url(url), *arguments).strip()


def alembic(*arguments, project=PROJECT):
    return run(sys.executable, "-B", "-m", "alembic", *arguments, cwd=project)


@pytest.fixture(scope="session", autouse=True)
def databases():
    """The init script, on a server that has fastapi_dev and its user."""
    psql("-f", PROJECT / "scripts" / "init-db.sql")


@pytest.fixture(scope="session")
def migrated(databases):
    """fastapi_dev with all migrations and the sample data."""
    alembic("upgrade", "head")
    psql("-f", PROJECT / "scripts" / "sample-data.sql")


@pytest_asyncio.fixture(scope="session")
async def test_engine(databases):
    """Create test database engine."""
    test_engine = make_engine(TEST_DATABASE_URL)

    # Create all tables
    async with test_engine.begin() as conn:
        await conn.run_sync(Base.metadata.create_all)

    yield test_engine

    # Drop all tables
    async with test_engine.begin() as conn:
        await conn.run_sync(Base.metadata.drop_all)

    await test_engine.dispose()


@pytest_asyncio.fixture
async def test_session(test_engine):
    """Create test database session."""
    async_session = sessionmaker(test_engine, class_=AsyncSession, expire_on_commit=False)

    async with async_session() as session:
        try:
            yield session
        finally:
            await session.rollback()
            await session.close()


@pytest_asyncio.fixture(scope="session")
async def client(migrated):
    """The application, called in this process."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http:
        yield http
    await engine.dispose()


@pytest.fixture
def scratch_environment(tmp_path):
    return {**os.environ, "BACKUP_DIR": str(tmp_path)}
