"""What a token says (JWT, RFC 7519), once its signature is known to be good. Nothing here looks into the database."""

import hashlib
import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from django.conf import settings

from chat import keys
from chat.models import Role, User
from chat.protocol import ChatError, ErrorCode, is_storable

GREATEST_ID = 2**53 - 1
MAX_NAME = 150
"""Characters of `name`: so the words before its first space and those after it fit into their columns."""

REMEMBERED_TOKENS = 2048
"""Tokens whose signature is not checked again: those of pages that are reloaded, and of calls of the HTTP API."""

LAST_SECOND = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""A time beyond this is this one: nearly the last that a `datetime` can hold, and still with room for a leeway."""


@dataclass(frozen=True)
class Claims:
    """What a valid token says: whom it names, by exactly one of `user_id` and `subject`, and when it was signed.

    `content` is all of it, for `username` and `profile`. `expires_at` is the claim, without the leeway.
    """

    user_id: int | None
    subject: str | None
    issued_at: datetime | None
    expires_at: datetime
    digest: str
    content: dict[str, Any]


class Remembered:
    """What tokens said that were found good, signature and all, those that were asked for longest ago forgotten.

    A token counts as the same only to the last letter of its signature. Its times are looked at whenever it is asked
    for, and what was found good by other keys than those of now is not known. For several threads.
    """

    def __init__(self, greatest: int = REMEMBERED_TOKENS) -> None:
        self._greatest = greatest
        self._known: OrderedDict[bytes, tuple[object, Claims]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, token: str, edition: object) -> Claims | None:
        """What this token says, if it is known with this edition of the keys and counts at this moment."""
        name = _name(token)
        with self._lock:
            known_by, said = self._known.get(name, (None, None))
            if said is None or known_by is not edition:
                return None
            self._known.move_to_end(name)
        return said if _counts_now(said.content) else None

    def keep(self, token: str, edition: object, said: Claims) -> None:
        with self._lock:
            self._known[_name(token)] = edition, said
            if len(self._known) > self._greatest:
                self._known.popitem(last=False)


_remembered = Remembered()


def read(token: str) -> Claims:
    """What the token says. Raises `ChatError`: `token_expired`, or `invalid_token` for all else that is wrong."""
    # Before the signature is checked: what is found good by keys that go meanwhile is not kept as good by the new ones.
    edition = keys.ring().edition()
    if (said := _remembered.find(token, edition)) is None:
        said = _read(token)
        _remembered.keep(token, edition, said)
    return said


def _read(token: str) -> Claims:
    content = _verified(token)
    user_id, subject = _named(content)
    return Claims(
        user_id,
        subject,
        issued_at=_moment(content, "iat"),
        expires_at=_moment(content, "exp"),
        digest=digest(token),
        content=content,
    )


def _name(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _counts_now(content: dict[str, Any]) -> bool:
    """Whether the times of a token that was good once let it count now, as PyJWT reads them: in whole seconds."""
    now, leeway = time.time(), settings.TOKEN_LEEWAY
    begins = max(int(content.get(claim) or 0) for claim in ("iat", "nbf"))
    return begins <= now + leeway and int(content["exp"]) > now - leeway


def unverified_expiry(token: str) -> datetime | None:
    """When a token would end, whoever signed it; None where it says nothing. Raises `ChatError` (`invalid_token`)."""
    try:
        content = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, UnicodeEncodeError):
        raise invalid("This is not a token; give the whole of it, three parts with a dot between them.") from None
    return _moment(content, "exp")


def digest(token: str) -> str:
    """The SHA-256 of what was signed, `header.claims`: the same however the signature behind it is written."""
    return hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()


def username(content: dict[str, Any]) -> str | None:
    """The user name that a new person asks for, or None. Raises `ChatError` (`invalid_token`)."""
    for claim in ("username", "preferred_username"):
        if name := _text(content, claim, MAX_NAME):
            name = User.normalize_username(name)
            # What is no user name here ("Alice Martin", an address with a slash) is not the token's fault.
            return name if re.fullmatch(r"[\w.@+-]{1,150}", name) else None
    return None


def profile(content: dict[str, Any]) -> dict[str, str]:
    """The fields of a person that a token fills. Raises `ChatError` (`invalid_token`).

    `name` and `avatar` may be null or empty, where she has none.
    """
    fields = {}
    if "name" in content:
        fields["first_name"], _, last_name = _text(content, "name", MAX_NAME).partition(" ")
        fields["last_name"] = last_name.strip()
    if "avatar" in content:
        fields["avatar"] = _text(content, "avatar", User._meta.get_field("avatar").max_length)
    if (role := content.get("role")) is not None:
        if role not in Role.values:
            raise invalid(f"The token's `role` is unknown here; it is one of {', '.join(Role.values)}.")
        fields["role"] = role
    return fields


def expired() -> ChatError:
    """What somebody is told whose token is over."""
    return ChatError(ErrorCode.TOKEN_EXPIRED, "The token has expired; get a new one and connect again.")


def invalid(sentence: str) -> ChatError:
    return ChatError(ErrorCode.INVALID_TOKEN, sentence)


def _verified(token: str) -> dict[str, Any]:
    """The content of a token that was signed with one of the keys for its algorithm, and is valid now and here."""
    try:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        for key in keys.ring().find(algorithm, header.get("kid")):
            try:
                return jwt.decode(
                    token,
                    key.material,
                    algorithms=[key.algorithm],
                    issuer=settings.TOKEN_ISSUER,
                    audience=settings.TOKEN_AUDIENCE,
                    leeway=settings.TOKEN_LEEWAY,
                    # Backends put ints into both, where RFC 7519 has strings. What counts is checked here.
                    options={"require": settings.TOKEN_REQUIRED_CLAIMS, "verify_sub": False, "verify_jti": False},
                )
            except jwt.InvalidSignatureError:
                continue
    except jwt.ExpiredSignatureError:
        raise expired() from None
    except jwt.MissingRequiredClaimError as error:
        raise invalid(f"The token has no `{error.claim}`, which this server requires.") from None
    except jwt.InvalidIssuerError:
        raise invalid("The token's `iss` is not the one that this server believes (SALON_TOKEN_ISSUER).") from None
    except jwt.InvalidAudienceError:
        raise invalid("The token's `aud` is not this server; its operator sets SALON_TOKEN_AUDIENCE.") from None
    except jwt.ImmatureSignatureError:
        raise invalid("The token is not valid yet (`nbf`, `iat`); look at the clock of who signed it.") from None
    except (jwt.InvalidTokenError, UnicodeEncodeError):
        raise invalid("The token is not one that can be read here (a JSON Web Token); log in again.") from None
    raise invalid("The token is not signed with a key that this server knows; log in again.")


def _named(content: dict[str, Any]) -> tuple[int | None, str | None]:
    """The id or the subject that a token names: `user_id`, or else `sub`."""
    if (user_id := content.get("user_id")) is not None:
        if (number := _number(user_id)) is None:
            raise invalid("The token's `user_id` is not an id; it is a whole number.")
        return _id("user_id", number), None
    subject = content.get("sub")
    if (number := _number(subject)) is not None:
        return _id("sub", number), None
    if isinstance(subject, str) and subject:
        return None, _text(content, "sub", User._meta.get_field("subject").max_length)
    raise invalid("The token names nobody; put the person's id into `user_id`, or into `sub`.")


def _number(value: object) -> int | None:
    """The whole number that a claim is, or writes in digits."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]+", value):
        # So many digits that Python would not read them are too many anyway.
        return int(value[:100])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _id(claim: str, number: int) -> int:
    if not 1 <= number <= GREATEST_ID:
        raise invalid(f"The token's `{claim}` is not an id; ids go from 1 to {GREATEST_ID}.")
    return number


def _text(content: dict[str, Any], claim: str, greatest: int) -> str:
    text = content.get(claim)
    text = "" if text is None else text
    if not isinstance(text, str) or len(text) > greatest or not is_storable(text):
        raise invalid(
            f"The token's `{claim}` does not fit; it is a text of at most {greatest} characters, without NUL or half a "
            "surrogate pair."
        )
    return text.strip()


def _moment(content: dict[str, Any], claim: str) -> datetime | None:
    seconds = content.get(claim)
    if seconds is None:
        return None
    # NaN, which Python's JSON knows, is not 0 or more either.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise invalid(f"The token's `{claim}` is not a time; it is a number of seconds since 1970.")
    return datetime.fromtimestamp(min(seconds, LAST_SECOND), UTC)
