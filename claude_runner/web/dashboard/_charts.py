"""Charts as inline SVG: pure functions from numbers to markup. Colours are the style sheet's, by class."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Final, NamedTuple

from markupsafe import Markup, escape

TOP: Final = 8
BOTTOM: Final = 24
LABELS: Final = 6  # under a chart, about


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers of one kind, one for each label of the chart."""

    name: str
    css: str
    values: Sequence[float]


class _Plot(NamedTuple):
    """The rectangle that the data is drawn in."""

    left: float
    width: float
    height: float
    ceiling: float

    def y(self, value: float) -> float:
        return TOP + self.height * (1 - value / self.ceiling)


def nice_ceiling(value: float) -> float:
    """Return the least number of one digit, or of two that end in 2.5's multiples, that is not below the value."""
    if value <= 0:
        return 1
    magnitude = 10.0 ** floor(log10(value))
    return next(step * magnitude for step in (1, 2, 2.5, 5, 10) if step * magnitude >= value * 0.999999)


def stacked_bars(
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    title: str,
    links: Sequence[str] = (),
    width: int = 560,
    height: int = 190,
) -> Markup:
    """Return bars of several series on top of each other, one bar for each label, each a link where links are given."""
    totals = [sum(each.values[place] for each in series) for place in range(len(labels))]
    plot = _Plot(34, width - 38, height - BOTTOM - TOP, max(nice_ceiling(max(totals, default=0)), 2))
    slot = plot.width / max(len(labels), 1)
    bar = min(slot * 0.72, 28)

    def drawn(place: int) -> str:
        y, x = plot.y(0), plot.left + slot * place + (slot - bar) / 2
        pieces = []
        for each in series:
            tall = plot.height * each.values[place] / plot.ceiling
            if tall:
                y -= tall
                pieces.append(
                    f'<rect class="{each.css}" x="{x:.1f}" y="{y:.1f}" width="{bar:.1f}" '
                    f'height="{max(tall - 1, 0.5):.1f}" rx="2"/>'
                )
        return "".join(pieces)

    def told(place: int) -> str:
        parts = [f"{each.values[place]:,g} {each.name}" for each in series if each.values[place]]
        return f"{labels[place]}: {', '.join(parts) or 'no runs'}"

    body = "".join(
        _slot(plot, slot, place, told(place), drawn(place), links[place] if links else None)
        for place in range(len(labels))
    )
    return _chart(
        title, width, height, plot, labels, slot, body, lambda value: f"{value:g}", is_linked=bool(links)
    )


def area(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    tell: Callable[[float], str],
    width: int = 560,
    height: int = 190,
) -> Markup:
    """Return a line over the labels with the area below it; `tell` puts a value into words."""
    plot = _Plot(46, width - 50, height - BOTTOM - TOP, nice_ceiling(max(values, default=0)))
    slot = plot.width / max(len(values), 1)
    points = [(plot.left + slot * (place + 0.5), plot.y(value)) for place, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    ground = plot.y(0)
    shape = ""
    if points:
        shape = (
            f'<polygon class="area" points="{points[0][0]:.1f},{ground:.1f} {line} {points[-1][0]:.1f},{ground:.1f}"/>'
            f'<polyline class="line" points="{line}"/>'
        )
    body = shape + "".join(
        _slot(
            plot, slot, place, f"{labels[place]}: {tell(values[place])}",
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>', None,
        )
        for place, (x, y) in enumerate(points)
    )  # fmt: skip
    return _chart(title, width, height, plot, labels, slot, body, tell)


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    classes: Sequence[str],
    links: Sequence[str],
    *,
    title: str,
    tell: Callable[[float], str],
    width: int = 720,
    height: int = 180,
) -> Markup:
    """Return one bar for each label, of a class of its own and a link; `tell` puts a value into words."""
    plot = _Plot(46, width - 50, height - BOTTOM - TOP, nice_ceiling(max(values, default=0)))
    slot = plot.width / max(len(labels), 1)
    bar = min(slot * 0.72, 28)

    def drawn(place: int) -> str:
        tall = max(plot.height * values[place] / plot.ceiling, 1)  # what took no time was there as well
        x, y = plot.left + slot * place + (slot - bar) / 2, plot.y(0) - tall
        size = f'width="{bar:.0f}" height="{tall:.0f}"'
        return f'<rect class="{classes[place]}" x="{x:.0f}" y="{y:.0f}" {size} rx="2"/>'

    body = "".join(
        _slot(plot, slot, place, f"{label}: {tell(values[place])}", drawn(place), links[place])
        for place, label in enumerate(labels)
    )
    return _chart(title, width, height, plot, labels, slot, body, tell, is_linked=True)


def strip(outcomes: Sequence[str], words: Sequence[str]) -> Markup:
    """Return results as a strip of pills, oldest first.

    Args:
        outcomes: The class of each.
        words: What each is called on hover, unless it is as it should be.
    """
    if not outcomes:
        return Markup('<span class="muted">no runs yet</span>')
    cells = "".join(
        "<i></i>" if outcome == "ok" else f'<i class="{outcome}" title="{escape(word)}"></i>'
        for outcome, word in zip(outcomes, words, strict=True)
    )  # few bytes, since a list has a thousand of them and is sent again as it changes
    failed = sum(outcome == "bad" for outcome in outcomes)
    label = f"The last {len(outcomes)} results, {failed or 'none'} failed"
    return Markup(f'<span class="strip" role="img" aria-label="{label}">{cells}</span>')


@dataclass(frozen=True, slots=True)
class Mark:
    """Something on a timeline: where, as a share of it from 0 to 1, and what it is."""

    at: float
    css: str
    words: str
    link: str


def timeline(
    lanes: Sequence[tuple[str, Sequence[Mark]]],
    ticks: Sequence[tuple[float, str]],
    *,
    title: str,
    width: int = 1080,
) -> Markup:
    """Return lanes of marks over time, each lane with its name and each mark a link.

    Args:
        lanes: The name of each and what happens in it.
        ticks: Where along the timeline, from 0 to 1, and what stands there.
        title: What it shows.
        width: In the drawing's own units.
    """
    left, row = 190, 26
    wide, tall = width - left - 16, row * len(lanes)
    out = [
        f'<svg class="chart timeline" viewBox="0 0 {width} {tall + BOTTOM + 4}" role="group" '
        f'aria-label="{escape(title)}">'
    ]
    for share, words in ticks:
        x = left + wide * share
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{tall}"/>')
        out.append(
            f'<text class="tick" x="{x:.1f}" y="{tall + 16}" text-anchor="middle">{escape(words)}</text>'
        )
    for place, (name, marks) in enumerate(lanes):
        y = row * place + row / 2
        short = name if len(name) <= 26 else f"{name[:25]}…"
        out.append(f'<text class="lane" x="0" y="{y + 4:.1f}">{escape(short)}</text>')
        out.append(f'<line class="grid" x1="{left}" x2="{left + wide}" y1="{y:.1f}" y2="{y:.1f}"/>')
        for mark in marks:
            words = escape(mark.words)
            out.append(
                f'<a href="{escape(mark.link)}" aria-label="{words}" data-tip>'
                f'<circle class="{mark.css}" cx="{left + wide * mark.at:.1f}" cy="{y:.1f}" r="6"/></a>'
            )
    out.append("</svg>")
    return Markup("".join(out))


def _slot(plot: _Plot, width: float, place: int, words: str, drawn: str, link: str | None) -> str:
    told = escape(words)
    hit = (
        f'<rect class="hit" x="{plot.left + width * place:.1f}" y="{TOP}" '
        f'width="{width:.1f}" height="{plot.height}"/>'
    )
    if link is None:
        return f'<g class="slot" data-tip="{told}">{hit}{drawn}</g>'
    return f'<a class="slot" href="{escape(link)}" aria-label="{told}" data-tip>{hit}{drawn}</a>'


def _chart(
    title: str,
    width: int,
    height: int,
    plot: _Plot,
    labels: Sequence[str],
    slot: float,
    body: str,
    tell: Callable[[float], str],
    *,
    is_linked: bool = False,
) -> Markup:
    role = "group" if is_linked else "img"  # what is in an image can't be reached
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="{role}" aria-label="{escape(title)}">'
        + "".join(_grid(plot, tell))
        + body
        + "".join(_labels(plot, labels, slot, height))
        + "</svg>"
    )


def _grid(plot: _Plot, tell: Callable[[float], str]) -> Iterator[str]:
    for share in (0, 0.5, 1):
        y = plot.y(plot.ceiling * share)
        yield f'<line class="grid" x1="{plot.left}" x2="{plot.left + plot.width}" y1="{y:.1f}" y2="{y:.1f}"/>'
        words = escape(tell(plot.ceiling * share))
        yield f'<text class="tick" x="{plot.left - 6}" y="{y + 3:.1f}" text-anchor="end">{words}</text>'


def _labels(plot: _Plot, labels: Sequence[str], slot: float, height: int) -> Iterator[str]:
    every = max(len(labels) // LABELS, 1)
    for place in range(0, len(labels), every):
        x = plot.left + slot * (place + 0.5)
        yield f'<text class="tick" x="{x:.1f}" y="{height - 6}" text-anchor="middle">{escape(labels[place])}</text>'
