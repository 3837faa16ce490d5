"""The services that a process cannot do without, and whether they answer.

The log tells when that changes, and not of everybody who notices: with a thousand people at a process, that is the
difference between two lines and a full disk.
"""

import logging
import time

logger = logging.getLogger(__name__)


class Service:
    """A service, as this process sees it; used on its event loop only."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._away_since: float | None = None

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
            logger.error("The %s does not answer: %s", self.name, reason)

    def answered(self) -> None:
        """It was found to answer."""
        if self._away_since is not None:
            logger.warning("The %s answers again, after %.1f seconds", self.name, self.away_for)
            self._away_since = None


database = Service("database")
channel_layer = Service("channel layer")
