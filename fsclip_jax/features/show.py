"""What is in a feature bank, as facts."""

from typing import Any

from fsclip_jax.errors import some
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.printable import printable


def bank_facts(bank: StoredBank) -> dict[str, str]:
    """Say what is in a bank, by what it is about."""
    facts = _entries(bank)
    for name, count in bank.manifest["splits"].items():
        facts[f"split {name}"] = f"{count} images"
    if skipped := bank.manifest["skipped"]:
        facts["unreadable"] = f"{len(skipped)}: {some(skipped)}"
    return {printable(name): printable(value) for name, value in facts.items()}


def _entries(bank: StoredBank) -> dict[str, str]:
    manifest = bank.manifest
    data, backbone = manifest["data"], manifest["backbone"]
    size = sum(int(entry["bytes"]) for entry in manifest["files"].values())
    text = "" if bank.text_features is None else " and text"
    entries = {
        "data": f"{data.get('spec')} (version {_brief(data.get('version'))})",
        "backbone": f"{backbone.get('id')} (sha256 {_brief(backbone.get('sha256'))})",
        "images": str(manifest["n"]),
        "views": str(bank.views),
        "classes": f"{manifest['classes']}: {some(bank.class_names)}",
        "dim": f"{bank.dim}, stored as {manifest['dtype']}",
        "logit scale": f"{bank.logit_scale:g}",
        "templates": some(manifest["templates"]) or _unwritten(bank),
        **({"prompt file": _prompt_file(manifest)} if manifest.get("prompt_file") else {}),
        "prompt vectors": _prompts(bank),
        "text lengths": _lengths(bank),
        "patches": f"{bank.patches} of view 0" if bank.patches else "not stored",
        **({"features": f"before the projection, {bank.pre} wide"} if bank.pre else {}),
        "files": f"{len(bank.shards)} shard(s){text}, {size / 1e6:.1f} MB",
    }
    if bank.domain_names:
        entries["families"] = some(bank.domain_names)
    return entries


def _prompt_file(manifest: dict[str, Any]) -> str:
    file = manifest["prompt_file"]
    return f"{file.get('name')} (sha256 {_brief(file.get('sha256'))}), in place of the templates"


def _unwritten(bank: StoredBank) -> str:
    return "none: no text" if bank.text_features is None else "not recorded"


def _prompts(bank: StoredBank) -> str:
    mask = bank.prompt_mask
    if mask is None:
        return _unwritten(bank) if bank.text_features is None else "not stored"
    counts = mask.sum(0)
    low, high = int(counts.min()), int(counts.max())
    return f"{low} a class" if low == high else f"{low} to {high} a class"


def _lengths(bank: StoredBank) -> str:
    long = bank.text_lengths
    if long is None:
        return _unwritten(bank) if bank.text_features is None else "not stored"
    return f"{long.min():.3g} to {long.max():.3g}"


def _brief(digest: str | None) -> str:
    return str(digest)[:12] if digest else "not recorded"
