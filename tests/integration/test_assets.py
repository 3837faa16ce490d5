"""salon-client at its stable address, and the page's own files."""

import gzip
import re

import pytest
from browser_session import BrowserSession
from target import PROJECT

CLIENT = PROJECT / "app" / "chat" / "static" / "salon-client"


@pytest.mark.parametrize("name", ["salon-client.js", "salon-client.d.ts", "wire.d.ts"])
def test_the_client_is_there_for_every_origin(embedded, name):
    status, headers, body = embedded.request(
        "GET", f"/client/v1/{name}", headers={"Origin": "https://school.example"}, raw=True
    )
    assert status == 200
    assert body == (CLIENT / name).read_bytes()
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Cache-Control"].startswith("public, max-age=3600")
    assert headers.get_content_type() == ("text/javascript" if name.endswith(".js") else "text/plain")


def test_it_is_compressed_and_not_sent_twice(embedded):
    path = "/client/v1/salon-client.js"
    status, headers, body = embedded.request("GET", path, headers={"Accept-Encoding": "gzip"}, raw=True)
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert gzip.decompress(body) == (CLIENT / "salon-client.js").read_bytes()
    assert "Accept-Encoding" in headers["Vary"]
    again, _, nothing = embedded.request(
        "GET", path, headers={"Accept-Encoding": "gzip", "If-None-Match": headers["ETag"]}, raw=True
    )
    assert (again, nothing) == (304, b"")


@pytest.mark.parametrize("path", ["/client/v1/../settings.py", "/client/v1/package.json", "/page/x/dom.jsx"])
def test_nothing_else_is_there(embedded, path):
    assert embedded.request("GET", path)[0] == 404


def test_the_pages_files_are_kept_for_ever_under_an_address_of_their_content(embedded):
    _, _, login = BrowserSession(embedded).get("/login/")
    path = re.search(r'href="(/page/\w+/page\.css)"', login)[1]
    status, headers, _ = embedded.request("GET", path)
    assert (status, headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    # A page of before an update still gets a style, which nobody keeps.
    status, headers, _ = embedded.request("GET", "/page/0123456789abcdef/page.css")
    assert (status, headers["Cache-Control"]) == (200, "no-store")
