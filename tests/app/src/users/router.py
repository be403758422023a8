"""HTTP routes of users."""
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, status
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from ..shared.database import get_session
from .models import User
from .schemas import UserCreateRequest, UserResponse, UserUpdateRequest
from .service import UserService

router = APIRouter(prefix="/users", tags=["users"])
Session = Annotated[AsyncSession, Depends(get_session)]


async def existing_user(user_id: int, session: Session) -> User:
    user = await UserService(session).get_user(user_id)
    if user is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "no such user")
    return user


ExistingUser = Annotated[User, Depends(existing_user)]


@router.post("", response_model=UserResponse, status_code=status.HTTP_201_CREATED)
async def create_user(request: UserCreateRequest, session: Session):
    try:
        user = await UserService(session).create_user(request)
        await session.commit()
    except IntegrityError as error:
        await session.rollback()
        raise HTTPException(status.HTTP_409_CONFLICT, "this email is taken") from error
    return user


@router.get("", response_model=list[UserResponse])
async def list_users(session: Session, limit: int = 100, offset: int = 0, active_only: bool = False):
    return await UserService(session).list_users(limit, offset, active_only)


@router.get("/{user_id}", response_model=UserResponse)
async def get_user(user: ExistingUser):
    return user


@router.patch("/{user_id}", response_model=UserResponse)
async def update_user(user: ExistingUser, request: UserUpdateRequest, session: Session):
    await UserService(session).update_user(user, request)
    await session.commit()
    return user


@router.delete("/{user_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_user(user: ExistingUser, session: Session):
    await UserService(session).delete_user(user)
    await session.commit()
