"""A room of 10,000 messages and 500 people: nothing jumps, nothing stutters, and memory stays bounded."""

import json

import pytest
from playwright.async_api import expect
from talk import connected, contents, write

pytestmark = pytest.mark.asyncio(loop_scope="module")
MESSAGES = 10_000
LONGEST_TASK = 50  # ms

# What is in the middle of the window is followed while older messages come above it.
SCROLL_AND_FOLLOW = """async () => {
    const scroller = document.getElementById("scroller");
    const items = () => [...document.querySelectorAll("#messages > li")];
    const bottom = (item) => item.getBoundingClientRect().bottom;
    const frame = () => new Promise(requestAnimationFrame);
    const found = { worst: 0, largest: 0, pages: 0, first: Infinity };
    for (let step = 0; step < 300; step++) {
        const top = scroller.getBoundingClientRect().top;
        const { seq } = items().find((each) => bottom(each) > top + 300).dataset;
        const before = bottom(document.querySelector(`[data-seq="${seq}"]`));
        const wanted = Math.min(120, scroller.scrollTop);
        scroller.scrollTop -= wanted;
        await frame();
        await frame();
        const moved = bottom(document.querySelector(`[data-seq="${seq}"]`)) - before;
        found.worst = Math.max(found.worst, Math.abs(moved - wanted));
        found.largest = Math.max(found.largest, items().length);
        const oldest = Number(items()[0].dataset.seq);
        if (oldest < found.first) {
            found.first = oldest;
            found.pages++;
        }
    }
    return found;
}"""
SCROLL = """async (steps) => {
    const scroller = document.getElementById("scroller");
    for (let step = 0; step < steps; step++) {
        scroller.scrollTop -= 160;
        await new Promise(requestAnimationFrame);
    }
    return Number(document.querySelector("#messages > li").dataset.seq);
}"""


def own_tasks(trace):
    """Milliseconds that each task of the page's main thread took of the processor, the longest first."""
    events = trace["traceEvents"]
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [event for event in events if "RunTask" in event["name"] and (event["pid"], event["tid"]) in mains]
    return sorted((event.get("tdur", 0) / 1000 for event in tasks), reverse=True)


@pytest.fixture(scope="module")
def long_room(server):
    code = f"""
from chat import rooms
from chat.models import *
from django.utils import timezone
from datetime import timedelta
pupils = [User(username=f"pupil-{{n}}", first_name="Pupil", last_name=str(n)) for n in range(498)]
User.objects.bulk_create(pupils)
members = [*User.objects.filter(username__in=["alice", "bob"]), *User.objects.filter(username__startswith="pupil-")]
room = rooms.create_room("The whole school", members)
begun = timezone.now() - timedelta(days=30)
text = "A sentence that somebody has written, with an address https://example.org/ in it. "
ChatMessage.objects.bulk_create([
    ChatMessage(room=room, seq=n, sender=members[n * 7 % 500], content=(f"#{{n}} " + text * (1 + n % 24))[:2000],
                created_at=begun + timedelta(minutes=4 * n), last_update=begun + timedelta(minutes=4 * n))
    for n in range(1, {MESSAGES} + 1)], batch_size=500)
ChatRoom.objects.filter(pk=room.pk).update(last_seq={MESSAGES}, last_update=timezone.now())
Membership.objects.filter(room=room).update(read_seq={MESSAGES}, delivered_seq={MESSAGES})
print(room.pk)
"""
    return int(server.manage("shell", "--command", code))


async def test_ten_thousand_messages_scroll_without_a_jump(at_a_browser, server, long_room):
    async with at_a_browser("alice", viewport={"width": 1280, "height": 800}) as alice:
        await alice.goto(f"/?room={long_room}")
        await connected(alice)
        await expect(contents(alice).last).to_contain_text(f"#{MESSAGES} ")
        found = await alice.evaluate(SCROLL_AND_FOLLOW)
        assert found["worst"] <= 2, found
        assert found["largest"] <= 280, found
        assert found["pages"] > 3, found
        # Back to the newest it is one step.
        await alice.get_by_role("button", name="Jump to the newest message").click()
        await expect(contents(alice).last).to_contain_text(f"#{MESSAGES} ")
        await expect(contents(alice).last).to_be_in_viewport()


async def test_no_frame_takes_long_and_memory_stays(at_a_browser, chromium, long_room):
    async with at_a_browser("bob", viewport={"width": 1280, "height": 800}) as bob:
        await bob.goto(f"/?room={long_room}")
        await connected(bob)
        await expect(contents(bob).last).to_contain_text(f"#{MESSAGES} ")
        tools = await bob.context.new_cdp_session(bob)
        sizes = []
        for _ in range(4):
            reached = await bob.evaluate(SCROLL, 120)
            await tools.send("HeapProfiler.collectGarbage")
            sizes.append(await bob.evaluate("performance.memory.usedJSHeapSize"))
        assert reached < MESSAGES - 100
        assert max(sizes[1:]) < min(sizes[1:]) * 1.5, sizes
        # What a busy machine does meanwhile is not the page's: the time is that of its own thread.
        await chromium.start_tracing(page=bob, categories=["toplevel", "devtools.timeline", "__metadata"])
        await bob.evaluate(SCROLL, 300)
        tasks = own_tasks(json.loads(await chromium.stop_tracing()))
        assert len(tasks) > 300
        assert tasks[0] < LONGEST_TASK, tasks[:10]
        await bob.get_by_role("button", name="Jump to the newest message").click()
        await write(bob, "Here again")
        await expect(contents(bob).last).to_have_text("Here again")
