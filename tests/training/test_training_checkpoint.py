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


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, blank):
    checkpoints = Checkpoints(tmp_path)
    for step in (3, 6):
        checkpoints.save(at(blank, step))
    (tmp_path / "checkpoints/last/6/default/_METADATA").write_bytes(b"")
    assert_same(checkpoints.restore(blank), at(blank, 3))
    shutil.rmtree(tmp_path / "checkpoints/last/3/default")
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        checkpoints.restore(blank)
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
