"""The process that owns a MIDI input.

Started as `python -m stream.music.midi.midi_listener API NAME`, API being RtMidi's number of the
system's interface. It says on stdout in one line that the input is open or why it could not be
opened, then each message in one line of hexadecimal digits. It ends when stdin does, or when the
input has gone.

To close an input of JACK can crash the process that does it, since a thread of JACK may be going
over its ports at that moment, and that of a server that has died always does. So nothing is closed:
this process just ends.
"""

from __future__ import annotations

import os
import select
import signal
import sys

from stream.errors import InnervateError
from stream.music.midi.jack_server import JackServer
from stream.music.midi.midi_system import CLIENT, load_rtmidi, stable_names

OPENED, FAILED = "opened", "failed"
_LOOK_S = 1.0


def main(api: int, name: str) -> int:
    """Listen to an input until stdin ends or it goes away; 0 then, 1 where it cannot be opened."""
    # Whatever ends the run ends the node, and that ends stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        rtmidi = load_rtmidi()
        midi = rtmidi.MidiIn(rtapi=api, name=CLIENT)
        midi.set_callback(lambda event, _: _say(bytes(event[0]).hex()))
        midi.open_port(stable_names(midi).index(name), name="in")
    except ValueError:
        _say(f"{FAILED} it is not there any more")
        return 1
    except (InnervateError, OSError) as error:  # RtMidi's errors are of the second kind.
        _say(f"{FAILED} {error}")
        return 1
    jack = JackServer() if api == rtmidi.API_UNIX_JACK else None
    _say(OPENED)
    while not select.select([sys.stdin], (), (), _LOOK_S)[0]:
        if name not in stable_names(midi):
            break
        # A client of JACK goes on seeing the ports of a server that has died.
        if jack is not None and jack.stands_still():
            break
    return 0


def _say(line: str) -> None:
    try:
        os.write(sys.stdout.fileno(), line.encode() + b"\n")
    except OSError:  # The node is dead.
        os._exit(0)


if __name__ == "__main__":
    # The end of Python would close it.
    os._exit(main(int(sys.argv[1]), sys.argv[2]))
