"""Servers and people for the tests over the wire."""

import log_lines
import pytest
from api import Api
from school import School
from services import PostgreSQL, Redis
from target import DEMO, UVICORN, on, salon

from instance import Instance

HOST = Instance.of_molecule()


@pytest.fixture(scope="session")
def embedded(tmp_path_factory):
    """One process with SQLite and the channel layer in memory: what `make run` starts."""
    with salon(directory := tmp_path_factory.mktemp("embedded"), {"SALON_LOG_LEVEL": "DEBUG"}, command=DEMO) as target:
        yield target
        log_lines.check(target, directory)


@pytest.fixture(scope="session")
def backends():
    """The environment of a server with a PostgreSQL and a Redis."""
    with Redis() as redis, PostgreSQL() as postgresql:
        yield {"REDIS_URL": redis.url, "DATABASE_URL": postgresql.url}


@pytest.fixture(scope="session")
def services(tmp_path_factory, backends):
    """Two processes with PostgreSQL and Redis between them."""
    directory = tmp_path_factory.mktemp("services")
    with salon(directory, {**backends, "SALON_LOG_LEVEL": "DEBUG"}, processes=2) as target:
        yield target
        log_lines.check(target, directory)


@pytest.fixture(scope="session")
def uvicorn(tmp_path_factory, backends):
    """One process under another server, which knows nothing of Salon."""
    with salon(tmp_path_factory.mktemp("uvicorn"), backends, command=UVICORN) as target:
        yield target


@pytest.fixture(scope="session", params=["host"] if HOST else ["embedded", "services", "uvicorn"])
def target(request):
    """The running Salon that a contract test talks to; the test runs once for each."""
    if request.param != "host":
        yield request.getfixturevalue(request.param)
        return
    host = on(HOST)
    yield host
    host.close()


@pytest.fixture(scope="session")
def school(target):
    return School(target)


@pytest.fixture(scope="session")
def alice(school):
    return school.person("Alice Martin", "teacher")


@pytest.fixture(scope="session")
def bob(school):
    return school.person("Bob Diallo")


@pytest.fixture(scope="session")
def carol(school):
    """Shares no room with alice and bob."""
    return school.person("Carol Weiss", "parent")


@pytest.fixture(scope="session")
def room(school, alice, bob):
    """The room of alice and bob."""
    return school.room("Class 5B", alice, bob)


@pytest.fixture(scope="session")
def second_room(school, alice, bob):
    """Another room of alice and bob."""
    return school.room("Chess", alice, bob)


@pytest.fixture(scope="session")
def carols_room(school, carol):
    return school.room("Parents", carol)


@pytest.fixture
def own_room(school, alice, bob):
    """A room of alice and bob in which nothing was said yet."""
    return school.room("Fresh", alice, bob)


@pytest.fixture
def teacher(target, alice):
    """Alice at the HTTP API."""
    return Api(target, alice)


@pytest.fixture
def pupil(target, bob):
    """Bob at the HTTP API, at another process."""
    return Api(target, bob, process=1)
