"""What a person does at the page, as the tests say it."""

import asyncio
import re

from playwright.async_api import expect


async def connected(page):
    await expect(page.locator("body")).to_have_attribute("data-state", "connected")


async def enter(page, room):
    """Open a room that is in the list, and be there."""
    await page.locator(f"[data-room='{room}']").click()
    await expect(page.locator(f"[data-room='{room}']")).to_have_attribute("aria-current", "page")
    await connected(page)


async def until(page, expression, said=()):
    """Wait until a script in the page says something that is true, and give it back."""
    for _ in range(400):
        # Without `eval`, which the page's policy forbids and `wait_for_function` needs.
        if found := await page.evaluate(expression):
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"In vain: {expression}; {list(said)}")


def field(page):
    return page.get_by_role("textbox", name="Message", exact=True)


async def write(page, text):
    await field(page).fill(text)
    await field(page).press("Enter")


def contents(page):
    return page.locator("#messages .content")


def message(page, text):
    """The item of the message with this text."""
    return page.locator("#messages > li", has=page.get_by_text(text, exact=True)).last


async def choose(page, text, deed):
    """Open the menu of a message, and choose from it."""
    item = message(page, text)
    await item.hover()
    await item.locator(".more").click()
    await page.get_by_role("menuitem", name=re.compile(f"^{deed}$")).click()
