"""What the tests talk to: a running Salon, wherever it runs, and its `manage.py`."""

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from http_document import HttpDocument
from wire_document import WireDocument

from waiting import wait_until

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE = 60
"""Seconds that a server may take to start on a busy machine."""


COMMANDER = """
import io, json, sys, traceback
from django.core.management import call_command
from django.db import close_old_connections
real = sys.stdout
for line in sys.stdin:
    output = io.StringIO()
    close_old_connections()
    try:
        # What a command prints goes into the answer.
        sys.stdout = output
        name, *arguments = json.loads(line)
        if name == "shell":
            exec(arguments[-1], {})
        else:
            call_command(name, *arguments, stdout=output)
        answer = {"output": output.getvalue()}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    finally:
        sys.stdout = real
    print(json.dumps(answer), flush=True)
"""
"""Runs one command after the other, each a line of JSON."""


@dataclass
class Target:
    """A running Salon: the base URL of each of its processes, and how its `manage.py` is called."""

    urls: list[str]
    manage_command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    authority: Path | None = None
    address: str | None = None
    """Where the host of the URLs really is, when no name server knows it."""
    processes: list[subprocess.Popen] = field(default_factory=list)
    _open: list[subprocess.Popen] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def websocket_urls(self):
        return [url.replace("http", "ws", 1) + "/ws/chat/" for url in self.urls]

    @property
    def ssl(self):
        return ssl.create_default_context(cafile=self.authority) if self.authority else None

    @property
    def connect_options(self):
        return {"host": self.address} if self.address else {}

    @cached_property
    def document(self):
        """What this server itself says of its WebSocket."""
        status, headers, text = self.request("GET", "/docs/asyncapi.json")
        assert (status, headers.get_content_type()) == (200, "application/json"), text
        return WireDocument(json.loads(text))

    def manage(self, *arguments, stdin=None):
        """What a `manage.py` command prints on standard output; it must succeed."""
        if stdin is None:
            return self._command(arguments)
        done = self.try_manage(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _command(self, arguments):
        """The same, in one process for all commands: to start one for each takes most of a second."""
        with self._lock:
            self._commander.stdin.write(json.dumps(arguments) + "\n")
            self._commander.stdin.flush()
            answer = json.loads(self._commander.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["output"].strip()

    @cached_property
    def _commander(self):
        command = [*self.manage_command, "shell", "--verbosity=0", "--command", COMMANDER]
        environment = {**os.environ, **self.environment}
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._open.append(process)
        return process

    def close(self):
        """End what runs for this target beside its servers."""
        for process in self._open:
            process.stdin.close()
            process.wait(DEADLINE)
            process.stdout.close()

    def try_manage(self, *arguments, stdin=None):
        return subprocess.run(
            [*self.manage_command, *arguments],
            env={**os.environ, **self.environment},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )

    @cached_property
    def http_document(self):
        """What this server itself says of its HTTP API."""
        status, headers, text = self.request("GET", "/docs/openapi.json")
        assert status == 200, text
        return HttpDocument(json.loads(text))

    def request(self, method, path, body=None, headers=None, *, process=0, raw=False):
        """One HTTP request, without following redirects: `(status, headers, text)`; with `raw`, bytes for the text."""
        url = urlsplit(self.urls[process % len(self.urls)])
        if self.ssl:
            connection = http.client.HTTPSConnection(url.hostname, url.port or 443, context=self.ssl, timeout=DEADLINE)
            if self.address:
                connection.sock = self.ssl.wrap_socket(
                    socket.create_connection((self.address, url.port or 443), DEADLINE), server_hostname=url.hostname
                )
        else:
            connection = http.client.HTTPConnection(url.hostname, url.port, timeout=DEADLINE)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, answer.headers, content if raw else content.decode()
        finally:
            connection.close()

    def ready(self, process=0):
        """What `/readyz` says: `(status, state)`."""
        status, _, text = self.request("GET", "/readyz", process=process)
        return status, json.loads(text)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def on(instance):
    """The Salon of a test host, as its people reach it: by nginx and TLS."""
    return Target(
        urls=[f"https://{instance.domain}"],
        manage_command=["docker", "exec", "--interactive", instance.name, "salon"],
        authority=instance.authority,
        address=instance.address,
    )


@contextmanager
def running(command, log, **options):
    """A program that runs during the block; its output goes to the file `log`."""
    with Path(log).open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


SERVER = [sys.executable, "-m", "salon.server", "salon.asgi:application", "--bind", "localhost"]
"""What a host runs."""
DEMO = [sys.executable, "manage.py", "demo"]
"""What `make run` starts."""
UVICORN = [sys.executable, "-m", "uvicorn", "salon.asgi:application", "--host", "localhost", "--ws-max-size", "131072"]
"""Another ASGI server: all that the application may ask of one is what the specification says."""


@contextmanager
def salon(directory, environment, processes=1, command=SERVER):
    """Server processes with an environment of their own, until the end of the block."""
    ports = [free_port() for _ in range(processes)]
    target = Target(
        urls=[f"http://localhost:{port}" for port in ports],
        manage_command=[sys.executable, str(PROJECT / "app" / "manage.py")],
        environment={"SALON_DATA_DIR": str(directory), **environment},
    )
    target.manage("migrate", "--verbosity=0")
    with ExitStack() as stack:
        for port in ports:
            server = running(
                [*command, "--port", str(port)],
                directory / f"server-{port}.log",
                cwd=PROJECT / "app",
                env={**os.environ, **target.environment},
            )
            target.processes.append(stack.enter_context(server))
        for number, process in enumerate(target.processes):
            wait_until(
                lambda n=number, p=process: p.poll() is not None or target.ready(n)[0] == 200, "the server", DEADLINE
            )
            assert process.poll() is None, (directory / f"server-{ports[number]}.log").read_text()
        stack.callback(target.close)
        yield target
