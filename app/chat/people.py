"""People as the rest of a room sees them."""

from chat.models import User
from chat.protocol import SenderInfo


def person(user: User) -> SenderInfo:
    """How others see her."""
    return SenderInfo(user.pk, user.display_name, user.role, user.avatar or None)
