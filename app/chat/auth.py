"""Who is it? Signed tokens (JWT, RFC 7519) and Django's session cookie. All of it is synchronous."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module

import jwt
from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, parse_cookie

from chat.models import User
from chat.people import person
from chat.protocol import ChatError, ErrorCode, SenderInfo

ALGORITHM = "HS256"
# How far the clock of whoever signed a token may be off, in seconds.
CLOCK_LEEWAY = 10


@dataclass(frozen=True)
class Identity:
    """Who a token or a session names, and how long that holds."""

    person: SenderInfo
    expires_at: datetime | None
    issued_at: datetime | None
    digest: str


def token_expired() -> ChatError:
    """What somebody is told whose token is over."""
    return ChatError(ErrorCode.TOKEN_EXPIRED, "The token has expired; get a new one and connect again.")


def create_token(user: User, lifetime: timedelta) -> str:
    """A token that says who she is until `lifetime` from now."""
    now = datetime.now(UTC)
    claims = {"user_id": user.pk, "sub": str(user.pk), "iat": now, "exp": now + lifetime}
    return jwt.encode(claims, settings.TOKEN_KEY, algorithm=ALGORITHM)


def identity_of_token(token: str) -> Identity:
    """Whom a token names. Raises `ChatError`, as `person_of_token` does."""
    person = person_of_token(token)
    expires_at = jwt.decode(token, options={"verify_signature": False})["exp"]
    return Identity(person, datetime.fromtimestamp(expires_at, UTC), None, "")


def identity_of_cookie(header: str) -> Identity | None:
    """Whom the session of a `Cookie` header names, or None."""
    person = person_of_cookie(header)
    return Identity(person, None, None, "") if person else None


def refused(connected: Collection[tuple[int, datetime | None, str]]) -> set[tuple[int, datetime | None, str]]:
    """Those of (person id, moment of issue, digest of the token) that count no longer."""
    active = set(
        User.objects.filter(pk__in=[each[0] for each in connected], is_active=True).values_list("pk", flat=True)
    )
    return {each for each in connected if each[0] not in active}


def person_of_token(token: str) -> SenderInfo:
    """The active person that a token names by `user_id` (int), or else by `sub`.

    Raises `ChatError`: `token_expired`, or `invalid_token` for everything else that is wrong with it.
    """
    try:
        claims = jwt.decode(
            token,
            settings.TOKEN_KEY,
            algorithms=[ALGORITHM],
            leeway=CLOCK_LEEWAY,
            options={"require": ["exp"]},
        )
        user_id = int(claims.get("user_id") or claims["sub"])
        return person(User.objects.get(pk=user_id, is_active=True))
    except jwt.ExpiredSignatureError:
        raise ChatError(ErrorCode.TOKEN_EXPIRED, "The token has expired; get a new one and connect again.") from None
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, OverflowError, User.DoesNotExist):
        raise ChatError(ErrorCode.INVALID_TOKEN, "The token is not valid here; log in again.") from None


def person_of_cookie(header: str) -> SenderInfo | None:
    """The active person whose session the `Cookie` header names, or None."""
    key = parse_cookie(header).get(settings.SESSION_COOKIE_NAME)
    # A quoted cookie can hold NUL, which PostgreSQL refuses to compare.
    if key is None or "\0" in key:
        return None
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = get_user(request)
    return person(user) if user.is_authenticated and user.is_active else None
