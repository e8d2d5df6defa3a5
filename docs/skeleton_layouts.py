"""Draws docs/skeleton-layouts.png: the joints of each layout, with the index of each.

Run from the checkout: python docs/skeleton_layouts.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from stream.vision.layouts import HAND_21, KINECT_20, MEDIAPIPE_33, UTD_MHAD_20, Layout

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

OUT = Path(__file__).with_name("skeleton-layouts.png")
LEFT, RIGHT, MIDDLE = "#e8871e", "#2b7bba", "#444444"

# Where the joints of the left side and the middle are drawn; the right side is their mirror image.
# The person looks at the reader, so that its left is on the right of the picture.
BODY = {
    "nose": (0.0, 8.6), "eye_inner": (0.28, 9.25), "eye": (0.62, 9.35), "eye_outer": (0.96, 9.25),
    "ear": (1.3, 8.7), "mouth": (0.35, 7.75), "shoulder": (1.3, 6.5), "elbow": (2.0, 4.9),
    "wrist": (2.5, 3.4), "pinky": (3.05, 2.75), "index": (2.6, 2.3), "thumb": (2.05, 2.6),
    "hand": (2.75, 2.6), "hip": (0.75, 3.4), "knee": (0.9, 1.4), "ankle": (1.0, -0.6),
    "heel": (0.75, -1.15), "foot_index": (1.5, -1.3), "foot": (1.4, -1.2),
    "head": (0.0, 8.4), "shoulder_center": (0.0, 6.7), "spine": (0.0, 4.6),
    "hip_center": (0.0, 3.6),
}  # fmt: skip
FINGERS = {"thumb": -2.4, "index": -1.1, "middle": 0.0, "ring": 1.0, "pinky": 2.0}


def spot(layout: Layout, joint: str) -> tuple[float, float]:
    """Return where a joint is drawn."""
    if layout is HAND_21:
        if joint == "wrist":
            return 0.0, 0.0
        finger, _, part = joint.partition("_")
        steps = ("cmc", "mcp", "ip", "tip") if finger == "thumb" else ("mcp", "pip", "dip", "tip")
        step, side = steps.index(part), FINGERS[finger]
        if finger == "thumb":
            return -0.75 - 0.55 * step, 0.9 + 0.8 * step
        return side * (0.85 + 0.12 * step), 3.4 - 0.12 * side**2 + 1.15 * step
    name = joint.removeprefix("left_").removeprefix("right_")
    x, y = BODY[name]
    return (-x, y) if joint.startswith("right_") else (x, y)


def draw(ax: Axes, layout: Layout, title: str) -> None:
    """Draw one layout."""
    place = {joint: spot(layout, joint) for joint in layout.joints}
    for a, b in layout.bones:
        ax.plot(*zip(place[a], place[b], strict=True), color=colour(a, b), lw=2, zorder=1)
    for number, joint in enumerate(layout.joints):
        x, y = place[joint]
        ax.plot(x, y, "o", ms=12, mec=colour(joint, joint), mfc="white", mew=1.6, zorder=2)
        ax.text(x, y - 0.02, str(number), ha="center", va="center", fontsize=6.5, zorder=3)
    ax.set_title(title, fontsize=10)
    ax.set_aspect("equal")
    ax.axis("off")


def colour(a: str, b: str) -> str:
    """Return the colour of a bone or, for twice the same joint, of that."""
    for side, shade in (("left_", LEFT), ("right_", RIGHT)):
        if a.startswith(side) and b.startswith(side):
            return shade
    return MIDDLE


def main() -> None:
    """Draw all layouts beside each other."""
    figure, axes = plt.subplots(1, 4, figsize=(13, 5.6), constrained_layout=True)
    draw(axes[0], MEDIAPIPE_33, "mediapipe-33")
    draw(axes[1], KINECT_20, "kinect-20 (also NW-UCLA)")
    draw(axes[2], UTD_MHAD_20, "utd-mhad-20")
    draw(axes[3], HAND_21, "mediapipe-hand-21")
    for ax in axes[:3]:
        for x, side, shade in ((-2.4, "right", RIGHT), (2.4, "left", LEFT)):
            ax.text(x, 8.6, side, color=shade, ha="center", fontsize=9)
    figure.savefig(OUT, dpi=110)


if __name__ == "__main__":
    main()
