"""The health check."""
from datetime import datetime, timezone

from sqlalchemy import text

from .database import engine


async def check_database_health() -> dict:
    """Check database connectivity and performance."""
    try:
        async with engine.begin() as conn:
            # Test connection
            await conn.execute(text("SELECT 1"))

            # Check active connections
            result = await conn.execute(text("""
                SELECT count(*) as active_connections
                FROM pg_stat_activity
                WHERE state = 'active'
            """))
            active_connections = result.scalar()

            return {
                "status": "healthy",
                "active_connections": active_connections,
                "timestamp": datetime.now(timezone.utc).isoformat(),
            }

    except Exception as e:  # whatever it is, the answer is "unhealthy"
        return {
            "status": "unhealthy",
            "error": str(e),
            "timestamp": datetime.now(timezone.utc).isoformat(),
        }
