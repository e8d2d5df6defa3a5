"""Real input for a model file: what it is fed live, from recordings of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stream.errors import ConfigError
from stream.model_file import Contract
from stream.spikes.nwb import load_recording
from stream.spikes.recording import bin_recording
from stream.spikes.selection import select_units
from stream.stability.drives import Inputs


def real_inputs(contract: Contract, data: Sequence[Path]) -> Inputs:
    """Return real input (steps, ...) for a model file.

    Of `counts`, data is a recording (NWB) that has the units of the model; of a `skeleton`, the
    folders of NW-UCLA and of UTD-MHAD; of a `strip`, nothing: keyboards are rendered.

    Raises
    ------
    ConfigError
        It takes other data, or input of another kind.
    RecordingError
        The recording cannot be read or binned like this.
    """
    port = contract.inputs[0]
    wanted = {"counts": 1, "skeleton": 2, "strip": 0}
    if port.kind not in wanted or len(contract.inputs) > 1:
        taken = " and ".join(p.kind for p in contract.inputs)
        raise ConfigError(
            f"{contract.name} takes {taken}, for which there is no real input to measure with;"
            f" there is for {' or '.join(wanted)} alone."
        )
    if len(data) != wanted[port.kind]:
        raise ConfigError(
            f"--data: {contract.name} takes {port.kind}; name {wanted[port.kind]} recordings or"
            f" folders for that, found {len(data)}."
        )
    if port.kind == "counts":
        assert port.period_s is not None
        recording = load_recording(data[0])
        binned = bin_recording(recording, port.period_s)
        chosen = select_units(binned.units, port.channels, recording.name)
        return binned.counts[:, chosen].astype(np.float32)
    # Only these need PyTorch.
    if port.kind == "skeleton":
        from exporters.commands.export_actions import streams_of

        return np.concatenate(streams_of(*data))
    from exporters.commands.export_piano import strips

    return np.concatenate(strips())
