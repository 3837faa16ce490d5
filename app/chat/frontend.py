"""What a frontend is configured with to talk to this server."""

from urllib.parse import urlsplit


def environment(public_url: str, token: str = "") -> list[str]:  # nosec B107 # no token is no password
    """The lines for a Next.js frontend's `.env.local`.

    The token is left empty for a real server: one that is baked into a page is everybody's.
    """
    url = urlsplit(public_url)
    return [
        f"NEXT_PUBLIC_WS_HOST={url.netloc}",
        f"NEXT_PUBLIC_WS_PROTOCOL={'wss' if url.scheme == 'https' else 'ws'}",
        f"NEXT_PUBLIC_API_TOKEN={token}",
        f"NEXT_PUBLIC_API_BASE_URL={public_url}",
    ]
