"""Whose session it is. A session keeps its key when Django's secret key is replaced.

Django gives a session that an old secret key has signed a new key, and the old one ends. The answer to a handshake does
not bring that to the browser, and of several requests at once only the first would find its session: she would be
logged out. The key of a session is made by chance and has nothing to do with the secret key.
"""

from django.contrib import auth
from django.contrib.auth.middleware import AuthenticationMiddleware as DjangosMiddleware
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from chat.models import User
from salon import logs


def user_of(request: HttpRequest) -> User | AnonymousUser:
    """Who is logged in. With a session of an old secret key, the new one signs it as soon as it is saved."""
    request.session.cycle_key = lambda: None
    try:
        user = auth.get_user(request)
        logs.is_for(user.pk)
        return user
    finally:
        # Somebody who logs in gets a new session, as ever.
        del request.session.cycle_key


class AuthenticationMiddleware(DjangosMiddleware):
    """Django's, with `user_of`."""

    def process_request(self, request: HttpRequest) -> None:
        super().process_request(request)
        request.user = SimpleLazyObject(lambda: user_of(request))
