"""`/metrics`: what this process counts (`salon.measures`), as Prometheus reads it.

Each process speaks for itself, and Prometheus, which asks each, adds them up. It is for whoever runs the server: who
asks this process without a proxy in between may know, who comes over one only from `SALON_METRICS_NETWORKS` or with
`SALON_METRICS_TOKEN`. For everybody else there is no such page.
"""

import hmac
import itertools
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from channels.layers import get_channel_layer
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from prometheus_client import CollectorRegistry, GCCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

import salon
from chat import protocol, services
from chat.hub import hub
from chat.protocol import CloseCode, ErrorCode
from salon import measures
from salon.measures import SECONDS, Histogram
from salon.pages import client_address

_began = time.time()
STATM, DESCRIPTORS = Path("/proc/self/statm"), Path("/proc/self/fd")

BOUNDS = [*map(str, SECONDS), "+Inf"]
PROXIED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP")
"""Headers by which a proxy shows that it is there."""

THREADS = {"ahead": "probe", "http": "http", "long": "history", "database": "socket", "journal": "journal"}
"""What the kinds of threads, and the journal, are called outside of the program."""

CLOSE_CODES = (1000, 1001, 1002, 1003, 1005, 1006, 1007, 1009, 1011, *(code.value for code in CloseCode))
"""Those of RFC 6455 that occur, and Salon's own. A client can choose among 2,000 others: those are one."""

REFUSED_WITH = [
    code.value
    for code in (
        ErrorCode.NOT_AUTHENTICATED,
        ErrorCode.INVALID_TOKEN,
        ErrorCode.TOKEN_EXPIRED,
        ErrorCode.REVOKED,
        ErrorCode.TOO_MANY_CONNECTIONS,
        ErrorCode.UNAVAILABLE,
        ErrorCode.INTERNAL,
    )
]
"""Why a WebSocket is closed before it is known whose it is."""


class Collector:
    """Reads the numbers, with the names and the sentences that Prometheus shows."""

    def collect(self) -> Iterator[Metric]:
        counts = measures.counts
        yield InfoMetricFamily(
            "salon_build",
            "What runs",
            {"version": salon.__version__, "release": settings.RELEASE, "python": platform.python_version()},
        )
        yield _gauge("salon_connections", "WebSockets that are open", counts.connections)
        people = hub.people()
        yield _gauge("salon_people_connected", "People who have such a WebSocket", len(people))
        yield _gauge("salon_rooms_joined", "Rooms that somebody here has joined", hub.room_count())
        yield _counters(
            "salon_handshakes", "WebSockets by what came of them: opened, or why not", "outcome", _handshakes()
        )
        yield _counters(
            "salon_connections_closed", "WebSockets by the code that they were closed with", "code", _closed()
        )
        yield _counters("salon_events_received", "Events of clients", "type", _received())
        yield _counters("salon_events_made", "Events for clients, each once, whoever gets it", "type", _made())
        yield _counters("salon_errors_sent", "Error events to clients", "code", _errors())
        yield _counters(
            "salon_deliveries",
            "Events that were given to a socket, once for each of them",
            "kind",
            {"message": counts.delivered_messages, "other": counts.delivered_others},
        )
        yield _histogram(
            "salon_message_commit_seconds", "From the receipt of a message until it is stored", measures.committed
        )
        yield _histogram(
            "salon_message_delivery_seconds",
            "From the receipt of a message, at whichever process, until the last socket of this one has it",
            measures.delivered,
        )
        yield _gauges("salon_queue_length", "What waits for its turn", "queue", _queues())
        yield _gauge(
            "salon_socket_queued_bytes",
            "Bytes that wait for clients that do not read",
            sum(each() for each in measures.queued_bytes),
        )
        yield _counter("salon_slow_readers", "WebSockets closed because they did not read", counts.slow_readers)
        yield _counter("salon_gaps_filled", "Times that missing messages of a room were read", counts.filled_gaps)
        yield _counter("salon_gap_messages", "Messages that were read so", counts.filled_messages)
        limited = {**dict.fromkeys(settings.LIMITS, 0), **dict(measures.limited.items())}
        yield _counters("salon_rate_limited", "Refusals because of too much", "limit", limited)
        yield _counters("salon_http_requests", "Requests over HTTP", "status", _requests())
        yield _histogram("salon_http_request_seconds", "How long their answers took", measures.answered)
        yield _gauges("salon_service_up", "Whether a service answers this process", "service", _services())
        yield from self._database()
        yield from self._channel_layer()
        yield _histogram("salon_event_loop_lag_seconds", "How late the event loop is", measures.lag)
        yield from self._process()

    def _process(self) -> Iterator[Metric]:
        # Prometheus' own collector says nothing where the rest of /proc is hidden, as from a unit with ProcSubset=pid.
        usage = resource.getrusage(resource.RUSAGE_SELF)
        virtual, resident = (int(pages) * resource.getpagesize() for pages in STATM.read_text().split()[:2])
        yield _gauge("process_virtual_memory_bytes", "Virtual memory", virtual)
        yield _gauge("process_resident_memory_bytes", "Resident memory", resident)
        yield _gauge("process_start_time_seconds", "When the process began, in Unix time", _began)
        yield _counter("process_cpu_seconds", "CPU time, the user's and the system's", usage.ru_utime + usage.ru_stime)
        yield _gauge("process_open_fds", "Open files", len(list(DESCRIPTORS.iterdir())))
        yield _gauge("process_max_fds", "Files that may be open", resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    def _database(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "salon_database_seconds", "What was asked of the database, and how long it took", labels=["by"]
        )
        for kind, name in THREADS.items():
            family.add_metric([name], *_buckets(measures.database[kind]))
        yield family
        errors = {**dict.fromkeys(("away", "refused", "busy", "other"), 0), **dict(measures.database_errors.items())}
        yield _counters("salon_database_errors", "What the database has not done", "kind", errors)

    def _channel_layer(self) -> Iterator[Metric]:
        layer = get_channel_layer()
        yield _histogram(
            "salon_channel_layer_publish_seconds",
            "Until the channel layer (Redis) has taken what was sent to other processes",
            measures.published,
        )
        errors = {**dict.fromkeys(("away",), 0), **dict(measures.channel_layer_errors.items())}
        yield _counters("salon_channel_layer_errors", "What the channel layer has not done", "kind", errors)
        yield _counter(
            "salon_channel_layer_dropped",
            "Messages that came faster than they were taken",
            getattr(layer, "dropped", 0),
        )
        yield _counter(
            "salon_channel_layer_refused",
            "Messages that were not sent, as too many waited for Redis",
            getattr(layer, "refused", 0),
        )


def _gauge(name: str, sentence: str, value: float) -> Metric:
    return GaugeMetricFamily(name, sentence, value)


def _gauges(name: str, sentence: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, sentence, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _counter(name: str, sentence: str, value: float) -> Metric:
    return CounterMetricFamily(name, sentence, value)


def _counters(name: str, sentence: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, sentence, labels=[label])
    # Another thread may add a word meanwhile.
    for word, value in list(values.items()):
        family.add_metric([str(word)], value)
    return family


def _histogram(name: str, sentence: str, histogram: Histogram) -> Metric:
    buckets, total = _buckets(histogram)
    return HistogramMetricFamily(name, sentence, buckets=buckets, sum_value=total)


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, int]], float]:
    return list(zip(BOUNDS, itertools.accumulate(histogram.counts), strict=True)), histogram.sum


# What there is to count begins with nothing, so that the first of it is seen as an increase.


def _handshakes() -> Mapping[str, int]:
    outcomes = ("opened", "origin", "malformed", "restarting", "failed", "late", *REFUSED_WITH)
    return {**dict.fromkeys(outcomes, 0), **measures.handshakes}


def _errors() -> Mapping[str, int]:
    return {**dict.fromkeys((code.value for code in ErrorCode), 0), **measures.errors}


def _requests() -> Mapping[str, int]:
    return {**dict.fromkeys(("200", "500", "503"), 0), **dict(measures.requests.items())}


def _closed() -> Mapping[str, int]:
    known = dict.fromkeys(map(str, CLOSE_CODES), 0) | {"other": 0}
    for code, count in list(measures.closed.items()):
        known[str(code) if code in CLOSE_CODES else "other"] += count
    return known


def _received() -> Mapping[str, int]:
    known = {kind.__struct_config__.tag: measures.received[kind] for kind in protocol.AnyClientEvent.__args__}
    return {**known, "unreadable": measures.counts.unreadable_events}


def _made() -> Mapping[str, int]:
    return {kind.__struct_config__.tag: measures.made[kind] for kind in protocol.ServerEvent.__args__}


def _queues() -> Mapping[str, int]:
    return {name: length() for name, length in sorted(measures.queues.items())}


def _services() -> Mapping[str, int]:
    known = {"database": services.database, "storage": services.storage, "channel_layer": services.channel_layer}
    return {name: int(not service.is_away) for name, service in known.items()}


registry = CollectorRegistry()
registry.register(Collector())
GCCollector(registry=registry)


async def answer(request: HttpRequest) -> HttpResponse:
    """The numbers of this process."""
    if not _may_know(request):
        raise Http404
    encode, content_type = choose_encoder(request.META.get("HTTP_ACCEPT", ""))
    return HttpResponse(encode(registry), content_type=content_type)


def _may_know(request: HttpRequest) -> bool:
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if settings.METRICS_TOKEN and scheme.lower() == "bearer":
        return hmac.compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode())
    address = client_address(request)
    if any(header in request.META for header in PROXIED):
        return address is not None and any(address in network for network in settings.METRICS_NETWORKS)
    # Without an address, it is a unix socket, which the system lets only some open.
    return address is None or address.is_loopback or any(address in network for network in settings.METRICS_NETWORKS)
