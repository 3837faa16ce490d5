"""The plain consumer that the tutorial of Channels teaches."""

import sys

from target import PROJECT

from load.contenders.base import Contender, Program

DIRECTORY = PROJECT / "tests" / "load" / "contenders" / "tutorial"


class Tutorial(Contender):
    letter = "c"
    name = "Channels tutorial"
    schema = "plain"
    share_of_rate = 0.1

    def program(self, port: int) -> Program:
        return Program(
            [
                sys.executable,
                "-m",
                "daphne",
                "--port",
                str(port),
                "--bind",
                "127.0.0.1",
                "site_of_bench.asgi:application",
            ],
            DIRECTORY,
            {
                "DJANGO_SETTINGS_MODULE": "site_of_bench.settings",
                "TOKEN_KEY": self.stage.token_key,
                "DATABASE_URL": self.database_url,
                "REDIS_URL": self.redis.url,
            },
        )
