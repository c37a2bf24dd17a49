"""Reading a spec file: from bytes to valid specs, or to all of its problems at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

import msgspec

from serai.errors import ConfigError
from serai.spec import cortex, rules
from serai.spec.constraints import spec_type, unfit
from serai.spec.files import missing_files
from serai.spec.findings import Finding, written
from serai.spec.nodes import Mapping, Mark, Node, Scalar
from serai.spec.nodes import Sequence as ListNode
from serai.spec.parse import MOST_FILE_BYTES, parse
from serai.spec.problems import LoadedSpecs, Note, Problem, SpecError
from serai.spec.read import FAILED, Reader
from serai.spec.scaling_rules import POLICY
from serai.spec.types import LATER_KINDS, MOST_APIS, ApiSpec

FILE_NAMES = ("serai.yaml", "cortex.yaml")
MOST_PROBLEMS = 1000
MOST_PER_REPLICA = 30_000
KIND_TYPE = next(field.type for field in spec_type().fields if field.name == "kind")


def find_file(path: FilePath) -> FilePath:
    """Return the spec file that `path` means: itself, or the one in that folder.

    Raises ConfigError where there is none.
    """
    if not path.is_dir():
        if path.suffix == ".py" and path.is_file():
            raise ConfigError(f"{path} is a Python file; name its folder, or its serai.yaml")
        if path.is_file():
            return path
        raise ConfigError(f"{path} does not exist; name a spec file, or a folder that holds one")
    for name in FILE_NAMES:
        if (path / name).is_file():
            return path / name
    raise ConfigError(
        f"{path} holds neither serai.yaml nor cortex.yaml; write one (a name and a predictor or a"
        " pod are enough), or name the file"
    )


def load_file(path: FilePath) -> LoadedSpecs:
    """Read a spec file and check that the files it names are there.

    Raises SpecError with every problem, ConfigError where the file itself cannot be read.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    file = str(path)
    if len(data) > MOST_FILE_BYTES:
        raise SpecError([_at(file, Mark(1, 1), "the file is larger than 1 MiB; is it the spec?")])
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        mark = Mark(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise SpecError([_at(file, mark, "the file is not UTF-8 text")]) from error
    return _load(text, file, path.parent)


def load_text(text: str, file: str) -> LoadedSpecs:
    """Read the text of a spec file; `file` is its name for messages. Raises SpecError."""
    return _load(text, file, None)


def validate(specs: Sequence[ApiSpec], file: str = "") -> tuple[Problem, ...]:
    """Return what is wrong with specs that came as values, by the same rules as for a file."""
    found = [(index, one) for index, spec in enumerate(specs) for one in rules.findings(spec)]
    found += rules.findings_together(specs)
    return tuple(_placeless(specs[index], index, finding, file) for index, finding in found)


def embedded_problems(specs: Sequence[ApiSpec], file: str = "") -> tuple[Problem, ...]:
    """Return what keeps valid specs from running under `serai up`."""
    return tuple(
        _placeless(spec, index, finding, file)
        for index, spec in enumerate(specs)
        for finding in rules.embedded_findings(spec)
    )


def embedded_notes(spec: ApiSpec) -> tuple[Note, ...]:
    """Return what a spec asks for that does nothing under `serai up`."""
    return tuple(
        Note(path=written(finding.path), message=finding.message)
        for finding in rules.embedded_remarks(spec)
    )


def _placeless(spec: ApiSpec, index: int, finding: Finding, file: str) -> Problem:
    path = _joined(_label(spec.name, index), written(finding.path))
    return _problem(finding, file, Mark(0, 0), path)


def normalised(spec: ApiSpec) -> ApiSpec:
    """Return the spec with the defaults that depend on other keys written out."""
    scaling = spec.autoscaling
    if scaling.init_replicas is None:
        scaling = msgspec.structs.replace(scaling, init_replicas=scaling.min_replicas)
    return msgspec.structs.replace(spec, endpoint=rules.endpoint_of(spec), autoscaling=scaling)


@dataclass(frozen=True)
class _Draft:
    """One API as far as it could be read; `spec` is None where it could not be at all."""

    label: str
    reader: Reader
    spec: ApiSpec | None
    remarks: tuple[cortex.Remark, ...] = ()
    policy_for: str = ""
    """The key for which Cortex's rule is taken though no policy is named."""

    def findings(self, folder: FilePath | None) -> Iterator[Finding]:
        """Yield all that is wrong with it alone."""
        yield from self.reader.findings
        if self.spec is None:
            return
        found = list(rules.findings(self.spec))
        if folder is not None:
            wrong = {finding.path for finding in found} | self.reader.failed
            found += missing_files(self.spec, folder, wrong)
        yield from (finding for finding in found if self.is_news(finding))

    def is_news(self, finding: Finding) -> bool:
        """Say whether a finding is more than a consequence of what could not be read."""
        return not any(finding.concerns(path) for path in self.reader.failed)

    def problem(self, finding: Finding, file: str) -> Problem:
        """Return the finding with its place."""
        mark = self.reader.place(finding.path, finding.at_key)
        path = _joined(self.label, self.reader.name(finding.path))
        text = self.reader.texts.get(finding.path)
        if finding.found and text:  # Quantities as they were written, not as they are counted.
            finding = replace(finding, found=text)
        if self.policy_for and POLICY in finding.others:
            message = f"{finding.message} (`policy: cortex` is taken for `{self.policy_for}`)"
            finding = replace(finding, message=message)
        return _problem(finding, file, mark, path)

    def notes(self, file: str) -> Iterator[Note]:
        """Yield what its writer should know though nothing is wrong."""
        found = [*self.reader.notes, *(rules.remarks(self.spec) if self.spec else ())]
        for finding in found:
            problem = self.problem(finding, file)
            yield _note(file, Mark(problem.line, problem.column), problem.path, finding.message)
        for remark in self.remarks:
            if not remark.wrong:
                yield _note(file, remark.mark, _joined(self.label, remark.path), remark.message)

    def problems(self, file: str, folder: FilePath | None) -> Iterator[Problem]:
        """Yield all of its problems with their places."""
        yield from (self.problem(finding, file) for finding in self.findings(folder))
        for remark in self.remarks:
            if remark.wrong:
                yield _at(file, remark.mark, remark.message, _joined(self.label, remark.path))


def _load(text: str, file: str, folder: FilePath | None) -> LoadedSpecs:
    documents, problems = parse(text, file)
    drafts = [_draft(node, index) for index, node in enumerate(_apis(documents, file, problems))]
    for draft in drafts:
        problems += draft.problems(file, folder)
    problems += _problems_together(drafts, file)
    if problems:
        raise SpecError(_in_order(problems, file))
    notes = (note for draft in drafts for note in draft.notes(file))
    return LoadedSpecs(
        apis=tuple(normalised(draft.spec) for draft in drafts if draft.spec is not None),
        notes=tuple(sorted(notes, key=lambda one: (one.line, one.column))),
    )


def _in_order(problems: list[Problem], file: str) -> list[Problem]:
    ordered = sorted(problems, key=lambda one: (one.line, one.column))
    if len(ordered) <= MOST_PROBLEMS:
        return ordered
    last = ordered[MOST_PROBLEMS]
    message = f"{len(ordered) - MOST_PROBLEMS} more problems from here on are not shown"
    return [*ordered[:MOST_PROBLEMS], _at(file, Mark(last.line, last.column), message)]


def _apis(documents: Sequence[Node], file: str, problems: list[Problem]) -> list[Mapping]:
    """Return the APIs of all documents; what is none becomes a problem."""
    nodes: list[Node] = []
    for document in documents:
        nodes += document.items if isinstance(document, ListNode) else (document,)
    nodes = [node for node in nodes if not (isinstance(node, Scalar) and node.value is None)]
    if not nodes:
        problems.append(_at(file, Mark(1, 1), "the file holds no API; write at least one"))
    if len(nodes) > MOST_APIS:
        message = f"the file holds {len(nodes)} APIs; a deploy takes {MOST_APIS}: split the file"
        problems.append(_at(file, nodes[MOST_APIS].mark, message))
        return []
    for node in nodes:
        if not _is_api(node):
            message = "expected an API: a mapping with `name`, and `predictor` or `pod`"
            wrapped = isinstance(node, Mapping)
            message += "; write the list itself, without `apis:` above it" if wrapped else ""
            problems.append(_at(file, node.mark, message))
    return [node for node in nodes if isinstance(node, Mapping) and _is_api(node)]


def _is_api(node: Node) -> bool:
    return isinstance(node, Mapping) and not (len(node.entries) == 1 and node.get("apis"))


def _draft(node: Mapping, index: int) -> _Draft:
    reader, name, kind = Reader(), node.get("name"), node.get("kind")
    label = _label(name.text if isinstance(name, Scalar) else "", index)
    if isinstance(kind, Scalar) and kind.text in LATER_KINDS:
        # Its other keys are not known here, so the kind is all that can be said.
        reader.values[("kind",)] = kind.mark
        reader.findings += unfit(kind.text, KIND_TYPE, ("kind",))
        return _Draft(label, reader, None)
    converted = cortex.convert(node)
    spec = reader.read(converted.node, spec_type())
    spec = None if spec is FAILED else _with_concurrency(spec, reader)
    return _Draft(label, reader, spec, converted.remarks, converted.policy_for)


def _with_concurrency(spec: ApiSpec, reader: Reader) -> ApiSpec:
    """Return the spec with as many requests per replica as its predictor can work on."""
    if spec.predictor is None or ("concurrency", "per_replica") in reader.values:
        return spec
    # Two batches: one gathers while the other runs.
    batch = 2 * spec.predictor.batch.max_size if spec.predictor.batch else 1
    wanted = max(1, spec.predictor.processes) * max(1, spec.predictor.threads, batch)
    per_replica = min(MOST_PER_REPLICA, wanted)
    concurrency = msgspec.structs.replace(spec.concurrency, per_replica=per_replica)
    return msgspec.structs.replace(spec, concurrency=concurrency)


def _problems_together(drafts: Sequence[_Draft], file: str) -> Iterator[Problem]:
    readable = [(draft, draft.spec) for draft in drafts if draft.spec is not None]
    for index, finding in rules.findings_together([spec for _, spec in readable]):
        draft, _ = readable[index]
        if draft.is_news(finding):
            yield draft.problem(finding, file)


def _label(name: str, index: int) -> str:
    return name if 0 < len(name) <= 60 and name.isprintable() else f"apis[{index}]"


def _joined(*parts: str) -> str:
    return ": ".join(part for part in parts if part)


def _at(file: str, mark: Mark, message: str, path: str = "") -> Problem:
    return Problem(file=file, line=mark.line, column=mark.column, path=path, message=message)


def _note(file: str, mark: Mark, path: str, message: str) -> Note:
    return Note(file=file, line=mark.line, column=mark.column, path=path, message=message)


def _problem(finding: Finding, file: str, mark: Mark, path: str) -> Problem:
    return Problem(
        file=file,
        line=mark.line,
        column=mark.column,
        path=path,
        message=finding.message,
        found=finding.found,
        allowed=finding.allowed,
        hint=finding.hint,
    )
