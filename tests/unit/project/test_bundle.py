"""Manifests: what is accepted, and that the same files give the same bundle."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.bundle import (
    MAX_FILE_BYTES,
    MAX_PATH_BYTES,
    BundleFile,
    Manifest,
    check_manifest,
    encode_manifest,
    path_fault,
    read_manifest,
)
from serai.errors import ConfigError, Refused
from serai.model import digest_of
from serai_cli.project.bundle import build
from serai_cli.project.collect import collect

DIGEST = digest_of(b"x")
FAR_NS = 2**62


def manifest(*paths: str, digest: str = DIGEST, size_bytes: int = 1) -> Manifest:
    return Manifest(
        files=tuple(BundleFile(path=p, digest=digest, size_bytes=size_bytes) for p in paths)
    )


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "../x", "a/../../x", "a/..", "..", ".", "./a", "a//b", "a/", "", "a/./b"),
        *("a\\b", "a\x00b", "a\nb", "a\x7f", "a\x85", "a\ud800", "é" * 600, "n" * 256),
        "/".join(["abc"] * 300),
    ],
)
def test_a_path_that_could_do_harm_is_refused(path: str) -> None:
    with pytest.raises(Refused) as caught:
        check_manifest(manifest(path))
    assert caught.value.code == "bad_path"


@pytest.mark.parametrize("path", ["a", "a b/c.py", "..a", "a..", "...", ".env", "a:b", "模型/é"])
def test_an_odd_but_harmless_path_is_accepted(path: str) -> None:
    check_manifest(manifest(path))


@given(st.text(max_size=60) | st.lists(st.sampled_from(["..", ".", "", "a", "b"])).map("/".join))
def test_an_accepted_path_stays_below_its_folder(path: str) -> None:
    if path_fault(path) is None:
        whole = os.path.normpath(f"/root/folder/{path}")
        assert whole == f"/root/folder/{path}"
        assert whole.startswith("/root/folder/") and len(path.encode()) <= MAX_PATH_BYTES


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        (("a", "a"), "listed twice"),
        (("b", "a"), "not sorted"),
        (("a", "a/b"), "a is a file and also the folder of a/b"),
        (("a", "a-b", "a/b/c"), "a is a file and also the folder of a/b/c"),
    ],
)
def test_paths_that_contradict_each_other_are_refused(paths: tuple[str, ...], why: str) -> None:
    with pytest.raises(Refused, match=why):
        check_manifest(manifest(*paths))


def test_paths_that_differ_in_case_only_are_two_files() -> None:
    check_manifest(manifest("Model.py", "model.py"))


def test_sizes_and_digests_are_checked() -> None:
    with pytest.raises(Refused, match="at most"):
        check_manifest(manifest("a", size_bytes=MAX_FILE_BYTES + 1))
    with pytest.raises(Refused, match="not a SHA-256"):
        check_manifest(manifest("a", digest="../../x"))
    one, other = manifest("a").files[0], manifest("b", size_bytes=2).files[0]
    with pytest.raises(Refused, match="another size"):
        check_manifest(Manifest(files=(one, other)))


def test_what_is_written_is_read_again() -> None:
    assert read_manifest(encode_manifest(manifest("a", "b"))) == manifest("a", "b")
    with pytest.raises(ConfigError):
        read_manifest(b"{")
    with pytest.raises(Refused):
        read_manifest(encode_manifest(manifest("../a")))


def project(root: Path) -> Path:
    (root / "sub").mkdir(parents=True)
    (root / "predictor.py").write_text("class Predictor: ...")
    (root / "sub/one").write_text("same")
    (root / "sub/two").write_text("same")
    return root


def test_the_same_files_give_the_same_bundle_anywhere(tmp_path: Path) -> None:
    one = build(collect(project(tmp_path / "a")), tmp_path / "cache", FAR_NS)
    two = build(collect(project(tmp_path / "b")), tmp_path / "other", FAR_NS)
    assert one.digest == two.digest
    assert [source.label for source in one.sources] == ["predictor.py", "sub/one", "the manifest"]
    assert read_manifest(one.sources[-1].data) == one.manifest
    (tmp_path / "b/sub/two").chmod(0o755)
    assert build(collect(tmp_path / "b"), tmp_path / "other", FAR_NS).digest != one.digest


def test_digests_are_remembered_only_while_the_file_is_untouched(tmp_path: Path) -> None:
    root, cache = project(tmp_path / "a"), tmp_path / "cache"
    first = build(collect(root), cache, FAR_NS)
    (memory,) = (cache / "digests").iterdir()
    written_ns = memory.stat().st_mtime_ns
    assert build(collect(root), cache, FAR_NS) == first
    assert memory.stat().st_mtime_ns == written_ns
    info = (root / "predictor.py").stat()
    (root / "predictor.py").write_text("CLASS Predictor: ...")
    os.utime(root / "predictor.py", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert build(collect(root), cache, FAR_NS).digest != first.digest


def test_digests_are_really_taken_from_memory(tmp_path: Path) -> None:
    root, cache = project(tmp_path / "a"), tmp_path / "cache"
    first = build(collect(root), cache, FAR_NS)
    (memory,) = (cache / "digests").iterdir()
    told = memory.read_bytes()
    wrong = digest_of(b"something else").encode()
    memory.write_bytes(told.replace(digest_of(b"class Predictor: ...").encode(), wrong))
    again = build(collect(root), cache, FAR_NS)
    assert again.digest != first.digest and again.manifest.files[0].digest == wrong.decode()


def test_a_file_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    root, cache = project(tmp_path / "a"), tmp_path / "cache"
    newest_ns = max(file.ctime_ns for file in collect(root).files)
    build(collect(root), cache, newest_ns + 1_000_000_000)
    assert not (cache / "digests").exists()
    build(collect(root), cache, newest_ns + 3_000_000_000)
    assert (cache / "digests").exists()


def test_a_cache_that_is_broken_or_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    root, cache = project(tmp_path / "a"), tmp_path / "cache"
    first = build(collect(root), cache, FAR_NS)
    (memory,) = (cache / "digests").iterdir()
    memory.write_bytes(b"\xff broken")
    assert build(collect(root), cache, FAR_NS) == first
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    assert build(collect(root), in_the_way, FAR_NS) == first


def test_a_file_that_changes_after_it_was_found_is_named(tmp_path: Path) -> None:
    root = project(tmp_path / "a")
    found = collect(root)
    (root / "predictor.py").write_text("longer than it was before by far")
    with pytest.raises(ConfigError, match=r"predictor\.py is being changed"):
        build(found, tmp_path / "cache", FAR_NS)
    (root / "predictor.py").unlink()
    with pytest.raises(ConfigError, match=r"predictor\.py cannot be read"):
        build(found, tmp_path / "cache", FAR_NS)
