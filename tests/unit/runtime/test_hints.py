"""What a predictor that cannot be loaded is told: once, and with the next step."""

from pathlib import Path

import pytest

from serai_runtime.loading import Failed, _load
from serai_runtime.options import Options


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import not_there\n", "No module named 'not_there' (predictor.py, line 1); if not_there"),
        ("class Predictor\n    pass\n", "SyntaxError: expected ':' (predictor.py, line 1)"),
    ],
)
def test_a_failed_import_is_told_once_with_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "predictor.py").write_text(text)
    found = _load(
        Options(predictor=str(tmp_path / "predictor.py"), project_dir=str(tmp_path)), print
    )
    assert isinstance(found, Failed)
    assert said in found.reason and found.reason.count("line 1") == 1
