"""JSON of a user: no depth and no length of it decides what reading it costs."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from fsclip_jax.adapters.checkpoint import load_adapter
from fsclip_jax.clip.files import read_json, shard_paths
from fsclip_jax.data.coco_files import read_boxes
from fsclip_jax.data.prompts import read_prompt_file
from fsclip_jax.data.split_file import read_split_file
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.predictions_file import read_predictions
from fsclip_jax.features.store import open_bank
from fsclip_jax.report.rows import read_report
from fsclip_jax.report.suite import read_suite
from fsclip_jax.training.metrics_log import read_metrics
from fsclip_jax.training.workdir import read_run

READERS = {
    "config.json": read_json,
    "model.safetensors.index.json": shard_paths,
    "boxes.json": read_boxes,
    "prompts.json": lambda path: read_prompt_file(path, ("a", "b")),
    "split.json": read_split_file,
    "manifest.json": lambda path: open_bank(path.parent),
    "run/config.json": lambda path: read_run(path.parent),
    "report.json": read_report,
    "suite.json": read_suite,
}
IN_HEADERS = {"fsclip_jax": load_adapter, "index": read_predictions}
DEEP = {
    "lists": "[" * 200_000 + "]" * 200_000,
    "objects": '{"a":' * 200_000 + "1" + "}" * 200_000,
    "never closed": '{"a":[' * 100_000,
    "within what msgspec decodes": '{"a":' * 500 + "1" + "}" * 500,
}


def one_line(read, path):
    with pytest.raises(UserError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("deep", DEEP)
@pytest.mark.parametrize("name", READERS)
def test_nested_brackets_are_refused_in_one_line(tmp_path, name, deep):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(DEEP[deep])
    assert str(path) in one_line(READERS[name], path)


@pytest.mark.parametrize("deep", DEEP)
@pytest.mark.parametrize("key", IN_HEADERS)
def test_headers_of_tensors_too(tmp_path, key, deep):
    path = tmp_path / "adapter.safetensors"
    save_file({"a": np.zeros(1, np.float32)}, path, {key: DEEP[deep]})
    one_line(IN_HEADERS[key], path)


def test_readers_that_pass_over_what_is_damaged_pass_over_depth(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n' + DEEP["lists"] + '\n{"step": 3}\n')
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1}]
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n7\n{"loss": 3}\n')
    assert read_metrics(tmp_path / "metrics.jsonl", 5) == [{"step": 1}]


@pytest.mark.parametrize("name", ["config.json", "run/config.json", "manifest.json", "boxes.json"])
def test_long_files_are_not_read(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(5 * 2**30)  # no byte of it is on the disk
    assert "5368709120 bytes, of which at most" in one_line(READERS[name], path)


@pytest.mark.parametrize("names", [[5], [None], ["a", 3], ["../a"], ["/a"], ["\0"], ["x" * 5000]])
def test_an_index_names_files_beside_it_alone(tmp_path, names):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": dict(enumerate(names))}))
    assert len(one_line(shard_paths, path)) < 500
