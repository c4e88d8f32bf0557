"""Settings of every test: eight CPU devices, strict shapes, no silent rank promotion."""

import ctypes
import gc
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

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
# What one test compiled the others read, those of other workers and child processes too: all
# inherit the place. It goes when the tests are done, and the user's cache is left alone.
FIRST = "PYTEST_XDIST_WORKER" not in os.environ
if FIRST:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="fsclip-tests-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ.pop("FSCLIP_COMPILE_CACHE", None)

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

MOST_MAPS = 30_000
"""Memory maps that a process holds before its compiled programs are dropped; it may have 65,530."""

MOST_MEMORY = 3 * 2**30
"""Bytes that a process holds before its compiled programs are dropped; as many run as cores."""


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=5, help="kills of every test that kills")
    parser.addoption(
        "--empty", action="store_true", help="install the wheel's dependencies for the journey"
    )


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, or one process works on while the others are done."""
    weights = Counter()
    for item in items:
        kills, slow = (item.get_closest_marker(name) is not None for name in ("kills", "slow"))
        weights[item.path] += 1 + 1000 * kills + 50 * slow
    items.sort(key=lambda item: -weights[item.path])


def pytest_unconfigure():
    if FIRST:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def kills(request):
    """How often a test kills what it tests."""
    return request.config.getoption("--kills")


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs():
    """Every compiled program holds memory and maps of it: a long run would crash."""
    yield
    system = Path("/proc/self")
    if not system.exists() or (
        (system / "maps").read_bytes().count(b"\n") > MOST_MAPS
        or int((system / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > MOST_MEMORY
    ):
        jax.clear_caches()
        gc.collect()
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)  # else what is freed stays with the process


@pytest.fixture(scope="session")
def bank(tmp_path_factory):
    """A small bank of a known geometry."""
    from synthetic_bank import synthetic_bank  # behind the import hook

    return synthetic_bank(tmp_path_factory.mktemp("banks") / "plain")


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def compiled(tmp_path):
    """A folder of the test's own for compiled and traced programs."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)
