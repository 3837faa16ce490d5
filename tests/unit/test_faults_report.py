"""The table of the faults, and the page: what is bad must show."""

import pytest

from faults import report
from faults.catalogue import FAULTS
from faults.checker import Finding, Kind, Silence
from faults.rounds import Round

BY_NAME = {fault.name: fault for fault in FAULTS}
MACHINE = {"processor": "A processor", "cores": 2, "kernel": "6.1", "when": "2026-01-01 00:00 UTC"}


def round_of(name="kill-redis", silence=1.0, **changed):
    fault = BY_NAME[name]
    return Round(fault, 1, fault.lasts, lasted=30.0, silence=Silence(silence), acknowledged=1000, **changed)


def finding(kind):
    return Finding(kind, 7, 1, "so it is")


def test_each_fault_has_its_own_name_and_a_title():
    assert len(BY_NAME) == len(FAULTS) == 21
    assert len({fault.title.format(fault.lasts) for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        assert bool(fault.lasts) == bool(fault.end)
        assert "{" not in fault.title.format(fault.lasts)


def test_the_short_form_has_six():
    assert len([fault for fault in FAULTS if fault.short is not None]) == 6


@pytest.mark.parametrize(
    ("name", "lasted", "allowed"), [("kill-process", 0.1, 3), ("kill-redis", 30.5, 32.5), ("reboot", 20, 30)]
)
def test_how_long_a_silence_may_be(name, lasted, allowed):
    assert Round(BY_NAME[name], 1, lasted=lasted).allowed == allowed


def test_a_good_round():
    result = round_of()
    assert result.is_good
    assert result.details() == []
    assert "| Redis killed for 30 s | 1 | 30.0 | 1,000 | 0 | 0 | 0 | 0 | 1.0 | 32.0 |" in report.table([result])
    assert report.verdict([result]) == "All 1 rounds went as they should."


@pytest.mark.parametrize("kind", list(Kind))
def test_whatever_is_found_is_bad_and_counted(kind):
    result = round_of(findings=[finding(kind)])
    assert not result.is_good
    assert result.details() == [f"{kind.upper()}: person 1, room 7: so it is"]
    counts = report.table([result]).splitlines()[-1].split(" | ")[4:8]
    assert sorted(counts) == ["0", "0", "0", "1"]
    assert report.verdict([result]) == "**1 of 1 rounds did not go as they should**: kill-redis."


def test_trouble_is_bad_and_counted():
    result = round_of(trouble=["LATE: nobody came"])
    assert not result.is_good
    assert "| 0 | 0 | 0 | 1 | 1.0 |" in report.table([result])


def test_a_long_silence_is_bad():
    result = round_of(silence=32.1)
    assert not result.is_good
    assert "SILENT" in result.details()[0]
    assert "| **32.1** | 32.0 |" in report.table([result])


def test_rounds_of_a_fault_are_one_row():
    rows = report.table([round_of(), round_of(silence=9.0), round_of("reboot")]).splitlines()[2:]
    assert len(rows) == 2
    assert rows[0].startswith("| Redis killed for 30 s | 2 | 30.0 | 2,000 |")
    assert rows[0].endswith("| 9.0 | 32.0 |")


def test_much_of_a_kind_is_told_in_short():
    result = round_of(findings=[Finding(Kind.LOST, 7, person, "it never came") for person in range(1, 21)])
    assert len(result.details(most=6)) == 7
    assert result.details(most=6)[-1] == "… and 14 more of lost"


def test_the_page_says_where_it_was_made():
    page = report.page([round_of()], 3, MACHINE, ["nginx 1.26"])
    assert "A processor, 2 cores, Linux 6.1, with nginx 1.26, on 2026-01-01 00:00 UTC." in page
    assert "each 3 times" in page
