"""What a cache's votes cost with an array of all affinities, and as the package counts them.

    python benchmarks/cache_votes.py                     # writes to benchmarks/results
    python benchmarks/cache_votes.py --small --out DIR   # small sizes, to see that it works

Two forms in turn: ``array``, with the affinities and their exponentials as arrays, and ``ours``,
in pieces or in a kernel where they are many. Each with its seconds, of the processor on a CPU and
by the clock elsewhere, the median of some runs, and the memory that the compiled program works in.
Predicted is what is won at most by writing no array: the product at the measured rate and the
arrays at that of a copy, over the product alone. The last line is ``ratio X``, the smallest gain.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from ceilings import copy_rate, product_rate
from encode import processor

from fsclip_jax.adapters.cache import affinities, cache_votes, kernel_sums, votes_at_once
from fsclip_jax.adapters.meta_adapter import init_params, refine

RESULTS = Path(__file__).parent / "results"
CACHES = ((1000, 16, 6000), (1000, 16, 1048), (1000, 4, 8000), (100, 16, 20_000), (10, 16, 20_000))
KERNELS = ((1000, 16, 1048), (100, 16, 10_000))
"""Classes, shots and queries: of caches, and of methods with a coefficient a key and class. 1,048
are the queries that an evaluation classifies together at 16,000 keys."""
SMALL = ((20, 4, 300),)
FORMS = ("array", "ours")
HEAD = ("what", "classes", "shots", "queries", *FORMS, "predicted", "measured")


def sums_in_arrays(query, keys, coefficients, beta):
    """Sums of coefficients by an array of all affinities."""
    return affinities(query, keys, beta) @ coefficients


def unit(seed, *shape):
    x = jax.random.normal(jax.random.key(seed), shape)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def spent():
    """Seconds: of the processor where it is what computes."""
    return time.process_time() if jax.default_backend() == "cpu" else time.perf_counter()


def measure(forms, args, runs):
    """Return the median seconds of every form, run in turn, and the MB it works in."""
    programs = {name: jax.jit(form).lower(*args).compile() for name, form in forms.items()}
    expected, seconds = None, {name: [] for name in forms}
    for _ in range(runs + 1):
        for name, program in programs.items():
            start = spent()
            found = jax.block_until_ready(program(*args))
            seconds[name].append(spent() - start)
            expected = found if expected is None else expected
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    work = {name: p.memory_analysis().temp_size_in_bytes / 1e6 for name, p in programs.items()}
    return {name: statistics.median(each[1:]) for name, each in seconds.items()}, work


def row(what, sizes, forms, args, flops, rates, runs):
    """Return a line of the table, and the gain measured."""
    way, shot, queries = sizes
    seconds, work = measure(forms, args, runs)
    each = flops / rates[0]
    bound = (each + 16 / rates[1]) / each  # two arrays, written and read
    gain = seconds["array"] / seconds["ours"]
    told = [f"{seconds[form]:.2f} s, {work[form]:,.0f} MB" for form in FORMS]
    sizes = f"{way:,}", str(shot), f"{queries:,}"
    return "|".join(("", what, *sizes, *told, f"{bound:.2f}", f"{gain:.2f}", "")), gain


def attention(way, shot, dim):
    """Say what the Meta-Adapter's attention writes beside what it reads."""
    params = init_params(jax.random.key(0), dim)
    args = params, unit(0, way, dim), unit(1, way, shot, dim), jnp.ones((way, shot), bool)
    program = jax.jit(refine).lower(*args).compile()
    scores, support = 4e-6 * way * shot, 4e-6 * way * shot * dim
    work = program.memory_analysis().temp_size_in_bytes / 1e6
    return (
        f"The Meta-Adapter's attention over {way:,} classes x {shot} shots reads {support:,.1f} MB "
        f"of shots twice and writes and reads {scores:.3f} MB of scores three times: at most "
        f"{(2 * support + 6 * scores) / (2 * support):.3f} is to be won. It works in {work:.1f} MB."
    )


def main():
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="no figures worth keeping")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--note", default="", help="kept with the table")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    small, dim, beta, cpu = given.small, given.dim, jnp.float32(5.5), jax.default_backend() == "cpu"
    rates = (
        max(product_rate(jnp.float32, 256 if small else None)() for _ in range(3)),
        max(copy_rate(2**20 if small else None)() for _ in range(3)),
    )
    lines, gains = ["|".join(("", *HEAD, "")), "|---" * len(HEAD) + "|"], []
    for what, cases in (("cache", CACHES), ("coefficients", KERNELS)):
        for sizes in SMALL if small else cases:
            way, shot, queries = sizes
            query, keys = unit(0, queries, dim), unit(1, way, shot, dim)
            if what == "cache":
                forms = {"array": votes_at_once, "ours": cache_votes}
                args, flops = (query, keys, jnp.ones((way, shot)), beta), 2 * dim
            else:
                forms = {"array": sums_in_arrays, "ours": kernel_sums}
                coefficients = unit(2, way * shot, way)
                args, flops = (query, keys.reshape(-1, dim), coefficients, beta), 2 * (dim + way)
            line, gain = row(what, sizes, forms, args, flops, rates, given.runs)
            lines.append(line)
            gains.append(gain)
            print(line, flush=True)
    told = (
        f"`python benchmarks/cache_votes.py`, {dim} features, float32, jax {jax.__version__}. "
        f"Product {rates[0] / 1e9:,.0f} GFLOP/s, copy {rates[1] / 1e9:,.1f} GB/s. Seconds "
        f"{'of the processor' if cpu else 'by the clock'} and memory to work in. {given.note}"
    )
    parts = f"# A cache's votes, {processor()}", told.strip(), "\n".join(lines)
    text = "\n\n".join((*parts, attention(*((20, 4) if small else (1000, 16)), dim))) + "\n"
    given.out.mkdir(parents=True, exist_ok=True)
    kind = "cpu" if cpu else "".join(c if c.isalnum() else "-" for c in processor().lower())
    (given.out / f"cache-votes-{kind}.md").write_text(text)
    print(text.splitlines()[-1])
    print(f"ratio {min(gains):.2f}")


if __name__ == "__main__":
    main()
