import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

from fsclip_jax.devices import batch_sharding, data_mesh, replicated
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
