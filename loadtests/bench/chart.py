"""A bar chart as SVG: plain shapes and text, no script, readable in the light and in the dark.

Our own because it is one screen, and the library at hand (pygal) puts a hook of the old kind into Python's imports.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

WIDTH, NAME_WIDTH, VALUE_WIDTH, BAR_HEIGHT, GAP, TOP = 760, 130, 120, 26, 12, 60
_COLOURS = ("#3182ce", "#dd6b20")


class Bar(NamedTuple):
    """One contestant: the parts of its bar, left to right."""

    name: str
    parts: tuple[float, float]


def draw(title: str, legend: tuple[str, str], bars: Sequence[Bar], file: Path) -> None:
    """Write a chart of stacked bars, the first at the top."""
    longest = max(sum(bar.parts) for bar in bars)
    scale = (WIDTH - NAME_WIDTH - VALUE_WIDTH) / longest
    height = TOP + len(bars) * (BAR_HEIGHT + GAP)
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>text {{ font: 14px sans-serif }}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="0" y="20" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (word, colour) in enumerate(zip(legend, _COLOURS, strict=True)):
        at = NAME_WIDTH + number * 100
        shapes.append(f'<rect x="{at}" y="32" width="12" height="12" fill="{colour}"/>')
        shapes.append(f'<text x="{at + 18}" y="43">{escape(word)}</text>')
    for number, bar in enumerate(bars):
        x, y = float(NAME_WIDTH), TOP + number * (BAR_HEIGHT + GAP)
        shapes.append(f'<text x="{NAME_WIDTH - 10}" y="{y + 18}" text-anchor="end">{escape(bar.name)}</text>')
        for part, colour in zip(bar.parts, _COLOURS, strict=True):
            width = part * scale
            shapes.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" fill="{colour}"/>')
            x += width
        shapes.append(f'<text x="{x + 8:.1f}" y="{y + 18}">{bar.parts[0]:.1f} + {bar.parts[1]:.1f}</text>')
    file.write_text("\n".join([*shapes, "</svg>"]) + "\n", encoding="utf-8")
