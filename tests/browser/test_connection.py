"""The page when its server, its link or its person's account goes."""

import asyncio
import json
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.async_api import expect
from talk import connected, contents, enter, field, message, until, write
from target import PROJECT

from instance import Instance

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOST = Instance.of_molecule()
DRIVER = Path(__file__).parents[1] / "salon-client" / "server.py"
PASSWORD = "a good long passphrase"
STORED = re.compile("^(Sent|Seen)$")
"""What stands beside a message that is stored; who has it before her may have seen it already."""


class Mortal:
    """A server that can be killed and started again, at the same address; what `Target` is to other tests."""

    def __init__(self):
        self.driver = subprocess.Popen(
            [sys.executable, DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
        )
        self.url = f"http://localhost:{json.loads(self.driver.stdout.readline())['port']}"

    def tell(self, *command):
        self.driver.stdin.write(json.dumps(command) + "\n")
        self.driver.stdin.flush()
        answer = json.loads(self.driver.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["output"]

    def close(self):
        self.driver.stdin.close()
        self.driver.wait(60)
        self.driver.stdout.close()


class MortalHost:
    """The processes of a test host, killed and started again beneath nginx."""

    def __init__(self, target):
        self.url = target.urls[0]
        self._target = target
        self._numbers = self._run(
            "systemctl list-units --plain --no-legend 'daphne@*.socket' | grep -o '[0-9]*[.]' | tr -d ."
        )

    def _run(self, script):
        done = subprocess.run(
            ["docker", "exec", HOST.name, "sh", "-ec", script], capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    def tell(self, deed, *arguments):
        units = " ".join(f"daphne@{number}.socket daphne@{number}.service" for number in self._numbers)
        match deed:
            case "manage":
                return self._target.manage(*arguments)
            case "terminate":
                self._run(f"systemctl stop {units}")
            case "kill":
                self._run(f"systemctl kill --signal KILL {units}; systemctl stop {units}")
            case "start":
                self._run(f"systemctl start {units}")
        return None


@pytest.fixture(scope="module")
def mortal(request):
    if HOST:
        yield MortalHost(request.getfixturevalue("host"))
        return
    server = Mortal()
    code = (
        "from chat.models import User; "
        "[User.objects.create_user(n, password='%s', first_name=n.title(), role='teacher') for n in ('alice', 'bob')]"
    )
    server.tell("manage", "shell", "--command", code % PASSWORD)
    yield server
    server.close()


@pytest.mark.host
async def test_a_restart_in_the_midst_of_typing_costs_nothing(at_a_browser, mortal):
    room = int(mortal.tell("manage", "create_room", "Class 5B", "--member", "alice", "bob"))
    url = mortal.url
    async with at_a_browser("alice", base_url=url) as alice, at_a_browser("bob", base_url=url) as bob:
        await enter(alice, room)
        await enter(bob, room)
        await write(alice, "Before")
        await expect(contents(bob)).to_have_text(["Before"])
        await field(bob).press_sequentially("I was just wri")
        for how in ("terminate", "kill"):
            await asyncio.to_thread(mortal.tell, how)
            await expect(bob.locator("#banner")).to_contain_text("Reconnecting")
            await write(alice, f"Sent during {how}")
            await expect(message(alice, f"Sent during {how}").locator(".state")).to_have_text("Sending")
            await asyncio.to_thread(mortal.tell, "start")
            await expect(message(alice, f"Sent during {how}").locator(".state")).to_have_text(STORED, timeout=40_000)
            await expect(bob.locator("#banner")).to_be_hidden(timeout=40_000)
            await expect(field(bob)).to_have_value("I was just wri")
        await field(bob).press_sequentially("ting")
        await field(bob).press("Enter")
        said = ["Before", "Sent during terminate", "Sent during kill", "I was just writing"]
        for page in (alice, bob):
            await expect(contents(page)).to_have_text(said)


@pytest.mark.host
async def test_offline_and_back(at_a_browser, room):
    async with at_a_browser("alice") as alice, at_a_browser("bob") as bob:
        await enter(alice, room)
        await enter(bob, room)
        await bob.context.set_offline(True)
        await expect(bob.locator("#banner")).to_contain_text("You are offline")
        await write(bob, "Written in the tunnel")
        await write(alice, "You were away")
        await expect(message(bob, "Written in the tunnel").locator(".state")).to_have_text("Sending")
        await bob.context.set_offline(False)
        for page in (alice, bob):
            await expect(contents(page)).to_have_text(["You were away", "Written in the tunnel"])
        await expect(bob.locator("#banner")).to_be_hidden()


@pytest.mark.host
async def test_what_was_missed_arrives_after_the_connection_is_back(at_a_browser, room):
    async with at_a_browser("alice") as alice, at_a_browser("bob") as bob:
        await enter(alice, room)
        links = []

        def pass_through(link):
            link.connect_to_server()
            links.append(link)

        await bob.route_web_socket("**/ws/chat/", pass_through)
        await bob.reload()
        await enter(bob, room)
        await links[0].close(code=4000)
        await write(alice, "You were away")
        await expect(contents(bob)).to_have_text(["You were away"])


async def test_a_session_that_has_ended_asks_to_sign_in(at_a_browser, server, room):
    async with at_a_browser("bob") as bob:
        await enter(bob, room)
        server.manage(
            "shell", "--command", "from django.contrib.sessions.models import Session; Session.objects.all().delete()"
        )
        await bob.reload()
        await expect(bob.get_by_role("button", name="Sign in")).to_be_visible()


@pytest.mark.host
async def test_an_account_that_is_closed_is_told_at_once(at_a_browser, server):
    server.manage("create_user", "eve", "--name", "Eve Last", "--password-stdin", stdin=f"{PASSWORD}\n")
    room = int(server.manage("create_room", "Last room", "--member", "eve", "alice"))
    async with at_a_browser("eve") as eve:
        await enter(eve, room)
        code = "from chat.models import User; u = User.objects.get(username='eve'); u.is_active = False; u.save()"
        server.manage("shell", "--command", code)
        await expect(eve.locator("#banner")).to_contain_text("Signed out")
        await expect(eve.locator("#banner").get_by_role("link", name="Sign in")).to_be_visible()
        await expect(eve.locator("#compose")).to_have_attribute("inert", "")


@contextmanager
def another_origin(html, port=0):
    """A server of somebody else's that has one page, at any port or a given one."""

    class OnePage(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("localhost", port), OnePage)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.host
async def test_a_frontend_of_another_origin_renews_its_token(at_a_browser, server, room):
    """What a team's own page does: the module from its stable address, and a token that ends while it is used."""
    url = server.urls[0]
    code = (
        "from datetime import timedelta; from chat import auth; from chat.models import User; "
        "bob = User.objects.get(username='bob'); "
        "print(bob.pk, *(auth.create_token(bob, timedelta(seconds=s)) for s in (3, 3600)))"
    )
    user_id, short, fresh = server.manage("shell", "--command", code).split()
    html = f"""<!doctype html><ul></ul><script type="module">
        import {{ SalonClient }} from "{url}/client/v1/salon-client.js";
        const tokens = ["{short}", "{fresh}"];
        window.asked = 0;
        window.ended = null;
        const salon = window.salon = new SalonClient({{
          url: "{url.replace("http", "ws")}/ws/chat/",
          userId: {user_id},
          token: async () => tokens[Math.min(window.asked++, 1)],
        }});
        salon.on("message", ({{ message }}) => document.querySelector("ul").append(message.content));
        salon.on("end", (end) => (window.ended = end));
        window.room = salon.join({room});
        salon.connect();
    </script>"""
    async with at_a_browser("alice") as alice, at_a_browser(base_url=url) as page:
        await enter(alice, room)
        frontend = await page.context.new_page()
        said = []
        frontend.on("console", lambda message: said.append(message.text))
        frontend.on("pageerror", lambda error: said.append(str(error)))
        # The host knows its frontends.
        with another_origin(html, 3000 if HOST else 0) as other:
            await frontend.goto(other)
        await until(frontend, "window.asked >= 2 && window.room?.isJoined", said)
        # Beyond the end of the first token.
        await frontend.wait_for_timeout(4_000)
        await write(alice, "Still there?")
        await expect(frontend.locator("ul")).to_have_text("Still there?")
        assert await frontend.evaluate("[window.ended, window.salon.state]") == [None, "connected"]


async def test_the_page_needs_little_of_the_network(at_a_browser, server, room):
    async with at_a_browser("alice") as alice:
        await connected(alice)
        sizes = []
        network = await alice.context.new_cdp_session(alice)
        await network.send("Network.enable")
        await network.send("Network.setCacheDisabled", {"cacheDisabled": True})
        network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        await alice.goto(f"/?room={room}")
        await connected(alice)
        assert 10_000 < sum(sizes) < 60_000, sizes


async def test_the_first_message_is_readable_within_a_second_on_slow_3g(at_a_browser, room):
    async with at_a_browser("alice") as alice:
        await enter(alice, room)
        for number in range(20):
            await write(alice, f"Message {number}")
        await expect(message(alice, "Message 19").locator(".state")).to_have_text(re.compile("Sent|Seen"))
        network = await alice.context.new_cdp_session(alice)
        await network.send("Network.enable")
        slow = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000}
        await network.send("Network.emulateNetworkConditions", slow)
        await alice.add_init_script(
            "new MutationObserver((_, observer) => { if (document.querySelector('#messages .content')) {"
            "window.readable = performance.now(); observer.disconnect(); } })"
            ".observe(document, { childList: true, subtree: true });"
        )
        await alice.goto(f"/?room={room}")
        assert await until(alice, "window.readable") < 1000
