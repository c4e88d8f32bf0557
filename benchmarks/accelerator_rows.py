"""The rows of ``accelerator.py``: each group yields its rows one by one, ours against PyTorch."""

import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
from ceilings import copy_rate, floor, product_rate
from pairs import Bound, Pairs, run_pairs, seconds

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    product: int | None = None
    copy: int | None = None
    towers: tuple[str, ...] = ("vit-b32", "vit-b16", "vit-l14", "rn50")
    batch: int = 256
    ways: tuple[int, ...] = (100, 1000)
    dim: int = 1024
    shot: int = 16
    queries: int = 1000
    methods: tuple[str, ...] = ("all",)
    settings: int = 20
    """Of Tip-Adapter's published loop that are timed."""
    pictures: int = 2000
    train: tuple[str, ...] = ()
    evaluate: tuple[str, ...] = ()
    pairs: int = 5
    seconds: float = 4.0
    """At most, of one row."""

    @property
    def bound(self) -> Bound:
        """How many pairs a row has."""
        return Bound(self.pairs, 0.05, self.seconds)


@dataclass(frozen=True)
class Row:
    """A line of the table; ``seconds`` is the time of ours, by which tables are compared."""

    name: str
    seconds: float | None = None
    ratio: float | None = None
    spread: float | None = None
    share: float | None = None
    bound: str = ""
    against: str = ""
    note: str = ""
    value: str = ""

    def shown(self) -> str:
        """What stands in the table for ours: the value, or the time."""
        if self.value or self.seconds is None:
            return self.value
        return f"{1e3 * self.seconds:.3f} ms"


class Ceilings:
    """The two rates, measured once for each type."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes, self._products = sizes, {}

    def product(self, dtype: str) -> float:
        """FLOP a second of a large product."""
        if dtype not in self._products:
            rate = product_rate(jnp.dtype(dtype), self._sizes.product)
            self._products[dtype] = max(rate() for _ in range(3))
        return self._products[dtype]

    @cached_property
    def copy(self) -> float:
        """Bytes a second of a large copy, read and written."""
        rate = copy_rate(self._sizes.copy)
        return max(rate() for _ in range(3))

    def rows(self) -> Iterator[Row]:
        """The rates as rows."""
        for dtype in ("float32", "bfloat16"):
            rate = self.product(dtype)
            yield Row(f"product, {dtype}", 1e12 / rate, value=f"{rate / 1e12:.2f} TFLOP/s")
        yield Row("copy", 1e9 / self.copy, value=f"{self.copy / 1e9:.0f} GB/s")

    def against(self, row: Row, flops: float, moved: float, dtype: str) -> Row:
        """Add the share of the ceiling that binds."""
        least, bound = floor(flops, moved, self.product(dtype), self.copy)
        return replace(row, share=least / row.seconds, bound=bound)


def has_torch() -> bool:
    """Say whether PyTorch is installed."""
    return find_spec("torch") is not None


def on_gpu() -> bool:
    """Say whether PyTorch and JAX both run on a GPU."""
    if jax.default_backend() != "gpu" or not has_torch():
        return False
    import torch

    return torch.cuda.is_available()


def row_of(name: str, pairs: Pairs, against: str) -> Row:
    """Make a row of pairs."""
    return Row(name, statistics.median(pairs.ours), pairs.ratio, pairs.spread, against=against)


def alone(run: Callable[[int], object], bound: Bound) -> float:
    """Return the seconds of ours where there is nothing to compare with: the median of some."""
    seconds(run, 1)
    return statistics.median(seconds(run, 1) for _ in range(max(3, bound.count)))


def towers(sizes: Sizes, ceilings: Ceilings, left: Callable[[], float]) -> Iterator[Row]:
    """Images through the towers in bfloat16."""
    import numpy as np
    from encode import MODELS, ours, products, theirs

    for name in sizes.towers:
        if left() <= 0:
            return
        config, dtype = MODELS[name], "bfloat16"
        shape = (sizes.batch, config.image_size, config.image_size, 3)
        pixels = np.random.default_rng(0).standard_normal(shape, np.float32)
        pixels = jnp.asarray(pixels, dtype)
        mine, state, _ = ours(config, pixels, jnp.dtype(dtype))
        label, again = f"encode {name}, {sizes.batch}", times(mine)
        try:
            other = theirs(config, state, pixels, dtype, True) if has_torch() else None
        except ImportError:
            other = None
        if other is None:
            row = Row(label, alone(again, sizes.bound), note="nothing to compare with is installed")
        else:
            kind = "torch.compile" if on_gpu() else "PyTorch"
            pairs = run_pairs(times(other), again, sizes.bound)
            row = row_of(label, pairs, f"{kind}, SDPA, channels_last")
        weights = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        flops, moved = products(config) * sizes.batch, weights + pixels.nbytes
        rate = sizes.batch / row.seconds
        row = replace(row, value=f"{rate:.0f} images/s")
        yield ceilings.against(row, flops, moved, dtype)


def times(run: Callable[[], object]) -> Callable[[int], object]:
    """Return the function that runs something so many times."""
    return lambda number: [run() for _ in range(number)]


def meta_steps(sizes: Sizes, ceilings: Ceilings, left: Callable[[], float]) -> Iterator[Row]:
    """A step of meta-training, against the published form eager and compiled."""
    from meta_adapter_step import make_data, our_steps, work

    from fsclip_jax.adapters.meta_adapter import init_params

    for way in sizes.ways:
        for dtype in ("float32", "bfloat16"):
            params = init_params(jax.random.key(0), sizes.dim)
            data = make_data(way, sizes.shot, sizes.dim, 64)
            width = jnp.dtype(dtype).itemsize
            mine = our_steps(params, (*(jnp.asarray(x, dtype) for x in data[:3]), data[3]))
            label = f"meta_adapter step, {way}, {dtype}"
            forms = [False, True] if on_gpu() else [False]
            for compiled in forms if has_torch() else []:
                if left() <= 0:
                    return
                from published import meta_adapter_step as published

                theirs = published.steps(params, data, dtype, compiled)[2]
                kind = "torch.compile" if compiled else "PyTorch eager"
                row = row_of(
                    label + ", compiled" * compiled, run_pairs(theirs, mine, sizes.bound), kind
                )
                yield ceilings.against(row, *work(way, sizes.shot, sizes.dim, 64, width), dtype)
            if not has_torch():
                row = Row(label, alone(mine, sizes.bound))
                yield ceilings.against(row, *work(way, sizes.shot, sizes.dim, 64, width), dtype)


def sampler(sizes: Sizes, ceilings: Ceilings, left: Callable[[], float]) -> Iterator[Row]:
    """Episodes drawn on the device, against a loop on the host."""
    from episodes import CASES, device_batch, host_batch

    del ceilings
    for case in CASES[: None if sizes.pairs > 2 else 1]:
        if left() <= 0:
            return
        pairs = run_pairs(host_batch(case, False), device_batch(case), sizes.bound, 1)
        row = row_of(f"sampler, {case.name}", pairs, "NumPy on the host")
        yield replace(row, value=f"{case.batch / row.seconds:.0f} episodes/s")


def methods(sizes: Sizes, ceilings: Ceilings, left: Callable[[], float]) -> Iterator[Row]:
    """Fit and predict of every method, against its published form."""
    from methods import compare, make_tasks

    from fsclip_jax.adapters.base import needs_of
    from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter

    del ceilings
    dim = min(512, sizes.dim)
    tasks = make_tasks(min(100, sizes.ways[0]), sizes.shot, sizes.queries, dim, prompts=7)
    for name in ADAPTERS if "all" in sizes.methods else sizes.methods:
        if left() <= 0:
            return
        adapter = get_adapter(name)
        if needs_of(adapter) & {"words", "patches", "projection"}:
            continue
        if not has_torch() or not find_spec(f"published.{name}"):
            parts = zip(("fit", "predict"), own_times(adapter, tasks, sizes.bound), strict=True)
            yield from (Row(f"{name} {part}", spent) for part, spent in parts)
            continue
        try:
            published = importlib.import_module(f"published.{name}")
            parts = compare(adapter, published, tasks, sizes.bound)
        except (RuntimeError, TypeError) as error:
            said = " ".join(str(error).split())[:120]
            yield Row(f"{name} fit", note=f"its published form does not run here: {said}")
            continue
        for part, pairs in zip(("fit", "predict"), parts, strict=True):
            yield row_of(f"{name} {part}", pairs, "PyTorch eager")


def own_times(adapter, tasks, bound: Bound) -> list[float]:
    """Return the seconds of fit and predict of ours alone."""
    task, _, features = tasks
    params, query = adapter.init(jax.random.key(0), features.shape[1]), jnp.asarray(features)
    fit, predict, key = jax.jit(adapter.fit), jax.jit(adapter.logits), jax.random.key(1)
    state = fit(params, task, key)
    return [
        alone(times(lambda: jax.block_until_ready(fit(params, task, key))), bound),
        alone(times(lambda: jax.block_until_ready(predict(state, query))), bound),
    ]


def tip_search(sizes: Sizes, ceilings: Ceilings, left: Callable[[], float]) -> Iterator[Row]:
    """The search of Tip-Adapter's two scalars."""
    from tip_search import LOGIT_SCALE, make_data, published_program

    from fsclip_jax.adapters.tip_search import TipGrid, search_tip
    from fsclip_jax.episodes.task import Query, Task

    del left
    grid, dim, way = TipGrid(), min(512, sizes.dim), min(100, sizes.ways[0])
    data = make_data(way, sizes.shot, sizes.queries, dim)
    support, text, features, labels = map(jnp.asarray, data)
    task = Task(support, jnp.ones(support.shape[:2], bool), text, jnp.float32(LOGIT_SCALE))
    query = Query(features, labels, jnp.ones(labels.shape, bool))
    mine = times(lambda: jax.block_until_ready(search_tip(task, query, grid)))
    flops = 2 * sizes.queries * way * sizes.shot * dim
    flops += 2 * len(grid.betas) * sizes.queries * way * sizes.shot
    moved = 4 * (support.size + features.size)
    if not has_torch():
        row = Row("tip_adapter search", alone(mine, sizes.bound))
        yield ceilings.against(row, flops, moved, "float32")
        return
    accuracy, _ = published_program(*data)
    whole = [(alpha, beta) for beta in grid.betas for alpha in grid.alphas]
    some = whole[:: max(1, len(whole) // sizes.settings)]

    def theirs(number):
        return [accuracy(*setting) for _ in range(number) for setting in some]

    pairs = run_pairs(theirs, mine, sizes.bound, 1)
    scaled = Pairs([spent * len(whole) / len(some) for spent in pairs.published], pairs.ours)
    row = row_of("tip_adapter search", scaled, f"PyTorch eager, {len(some)} settings scaled up")
    yield ceilings.against(row, flops, moved, "float32")


def cache_votes(sizes: Sizes, ceilings: Ceilings, left: Callable[[], float]) -> Iterator[Row]:
    """Votes of a cache without an array of all affinities, against XLA's sum over one."""
    from cache_votes import unit

    from fsclip_jax.adapters import cache
    from fsclip_jax.adapters.cache_kernel import kernels

    dim, shot, beta = min(512, sizes.dim), sizes.shot, jnp.float32(5.5)
    for way in sizes.ways:
        if left() <= 0:
            return
        queries = max(1, 12_500 * sizes.queries // way)
        args = unit(0, queries, dim), unit(1, way, shot, dim), jnp.ones((way, shot)), beta
        forms = cache.votes_at_once, cache.cache_votes
        both = [partial(jax.jit(form).lower(*args).compile(), *args) for form in forms]
        runs = [times(lambda run=run: jax.block_until_ready(run())) for run in both]
        row = row_of(f"cache votes, {way}", run_pairs(*runs, sizes.bound), "XLA, one array")
        used = (
            "the kernel" if kernels(queries, way, shot, dim, cache.votes_at_once) else "no kernel"
        )
        work = both[1].func.memory_analysis().temp_size_in_bytes / 2**20
        row = replace(row, against=f"{row.against}; {used}, {work:.0f} MB to work in")
        moved = 4 * (queries * (dim + way) + way * shot * dim)
        yield ceilings.against(row, 2 * queries * way * shot * dim, moved, "float32")


def pictures(sizes: Sizes, ceilings: Ceilings, left: Callable[[], float]) -> Iterator[Row]:
    """JPEG files to pixels, a tower alone, and both: who waits for whom."""
    from extract import bank_seconds, make_folder, our_rate, random_vit

    from fsclip_jax.clip.load import load_clip
    from fsclip_jax.data.folder import open_folder

    del ceilings, left
    small = sizes.towers == ("mini",)
    clip = load_clip("mini") if small else random_vit()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        make_folder(Path(folder) / "files", sizes.pictures, 4 if small else 100)
        source = open_folder(Path(folder) / "files")
        decoding = our_rate(source, clip.image_size, None)[0]
        whole = sizes.pictures / bank_seconds(source, clip, Path(folder))
    encoding = tower_rate(clip, sizes)
    yield Row("JPEG to pixels", 1 / decoding, value=f"{decoding:.0f} images/s")
    yield Row(f"pixels to {clip.id}", 1 / encoding, value=f"{encoding:.0f} images/s")
    slower = "the tower waits for the files" if decoding < encoding else "the files for the tower"
    slowest = min(decoding, encoding)
    yield Row("JPEG to bank", 1 / whole, share=whole / slowest, bound="slower", note=slower,
              value=f"{whole:.0f} images/s")  # fmt: skip


def tower_rate(clip, sizes: Sizes) -> float:
    """Return images a second of a tower as a bank is made with it."""
    import numpy as np

    from fsclip_jax.features.extract import ExtractSettings
    from fsclip_jax.features.images import image_encoder

    encode, batch = image_encoder(clip, compute=ExtractSettings().compute), 32
    pixels = np.zeros((batch, clip.image_size, clip.image_size, 3), np.uint8)
    return batch / alone(times(lambda: jax.block_until_ready(encode(pixels))), sizes.bound)


def quickstart(sizes: Sizes, ceilings: Ceilings, left: Callable[[], float]) -> Iterator[Row]:
    """Accuracies of the quickstart, trained and evaluated here, beside those of the CPU."""
    del ceilings
    with tempfile.TemporaryDirectory() as folder:
        run, tables, spent = Path(folder) / "run", {}, {}
        command = partial(fsclip, left=left)
        command(["train.py", "configs/quickstart.py", "--workdir", str(run), *sizes.train], "")
        for kind in ("", "cpu"):
            out = Path(folder) / (kind or "here")
            words = ["eval.py", "configs/quickstart.py", "--workdir", str(out)]
            spent[kind] = seconds(
                lambda _, words=words, kind=kind: command(
                    [*words, "--checkpoint", str(run), *sizes.evaluate], kind
                ),
                1,
            )
            tables[kind] = accuracies(out)
    apart = max(abs(tables[""][place] - tables["cpu"][place]) for place in tables["cpu"])
    said = "within 0.1 point" if apart <= 0.1 else "MORE THAN 0.1 POINT"
    yield Row("quickstart, evaluated", spent[""], value=f"{apart:.3f} points apart",
              note=f"{len(tables['cpu'])} accuracies here and on the CPU: {said}")  # fmt: skip


def fsclip(words: list[str], platform: str, left: Callable[[], float]) -> None:
    """Run one of the two programs in a process of its own."""
    places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "JAX_PLATFORMS": platform,
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
    }
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True,
        timeout=max(60, left()),
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {done.stderr.strip().splitlines()[-1:]}")


def accuracies(folder: Path) -> dict[tuple, float]:
    """Return the accuracy of every row of a report, in percent."""
    rows = json.loads((folder / "report.json").read_text())["rows"]
    return {
        (row["method"], row["shots"], row["split"]): row["metrics"]["accuracy"]["mean"]
        for row in rows
    }


GROUPS = {
    "towers": towers,
    "meta_steps": meta_steps,
    "sampler": sampler,
    "methods": methods,
    "tip_search": tip_search,
    "cache_votes": cache_votes,
    "pictures": pictures,
    "quickstart": quickstart,
}
"""In the order in which they are measured."""
