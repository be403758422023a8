"""Alembic's environment: the application's own engine settings, over asyncpg."""
import asyncio

from alembic import context
from sqlalchemy import pool
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from src.orders import models as _orders  # noqa: F401
from src.shared.config import asyncpg_url, get_settings
from src.shared.database import Base
from src.users import models as _users  # noqa: F401

settings = get_settings()


def include_object(_object, name, kind, reflected, compare_to):
    """The hand-written indexes (idx_...) live in migrations only."""
    return not (kind == "index" and reflected and compare_to is None and name.startswith("idx_"))


def run_migrations(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, include_object=include_object,
                      compare_server_default=True, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def run_online() -> None:
    connect_args = {"ssl": True} if settings.database_ssl else {}
    engine = create_async_engine(asyncpg_url(settings.database_url), poolclass=pool.NullPool, connect_args=connect_args)
    async with engine.connect() as connection:
        await connection.run_sync(run_migrations)
    await engine.dispose()


asyncio.run(run_online())
