"""The application from outside: each request has a session, and a pooled connection, of its own."""
import asyncio


async def test_health(client):
    health = (await client.get("/health")).json()
    assert health["status"] == "healthy"
    assert health["active_connections"] >= 1
    assert health["timestamp"]


async def test_sample_data_is_there(client):
    emails = {user["email"] for user in (await client.get("/users")).json()}
    assert {"admin@example.com", "user@example.com"} <= emails


async def test_life_of_a_user(client):
    created = await client.post("/users", json={"email": "ann@example.com", "full_name": "Ann"})
    assert created.status_code == 201
    path = f"/users/{created.json()['id']}"
    assert (await client.get(path)).json()["full_name"] == "Ann"
    assert (await client.patch(path, json={"full_name": "Anna"})).json()["full_name"] == "Anna"
    assert (await client.get(path)).json()["full_name"] == "Anna"
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_same_email_twice(client):
    body = {"email": "twice@example.com", "full_name": "T"}
    assert (await client.post("/users", json=body)).status_code == 201
    assert (await client.post("/users", json=body)).status_code == 409
    assert (await client.post("/users", json={**body, "email": "once@example.com"})).status_code == 201


async def test_invalid_request(client):
    assert (await client.post("/users", json={"email": "nonsense", "full_name": ""})).status_code == 422


async def test_own_writes_are_read_back_at_once(client):
    """A write on one pooled connection, the read on another: never a 404, never an old value."""
    async def one(n):
        created = await client.post("/users", json={"email": f"fresh{n}@example.com", "full_name": "0"})
        path = f"/users/{created.json()['id']}"
        for value in range(1, 6):
            await client.patch(path, json={"full_name": str(value)})
            answer = await client.get(path)
            assert (answer.status_code, answer.json().get("full_name")) == (200, str(value))

    await asyncio.gather(*[one(n) for n in range(40)])
