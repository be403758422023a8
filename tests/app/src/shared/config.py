"""Settings from the environment."""
from functools import lru_cache
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """DATABASE_URL and its companions; the only thing that changes between a direct connection and a proxy."""

    database_url: str = Field(..., description="PostgreSQL connection string")
    replica_database_url: str | None = Field(None, description="Connection string of a read replica")
    database_echo: bool = Field(False, description="Enable SQL query logging")
    database_pool_size: int = Field(20, description="Connection pool size")
    database_max_overflow: int = Field(30, description="Max overflow connections")
    database_ssl: bool = Field(False, description="Encrypt, and verify the server against the system's authorities")
    application_name: str = Field("fastapi-app", description="Name shown in pg_stat_activity")

    @field_validator("database_url")
    @classmethod
    def validate_database_url(cls, v: str) -> str:
        if not v.startswith("postgresql"):
            raise ValueError("DATABASE_URL must be PostgreSQL")
        return v


def asyncpg_url(url: str) -> str:
    """The URL as SQLAlchemy wants it for asyncpg, which says ssl where libpq says sslmode."""
    parts = urlsplit(url)
    query = [("ssl" if name == "sslmode" else name, value) for name, value in parse_qsl(parts.query) if name != "sslrootcert"]
    return urlunsplit(parts._replace(scheme="postgresql+asyncpg", query=urlencode(query)))


def libpq_url(url: str) -> str:
    """The URL as psql and pg_dump want it."""
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql"))


@lru_cache
def get_settings() -> Settings:
    return Settings()
