"""The page is well-formed, whatever stands in it."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.soak.report import page, picture

EVIL = '<script>alert("x")</script> & more'


def test_a_picture_has_each_line_and_each_mark_and_is_xml() -> None:
    lines = {"a": [(0.0, 1.0), (10.0, 3.0)], EVIL: [(5.0, 2.0)], "nothing": []}
    drawn = ElementTree.fromstring(picture(EVIL, lines, [(4.0, EVIL)], 10.0))
    space = "{http://www.w3.org/2000/svg}"
    assert len(drawn.findall(f"{space}polyline")) == 3
    assert [one.findtext(f"{space}title") for one in drawn.findall(f"{space}line")] == [None, f"4 s: {EVIL}"]
    first = drawn.findall(f"{space}polyline")[0].get("points")
    assert first == "60.0,80.0 900.0,0.0"


def test_the_page_tells_what_was_kept_and_what_was_broken() -> None:
    report = {
        "seed": 7,
        "command": "python -m tests.soak",
        "checks": {"kept one": [], "broken one": [EVIL, "b"]},
        "figures": {"records": 3},
        "blows": {"kill": 2},
        "happenings": [(1.5, EVIL)],
    }
    text = page(report, ["<svg/>"])
    assert "<script>" not in text
    assert "<td>kept one</td><td>kept</td>" in text
    assert "broken 2 times" in text
    assert "1.5 s" in text
