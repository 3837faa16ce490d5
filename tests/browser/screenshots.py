"""`make screenshots`: every screen, on a phone and a desk, light and dark, as pictures under build/screenshots/."""

import os

import pytest
from screens import DESKTOP, PHONE, populate, screens
from target import PROJECT

pytestmark = pytest.mark.asyncio(loop_scope="module")
DIRECTORY = PROJECT / "build" / "screenshots"
README_PICTURES = {"conversation-desktop-light": "chat.png", "conversation-phone-dark": "chat-phone.png"}


@pytest.fixture(scope="module")
def rooms(server):
    return populate(server)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("device", "viewport"), [("desktop", DESKTOP), ("phone", PHONE)])
async def test_pictures_of_every_screen(at_a_browser, rooms, device, viewport, scheme):
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    locale = "en-GB" if device == "desktop" or scheme == "dark" else "fr-FR"
    options = {"viewport": viewport, "color_scheme": scheme, "locale": locale, "permissions": ["microphone"]}
    if device == "phone":
        options |= {"has_touch": True, "device_scale_factor": 2}
    async for name, page in screens(at_a_browser, rooms, **options):
        await page.wait_for_timeout(300)
        screen = f"{name}-{device}-{scheme}"
        await page.screenshot(path=DIRECTORY / f"{screen}.png")
        if (picture := README_PICTURES.get(screen)) and os.environ.get("SALON_README_PICTURES"):
            await page.screenshot(path=PROJECT / "docs" / picture)
