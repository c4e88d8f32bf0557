"""Fetch a model from the Hugging Face hub once; afterwards it is read from the cache."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

from fsclip_jax.clip.layouts import choose_weights, layouts_of, wanted_weights
from fsclip_jax.errors import UserError, first_line

_SMALL = ["*.json", "*.txt", "*.model"]
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class HubId(NamedTuple):
    """A model of the hub."""

    name: str
    revision: str | None
    """A branch, a tag or a commit; None for the newest."""


def parse_id(spec: str) -> HubId | None:
    """Read ``OWNER/NAME`` or ``OWNER/NAME@REVISION``; None if it is neither.

    Example:
        >>> parse_id("openai/clip-vit-base-patch32@3d74acf")
        HubId(name='openai/clip-vit-base-patch32', revision='3d74acf')
        >>> parse_id("mini") is None
        True
    """
    name, at, revision = spec.partition("@")
    if not _ID.fullmatch(name) or (at and not revision):
        return None
    return HubId(name, revision or None)


def fetch(hub_id: HubId, accepted: str) -> Path:
    """Download what is needed of a model, or find it in the cache.

    Of the forms in which a repository has its weights, only one is fetched; safetensors if it
    is there. ``accepted`` says what else may be given, should there be no such model.

    Raises:
        UserError: there is no such model or revision, it needs a login, it holds no CLIP, or
            it is not in the cache and the hub cannot be reached.
    """
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE:
        return find_cached(hub_id, "HF_HUB_OFFLINE is set; unset it")
    name, revision = hub_id
    try:
        return _online(hub_id)
    except UserError:
        raise
    except errors.GatedRepoError as error:
        raise UserError(
            f"{name!r} is only given to who has accepted its terms: do so on its page, then log in "
            "with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{name!r} has no revision {revision!r}; give a branch, a tag or a commit after the @"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UserError(
            f"the Hugging Face hub has no model {name!r}, or not for you; {accepted}"
        ) from error
    except Exception as error:  # no network, a proxy, a full disk: a copy in the cache will do
        return find_cached(
            hub_id, f"the hub cannot be reached ({first_line(error)}); go online", error
        )


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


def find_cached(hub_id: HubId, why: str, cause: Exception | None = None) -> Path:
    """Find a model in the cache, without a network.

    ``why`` is said when it is not there: why the hub is not asked, and what to do.

    Raises:
        UserError: the cache does not hold its weights.
    """
    from huggingface_hub import snapshot_download

    name, revision = hub_id
    command = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    message = (
        f"{name!r}{f' at {revision}' if revision else ''} is no local folder, and the cache does "
        f"not hold it whole; {why}, or run `{command}` where there is a network and copy the cache"
    )
    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except Exception as error:
        raise UserError(message) from (cause or error)
    if choose_weights([path.name for path in folder.iterdir()], layouts_of(folder)) is None:
        raise UserError(message) from cause
    return folder
