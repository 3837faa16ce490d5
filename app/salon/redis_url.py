"""Where Redis is: the forms of `REDIS_URL`.

| form | meaning |
| --- | --- |
| `unix:///run/redis/redis-server.sock?db=1` | a unix socket |
| `redis://user:password@redis.example:6379/1` | TCP |
| `rediss://user:password@redis.example:6379/1?ssl_ca_certs=/etc/salon/redis-ca.pem` | TCP with TLS |
| `redis+sentinel://user:password@one.example:26379,two.example:26379/main/1` | the sentinels' master `main` |
| `rediss+sentinel://…` | the same with TLS, to the sentinels too |

What may be left out: the user with her password, or the user alone (`redis://:password@…`); the number of the database
at the end (0); the port (6379, a sentinel's 26379). With TLS the certificate of the other side must bear the name or
the address under which it is reached, of a sentinel's master: that which the sentinel tells. It is checked with the
authorities of the system, or with those of the file `ssl_ca_certs`; `ssl_certfile` and `ssl_keyfile` are our own
certificate and its key. Sentinels that want a password have it as `sentinel_username` and `sentinel_password`.

The user needs no more rights than these (`ACL SETUSER` and a password):

    resetkeys resetchannels &salon* -@all +hello +auth +ping +select +publish +subscribe +unsubscribe

and at a sentinel `-@all +hello +auth +sentinel|masters`.
"""

from urllib.parse import parse_qsl, unquote

from django.core.exceptions import ImproperlyConfigured

SENTINEL_PORT = 26379

_TLS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
_SENTINEL = {"sentinel_username", "sentinel_password"}
_PARAMETERS = {
    "unix": {"db"},
    "redis": set(),
    "rediss": _TLS,
    "redis+sentinel": _SENTINEL,
    "rediss+sentinel": _SENTINEL | _TLS,
}
_EXAMPLES = {
    "unix": "unix:///run/redis/redis-server.sock?db=1",
    "redis": "redis://user:password@redis.example:6379/1",
    "rediss": "rediss://user:password@redis.example:6379/1?ssl_ca_certs=/etc/salon/redis-ca.pem",
    "redis+sentinel": "redis+sentinel://user:password@one.example:26379,two.example:26379/main/1",
    "rediss+sentinel": "rediss+sentinel://user:password@one.example:26379,two.example:26379/main/1",
}


class _WrongError(Exception):
    """What is wrong with a URL, without anything that could be a part of a password."""


def host(url: str) -> dict:
    """One of the `hosts` of channels-redis.

    Raises `ImproperlyConfigured` with a sentence that shows nothing of the URL: what of a wrong one is its password,
    nobody can say.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _PARAMETERS:
        raise ImproperlyConfigured(
            f"REDIS_URL does not begin with one of {', '.join(f'{name}://' for name in _PARAMETERS)}."
        )
    try:
        return _host(scheme, rest, url)
    except _WrongError as error:
        raise ImproperlyConfigured(f"REDIS_URL {error}; it looks like {_EXAMPLES[scheme]}.") from None


def _host(scheme: str, rest: str, url: str) -> dict:
    if "#" in rest:
        raise _WrongError("has a #, which is written %23")
    before, _, query = rest.partition("?")
    parameters = _parameters(query, _PARAMETERS[scheme])
    authority, _, path = before.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    if "@" in credentials:
        raise _WrongError("has more than one @; one in a password is written %40")
    if scheme == "unix":
        if hosts or not path:
            raise _WrongError("has no absolute path of a socket")
        _database(parameters.get("db", ""))
        return {"address": url}
    addresses = [_address(each) for each in hosts.split(",")]
    if scheme.endswith("+sentinel"):
        return _sentinels(addresses, credentials, path, parameters, has_tls=scheme.startswith("rediss"))
    if len(addresses) > 1:
        raise _WrongError("has more than one host, which only sentinels have")
    _database(path)
    return {"address": url}


def _sentinels(
    addresses: list[tuple[str, int | None]], credentials: str, path: str, parameters: dict[str, str], *, has_tls: bool
) -> dict:
    master, _, database = path.partition("/")
    if not master:
        raise _WrongError("has no name of a master")
    tls = {name: value for name, value in parameters.items() if name in _TLS} | ({"ssl": True} if has_tls else {})
    user, _, password = (unquote(each) for each in credentials.partition(":"))
    found = {
        "sentinels": [(name, port or SENTINEL_PORT) for name, port in addresses],
        "master_name": unquote(master),
        "sentinel_kwargs": {
            **tls,
            **{name.removeprefix("sentinel_"): value for name, value in parameters.items() if name in _SENTINEL},
        },
        "db": _database(database),
        **tls,
    }
    return found | {name: value for name, value in (("username", user), ("password", password)) if value}


def _parameters(query: str, allowed: set[str]) -> dict[str, str]:
    try:
        found = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError:
        found = {"": ""}
    if not found.keys() <= allowed or not all(found.values()):
        names = ", ".join(sorted(allowed))
        raise _WrongError(f"has something else after ? than {names}" if names else "has a ?, which is written %3F")
    if "ssl_keyfile" in found and "ssl_certfile" not in found:
        raise _WrongError("has an ssl_keyfile and no ssl_certfile")
    return found


def _address(text: str) -> tuple[str, int | None]:
    """A host and its port; the address of a host in IPv6 stands in brackets."""
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        is_address = bracket and (not port or port.startswith(":"))
        port = port.removeprefix(":") if is_address else "?"
    else:
        name, _, port = text.partition(":")
    if not name:
        raise _WrongError("has no host where one belongs")
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise _WrongError("has a host whose port is not a number from 1 to 65535")
    return unquote(name), int(port) if port else None


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdecimal()):
        raise _WrongError("names a database that is not a number")
    return int(text or 0)
