"""The process that a policy of one's own runs in: `child.py FOLDER MODULE:FACTORY`.

It answers one line of JSON per line that it is asked. It is run as a file, with nothing of Serai
imported: it starts within some hundredths of a second, and what it imports is the policy's alone.
It ends when its input ends, even while the policy is busy. What the policy raises is told, and
ends the process: what an object was in the middle of is not gone on from.
"""

import json
import operator
import os
import queue
import resource
import sys
import threading
from importlib import import_module
from types import TracebackType
from typing import Any, BinaryIO

MEMORY_BYTES = 2 * 2**30
NICER = 5
MAX_TEXT = 500
MOST = 10**12
"""What is beyond is told as text: JSON of other programs need not hold it."""


class Answers:
    """Where answers go: what the policy prints must not be taken for one."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.number = 0

    def write(self, **said: Any) -> None:
        self._out.write(json.dumps({"number": self.number, **said}).encode() + b"\n")
        self._out.flush()

    def tell_raised(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Tell what ends this process (as `sys.excepthook`)."""
        self.write(fault=f"{kind.__name__}: {error}"[:MAX_TEXT])


def made(target: str, config: dict[str, Any]) -> Any:
    """Import the factory and call it; raises whatever these raise, and TypeError."""
    module, _, name = target.partition(":")
    policy = getattr(import_module(module), name)(config)
    if not callable(getattr(policy, "decide", None)):
        raise TypeError(f"{target} returned {type(policy).__name__}, which has no decide()")
    return policy


def described(count: Any) -> dict[str, Any]:
    """Return a decision as JSON holds it; what is no whole number is shown."""
    if not isinstance(count, bool) and hasattr(count, "__index__"):
        number = operator.index(count)
        if -MOST < number < MOST:
            return {"count": number}
        return {"shown": "a number of more than 12 digits"}
    return {"shown": repr(count)[:MAX_TEXT]}


def serve(target: str, questions: "queue.SimpleQueue[bytes]", answers: Answers) -> None:
    """Make the policy from the first question, then answer the others."""
    policy: Any = None
    while True:
        asked = json.loads(questions.get())
        answers.number = asked["number"]
        if policy is None:
            policy = made(target, asked["config"])
            answers.write(count=0)
        else:
            answers.write(**described(policy.decide(asked["now_s"], asked["observation"])))


def _read(questions: "queue.SimpleQueue[bytes]") -> None:
    """Pass on what is asked; end the process with its input, whatever the policy is doing."""
    # A file of its own: at its end Python would wait for the lock of `sys.stdin`.
    for line in os.fdopen(os.dup(0), "rb"):
        questions.put(line)
    os._exit(0)


def main() -> None:
    folder, target = sys.argv[1:]
    for limit, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (most, most))
    os.nice(NICER)
    answers = Answers(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    sys.excepthook = answers.tell_raised
    sys.dont_write_bytecode = True
    sys.path.insert(0, folder)
    questions: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(questions,), daemon=True).start()
    serve(target, questions, answers)


if __name__ == "__main__":
    main()
