"""What the agent and its GPU reader say to each other, one line of JSON each."""

from serai.model import Value
from serai.report import Gpus

MAX_TEXT = 256


class Question(Value):
    """What the parent asks: a reading, under a number that the answer repeats."""

    number: int


class Answer(Value):
    """What the child says. `ending`: it exits after this; `absent`: there is no driver here."""

    number: int
    gpus: Gpus
    ending: bool = False
    absent: bool = False
