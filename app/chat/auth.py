"""Who is it? Signed tokens, and Django's session cookie. All of it is synchronous and reads the database."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import IntegrityError, connection, transaction
from django.http import HttpRequest, parse_cookie
from django.utils import timezone

from chat import claims, keys
from chat.claims import Claims
from chat.models import RevokedToken, User
from chat.people import person
from chat.protocol import ChatError, ErrorCode, SenderInfo

KEPT_WITHOUT_END = timedelta(days=3650)
"""How long a revoked token is remembered that does not say when it ends."""


@dataclass(frozen=True)
class Identity:
    """Who is connected, and by what.

    `expires_at`: from when on it counts no more (for a token, the leeway is in it). `issued_at` and `digest` are the
    token's; None and "" for a session.
    """

    person: SenderInfo
    expires_at: datetime | None
    issued_at: datetime | None
    digest: str


def create_token(user: User, lifetime: timedelta) -> str:
    """A token that says who she is until `lifetime` from now.

    Its `iat` has microseconds, so that it counts although it was made in the second of a revocation (`revoke_all`).
    """
    now = datetime.now(UTC)
    content = {"user_id": user.pk, "sub": str(user.pk), "iat": now.timestamp(), "exp": now + lifetime}
    if settings.TOKEN_ISSUER:
        content["iss"] = settings.TOKEN_ISSUER
    if settings.TOKEN_AUDIENCE:
        content["aud"] = settings.TOKEN_AUDIENCE
    return jwt.encode(content, settings.TOKEN_KEY, algorithm=keys.HS256)


def identity_of_token(token: str) -> Identity:
    """Whom a token names: by `user_id`, or else by `sub`, which is her id or her `subject`.

    Where `SALON_TOKEN_CREATES_PEOPLE` is on, somebody unknown is created, and `name`, `role` and `avatar` are kept as
    the newest token says, save for the staff of the host. Raises `ChatError`: `token_expired`; `revoked` when it or
    she counts no more; `invalid_token` for everything else.
    """
    said = claims.read(token)
    if RevokedToken.objects.filter(pk=said.digest).exists():
        raise ChatError(ErrorCode.REVOKED, "This token has been revoked; log in again.")
    user = _find(said)
    if user is None and settings.TOKEN_CREATES_PEOPLE:
        user = _create(said)
    if user is None:
        raise claims.invalid("The token names a person who is not known here; an operator creates her.")
    if not user.is_active:
        raise ChatError(ErrorCode.REVOKED, "This account has been deactivated; ask an administrator.")
    if _is_too_old(said.issued_at, user.tokens_valid_after):
        raise ChatError(ErrorCode.REVOKED, "The tokens of this account have been revoked; log in again.")
    if settings.TOKEN_CREATES_PEOPLE:
        _refresh(user, said)
    ends = said.expires_at + timedelta(seconds=settings.TOKEN_LEEWAY)
    return Identity(person(user), ends, said.issued_at, said.digest)


def identity_of_cookie(header: str) -> Identity | None:
    """The active person whose session the `Cookie` header names, or None."""
    key = parse_cookie(header).get(settings.SESSION_COOKIE_NAME)
    # A quoted cookie can hold NUL, which PostgreSQL refuses to compare.
    if key is None or "\0" in key:
        return None
    request = HttpRequest()
    request.session = SessionStore(key)
    user = get_user(request)
    if not (user.is_authenticated and user.is_active):
        return None
    # The store itself would count from now on.
    session = Session.objects.filter(pk=key).first()
    return Identity(person(user), session.expire_date, None, "") if session else None


def revoke_all(user: User) -> None:
    """From now on, refuse all tokens of hers that were issued before.

    A token without `iat` counts as issued before, and so does one with whole seconds from the second of the revocation:
    whether it is older cannot be told.
    """
    user.tokens_valid_after = timezone.now()
    user.save(update_fields=["tokens_valid_after"])


def revoke_token(token: str) -> None:
    """From now on, refuse this token, whoever signed it. Raises `ChatError` (`invalid_token`) for what is none."""
    token = token.strip()
    now = timezone.now()
    ends = claims.unverified_expiry(token) or now + KEPT_WITHOUT_END
    # Within the leeway an expired token still counts.
    RevokedToken.objects.filter(expires_at__lt=now - timedelta(seconds=settings.MAX_TOKEN_LEEWAY)).delete()
    RevokedToken.objects.update_or_create(digest=claims.digest(token), defaults={"expires_at": ends})


def refused(connected: Collection[tuple[int, datetime | None, str]]) -> set[tuple[int, datetime | None, str]]:
    """Those of the connections (person id, `issued_at`, `digest`) that would be refused now, by two queries.

    A connection by session ends with its person only; that a token expires, whoever has it must see to herself.
    """
    valid_after = dict(
        User.objects.filter(pk__in={user_id for user_id, _, _ in connected}, is_active=True).values_list(
            "pk", "tokens_valid_after"
        )
    )
    digests = {digest for _, _, digest in connected if digest}
    revoked = set(RevokedToken.objects.filter(pk__in=digests).values_list("pk", flat=True))
    return {
        (user_id, issued_at, digest)
        for user_id, issued_at, digest in connected
        if user_id not in valid_after or digest in revoked or (digest and _is_too_old(issued_at, valid_after[user_id]))
    }


def _is_too_old(issued_at: datetime | None, valid_after: datetime | None) -> bool:
    return valid_after is not None and (issued_at is None or issued_at < valid_after)


def _find(said: Claims) -> User | None:
    by_id = said.user_id is not None
    return User.objects.filter(**({"pk": said.user_id} if by_id else {"subject": said.subject})).first()


def _create(said: Claims) -> User:
    """The person whom a token names, new; or the one whom another connection has just made of the same token."""
    wanted = claims.username(said.content)
    fields = claims.profile(said.content)
    # The last name is one that nobody has, not even who calls herself user-7.
    for username in (wanted, None, f"user-{secrets.token_hex(8)}"):
        try:
            with transaction.atomic():
                return _insert(said, username, fields)
        except IntegrityError:
            if user := _find(said):
                return user
    raise RuntimeError("A person could not be created under any user name.")


def _insert(said: Claims, username: str | None, fields: dict[str, str]) -> User:
    """A new row; without a user name she is called by her id. Raises `IntegrityError` where one of them is taken."""
    if said.user_id is not None:
        move_ids_beyond(said.user_id)
    user = User(pk=said.user_id, subject=said.subject, username=username or secrets.token_hex(16), **fields)
    user.set_unusable_password()
    user.save(force_insert=True)
    if username is None:
        user.username = f"user-{user.pk}"
        user.save(update_fields=["username"])
    return user


def move_ids_beyond(user_id: int) -> None:
    """Let the database give later people ids above this one. SQLite does so by itself."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        # Until the transaction ends nobody else takes an id: the sequence can only be moved forward.
        cursor.execute("LOCK TABLE chat_user IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(
            "SELECT setval(name, GREATEST(nextval(name), %s)) "
            "FROM (SELECT pg_get_serial_sequence('chat_user', 'id')::regclass AS name) AS sequence",
            [user_id],
        )


def _refresh(user: User, said: Claims) -> None:
    # An account of the host is its operator's to name; and what an older token says was true before.
    if user.is_staff or (user.profile_issued_at and not (said.issued_at and said.issued_at > user.profile_issued_at)):
        return
    fields = claims.profile(said.content)
    if changed := [name for name, value in fields.items() if getattr(user, name) != value]:
        for name in changed:
            setattr(user, name, fields[name])
        user.profile_issued_at = said.issued_at
        user.save(update_fields=[*changed, "profile_issued_at"])
