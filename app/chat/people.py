"""People as the rest of a room sees them."""

from datetime import datetime

from django.utils import timezone

from chat.models import User
from chat.protocol import SenderInfo


def person(user: User) -> SenderInfo:
    """How others see her."""
    return SenderInfo(user.pk, user.display_name, user.role, user.avatar or None)


def mark_seen(user_id: int) -> datetime:
    """Remember that she was here now."""
    now = timezone.now()
    User.objects.filter(pk=user_id).update(last_seen=now)
    return now
