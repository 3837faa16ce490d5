"""The services that a process cannot do without, and whether they answer.

The log tells when that changes, and not of everybody who notices: with a thousand people at a process, that is the
difference between two lines and a full disk.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from salon.logs import apart

logger = logging.getLogger(__name__)


class Service:
    """A service, as this process sees it; used on its event loop only.

    `lost` and `found` are what the log says of it when it goes and when it comes.
    """

    def __init__(self, name: str, lost: str = "does not answer", found: str = "answers again") -> None:
        self.name = name
        self.heard_at = float("-inf")
        """When it last answered anybody (`time.monotonic`), as far as that is noted (`heard`)."""
        self._lost, self._found = lost, found
        self._away_since: float | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._on_loss: list[Callable[[], None]] = []
        self._on_return: list[Callable[[], None]] = []
        self._on_suspicion: list[Callable[[], None]] = []

    @property
    def is_away(self) -> bool:
        """Whether it was last found not to answer."""
        return self._away_since is not None

    @property
    def away_for(self) -> float:
        """Seconds for which it has not answered; 0 when it answers."""
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    def failed(self, reason: str) -> None:
        """It was found not to answer. What is not new is not logged."""
        if self._away_since is None:
            self._away_since = time.monotonic()
            logger.error("The %s %s: %s", self.name, self._lost, reason, extra=apart("service.lost", service=self.name))
            for receiver in self._on_loss:
                receiver()

    def answered(self) -> None:
        """It was found to answer."""
        if self._away_since is not None:
            logger.warning(
                "The %s %s, after %.1f seconds",
                self.name,
                self._found,
                self.away_for,
                extra=apart("service.found", service=self.name, duration=self.away_for),
            )
            self._away_since = None
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)
            for receiver in self._on_return:
                receiver()

    def heard(self) -> None:
        """It has answered somebody just now; whether it answers is for others to say."""
        self.heard_at = time.monotonic()

    def suspect(self) -> None:
        """Somebody has reason to think that it is away; who can find out looks at once."""
        for receiver in self._on_suspicion:
            receiver()

    async def there(self, seconds: float) -> None:
        """Wait until it answers, but at most so many seconds."""
        if self.is_away:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await asyncio.wait([future], timeout=seconds)
            if not future.done():
                self._waiting.remove(future)

    def on_loss(self, receiver: Callable[[], None]) -> None:
        """Have `receiver` called when it goes."""
        self._on_loss.append(receiver)

    def on_return(self, receiver: Callable[[], None]) -> None:
        """Have `receiver` called when it is back."""
        self._on_return.append(receiver)

    def on_suspicion(self, receiver: Callable[[], None]) -> None:
        """Have `receiver` called when somebody thinks that it is away."""
        self._on_suspicion.append(receiver)


database = Service("database")
# A disk that is full, or a database that may only be read: the way to it is open all the same.
storage = Service("database", "stores no messages", "stores messages again")
channel_layer = Service("channel layer")
