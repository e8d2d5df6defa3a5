"""Draws a keyboard and hands as a camera sees them, in the plane of the keys.

A point at height z over the plane of the white keys appears, from a camera at height H, moved away
from the foot of the camera by the factor H / (H - z). Everything is drawn in that plane; how the
plane lies in the picture is a matter of `camera`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.audeo.rendering.hands import HandMotion
from models.audeo.rendering.looks import Colour, Look
from models.audeo.rendering.performance import Random
from stream.music.keyboard import CENTRES_U, IS_BLACK, KEYS, WHITES
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

Floats = NDArray[np.float64]
AROUND_Y = (-0.5, 9.0)
"""What is drawn of the plane: from behind the far ends of the keys to where the hands come from."""

_SHIFT = 4
_HINGE = 4.0
_WHITE_KEYS = np.flatnonzero(~IS_BLACK)
_BLACK_KEYS = np.flatnonzero(IS_BLACK)


class Scene:
    """Draws the plane from `left` to `right` and `far` to `near`, with `scale` pixels a white."""

    def __init__(
        self,
        rng: Random,
        look: Look,
        scale: int,
        *,
        across: tuple[float, float] = (0.0, WHITES),
        along: tuple[float, float] = AROUND_Y,
    ) -> None:
        self._cv2: Any = load_cv2("The renderer")
        self.look, self.scale = look, scale
        (self.left, self.right), (self.far, self.near) = across, along
        self.width = round((self.right - self.left) * scale)
        self.height = round((self.near - self.far) * scale)
        self._tone = 1 + rng.normal(0, look.white_spread / 255, KEYS)
        self._light = self._draw_light(rng)
        self._blacks = [
            k for k in _BLACK_KEYS if self.left - 1.5 < CENTRES_U[k] < self.right + 1.5
        ]  # fmt: skip
        self._still = self._draw_still(rng)

    def draw(self, depth: Floats, hands: list[HandMotion], moment: int, exposure: float) -> Frame:
        """Return the picture with keys (88,) down by 0 to 1 and the hands at a moment."""
        image = self._still.copy()
        moved = np.flatnonzero(depth > 0.01)
        again: set[int] = set()
        for key in moved:
            if IS_BLACK[key]:
                again.add(int(key))
            else:
                self._white(image, int(key), depth)
                again |= {b for b in (int(key) - 1, int(key) + 1) if 0 <= b < KEYS and IS_BLACK[b]}
        for key in again:
            self._black(image, key, depth)
        self._shade(image, hands, moment)
        for hand in hands:
            self._hand(image, hand, moment)
        lit = image.astype(np.float32) * (self._light * exposure)
        return np.clip(lit, 0, 255).astype(np.uint8)

    def _pixels(self, points: Any) -> NDArray[np.int32]:
        """Project points (n, 3) as u, y, z to fixed-point pixels (n, 2)."""
        p = np.asarray(points, float)
        look = self.look
        grow = look.camera_height / (look.camera_height - p[:, 2])
        x = look.camera_u + (p[:, 0] - look.camera_u) * grow - self.left
        y = look.camera_y + (p[:, 1] - look.camera_y) * grow - self.far
        xy = np.stack([x, y], axis=1) * self.scale - 0.5
        fixed = np.clip(np.round(xy * (1 << _SHIFT)), -1e6, 1e6)
        return np.asarray(fixed, np.int32)

    def _fill(self, image: Frame, points: Any, colour: Any) -> None:
        colour = tuple(float(c) for c in np.atleast_1d(np.clip(colour, 0, 255)))
        self._cv2.fillConvexPoly(image, self._pixels(points), colour, self._cv2.LINE_AA, _SHIFT)

    def _draw_light(self, rng: Random) -> NDArray[np.float32]:
        look = self.look
        u = np.linspace(self.left / 26 - 1, self.right / 26 - 1, self.width)
        y = np.linspace(-1, 1, self.height)
        coarse = rng.normal(0, look.blotches, (4, max(3, int(self.right - self.left) // 4)))
        blotches = self._cv2.resize(
            coarse, (self.width, self.height), interpolation=self._cv2.INTER_CUBIC
        )
        light = look.gain * (1 + look.gradient_u * u + look.gradient_y * y[:, None] + blotches)
        # The case throws a shadow on the far ends of the keys.
        far = (np.arange(self.height) / self.scale + self.far) / 0.35
        light = light * np.interp(far, [0, 1], [rng.uniform(0.3, 0.95), 1])[:, None]
        return np.asarray(light[..., None] * look.tint, np.float32)

    def _draw_still(self, rng: Random) -> Frame:
        look, cv2 = self.look, self._cv2
        image = np.empty((self.height, self.width, 3), np.uint8)
        image[:] = look.case
        slip_y = look.white_length + rng.uniform(0.15, 1.2)
        floor = look.floor + rng.normal(0, look.floor_texture, (12, int(self.right - self.left), 3))
        floor = cv2.resize(floor, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        near = round((slip_y - self.far) * self.scale)
        if near < self.height:
            image[near:] = np.clip(floor, 0, 255)[near:]
        front = round((look.white_length - self.far) * self.scale)
        image[front:near] = look.slip
        for key in _WHITE_KEYS:
            u = CENTRES_U[key] - 0.5
            if self.left - 1 < u < self.right:
                self._white(image, int(key), np.zeros(KEYS))
        for key in self._blacks:
            self._black(image, int(key), np.zeros(KEYS))
        return image

    def _lower(self, y: float, depth: float, full: float, length: float) -> float:
        return -depth * full * (y + _HINGE) / (length + _HINGE)

    def _white(self, image: Frame, key: int, depth: Floats) -> None:
        """Draw a white key; where it is lower than its neighbours, their sides show."""
        look = self.look
        u0, half = float(CENTRES_U[key]) - 0.5, look.gap_width / 2
        y1 = look.white_length
        down = float(depth[key])
        white = look.white * self._tone[key]
        ends = [self._lower(y, down, look.white_depth, y1) for y in (0.0, y1)]
        slot = [(u0, 0.0, 0.0), (u0 + 1, 0.0, 0.0), (u0 + 1, y1, 0.0), (u0, y1, 0.0)]
        if down <= 0.01:
            self._fill(image, slot, look.gap)
            self._front(image, u0, 0.0, white)
            self._fill(image, _inset(slot, half), white)
            return
        # The opening shows what is under the keys, then the sides of the neighbours.
        y2 = y1 + look.press_front
        under = [(u0, 0, 0), (u0 + 1, 0, 0), (u0 + 1, y2, 0), (u0, y2, 0)]
        self._fill(image, under, look.gap * (1 - look.press_gap))
        for edge, other in ((u0, key - 1), (u0 + 1, key + 1)):
            beside = other if 0 <= other < KEYS and not IS_BLACK[other] else (
                other - 1 if other < key else other + 1)  # fmt: skip
            level = float(depth[beside]) if 0 <= beside < KEYS else 0.0
            if level < down:
                top = [self._lower(y, level, look.white_depth, y1) for y in (0.0, y1)]
                self._fill(image, [(edge, 0, top[0]), (edge, y1, top[1]), (edge, y1, ends[1]),
                                   (edge, 0, ends[0])], white * look.wall)  # fmt: skip
        self._front(image, u0, ends[1], white)
        face = [(u0 + half, 0, ends[0]), (u0 + 1 - half, 0, ends[0]),
                (u0 + 1 - half, y1, ends[1]), (u0 + half, y1, ends[1])]  # fmt: skip
        # Lower, and in the shade of its neighbours.
        self._clipped(image, face, u0, u0 + 1, white * (1 - look.press_shade * down))

    def _clipped(self, image: Frame, face: Any, left: float, right: float, colour: Any) -> None:
        """Fill a face, of which only what lies between two lines of the plane is seen."""
        look, p = self.look, np.asarray(face, float)
        grow = look.camera_height / (look.camera_height - p[:, 2])
        u = np.clip(look.camera_u + (p[:, 0] - look.camera_u) * grow, left, right)
        y = look.camera_y + (p[:, 1] - look.camera_y) * grow
        self._fill(image, np.stack([u, y, np.zeros(len(p))], axis=1), colour)

    def _front(self, image: Frame, u0: float, z: float, white: Colour) -> None:
        if self.look.camera_y <= self.look.white_length:
            return
        y1, half = self.look.white_length, self.look.gap_width / 2
        self._fill(image, [(u0 + half, y1, z), (u0 + 1 - half, y1, z), (u0 + 1 - half, y1, z - 0.8),
                           (u0 + half, y1, z - 0.8)], white * self.look.front_face)  # fmt: skip

    def _black(self, image: Frame, key: int, depth: Floats) -> None:
        """Draw a black key; beside a white one that is down, its side shows further down."""
        look, down = self.look, float(depth[key])
        u, half, y1 = float(CENTRES_U[key]), look.black_width / 2, look.black_length
        top = half - look.black_taper
        y_top = y1 - look.black_slope
        z0, z1 = (look.black_height + self._lower(y, down, look.black_depth, y1)
                  for y in (0.0, y_top))  # fmt: skip
        base = min(0.0, self._lower(y1, down, look.black_depth, y1) * 0.3)
        colour = look.black
        side = 0.55 * colour
        for s in (-1, 1):
            white = float(depth[key + s])
            foot = [self._lower(y, white, look.white_depth, look.white_length) for y in (0.0, y1)]
            edge = u + s * half
            if look.contact and s * look.shadow_u >= 0:
                self._contact(image, key + s, edge, s, foot)
            self._fill(
                image,
                [(edge, 0, foot[0]), (edge, y1, min(base, foot[1])), (u + s * top, y_top, z1),
                 (u + s * top, 0, z0)],
                side + (12 if s < 0 else 0),
            )  # fmt: skip
        slope = [(u - half, y1, base), (u + half, y1, base), (u + top, y_top, z1),
                 (u - top, y_top, z1)]  # fmt: skip
        self._fill(image, slope, colour + look.sheen * (0.9 - look.press_gloss * down))
        self._fill(image, [(u - top, 0, z0), (u + top, 0, z0), (u + top, y_top, z1),
                           (u - top, y_top, z1)], colour + 0.25 * look.sheen)  # fmt: skip

    def _contact(self, image: Frame, white: int, edge: float, s: int, foot: list[float]) -> None:
        """Draw the shadow of a black key on the white one beside it, which lies at `foot`."""
        look, y1 = self.look, self.look.black_length
        # The lower the white, the further the shadow falls.
        far = edge + s * (look.contact_width + abs(look.shadow_u) * -foot[1] * 0.5)
        colour = look.white * self._tone[white] * (1 - look.contact)
        self._fill(image, [(edge, 0, foot[0]), (far, 0, foot[0]), (far, y1, foot[1]),
                           (edge, y1, foot[1])], colour)  # fmt: skip

    def _bones(self, hand: HandMotion, moment: int) -> tuple[list[Floats], Floats]:
        """Return each finger as knuckle, middle joint, last joint, tip (4, 3), and the palm."""
        size = self.look.hand_size
        tips = hand.tips[moment]
        mu, my = hand.middle[moment]
        thumb = 0 if hand.side > 0 else 4
        fingers, knuckles = [], []
        for f in range(5):
            offset = (f - 2) * 0.85 * size
            if f == thumb:
                knuckle = np.array([mu + offset * 0.8, my + 4.4 * size, 1.4])
            else:
                knuckle = np.array([mu + offset, my + (2.7 + 0.12 * abs(f - 2)) * size, 2.1])
            tip = tips[f]
            along = tip - knuckle
            bend = 0.75 if f != thumb else 0.3
            pip = knuckle + 0.45 * along + np.array([0, 0, bend])
            dip = knuckle + 0.78 * along + np.array([0, 0, 0.45 * bend])
            fingers.append(np.stack([knuckle, pip, dip, tip]))
            knuckles.append(knuckle)
        lean = hand.side * 0.9
        wrist = np.array([mu + lean, my + 6.3 * size, 1.9])
        across = np.array([1.35 * size, 0, 0])
        ring = [k for f, k in enumerate(knuckles) if f != thumb]
        palm = np.array([*ring, knuckles[thumb], wrist + across, wrist - across])
        return fingers, palm

    def _outline(self, hand: HandMotion, moment: int) -> tuple[list[Floats], Floats, Floats]:
        fingers, palm = self._bones(hand, moment)
        wrist = palm[-2:].mean(axis=0)
        half = 1.25 * self.look.hand_size
        away = np.array([hand.side * 3.5, 12.0, 0.6])
        near, far = np.array([half, -0.3, 0]), np.array([half * 1.3, 0, 0])
        arm = np.stack([wrist + near, wrist - near, wrist + away - far, wrist + away + far])
        return fingers, palm, arm

    def _thick(self, image: Frame, a: Floats, b: Floats, width: float, colour: Any) -> None:
        """Draw a limb between two points (3,), with round ends."""
        (p, q) = self._pixels(np.stack([a, b]))
        look = self.look
        grow = look.camera_height / (look.camera_height - (a[2] + b[2]) / 2)
        thickness = max(1, round(width * self.scale * grow))
        colour = tuple(float(c) for c in np.atleast_1d(np.clip(colour, 0, 255)))
        self._cv2.line(image, tuple(int(v) for v in p), tuple(int(v) for v in q), colour,
                       thickness, self._cv2.LINE_AA, _SHIFT)  # fmt: skip

    def _hand(self, image: Frame, hand: HandMotion, moment: int) -> None:
        look, width = self.look, self.look.finger_width
        fingers, palm, arm = self._outline(hand, moment)
        if arm[:2, 0].max() < self.left - 6 or arm[:2, 0].min() > self.right + 6:
            return
        edge, skin = look.skin * look.finger_shade, look.skin
        self._fill(image, arm, edge if look.sleeve is None else look.sleeve)
        hull = self._cv2.convexHull(self._pixels(palm))
        self._cv2.fillConvexPoly(image, hull, tuple(float(c) for c in skin * 0.97),
                                 self._cv2.LINE_AA, _SHIFT)  # fmt: skip
        for shade, share in ((edge, 1.0), (skin, 0.68)):
            for finger in fingers:
                for joint, taper in ((0, 1.12), (1, 1.0), (2, look.finger_tip)):
                    self._thick(image, finger[joint], finger[joint + 1], width * taper * share,
                                shade)  # fmt: skip
        for finger in fingers:
            back = finger[3] + 0.12 * (finger[2] - finger[3])
            self._thick(
                image,
                finger[3],
                back,
                width * 0.42 * min(1.0, look.finger_tip / 0.88),
                skin + look.nail,
            )

    def _shade(self, image: Frame, hands: list[HandMotion], moment: int) -> None:
        """Darken what lies in the shadow of the hands."""
        look, cv2 = self.look, self._cv2
        mask = np.zeros((self.height, self.width), np.uint8)
        for hand in hands:
            fingers, palm, _ = self._outline(hand, moment)
            for finger in fingers:
                for joint in range(3):
                    a, b = finger[joint : joint + 2] + (
                        finger[joint : joint + 2, 2:] * [look.shadow_u, look.shadow_y, -1]
                    )
                    self._thick(mask, a, b, look.finger_width * 0.95, 255)
            ground = palm + palm[:, 2:] * [look.shadow_u, look.shadow_y, -1]
            cv2.fillConvexPoly(mask, cv2.convexHull(self._pixels(ground)), 255, cv2.LINE_8, _SHIFT)
        if not mask.any():
            return
        small = cv2.resize(mask, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        size = max(3, round(look.shadow_softness * self.scale / 4) * 2 + 1)
        soft = cv2.resize(cv2.blur(small, (size, size)), (self.width, self.height))
        factor = 1 - (look.shadow_strength / 255) * soft.astype(np.float32)
        np.multiply(image, factor[..., None], out=image, casting="unsafe")


def _inset(slot: list[tuple[float, float, float]], half: float) -> list[tuple[float, float, float]]:
    (a, b, c, d) = slot
    return [(a[0] + half, *a[1:]), (b[0] - half, *b[1:]), (c[0] - half, *c[1:]),
            (d[0] + half, *d[1:])]  # fmt: skip
