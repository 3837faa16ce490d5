"""The page at `/` as two people use it."""

from playwright.async_api import expect


async def test_two_people_talk(at_a_browser):
    async with at_a_browser("alice") as alice, at_a_browser("bob", "fr-FR") as bob:
        await expect(alice.get_by_role("status")).to_have_text("Connected")
        await expect(bob.get_by_role("status")).to_have_text("Connecté")

        await alice.get_by_label("Message", exact=True).press_sequentially("<b>Good</b> morning")
        await expect(bob.locator("#typing")).to_have_text("Alice Martin écrit…")
        await alice.get_by_role("button", name="Send").click()
        await expect(bob.locator("#typing")).to_have_text("")
        for page in (alice, bob):
            # What somebody types is text, never markup.
            await expect(page.get_by_role("log").locator("bdi")).to_have_text(["<b>Good</b> morning"])

        await bob.get_by_label("Message", exact=True).fill("صباح الخير")
        await bob.get_by_label("Message", exact=True).press("Enter")
        await expect(alice.get_by_role("log").locator("bdi")).to_have_text(["<b>Good</b> morning", "صباح الخير"])
        await expect(alice.get_by_role("log").locator("li").last).to_contain_text("Bob Diallo")

        await alice.reload()
        await expect(alice.get_by_role("log").locator("bdi")).to_have_text(["<b>Good</b> morning", "صباح الخير"])


async def test_what_was_missed_arrives_after_the_connection_is_back(at_a_browser):
    async with at_a_browser("alice") as alice, at_a_browser("bob") as bob:
        await expect(alice.get_by_role("status")).to_have_text("Connected")
        links = []

        def pass_through(link):
            link.connect_to_server()
            links.append(link)

        await bob.route_web_socket("**/ws/chat/", pass_through)
        await bob.reload()
        await expect(bob.get_by_role("status")).to_have_text("Connected")
        await links[0].close(code=4000)
        await expect(bob.get_by_role("status")).to_have_text("Connecting…")
        await alice.get_by_label("Message", exact=True).fill("You were away")
        await alice.get_by_role("button", name="Send").click()
        await expect(bob.get_by_role("status")).to_have_text("Connected")
        await expect(bob.get_by_role("log").locator("bdi").last).to_have_text("You were away")
        await expect(bob.get_by_text("You were away")).to_have_count(1)


async def test_a_wrong_password_is_told_in_her_language(at_a_browser):
    async with at_a_browser(locale="fr-FR") as page:
        await page.get_by_label("Nom d’utilisateur").fill("alice")
        await page.get_by_label("Mot de passe").fill("wrong")
        await page.get_by_role("button", name="Se connecter").click()
        await expect(page.get_by_role("alert")).to_contain_text("n’est pas bon")


async def test_signing_out_ends_it(at_a_browser):
    async with at_a_browser("alice") as alice:
        await alice.get_by_role("button", name="Sign out").click()
        await alice.goto("/")
        await expect(alice.get_by_role("button", name="Sign in")).to_be_visible()
