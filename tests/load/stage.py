"""What stands before the contenders come: PostgreSQL with the databases that they are copied from."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psycopg
from services import PostgreSQL, Service
from target import PROJECT

from load.population import FAMILIES
from load.proxy import make_certificate

LOAD = PROJECT / "tests" / "load"
PROJECTS = {
    "salon": (PROJECT / "app", "salon.settings"),
    "plain": (LOAD / "contenders" / "tutorial", "site_of_bench.settings"),
}
"""The Django project that makes each schema, and fills it."""


class Stage:
    """As on a host: a commit is on the disk before anybody hears of it. Use it in a `with` block."""

    def __init__(self) -> None:
        self.token_key = secrets.token_urlsafe(48)
        self._made: set[str] = set()
        self._stack = ExitStack()

    def __enter__(self) -> "Stage":
        with ExitStack() as stack:
            self.directory = Path(tempfile.mkdtemp(prefix="salon-bench-"))
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            # nginx's workers are nobody special, and the socket that they connect to is in here.
            self.directory.chmod(0o711)
            (self.directory / "static").mkdir()
            self.certificate = make_certificate(self.directory)
            self.postgresql = PostgreSQL("fsync=on", "max_connections=300", "shared_buffers=128MB")
            stack.callback(shutil.rmtree, self.postgresql.directory)
            # What ends the process also where PostgreSQL was not there yet to be asked for it.
            stack.callback(Service.stop, self.postgresql)
            self.postgresql.start()
            stack.callback(self.postgresql.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def postmaster(self) -> int:
        """The process that all of PostgreSQL's others come from."""
        return self.postgresql._process.pid

    def url(self, database: str) -> str:
        """Where a database is."""
        return f"postgresql://salon@/{database}?host={self.postgresql.directory}"

    def new_database(self, name: str, schema: str) -> str:
        """A database with this schema, the people and the rooms, and no message; its URL."""
        if schema not in self._made:
            self._create(f"template_{schema}", "template1")
            self._fill(f"template_{schema}", schema)
            self._made.add(schema)
        self._create(name, f"template_{schema}")
        return self.url(name)

    def _create(self, name: str, template: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name}")
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")

    def _fill(self, name: str, schema: str) -> None:
        directory, settings = PROJECTS[schema]
        environment = {
            **os.environ,
            "PYTHONPATH": f"{directory}:{LOAD.parent}",
            "DJANGO_SETTINGS_MODULE": settings,
            "DATABASE_URL": self.url(name),
            "TOKEN_KEY": self.token_key,
            "SALON_DATA_DIR": str(self.directory / "data"),
        }
        families = [f"{f.first_user}:{f.people}:{f.first_room}:{f.room_size}" for f in FAMILIES]
        done = subprocess.run(
            [sys.executable, LOAD / "seed.py", *families], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"The database for {schema} could not be made:\n{done.stderr}")
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
