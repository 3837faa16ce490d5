"""Salon: as it is deployed, and the same application on Daphne's own command."""

import sys

from target import PROJECT

from load.contenders.base import Contender, Program

LIMITS = {f"SALON_LIMIT_{name}": "1000000/1000000" for name in ("EVENTS", "MESSAGES", "SIGNALS", "JOINS", "REQUESTS")}


class Salon(Contender):
    letter = "a"
    name = "Salon"
    schema = "salon"
    # What has reached people's devices is written down every two seconds.
    settle = 2.1

    def program(self, port: int) -> Program:
        return Program(
            [
                sys.executable,
                "-m",
                *self.command(),
                "--port",
                str(port),
                "--bind",
                "127.0.0.1",
                "salon.asgi:application",
            ],
            PROJECT / "app",
            self.environment(),
        )

    def command(self) -> list[str]:
        """The module that is the server, and its options."""
        return ["salon.server", "--proxy-headers"]

    def environment(self) -> dict[str, str]:
        """The settings of a host, with limits that one generator of load does not reach."""
        return {
            "SALON_DATA_DIR": str(self.stage.directory / "data"),
            "SALON_TOKEN_KEY": self.stage.token_key,
            "SALON_CONNECTIONS_PER_PERSON": "1000000",
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis.url,
            "DJANGO_SETTINGS_MODULE": "salon.settings",
            "SALON_STATIC_ROOT": str(self.stage.directory / "static"),
            **LIMITS,
        }


class SalonOnDaphne(Salon):
    letter = "b"
    name = "Salon on Daphne's command"

    def command(self) -> list[str]:
        return ["daphne", "--proxy-headers"]
