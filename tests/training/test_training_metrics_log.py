import json

import pytest

from fsclip_jax.training.events import crc32c
from fsclip_jax.training.metrics_log import METRICS_FILE, MetricsLog, read_metrics


def row(step, **numbers):
    return {"step": step, "time": 1.7e9 + step, **numbers}


def steps(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def write(workdir, last_step, rows):
    with MetricsLog(workdir, last_step) as log:
        for each in rows:
            log.write(each)
        log.sync()


def test_a_continued_log_has_every_step_once(tmp_path):
    write(tmp_path, None, [row(step, loss=1.0) for step in (0, 2, 4, 6)])
    write(tmp_path, 4, [row(step, loss=2.0) for step in (6, 8)])
    assert steps(tmp_path) == [0, 2, 4, 6, 8]
    assert [r["loss"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [1, 1, 1, 2, 2]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path):
    write(tmp_path, None, [row(0, loss=1.0), row(2, loss=1.0)])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    write(tmp_path, 2, [row(4, loss=3.0)])
    assert steps(tmp_path) == [0, 2, 4]


def test_whole_numbers_of_a_log_are_numbers(tmp_path):
    line = '{"step": 1, "time": 1795812353516, "loss": 2}\n'
    (tmp_path / METRICS_FILE).write_text(line)
    with MetricsLog(tmp_path, 1):
        pass
    assert (tmp_path / METRICS_FILE).read_text() == line


def test_a_new_run_begins_a_new_log(tmp_path):
    write(tmp_path, None, [row(0, loss=1.0)])
    write(tmp_path, None, [row(0, loss=2.0)])
    assert [r["loss"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [2.0]


def test_rows_are_valid_json_even_where_a_number_is_not_finite(tmp_path):
    write(tmp_path, None, [row(0, val_accuracy=float("nan"), loss=float("inf"))])
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert read_metrics(tmp_path / "metrics.jsonl")[0]["loss"] is None


def test_a_row_is_readable_at_once(tmp_path):
    with MetricsLog(tmp_path, None) as log:
        log.write(row(0, loss=1.0))
        assert steps(tmp_path) == [0]


def test_checksums_are_castagnolis():
    # Vectors of RFC 3720, appendix B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.filterwarnings("ignore")  # tensorboard's own, of numpy and protobuf
def test_tensorboard_reads_the_events(tmp_path):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError
    )
    write(tmp_path, None, [row(s, loss=0.5 + s, val_accuracy=s / 7) for s in (0, 300, 70000)])
    write(tmp_path, 300, [row(400, loss=9.0)])
    reader = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    assert sorted(reader.Tags()["scalars"]) == ["train/loss", "val/accuracy"]
    found = [(e.step, e.value, e.wall_time) for e in reader.Scalars("train/loss")]
    assert found == [(0, 0.5, 1.7e9), (300, 300.5, 1.7e9 + 300), (400, 9.0, 1.7e9 + 400)]
