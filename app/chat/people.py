"""People as the rest of a room sees them."""

from collections.abc import Collection

from chat.models import User, display_name
from chat.protocol import SenderInfo


def person(user: User) -> SenderInfo:
    """How others see her."""
    return as_seen(user.pk, user.first_name, user.last_name, user.username, user.role, user.avatar)


def as_seen(user_id: int, first_name: str, last_name: str, username: str, role: str, avatar: str) -> SenderInfo:
    """The same, of what the database has of her."""
    return SenderInfo(user_id, display_name(first_name, last_name, username), role, avatar or None)


def persons(user_ids: Collection[int]) -> dict[int, SenderInfo]:
    """How others see those of these people that there are, by their ids."""
    return {user.pk: person(user) for user in User.objects.filter(pk__in=user_ids).defer("password")}
