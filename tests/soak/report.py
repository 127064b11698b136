"""What a soak found: JSON for machines, one page with pictures for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

WIDTH: Final = 900
HEIGHT: Final = 120
_LEFT: Final = 60
_COLOURS: Final = ("#1b6ca8", "#c0392b", "#27864a", "#8e44ad", "#b9770e", "#117a8b", "#555", "#d35400")

Line = Sequence[tuple[float, float]]


def picture(title: str, lines: Mapping[str, Line], marks: Sequence[tuple[float, str]], end_s: float) -> str:
    """An SVG: each line over time, and a mark for each thing that was done, whose title says what."""
    top = max((value for line in lines.values() for _, value in line), default=0.0) or 1.0

    def x(at_s: float) -> float:
        return _LEFT + (WIDTH - _LEFT) * min(at_s / max(end_s, 1.0), 1.0)

    def y(value: float) -> float:
        return HEIGHT - HEIGHT * max(value, 0.0) / top

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -18 {WIDTH} {HEIGHT + 36}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<text x="{_LEFT}" y="-5" font-size="12">{escape(title)}</text>',
        f'<text x="0" y="8" font-size="10">{top:,.0f}</text><text x="0" y="{HEIGHT}" font-size="10">0</text>',
        f'<line x1="{_LEFT}" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}" stroke="#999"/>',
    ]
    parts += [
        f'<line x1="{x(at_s):.1f}" y1="0" x2="{x(at_s):.1f}" y2="{HEIGHT}" stroke="#ddd">'
        f"<title>{at_s:.0f} s: {escape(what)}</title></line>"
        for at_s, what in marks
    ]
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(f"{x(at_s):.1f},{y(value):.1f}" for at_s, value in line)
        parts.append(
            f'<polyline fill="none" stroke="{colour}" points="{points}"><title>{escape(name)}</title></polyline>'
        )
        where = _LEFT + 110 * number
        parts.append(f'<text x="{where}" y="{HEIGHT + 14}" font-size="10" fill="{colour}">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def page(report: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """`report` has `seed`, `checks` (by name what was broken), `figures`, `blows`, `happenings`."""
    checks = "".join(
        f"<tr><td>{escape(name)}</td><td>{'kept' if not broken else f'<b>broken {len(broken)} times</b>'}</td>"
        f"<td><pre>{escape(chr(10).join(map(str, broken[:10])))}</pre></td></tr>"
        for name, broken in report["checks"].items()
    )
    figures = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>"
        for name, value in {**report["figures"], **report["blows"]}.items()
    )
    happenings = "".join(f"<tr><td>{at:.1f} s</td><td>{escape(what)}</td></tr>" for at, what in report["happenings"])
    return (
        "<!doctype html><meta charset=utf-8><title>Soak</title>"
        "<style>body{font:14px sans-serif;max-width:60em;margin:2em auto}table{border-collapse:collapse}"
        "td{border:1px solid #ddd;padding:.2em .6em;vertical-align:top}pre{margin:0;white-space:pre-wrap}</style>"
        f"<h1>Soak of seed {escape(str(report['seed']))}</h1><p>{escape(report['command'])}</p>"
        f"<table>{checks}</table>{''.join(f'<p>{one}</p>' for one in pictures)}"
        f"<h2>Figures</h2><table>{figures}</table><h2>What was done</h2><table>{happenings}</table>"
    )
