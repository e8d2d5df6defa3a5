"""SoundFonts that are small enough to be broken in every way."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

RATE_HZ = 44_100
CYCLE = 100
"""Samples of one turn of the sine, so that it sounds at 441 Hz at its root, A4."""

ROOT = 69
PITCH_HZ = RATE_HZ / CYCLE
KEY_RANGE, VELOCITY_RANGE, PAN, CUTOFF, RELEASE, EXCLUSIVE, LOOPS = 43, 44, 17, 8, 38, 57, 54


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def sine(cycles: int = 50, harmonics: tuple[float, ...] = (1.0,)) -> np.ndarray:
    """Return some turns of a tone as samples of 16 bits."""
    phase = 2 * np.pi * np.arange(cycles * CYCLE) / CYCLE
    wave = sum(a * np.sin((n + 1) * phase) for n, a in enumerate(harmonics))
    return np.rint(wave / np.abs(wave).max() * 16_000).astype("<i2")


def font_bytes(
    *zones: dict[int, int], sound: np.ndarray | None = None, presets: tuple[int, ...] = (0,)
) -> bytes:
    """Return a font whose presets all play the same looped sample in these zones.

    A zone is what it says beyond that: number of the generator to its amount.
    """
    sound = sine() if sound is None else sound
    sampled = np.concatenate([sound, np.zeros(46, "<i2")])
    zones = zones or ({},)
    igen, ibag = b"", b""
    for zone in zones:
        ibag += struct.pack("<HH", len(igen) // 4, 0)
        order = sorted(zone, key=lambda what: what not in (KEY_RANGE, VELOCITY_RANGE))
        for what in order:
            igen += struct.pack("<Hh", what, zone[what])
        if LOOPS not in zone:
            igen += struct.pack("<Hh", LOOPS, 1)
        igen += struct.pack("<Hh", 53, 0)
    ibag += struct.pack("<HH", len(igen) // 4, 0)
    igen += bytes(4)
    phdr, pbag, pgen = b"", b"", b""
    for number, program in enumerate(presets):
        phdr += struct.pack("<20sHHHIII", b"tone", program, 0, number, 0, 0, 0)
        pbag += struct.pack("<HH", number, 0)
        pgen += struct.pack("<Hh", 41, 0)
    phdr += struct.pack("<20sHHHIII", b"EOP", 0, 0, len(presets), 0, 0, 0)
    pbag += struct.pack("<HH", len(presets), 0)
    pgen += bytes(4)
    inst = struct.pack("<20sH", b"tone", 0) + struct.pack("<20sH", b"EOI", len(zones))
    shdr = struct.pack(
        "<20sIIIIIBbHH", b"tone", 0, len(sound), CYCLE, len(sound), RATE_HZ, ROOT, 0, 0, 1
    ) + struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    pdta = b"pdta" + b"".join(
        _chunk(name, data)
        for name, data in (
            (b"phdr", phdr), (b"pbag", pbag), (b"pmod", bytes(10)), (b"pgen", pgen),
            (b"inst", inst), (b"ibag", ibag), (b"imod", bytes(10)), (b"igen", igen),
            (b"shdr", shdr),
        )
    )  # fmt: skip
    info = b"INFO" + _chunk(b"ifil", struct.pack("<HH", 2, 4)) + _chunk(b"INAM", b"tiny\0\0")
    sdta = b"sdta" + _chunk(b"smpl", sampled.tobytes())
    lists = b"".join(_chunk(b"LIST", part) for part in (info, sdta, pdta))
    return b"RIFF" + struct.pack("<I", len(lists) + 4) + b"sfbk" + lists


def write_font(path: Path, *zones: dict[int, int], **more: object) -> Path:
    """Write such a font."""
    path.write_bytes(font_bytes(*zones, **more))  # type: ignore[arg-type]
    return path
