"""axe-core finds nothing on any screen, in both languages and both colour schemes, on a desk and a phone."""

from pathlib import Path

import pytest
from screens import DESKTOP, PHONE, screens

pytestmark = pytest.mark.asyncio(loop_scope="module")
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
SCREENS = 15
"""At least so many are looked at: none must get lost on the way."""


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-GB", "fr-FR"])
async def test_no_screen_has_a_violation(at_a_browser, rooms, locale, scheme, viewport):
    options = {"locale": locale, "color_scheme": scheme, "viewport": viewport, "permissions": ["microphone"]}
    found = {}
    async for name, page in screens(at_a_browser, rooms, **options):
        # The browser's tools may do what the page's own policy forbids to the page.
        await page.evaluate(AXE.read_text())
        result = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        assert result["testEngine"]["name"] == "axe-core"
        found[name] = [
            f"{violation['id']}: {node['html'][:150]} {node['failureSummary']}"
            for violation in result["violations"]
            for node in violation["nodes"]
        ]
    assert len(found) >= SCREENS
    problems = [f"{name}: {problem}" for name, problems in found.items() for problem in problems]
    assert not problems, "\n".join(problems)
