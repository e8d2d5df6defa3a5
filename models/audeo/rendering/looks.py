"""How a keyboard, its light, the hands and the camera look in one clip; drawn at random.

Lengths are in widths of a white key (about 23.5 mm), colours are blue, green, red from 0 to 255.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Random = np.random.Generator
Colour = NDArray[np.float64]

TRAINING_FAMILIES = ("digital", "acoustic", "bright", "dim")
UNSEEN_FAMILY = "ivory"
"""A family of looks that no training sees: yellowed, uneven keys under a warm lamp at the side."""

SKINS = ((205, 220, 240), (170, 195, 230), (140, 172, 218), (110, 145, 200), (75, 105, 160),
         (50, 72, 118), (38, 52, 88))  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Everything that stays the same during a clip."""

    # Keys.
    white: Colour
    white_spread: float
    black: Colour
    sheen: float
    gap: Colour
    gap_width: float
    wall: float
    front_face: float
    slip: Colour
    case: Colour
    floor: Colour
    floor_texture: float
    white_length: float
    white_depth: float
    black_width: float
    black_length: float
    black_height: float
    black_depth: float
    black_slope: float
    black_taper: float
    # Shadow of a black key on the white beside it, on one side: how wide, and how dark.
    contact_width: float
    contact: float
    # What pressing does besides moving a key: its face in shade, a black one less glossy in front,
    # more of what is in front of a white one and a darker gap beside it.
    press_shade: float
    press_gloss: float
    press_front: float
    press_gap: float
    # Light.
    gain: float
    tint: Colour
    gradient_u: float
    gradient_y: float
    blotches: float
    drift: float
    shadow_u: float
    shadow_y: float
    shadow_strength: float
    shadow_softness: float
    # Hands. How wide the last joint is against the others, how much brighter a nail is, and
    # whether they move as in `loose_hands`.
    skin: Colour
    finger_width: float
    hand_size: float
    finger_shade: float
    hover: float
    feints: float
    sleeve: Colour | None
    finger_tip: float
    nail: float
    loose: bool
    # Camera.
    camera_u: float
    camera_y: float
    camera_height: float
    px_per_white: float
    rate_hz: float
    blur_px: float
    noise: float
    jpeg_quality: int
    sharpen: float
    held_blocks: float
    exposure_share: float
    blend: float


def draw_look(rng: Random, family: str) -> Look:
    """Draw a look of a family.

    Raises
    ------
    KeyError
        There is no such family.
    """
    return _FAMILIES[family](rng, _any_look(rng))


def loosen(rng: Random, look: Look, middle_u: float) -> Look:
    """Return a look with hands as people have them, and often the view of a cheap camera on them.

    It then is over the middle of what is shown, has few pixels for a key, and burns whites out.
    """
    u = rng.uniform
    gain, skin = look.gain, look.skin
    if rng.random() < 0.6:
        gain = float(u(1.1, 1.6))
        look = replace(
            look, white=_grey(rng, 225, 250, 3), gap=_grey(rng, 120, 225, 4),
            gap_width=float(u(0.015, 0.06)), gain=gain, black=_grey(rng, 15, 60, 3),
            gradient_u=look.gradient_u / 2, gradient_y=look.gradient_y / 2,
            px_per_white=float(u(8, 13)), camera_u=middle_u + float(rng.normal(0, 4)),
            camera_y=3.5 + look.camera_height * float(np.tan(u(-0.12, 0.12))),
        )  # fmt: skip
        # What exposes hands well burns whites out.
        skin = skin * u(0.8, 1.1) / gain
    return replace(
        look, loose=True, skin=skin, finger_width=float(u(0.55, 0.95)),
        finger_tip=float(u(0.5, 0.9)), nail=float(u(-60, 35)), finger_shade=float(u(0.7, 1.0)),
        hand_size=float(u(0.85, 1.2)), feints=float(u(0, 2)),
    )  # fmt: skip


def _grey(rng: Random, low: float, high: float, tint: float = 6.0) -> Colour:
    return np.clip(rng.uniform(low, high) + rng.normal(0, tint, 3), 0, 255)


def _any_look(rng: Random) -> Look:
    u = rng.uniform

    def sometimes(chance: float, most: float) -> float:
        return float(u(0, most)) if rng.random() < chance else 0.0

    height = float(np.exp(u(np.log(22), np.log(85))))
    tilt = u(-0.08, 0.6) if rng.random() < 0.5 else u(-0.1, 0.12)
    skin = np.array(SKINS[int(rng.integers(len(SKINS)))], float)
    px = float(np.exp(u(np.log(8), np.log(24))))
    return Look(
        white=_grey(rng, 215, 250, 4), white_spread=float(abs(rng.normal(0, 2))),
        black=_grey(rng, 8, 55, 3), sheen=u(0, 50), gap=_grey(rng, 40, 165),
        gap_width=u(0.025, 0.09), wall=u(0.12, 0.75), front_face=u(0.35, 0.95),
        slip=_grey(rng, 5, 80), case=_grey(rng, 5, 120, 12), floor=_grey(rng, 15, 190, 20),
        floor_texture=u(0, 25), white_length=u(6.15, 6.5), white_depth=u(0.34, 0.5),
        black_width=u(0.5, 0.62), black_length=u(3.85, 4.2), black_height=u(0.42, 0.56),
        black_depth=u(0.28, 0.42), black_slope=u(0.15, 0.5), black_taper=u(0, 0.08),
        contact_width=u(0.03, 0.2), contact=sometimes(0.7, 0.7),
        press_shade=sometimes(0.5, 0.08), press_gloss=sometimes(0.6, 0.5),
        press_front=sometimes(0.3, 0.2), press_gap=sometimes(0.6, 0.6),
        gain=u(0.75, 1.25), tint=np.clip(1 + rng.normal(0, 0.05, 3), 0.8, 1.2),
        gradient_u=rng.normal(0, 0.1), gradient_y=rng.normal(0, 0.1), blotches=u(0, 0.08),
        drift=abs(rng.normal(0, 0.02)), shadow_u=rng.normal(0, 0.5), shadow_y=rng.normal(-0.2, 0.5),
        shadow_strength=u(0.05, 0.55), shadow_softness=u(0.15, 1.0),
        skin=np.clip(skin * u(0.75, 1.1) + rng.normal(0, 5, 3), 0, 255),
        finger_width=u(0.6, 0.98), hand_size=u(0.85, 1.15), finger_shade=u(0.6, 0.97),
        hover=float(np.exp(u(np.log(0.08), np.log(0.9)))), feints=sometimes(0.5, 0.6),
        sleeve=_grey(rng, 10, 230, 30) if rng.random() < 0.5 else None,
        finger_tip=0.88, nail=18.0, loose=False,
        camera_u=float(rng.normal(26, 6)), camera_y=3.5 + height * np.tan(tilt),
        camera_height=height, px_per_white=px,
        rate_hz=float(rng.choice([30, 30, 30, 30, 25, 24, 60, 15])),
        blur_px=u(0.0, 0.9), noise=float(np.exp(u(np.log(0.3), np.log(5)))),
        jpeg_quality=int(rng.integers(25, 96)), sharpen=u(0, 1.0) if rng.random() < 0.4 else 0.0,
        held_blocks=u(0, 3.0) if rng.random() < 0.5 else 0.0,
        exposure_share=u(0.2, 0.9) if rng.random() < 0.4 else 0.0, blend=sometimes(0.35, 0.4),
    )  # fmt: skip


def _digital(rng: Random, look: Look) -> Look:
    return replace(look, case=_grey(rng, 5, 60, 4), slip=_grey(rng, 5, 50, 4))


def _acoustic(rng: Random, look: Look) -> Look:
    felt = np.array([30, 25, rng.uniform(90, 190)])
    wood = np.array([30, 60, 110]) * rng.uniform(0.4, 1.6)
    return replace(
        look, case=felt if rng.random() < 0.6 else wood, slip=wood if rng.random() < 0.5
        else _grey(rng, 3, 40, 3), sheen=float(rng.uniform(20, 90)),
        blotches=float(rng.uniform(0.03, 0.16)),
    )  # fmt: skip


def _bright(rng: Random, look: Look) -> Look:
    """Whites burnt out, as by a camera that exposes for the dark room around."""
    return replace(
        look, gain=float(rng.uniform(1.15, 1.75)), gap=_grey(rng, 120, 215, 4),
        gap_width=float(rng.uniform(0.015, 0.06)), wall=float(rng.uniform(0.05, 0.5)),
        gradient_u=look.gradient_u / 2, gradient_y=look.gradient_y / 2,
    )  # fmt: skip


def _dim(rng: Random, look: Look) -> Look:
    return replace(
        look, gain=float(rng.uniform(0.3, 0.7)), noise=float(rng.uniform(1.5, 5)),
        blur_px=float(rng.uniform(0.3, 1.2)), gradient_u=look.gradient_u * 2,
    )  # fmt: skip


def _ivory(rng: Random, look: Look) -> Look:
    side = float(rng.choice([-1, 1]))
    return replace(
        look, white=np.array([165, 205, 225]) + rng.normal(0, 6, 3), white_spread=8.0,
        black=np.array([28, 38, 52]) * rng.uniform(0.7, 1.5), gap=_grey(rng, 30, 80, 8),
        gap_width=float(rng.uniform(0.05, 0.11)), case=np.array([25, 45, 85]) * rng.uniform(0.6, 2),
        slip=np.array([25, 45, 85]) * rng.uniform(0.6, 1.6), gain=float(rng.uniform(0.6, 1.15)),
        tint=np.array([0.75, 0.95, 1.12]), gradient_u=side * float(rng.uniform(0.12, 0.3)),
        shadow_u=side * float(rng.uniform(0.5, 1.3)), shadow_strength=float(rng.uniform(0.3, 0.65)),
        shadow_softness=float(rng.uniform(0.15, 0.5)), black_length=float(rng.uniform(3.75, 4.0)),
    )  # fmt: skip


_FAMILIES: dict[str, Callable[[Random, Look], Look]] = {
    "digital": _digital, "acoustic": _acoustic, "bright": _bright, "dim": _dim, "ivory": _ivory,
}  # fmt: skip
