"""What several commands ask for."""

from django.core.management.base import CommandError

from chat.models import User


def user_named(username: str) -> User:
    """The person with this user name, or a `CommandError` that says how to make one."""
    try:
        return User.objects.get(username=username)
    except User.DoesNotExist:
        raise CommandError(f"There is no user {username!r}; create_user makes one.") from None
