"""From JPEG files on disk to CLIP's pixels, and on to a bank, against a plain PyTorch loop.

The published way is a ``torch.utils.data.DataLoader`` with one worker process a core that opens
each file with Pillow, resizes with the bicubic filter, crops the centre, converts to a float
tensor and normalises; plain PIL and torch here, as torchvision does it. Ours decodes in threads or
in grain's worker processes and normalises on the device. Files are 500x375, quality 90, with
1/f texture, shapes and edges, about 85 kB each, as photographs are.

    python benchmarks/extract.py                        # needs torch
    python benchmarks/extract.py --tower                # a random ViT-B/32 on both sides too
    python benchmarks/extract.py --images 4000 --size 336

Rates leave the start of the workers out, which is printed beside them. The last line is
``ratio X``: the images a second of ours (as ``--workers`` chooses by itself) over PyTorch's, median
of pairs run in turn.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from PIL import Image, ImageDraw

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def photograph(seed, width=500, height=375):
    """Draw something with the spectrum and the edges of a photograph."""
    rng = np.random.default_rng(seed)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falloff = 1 / np.maximum(np.hypot(down, across), 1 / width) ** rng.uniform(0.9, 1.3)

    def waves(amplitude):
        phase = np.exp(2j * np.pi * rng.random(amplitude.shape))
        x = np.fft.irfft2(amplitude * phase, (height, width))
        return (x - x.mean()) / x.std()

    light = waves(falloff)
    pixels = np.stack([128 + 50 * light + 20 * waves(falloff**1.3) for _ in range(3)], -1)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, w, h = rng.integers((0, 0, 10, 10), (width, height, 150, 150)).tolist()
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape((x, y, x + w, y + h), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


def make_folder(root, count, distinct=100):
    """Write the files, two classes of them; return how large one is on average."""
    import io

    contents = []
    for seed in range(min(distinct, count)):
        file = io.BytesIO()
        photograph(seed).save(file, "JPEG", quality=90)
        contents.append(file.getvalue())
    for index in range(count):
        path = root / ("even", "odd")[index % 2] / f"{index:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[index % len(contents)])
    return sum(map(len, contents)) / len(contents)


class TorchFiles:
    """The data set of the PyTorch loop."""

    def __init__(self, paths, size):
        self.paths, self.size = paths, size

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        import torch

        size = self.size
        image = Image.open(self.paths[index]).convert("RGB")
        width, height = image.size
        short = min(width, height)
        wide = (width * size // short, height * size // short)
        image = image.resize(wide, Image.Resampling.BICUBIC)
        left, top = (wide[0] - size) // 2, (wide[1] - size) // 2
        image = image.crop((left, top, left + size, top + size))
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def rate(batches, count_of):
    """Return images a second from the first batch on, and the seconds until it was there.

    Third, images a second that this process computes: on a machine that others use too, that is
    what a free core would do. It says nothing where the work is done in other processes.
    """
    began, spent = time.perf_counter(), time.process_time()
    iterator = iter(batches)
    next(iterator)
    first = time.perf_counter()
    images = sum(count_of(batch) for batch in iterator)
    computed = images / (time.process_time() - spent)
    return images / (time.perf_counter() - first), first - began, computed


def torch_rate(paths, size, workers, batch=32, model=None):
    import torch

    loader = torch.utils.data.DataLoader(
        TorchFiles(paths, size),
        batch_size=batch,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )

    def encoded():
        with torch.inference_mode():
            for x in loader:
                yield x if model is None else model(pixel_values=x).image_embeds

    return rate(encoded(), len)


def our_rate(source, size, workers):
    from fsclip_jax.clip.preprocess import Preprocess
    from fsclip_jax.features.decode import chunk_images, make_decoder, split_rows
    from fsclip_jax.features.workers import decoded

    preprocess = Preprocess(size)
    chunks = list(split_rows(range(len(source)), chunk_images(preprocess, 1)))
    decoder = make_decoder(source, preprocess, 1, 0)
    return rate(decoded(decoder, chunks, workers), lambda chunk: len(chunk.pixels))


def bank_seconds(source, clip, out):
    """Extract a bank twice, so that the second time finds the compiled towers."""
    from fsclip_jax.devices import accelerator_mesh
    from fsclip_jax.features.extract import ExtractSettings, extract

    settings, times = ExtractSettings(batch=32, shard=256), []
    for turn in range(2):
        began = time.perf_counter()
        extract(source, clip, out / f"{clip.id}{turn}", settings, accelerator_mesh())
        times.append(time.perf_counter() - began)
    return times[-1]


def random_vit():
    """Build a ViT-B/32 with random weights, and the tokenizer of the mini CLIP."""
    import dataclasses

    from fsclip_jax.clip.config import ClipConfig, TextConfig, VitConfig
    from fsclip_jax.clip.load import load_clip
    from fsclip_jax.clip.model import init_clip
    from fsclip_jax.clip.preprocess import Preprocess

    mini = load_clip("mini")
    text = dataclasses.replace(mini.config.text, embed_dim=512)
    assert isinstance(text, TextConfig)
    config = ClipConfig(VitConfig(224, 32, 768, 12, 12, 3072, embed_dim=512), text)
    graphdef, state = init_clip(config, 0)
    return dataclasses.replace(
        mini, id="vit", config=config, graphdef=graphdef, state=state, preprocess=Preprocess(224)
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1500, help="files to make")
    parser.add_argument("--size", type=int, default=224, help="side of the crop")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each")
    parser.add_argument("--tower", action="store_true", help="encode by a ViT-B/32 too")
    args = parser.parse_args()
    from fsclip_jax.clip.load import load_clip
    from fsclip_jax.data.folder import open_folder
    from fsclip_jax.machine import cores

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "files"
        kilobytes = make_folder(root, args.images) / 1000
        source = open_folder(root)
        paths = sorted(root.rglob("*.jpg"))
        n = cores()
        print(f"{args.images} files of {kilobytes:.0f} kB, to {args.size} px, {n} cores")
        runs = {
            "ours, 1 thread": lambda: one_thread(source, args.size),
            f"ours, {n} threads": lambda: our_rate(source, args.size, 0),
            f"ours, {n} processes": lambda: our_rate(source, args.size, n),
            f"PyTorch, {n} processes": lambda: torch_rate(paths, args.size, n),
            "ours, chosen": lambda: our_rate(source, args.size, None),
        }
        found = {name: [] for name in runs}
        for _ in range(args.pairs):
            for name, run in runs.items():
                found[name].append(run())
        print(f"{'to pixels':<24}{'images/s':>10}{'a CPU s':>10}{'start s':>10}")
        for name, rows in found.items():
            speed, start, computed = (
                statistics.median(values) for values in zip(*rows, strict=True)
            )
            own = "" if "processes" in name else f"{computed:.0f}"
            print(f"{name:<24}{speed:>10.0f}{own:>10}{start:>10.1f}")
        published = [row[0] for row in found[f"PyTorch, {n} processes"]]
        ours = [row[0] for row in found["ours, chosen"]]
        print(f"{'to a bank':<24}{'images/s':>10}")
        seconds = bank_seconds(source, load_clip("mini"), Path(folder))
        print(f"{'ours, mini':<24}{args.images / seconds:>10.0f}")
        if args.tower:
            import transformers

            few = min(256, args.images)
            make_folder(Path(folder) / "few", few)
            seconds = bank_seconds(open_folder(Path(folder) / "few"), random_vit(), Path(folder))
            print(f"{'ours, ViT-B/32':<24}{few / seconds:>10.0f}")
            tower = transformers.CLIPVisionModelWithProjection(
                transformers.CLIPVisionConfig(projection_dim=512)
            ).eval()
            speed, _, _ = torch_rate(paths[:few], 224, n, model=tower)
            print(f"{'PyTorch, ViT-B/32':<24}{speed:>10.0f}")
    ratio = statistics.median(o / p for p, o in zip(published, ours, strict=True))
    print(f"ratio {ratio:.2f}")


def one_thread(source, size):
    from fsclip_jax.clip.preprocess import Preprocess
    from fsclip_jax.features.decode import chunk_images, make_decoder, split_rows
    from fsclip_jax.features.workers import in_threads

    preprocess = Preprocess(size)
    chunks = list(split_rows(range(len(source)), chunk_images(preprocess, 1)))
    return rate(
        in_threads(make_decoder(source, preprocess, 1, 0), chunks, 1),
        lambda chunk: len(chunk.pixels),
    )


if __name__ == "__main__":
    main()
