"""Large arrays between processes of one run: slots in anonymous memory that dies with the run.

Each stream whose packets may be large has one anonymous file. The supervisor makes it and its
processes inherit it, so it has no name that another user could open, and the kernel frees it with
the last process, however that ends. The emitter writes an array into a free slot once, announces
its place in a small message to every link, and uses the slot again when every link has given it
back. A receiver gives it back when the last array that views it is gone, so nothing is overwritten
while somebody reads it.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import weakref
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.errors import WireError

LARGE_BYTES = 64 * 1024
"""From this size on, shared memory is faster than a message."""

LIMIT_BYTES = 1024**3
"""Most memory that the slots of one stream may take; beyond it, arrays travel in messages."""

_POPULATE = getattr(mmap, "MAP_POPULATE", 0)


def anonymous_file(name: str) -> int:
    """Return the descriptor of a new empty file that has no place in any folder."""
    if sys.platform == "linux":
        return os.memfd_create(name[:200])
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Place(msgspec.Struct, frozen=True):
    """Where an array lies: the number of its slot, where that starts, and how much it holds."""

    slot: int
    offset: int
    capacity: int


class _Slot:
    def __init__(self, place: Place, memory: mmap.mmap) -> None:
        self.place = place
        self.memory = memory
        self.holders = 0


class SlotWriter:
    """The emitter's side of a stream's slots."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._slots: list[_Slot] = []
        self._free: list[int] = []
        self._end = 0

    def reserve(self, nbytes: int, count: int) -> None:
        """Allocate slots ahead of the first array, as far as the limit allows."""
        for _ in range(count):
            if (slot := self._grow(nbytes)) is not None:
                self._free.append(slot.place.slot)

    def put(self, data: NDArray[Any], holders: int) -> Place | None:
        """Copy an array into a free slot that `holders` links will give back.

        None means that there is no memory for it: send it in the message.
        """
        slot = self._take(data.nbytes)
        if slot is None:
            return None
        target: NDArray[Any] = np.frombuffer(slot.memory, data.dtype, data.size)
        np.copyto(target.reshape(data.shape), data)
        slot.holders = holders
        return slot.place

    def release(self, number: int) -> None:
        """Take a slot back from one of its holders."""
        slot = self._slots[number]
        slot.holders -= 1
        if slot.holders == 0:
            self._free.append(number)

    def _take(self, nbytes: int) -> _Slot | None:
        # The slot that was freed last is the one most likely to be in the cache.
        for position in range(len(self._free) - 1, -1, -1):
            slot = self._slots[self._free[position]]
            if slot.place.capacity >= nbytes:
                del self._free[position]
                return slot
        return self._grow(nbytes)

    def _grow(self, nbytes: int) -> _Slot | None:
        unit = mmap.ALLOCATIONGRANULARITY
        capacity = -(-nbytes // unit) * unit
        if self._end + capacity > LIMIT_BYTES:
            return None
        try:
            # Reserved now: a page that cannot be had later would be a fatal signal, no error.
            os.posix_fallocate(self._fd, self._end, capacity)
            memory = mmap.mmap(
                self._fd, capacity, flags=mmap.MAP_SHARED | _POPULATE, offset=self._end
            )
        except OSError:
            return None
        slot = _Slot(Place(len(self._slots), self._end, capacity), memory)
        self._slots.append(slot)
        self._end += capacity
        return slot


class SlotReader:
    """A link's side: arrays that view slots, and the slots that may go back.

    Attributes
    ----------
    returned
        Slots that nothing here reads any more. The link takes them from here.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._memory: dict[int, tuple[Place, mmap.mmap]] = {}
        self._watched: dict[int, weakref.ref[NDArray[Any]]] = {}
        self.returned: list[int] = []

    def view(self, shared: Any, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return the array that a header announces, read only, without a copy.

        Raises
        ------
        WireError
            There is no such slot, or it is smaller than the array.
        """
        try:
            place = msgspec.convert(shared, Place)
        except msgspec.ValidationError as error:
            raise WireError(f"it names a bad place in shared memory ({error})") from None
        memory = self._map(place)
        size = int(np.prod(shape, dtype=np.int64))
        if size * np.dtype(dtype).itemsize > place.capacity:
            raise WireError("its array is larger than its slot in shared memory")
        flat: NDArray[Any] = np.frombuffer(memory, dtype, size)
        # Every view that a node makes of the array has `flat` as its base and keeps it alive.
        number = place.slot
        self._watched[number] = weakref.ref(flat, lambda _: self._give_back(number))
        return flat.reshape(shape)

    def _give_back(self, number: int) -> None:
        del self._watched[number]
        self.returned.append(number)

    def _map(self, place: Place) -> mmap.mmap:
        known = self._memory.get(place.slot)
        if known is not None and known[0] == place:
            return known[1]
        if place.offset < 0 or place.capacity <= 0:
            raise WireError("it names a bad place in shared memory")
        if place.offset + place.capacity > os.fstat(self._fd).st_size:
            raise WireError("it names a place outside of the shared memory")
        try:
            memory = mmap.mmap(
                self._fd, place.capacity, flags=mmap.MAP_SHARED | _POPULATE,
                prot=mmap.PROT_READ, offset=place.offset,
            )  # fmt: skip
        except (OSError, ValueError, OverflowError) as error:
            raise WireError(f"its place in shared memory cannot be read ({error})") from None
        self._memory[place.slot] = (place, memory)
        return memory
