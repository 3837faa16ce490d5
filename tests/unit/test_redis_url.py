"""The forms of `REDIS_URL`, and what is said of one that has none of them."""

import pytest
from channels_redis.utils import create_pool
from django.core.exceptions import ImproperlyConfigured
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from salon import redis_url


def connection(url):
    """The connection that channels-redis makes for it; it is not opened."""
    return create_pool(redis_url.host(url)).make_connection()


def attributes(thing, names):
    return {name: getattr(thing, name) for name in names}


@pytest.mark.parametrize(
    ("url", "kind", "expected"),
    [
        ("unix:///run/redis.sock", UnixDomainSocketConnection, {"path": "/run/redis.sock", "db": 0}),
        ("unix:///run/redis.sock?db=3", UnixDomainSocketConnection, {"path": "/run/redis.sock", "db": 3}),
        ("unix://salon:p%40s@/r.sock", UnixDomainSocketConnection, {"path": "/r.sock", "password": "p@s"}),
        ("redis://h", Connection, {"host": "h", "port": 6379, "db": 0, "username": None, "password": None}),
        (
            "redis://salon:p%3Fs@h.example:7000/2",
            Connection,
            {"host": "h.example", "port": 7000, "db": 2, "username": "salon", "password": "p?s"},
        ),
        (
            "redis://:secret@[::1]:7000",
            Connection,
            {"host": "::1", "port": 7000, "username": None, "password": "secret"},
        ),
        (
            "rediss://h:7000/2?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
            SSLConnection,
            {
                "port": 7000,
                "db": 2,
                "ca_certs": "/ca.pem",
                "certfile": "/c.pem",
                "keyfile": "/k.pem",
                "check_hostname": True,
            },
        ),
    ],
)
def test_one_redis(url, kind, expected):
    made = connection(url)
    assert type(made) is kind
    assert attributes(made, expected) == expected


def test_sentinels():
    pool = create_pool(redis_url.host("redis+sentinel://salon:p%40s@one:7001,two,[::1]:7003/main/4"))
    assert pool.service_name == "main"
    asked = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
    assert [(each["host"], each["port"]) for each in asked] == [("one", 7001), ("two", 26379), ("::1", 7003)]
    assert [each["password"] for each in asked] == [None, None, None]
    made = pool.make_connection()
    assert type(made) is SentinelManagedConnection
    assert (made.username, made.password, made.db) == ("salon", "p@s", 4)


def test_sentinels_with_tls_and_a_password_of_their_own():
    url = "rediss+sentinel://:secret@one/main?ssl_ca_certs=/ca.pem&sentinel_username=watch&sentinel_password=w%26tch"
    pool = create_pool(redis_url.host(url))
    [sentinel] = pool.sentinel_manager.sentinels
    asked = sentinel.connection_pool.make_connection()
    assert (type(asked), asked.ca_certs, asked.username, asked.password) == (SSLConnection, "/ca.pem", "watch", "w&tch")
    made = pool.make_connection()
    assert (type(made), made.ca_certs, made.db) == (SentinelManagedSSLConnection, "/ca.pem", 0)
    assert (made.username, made.password) == (None, "secret")


@pytest.mark.parametrize(
    ("url", "clue"),
    [
        ("", "does not begin with one of unix://, redis://, rediss://, redis+sentinel://, rediss+sentinel://."),
        ("hunter2", "does not begin with"),
        ("localhost:hunter2", "does not begin with"),
        ("http://h:hunter2", "does not begin with"),
        ("unix://r.sock?db=1", "has no absolute path of a socket; it looks like unix:///run/redis"),
        ("unix://hunter2@", "has no absolute path"),
        ("unix:///r.sock?db=hunter2", "names a database that is not a number"),
        ("unix:///r.sock?db=", "has something else after ? than db"),
        ("unix:///r.sock?hunter2", "has something else after ? than db"),
        ("redis://", "has no host where one belongs; it looks like redis://user:password@"),
        ("redis://:hunter2@", "has no host"),
        ("redis://:6379", "has no host"),
        ("redis://h:hunter2", "has a host whose port is not a number from 1 to 65535"),
        ("redis://h:0", "has a host whose port"),
        ("redis://h:65536", "has a host whose port"),
        ("redis://[::1]hunter2", "has a host whose port"),
        ("redis://[::1", "has a host whose port"),
        ("redis://h/hunter2", "names a database that is not a number"),
        ("redis://a,hunter2", "has more than one host, which only sentinels have"),
        ("redis://:hunter2#x@h", "has a #, which is written %23"),
        ("redis://:hunter2?x@h", "has a ?, which is written %3F"),
        ("redis://:hunter2@x@h", "has more than one @; one in a password is written %40"),
        ("rediss://h?hunter2=1", "has something else after ? than ssl_ca_certs, ssl_certfile, ssl_keyfile"),
        ("rediss://h?ssl_keyfile=/hunter2", "has an ssl_keyfile and no ssl_certfile"),
        ("redis+sentinel://a,b", "has no name of a master; it looks like redis+sentinel://user:password@one"),
        ("redis+sentinel://a,,b/main", "has no host where one belongs"),
        ("redis+sentinel://a/main/hunter2", "names a database that is not a number"),
        (
            "redis+sentinel://a/main?ssl_ca_certs=/hunter2",
            "has something else after ? than sentinel_password, sentinel_u",
        ),
        ("rediss+sentinel://a:hunter2/main", "has a host whose port"),
    ],
)
def test_what_is_wrong_is_said_and_no_secret_is(url, clue):
    with pytest.raises(ImproperlyConfigured) as raised:
        redis_url.host(url)
    assert str(raised.value).startswith(f"REDIS_URL {clue}")
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
