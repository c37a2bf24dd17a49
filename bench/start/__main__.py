"""`make bench-start`: `serai up` to ready, and a deploy with a cached environment to its answer."""

import subprocess
import tempfile
import time
from operator import sub
from pathlib import Path
from statistics import median

from bench.report import ROOT, at_most, finish
from tests.support.serai import Serai, call

RUNS = 5
FLOWER = b'{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}'
JSON = {"Content-Type": "application/json"}
LOAD = (
    "import os, sys, time; os.chdir(sys.argv[1]); began = time.perf_counter(); "
    "sys.path.insert(0, '.'); import predictor; predictor.Predictor({}); "
    "print(time.perf_counter() - began)"
)


def up_s(serai: Serai) -> float:
    began_s = time.monotonic()
    serai.up()
    return time.monotonic() - began_s


def first_answer_s(serai: Serai) -> float:
    """Return the time from the deploy command to the first answer, the environment cached."""
    began_s = time.monotonic()
    serai.deploy(ROOT / "examples" / "iris")
    assert call(f"{serai.url}/iris", FLOWER, JSON).status == 200
    return time.monotonic() - began_s


def load_s(serai: Serai) -> float:
    """Return the predictor's own import and load time, in the same environment."""
    python = next((serai.data / "cache" / "environments").glob("*/bin/python"))
    command = [str(python), "-c", LOAD, str(ROOT / "examples" / "iris")]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    ups, answers, loads = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        serai = Serai(Path(folder) / "data")
        ups.append(up_s(serai))
        first_answer_s(serai)  # builds the environment
        for _ in range(RUNS):
            serai.run("delete", "iris", "-y")
            while "iris" in serai.run("get", "-o", "json").stdout:
                time.sleep(0.2)
            answers.append(first_answer_s(serai))
            loads.append(load_s(serai))  # in turns, for the machine's speed varies
        serai.run("delete", "iris", "-y")
        for _ in range(RUNS - 1):
            serai.down()
            ups.append(up_s(serai))
        serai.down()
    figures = {
        "up_s": median(ups),
        "first_answer_s": median(answers),
        "own_load_s": median(loads),
        "added_s": median(map(sub, answers, loads)),
    }
    finish("start", figures, {"up_s": at_most(1.5), "added_s": at_most(1.0)})


if __name__ == "__main__":
    main()
