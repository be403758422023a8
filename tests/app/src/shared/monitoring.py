"""The slow-query log."""
import logging
import time
from functools import wraps

logger = logging.getLogger(__name__)


def log_query_time(func):
    """Decorator to log query execution time."""

    @wraps(func)
    async def wrapper(*args, **kwargs):
        start_time = time.time()
        result = await func(*args, **kwargs)
        execution_time = time.time() - start_time

        if execution_time > 0.1:  # Log slow queries
            logger.warning(f"Slow query in {func.__name__}: {execution_time:.3f}s")

        return result

    return wrapper
