"""Two people talk, and what is wrong is named: `salon probe_people` and `salon/probe.py`."""

import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from target import PROJECT

PROBE = PROJECT / "app/salon/probe.py"


def probe(people, *arguments):
    """What came of it, and the exit status. Nothing but Python's own library is at hand."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", PROBE, *arguments], input=people, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


@pytest.fixture(params=["embedded", "services"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def people(server):
    return server.manage("probe_people")


def test_two_people_talk_on_every_process(server, people):
    for url in server.urls:
        [outcome], status = probe(people, "--url", url)
        assert (status, outcome["ok"], outcome["sentence"]) == (0, True, "")


def test_the_same_two_people_and_room_each_time_and_nobody_gets_ids_after_theirs(server, people):
    again, first = json.loads(server.manage("probe_people")), json.loads(people)
    assert again["room"] == first["room"]
    assert [person["id"] for person in again["people"]] == [person["id"] for person in first["people"]]
    assert int(server.manage("create_user", f"later-{first['room']}-{len(people)}")) < 2**52


def test_a_bad_token_is_named(server, people):
    said = json.loads(people)
    said["people"][1]["token"] += "x"
    [outcome], status = probe(json.dumps(said), "--url", server.urls[0])
    assert status == 1
    assert "the room of the second did not come, but the error invalid_token" in outcome["sentence"]


def test_a_foreign_origin_is_refused(server, people):
    [outcome], status = probe(people, "--url", server.urls[0], "--origin", "https://elsewhere.example")
    assert (status, outcome["sentence"]) == (1, "the handshake was answered with 403 Forbidden")


@contextmanager
def answering(path, answer):
    """A unix socket on which each connection gets this answer to what it asks."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve():
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                with link:
                    link.recv(65536)
                    link.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


NOBODY = json.dumps({"room": 1, "people": [{"id": 1, "token": "a"}, {"id": 2, "token": "b"}]})


def test_a_process_that_is_not_ready_says_so_itself(tmp_path):
    answer = b'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 22\r\n\r\n{"database": "silent"}'
    with answering(tmp_path / "s", answer) as path:
        [outcome], status = probe(NOBODY, "--socket", path, "--timeout", "0.5")
    assert status == 1
    assert outcome["sentence"] == '/readyz is not good: 503 {"database": "silent"}'


def test_whoever_is_ready_and_does_not_talk_is_found(tmp_path):
    with answering(tmp_path / "s", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as path:
        [outcome], status = probe(NOBODY, "--socket", path)
    assert (status, outcome["sentence"]) == (1, "the handshake was answered with 200 OK")


def test_nobody_there_is_found(tmp_path):
    [outcome], status = probe(NOBODY, "--socket", tmp_path / "nobody", "--timeout", "0.3")
    assert status == 1
    assert "FileNotFoundError" in outcome["sentence"]
