"""The page and the admin as a browser uses them: cookies, forms, CSRF; and the cookie for the WebSocket."""

import http.cookies
import re
from urllib.parse import urlencode


class BrowserSession:
    """`always` are headers of each of its requests, such as those of a proxy in front."""

    def __init__(self, target, process=0, **always):
        self.target = target
        self.process = process
        self.always = always
        self.cookies = {}

    def _request(self, method, path, form=None, headers=None):
        headers = {"Cookie": self.cookie_header, **(headers or {}), **self.always}
        body = None
        if form is not None:
            own = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.target.urls[self.process]}
            headers = own | headers
            body = urlencode(form)
        status, answer, text = self.target.request(method, path, body, headers, process=self.process)
        for header in answer.get_all("Set-Cookie", []):
            self.cookies.update({name: part.value for name, part in http.cookies.SimpleCookie(header).items()})
        return status, answer, text

    @property
    def cookie_header(self):
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def get(self, path, **headers):
        return self._request("GET", path, headers=headers)

    def submit(self, path, changes, action=None):
        """Load the form at `path`, change some of its fields and send it (to `action`, where it says so)."""
        status, _, page = self.get(path)
        assert status == 200, page
        return self._request("POST", action or path, {**fields(page), **changes})

    def login(self, username, password):
        status, answer, page = self.submit("/login/", {"username": username, "password": password})
        assert (status, answer["Location"]) == (302, "/"), page


def fields(page):
    """The fields of a page's forms with the values that a browser would send."""
    found = {}
    for tag in re.findall(r"<input[^>]*>", page):
        attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        name, kind = attributes.get("name"), attributes.get("type", "text")
        if not name or kind in ("submit", "button"):
            continue
        if kind == "checkbox" and not re.search(r"\bchecked\b", tag):
            continue
        found[name] = attributes.get("value", "on" if kind == "checkbox" else "")
    for name, options in re.findall(r'<select name="([^"]*)"[^>]*>(.*?)</select>', page, re.DOTALL):
        if selected := re.search(r'<option value="([^"]*)" selected', options):
            found[name] = selected[1]
    found.update(re.findall(r'<textarea name="([^"]*)"[^>]*>\s*(.*?)</textarea>', page, re.DOTALL))
    return found
