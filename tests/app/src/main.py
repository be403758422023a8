"""The application: uvicorn src.main:app"""
from contextlib import asynccontextmanager

from fastapi import FastAPI

from .orders import models as _orders  # noqa: F401  registers the table
from .shared.database import engine
from .shared.health import check_database_health
from .users.router import router as users


@asynccontextmanager
async def lifespan(_: FastAPI):
    yield
    await engine.dispose()


app = FastAPI(title="Reference application", lifespan=lifespan)
app.include_router(users)


@app.get("/health")
async def health() -> dict:
    return await check_database_health()
