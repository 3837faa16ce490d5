"""Who logs in on the pages of this server: the one at `/`, and the admin."""

from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest

from chat.models import User


@receiver(user_logged_in)
def logged_in(sender: type[User], request: HttpRequest, user: User, **_kwargs: object) -> None:
    if user.is_staff:
        request.session.set_expiry(settings.STAFF_SESSION_AGE)
