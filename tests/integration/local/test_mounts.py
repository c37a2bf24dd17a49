"""Which folders an operator lets replicas mount, links included."""

from pathlib import Path

from serai_agent.local.mounts import mount_problem


def test_only_what_lies_below_an_allowed_folder_may_be_mounted(tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "v1").mkdir(parents=True)
    (models / "out").symlink_to(tmp_path)
    (tmp_path / "here").symlink_to(models)
    allowed = [str(models)]
    for fine in (models, models / "v1", models / "later", tmp_path / "here" / "v1"):
        assert mount_problem(str(fine), allowed) is None
    for wrong in ("/", "/etc", str(tmp_path), str(models) + "-other", str(models / "out")):
        told = mount_problem(wrong, allowed)
        assert told is not None and wrong in told and str(models) in told
    assert "--allow-mount" in (mount_problem(str(models), []) or "")
