"""`salon-client` and what the page is made of, as a browser gets them: compressed, and cached as long as they may be.

The client has an address that stays, for frontends of other origins: a browser asks each hour whether it has changed.
What the page loads has an address that changes with its content, and is never asked for twice.
"""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

STATIC = Path(__file__).parent / "static"
PACKAGE = STATIC / "salon-client"
PAGE = STATIC / "chat" / "page"
CLIENT_FILES = ("salon-client.js", "salon-client.d.ts", "wire.d.ts")
MIN_SIZE = 500
"""Bytes below which compressing gains nothing."""


@dataclass(frozen=True)
class Asset:
    content: bytes
    compressed: bytes | None
    content_type: str
    digest: str


@require_safe
async def client_file(request: HttpRequest, name: str) -> HttpResponse:
    """`/client/v1/…`: the module and its types, for everybody, whatever origin the page has that loads them."""
    if name not in CLIENT_FILES:
        raise Http404
    answer = _answer(request, _asset(PACKAGE / name))
    answer["Cache-Control"] = "public, max-age=3600, stale-while-revalidate=86400"
    answer["Access-Control-Allow-Origin"] = "*"
    answer["Cross-Origin-Resource-Policy"] = "cross-origin"
    return answer


@require_safe
async def page_file(request: HttpRequest, digest: str, name: str) -> HttpResponse:
    """`/page/<digest>/…`: a part of the page. After an update, one that an old page asks for is the new one."""
    if (path := page_files().get(name)) is None:
        raise Http404
    answer = _answer(request, _asset(path))
    answer["Cache-Control"] = "public, max-age=31536000, immutable" if digest == page_digest() else "no-store"
    return answer


@cache
def page_files() -> dict[str, Path]:
    """What the page is made of, by name; the client is one of its modules."""
    files = {path.name: path for path in sorted(PAGE.iterdir())}
    return files | {"salon-client.js": PACKAGE / "salon-client.js"}


@cache
def page_digest() -> str:
    """Another one as soon as any of the page's files is another one."""
    parts = [f"{name} {_asset(path).digest}" for name, path in page_files().items()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    kind = "text/plain" if path.suffix == ".ts" else mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    text = kind.startswith("text/") or kind in ("application/javascript", "image/svg+xml")
    # The same bytes at each start, and in each process.
    compressed = gzip.compress(content, mtime=0) if text and len(content) > MIN_SIZE else None
    return Asset(
        content, compressed, f"{kind}; charset=utf-8" if text else kind, hashlib.sha256(content).hexdigest()[:32]
    )


def _answer(request: HttpRequest, asset: Asset) -> HttpResponse:
    takes_gzip = "gzip" in request.headers.get("accept-encoding", "")
    is_compressed = asset.compressed is not None and takes_gzip
    etag = f'"{asset.digest}{"-gz" if is_compressed else ""}"'
    if etag in [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]:
        answer = HttpResponse(status=304)
    else:
        answer = HttpResponse(asset.compressed if is_compressed else asset.content, content_type=asset.content_type)
        if is_compressed:
            answer["Content-Encoding"] = "gzip"
    answer["ETag"] = etag
    if asset.compressed is not None:
        patch_vary_headers(answer, ["Accept-Encoding"])
    return answer
