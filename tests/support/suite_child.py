"""Runs evaluations and suites in forked children and kills them: a program for test_suite_killed.

    suite_child.py KILLS SEED FOLDER

Everything but the numbers is real: those are made up, in a few milliseconds, so that a kill falls
before, between and within the writing of files. JAX is imported once, here, and a child is forked
before any backend is there. Children are killed at random moments until KILLS of each kind were,
taking a new folder whenever one was done; then what is left is finished, and ``whole`` made in
peace. After every kill what is in the folder is read. Prints a line a kill.
"""

import dataclasses
import hashlib
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from killing import moments, run_and_kill, telling

from fsclip_jax.cli import eval as cli_eval
from fsclip_jax.cli import suite as cli_suite
from fsclip_jax.evaluation import evaluate as evaluate_module
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.predictions import Part, Predicted, assemble
from fsclip_jax.evaluation.predictions_file import PREDICTIONS_FILE, read_predictions
from fsclip_jax.features import extract as extract_module
from fsclip_jax.report import write as report_module
from fsclip_jax.report.rows import Metric, Report, Row, read_report
from fsclip_jax.suite import run as run_module
from fsclip_jax.suite.config import SuiteConfig

EVAL = EvalConfig(data="a", methods=("zero_shot", "gda", "ridge"), shots=(1, 2))
SUITE = SuiteConfig(
    data=("folder:a", "folder:b"), methods=("zero_shot", "gda", "ridge"), shots=(1, 2, 4)
)
LONGEST = {"eval": 0.06, "suite": 0.25}  # seconds


def made_up(config, *_, command="", **__):
    """An evaluation whose numbers are a function of its configuration."""
    time.sleep(0.01)
    rows, kept = [], []
    for method in config.methods:
        for shots in config.shots:
            seed = hashlib.sha256(f"{config.data} {method} {shots}".encode()).digest()
            rng = np.random.default_rng(list(seed))
            per_seed = tuple(rng.uniform(20, 80, config.seeds).round(6).tolist())
            rows.append(Row(method, shots, "test", {"accuracy": Metric(50.0, 1.0, per_seed)}))
            answers = rng.integers(0, 9, (config.seeds, 500)).astype(np.uint16)
            chance = rng.uniform(size=(2, config.seeds, 500)).astype(np.float32)
            kept.append(Predicted(method, shots, "test", answers, *chance))
    labels = np.zeros(500, int)
    groups = {"test": (0, np.arange(500), labels)}
    part = Part(0, list("abcdefghi"), np.arange(9), np.zeros((config.seeds, 9, 2), int), groups)
    predictions = assemble([(config.data, [f"image {i}" for i in range(500)])], [part], kept)
    report = Report(
        fsclip_version="1", command=command, device="none", protocol="full_way",
        label_space="restricted", backbone={"id": "b", "sha256": "c"},
        data={"n_classes": 9, "n_query": 500, "version": "1"}, rows=tuple(rows),
        settings={"select": "val"}, created=str(time.time()),
    )  # fmt: skip
    return evaluate_module.Evaluation(report, predictions)


def prepare() -> None:
    """Replace the numbers and the pages, which are tested elsewhere."""
    evaluate_module.evaluate_bank = run_module.evaluate_bank = made_up
    bank = SimpleNamespace(text_features=())  # that there is text is all that is asked of it
    extract_module.bank_for = run_module.bank_for = lambda *_, **__: bank
    report_module.draw_report = lambda *_: []
    report_module.suite_to_html = lambda _: ""
    run_module.over_devices = map  # one cell after another, so that kills meet many states
    run_module.jax.clear_caches = lambda: None


def start(kind: str, place: Path) -> int:
    if kind == "eval":
        return cli_eval.run(dataclasses.replace(EVAL, out=place), "none")
    return cli_suite.run(dataclasses.replace(SUITE, out=place), "none")


def run(kind: str, place: Path, wait: float | None) -> bool:
    """Run in a child and kill it; say if it was not done before.

    The clock of a kill starts when files are looked at or numbers are there.
    """

    def work(tell) -> int:
        if kind == "eval":
            telling(evaluate_module, "write_evaluation", tell)
        else:
            telling(run_module, "finished", tell)
        return start(kind, place)

    return run_and_kill(work, None if wait is None else 1, wait or 0.0)


def whole_reports(place: Path) -> int:
    """Read every report with its predictions, which must be whole; say how many there are."""
    files = sorted(place.rglob("report.json"))
    for file in files:
        sha256 = read_report(file).settings["predictions_sha256"]
        content = (file.parent / PREDICTIONS_FILE).read_bytes()
        assert hashlib.sha256(content).hexdigest() == sha256, file
        read_predictions(file.parent)
    return len(files)


def main(kills: int, seed: int, folder: Path) -> None:
    """Kill so many of either kind."""
    prepare()
    rng = moments(seed)
    for kind, longest in LONGEST.items():
        done, number = 0, 0
        while done < kills:
            place = folder / f"{kind}-{number}"
            if run(kind, place, rng.uniform(0, longest)):
                done += 1
                print(kind, number, "killed with", whole_reports(place), flush=True)
            else:
                number += 1
        for left in range(number + 1):
            assert not run(kind, folder / f"{kind}-{left}", None)
        assert not run(kind, folder / f"{kind}-whole", None)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
