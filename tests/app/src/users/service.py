"""What can be done with users.  The caller owns the transaction."""
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from ..orders.models import Order
from ..shared.monitoring import log_query_time
from .models import User
from .schemas import UserCreateRequest, UserUpdateRequest


class UserService:
    """Users over one session."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    @log_query_time
    async def create_user(self, request: UserCreateRequest) -> User:
        user = User(**request.model_dump())
        self.session.add(user)
        await self.session.flush()
        await self.session.refresh(user)
        return user

    @log_query_time
    async def get_user(self, user_id: int) -> User | None:
        return await self.session.get(User, user_id)

    @log_query_time
    async def find_by_email(self, email: str) -> User | None:
        return await self.session.scalar(select(User).where(User.email == email))

    @log_query_time
    async def list_users(self, limit: int = 100, offset: int = 0, active_only: bool = False) -> list[User]:
        query = select(User).order_by(User.created_at.desc(), User.id.desc()).limit(limit).offset(offset)
        if active_only:
            query = query.where(User.is_active.is_(True))
        return list(await self.session.scalars(query))

    @log_query_time
    async def update_user(self, user: User, request: UserUpdateRequest) -> User:
        for name, value in request.model_dump(exclude_unset=True).items():
            setattr(user, name, value)
        await self.session.flush()
        await self.session.refresh(user)
        return user

    @log_query_time
    async def delete_user(self, user: User) -> None:
        await self.session.delete(user)
        await self.session.flush()

    @log_query_time
    async def order_counts(self) -> list[tuple[str, int]]:
        """Active users with the number of their orders."""
        query = (select(User.email, func.count(Order.id).label("order_count"))
                 .outerjoin(Order, User.id == Order.user_id)
                 .where(User.is_active.is_(True))
                 .group_by(User.id)
                 .order_by(User.created_at.desc(), User.id.desc()))
        return [tuple(row) for row in await self.session.execute(query)]
