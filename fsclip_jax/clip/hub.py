"""Fetch a model from the Hugging Face hub once; afterwards it is read from the cache."""

import sys
from pathlib import Path

from fsclip_jax.clip.layouts import choose_weights, layouts_of, wanted_weights
from fsclip_jax.errors import UserError
from fsclip_jax.hub import HubId, Wanted, find_cached, refusals, why_not

_SMALL = ["*.json", "*.txt", "*.model"]


def _is_whole(folder: Path) -> bool:
    names = [path.name for path in folder.iterdir()]
    return choose_weights(names, layouts_of(folder)) is not None


WANTED = Wanted(_SMALL, _is_whole)
"""Of a model: of its weights one form of several is enough."""


def fetch(hub_id: HubId, accepted: str) -> Path:
    """Download what is needed of a model, or find it in the cache.

    Of the forms in which a repository has its weights, only one is fetched; safetensors if it
    is there. ``accepted`` says what else may be given, should there be no such model.

    Raises:
        UserError: there is no such model or revision, it needs a login, it holds no CLIP, or
            it is not in the cache and the hub cannot be reached.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return find_cached(hub_id, WANTED, "HF_HUB_OFFLINE is set; unset it")
    try:
        with refusals(hub_id, accepted):
            return _online(hub_id)
    except UserError:
        raise
    except Exception as error:  # no network, a proxy, a full disk: a copy in the cache will do
        return find_cached(hub_id, WANTED, why_not(error), error)


def _online(hub_id: HubId) -> Path:
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache

    name, revision = hub_id
    info = HfApi().model_info(name, revision=revision, files_metadata=True)
    sizes = {item.rfilename: item.size or 0 for item in info.siblings or ()}
    folder = Path(snapshot_download(name, revision=revision, allow_patterns=_SMALL))
    patterns = wanted_weights(sizes, layouts_of(folder), name)
    missing = [
        size
        for file, size in sizes.items()
        if file in patterns
        and not isinstance(try_to_load_from_cache(name, file, revision=info.sha), str)
    ]
    if missing:
        print(f"downloading {name}: {sum(missing) / 1e6:,.0f} MB", file=sys.stderr, flush=True)
    # Asked for as the user did, so that the cache knows which commit a branch stood for.
    return Path(snapshot_download(name, revision=revision, allow_patterns=_SMALL + patterns))
