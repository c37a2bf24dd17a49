"""When a copy on each of several schedulers counts as stored, and whom to ask first. Pure."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

WAY_OUT = (
    "Bring the others back and deploy again (one that is gone for good has to leave `peers` in the "
    "configuration of all); what runs goes on"
)


def majority_of(total: int) -> int:
    """Return how many of `total` schedulers are a majority of all, whether they live or not."""
    return total // 2 + 1


def is_settled(done: int, failed: int, total: int) -> bool:
    """Say whether it is known by now if a majority does it."""
    least = majority_of(total)
    return done >= least or failed > total - least


class Tally(NamedTuple):
    """What is known of who holds which blobs; `settled` when more answers could change nothing."""

    held: frozenset[str]
    settled: bool


def tally(
    asked: Collection[str], answers: Sequence[Collection[str]], awaited: int, total: int
) -> Tally:
    """Count copies: `answers` holds what each that answered has, `awaited` answers may yet come.

    Held is what a majority of all has, so that any later majority includes one that has it.
    Settled it is only once a majority answered: each answer counts the blobs as used.
    """
    least = majority_of(total)
    counts = Counter(digest for answer in answers for digest in set(answer))
    held = frozenset(digest for digest in asked if counts[digest] >= least)
    undecided = any(least - awaited <= counts[digest] < least for digest in asked)
    few = len(answers) < least <= len(answers) + awaited
    return Tally(held, awaited == 0 or not (undecided or few))


def turns(urls: Sequence[str], digest: str, away: Collection[str]) -> list[str]:
    """Return schedulers in the order to ask them for a blob: spread evenly, those away last."""
    first = int(digest[:8], 16) % len(urls) if urls else 0
    turned = [*urls[first:], *urls[:first]]
    return sorted(turned, key=lambda url: url in away)


def too_few(what: str, done: int, total: int, problems: Sequence[str]) -> str:
    """Return the message for something that no majority does, with each one's reason."""
    told = "; ".join(dict.fromkeys(problems)) or "the others do not answer"
    least = majority_of(total)
    return f"{done} of {total} schedulers can {what}, {least} are needed: {told}. {WAY_OUT}"
