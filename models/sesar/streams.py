"""Continuous streams with known labels, chained from segmented recordings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.sesar.augment import Augmentation, Sampler, about_vertical, spoil
from models.sesar.dataset import ACTIONS, BACKGROUND, IGNORED, Sequences
from models.sesar.network import across

_SIT_DOWN, _STAND_UP = ACTIONS.index("sit down"), ACTIONS.index("stand up")
_RISES = 0.7
_BEGINNING, _BEGINNING_WEIGHT = 0.25, 0.3
_BACKGROUND_WEIGHT = 0.6


@dataclass(frozen=True)
class StreamSettings:
    """How streams are chained.

    Attributes
    ----------
    ticks
        Of a stream.
    background
        Share of clips that show another action than those that are told apart.
    rest
        Share of clips after which the person stays as they are.
    rest_ticks, between_ticks
        Least and most ticks of such a rest, and of the movement to the next clip.
    turn_rad
        Largest turn from clip to clip.
    """

    ticks: int = 100
    background: float = 0.35
    rest: float = 0.5
    rest_ticks: tuple[int, int] = (4, 25)
    between_ticks: tuple[int, int] = (3, 9)
    turn_rad: float = 1.5


@dataclass(frozen=True)
class Streams:
    """A batch of streams.

    Attributes
    ----------
    joints
        (streams, ticks, 20, 3) float32 in metres.
    label
        (streams, ticks) int64 index into `CLASSES`.
    weight
        (streams, ticks) how much a tick counts: nothing where an unlabelled change of posture may
        look like an action, little while an action has only begun.
    clip
        (streams, ticks) int64 number of the clip in its stream, -1 between clips.
    """

    joints: Tensor
    label: Tensor
    weight: Tensor
    clip: Tensor


class StreamMaker:
    """Chains clips of actions and of background. Draws from torch's global generator."""

    def __init__(self, actions: Sequences, background: Sequences, settings: StreamSettings) -> None:
        self._actions, self._background = Sampler(actions), Sampler(background)
        self._settings = settings
        self._label = torch.from_numpy(actions.label)
        self._other_label = torch.from_numpy(background.label)
        self._rising = torch.nonzero(self._label == _STAND_UP)[:, 0]
        self._rises = _RISES if len(self._rising) else 0.0

    def make(self, n: int, a: Augmentation) -> Streams:
        """Return `n` streams, each spoilt as a whole."""
        s = self._settings
        # Clips last at least a few ticks; more than enough of them fill the stream.
        clips = s.ticks // 8
        joints, length, label = self._clips(n, clips, a)
        joints = _joined(joints, length, s.turn_rad)
        rest = torch.randint(*s.rest_ticks, (n, clips)) * (torch.rand(n, clips) < s.rest)
        between = torch.randint(*s.between_ticks, (n, clips))
        begin = (length + rest + between).cumsum(1)
        begin = begin - begin[:, :1]
        # Streams begin anywhere in their first clip.
        now = torch.arange(s.ticks) + (torch.rand(n, 1) * length[:, :1]).long()
        clip = (torch.searchsorted(begin, now, right=True) - 1).clamp(max=clips - 2)
        rows = torch.arange(n)[:, None]
        age = now - begin[rows, clip]
        own = length[rows, clip]
        gone = (age - own - rest[rows, clip] + 1).clamp(min=0) / (between[rows, clip] + 1)
        gone = gone.clamp(max=1.0)
        share = (gone * gone * (3 - 2 * gone))[..., None, None]
        pose = joints[rows, clip, torch.minimum(age, own - 1)]
        pose = pose + share * (joints[rows, clip + 1, 0] - pose)
        inside = age < own
        known = label[rows, clip]
        posture = (known == _SIT_DOWN) | (label[rows, clip + 1] == _STAND_UP)
        weight = torch.where(inside & (age < _BEGINNING * own), _BEGINNING_WEIGHT, 1.0)
        weight = torch.where(inside & (known == IGNORED), 0.0, weight)
        weight = torch.where(~inside & posture & (gone > 0), 0.0, weight)
        label = torch.where(inside & (known != IGNORED), known, BACKGROUND)
        weight = weight * torch.where(label == BACKGROUND, _BACKGROUND_WEIGHT, 1.0)
        return Streams(spoil(pose, a), label, weight, torch.where(inside, clip, -1))

    def _clips(self, n: int, clips: int, a: Augmentation) -> tuple[Tensor, Tensor, Tensor]:
        """Return joints (n, clips, ticks, 20, 3), length and label (n, clips)."""
        chosen = torch.randint(len(self._label), (n, clips))
        other = torch.randint(len(self._other_label), (n, clips))
        is_other = torch.rand(n, clips) < self._settings.background
        for k in range(1, clips):
            # Who has sat down mostly stands up next.
            sat = ~is_other[:, k - 1] & (self._label[chosen[:, k - 1]] == _SIT_DOWN)
            rises = torch.nonzero(sat & (torch.rand(n) < self._rises))[:, 0]
            if len(rises):
                rising = torch.randint(len(self._rising), (len(rises),))
                chosen[rises, k] = self._rising[rising]
            is_other[rises, k] = False
        label = torch.where(is_other, self._other_label[other], self._label[chosen])
        joints = torch.empty(n * clips, a.ticks, 20, 3)
        length = torch.empty(n * clips, dtype=torch.long)
        flat = is_other.flatten()
        for sampler, index, rows in (
            (self._actions, chosen.flatten()[~flat], ~flat),
            (self._background, other.flatten()[flat], flat),
        ):
            if len(index):
                cut, length[rows] = sampler.cut(index, a)
                held = torch.minimum(torch.arange(a.ticks), torch.tensor(cut.shape[1] - 1))
                joints[rows] = cut[:, held]
        return joints.view(n, clips, a.ticks, 20, 3), length.view(n, clips), label


def _joined(joints: Tensor, length: Tensor, turn_rad: float) -> Tensor:
    """Move clips (n, clips, ticks, 20, 3) so that each goes on where the one before ends."""
    n, clips = length.shape
    rows, columns = torch.arange(n)[:, None], torch.arange(clips)
    ends = torch.stack([joints[:, :, 0], joints[rows, columns, length - 1]])
    x, z = across(ends).unbind(-1)
    first, last = torch.atan2(z, x)
    turn = turn_rad * (2 * torch.rand(n, clips) - 1)
    turned = (last - first + turn).cumsum(1)
    angle = torch.cat([torch.zeros(n, 1), turned[:, :-1]], 1) - first
    joints = joints @ about_vertical(angle)[:, :, None]
    root = torch.stack([joints[:, :, 0, 0], joints[rows, columns, length - 1, 0]])
    root = root * torch.tensor([1.0, 0.0, 1.0])
    moved = (root[1] - root[0]).cumsum(1)
    offset = torch.cat([torch.zeros(n, 1, 3), moved[:, :-1]], 1) - root[0]
    # The height of the camera differs between recordings: hip centres start at the same height.
    standing = joints[:, :, :, :, 1].flatten(2).amin(-1)
    offset[..., 1] = -standing
    return joints + offset[:, :, None, None]
