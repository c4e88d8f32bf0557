"""Images a second through CLIP's image towers: PyTorch against ours, on this machine, in turn.

    python benchmarks/encode.py                                  # all models, batch 32, float32
    python benchmarks/encode.py --models vit-b32 rn50 --pairs 9
    python benchmarks/encode.py --models vit-b16 vit-l14 --dtype bfloat16 --batch 256   # a GPU

The vision transformers run against transformers' CLIPVisionModelWithProjection with SDPA and the
same weights, and must give the same features; mini and RN50 against open_clip's ModifiedResNet.
All are in inference mode. Where PyTorch has CUDA it runs there under torch.compile, in the same
dtype; otherwise it runs eagerly on the CPU. The weights are random.

FLOP/s counts what ours computes: two for each multiplication in the products and convolutions
that the tower needs (the last block of a transformer works at one position alone, PyTorch's at
all). The share is of the rate of one large product in JAX, measured in between. Results are
written to benchmarks/results. The last line is ``ratio X``, the smallest median over the pairs.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ceilings import product_rate
from pairs import Pairs, add_bound, bound_of

from fsclip_jax.clip.config import ClipConfig, ResNetConfig, TextConfig, VitConfig
from fsclip_jax.clip.model import cast_weights, encode_image, init_clip
from fsclip_jax.machine import cores

RESULTS = Path(__file__).parent / "results"
REST = 0.25
"""Seconds between turns: the threads of one library spin for a moment when it is done."""

VIT = {"layers": 12, "activation": "quick_gelu"}
MODELS = {
    "mini": ResNetConfig((1, 2, 2, 1), 28, 32, 192, 14, folded=True),
    "vit-b32": VitConfig(224, 32, 768, heads=12, mlp_width=3072, embed_dim=512, **VIT),
    "vit-b16": VitConfig(224, 16, 768, heads=12, mlp_width=3072, embed_dim=512, **VIT),
    "vit-l14": VitConfig(224, 14, 1024, 24, 16, 4096, 768),
    "rn50": ResNetConfig((3, 4, 6, 3), 64, 224, 1024, 32, folded=True),
}


def ours(config, pixels, dtype):
    """Return a function that encodes once and waits, and what the program says of itself."""
    text = TextConfig(16, 8, 64, 1, 1, 64, embed_dim=config.embed_dim)
    graphdef, state = init_clip(ClipConfig(config, text), 0)
    state = jax.device_put(cast_weights(state, dtype))
    start = time.perf_counter()
    program = jax.jit(lambda state, x: encode_image(graphdef, state, x)).lower(state, pixels)
    program = program.compile()
    compiled_in = time.perf_counter() - start
    return lambda: jax.block_until_ready(program(state, pixels)), state, compiled_in


def products(config):
    """FLOP of one image in ours: two for each multiplication of products and convolutions."""
    if isinstance(config, ResNetConfig):
        return 2 * _resnet_products(config)
    n, w = config.grid**2 + 1, config.width
    whole = n * w * (4 * w + 2 * config.mlp_width) + 2 * n * n * w
    last = (2 * n + 2) * w * w + 2 * n * w + 2 * w * config.mlp_width
    patches = (n - 1) * 3 * config.patch_size**2 * w
    return 2 * (patches + (config.layers - 1) * whole + last + w * config.embed_dim)


def _resnet_products(config):
    side, w = config.image_size // 2, config.width
    total = side**2 * 9 * (3 * w // 2 + w // 2 * w // 2 + w // 2 * w)
    side, channels = side // 2, w
    for stage, depth in enumerate(config.layers):
        inside = w * 2**stage
        for block in range(depth):
            halved = stage and not block
            total += side**2 * (channels * inside + 9 * inside**2)
            side = side // 2 if halved else side
            total += side**2 * inside * 4 * inside
            total += 0 if block else side**2 * channels * 4 * inside
            channels = 4 * inside
    n = config.grid**2 + 1
    return (
        total + 2 * n * channels**2 + channels**2 + 2 * n * channels + channels * config.embed_dim
    )


def theirs(config, state, pixels, dtype, channels_last):
    """Return PyTorch's model as a function that encodes once and waits."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = _open_clip(config) if isinstance(config, ResNetConfig) else _transformers(config, state)
    memory = torch.channels_last if channels_last else torch.contiguous_format
    model = model.eval().to(device, getattr(torch, dtype)).to(memory_format=memory)
    x = torch.tensor(np.asarray(pixels, np.float32).transpose(0, 3, 1, 2))
    x = x.to(device, getattr(torch, dtype)).contiguous(memory_format=memory)
    if device == "cuda":
        model = torch.compile(model)

    def run():
        with torch.inference_mode():
            out = model(x)
        if device == "cuda":
            torch.cuda.synchronize()
        return getattr(out, "image_embeds", out)

    return run


def _transformers(config, state):
    """Build the tower of transformers, with our weights."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    settings = CLIPVisionConfig(
        hidden_size=config.width,
        intermediate_size=config.mlp_width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        projection_dim=config.embed_dim,
        hidden_act=config.activation,
        attn_implementation="sdpa",
    )
    model = CLIPVisionModelWithProjection(settings)
    flat = {
        "/".join(map(str, path)): np.asarray(leaf[...], np.float32)
        for path, leaf in state["vision"].flat_state()
    }
    size, width = config.patch_size, config.width
    kernel = flat["patch_embedding/kernel"].reshape(size, size, 3, width).transpose(3, 2, 0, 1)
    weights = {
        "embeddings.class_embedding": flat["class_embedding"],
        "embeddings.position_embedding.weight": flat["position_embedding"],
        "embeddings.patch_embedding.weight": kernel,
    }
    names = {"pre_norm": "pre_layrnorm", "post_norm": "post_layernorm"}
    for index in range(config.layers):
        here, there = f"blocks/{index}", f"encoder.layers.{index}"
        names |= {f"{here}/norm{i}": f"{there}.layer_norm{i}" for i in (1, 2)}
        names |= {f"{here}/fc{i}": f"{there}.mlp.fc{i}" for i in (1, 2)}
        parts = ("q_proj", "k_proj", "v_proj", "out_proj")
        names |= {f"{here}/attention/{part}": f"{there}.self_attn.{part}" for part in parts}
    for here, there in names.items():
        weights[f"{there}.bias"] = flat[f"{here}/bias"]
        scale = flat.get(f"{here}/scale")
        weights[f"{there}.weight"] = flat[f"{here}/kernel"].T if scale is None else scale
    weights = {f"vision_model.{name}": value for name, value in weights.items()}
    weights["visual_projection.weight"] = flat["projection/kernel"].T
    tensors = {name: torch.tensor(np.ascontiguousarray(v)) for name, v in weights.items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all(name.endswith("position_ids") for name in missing), missing
    return model


def _open_clip(config):
    """Build open_clip's tower; what it wants for transforms and texts alone gets a stand-in."""
    import transformers  # noqa: F401  looks for torchvision once, before there is a stand-in

    vision = [f"torchvision{part}" for part in ("", ".transforms", ".transforms.functional")]
    for names in ([*vision, "torchvision.ops", "torchvision.ops.misc"], ["ftfy"]):
        if names[0] in sys.modules or importlib.util.find_spec(names[0]):
            continue
        for name in names:
            sys.modules[name] = module = _Anything(name)
            parent, _, last = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], last, module)
    from open_clip.modified_resnet import ModifiedResNet

    return ModifiedResNet(
        config.layers, config.embed_dim, config.heads, config.image_size, config.width
    )


class _Anything(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), dict.fromkeys(("BICUBIC", "BILINEAR", "NEAREST"), name))


def clock(run, repeat):
    """Seconds of wall time and of the process's processor time for one of ``repeat`` runs."""
    time.sleep(REST)
    wall, used = time.perf_counter(), time.process_time()
    for _ in range(repeat):
        run()
    return (time.perf_counter() - wall) / repeat, (time.process_time() - used) / repeat


def measure(name, args):
    config, dtype = MODELS[name], jnp.dtype(args.dtype)
    side = config.image_size
    pixels = np.random.default_rng(0).standard_normal((args.batch, side, side, 3), np.float32)
    pixels = jnp.asarray(pixels, dtype)
    mine, state, compiled_in = ours(config, pixels, dtype)
    other = theirs(config, state, pixels, args.dtype, args.channels_last)
    features, expected = np.asarray(mine(), np.float32), other()
    if isinstance(config, VitConfig):  # open_clip's has random weights of its own
        expected = expected.float().cpu().numpy()
        error = np.abs(features - expected).max() / np.abs(expected).max()
        assert error < (1e-4 if args.dtype == "float32" else 0.1), error
    other(), mine()
    repeat = max(1, round(args.least / clock(mine, 1)[0]))
    rate, rates, wall, used = product_rate(dtype), [], Pairs([], []), Pairs([], [])
    bound, began = bound_of(args), time.perf_counter()
    while not bound.reached(wall, began):
        for side, run in enumerate((other, mine)):
            for pairs, spent in zip((wall, used), clock(run, repeat), strict=True):
                pairs[side].append(spent)
        rates.append(rate())
    their_time, our_time = map(statistics.median, wall)
    achieved = products(config) * args.batch / our_time
    return {
        "model": name,
        "pytorch": args.batch / their_time,
        "ours": args.batch / our_time,
        "ratio": wall.ratio,
        "spread": wall.spread,
        "pairs": len(wall.ours),
        "cpu_time_ratio": used.ratio if jax.default_backend() == "cpu" else None,
        "flops": achieved,
        "product_rate": statistics.median(rates),
        "share": achieved / statistics.median(rates),
        "compile_seconds": compiled_in,
    }


def processor():
    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kind = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        kind = platform.processor() or platform.machine()
    return f"{cores()} cores, {kind}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    add_bound(parser, 7)
    parser.add_argument("--least", type=float, default=1.0, help="seconds of a turn, about")
    parser.add_argument("--channels-last", action="store_true", help="PyTorch's NHWC, for RN50")
    parser.add_argument("--threads", type=int, default=cores(), help="of PyTorch")
    parser.add_argument("--note", default="", help="kept with the result: was the machine quiet?")
    parser.add_argument("--out", type=Path, help="JSON to write; benchmarks/results by default")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    on_gpu = jax.default_backend() == "gpu"
    if on_gpu != torch.cuda.is_available():
        print("warning: JAX and PyTorch run on different devices: the ratio says nothing")
    print(f"{processor()}; batch {args.batch}, {args.dtype}; pairs in turn, {args.pairs} at least")
    print(
        f"{'model':<9}{'PyTorch/s':>11}{'ours/s':>9}{'ratio':>7}{'spread':>8}{'by CPU time':>13}"
        f"{'GFLOP/s':>9}{'share':>7}"
    )
    rows = []
    for name in args.models:
        row = measure(name, args)
        rows.append(row)
        used = f"{row['cpu_time_ratio']:.2f}" if row["cpu_time_ratio"] else "-"
        print(
            f"{name:<9}{row['pytorch']:>11.1f}{row['ours']:>9.1f}{row['ratio']:>7.2f}{row['spread']:>8.1%}{used:>13}"
            f"{row['flops'] / 1e9:>9.0f}{row['share']:>7.0%}",
            flush=True,
        )
    load = os.getloadavg()[0]
    result = {
        "device": processor(),
        "batch": args.batch,
        "dtype": args.dtype,
        "within": args.within,
        "pytorch_layout": "channels_last" if args.channels_last else "contiguous",
        "load_at_the_end": load,
        "note": args.note,
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "torch", "transformers")},
        "rows": rows,
    }
    slug = "cpu" if not on_gpu else "-".join(processor().lower().split())
    layout = "-channels-last" if args.channels_last else ""
    out = args.out or RESULTS / f"encode-{slug}-{args.dtype}-{args.batch}{layout}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {out}")
    print(f"ratio {min(row['ratio'] for row in rows):.2f}")


if __name__ == "__main__":
    main()
