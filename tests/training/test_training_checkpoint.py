import errno
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.errors import UserError
from fsclip_jax.training.checkpoint import Best, Checkpoints, Saved, first_best, to_host
from fsclip_jax.training.config import TrainConfig
from fsclip_jax.training.state import init_state


@pytest.fixture
def blank():
    state = to_host(init_state(get_adapter("meta_adapter"), 8, TrainConfig()))
    return Saved(state, first_best(state.params))


def at(blank, step, best_step=0):
    """A saved state with numbers of its own in every leaf."""
    rng = np.random.default_rng(step)
    saved = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), blank)
    best = Best(np.array(best_step, np.int32), np.array(50 + best_step, np.float32), saved.best[2])
    return Saved(saved.state._replace(step=np.array(step, np.int32)), best)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert x.tobytes() == y.tobytes()


def test_what_is_restored_is_what_was_saved_bit_for_bit(tmp_path, blank):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step() is None
    for step in (3, 6, 9):
        checkpoints.save(at(blank, step, best_step=3))
    checkpoints.close()
    reopened = Checkpoints(tmp_path)
    assert reopened.latest_step() == 9
    assert_same(reopened.restore(blank), at(blank, 9, best_step=3))
    assert sorted(path.name for path in (tmp_path / "checkpoints/last").iterdir()) == ["6", "9"]
    assert [path.name for path in (tmp_path / "checkpoints/best").iterdir()] == ["3"]
    reopened.close()


def test_a_best_of_an_undone_future_is_replaced(tmp_path, blank):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(at(blank, 4, best_step=4))
    checkpoints.save(at(blank, 8, best_step=8))
    shutil.rmtree(tmp_path / "checkpoints/last/8")
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(at(blank, 6, best_step=6))
    assert [path.name for path in (tmp_path / "checkpoints/best").iterdir()] == ["6"]
    checkpoints.close()


def cut(step):
    for file in step.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def cut_arrays(step):
    for file in (step / "default").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:9])


def emptied(step):
    shutil.rmtree(step / "default")


def without_manifest(step):
    (step / "default" / "manifest.ocdbt").unlink()


def of_another_step(step):
    shutil.rmtree(step)
    shutil.copytree(step.parent / "3", step)


@pytest.mark.parametrize("damage", [cut, cut_arrays, emptied, without_manifest, of_another_step])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, blank, damage, capfd):
    checkpoints, last = Checkpoints(tmp_path), tmp_path / "checkpoints/last"
    for step in (3, 6):
        checkpoints.save(at(blank, step))
    checkpoints.close()
    damage(last / "6")
    checkpoints = Checkpoints(tmp_path)
    assert_same(checkpoints.restore(blank), at(blank, 3))
    told = capfd.readouterr().err
    assert told.startswith("note: the checkpoint of step 6 cannot be read (")
    assert told.endswith("and the run goes on from step 3\n")
    assert told.count("\n") == 1
    assert (tmp_path / "checkpoints/unreadable/6").is_dir()
    # The step is made again, and is then the newest.
    checkpoints.save(at(blank, 6))
    assert_same(checkpoints.restore(blank), at(blank, 6))
    for step in (3, 6):
        damage(last / str(step)) if damage is not of_another_step else emptied(last / str(step))
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read \(step 6: .*; step 3: "):
        checkpoints.restore(blank)
    checkpoints.close()
    assert capfd.readouterr().err == ""
    assert sorted(path.name for path in last.iterdir()) == ["3", "6"]


def test_a_stray_folder_is_no_checkpoint(tmp_path, blank, capfd):
    checkpoints, last = Checkpoints(tmp_path), tmp_path / "checkpoints/last"
    checkpoints.save(at(blank, 3))
    checkpoints.close()
    (last / "1000000").mkdir()
    checkpoints = Checkpoints(tmp_path)
    assert_same(checkpoints.restore(blank), at(blank, 3))
    assert "the checkpoint of step 1000000 cannot be read" in capfd.readouterr().err
    checkpoints.save(at(blank, 6))
    assert checkpoints.latest_step() == 6
    checkpoints.close()


def test_arrays_are_read_where_orbax_lost_its_description(tmp_path, blank, capfd):
    checkpoints = Checkpoints(tmp_path)
    for step in (3, 6):
        checkpoints.save(at(blank, step))
    checkpoints.close()
    for file in tmp_path.rglob("*METADATA"):
        file.unlink()
    checkpoints = Checkpoints(tmp_path)
    assert_same(checkpoints.restore(blank), at(blank, 6))
    checkpoints.close()
    assert capfd.readouterr().err == ""


def test_arrays_of_another_width_are_refused(tmp_path, blank):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(at(blank, 3))
    wide = to_host(init_state(get_adapter("meta_adapter"), 16, TrainConfig()))
    with pytest.raises(UserError, match=r"an array is .*, config\.json says "):
        checkpoints.restore(Saved(wide, first_best(wide.params)))
    checkpoints.close()


def test_times_that_are_none_cost_no_checkpoint(tmp_path, blank):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(at(blank, 3))
    checkpoints.close()
    told = tmp_path / "checkpoints/last/3/_CHECKPOINT_METADATA"
    told.write_text('{"init_timestamp_nsecs": 1.5}')
    checkpoints = Checkpoints(tmp_path)
    assert_same(checkpoints.restore(blank), at(blank, 3))
    checkpoints.close()


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(
    tmp_path, blank, monkeypatch, failure
):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(at(blank, 3))

    def refuse(*_args, **_kwargs):
        raise failure

    monkeypatch.setattr(ocp.CheckpointManager, "save", refuse)
    with pytest.raises(UserError, match="no space left to write"):
        checkpoints.save(at(blank, 6))
    monkeypatch.undo()
    assert_same(checkpoints.restore(blank), at(blank, 3))
    checkpoints.close()


def test_another_failure_is_not_taken_for_a_full_disk(tmp_path, blank, monkeypatch):
    checkpoints = Checkpoints(tmp_path)

    def refuse(*_args, **_kwargs):
        raise ValueError("a bug")

    monkeypatch.setattr(ocp.CheckpointManager, "save", refuse)
    with pytest.raises(ValueError, match="a bug") as caught:
        checkpoints.save(at(blank, 6))
    assert not isinstance(caught.value, UserError)
    checkpoints.close()
