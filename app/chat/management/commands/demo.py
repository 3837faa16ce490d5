"""`demo`: the embedded server with two people who can talk; what `make run` starts."""

import contextlib
import errno
import socket
import sys
from argparse import ArgumentParser
from datetime import timedelta

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from chat import auth, frontend, rooms
from chat.models import ChatRoom, Role, User
from chat.origins import LOOPBACK

PASSWORD = "salon-demo"  # nosec B105 # noqa: S105 (no secret: it is printed at each start)
WILDCARDS = ("0.0.0.0", "::")  # nosec B104 # noqa: S104 (recognised, not bound to)
TOKEN_LIFETIME = timedelta(days=30)


class Command(BaseCommand):
    help = "Start the embedded server with alice and bob in it."
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="localhost")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *, host: str, port: int, **_options: object) -> None:
        if not settings.EMBEDDED:
            raise CommandError(
                "This server has a SALON_PUBLIC_URL: two people whose passwords everybody knows are not for it. "
                "Make people with create_user."
            )
        endpoints = _endpoints(host, port)
        _answer_to(host, port)
        call_command("migrate", verbosity=0)
        welcome = _welcome(_seed(), host)

        # Importing the server installs its event loop, which nothing before it may have done.
        from salon.asgi import application
        from salon.server import Server

        server = Server(
            application,
            endpoints=endpoints,
            on_ready=lambda: self._say(welcome),
        )
        server.run()
        if server.abort_start:
            sys.exit(1)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        # Whoever reads it through a pipe is waiting for it.
        self.stdout.flush()


def _welcome(alice: User, host: str) -> str:
    lines = "\n".join(frontend.environment(settings.PUBLIC_URL, auth.create_token(alice, TOKEN_LIFETIME)))
    warning = "" if host in LOOPBACK else "\nWhoever can reach this address can log in with these passwords.\n"
    return f"""
Salon is running. Open {settings.PUBLIC_URL}/ and log in:

    alice (teacher)   password {PASSWORD}
    bob   (student)   password {PASSWORD}
{warning}
They share room 1; room 2 is alice's alone. Ctrl-C stops the server; what was said is kept in {settings.DATA_DIR}.

For your frontend's .env.local:

{lines}"""


def _endpoints(host: str, port: int) -> list[str]:
    """Twisted's endpoints for each address of `host`; a `CommandError` where one cannot be listened on."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, OverflowError, UnicodeError) as error:
        raise CommandError(f"Cannot listen on {host}:{port}: {error}.") from None
    endpoints = []
    for family, kind, protocol, _, address in found:
        with contextlib.closing(socket.socket(family, kind, protocol)) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(address)
            except OSError as error:
                # A machine without IPv6 still names ::1 for localhost.
                if family == socket.AF_INET6 and len(found) > 1 and error.errno != errno.EADDRINUSE:
                    continue
                raise CommandError(
                    f"Cannot listen on {host}:{port}: {error.strerror}. Choose another port: make run PORT={port + 1}"
                ) from None
        interface = address[0].replace(":", r"\:")
        endpoints.append(f"tcp:port={port}:interface={interface}")
    return endpoints


def _answer_to(host: str, port: int) -> None:
    """Make the settings fit the address."""
    if host in WILDCARDS:
        settings.ALLOWED_HOSTS.append("*")
        host = _own_address()
    name = f"[{host}]" if ":" in host else host
    settings.PUBLIC_URL = f"http://{name}:{port}"
    settings.ALLOWED_HOSTS.append(name)
    settings.CSRF_TRUSTED_ORIGINS.append(settings.PUBLIC_URL)


def _own_address() -> str:
    """The address that the network knows this machine by; `localhost` without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses a route and sends nothing; the address is one of RFC 5737, which nobody has.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "localhost"
        return probe.getsockname()[0]


def _seed() -> User:
    """Alice, bob and their rooms, made on the first start."""
    people = {}
    for username, name, role in (
        ("alice", "Alice Martin", Role.TEACHER),
        ("bob", "Bob Diallo", Role.STUDENT),
    ):
        first_name, last_name = name.split()
        people[username], created = User.objects.get_or_create(
            username=username, defaults={"first_name": first_name, "last_name": last_name, "role": role}
        )
        if created:
            people[username].set_password(PASSWORD)
            people[username].save(update_fields=["password"])
    if not ChatRoom.objects.exists():
        shared = rooms.create_room("Class 5B", people.values())
        rooms.create_room("Staff room", [people["alice"]])
        # The page opens the room with the newest activity: let it be the one where somebody answers.
        shared.last_update = timezone.now()
        shared.save(update_fields=["last_update"])
    return people["alice"]
