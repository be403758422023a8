"""Twenty clients of the application at once, nine reading requests to one that writes; every answer is looked at.  run.py asks
the servers afterwards where the reads ran."""
import asyncio
import os
import sys

import httpx

from src.main import app
from src.shared.database import engine

CLIENTS, REQUESTS, WRITES_EVERY = 20, 30, 10


async def one_client(http, number):
    """Its own writes must be there when it reads next, on whatever connection of the pool that is."""
    created = None
    for turn in range(REQUESTS):
        if (turn + number) % WRITES_EVERY == 0:
            answer = await http.post("/users", json={"email": f"load-{os.getpid()}-{number}-{turn}@example.com", "full_name": "Load"})
            assert answer.status_code == 201, answer.text
            created = answer.json()
        else:
            answer = await http.get("/users", params={"limit": 100000})
            assert answer.status_code == 200, answer.text
            assert created is None or created in answer.json(), f"client {number}, turn {turn}: its own write is not there"


async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http:
        await asyncio.gather(*(one_client(http, number) for number in range(CLIENTS)))
    await engine.dispose()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
