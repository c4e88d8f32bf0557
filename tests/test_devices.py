import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

from fsclip_jax import devices
from fsclip_jax.devices import batch_sharding, data_mesh, replicated, runs_on, unseen_accelerator
from fsclip_jax.errors import UserError


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_mesh_takes_the_first_devices_along_one_auto_axis(count):
    mesh = data_mesh(count)
    assert mesh.axis_names == ("data",)
    assert mesh.axis_types == (AxisType.Auto,)
    assert list(mesh.devices) == jax.devices()[:count]


def test_mesh_takes_every_device_by_default():
    assert data_mesh().size == len(jax.devices()) == 8


@pytest.mark.parametrize("count", [0, -1, 9])
def test_a_number_of_devices_that_is_not_there_is_a_user_error(count):
    with pytest.raises(UserError, match=f"{count} devices asked for.*has 8"):
        data_mesh(count)


def test_batches_are_split_and_parameters_copied():
    mesh = data_mesh(4)
    split = jax.device_put(jnp.zeros((8, 3)), batch_sharding(mesh))
    copied = jax.device_put(jnp.zeros((8, 3)), replicated(mesh))
    assert {shard.data.shape for shard in split.addressable_shards} == {(2, 3)}
    assert {shard.data.shape for shard in copied.addressable_shards} == {(8, 3)}


class Device:
    def __init__(self, platform, kind):
        self.platform, self.device_kind = platform, kind


def computes_on(monkeypatch, count, platform, kind):
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(platform, kind)] * count)


def test_what_is_computed_on_is_said_in_a_few_words(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert runs_on() == "2 CPU cores"
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {5}, raising=False)
    assert runs_on() == "1 CPU core"
    computes_on(monkeypatch, 1, "gpu", "NVIDIA H100")
    assert runs_on() == "NVIDIA H100"
    computes_on(monkeypatch, 4, "gpu", "NVIDIA H100")
    assert runs_on() == "4 x NVIDIA H100"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A stand-in for a machine with a GPU, by the number of its driver."""
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)

    def made(driver):
        for name in ("dev/nvidia0", "proc/driver/nvidia/version"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"NVRM version: Kernel Module {driver}.65.06 Release\n")
        return tmp_path

    return made


@pytest.mark.parametrize(
    ("driver", "cure"),
    [
        (580, "pip install 'fsclip-jax[cuda13]'"),
        (535, "pip install 'fsclip-jax[cuda12]'"),
        (470, "its driver is too old, install a newer one"),
    ],
)
def test_a_gpu_that_jax_does_not_see_is_told_with_the_cure(machine, driver, cure, monkeypatch):
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda _: None)
    told = f"there is an NVIDIA GPU with driver {driver}, but JAX sees none: {cure}"
    assert unseen_accelerator(machine(driver)) == told


def test_a_plugin_that_does_not_start_wants_no_second_installation(machine, monkeypatch):
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: name)
    told = unseen_accelerator(machine(535))
    assert "though jax_cuda12_plugin is installed" in told
    assert "pip install" not in told


def test_nothing_is_told_where_all_is_well_or_wanted(machine, monkeypatch, tmp_path):
    assert unseen_accelerator(tmp_path / "none") is None
    root = machine(580)
    for name, value in (("JAX_PLATFORMS", "cpu"), ("CUDA_VISIBLE_DEVICES", "")):
        monkeypatch.setenv(name, value)
        assert unseen_accelerator(root) is None
        monkeypatch.delenv(name)
    assert unseen_accelerator(root) is not None
    computes_on(monkeypatch, 1, "gpu", "NVIDIA H100")
    assert unseen_accelerator(root) is None
