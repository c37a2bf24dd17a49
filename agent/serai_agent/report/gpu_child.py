"""The process that talks to the NVIDIA driver, so that the agent need not.

A call into the driver may hang in the kernel or crash, and neither can be survived by a thread.
So this process answers one line of JSON per line that it is asked, and its parent kills it when an
answer is late. It ends when its input ends, when the driver cannot be reached, and with its parent.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import BinaryIO, TypeVar

import pynvml

from serai import wire
from serai.model import Value
from serai.report import GpuReading, Gpus
from serai_agent.report.gpu_wire import MAX_TEXT, Answer, Question

T = TypeVar("T")

MAX_GPUS = 64
REASK_AFTER = 120
"""After how many readings a value that the driver does not support is asked for again."""

_PR_SET_PDEATHSIG = 1

_ABSENT = frozenset({pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED})
_WHOLE_GPU = frozenset(
    {
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_INVALID_ARGUMENT,
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
_NEVER_MIND = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    }
)


class Memory(Value):
    """The memory of a GPU in bytes; `used` leaves out what the driver keeps for itself."""

    total_bytes: int
    used_bytes: int


class Card:
    """One GPU by its index: a handle for as long as it works, and who it was."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.handle: object | None = None
        self.uuid = ""
        self.name = ""

    def find(self) -> object:
        """Return its handle, looked up again after an error; raise NVMLError when it is lost."""
        if self.handle is None:
            handle = pynvml.nvmlDeviceGetHandleByIndex(self.index)
            self.uuid = str(pynvml.nvmlDeviceGetUUID(handle))[:MAX_TEXT]
            self.name = str(pynvml.nvmlDeviceGetName(handle))[:MAX_TEXT]
            self.handle = handle
        return self.handle


class Reader:
    """Reads all GPUs; a fault of one is told as its problem and leaves the others whole."""

    def __init__(self) -> None:
        self._cards: list[Card] = []
        self._unsupported = Unsupported()

    def read(self) -> Gpus:
        """Return the readings; NVMLError when the driver itself does not answer."""
        self._unsupported.begin_reading()
        count = pynvml.nvmlDeviceGetCount()
        told_count = min(count, MAX_GPUS)
        if told_count != len(self._cards):
            self._cards = [Card(index) for index in range(told_count)]
        left_out = count - told_count
        return Gpus(
            readings=tuple(self._read_card(card) for card in self._cards),
            driver=str(pynvml.nvmlSystemGetDriverVersion())[:MAX_TEXT],
            problem=f"{left_out} GPUs above {MAX_GPUS} are left out" if left_out else "",
        )

    def _read_card(self, card: Card) -> GpuReading:
        try:
            return self._measure(card)
        except pynvml.NVMLError:
            # A handle is never used again after an error: some drivers crash on it. A fresh one
            # may work (the partitions of a GPU were changed); one of a lost GPU is not found.
            card.handle = None
        try:
            return self._measure(card)
        except pynvml.NVMLError as error:
            card.handle = None
            return GpuReading(
                uuid=card.uuid, index=card.index, name=card.name, problem=f"lost: {told(error)}"
            )

    def _measure(self, card: Card) -> GpuReading:
        ask = Asking(card.find(), card.uuid, self._unsupported)
        memory = ask("memory", _memory)
        utilization_percent = ask("utilization", _utilization)
        temperature_celsius = ask("temperature", _temperature)
        power_watts = ask("power", _power)
        return GpuReading(
            uuid=card.uuid,
            index=card.index,
            name=card.name,
            memory_total_bytes=memory.total_bytes if memory else None,
            memory_used_bytes=memory.used_bytes if memory else None,
            utilization_percent=utilization_percent,
            temperature_celsius=temperature_celsius,
            power_watts=power_watts,
            problem="; ".join(ask.faults)[:MAX_TEXT],
        )


class Unsupported:
    """Remembers what a GPU cannot say, so that it is not asked each time."""

    def __init__(self) -> None:
        self._reading = 0
        self._since: dict[tuple[str, str], int] = {}

    def begin_reading(self) -> None:
        self._reading += 1
        past = [key for key, since in self._since.items() if self._reading - since >= REASK_AFTER]
        for key in past:
            del self._since[key]

    def add(self, uuid: str, what: str) -> None:
        self._since[uuid, what] = self._reading

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._since


class Asking:
    """Asks one GPU for its values; a value that fails alone is None and one of the `faults`."""

    def __init__(self, handle: object, uuid: str, unsupported: Unsupported) -> None:
        self._handle = handle
        self._uuid = uuid
        self._unsupported = unsupported
        self.faults: list[str] = []

    def __call__(self, what: str, call: Callable[[object], T]) -> T | None:
        """Return the value, or None; raise NVMLError when the whole GPU is out of reach."""
        if (self._uuid, what) in self._unsupported:
            return None
        try:
            return call(self._handle)
        except pynvml.NVMLError as error:
            if error.value in _WHOLE_GPU:
                raise
            if error.value in _NEVER_MIND:
                self._unsupported.add(self._uuid, what)
            else:
                self.faults.append(f"{what}: {told(error)}")
            return None


def _memory(handle: object) -> Memory:
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError as error:
        if error.value not in _NEVER_MIND:
            raise
        # An old driver: its "used" has the driver's own share in it.
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Memory(total_bytes=memory.total, used_bytes=memory.used)


def _utilization(handle: object) -> float:
    return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)


def _temperature(handle: object) -> float:
    try:
        return float(pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU))
    except pynvml.NVMLError as error:
        if error.value not in _NEVER_MIND:
            raise
        return float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def _power(handle: object) -> float:
    return float(pynvml.nvmlDeviceGetPowerUsage(handle)) / 1000


def told(error: pynvml.NVMLError) -> str:
    """Return an error as the driver words it, with its number: `GPU is lost (15)`."""
    return f"{error} ({error.value})"


def begin(number: int) -> Reader | Answer:
    """Reach the driver; return a reader, or the answer that says why there is none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        absent = error.value in _ABSENT
        why = "no NVIDIA driver" if absent else "the NVIDIA driver does not answer"
        return ending(number, f"{why}: {told(error)}", absent=absent)
    return Reader()


def answer(number: int, reader: Reader) -> Answer:
    """Return a reading; when the driver fails as a whole, the last answer of this process.

    Only a new process loads the library of a new driver, so nothing is tried again here.
    """
    try:
        return Answer(number=number, gpus=reader.read())
    except pynvml.NVMLError as error:
        return ending(number, f"the NVIDIA driver does not answer: {told(error)}")


def ending(number: int, problem: str, absent: bool = False) -> Answer:
    """Return the answer after which this process exits."""
    gpus = Gpus(problem=problem[:MAX_TEXT])
    return Answer(number=number, gpus=gpus, ending=True, absent=absent)


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer line by line until the input ends or an answer was the last."""
    reader: Reader | None = None
    for line in questions:
        number = wire.decode(line, Question).number
        begun = reader or begin(number)
        said = begun if isinstance(begun, Answer) else answer(number, begun)
        reader = None if isinstance(begun, Answer) else begun
        answers.write(wire.encode(said) + b"\n")
        answers.flush()
        if said.ending:
            return


def _end_with_parent() -> None:
    """Have the kernel end this process with its parent, even while it hangs in the driver."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what a library prints must not be taken for an answer
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
