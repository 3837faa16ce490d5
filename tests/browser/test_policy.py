"""The other pages, under the Content-Security-Policy that they come with: what breaks it fails in `at_a_browser`."""

import pytest
from playwright.async_api import expect

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_admin_works(at_a_browser):
    async with at_a_browser("olga") as page:
        await page.goto("/admin/chat/chatroom/add/")
        await page.get_by_label("Name").fill("Choir")
        await page.locator("#id_room_type").select_option("group")
        # It is searched in a list that a script opens.
        await page.locator(".select2-selection").first.click()
        await page.locator(".select2-search__field").fill("bob")
        await page.locator(".select2-results__option", has_text="bob").click()
        await page.locator("[name=_save]").click()
        await expect(page.locator(".messagelist .success")).to_contain_text("Choir")
        await page.goto("/admin/chat/user/")
        await page.locator("#action-toggle").check()
        await expect(page.locator(".action-counter")).to_contain_text("of 4 selected")


async def test_the_description_of_the_api_is_shown(at_a_browser):
    async with at_a_browser("alice") as page:
        await page.goto("/docs/")
        await expect(page.locator(".opblock").first).to_be_visible()
