"""What nginx and TLS add to a delivery, with the settings that may matter tried one at a time."""

import time
from contextlib import ExitStack
from dataclasses import dataclass

from load.bench import Bench, Result, Sample
from load.contenders.base import Program
from load.contenders.salon import Salon
from load.cpu import Kinds, Meter
from load.population import HUNDREDS
from load.proxy import Nginx
from load.scenarios.rooms import WARM_UP, one_writer_each
from load.wires import Seat

SOCKET, TCP = "unix socket", "TCP"
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "as deployed": (SOCKET, {}),
    "proxy_buffering on": (SOCKET, {r"proxy_buffering off": "proxy_buffering on"}),
    "tcp_nodelay off": (SOCKET, {r"proxy_buffering off;": "proxy_buffering off; tcp_nodelay off;"}),
    "keepalive to upstream": (SOCKET, {r"least_conn;": "least_conn; keepalive 16;", r'default "close"': 'default ""'}),
    "upstream over TCP": (TCP, {}),
    "ssl_buffer_size 4k": (SOCKET, {r"ssl_session_tickets off;": "ssl_session_tickets off; ssl_buffer_size 4k;"}),
    "ssl_buffer_size 1400": (SOCKET, {r"ssl_session_tickets off;": "ssl_session_tickets off; ssl_buffer_size 1400;"}),
}
"""How nginx reaches the process, and what of the templates is changed."""


class ListeningTwice(Salon):
    """Salon on a unix socket, as deployed, and on TCP too."""

    @property
    def socket(self) -> str:
        return str(self.stage.directory / "salon.sock")

    def program(self, port: int) -> Program:
        program = super().program(port)
        return Program([*program.command, "-u", self.socket], program.directory, program.environment)


@dataclass(frozen=True)
class Way:
    """One way from the client to the process: through an nginx, or without."""

    name: str
    group: str
    writers: list[Seat]
    kinds: Kinds


def nginx_tls(bench: Bench) -> Result:
    """All ways are open at once, each with a room of its own, and are measured in turn."""
    if "a" not in bench.classes:
        return Result("nginx and TLS", "only Salon is measured here", {})
    rate = bench.options.rate or 100
    with ExitStack() as stack:
        salon = stack.enter_context(ListeningTwice(bench.stage, role="proxied"))
        ways = [_direct(bench, salon, stack)]
        for number, (name, (upstream, changes)) in enumerate(VARIANTS.items(), start=1):
            address = f"unix:{salon.socket}" if upstream == SOCKET else f"127.0.0.1:{salon.ports[0]}"
            nginx = Nginx(bench.stage.directory / f"nginx-{number}", bench.stage.certificate, address, changes)
            ways.append(_through(bench, salon, stack.enter_context(nginx), name, number, stack))
        for way in ways:
            _round(bench, salon, way, rate, WARM_UP)
        figures = bench.rounds(ways, lambda way: _round(bench, salon, way, rate), key=lambda way: way.name)
    notes = ["stock nginx has no setting for dynamic TLS record sizes: ssl_buffer_size bounds each record."]
    return Result("nginx and TLS", f"a room of 100 for each way, {rate:g} messages a second", figures, notes)


def _direct(bench: Bench, salon: ListeningTwice, stack: ExitStack) -> Way:
    seats = bench.seats.of(HUNDREDS, salon.ports, salon.wire, HUNDREDS.room_size)
    return _way(bench, "directly", seats, salon.kinds(), stack)


def _through(bench: Bench, salon: ListeningTwice, nginx: Nginx, name: str, number: int, stack: ExitStack) -> Way:
    size = HUNDREDS.room_size
    seats = bench.seats.of(HUNDREDS, [nginx.port], salon.wire, size, skip=number * size, tls=True)
    return _way(bench, name, seats, {**salon.kinds(), "nginx": nginx.cpu_seconds}, stack)


def _way(bench: Bench, name: str, seats: list[Seat], kinds: Kinds, stack: ExitStack) -> Way:
    group = f"way {name}"
    bench.crew.open(group, seats)
    stack.callback(bench.crew.close, group)
    return Way(name, group, one_writer_each(seats), kinds)


def _round(bench: Bench, salon: Salon, way: Way, rate: float, seconds: float | None = None) -> Sample:
    meter = Meter(way.kinds)
    tally = bench.crew.load(way.group, rate, seconds or bench.options.seconds, way.writers)
    time.sleep(salon.settle)
    return bench.figures_of(salon, tally, meter.used())
