"""Sorts pictures in forked children that die at a moment, and puts them back: for test_sorting.

    sorting_child.py KILLS SEED HOME DIR HOW

A child dies right before it asks the operating system for a change, the n-th one; HOW is move, link
or bare, which moves on a file system without hard links. After each death the next child sorts on
or undoes, and may die too. Prints a line a death: whether while sorting or undoing, and when.
"""

import os
import shutil
import sys
from pathlib import Path

from killing import moments, run_and_kill

from fsclip_jax.prediction.formats import Row
from fsclip_jax.prediction.sorting import sort_pictures
from fsclip_jax.prediction.undo import undo

CHANGES = ("link", "unlink", "replace", "mkdir", "rmdir", "symlink", "write", "fsync", "open")
LABELS = ("cat", "dog", "", "unknown")


def pictures(home: Path) -> list[Row]:
    """Write files of the same names in several folders."""
    rows = []
    for number in range(12):
        file = home / f"set{number % 3}" / f"{number // 3}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%d" % number)
        rows.append(Row(str(file), LABELS[number % 4], (("cat", 0.5),), 0.5))
    return rows


def tree(*folders: Path) -> dict[str, bytes]:
    """Every file below folders, and every folder."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            found[str(path)] = b"" if path.is_dir() else path.read_bytes()
    return found


def dies(work, after: int | None, bare: bool) -> bool:
    """Run in a child that dies before a change; say whether it did."""

    def child(_tell) -> int:
        left = [after]

        def counted(name):
            original = getattr(os, name)

            def change(*words, **options):
                if left[0] is not None:
                    left[0] -= 1
                    if left[0] < 0:
                        os.kill(os.getpid(), 9)
                if bare and name == "link":
                    raise PermissionError(1, "no links here")
                return original(*words, **options)

            setattr(os, name, change)

        for name in CHANGES:
            counted(name)
        work()
        return 0

    return run_and_kill(child, told=None)


def main(kills: int, seed: int, home: Path, folder: Path, how: str) -> None:
    """Let it die at every moment, or at so many."""
    rng = moments(seed)
    move = "link" if how == "link" else "move"
    bare = how == "bare"

    def sort():
        sort_pictures(rows, LABELS, folder, move)

    rows = pictures(home)
    before = tree(home)
    assert not dies(sort, None, bare)
    whole = tree(home, folder)
    assert not dies(lambda: undo(folder), None, bare)
    assert tree(home) == before, "undone"
    assert not folder.exists()
    after = 0
    contents = {content for content in before.values() if content}
    while True:
        ended = not dies(sort, after, bare)
        print("sort", after, flush=True)
        if rng.random() < 0.5:
            dies(sort, rng.randint(0, 60), bare)  # goes on, and dies perhaps
            assert contents <= set(tree(home, folder).values())
            assert not dies(sort, None, bare)
            names = {
                name: value for name, value in tree(home, folder).items() if ".jsonl" not in name
            }
            assert names == {name: value for name, value in whole.items() if ".jsonl" not in name}
        assert contents <= set(tree(home, folder).values()), "nothing is lost"
        while folder.exists() and dies(lambda: undo(folder), rng.randint(0, 60), bare):
            print("undo", flush=True)
            assert contents <= set(tree(home, folder).values()), "nothing is lost"
        assert tree(home) == before, after
        if folder.exists():  # it died before the journal said that it made the folder
            assert not [path for path in folder.rglob("*") if path.name != ".fsclip-sorted.lock"]
            shutil.rmtree(folder)
        if ended:
            return
        after += 1 if kills >= 100 else rng.randint(1, 2 * (240 // kills))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
