"""The journey of a new user: the wheel in an empty environment, and what README and tutorials say.

Every command of the README runs as it is written, in its order and in one folder; then the
tutorials do. The rules, for what is not there on a machine without a network:

- ``pip install`` is the wheel of this tree. It brings its dependencies with ``--empty``, as CI
  runs it; otherwise they are those of the environment that runs the tests.
- ``make quickstart`` is its recipe, run by the installed command; ``make test`` is what runs this.
- A model of the hub, OWNER/NAME, is a folder of that name with the bundled CLIP in it.
- ``pictures``, ``holiday`` and ``ROOT``, of a published layout, hold textures that are made here.
- An experiment of configs/ is run small: one topic of the emoji, one shot, two draws, few steps,
  and of every method two.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
SMALL = {
    "train": "--data emoji:objects --steps 20",
    "eval": "--data emoji:objects --shots 1 --seeds 2",
    "suite": "--data emoji:objects --shots 1 --seeds 2",
    "all_methods": "--methods zero_shot gda",
}
LISTS = ("fsclip methods", "fsclip backbones", "fsclip datasets")
MODEL = re.compile(r"--backbone ([\w.-]+/[\w.-]+)")

SECONDS = 900
pytestmark = [pytest.mark.slow, pytest.mark.journey, pytest.mark.timeout(2 * SECONDS)]


def commands(text):
    """The command lines of a page: of its blocks, and those in its prose that take an argument."""
    shown = re.findall(r"(?ms)^```\n(.*?)^```|`((?:fsclip|python) [^`\n]+)`", text)
    lines = (line for block, inline in shown for line in (block or inline).splitlines())
    found = (re.sub(r"\s+#.*| +\[.*", "", line) for line in lines)
    return [line for line in found if re.match(r"(fsclip|python|pip|make) ", line)]


def recipe(target):
    """The commands that a target of the Makefile runs, by the installed program."""
    body = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lines = re.findall(r"python (train|eval)\.py (\S+)", body[1])
    return [f"fsclip {name} {config}" for name, config in lines]


def to_run():
    """The README's commands as they are run here."""
    for line in commands(README):
        if line == "make quickstart":
            yield from recipe("quickstart")
        elif not re.match(r"pip install|make test|fsclip (bank )?[a-z]+$", line) or line in LISTS:
            yield line


RUN = list(dict.fromkeys(to_run()))


def python(home, *words, **options):
    return subprocess.run([home / "env/bin/python", *words], check=True, text=True, **options)


def install(home, empty):
    """The wheel of this tree in an environment of its own; without ``--empty`` it borrows."""
    wheels = home / "dist"
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", wheels]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    venv.create(home / "env", with_pip=True)
    (site,) = (home / "env/lib").glob("python*/site-packages")
    if empty:
        tools = ["ipykernel", "nbclient", "nbformat"]
        python(home, "-m", "pip", "install", "--quiet", wheel, *tools)
    else:
        python(home, "-m", "pip", "install", "--quiet", "--no-deps", wheel)
        # A plain line is a place to import from; what is editable there stays where it is.
        (site / "borrowed.pth").write_text("\n".join(p for p in sys.path if "site-packages" in p))
    return wheel


def write_textures(folder, names, count):
    """Waves of another length for every class, as photographs; return them by class."""
    rng, files = np.random.default_rng(0), {}
    for number, name in enumerate(names, 1):
        (folder / name).mkdir(parents=True)
        files[name] = [folder / name / f"{i}.jpg" for i in range(count)]
        for file in files[name]:
            wave = np.sin(np.arange(64) * number / 4 + rng.uniform(0, 6))
            pixels = 128 + 80 * wave[:, None, None] + rng.normal(0, 20, (64, 64, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
    return files


def write_caltech(base):
    """Textures in CoOp's layout of Caltech-101."""
    names = ("airplanes", "anchor", "ant", "barrel", "bass", "beaver")
    files = write_textures(base / "101_ObjectCategories", names, 12)
    split = {"train": [], "val": [], "test": []}
    for label, name in enumerate(names):
        for i, file in enumerate(files[name]):
            part = ("train", "train", "val", "test")[i % 4]
            split[part].append([f"{name}/{file.name}", label, name])
    (base / "split_zhou_Caltech101.json").write_text(json.dumps(split))


@pytest.fixture(scope="module")
def home(tmp_path_factory, request):
    home = tmp_path_factory.mktemp("home")
    work = home / "work"
    for name, files in write_textures(
        work / "pictures", ("bark", "brick", "cloth", "sand"), 14
    ).items():
        for file in files[12:]:
            (work / "holiday").mkdir(exist_ok=True)
            file.rename(work / "holiday" / f"{name}-{file.name}")
    write_caltech(work / "ROOT" / "caltech-101")
    (home / "wheel").symlink_to(install(home, request.config.getoption("--empty")))
    (site,) = (home / "env/lib").glob("python*/site-packages")
    for model in set(MODEL.findall(README)):
        shutil.copytree(site / "fsclip_jax/assets/mini", work / model)
    return home


@pytest.fixture(scope="module")
def run(home):
    """Run a line in the user's shell: his folder, his home, nothing of the tests' settings."""
    ours = ("JAX", "XLA", "FSCLIP", "PYTHON", "PYTEST", "HF_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    environment |= {"HOME": str(home), "PATH": f"{home / 'env/bin'}:{os.environ['PATH']}"}
    environment |= {"HF_HUB_OFFLINE": "1"}

    def run(line):
        return subprocess.run(
            line, shell=True, cwd=home / "work", env=environment, capture_output=True, text=True,
            timeout=SECONDS,
        )  # fmt: skip

    return run


def test_the_commands_are_found():
    assert "fsclip predict --support pictures --images holiday/" in " ".join(RUN)
    assert {line.split()[1] for line in RUN} >= {"predict", "train", "eval", "extract", "suite"}
    assert all(line.startswith("fsclip ") for line in RUN), "works only in a clone"


def test_the_wheel_offers_what_pip_is_asked_for(home):
    with zipfile.ZipFile(home / "wheel") as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = wheel.read(name).decode()
        assert not any(n.startswith(("tests/", "docs/")) for n in wheel.namelist())
    asked = [shlex.split(line)[2] for line in commands(README) if line.startswith("pip ")]
    assert asked
    assert asked[0] == "."
    for what in asked[1:]:
        assert f"Provides-Extra: {what[2:-1]}\n" in metadata


def test_it_is_the_wheel_that_runs(run, home):
    done = run("python -c 'import fsclip_jax; print(fsclip_jax.__file__)'")
    assert done.stdout.startswith(str(home / "env")), done.stderr
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    assert version == "fsclip-jax"


@pytest.mark.parametrize("line", RUN)
def test_a_command_of_the_readme(run, line):
    _, name, *rest = line.split()
    config = next((Path(word).stem for word in rest if word.startswith("configs/")), None)
    done = run(f"{line} {SMALL[name]} {SMALL.get(config, '')}" if config else line)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_the_tutorials_print_what_they_show(run):
    script = ROOT / "scripts" / "run_tutorials.py"
    done = run(f"python {script} --check --in .")
    assert done.returncode == 0, done.stderr[-4000:]
