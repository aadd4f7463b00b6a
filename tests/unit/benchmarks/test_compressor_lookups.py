"""Questions about payloads have one answer, which the payload holds and the question does not tell."""

import json

import pytest

from benchmarks.compressor.lookups import lookups

RECORDS = [
    {"id": 1000 + i, "owner": {"name": f"owner {i}"}, "state": "open" if i % 3 else "shut", "note": "x" * 60, "one": 1}
    for i in range(60)
]
ELEMENT = (
    "<entry id='{0}'>\n  <name>name {0}</name>\n  <size unit='kB'>{0}7</size>\n" + "  <a>same</a>\n" * 40 + "</entry>\n"
)
XML = "<entries>\n" + "".join(ELEMENT.format(i) for i in range(8)) + "</entries>"
LOG = "".join(
    f"[Sun Dec 04 04:{i // 60:02d}:{i % 60:02d} 2005] [notice] jk2_init() Found child {6000 + i} in slot 10\n"
    for i in range(100)
)


def asked(*, is_held_out: bool = True, limit: int = 50):
    payloads = {"records.json": json.dumps({"items": RECORDS}), "entries.xml": XML}
    return list(lookups(payloads, {"Apache_2k.log": LOG}, is_held_out=is_held_out, limit=limit))


@pytest.mark.parametrize("is_held_out", [False, True])
def test_all_forms_are_asked_about(is_held_out):
    forms = [one.form for one in asked(is_held_out=is_held_out, limit=6)]
    assert forms == ["json"] * 6 + ["xml"] * 6 + ["log"] * 6


def test_the_payload_holds_the_answer_and_the_question_does_not():
    for one in asked():
        assert one.answer in one.payload
        assert one.answer.lower() not in one.question.lower()


def test_an_answer_is_that_of_the_record_which_is_named():
    found = [one for one in asked() if one.form == "json"]
    by_key = {str(value): record for record in RECORDS for value in (record["id"], record["owner"]["name"])}
    for one in found:
        record = by_key[one.question.rpartition(" is ")[2].rstrip("?")]
        assert one.answer in (str(record["id"]), record["owner"]["name"], record["state"])


def test_no_payload_is_on_both_sides():
    fitted, held_out = ({one.payload for one in asked(is_held_out=is_odd)} for is_odd in (False, True))
    assert fitted and held_out and not fitted & held_out


def test_every_run_asks_the_same():
    assert asked(limit=9) == asked(limit=9)
