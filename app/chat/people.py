"""People as the rest of a room sees them."""

from collections.abc import Collection

from chat.models import User
from chat.protocol import SenderInfo


def person(user: User) -> SenderInfo:
    """How others see her."""
    return SenderInfo(user.pk, user.display_name, user.role, user.avatar or None)


def persons(user_ids: Collection[int]) -> dict[int, SenderInfo]:
    """How others see those of these people that there are, by their ids."""
    return {user.pk: person(user) for user in User.objects.filter(pk__in=user_ids).defer("password")}
