"""Who is it? Signed tokens, and Django's session cookie.

All of it reads the database, and all of it but `identify` is synchronous.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import IntegrityError, connection, transaction
from django.http import HttpRequest, parse_cookie
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from chat import claims, database, keys, sessions, sql
from chat.batches import Batches
from chat.claims import Claims
from chat.models import RevokedToken, User
from chat.people import person
from chat.protocol import ChatError, ErrorCode, SenderInfo
from salon import measures

SESSION = "session:"
"""What the digest of a session begins with, here and in the log of changes; its key follows."""

MAX_BATCH = 200
"""Tokens that are looked up together."""

KEPT_WITHOUT_END = timedelta(days=3650)
"""How long a revoked token is remembered that does not say when it ends."""


@dataclass(frozen=True)
class Identity:
    """Who is connected, and by what.

    `expires_at`: from when on it counts no more (for a token, the leeway is in it). `issued_at` is the token's; None
    for a session. `digest` is what the token is known by, or `SESSION` and the session's key.
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


class _UnsettledError(Exception):
    """Somebody has to be written down first, as she is new or called otherwise: that is not done for many at once."""


async def identify(token: str) -> Identity:
    """The same as `identity_of_token`, with whom else connects at the moment. Raises `unavailable` too."""
    try:
        return await database.in_time(_identities.ask(token))
    except _UnsettledError:
        return await database.query(identity_of_token, token)


async def _identify(tokens: list[str]) -> Sequence[Identity | Exception]:
    return await database.look_up(_identities_of, tokens)


_identities: Batches[str, Identity] = Batches(_identify, MAX_BATCH, database.PACE, longest_pace=database.LONGEST_PACE)
measures.queues["identities"] = lambda: _identities.length


def _identities_of(tokens: list[str]) -> list[Identity | Exception]:
    """Whom tokens name, by one statement for those who name an id and one for those who name a subject."""
    read = [_read(token) for token in tokens]
    found = iter(_found([said for said in read if isinstance(said, Claims)]))
    return [said if isinstance(said, Exception) else _settled(said, *next(found)) for said in read]


def _read(token: str) -> Claims | Exception:
    try:
        return claims.read(token)
    except Exception as error:  # noqa: BLE001 (it is hers whose token it is, and not the others')
        return error


def _settled(said: Claims, user: User | None, is_revoked: bool) -> Identity | Exception:
    if user is None and not is_revoked and settings.TOKEN_CREATES_PEOPLE:
        return _UnsettledError()
    try:
        identity = _identity(said, user, is_revoked)
        return _UnsettledError() if settings.TOKEN_CREATES_PEOPLE and _news(user, said) else identity
    except ChatError as error:
        return error


def identity_of_token(token: str) -> Identity:
    """Whom a token names: by `user_id`, or else by `sub`, which is her id or her `subject`.

    Where `SALON_TOKEN_CREATES_PEOPLE` is on, somebody unknown is created, and `name`, `role` and `avatar` are kept as
    the newest token says, save for the staff of the host. Raises `ChatError`: `token_expired`; `revoked` when it or
    she counts no more; `invalid_token` for everything else.
    """
    said = claims.read(token)
    [(user, is_revoked)] = _found([said])
    if user is None and not is_revoked and settings.TOKEN_CREATES_PEOPLE:
        user = _create(said)
    identity = _identity(said, user, is_revoked)
    if settings.TOKEN_CREATES_PEOPLE and (news := _news(user, said)):
        _refresh(user, said, news)
        identity = _identity(said, user, is_revoked)
    return identity


def _identity(said: Claims, user: User | None, is_revoked: bool) -> Identity:
    """Who is connected by a token of this user's. Raises `ChatError`: `revoked`, `invalid_token`."""
    if is_revoked:
        raise ChatError(ErrorCode.REVOKED, "This token has been revoked; log in again.")
    if user is None:
        raise claims.invalid("The token names a person who is not known here; an operator creates her.")
    if not user.is_active:
        raise ChatError(ErrorCode.REVOKED, "This account has been deactivated; ask an administrator.")
    if _is_too_old(said.issued_at, user.tokens_valid_after):
        raise ChatError(ErrorCode.REVOKED, "The tokens of this account have been revoked; log in again.")
    ends = said.expires_at + timedelta(seconds=settings.TOKEN_LEEWAY)
    return Identity(person(user), ends, said.issued_at, said.digest)


measures.queues["identities"] = lambda: _identities.length


FIELDS = (
    "id",
    "username",
    "first_name",
    "last_name",
    "is_staff",
    "is_active",
    "role",
    "avatar",
    "tokens_valid_after",
    "profile_issued_at",
)
"""What the statements below find of a person, in the order of the model, as `from_db` takes it."""

BY_ID = """
    WITH wanted (number, name, digest) AS (VALUES {wanted})
    SELECT wanted.number, revoked.digest, users.id, users.username, users.first_name, users.last_name, users.is_staff,
        users.is_active, users.role, users.avatar, users.tokens_valid_after, users.profile_issued_at
    FROM wanted
    LEFT JOIN chat_user AS users ON users.id = wanted.name
    LEFT JOIN chat_revokedtoken AS revoked ON revoked.digest = wanted.digest
"""
BY_SUBJECT = BY_ID.replace("users.id = wanted.name", "users.subject = wanted.name")


def _found(all_said: list[Claims]) -> list[tuple[User | None, bool]]:
    """For each token, whom it names, if she is known, and whether it was revoked."""
    found = {}
    wanted = list(enumerate(all_said))
    by_id = [(number, said.user_id, said.digest) for number, said in wanted if said.user_id is not None]
    by_subject = [(number, said.subject, said.digest) for number, said in wanted if said.user_id is None]
    for statement, some in ((BY_ID, by_id), (BY_SUBJECT, by_subject)):
        if some:
            for number, revoked, *values in sql.rows(statement, wanted=some):
                found[number] = _user(values), revoked is not None
    return [found[number] for number, _ in wanted]


def _user(values: list) -> User | None:
    if values[0] is None:
        return None
    *others, valid_after, issued_at = values
    return User.from_db(connection.alias, FIELDS, [*others, sql.moment(valid_after), sql.moment(issued_at)])


def identity_of_cookie(header: str) -> Identity | None:
    """The active person whose session the `Cookie` header names, or None."""
    key = parse_cookie(header).get(settings.SESSION_COOKIE_NAME)
    # A quoted cookie can hold NUL, which PostgreSQL refuses to compare.
    if key is None or "\0" in key:
        return None
    request = HttpRequest()
    request.session = SessionStore(key)
    user = sessions.user_of(request)
    if not (user.is_authenticated and user.is_active):
        return None
    # The store itself would count from now on.
    session = Session.objects.filter(pk=key).first()
    return Identity(person(user), session.expire_date, None, f"{SESSION}{key}") if session else None


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
    """Those of the connections (person id, `issued_at`, `digest`) that would be refused now, by at most three queries.

    That a token or a session expires, whoever has it must see to herself.
    """
    users = User.objects.filter(pk__in={user_id for user_id, _, _ in connected}, is_active=True)
    users = users.only("password", "tokens_valid_after").in_bulk()
    digests = {digest for _, _, digest in connected}
    sessions = {digest for digest in digests if digest.startswith(SESSION)}
    tokens = digests - sessions
    revoked = set(RevokedToken.objects.filter(pk__in=tokens).values_list("pk", flat=True)) if tokens else set()
    living = _living(sessions, users) if sessions else set()

    def counts(user_id: int, issued_at: datetime | None, digest: str) -> bool:
        if user_id not in users:
            return False
        if digest in sessions:
            return (user_id, digest) in living
        return digest not in revoked and not _is_too_old(issued_at, users[user_id].tokens_valid_after)

    return {each for each in connected if not counts(*each)}


def _living(digests: set[str], users: dict[int, User]) -> set[tuple[int, str]]:
    """Of these sessions, those that are there and say who somebody is, with her id: she has neither logged out nor
    another password by now."""
    found = set()
    for session in Session.objects.filter(pk__in={digest.removeprefix(SESSION) for digest in digests}):
        said = session.get_decoded()
        user = users.get(int(said.get(SESSION_KEY, 0)))
        if user and _is_signed_by(user, said.get(HASH_SESSION_KEY, "")):
            found.add((user.pk, f"{SESSION}{session.pk}"))
    return found


def _is_signed_by(user: User, signature: str) -> bool:
    """Whether a session was made with her password of now, and with the secret key of now or one of before."""
    valid = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(signature, each) for each in valid)


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


def _news(user: User, said: Claims) -> dict[str, str]:
    """What a token says otherwise than is known, and is to be kept. Raises `ChatError` (`invalid_token`)."""
    # An account of the host is its operator's to name; and what an older token says was true before.
    if user.is_staff or (user.profile_issued_at and not (said.issued_at and said.issued_at > user.profile_issued_at)):
        return {}
    return {name: value for name, value in claims.profile(said.content).items() if getattr(user, name) != value}


def _refresh(user: User, said: Claims, news: dict[str, str]) -> None:
    for name, value in news.items():
        setattr(user, name, value)
    user.profile_issued_at = said.issued_at
    user.save(update_fields=[*news, "profile_issued_at"])
