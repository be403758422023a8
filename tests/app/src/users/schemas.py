"""What the API takes and gives."""
from datetime import datetime

from pydantic import BaseModel, ConfigDict, EmailStr, Field


class UserCreateRequest(BaseModel):
    email: EmailStr
    full_name: str = Field(min_length=1, max_length=255)
    avatar_url: str | None = None
    bio: str | None = Field(None, max_length=1000)


class UserUpdateRequest(BaseModel):
    full_name: str | None = None
    is_active: bool | None = None
    bio: str | None = None


class UserResponse(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    email: str
    full_name: str
    is_active: bool
    avatar_url: str | None
    bio: str | None
    created_at: datetime
    updated_at: datetime
