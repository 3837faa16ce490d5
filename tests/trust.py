"""Whom a client trusts, and TLS that two threads may share."""

import select
import ssl
import threading


class TakingTurns(ssl.SSLSocket):
    """A socket on which one thread reads while another writes, as the synchronous client of `websockets` has it.

    OpenSSL forbids two threads at one connection at the same time (openssl-threads(7)), and Python 3.11 has no lock
    around them: when the server's session tickets come just as the first request goes, one of some hundred requests
    never leaves.
    """

    def __new__(cls, *arguments: object, **named: object) -> "TakingTurns":
        self = super().__new__(cls, *arguments, **named)
        self._turn = threading.Lock()
        return self

    def recv(self, size: int = 1024, flags: int = 0) -> bytes:
        """Wait without the turn, and take what there is with it."""
        while True:
            self._wait()
            with self._turn:
                seconds = self.gettimeout()
                self.settimeout(0)
                try:
                    return super().recv(size, flags)
                except ssl.SSLWantReadError:
                    # What came was TLS' own.
                    continue
                finally:
                    self.settimeout(seconds)

    def send(self, data: bytes, flags: int = 0) -> int:
        with self._turn:
            return super().send(data, flags)

    def _wait(self) -> None:
        if self.pending():
            return
        readable = select.poll()
        readable.register(self, select.POLLIN)
        seconds = self.gettimeout()
        if not readable.poll(None if seconds is None else seconds * 1000):
            raise TimeoutError("The read operation timed out")


def trusting(**authority: str) -> ssl.SSLContext:
    """A context for clients that trusts `cafile` or `cadata`, and nobody else."""
    context = ssl.create_default_context(**authority)
    context.sslsocket_class = TakingTurns
    return context
