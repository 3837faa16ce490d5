"""Who logs in on the pages of this server, the one at `/` and the admin; and who guesses passwords there.

Attempts are counted in the database, for all processes: for an account from one address, for an account from wherever,
and for an address. Some are free; from then on each failure doubles the time in which nobody may try, up to
`LONGEST_WAIT`. An attempt is counted before its password is looked at, so many at once are no more than one after the
other; who gets in has it back.

Whoever guesses must not keep out the owner of an account, nor one pupil her school: where an account has logged in from
an address before, only what is tried there against this account counts.
"""

import functools
import ipaddress
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from chat.models import LoginAttempts, User
from salon.logs import about
from salon.pages import client_address

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rule:
    """So many attempts are free, and one of them comes back each time that `forgets` has passed."""

    free: int
    forgets: timedelta


PAIR = Rule(5, timedelta(minutes=15))
ACCOUNT = Rule(20, timedelta(minutes=15))
# A school of 500 behind one address mistypes a lot on its first day.
ADDRESS = Rule(300, timedelta(seconds=10))

FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(minutes=15)
KNOWN_FOR = timedelta(days=30)
"""How long an address counts as one that an account has logged in from."""
FAILURES_KEPT = timedelta(days=1)
"""More than any rule needs to forget what it has let through."""


def take(username: str, address: str) -> float:
    """Count an attempt to log in that is about to be made. 0, or the seconds until there may be one; then it was not
    counted."""
    now = timezone.now()
    rules = _rules(username, address)
    with transaction.atomic():
        rows = _locked(rules, now)
        pair, *others = rows
        is_known = pair.succeeded_at is not None and now - pair.succeeded_at < KNOWN_FOR
        concerned = [pair] if is_known else [pair, *others]
        wait = max((row.blocked_until - now).total_seconds() if row.blocked_until else 0 for row in concerned)
        if wait > 0:
            return wait
        for row in concerned:
            rule = rules[row.key]
            row.level = max(0.0, row.level - (now - row.counted_at) / rule.forgets) + 1
            row.counted_at = now
            row.blocked_until = now + _wait(row.level - rule.free) if row.level > rule.free else None
            row.save()
    return 0.0


def succeeded(username: str, address: str) -> None:
    """The attempt that was counted last was the owner's."""
    now = timezone.now()
    with transaction.atomic():
        pair, *others = _locked(_rules(username, address), now)
        is_new = pair.succeeded_at is None or now - pair.succeeded_at >= KNOWN_FOR
        pair.level, pair.blocked_until, pair.succeeded_at = 0.0, None, now
        pair.save()
        # Else nothing was counted for these.
        for row in others if is_new else ():
            row.level, row.blocked_until = max(0.0, row.level - 1), None
            row.save()
    LoginAttempts.objects.filter(
        Q(succeeded_at=None, touched_at__lt=now - FAILURES_KEPT) | Q(touched_at__lt=now - KNOWN_FOR)
    ).delete()


def _wait(beyond: float) -> timedelta:
    return min(LONGEST_WAIT, FIRST_WAIT * 2 ** (min(beyond, 20) - 1))


def _rules(username: str, address: str) -> dict[str, Rule]:
    """The rules for an attempt by the keys of their rows, that of the pair first."""
    # What somebody types for her name may be her password: it is kept in no form that could be guessed from.
    name = username.casefold()
    texts = {f"{address} {name}": PAIR, f"account {name}": ACCOUNT, f"address {address}": ADDRESS}
    return {salted_hmac("chat.logins", text, algorithm="sha256").hexdigest(): rule for text, rule in texts.items()}


def _locked(keys: dict[str, Rule], now: datetime) -> list[LoginAttempts]:
    """The rows of these keys, in their order, which are this transaction's until it ends."""
    # An update locks what is there; all do it in the same order, so nobody waits for each other.
    LoginAttempts.objects.bulk_create(
        [LoginAttempts(key=key, counted_at=now, touched_at=now) for key in sorted(keys)],
        update_conflicts=True,
        unique_fields=["key"],
        update_fields=["touched_at"],
    )
    found = LoginAttempts.objects.in_bulk(keys)
    return [found[key] for key in keys]


class _Throttled:
    """A form for a login that is counted."""

    wait = 0
    """Seconds until the next attempt, where this one was not let through."""

    def clean(self) -> dict[str, Any]:
        username, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if not username or not password:
            return super().clean()
        source, network = client_address(self.request), _network(self.request)
        if wait := take(username, network):
            self.wait = math.ceil(wait)
            logger.warning(
                "Refused a login of %s from %s for %d s: too many attempts",
                _name(username),
                source,
                wait,
                extra=about("login.throttled", outcome="refused"),
            )
            shown = f"{self.wait} s" if self.wait < 100 else f"{math.ceil(self.wait / 60)} min"
            sentence = _("Too many attempts to sign in. Try again in %(wait)s.")
            raise ValidationError(sentence % {"wait": shown}, "throttled")
        try:
            cleaned = super().clean()
        except ValidationError:
            logger.warning(
                "A login of %s from %s failed", _name(username), source, extra=about("login.failed", outcome="refused")
            )
            raise
        succeeded(username, network)
        return cleaned


class LoginForm(_Throttled, AuthenticationForm):
    """The login of the page."""


class AdminLoginForm(_Throttled, AdminAuthenticationForm):
    """The login of the admin."""


def throttled(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A view of such a form: to who tries too often it says so by its status, too."""

    @functools.wraps(view)
    def answer(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        response = view(request, *args, **kwargs)
        form = (getattr(response, "context_data", None) or {}).get("form")
        if wait := getattr(form, "wait", 0):
            response.status_code = 429
            response.headers["Retry-After"] = str(wait)
        return response

    return answer


def _network(request: HttpRequest) -> str:
    """Who counts as one address: of IPv6, a customer has a /64."""
    address = client_address(request)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _name(username: str) -> str:
    """A user name for the log; what is none may be a password in the wrong field."""
    return repr(username) if User.objects.filter(username=username).exists() else "an unknown user name"


@receiver(user_logged_in)
def logged_in(sender: type[User], request: HttpRequest, user: User, **_kwargs: object) -> None:
    if user.is_staff:
        request.session.set_expiry(settings.STAFF_SESSION_AGE)
    logger.info(
        "%r (%d) has logged in from %s",
        user.username,
        user.pk,
        client_address(request),
        extra=about("login.succeeded", user=user.pk, outcome="ok"),
    )


@receiver(user_logged_out)
def logged_out(sender: type[User], request: HttpRequest, user: User | None, **_kwargs: object) -> None:
    if user is not None:
        logger.info(
            "%r (%d) has logged out from %s",
            user.username,
            user.pk,
            client_address(request),
            extra=about("logout", user=user.pk, outcome="ok"),
        )
