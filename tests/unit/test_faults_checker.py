"""The checker of the faults, with logs that have each defect: what it would not find, no run would."""

import msgspec
import pytest

from faults.checker import Kind, check, counted, longest_silence
from faults.events import Acknowledged, Closed, Connected, Diary, Joined, Seen, Sent, Stored, Told, content, keep, read

ANN, BOB, ROOM = 1, 2, 7


def message(seq, /, sender=ANN, client_id=None, **changed):
    name = client_id or f"{sender}-{seq}"
    written = Stored(
        room=ROOM,
        seq=seq,
        uuid=f"u{seq}",
        sender=sender,
        client_id=name,
        content=content(name),
        created_at=f"2026-01-01T00:00:{seq:02}.000000Z",
    )
    return msgspec.structs.replace(written, **changed)


def seen(seq, /, *, at=None, connection=1, live=True, **changed):
    given = message(seq)
    event = Seen(
        at=float(seq) if at is None else at,
        connection=connection,
        room=ROOM,
        seq=seq,
        uuid=given.uuid,
        sender=given.sender,
        client_id=given.client_id,
        live=live,
    )
    return msgspec.structs.replace(event, **changed)


def sent(seq, connection=1):
    return Sent(at=float(seq), connection=connection, room=ROOM, client_id=f"{ANN}-{seq}")


def acknowledged(seq, /, **changed):
    event = Acknowledged(at=float(seq), connection=1, room=ROOM, client_id=f"{ANN}-{seq}", seq=seq, uuid=f"u{seq}")
    return msgspec.structs.replace(event, **changed)


def diary(*events, person=ANN, began=0, joined=True):
    return Diary(person, {ROOM: began}, list(events), {ROOM} if joined else set())


STORED = [message(1), message(2), message(3)]


def kinds(diaries, stored=STORED):
    return dict(counted(check(diaries, stored)))


def test_a_conversation_as_it_should_be():
    writer = [entry for seq in (1, 2, 3) for entry in (sent(seq), seen(seq), acknowledged(seq))]
    assert check([diary(*writer), diary(seen(1), seen(2), seen(3), person=BOB)], STORED) == []


def test_a_conversation_over_two_connections():
    reader = diary(
        Connected(at=0, connection=1),
        Joined(at=0, connection=1, room=ROOM, since=0),
        seen(1),
        Closed(at=1, connection=1, code=1006, why="gone"),
        Connected(at=2, connection=2),
        seen(2, connection=2, live=False),
        Joined(at=2, connection=2, room=ROOM, since=1),
        seen(3, connection=2),
        person=BOB,
    )
    assert check([reader], STORED) == []


def test_what_was_said_before_is_not_asked_for():
    assert kinds([diary(seen(3), began=2)]) == {}
    assert kinds([diary(seen(3), person=BOB, began=2)], STORED[2:]) == {}


def test_an_acknowledged_message_that_is_not_stored():
    assert kinds([diary(sent(4), acknowledged(4), seen(1), seen(2), seen(3))]) == {Kind.LOST: 1}


@pytest.mark.parametrize("changed", [{"seq": 2}, {"client_id": "1-2"}, {"room": 8}])
def test_an_acknowledged_message_that_is_another(changed):
    events = seen(1), seen(2), seen(3), sent(1), acknowledged(1), acknowledged(1, **changed)
    assert kinds([diary(*events)]) == {Kind.CHANGED: 1}


def test_an_acknowledgement_to_somebody_else():
    events = seen(1), seen(2), seen(3), acknowledged(1)
    assert kinds([diary(*events, person=BOB)]) == {Kind.CHANGED: 1}


def test_a_message_that_never_came():
    assert kinds([diary(seen(1), seen(3))]) == {Kind.LOST: 1}
    assert kinds([diary(seen(1))]) == {Kind.LOST: 2}
    assert kinds([diary()]) == {Kind.LOST: 3}


def test_what_was_lost_is_told_in_one_line():
    sentences = {finding.sentence for finding in check([diary(seen(2))], [*STORED, message(4)])}
    assert sentences == {"1 never came", "3 to 4 never came"}


def test_an_unacknowledged_message_may_be_stored_but_everybody_sees_it():
    assert kinds([diary(seen(1), seen(2), seen(3)), diary(seen(1), seen(2), person=BOB)]) == {Kind.LOST: 1}


def test_a_double_on_one_connection():
    found = check([diary(seen(1), seen(2), seen(2), seen(3))], STORED)
    assert [(each.kind, each.sentence) for each in found] == [(Kind.DOUBLED, "2 came twice, on connection 1")]


def test_a_double_on_two_connections():
    found = check([diary(seen(1), seen(2), seen(2, connection=2, live=False), seen(3, connection=2))], STORED)
    assert [(each.kind, each.sentence) for each in found] == [(Kind.DOUBLED, "2 came twice, on connection 1 and on 2")]


def test_a_double_of_what_came_before_the_diary_begins():
    assert kinds([diary(seen(2), seen(3), began=2)]) == {Kind.DOUBLED: 1}


def test_who_sends_again_is_answered_again():
    again = sent(2), seen(1), seen(2, connection=2, live=False), sent(2, connection=2), seen(2, connection=2), seen(3)
    assert kinds([diary(*again, acknowledged(2))]) == {}
    # Nobody else is.
    others = seen(1), seen(2), seen(2), seen(3)
    assert kinds([diary(*again, acknowledged(2)), diary(*others, person=BOB)]) == {Kind.DOUBLED: 1}


def test_out_of_order_on_one_connection():
    assert kinds([diary(seen(1), seen(3), seen(2))]) == {Kind.DISORDERED: 1}


def test_out_of_order_over_two_connections():
    assert kinds([diary(seen(1), seen(3), seen(2, connection=2, live=False))]) == {Kind.DISORDERED: 1}


def test_dated_out_of_order():
    turned = message(3, created_at=STORED[0].created_at)
    assert kinds([diary(seen(1), seen(2), seen(3))], [*STORED[:2], turned]) == {Kind.DISORDERED: 1}


def test_a_gap_in_the_database():
    assert kinds([diary(seen(1), seen(3))], [message(1), message(3)]) == {Kind.GAP: 1}
    # Also at the very beginning.
    assert kinds([diary(seen(2))], [message(2)]) == {Kind.GAP: 1}


def test_stored_twice():
    twice = [message(1), message(2, client_id="1-1")]
    assert kinds([diary(seen(1), seen(2, client_id="1-1"))], twice) == {Kind.DOUBLED: 1}


def test_stored_twice_under_one_number():
    twice = [message(1), message(1, client_id="1-9", uuid="u9", created_at="2026-01-01T00:00:09.000000Z")]
    assert kinds([diary(seen(1), seen(1, uuid="u9"))], twice) == {Kind.DOUBLED: 1}


def test_stored_with_another_content():
    changed = message(2, content=content("1-3"))
    assert kinds([diary(seen(1), seen(2), seen(3))], [STORED[0], changed, STORED[2]]) == {Kind.CHANGED: 1}


def test_seen_and_not_stored():
    assert kinds([diary(seen(1), seen(2), seen(3), seen(4))]) == {Kind.INVENTED: 1}


def test_seen_under_another_number():
    assert kinds([diary(seen(1), seen(2), seen(3, uuid="u2", seq=3), seen(3))])[Kind.DOUBLED] == 1
    assert kinds([diary(seen(1), seen(4, uuid="u2"), seen(5, uuid="u3"))])[Kind.CHANGED] == 2


def test_never_answered():
    assert kinds([diary(seen(1), seen(2), seen(3), sent(4))]) == {Kind.UNANSWERED: 1}
    later = Told(at=5, connection=1, code="unavailable", client_id="1-4", final=False)
    assert kinds([diary(seen(1), seen(2), seen(3), sent(4), later)]) == {Kind.UNANSWERED: 1}


def test_refused_for_good():
    refused = Told(at=5, connection=1, code="invalid_room", client_id="1-4", final=True)
    assert kinds([diary(seen(1), seen(2), seen(3), sent(4), refused)]) == {Kind.REFUSED: 1}
    nameless = Told(at=5, connection=1, code="token_expired", client_id=None, final=True)
    assert kinds([diary(seen(1), seen(2), seen(3), nameless)]) == {Kind.REFUSED: 1}


def test_not_back_at_the_end():
    # What never came to her is not lost yet.
    assert kinds([diary(seen(1), joined=False)]) == {Kind.ABSENT: 1}


def test_a_finding_says_who_and_where():
    [finding] = check([diary(seen(1), seen(3), person=BOB)], STORED)
    assert str(finding) == "LOST: person 2, room 7: 2 never came"


def test_silence_is_the_longest_time_without_anything_new():
    events = seen(1, at=1.0), seen(2, at=2.0), seen(2, at=4.0), seen(3, at=6.5)
    silence = longest_silence([diary(*events)], 0.5, 7.0)
    # What came again is nothing new.
    assert (silence.seconds, silence.person, silence.room, silence.since) == (4.5, ANN, ROOM, 2.0)


def test_silence_counts_from_the_beginning_and_to_the_end():
    assert longest_silence([diary(seen(1, at=5.0))], 1.0, 6.0).seconds == 4.0
    assert longest_silence([diary(seen(1, at=2.0))], 1.0, 6.0).seconds == 4.0
    assert longest_silence([diary()], 1.0, 6.0).seconds == 5.0


def test_silence_is_of_the_one_who_waited_longest():
    first = diary(seen(1, at=1.0), seen(2, at=2.0))
    second = diary(seen(1, at=1.0), person=BOB)
    assert longest_silence([first, second], 0.0, 3.0).person == BOB


def test_diaries_are_kept_and_read_again(tmp_path):
    kept = [diary(Connected(at=0.5, connection=1), sent(1), seen(1), acknowledged(1)), diary(person=BOB, joined=False)]
    keep(tmp_path / "log.jsonl", kept, STORED)
    assert read(tmp_path / "log.jsonl") == (kept, STORED)
