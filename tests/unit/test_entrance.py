"""Many come at once: who is there already does not wait for all of them."""

import subprocess
import sys
from pathlib import Path

from salon.eventloop import SWITCH_INTERVAL

APP = Path(__file__).resolve().parents[2] / "app"
# What is tested brings Twisted's reactor, which is for a process of its own.
PROGRAM = """
import sys
from types import SimpleNamespace
from salon.server import ENTER_TOGETHER, Entrance

turns, begun, paused = [], [], []
entrance = Entrance(SimpleNamespace(call_later=lambda seconds, act: turns.append(act)))

def come(name):
    beginning = SimpleNamespace(
        connected=1,
        begin=lambda: begun.append(name),
        transport=SimpleNamespace(
            pauseProducing=lambda: paused.append(name), resumeProducing=lambda: paused.remove(name)
        ),
    )
    entrance.enter(beginning)
    return beginning

def turn():
    due = list(turns)
    turns.clear()
    for each in due:
        each()
"""


def run(text):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + text], cwd=APP, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_so_many_begin_in_one_turn_and_the_others_after_them_in_their_order():
    run(
        """
count = 2 * ENTER_TOGETHER + 1
for name in range(count):
    come(name)
assert begun == list(range(ENTER_TOGETHER)), begun
assert paused == list(range(ENTER_TOGETHER, count)), paused
turn()
assert begun == list(range(2 * ENTER_TOGETHER)), begun
# Whoever comes now comes after those who wait.
come("late")
turn()
assert begun == [*range(count), "late"], begun
assert paused == []
"""
    )


def test_who_has_gone_meanwhile_takes_nobody_s_place_and_a_rest_costs_nothing():
    run(
        """
for name in range(ENTER_TOGETHER):
    come(name)
gone, last = come("gone"), come("last")
gone.connected = 0
turn()
assert begun == [*range(ENTER_TOGETHER), "last"], begun
turn()
assert not turns
come("anew")
assert begun[-1] == "anew"
assert len(turns) == 1
"""
    )


def test_the_loop_is_favoured():
    run(
        f"""
import gc
from salon import eventloop
eventloop.favour()
assert gc.get_freeze_count() > 10_000
assert round(sys.getswitchinterval(), 6) == {SWITCH_INTERVAL}
"""
    )
