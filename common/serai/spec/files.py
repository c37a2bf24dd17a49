"""Whether the files that a spec names are in its folder; the only rule that looks at a disk."""

from collections.abc import Iterator, Set
from pathlib import Path as FilePath

from serai.spec.findings import Finding, Path
from serai.spec.problems import nearest, shown
from serai.spec.types import ApiSpec

_MOST_NEIGHBOURS = 1000


def missing_files(spec: ApiSpec, folder: FilePath, wrong: Set[Path]) -> Iterator[Finding]:
    """Yield a finding for each named file that cannot be used; `wrong` keys are left out."""
    if spec.predictor is None:
        return
    named = {"path": spec.predictor.path, "requirements": spec.predictor.requirements}
    for key, file in named.items():
        path: Path = ("predictor", key)
        if file is None or any(path[: len(one)] == one for one in wrong if one):
            continue
        if reason := _unusable(folder / file, folder):
            yield Finding(path, reason, shown(file), hint=_neighbour(folder, file))


def _unusable(file: FilePath, folder: FilePath) -> str:
    try:
        real = file.resolve()
        if not real.is_relative_to(folder.resolve()):
            return "leads out of the folder by a link; put the file itself there"
        if real.is_file():
            return ""
        where = f"in {folder}" if str(folder) != "." else "in this folder"
        return "is a folder, not a file" if real.is_dir() else f"names a file that is not {where}"
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _neighbour(folder: FilePath, file: str) -> str:
    """Return the file there whose name is the most like it."""
    parent = (folder / file).parent
    try:
        names = [
            one.name for _, one in zip(range(_MOST_NEIGHBOURS), parent.iterdir(), strict=False)
        ]
    except OSError:
        return ""
    before, _, name = file.rpartition("/")
    found = nearest(name, [one for one in names if one != name])
    return f"{before}/{found}" if before and found else found
