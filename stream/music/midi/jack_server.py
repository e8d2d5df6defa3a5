"""Whether a JACK server still runs, which RtMidi does not tell."""

from __future__ import annotations

import ctypes
import sys

_NO_START_SERVER = 1
_LIBRARIES = {"linux": "libjack.so.0", "darwin": "libjack.0.dylib"}


class JackServer:
    """A client of JACK that takes part in nothing and sees its clock.

    The clients of a server that has died go on seeing its last state, ports included, and only
    its clock stands still. To make a new client now and then would tell as well, but costs the
    others messages while the server takes it in.
    """

    def __init__(self) -> None:
        self._library: ctypes.CDLL | None = None
        try:
            library = ctypes.CDLL(_LIBRARIES.get(sys.platform, ""))
        except OSError:
            return
        library.jack_client_open.restype = ctypes.c_void_p
        library.jack_client_open.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p)
        library.jack_last_frame_time.restype = ctypes.c_uint32
        library.jack_last_frame_time.argtypes = (ctypes.c_void_p,)
        self._client = library.jack_client_open(b"innervate clock", _NO_START_SERVER, None)
        if self._client:
            self._library = library
            self._last = library.jack_last_frame_time(self._client)

    def stands_still(self) -> bool:
        """Tell whether the clock shows what it did when it was last looked at.

        Never true where the clock cannot be seen.
        """
        if self._library is None:
            return False
        before, self._last = self._last, self._library.jack_last_frame_time(self._client)
        return bool(before == self._last)
