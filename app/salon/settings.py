"""Settings, all of them from the environment; without any, Salon runs embedded (SQLite, in memory, `var/`).

| variable | meaning | embedded default |
| --- | --- | --- |
| `SALON_PUBLIC_URL` | where people reach this server: scheme, name, port | `http://localhost:8000` |
| `SALON_ALLOWED_ORIGINS` | origins of frontends, comma-separated: `https://school.example` | any port of this machine |
| `SALON_ADMIN_NETWORKS` | addresses and networks that `/admin/` is there for, comma-separated | everybody |
| `SALON_ALLOWED_HOSTS` | further names or addresses it answers to, comma-separated | none |
| `SALON_SECRET_KEY` | Django's key: sessions, password resets | made once, under `var/` |
| `SALON_SECRET_OLD_KEYS` | keys before it, comma-separated: who has logged in under one stays so; none signs | none |
| `SALON_TOKEN_KEY` | the HS256 key that tokens are signed with, at least 32 characters | made once, under `var/` |
| `SALON_TOKEN_OLD_KEYS` | other HS256 keys that are accepted too, comma-separated; none signs | none |
| `SALON_TOKEN_KEY_FILES` | files of others who sign, comma-separated: a public key (PEM) or a JWKS | none |
| `SALON_TOKEN_ISSUER` | the `iss` that every token must have | not looked at |
| `SALON_TOKEN_AUDIENCE` | the `aud` that every token must have, or hold in its list | none may have one |
| `SALON_TOKEN_LEEWAY` | seconds that the clock of a signer may be off, 0 to 300 | `10` |
| `SALON_TOKEN_REQUIRED_CLAIMS` | claims that every token must have, comma-separated; `exp` always | `exp` |
| `SALON_TOKEN_CREATES_PEOPLE` | `on`: a token makes and refreshes the person that it names; `off` | `on` |
| `DATABASE_URL` | e.g. `postgresql:///salon?host=/run/postgresql` | SQLite under `var/` |
| `REDIS_URL` | `unix://`, `redis://`, `rediss://`, `redis+sentinel://`: see `redis_url.py` | in memory, one process |
| `SALON_DATA_DIR` | where files are kept | `var/` beside `app/` |
| `SALON_STATIC_ROOT` | where `collectstatic` puts files for a web server; without it Salon serves them itself | none |
| `SALON_LIMIT_MESSAGES` | messages of a person, a second and at once; so for the five below | `10/100` |
| `SALON_LIMIT_SIGNALS` | typing, status and read events of a person | `10/60` |
| `SALON_LIMIT_JOINS` | rooms that a person joins | `20/400` |
| `SALON_LIMIT_REQUESTS` | calls of the HTTP API by a person | `50/500` |
| `SALON_LIMIT_EVENTS` | events of whatever kind on one connection | `50/200` |
| `SALON_LIMIT_PATIENCE` | refusals for a limit on one connection before it is closed with 4429 | `1/100` |
| `SALON_ROOMS_PER_CONNECTION` | rooms that one connection may have joined | `200` |
| `SALON_CONNECTIONS_PER_PERSON` | WebSockets that one person may have open | `20` |
| `SALON_MAX_QUEUED_BYTES` | bytes that wait for a client before it is closed with 4408 | `1048576` |
| `SALON_ACCEL_LOCATION` | where nginx has the files of messages: `/_files/`; without it Salon sends them | none |
| `SALON_METRICS_NETWORKS` | addresses and networks that see `/metrics` over a proxy, comma-separated | none |
| `SALON_METRICS_TOKEN` | a bearer token that opens `/metrics` from everywhere, at least 32 characters | none |
| `PROMETHEUS_URL` | the Prometheus whose numbers the admin shows: `http://host:port`, or `unix:/path` | none |
| `SENTRY_DSN` | where errors are reported (Sentry); without it, nowhere | none |
| `SENTRY_ENVIRONMENT` | what this server is called there | `production`; embedded: `development` |
| `SENTRY_TRACES_SAMPLE_RATE` | of how many requests and events it is reported how long they took, 0 to 1 | `0` |
| `SALON_LOG_LEVEL` | `DEBUG`: each event and request; `INFO`, `WARNING`, `ERROR` | `INFO` |
| `SALON_LOG_FORMAT` | `json`: a line of JSON an event; `text`: for a person; `auto`: text at a terminal | `auto` |

What holds a secret may stand in a file instead, which `SALON_SECRET_KEY_FILE` names; so `SALON_TOKEN_KEY_FILE`,
`SALON_SECRET_OLD_KEYS_FILE`, `SALON_TOKEN_OLD_KEYS_FILE`, `SALON_METRICS_TOKEN_FILE`, `DATABASE_URL_FILE`,
`REDIS_URL_FILE` and `SENTRY_DSN_FILE`.
"""

import contextlib
import ipaddress
import logging
import math
import os
import re
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from salon import __version__, redis_url

BASE_DIR = Path(__file__).resolve().parent.parent


def _list(name: str) -> list[str]:
    return _split(os.environ.get(name, ""))


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _secret(name: str) -> str | None:
    """The value in the environment, or in the file that is named there instead.

    Of a container, whoever may ask the engine sees the environment.
    """
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name)
    if os.environ.get(name):
        raise ImproperlyConfigured(f"{name} and {name}_FILE are both set; leave one of them out.")
    try:
        value = Path(path).read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE: {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ImproperlyConfigured(f"{name}_FILE: {path} holds no text.") from None
    if not value:
        raise ImproperlyConfigured(f"{name}_FILE: {path} is empty.")
    if "\n" in value:
        raise ImproperlyConfigured(
            f"{name}_FILE: {path} has several lines; it holds one, as {name} would. Public keys of others belong into"
            " SALON_TOKEN_KEY_FILES."
        )
    return value


def _networks(name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for item in _list(name):
        try:
            found.append(ipaddress.ip_network(item, strict=False))
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{name} has {item!r}; it holds addresses and networks like 192.0.2.7 or 192.0.2.0/24: {error}."
            ) from None
    return found


@dataclass(frozen=True)
class Rate:
    """`per_second` times a second, and at most `burst` times at once."""

    per_second: float
    burst: float


def _rate(name: str, default: str) -> Rate:
    """The rate in the environment, as "PER_SECOND/BURST"."""
    text = os.environ.get(name) or default
    try:
        per_second, burst = (float(part) for part in text.split("/"))
        if per_second > 0 and burst >= 1 and math.isfinite(per_second + burst):
            return Rate(per_second, burst)
    except ValueError:
        pass
    raise ImproperlyConfigured(f"{name} is {text!r}; it looks like {default}: so many a second, and so many at once.")


def _number(name: str, default: int) -> int:
    """The number in the environment, at least 1."""
    text = os.environ.get(name) or str(default)
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise ImproperlyConfigured(f"{name} is {text!r}; it is a number, such as {default}.")


def _choice(name: str, default: str, *others: str) -> str:
    """Which of these the environment says, whatever its case."""
    text = os.environ.get(name) or default
    for choice in (default, *others):
        if text.casefold() == choice.casefold():
            return choice
    raise ImproperlyConfigured(f"{name} is {text!r}; it is one of {', '.join((default, *others))}.")


def _kept_secret(name: str, minimum: int) -> str:
    """The secret from the environment, at least `minimum` characters; embedded, one that is made once and kept."""
    if value := _secret(name):
        if len(value) < minimum:
            raise ImproperlyConfigured(f"{name} has {len(value)} characters; give it at least {minimum}.")
        return value
    if not EMBEDDED:
        raise ImproperlyConfigured(
            f"{name} is not set, nor is {name}_FILE; a server with a SALON_PUBLIC_URL needs its own."
        )
    path = DATA_DIR / name.removeprefix("SALON_").lower()
    if not path.exists():
        DATA_DIR.mkdir(parents=True, exist_ok=True)
        # Written aside and linked into place: nobody reads half a secret, and of two processes one wins.
        with tempfile.NamedTemporaryFile("w", dir=DATA_DIR) as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    if len(value := path.read_text()) < minimum:
        raise ImproperlyConfigured(f"{path} holds {len(value)} characters; remove it, and a new one is made.")
    return value


def _old_keys(name: str, minimum: int) -> list[str]:
    for key in (found := _split(_secret(name) or "")):
        if len(key) < minimum:
            raise ImproperlyConfigured(f"{name} has a key of {len(key)} characters; each has at least {minimum}.")
    return found


def _seconds(name: str, default: int, greatest: int) -> float:
    text = os.environ.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= greatest:
        raise ImproperlyConfigured(f"{name} is {text!r}; it is a number of seconds from 0 to {greatest}.")
    return seconds


def _share(name: str, default: float) -> float:
    text = os.environ.get(name) or str(default)
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ImproperlyConfigured(f"{name} is {text!r}; it is a number from 0 to 1.")
    return share


def _switch(name: str, default: bool) -> bool:
    text = os.environ.get(name) or ("on" if default else "off")
    if text not in ("on", "off"):
        raise ImproperlyConfigured(f"{name} is {text!r}; it is on or off.")
    return text == "on"


EMBEDDED = "SALON_PUBLIC_URL" not in os.environ
PUBLIC_URL = os.environ.get("SALON_PUBLIC_URL", "http://localhost:8000").rstrip("/")
_public = urlsplit(PUBLIC_URL)
if _public.scheme not in ("http", "https") or not _public.hostname:
    raise ImproperlyConfigured(f"SALON_PUBLIC_URL is {PUBLIC_URL!r}; it looks like https://chat.example.org.")
HTTPS = _public.scheme == "https"
# A browser leaves out the port that goes without saying.
PUBLIC_URL = PUBLIC_URL.removesuffix(":443" if HTTPS else ":80")
DATA_DIR = Path(os.environ.get("SALON_DATA_DIR", BASE_DIR.parent / "var"))
FILES_DIR = DATA_DIR / "files"
# An internal location of nginx that stands for FILES_DIR; empty: Django sends the bytes itself.
ACCEL_LOCATION = os.environ.get("SALON_ACCEL_LOCATION", "")
if ACCEL_LOCATION and not (ACCEL_LOCATION.startswith("/") and ACCEL_LOCATION.endswith("/")):
    raise ImproperlyConfigured(f"SALON_ACCEL_LOCATION is {ACCEL_LOCATION!r}; it looks like /_files/.")

SECRET_KEY = _kept_secret("SALON_SECRET_KEY", 32)
TOKEN_KEY = _kept_secret("SALON_TOKEN_KEY", 32)
SECRET_KEY_FALLBACKS = _old_keys("SALON_SECRET_OLD_KEYS", 32)
TOKEN_OLD_KEYS = _old_keys("SALON_TOKEN_OLD_KEYS", 32)
TOKEN_KEY_FILES = [Path(path) for path in _list("SALON_TOKEN_KEY_FILES")]
TOKEN_ISSUER = os.environ.get("SALON_TOKEN_ISSUER") or None
TOKEN_AUDIENCE = os.environ.get("SALON_TOKEN_AUDIENCE") or None
MAX_TOKEN_LEEWAY = 300
TOKEN_LEEWAY = _seconds("SALON_TOKEN_LEEWAY", 10, MAX_TOKEN_LEEWAY)
# A token without an end could be taken back only one by one.
TOKEN_REQUIRED_CLAIMS = sorted({"exp", *_list("SALON_TOKEN_REQUIRED_CLAIMS")})
TOKEN_CREATES_PEOPLE = _switch("SALON_TOKEN_CREATES_PEOPLE", True)

ALLOWED_HOSTS = [_public.hostname, "localhost", "127.0.0.1", "[::1]", *_list("SALON_ALLOWED_HOSTS")]
# Origins of other sites that may open a WebSocket; the server's own is always allowed.
ALLOWED_ORIGINS = _list("SALON_ALLOWED_ORIGINS")
for _origin in ALLOWED_ORIGINS:
    _parts = urlsplit(_origin)
    if _parts.scheme not in ("http", "https") or _origin != f"{_parts.scheme}://{_parts.netloc.lower()}":
        raise ImproperlyConfigured(
            f"SALON_ALLOWED_ORIGINS has {_origin!r}; an origin is a scheme, a name and perhaps a port, such as "
            "https://school.example, without a slash at its end."
        )
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
# For everybody else there is no /admin/.
ADMIN_NETWORKS = _networks("SALON_ADMIN_NETWORKS")

METRICS_NETWORKS = _networks("SALON_METRICS_NETWORKS")
METRICS_TOKEN = _secret("SALON_METRICS_TOKEN") or None
if METRICS_TOKEN and len(METRICS_TOKEN) < 32:
    raise ImproperlyConfigured(f"SALON_METRICS_TOKEN has {len(METRICS_TOKEN)} characters; give it at least 32.")
PROMETHEUS_URL = os.environ.get("PROMETHEUS_URL") or None
if PROMETHEUS_URL and not re.fullmatch(r"http://[^/\s]+|unix:/\S+", PROMETHEUS_URL):
    raise ImproperlyConfigured(
        f"PROMETHEUS_URL is {PROMETHEUS_URL!r}; it is like http://127.0.0.1:9090 or unix:/run/prometheus.sock."
    )
# The directory of a release is called by its id (`/opt/salon/releases/<id>/app`).
RELEASE = BASE_DIR.parent.name if BASE_DIR.parent.parent.name == "releases" else __version__

# Seconds a connection may stay open before it has said who it is.
AUTH_TIMEOUT = 5.0
# Seconds an answer from the database or the channel layer may take.
DATABASE_TIMEOUT = 5.0
CHANNEL_LAYER_TIMEOUT = 2.0
# Seconds after which somebody who has sent a message knows that it is stored, or is told that it cannot be: two, less
# what a busy machine needs for the rest of its way.
MESSAGE_TIMEOUT = 1.8
# Seconds for which the database may say nothing before it counts as away; with the time between two looks at its log
# (CHANGES_INTERVAL) less than a message may take. And seconds between two looks while it is away: nobody waits longer
# for it than it stays away and this.
PROBE_TIMEOUT = 1.2
PROBE_RETRY = 0.2
# Seconds after which a client may try again when the database answers and refuses, as with a full disk: each try is one
# for the database too.
REFUSED_RETRY = 1.0
# Seconds that a message waits for somebody else's lock on its room before those of other rooms go on without it: a few
# transactions of other processes. When it is the only one to wait, it queues for the lock for the second time: the
# longer, the fairer it is served in a room where many processes write.
LOCK_PATIENCE = 0.1
HELD_LOCK_PATIENCE = 0.3
# Seconds between two looks into the database's log of changes; after a look, for how long what is remembered of people
# and rooms is taken for true; and for how long the log is kept, at least.
CHANGES_INTERVAL = 0.5
CHANGES_TRUSTED = 1.0
CHANGES_KEPT = 300.0
# Memberships, with their people, that a process remembers: about 500 bytes each.
ROSTER_SIZE = 50_000
# Threads, and so database connections, of one server process: for its sockets, and for its HTTP API. It has two more,
# for the log of changes and for histories, and on PostgreSQL another connection, on which messages are stored.
DATABASE_THREADS = 4
HTTP_THREADS = 4
# Bytes of one file of a message, and how many files one message may have.
MAX_FILE_SIZE = 10 * 1024 * 1024
MAX_FILES = 10
# Bytes of one message over the wire: 2,000 characters are 24,000 bytes when JSON escapes each of them.
MAX_FRAME_SIZE = 128 * 1024
# Bytes that may wait for a client that does not read.
MAX_QUEUED_BYTES = _number("SALON_MAX_QUEUED_BYTES", 1024 * 1024)

# Seconds after which somebody who types, and is not heard of again, does not; and in which that she does is told once.
TYPING_TIMEOUT = 5.0
TYPING_REPEAT = 2.0

# Seconds for which a person whose last connection has gone counts as here: a page that is reloaded needs them.
PRESENCE_GRACE = 3.0
# Seconds between two signs of life of a process, and after which one that gives none has died.
PRESENCE_BEAT = 10.0
PRESENCE_TIMEOUT = 40.0
# Seconds between two times that what has reached people's devices is written down.
DELIVERY_INTERVAL = 2.0
# Seconds before its token ends at which a connection is told.
TOKEN_WARNING = 30.0

LIMITS = {
    "events": _rate("SALON_LIMIT_EVENTS", "50/200"),
    "messages": _rate("SALON_LIMIT_MESSAGES", "10/100"),
    "signals": _rate("SALON_LIMIT_SIGNALS", "10/60"),
    "joins": _rate("SALON_LIMIT_JOINS", "20/400"),
    "requests": _rate("SALON_LIMIT_REQUESTS", "50/500"),
}
# Refusals for one of these limits that a connection may collect before it is closed, a second and at once.
LIMIT_PATIENCE = _rate("SALON_LIMIT_PATIENCE", "1/100")
ROOMS_PER_CONNECTION = _number("SALON_ROOMS_PER_CONNECTION", 200)
CONNECTIONS_PER_PERSON = _number("SALON_CONNECTIONS_PER_PERSON", 20)

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "chat",
]
MIDDLEWARE = [
    "salon.access.access",
    "salon.pages.headers",
    "django.middleware.security.SecurityMiddleware",
    "salon.pages.admin_networks",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "chat.sessions.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # The last one: it runs the page.
    "chat.availability.Availability",
]
# What the admin says after a change waits in the session, and not in a cookie that has no prefix.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
ROOT_URLCONF = "salon.urls"
ASGI_APPLICATION = "salon.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {
    "default": dj_database_url.parse(
        _secret("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'salon.sqlite3'}", conn_max_age=600, conn_health_checks=True
    )
}
HAS_POSTGRESQL = DATABASES["default"]["ENGINE"].endswith("postgresql")
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # A transaction that reads before it writes would otherwise fail at once when another one wrote in between.
        "transaction_mode": "IMMEDIATE",
        "timeout": DATABASE_TIMEOUT,
        "init_command": "PRAGMA journal_mode=WAL;",
    }
else:
    # Over a network, a host that is gone says nothing, neither to a new connection nor to one that waits for an answer.
    # What the address of the database says of these itself counts more.
    for _name, _value in {
        # Seconds for one try, which is seven answers with TLS and a password: on a slow link each takes its time. Where
        # none comes at all, the next line ends the try.
        "connect_timeout": 5,
        # Milliseconds in which what was sent must have come there: a link that loses one packet of twenty is worse for
        # longer once in days.
        "tcp_user_timeout": 2000,
        # Who waits for an answer sends nothing: the kernel asks after a second whether somebody is there, and after
        # two that nobody answered, the connection is over.
        "keepalives": 1,
        "keepalives_idle": 1,
        "keepalives_interval": 1,
        "keepalives_count": 2,
        # What `chat.sql` asks for is planned once for each connection. Django's own statements never are.
        "prepare_threshold": 0,
    }.items():
        DATABASES["default"].setdefault("OPTIONS", {}).setdefault(_name, _value)
# What a server, and no command, asks of PostgreSQL for each of its connections, in milliseconds. For a lock nobody
# waits longer than a person does for her message; and a process that is stopped, or cut off, in the midst of a
# transaction has its locks taken away, long after one that works has gone on. What is planned beforehand (`chat.sql`)
# is planned for whatever values there will be: for those at hand, it would be planned each time.
# The sessions of a link that was cut are ended by the server too: it has a bounded number of them, and whoever comes
# back needs new ones.
SERVER_OPTIONS = (
    "-c plan_cache_mode=force_generic_plan -c lock_timeout=1500 -c idle_in_transaction_session_timeout=5000"
    " -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=10000"
)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if (_redis_url := _secret("REDIS_URL")) is not None:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "chat.layers.RedisChannelLayer",
            "CONFIG": {"hosts": [redis_url.host(_redis_url)], "prefix": "salon"},
        }
    }
else:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels.layers.InMemoryChannelLayer",
            # The defaults fit one client a channel: they drop what is beyond 100 messages and forget groups after a
            # day. Here a channel is the whole process.
            "CONFIG": {"capacity": 100_000, "group_expiry": 10 * 365 * 86400},
        }
    }

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    # The views of the API name theirs; the documents are for everybody.
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "chat.api.negotiation.OnlyJSON",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "chat.api.errors.answer",
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Salon",
    "DESCRIPTION": "The HTTP API of a chat server. The WebSocket is described in `/docs/asyncapi.json`.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/chats",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": ["chat.api.schema.add_components"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
# Which origins may call the HTTP API from a browser is asked for each request: see `chat.origins`.
CORS_ALLOW_CREDENTIALS = False
CORS_URLS_REGEX = r"^/(chats|docs)/"
CORS_EXPOSE_HEADERS = ["Content-Disposition", "Content-Range", "Retry-After"]
CORS_PREFLIGHT_MAX_AGE = 86400

AUTH_USER_MODEL = "chat.User"
# Long, not well known and nobody's name: a rule on which characters to use makes passwords worse (NIST SP 800-63B).
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# Django's own default stays first in its list of hashers: PBKDF2 with SHA-256, and iterations that each release raises,
# beyond what OWASP asks for. Argon2 would resist a graphics card better, but takes memory for each login, of which a
# small host has none to spare when a school comes at eight, and a library in C more.
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "index"
LOGOUT_REDIRECT_URL = "login"

# A browser takes a cookie of this prefix from this very host only, over TLS, and for all of its paths: neither a
# neighbour under the same domain nor somebody on the way can put one there.
_prefix = "__Host-" if HTTPS else ""
SESSION_COOKIE_NAME = f"{_prefix}sessionid"
CSRF_COOKIE_NAME = f"{_prefix}csrftoken"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
# Forms carry the token themselves, so no script reads it.
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
# They come along when somebody follows a link to here, and with nothing that a page elsewhere sends. With Strict, such
# a link would have a new token made, and the forms of every open tab would fail.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
# Seconds from a login until the next one. Whoever may use the admin can do more harm: she logs in once a working day.
SESSION_COOKIE_AGE = 7 * 86400
STAFF_SESSION_AGE = 12 * 3600
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REFERRER_POLICY = "same-origin"
# HSTS and the redirect from http are nginx's: they must hold for static files too.
SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008"]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("fr", "Français")]
# What somebody has chosen counts for a year, and more than what her browser asks for.
LANGUAGE_COOKIE_NAME = f"{_prefix}language"
LANGUAGE_COOKIE_AGE = 365 * 86400
LANGUAGE_COOKIE_SECURE = HTTPS
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = os.environ.get("SALON_STATIC_ROOT")

LOG_LEVEL = _choice("SALON_LOG_LEVEL", "INFO", "DEBUG", "WARNING", "ERROR")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "salon.logs.formatter", "form": _choice("SALON_LOG_FORMAT", "auto", "json", "text")}},
    # Of a service that is away, `chat.services` tells once; not each request that finds it so.
    "filters": {
        "mistakes": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: getattr(record, "status_code", None) != 503,
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    # What libraries tell of each statement and frame would be, at DEBUG, what people write.
    "root": {"handlers": ["stderr"], "level": "INFO" if LOG_LEVEL == "DEBUG" else LOG_LEVEL},
    # A page that is not there, a refused handshake and a made-up `Host` are the visitor's business.
    "loggers": {
        "chat": {"level": LOG_LEVEL},
        "salon": {"level": LOG_LEVEL},
        "django": {"handlers": []},
        "django.request": {"level": "ERROR", "filters": ["mistakes"]},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "daphne": {"level": "WARNING"},
        "twisted": {"level": "WARNING"},
        # Who is followed is told, whatever else is.
        "chat.follow": {"level": "INFO"},
    },
}
logging.captureWarnings(True)
if SENTRY_DSN := _secret("SENTRY_DSN"):
    _parts = urlsplit(SENTRY_DSN)
    if _parts.scheme not in ("http", "https") or not (_parts.username and _parts.hostname and _parts.path.strip("/")):
        raise ImproperlyConfigured(
            "SENTRY_DSN is not like https://KEY@sentry.example/1: copy it from Sentry's project."
        )
    LOGGING["handlers"]["sentry"] = {
        "class": "salon.sentry.Handler",
        "level": "ERROR",
        "dsn": SENTRY_DSN,
        "release": RELEASE,
        "environment": os.environ.get("SENTRY_ENVIRONMENT") or ("development" if EMBEDDED else "production"),
        "traces_sample_rate": _share("SENTRY_TRACES_SAMPLE_RATE", 0.0),
    }
    LOGGING["root"]["handlers"].append("sentry")
