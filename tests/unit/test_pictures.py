"""The ten pictures: what is asked for them, how they are drawn, and what is shown where there are none."""

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory

from chat import metrics, pictures_page
from chat.pictures import PICTURES, AwayError, Line, Picture, Prometheus, amount, drawn, svg, top

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "docs"))

import grafana  # noqa: E402 (found by the line above)

ONE = Picture("Of <one>", "s", (Line("up", "", "process"),))


@pytest.fixture
def prometheus():
    """One that answers every question with two lines, and notes it."""
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            given = parse_qs(urlsplit(self.path).query)
            asked.append(given["query"][0])
            start, step = float(given["start"][0]), float(given["step"][0])
            values = [[start, "0.5"], [start + step, "NaN"], [start + 2 * step, "0.25"]]
            result = [{"metric": {"process": f"<daphne@{number}>"}, "values": values} for number in (1, 2)]
            told = json.dumps({"status": "success", "data": {"result": result}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", asked=asked)
    server.shutdown()
    thread.join()
    server.server_close()


def parsed(shown):
    return ElementTree.fromstring(shown)  # noqa: S314 (it was drawn here)


def test_there_are_ten():
    assert len(PICTURES) == 10
    assert len({picture.title for picture in PICTURES}) == 10


def test_what_is_asked_for_is_what_a_process_tells():
    told = {family.name for family in metrics.registry.collect()}
    alerts = (ROOT / "templates/etc/prometheus/salon-alerts.yml.j2").read_text()
    asked = " ".join(line.expression for picture in PICTURES for line in picture.lines) + alerts
    others = {"salon_certificate_end_timestamp_seconds", "salon_backup_timestamp_seconds"}
    for name in set(re.findall(r"\bsalon_\w+", asked)) - others:
        assert re.sub(r"_(total|bucket)$", "", name) in told, name


def test_a_line_for_each_process(prometheus):
    root = parsed(drawn(ONE, Prometheus(prometheus.url), 0, 3600))
    lines = root.findall("{*}polyline")
    # What is no number is left out.
    assert [len(line.get("points").split()) for line in lines] == [2, 2]
    assert "<daphne@1>: 250 ms" in [text.text for text in root.findall("{*}text")]
    assert root.get("aria-label").startswith("Of <one>: <daphne@1> 250 ms")


def test_a_line_is_where_its_values_are():
    root = parsed(svg(ONE, [("a", [(0.0, 0.0), (50.0, 1.0), (100.0, 0.5)])], 0, 100))
    assert root.find("{*}polyline").get("points") == "64.0,166.0 346.0,10.0 628.0,88.0"


def test_nothing_at_all_is_a_picture_too():
    assert parsed(svg(ONE, [], 0, 100)).get("aria-label") == "Of <one>: nothing"


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.0042, "s", "4.2 ms"),
        (2.5, "s", "2.5 s"),
        (123_456_789, "bytes", "123 MB"),
        (41.6, "percent", "42 %"),
        (12345, "", "12345"),
        (0.5, "per second", "0.5"),
    ],
)
def test_amounts(value, unit, said):
    assert amount(value, unit) == said


def test_the_axis_ends_above_all():
    assert [top(value) for value in (0, 0.3, 1, 3, 21, 999)] == [1, 0.5, 1, 5, 50, 1000]


def test_one_that_is_away_is_away():
    with pytest.raises(AwayError, match="FileNotFoundError"):
        Prometheus("unix:/nowhere/prometheus.sock").range("up", 0, 1)


class TestPage:
    @pytest.fixture
    def page(self, rf=RequestFactory()):  # noqa: B008 (it has no state)
        def page(query="", *, is_superuser=True):
            request = rf.get(f"/admin/pictures/{query}")
            request.user = SimpleNamespace(
                is_superuser=is_superuser, is_active=True, is_staff=True, has_module_perms=lambda _: False,
                has_perm=lambda _: False, get_username=lambda: "ada", is_authenticated=True,
            )  # fmt: skip
            return pictures_page.answer(request)

        return page

    def test_it_shows_all_of_them(self, page, prometheus, monkeypatch):
        monkeypatch.setattr(settings, "PROMETHEUS_URL", prometheus.url)
        shown = page("?hours=24").content.decode()
        assert shown.count("<h2>") == 10
        assert prometheus.asked == [line.expression for picture in PICTURES for line in picture.lines]
        assert "<strong>24 h</strong>" in shown
        # Neither a script nor a style of its own, and nothing of another host.
        assert "&lt;daphne@1&gt;" in shown
        assert not re.search(r"(src|href)=\"https?:", shown)

    def test_it_says_that_prometheus_is_away(self, page, monkeypatch):
        monkeypatch.setattr(settings, "PROMETHEUS_URL", "unix:/nowhere/prometheus.sock")
        shown = page().content.decode()
        assert "Prometheus does not answer" in shown
        assert "FileNotFoundError" in shown
        assert "<polyline" not in shown

    def test_it_says_that_there_is_none(self, page, monkeypatch):
        monkeypatch.setattr(settings, "PROMETHEUS_URL", None)
        assert "No Prometheus looks at this server" in page().content.decode()

    def test_it_is_for_superusers(self, page):
        with pytest.raises(PermissionDenied):
            page(is_superuser=False)


def test_the_dashboard_shows_the_same():
    assert grafana.PAGE.read_text() == grafana.dashboard(), "docs/grafana.json is stale: make docs writes it anew"
