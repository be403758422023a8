"""Engine, sessions and the declarative base."""
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from .config import asyncpg_url, get_settings

settings = get_settings()


def make_engine(url: str) -> AsyncEngine:
    """An engine with the pool and the connection settings of production."""
    connect_args = {
        "command_timeout": 60,
        "server_settings": {
            "application_name": settings.application_name,
            "timezone": "UTC",
        },
    }
    if settings.database_ssl:
        connect_args["ssl"] = True
    return create_async_engine(
        asyncpg_url(url),
        echo=settings.database_echo,
        pool_size=settings.database_pool_size,  # Number of persistent connections
        max_overflow=settings.database_max_overflow,  # Additional connections when needed
        pool_pre_ping=True,  # Validate connections before use
        pool_recycle=3600,  # Recycle connections every hour
        connect_args=connect_args,
    )


engine = make_engine(settings.database_url)

AsyncSessionLocal = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


class Base(DeclarativeBase):
    """Base class for all SQLAlchemy models."""


async def get_session() -> AsyncIterator[AsyncSession]:
    """Get database session for dependency injection."""
    async with AsyncSessionLocal() as session:
        try:
            yield session
        except Exception:
            await session.rollback()
            raise
        finally:
            await session.close()


class DatabaseManager:
    """Two engines: one that writes, and one that reads from a replica where there is one."""

    def __init__(self) -> None:
        self.write_engine = make_engine(settings.database_url)
        self.read_engine = make_engine(settings.replica_database_url or settings.database_url)

    async def get_write_session(self) -> AsyncIterator[AsyncSession]:
        """Get database session for write operations."""
        async with AsyncSessionLocal(bind=self.write_engine) as session:
            yield session

    async def get_read_session(self) -> AsyncIterator[AsyncSession]:
        """Get database session for read operations."""
        async with AsyncSessionLocal(bind=self.read_engine) as session:
            yield session

    async def dispose(self) -> None:
        await self.write_engine.dispose()
        await self.read_engine.dispose()
