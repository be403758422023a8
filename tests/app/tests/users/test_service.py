"""The service, over a session that is rolled back."""
import asyncio
import logging

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from src.orders.models import Order
from src.shared.monitoring import log_query_time
from src.users.models import User
from src.users.schemas import UserCreateRequest, UserUpdateRequest
from src.users.service import UserService


def a_user(name="test", **more):
    return UserCreateRequest(email=f"{name}@example.com", full_name="Test User", **more)


async def test_create_user(test_session):
    """Test user creation."""
    service = UserService(test_session)
    request = a_user(bio="Test bio")

    user = await service.create_user(request)

    assert user.id is not None
    assert user.email == "test@example.com"
    assert user.full_name == "Test User"
    assert user.is_active is True


async def test_the_session_before_was_rolled_back(test_session):
    assert await UserService(test_session).find_by_email("test@example.com") is None


async def test_timestamps_come_from_the_server(test_session):
    user = await UserService(test_session).create_user(a_user("times"))
    assert user.created_at is not None
    assert user.created_at.utcoffset().total_seconds() == 0
    assert user.updated_at == user.created_at


async def test_update(test_session):
    service = UserService(test_session)
    user = await service.create_user(a_user("update"))
    await service.update_user(user, UserUpdateRequest(full_name="New Name", is_active=False))
    assert (await service.find_by_email("update@example.com")).full_name == "New Name"
    assert user.is_active is False


async def test_list_and_filter(test_session):
    service = UserService(test_session)
    for n in range(5):
        user = await service.create_user(a_user(f"list{n}"))
        if n % 2:
            await service.update_user(user, UserUpdateRequest(is_active=False))
    assert len(await service.list_users(limit=3)) == 3
    assert len(await service.list_users(limit=100)) == 5
    assert len(await service.list_users(limit=100, active_only=True)) == 3


async def test_delete(test_session):
    service = UserService(test_session)
    user = await service.create_user(a_user("delete"))
    await service.delete_user(user)
    assert await service.get_user(user.id) is None


async def test_unique_email_with_a_savepoint(test_session):
    service = UserService(test_session)
    await service.create_user(a_user("unique"))
    with pytest.raises(IntegrityError):
        async with test_session.begin_nested():
            await service.create_user(a_user("unique"))
    assert await service.find_by_email("unique@example.com") is not None


async def test_order_counts(test_session):
    service = UserService(test_session)
    user = await service.create_user(a_user("orders"))
    test_session.add_all([Order(user_id=user.id, total_amount=n) for n in range(1, 4)])
    await test_session.flush()
    assert ("orders@example.com", 3) in await service.order_counts()


async def test_server_default_of_an_order(test_session):
    user = await UserService(test_session).create_user(a_user("defaults"))
    order = Order(user_id=user.id, total_amount=10)
    test_session.add(order)
    await test_session.flush()
    await test_session.refresh(order)
    assert order.status == "new"


async def test_commit_is_seen_by_the_next_session(test_engine):
    async with test_engine.begin() as connection:
        await connection.execute(text("insert into users (email, full_name, is_active) values ('kept@example.com', 'K', true)"))
    async with test_engine.connect() as connection:
        assert await connection.scalar(select(User.full_name).where(User.email == "kept@example.com")) == "K"
    async with test_engine.begin() as connection:
        await connection.execute(text("delete from users where email = 'kept@example.com'"))
    async with test_engine.connect() as connection:
        assert await connection.scalar(select(User.full_name).where(User.email == "kept@example.com")) is None


async def test_server_settings_hold_on_every_connection(test_engine):
    """application_name and timezone of connect_args, on thirty open connections, more than a pooler may have backends."""
    connections = [await test_engine.connect() for _ in range(30)]
    try:
        for connection in connections:
            assert await connection.scalar(text("show timezone")) == "UTC"
            assert await connection.scalar(text("select current_setting('application_name')")) == "fastapi-app"
            await connection.commit()
    finally:
        for connection in connections:
            await connection.close()


async def test_slow_queries_are_logged(test_session, caplog):
    @log_query_time
    async def slow():
        await test_session.execute(text("select pg_sleep(0.15)"))

    with caplog.at_level(logging.WARNING):
        await slow()
    assert "Slow query in slow" in caplog.text


async def test_concurrent_sessions(test_engine):
    """Fifty at once, the pool with its overflow; each sees its own transaction only."""
    async def one(n):
        async with test_engine.connect() as connection, connection.begin():
            await connection.execute(text("insert into users (email, full_name, is_active) values (:e, :e, true)"),
                                     {"e": f"many{n}@example.com"})
            mine = await connection.scalars(text("select email from users where email like 'many%'"))
            assert list(mine) == [f"many{n}@example.com"]
            await connection.rollback()

    await asyncio.gather(*[one(n) for n in range(50)])
