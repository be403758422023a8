"""The reference application: a FastAPI service over SQLAlchemy 2.0 and asyncpg, as a team would write it for a plain
PostgreSQL.  Nothing in it knows of a proxy; the same code and settings run directly and through pgweir."""
