"""The plot of a run: an SVG that reads in light and in dark, written by hand."""

from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from load.figures import short

WIDTH, LEFT, RIGHT = 880, 230, 170
BAR, GAP, HEAD, SPACE = 18, 8, 44, 26

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 15px }
  .small { font-size: 12px; fill: #59636e }
  .number { font-variant-numeric: tabular-nums }
  .ground { fill: #ffffff }
  .ours { fill: #0b6bcb }
  .theirs { fill: #a3adb8 }
  .floor { fill: #d9a441 }
  .spread { stroke: #1f2328; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small { fill: #9aa4af }
    .ground { fill: #0d1117 }
    .ours { fill: #58a6ff }
    .theirs { fill: #59636e }
    .floor { fill: #d9a441 }
    .spread { stroke: #e6edf3 }
  }
"""


@dataclass(frozen=True)
class Panel:
    """One question: a figure of a scenario, for all who have it."""

    title: str
    scenario: str
    figure: str
    unit: str


PANELS = (
    Panel("CPU of the application for a delivered message, rooms of 100", "rooms-of-100", "app_us_per_delivery", "µs"),
    Panel("CPU of all server processes for a message, rooms of 4", "rooms-of-4", "all_us_per_message", "µs"),
    Panel("Handshakes for a CPU second of all server processes (more is better)", "handshakes", "per_cpu_second", ""),
    Panel("Memory of an idle connection", "idle", "kib_per_connection", "KiB"),
    Panel("99 % of messages come within, at half of what Socket.IO carries", "capacity", "50 % of d: p99_ms", "ms"),
)


def svg(run: dict[str, Any]) -> str:
    """The panels of what was measured, one below the other."""
    parts, y = [], 16
    for panel in PANELS:
        bars = _bars(run, panel)
        if bars:
            parts.append(_panel(panel, bars, run["contenders"], y))
            y += HEAD + len(bars) * (BAR + GAP) + SPACE
    for line in _where(run):
        parts.append(f'<text class="small" x="16" y="{y}">{escape(line)}</text>')
        y += 18
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" '
        f'aria-label="Salon beside other chat servers: what was measured">\n<style>{STYLE}</style>\n'
        f'<rect class="ground" width="{WIDTH}" height="{y}" rx="6"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bars(run: dict[str, Any], panel: Panel) -> dict[str, dict[str, float]]:
    """The figures of the contenders and of the bare loop; a scenario may have further ones, of another load."""
    figures = run["scenarios"].get(panel.scenario, {}).get("figures", {})
    found = {who: each[panel.figure] for who, each in figures.items() if panel.figure in each and "," not in who}
    order = sorted(found, key=lambda who: (who != "send", who))
    return {who: found[who] for who in order}


def _panel(panel: Panel, bars: dict[str, dict[str, float]], names: dict[str, str], top: int) -> str:
    lines = [f'<text class="title" x="16" y="{top + 18}">{escape(panel.title)}</text>']
    scale = (WIDTH - LEFT - RIGHT) / max(figure["greatest"] for figure in bars.values())
    y = top + HEAD - 8
    for who, figure in bars.items():
        name = names.get(who, "send(2) in C, the kernel alone")
        kind = {"a": "ours", "send": "floor"}.get(who, "theirs")
        middle = y + BAR / 2
        least, most = (LEFT + figure[end] * scale for end in ("least", "greatest"))
        length = max(1.0, figure["median"] * scale)
        value = f"{short(figure['median'])} {panel.unit}".strip()
        spread = f"{short(figure['least'])} to {short(figure['greatest'])}"
        lines += [
            f'<text x="{LEFT - 10}" y="{middle + 4.5}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>',
            f'<line class="spread" x1="{least:.1f}" x2="{most:.1f}" y1="{middle}" y2="{middle}"/>',
            f'<text class="number" x="{most + 8:.1f}" y="{middle + 4.5}">{escape(value)}'
            f'<tspan class="small" dx="8">{spread}</tspan></text>',
        ]
        y += BAR + GAP
    return "\n".join(lines)


def _where(run: dict[str, Any]) -> list[str]:
    machine, versions = run["machine"], run["versions"]
    programs = ", ".join(
        f"{name} {versions[name]}" for name in ("Python", "Node", "PostgreSQL", "Redis") if name in versions
    )
    return [
        f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel'].split('-')[0]}; {programs}",
        f"{machine['when']}; bars are medians of the rounds, lines their spread",
    ]
