"""Batches on the model's clock: clips of sequences, resampled, turned, scaled and spoilt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.sesar.dataset import Sequences
from models.sesar.network import PARENTS, PERIOD_S
from stream.vision.layouts import KINECT_20

_MIRROR = torch.from_numpy(KINECT_20.mirror)


@dataclass(frozen=True)
class Augmentation:
    """How far a clip is changed in training.

    Attributes
    ----------
    crop
        Largest share of a sequence that is cut off, in front and at the end together.
    speed
        Largest factor of time, either way.
    tilt_rad, heading_rad
        Of the camera, and of the person's estimated heading.
    scale
        Largest relative change of size.
    joint_m, noise_m
        Standard deviation of each joint's offset in a clip, and of its noise in a frame.
    lost
        Share of joints that lie on their parent.
    mirror
        Share of clips with left and right exchanged.
    decimate
        Share of clips of which every second frame is dropped before they are resampled.
    still_root
        Share of clips whose hip centre stays in place, as when a camera does not know where it is.
    ticks
        Most ticks of a clip; a longer one is cut at random.
    """

    crop: float = 0.25
    speed: float = 1.5
    tilt_rad: float = 0.3
    heading_rad: float = 0.3
    scale: float = 0.12
    joint_m: float = 0.01
    noise_m: float = 0.005
    lost: float = 0.05
    mirror: float = 0.5
    decimate: float = 0.3
    still_root: float = 0.25
    ticks: int = 40


@dataclass(frozen=True)
class Clips:
    """A batch on the model's clock.

    Attributes
    ----------
    joints
        (clips, ticks, 20, 3) float32 in metres; the last pose is held after the end.
    length
        (clips,) int64 number of ticks.
    heading_rad
        (clips,) error of the heading, for training.
    """

    joints: Tensor
    length: Tensor
    heading_rad: Tensor

    def parts(self, n: int) -> Iterator[tuple[Tensor, Clips]]:
        """Give up to `n` batches of clips of like length, each with the numbers of its clips.

        They need less padding than all together, which is most of what a network would work on.
        """
        for rows in self.length.argsort(stable=True).chunk(n):
            length = self.length[rows]
            joints = self.joints[rows, : int(length[-1])]
            yield rows, Clips(joints, length, self.heading_rad[rows])


class Sampler:
    """Makes clips of sequences, all of a batch at once. Draws from torch's global generator."""

    def __init__(self, sequences: Sequences) -> None:
        self._frames = torch.from_numpy(sequences.frames)
        self._start = torch.from_numpy(sequences.start)
        self._length = torch.from_numpy(sequences.length)
        self._fps = torch.from_numpy(sequences.fps).float()

    def whole(self, chosen: Tensor) -> Clips:
        """Return whole sequences as they are."""
        n = len(chosen)
        stretch = torch.zeros(n), (self._length[chosen] - 1).float()
        stride = torch.ones(n, dtype=torch.long)
        joints, length = self._resample(chosen, stretch, torch.ones(n), stride, None)
        return Clips(joints, length, torch.zeros(n))

    def augmented(self, chosen: Tensor, a: Augmentation) -> Clips:
        """Return changed clips of the chosen sequences."""
        joints, length = self.cut(chosen, a)
        return Clips(spoil(joints, a), length, _uniform(len(chosen), a.heading_rad))

    def cut(self, chosen: Tensor, a: Augmentation) -> tuple[Tensor, Tensor]:
        """Return joints and length of clips at random speeds, their poses unchanged."""
        n = len(chosen)
        last = (self._length[chosen] - 1).float()
        cut = last * a.crop * torch.rand(n)
        begin = cut * torch.rand(n)
        end = last - (cut - begin)
        speed = a.speed ** (2 * torch.rand(n) - 1)
        stride = 1 + (torch.rand(n) < a.decimate).long()
        return self._resample(chosen, (begin, end), speed, stride, a.ticks)

    def _resample(
        self,
        chosen: Tensor,
        stretch: tuple[Tensor, Tensor],
        speed: Tensor,
        stride: Tensor,
        most: int | None,
    ) -> tuple[Tensor, Tensor]:
        """Interpolate frames at ticks, as `stream.vision.motion.Clock` does."""
        begin, end = stretch
        step = PERIOD_S * self._fps[chosen] * speed
        length = ((end - begin) / step + 1e-4).floor().long() + 1
        if most is not None:
            spare = (length - most).clamp(min=0)
            begin = begin + (torch.rand(len(chosen)) * (spare + 1)).floor() * step
            length = length.clamp(max=most)
        tick = torch.minimum(torch.arange(int(length.max())), length[:, None] - 1)
        last = self._length[chosen] - 1
        at = torch.minimum(begin[:, None] + tick * step[:, None], last[:, None].float())
        low = (at / stride[:, None]).floor().long() * stride[:, None]
        high = torch.minimum(low + stride[:, None], last[:, None])
        share = (at - low) / (high - low).clamp(min=1)
        first = self._start[chosen][:, None]
        before, after = self._frames[first + low], self._frames[first + high]
        return before + share[..., None, None] * (after - before), length


def spoil(joints: Tensor, a: Augmentation) -> Tensor:
    """Turn, scale, mirror and disturb clips (clips, ticks, 20, 3)."""
    n, ticks = joints.shape[:2]
    if a.mirror:
        mirrored = joints[:, :, _MIRROR] * torch.tensor([-1.0, 1.0, 1.0])
        joints = torch.where((torch.rand(n) < a.mirror)[:, None, None, None], mirrored, joints)
    if a.still_root:
        still = (torch.rand(n) < a.still_root)[:, None, None, None]
        joints = torch.where(still, joints - joints[:, :, :1] + joints[:, :1, :1], joints)
    joints = joints @ _turns(n, a.tilt_rad)[:, None]
    joints = joints * (1 + a.scale * (2 * torch.rand(n, 1, 1, 1) - 1))
    joints = (
        joints + a.joint_m * torch.randn(n, 1, 20, 3) + a.noise_m * torch.randn(n, ticks, 20, 3)
    )
    if a.lost:
        lost = (torch.rand(n, 20) < a.lost)[:, None, :, None]
        joints = torch.where(lost, joints[:, :, list(PARENTS)], joints)
    return joints


def _turns(n: int, tilt_rad: float) -> Tensor:
    """Return rotations (n, 3, 3): any turn about the vertical, then a tilt of the camera."""
    yaw = 2 * torch.pi * torch.rand(n)
    tilt = _uniform(n, tilt_rad)
    zero, one = torch.zeros(n), torch.ones(n)
    c, s = tilt.cos(), tilt.sin()
    about_x = torch.stack([one, zero, zero, zero, c, -s, zero, s, c], -1).view(n, 3, 3)
    turns: Tensor = about_vertical(yaw) @ about_x
    return turns


def about_vertical(angle: Tensor) -> Tensor:
    """Return rotations (..., 3, 3) that turn row vectors from x towards z by an angle (...)."""
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    c, s = angle.cos(), angle.sin()
    turns = torch.stack([c, zero, s, zero, one, zero, -s, zero, c], -1)
    return turns.view(*angle.shape, 3, 3)


def _uniform(n: int, largest: float) -> Tensor:
    return largest * (2 * torch.rand(n) - 1)
