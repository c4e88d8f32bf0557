"""Settings of every test: eight CPU devices, strict shapes, no silent rank promotion."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the tests' time is compiling, and small programs gain nothing from optimisation.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
)
os.environ["HF_HUB_OFFLINE"] = "1"
# Nothing is left in the user's cache, and every program is compiled with the flags above.
os.environ["FSCLIP_COMPILE_CACHE"] = "off"

from jaxtyping import install_import_hook

# Every annotated function of the package has its shapes checked at run time, in tests only.
install_import_hook("fsclip_jax", "beartype.beartype")

import hypothesis
import jax
import pytest

# No deadline: the first example of a jitted function compiles it. The same examples every time:
# a failure is seen by everybody or by nobody.
hypothesis.settings.register_profile("fsclip", deadline=None, derandomize=True)
hypothesis.settings.load_profile("fsclip")

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs():
    """Every compiled program holds memory maps, and a process has 65,530: a long run crashes."""
    yield
    jax.clear_caches()


@pytest.fixture
def key():
    return jax.random.key(0)
