"""`/metrics`: what each process counts, and who may see it."""

import asyncio
import socket

import pytest
from api import Api
from client import connected
from school import School
from scrape import samples, scraped, summed
from target import salon
from test_inherited_socket import listening, start  # noqa: F401 (a fixture)
from test_proxy import Proxy, make_certificate
from websockets.exceptions import InvalidStatus

from waiting import wait_until

TOKEN = "metrics-" * 5


@pytest.fixture(scope="module")
def counted(tmp_path_factory, services):
    """Two processes of the tests' own, with the database and Redis of the others."""
    environment = {name: services.environment[name] for name in ("REDIS_URL", "DATABASE_URL")}
    environment |= {"SALON_METRICS_TOKEN": TOKEN, "SALON_LIMIT_SIGNALS": "1/2"}
    with salon(tmp_path_factory.mktemp("counted"), environment, processes=2) as target:
        yield target


@pytest.fixture
def school(counted):
    return School(counted)


async def grown(target, before, name, by):
    """Wait until a number has grown by so much."""
    await asyncio.to_thread(
        wait_until, lambda: summed(target)[name] - before[name] == by, f"{name} to grow by {by} from {before[name]}"
    )


async def test_what_two_processes_count_adds_up(counted, school):
    ann, ben = school.person("Ann"), school.person("Ben")
    room = school.room("Counted", ann, ben)
    before = summed(counted)
    async with connected(counted, ann.token) as anns, connected(counted, ben.token, process=1) as bens:
        await anns.join(room)
        await bens.join(room)
        for number in range(3):
            await anns.say(room, f"message {number}")
            for client in (anns, bens):
                await client.expect("message")
        await anns.raw("no event")
        await anns.expect("error")
        for _ in range(4):
            await anns.send("read", {"room_id": room})
        for _ in range(2):
            assert (await anns.expect("error"))["data"]["code"] == "rate_limited"
        during = summed(counted)
    await grown(counted, before, "salon_connections", 0)
    after = summed(counted)

    def growth(name, now=after):
        return now[name] - before[name]

    assert growth("salon_connections", during) == 2
    assert growth("salon_people_connected", during) == 2
    assert growth("salon_rooms_joined", during) == 2
    assert growth('salon_handshakes_total{outcome="opened"}') == 2
    assert growth('salon_connections_closed_total{code="1000"}') == 2
    assert growth('salon_events_received_total{type="message"}') == 3
    assert growth('salon_events_received_total{type="read"}') == 4
    assert growth('salon_events_received_total{type="unreadable"}') == 1
    assert growth('salon_events_made_total{type="message"}') == 3
    assert growth('salon_deliveries_total{kind="message"}') == 6
    assert growth('salon_deliveries_total{kind="other"}') > 0
    assert growth('salon_errors_sent_total{code="rate_limited"}') == 2
    assert growth('salon_rate_limited_total{limit="signals"}') == 2
    assert growth("salon_message_commit_seconds_count") == 3
    # At each of the two processes.
    assert growth("salon_message_delivery_seconds_count") == 6
    assert 0 < growth("salon_message_commit_seconds_sum") < growth("salon_message_delivery_seconds_sum")
    assert growth('salon_message_delivery_seconds_bucket{le="+Inf"}') == 6
    assert growth('salon_database_seconds_count{by="journal"}') in (1, 2, 3)
    assert growth('salon_database_seconds_count{by="probe"}') > 0
    assert growth("salon_channel_layer_publish_seconds_count") >= 3
    assert growth("salon_event_loop_lag_seconds_count") > 0


async def test_handshakes_are_counted_by_what_came_of_them(counted, school):
    before = summed(counted)
    async with connected(counted, "none") as client:
        await client.expect("error")
        await client.closed()
    with pytest.raises(InvalidStatus):
        async with connected(counted, origin="https://elsewhere.example"):
            pass
    status, _, _ = counted.request("GET", "/ws/chat/", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert status == 426
    after = summed(counted)
    refused = ("invalid_token", "origin", "malformed")
    names = [f'salon_handshakes_total{{outcome="{outcome}"}}' for outcome in refused]
    assert [after[name] - before[name] for name in names] == [1, 1, 1]


def test_requests_are_counted(counted, school):
    before = summed(counted)
    person = school.person()
    Api(counted, person).call("GET", "/chats/rooms/")
    counted.request("GET", "/nothing")
    after = summed(counted)
    assert after['salon_http_requests_total{status="200"}'] > before['salon_http_requests_total{status="200"}']
    assert after['salon_http_requests_total{status="404"}'] - before['salon_http_requests_total{status="404"}'] == 1
    assert after['salon_database_seconds_count{by="http"}'] > before['salon_database_seconds_count{by="http"}']


def test_every_process_says_what_it_is_and_needs(counted):
    for process in range(2):
        found = scraped(counted, process)
        assert found["process_resident_memory_bytes"] > 30e6
        assert 5 < found["process_open_fds"] < found["process_max_fds"]
        assert found["process_cpu_seconds_total"] > 0
        assert [value for name, value in found.items() if name.startswith("salon_build_info{")] == [1]
        services = ("channel_layer", "database", "storage")
        assert [found[f'salon_service_up{{service="{service}"}}'] for service in services] == [1, 1, 1]
        waiting = {name: value for name, value in found.items() if name.startswith("salon_queue_length{")}
        assert len(waiting) >= 12
        # What the process does by itself may be on its way.
        assert max(waiting.values()) <= 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"X-Forwarded-For": "127.0.0.1"}, 404),
        ({"Forwarded": "for=127.0.0.1"}, 404),
        ({"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "198.51.100.1"}, 200),
        ({"Authorization": f"Bearer {TOKEN}x"}, 404),
        ({"Authorization": "Bearer"}, 404),
    ],
)
def test_who_may_see_it(counted, headers, status):
    assert counted.request("GET", "/metrics", headers=headers)[0] == status


def test_who_may_open_the_socket_may_see_it_and_not_who_comes_over_nginx(listening, tmp_path):  # noqa: F811 (a fixture)
    def get(*headers):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(tmp_path / "salon.sock"))
            head = "\r\n".join(["GET /metrics HTTP/1.1", "Host: localhost", "Connection: close", *headers])
            client.sendall(f"{head}\r\n\r\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b"")).decode()

    process = start(listening, tmp_path)
    try:
        wait_until(lambda: " 200 OK" in get(), "an answer")
        assert samples(get().split("\r\n\r\n", 1)[1])["salon_connections"] == 0
        with Proxy(tmp_path / "nginx", make_certificate(tmp_path), tmp_path / "salon.sock") as nginx:
            assert [nginx.ask(path)[0] for path in ("/healthz", "/metrics", "/metrics/")] == [200, 404, 404]
            assert nginx.ask("/metrics", headers={"X-Forwarded-For": "127.0.0.1"})[0] == 404
    finally:
        process.terminate()
        process.wait(30)
