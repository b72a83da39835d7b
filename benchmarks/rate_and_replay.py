"""What the rate and replay do in the table of stories260k: the figures of docs/guides/searching-well.md, and its picture.

python -m benchmarks.rate_and_replay > docs/images/rate_and_replay.svg   (the table goes to stderr)
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path

TABLE = Path(__file__).parent / "tables" / "stories260k.csv"
FULL_STEPS = "108"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 330, 60, 20, 20, 48
FORGETTING, LOSS = (0.0, 4.0), (2.2, 4.0)
# Readable on a light and on a dark page: no background, and nothing that is nearly white or nearly black.
INK, COLOURS = "#808080", {"0.0": "#d9731a", "0.25": "#2f86d6"}
NAMES = {"0.0": "no replay", "0.25": "a quarter of replay"}

Point = tuple[float, float]


def means() -> dict[tuple[str, str], tuple[Point, float]]:
    """By replay share and rate: mean forgetting and loss of the full runs over their schedules, and the spread of that loss."""
    runs = defaultdict(list)
    with TABLE.open() as stream:
        for row in csv.DictReader(stream):
            if row["step"] == row["trainer.max_steps"] == FULL_STEPS:
                runs[row["data.replay_share"], row["optim.lr"]].append(
                    (float(row["val/general/forgetting"]), float(row["val/target/loss"]))
                )
    found = {}
    for key, points in sorted(runs.items(), key=lambda item: float(item[0][1])):
        losses = [loss for _, loss in points]
        found[key] = (statistics.fmean(forgetting for forgetting, _ in points), statistics.fmean(losses)), max(losses) - min(losses)
    return found


def x(forgetting: float) -> float:
    return LEFT + (forgetting - FORGETTING[0]) / (FORGETTING[1] - FORGETTING[0]) * (WIDTH - LEFT - RIGHT)


def y(loss: float) -> float:
    return HEIGHT - BOTTOM - (loss - LOSS[0]) / (LOSS[1] - LOSS[0]) * (HEIGHT - TOP - BOTTOM)


def text(at: Point, words: str, anchor: str = "middle", colour: str = INK, turn: str = "") -> str:
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" fill="{colour}"{turn}>{words}</text>'


def line(begin: Point, end: Point) -> str:
    places = f'x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {places} stroke="{INK}" opacity=".3"/>'


def picture() -> str:
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="13">']
    for nats in range(5):
        parts.append(f'<line x1="{x(nats):.1f}" x2="{x(nats):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{INK}" opacity=".3"/>')
        parts.append(text((x(nats), HEIGHT - BOTTOM + 18), str(nats)))
    for loss in (2.5, 3.0, 3.5, 4.0):
        parts.append(line((LEFT, y(loss)), (WIDTH - RIGHT, y(loss))))
        parts.append(text((LEFT - 8, y(loss) + 4), f"{loss}", "end"))
    parts.append(text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8), "forgetting: rise of the loss on general text, nats"))
    middle = (HEIGHT - BOTTOM + TOP) / 2
    parts.append(text((16, middle), "loss on the target, nats", turn=f' transform="rotate(-90 16 {middle})"'))
    found = means()
    for replay, colour in COLOURS.items():
        points = [(rate, *point) for (share, rate), (point, _) in found.items() if share == replay]
        path = " ".join(f"{x(forgetting):.1f},{y(loss):.1f}" for _, forgetting, loss in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for rate, forgetting, loss in points:
            parts.append(f'<circle cx="{x(forgetting):.1f}" cy="{y(loss):.1f}" r="4.5" fill="{colour}"/>')
            beside = y(loss) + (20 if replay != "0.0" else -10)
            parts.append(text((x(forgetting), beside), f"{float(rate):.0e}".replace("e-0", "e-"), colour=colour))
    for place, (replay, colour) in enumerate(COLOURS.items()):
        parts.append(f'<circle cx="{LEFT + 16}" cy="{TOP + 14 + 22 * place}" r="4.5" fill="{colour}"/>')
        parts.append(text((LEFT + 28, TOP + 18 + 22 * place), f"{NAMES[replay]}; points are learning rates", "start", colour))
    return "\n".join([*parts, "</svg>"])


if __name__ == "__main__":
    print("replay  lr     loss   forgetting  spread of the loss over schedules", file=sys.stderr)
    for (replay, rate), ((forgetting, loss), spread) in means().items():
        print(f"{replay:7} {rate:6} {loss:.3f}  {forgetting:.3f}       {spread:.3f}", file=sys.stderr)
    print(picture())
