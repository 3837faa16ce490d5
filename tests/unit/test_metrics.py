"""What is counted, and who is told."""

import threading
import time
from itertools import pairwise

import pytest
from django.http import Http404
from django.test import RequestFactory
from prometheus_client.parser import text_string_to_metric_families

from chat import metrics
from chat.protocol import ChatError, ErrorCode, Pong, encode, encode_error
from salon import measures
from salon.measures import SECONDS, Histogram, SharedHistogram, SharedTally


def families():
    text = metrics.choose_encoder("")[0](metrics.registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(name, **labels):
    sample = [
        each for family in families().values() for each in family.samples if (each.name, each.labels) == (name, labels)
    ]
    return sample[0].value


@pytest.mark.parametrize("kind", [Histogram, SharedHistogram])
def test_durations_are_counted_by_the_least_bound_that_holds_them(kind):
    histogram = kind()
    for seconds in (0.0, SECONDS[0], SECONDS[0] * 1.01, SECONDS[-1], SECONDS[-1] + 1, -3):
        histogram.observe(seconds)
    assert histogram.counts[:2] == [3, 1]
    assert histogram.counts[-2:] == [1, 1]
    assert sum(histogram.counts) == 6
    assert histogram.sum == pytest.approx(SECONDS[0] * 2.01 + 2 * SECONDS[-1] + 1)


def test_what_threads_count_together_is_all_of_it():
    tally, histogram = SharedTally(), SharedHistogram()

    def count():
        for _ in range(5000):
            tally.add("word")
            histogram.observe(0.01)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.items() == [("word", 40_000)]
    assert sum(histogram.counts) == 40_000


def test_every_name_is_as_prometheus_wants_it():
    found = families()
    assert len(found) > 30
    for name, family in found.items():
        assert name.startswith(("salon_", "process_", "python_gc_"))
        assert family.documentation
        if family.type == "histogram":
            assert name.endswith("_seconds")
            buckets = [each.value for each in family.samples if each.name.endswith("_bucket")][: len(SECONDS) + 1]
            assert all(less <= more for less, more in pairwise(buckets))


def test_the_process_is_known_where_the_rest_of_proc_is_hidden():
    """As from the unit on a host (ProcSubset=pid): nothing but what belongs to the process is read."""
    assert {str(metrics.STATM), str(metrics.DESCRIPTORS)} == {"/proc/self/statm", "/proc/self/fd"}
    for name in ("resident_memory_bytes", "virtual_memory_bytes", "cpu_seconds_total", "open_fds", "max_fds"):
        assert value(f"process_{name}") > 0
    assert abs(value("process_start_time_seconds") - time.time()) < 3600


def test_events_are_counted_by_type_and_errors_by_code():
    pongs, full = value("salon_events_made_total", type="pong"), value("salon_errors_sent_total", code="too_many_rooms")
    encode(Pong())
    encode_error(ChatError(ErrorCode.TOO_MANY_ROOMS, ""))
    assert value("salon_events_made_total", type="pong") == pongs + 1
    assert value("salon_errors_sent_total", code="too_many_rooms") == full + 1


def test_what_a_client_chooses_makes_no_series(monkeypatch):
    def closed():
        return {each.labels["code"]: each.value for each in families()["salon_connections_closed"].samples}

    before = closed()
    monkeypatch.setattr(measures, "closed", dict.fromkeys((0, 1000, 4401, *range(3000, 3500)), 1))
    after = closed()
    assert after.keys() == before.keys()
    assert (after["1000"], after["4401"], after["other"]) == (1, 1, 501)


async def test_the_lag_of_the_loop_is_noticed(monkeypatch):
    import asyncio

    monkeypatch.setattr(measures, "LAG_INTERVAL", 0.01)
    before = measures.lag.sum
    task = asyncio.create_task(measures.notice_lag())
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 (that is what is to be noticed)
    await asyncio.sleep(0.001)
    task.cancel()
    assert measures.lag.sum - before > 0.15


async def test_what_waits_in_a_batch_is_known():
    from chat.auth import _identities

    assert measures.queues["identities"]() == _identities.length == 0


TOKEN = "t" * 40


class TestWhoMayKnow:
    @pytest.fixture(autouse=True)
    def _settings(self, settings_with):
        settings_with(METRICS_TOKEN=TOKEN, METRICS_NETWORKS=["192.0.2.0/24", "2001:db8::/32"])

    @pytest.fixture
    def settings_with(self, monkeypatch):
        import ipaddress

        def change(**values):
            values["METRICS_NETWORKS"] = [ipaddress.ip_network(each) for each in values["METRICS_NETWORKS"]]
            for name, each in values.items():
                monkeypatch.setattr(metrics.settings, name, each)

        return change

    async def may(self, **meta):
        request = RequestFactory().get("/metrics", **meta)
        if "REMOTE_ADDR" not in meta:
            del request.META["REMOTE_ADDR"]
        try:
            return (await metrics.answer(request)).status_code == 200
        except Http404:
            return False

    async def test_who_asks_the_process_itself(self):
        assert await self.may()
        assert await self.may(REMOTE_ADDR="127.0.0.1")
        assert await self.may(REMOTE_ADDR="::1")
        assert await self.may(REMOTE_ADDR="192.0.2.7")
        assert not await self.may(REMOTE_ADDR="198.51.100.7")

    @pytest.mark.parametrize("header", ["X_FORWARDED_FOR", "FORWARDED", "VIA", "X_REAL_IP"])
    async def test_who_comes_over_a_proxy_is_not_near(self, header):
        proxied = {f"HTTP_{header}": "127.0.0.1"}
        assert not await self.may(**proxied)
        assert not await self.may(REMOTE_ADDR="127.0.0.1", **proxied)
        assert await self.may(REMOTE_ADDR="192.0.2.7", **proxied)
        assert await self.may(REMOTE_ADDR="2001:db8::7", **proxied)
        assert not await self.may(REMOTE_ADDR="192.0.3.7", **proxied)

    async def test_a_token_opens_it_from_everywhere_and_a_wrong_one_from_nowhere(self):
        far = {"REMOTE_ADDR": "198.51.100.7", "HTTP_X_FORWARDED_FOR": "198.51.100.7"}
        assert await self.may(HTTP_AUTHORIZATION=f"Bearer {TOKEN}", **far)
        assert not await self.may(HTTP_AUTHORIZATION="Bearer wrong", **far)
        assert not await self.may(HTTP_AUTHORIZATION="Bearer Ä", REMOTE_ADDR="127.0.0.1")
        assert not await self.may(HTTP_AUTHORIZATION=f"Basic {TOKEN}", **far)

    async def test_without_a_setting_nobody_comes_over_a_proxy(self, settings_with):
        settings_with(METRICS_TOKEN=None, METRICS_NETWORKS=[])
        far = {"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "192.0.2.7"}
        assert not await self.may(**far)
        assert not await self.may(HTTP_AUTHORIZATION="Bearer ", **far)
        assert not await self.may(HTTP_AUTHORIZATION="Bearer None", **far)
