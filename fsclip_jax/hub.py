"""What is asked of the Hugging Face hub, and what it answers, in a line where it is no."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fsclip_jax.errors import UserError, first_line, some

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LOG_IN = "log in with `hf auth login`"


class HubId(NamedTuple):
    """A repository of models."""

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


@contextmanager
def refusals(hub_id: HubId, accepted: str) -> Iterator[None]:
    """Tell in a line that there is no such repository or revision, or not for this user.

    Raises:
        UserError: instead of the client's errors that say so; all others pass.
    """
    from huggingface_hub import errors

    name, revision = hub_id
    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(
            f"{name!r} is only given to who has accepted its terms: do so on its page, then "
            f"{_LOG_IN}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{name!r} has no revision {revision!r}; give a branch, a tag or a commit that it has"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UserError(
            f"the Hugging Face hub has no model {name!r}, or not for you; {accepted}"
        ) from error


def why_not(error: Exception) -> str:
    """Say why the hub gave nothing, and what to do.

    Example:
        >>> why_not(OSError("no route"))
        'the hub cannot be reached (no route); go online'
    """
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # of one file of many
    code = getattr(getattr(error, "response", None), "status_code", None)
    if code in (401, 403):
        return f"the hub refuses it ({first_line(error)}); {_LOG_IN} with a token that may"
    if code is not None:
        return f"the hub refuses it ({first_line(error)})"
    return f"the hub cannot be reached ({first_line(error)}); go online"


class Wanted(NamedTuple):
    """What is fetched of a repository.

    Attributes:
        patterns: of the files that all must be there.
        whole: says of a folder whether all that is needed is there.
    """

    patterns: Sequence[str]
    whole: Callable[[Path], bool]


def find_cached(hub_id: HubId, wanted: Wanted, why: str, cause: Exception | None = None) -> Path:
    """Find a repository in the cache, without a network.

    Args:
        why: said when it is not: why the hub is not asked, and what to do.

    Raises:
        UserError: the cache does not hold it whole.
    """
    from huggingface_hub import snapshot_download

    name, revision = hub_id
    command = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    message = (
        f"{name!r}{f' at {revision}' if revision else ''} is no local folder, and the cache does "
        f"not hold it whole; {why}, or run `{command}` where there is a network and copy the cache"
    )
    try:
        kept = snapshot_download(
            name, revision=revision, local_files_only=True, allow_patterns=list(wanted.patterns)
        )
    except Exception as error:
        raise UserError(message) from (cause or error)
    if not wanted.whole(Path(kept)):
        raise UserError(message) from cause
    return Path(kept)


def find_files(
    place: str | Path,
    files: Collection[str],
    what: str,
    *,
    revision: str | None = None,
    token: str | None = None,
) -> Path:
    """Find a folder that has these files: here, in the cache, or in a repository of the hub.

    What is here wins; of a repository these files are fetched and no other.

    Args:
        place: a folder, or ``OWNER/NAME``, or ``OWNER/NAME@REVISION``.
        what: is looked for, in a word or two.

    Raises:
        UserError: there is neither, the repository is of another kind, or it cannot be had.
    """
    if Path(place).exists():
        if revision is not None:
            raise UserError(f"{place} is a folder, which has no revisions; leave revision out")
        return Path(place)
    hub_id = parse_id(Path(place).as_posix() if isinstance(place, Path) else place)
    if hub_id is None or (revision is not None and hub_id.revision is not None):
        given = f"{place}" + (f" and revision {revision!r}" if revision is not None else "")
        raise UserError(
            f"no {what} at {given}; give a folder, or OWNER/NAME of the Hugging Face hub with one "
            "revision at most"
        )
    return _fetch(hub_id._replace(revision=revision or hub_id.revision), files, what, token)


def _fetch(hub_id: HubId, files: Collection[str], what: str, token: str | None) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download

    wanted = Wanted(sorted(files), lambda folder: all((folder / file).is_file() for file in files))
    if constants.HF_HUB_OFFLINE:
        return find_cached(hub_id, wanted, "HF_HUB_OFFLINE is set; unset it")
    name, revision = hub_id
    try:
        with refusals(hub_id, f"give a folder that is here, another name, or {_LOG_IN}"):
            info = HfApi(token=token).model_info(name, revision=revision)
            there = [item.rfilename for item in info.siblings or ()]
            if lacking := sorted(set(files).difference(there)):
                raise UserError(
                    f"{name!r} holds no {what}: it lacks {', '.join(lacking)}, and has "
                    f"{some(sorted(there)) or 'no file'}; give one that was pushed as such"
                )
            # Asked for as the user did, so that the cache knows which commit a branch stood for.
            kept = snapshot_download(
                name, revision=revision, allow_patterns=list(wanted.patterns), token=token
            )
    except UserError:
        raise
    except Exception as error:  # no network, a proxy, a full disk: a copy in the cache will do
        return find_cached(hub_id, wanted, why_not(error), error)
    return Path(kept)


class Push(NamedTuple):
    """Where something is pushed to.

    Attributes:
        private: whether only its owner sees a repository that is made; None leaves it to the hub,
            where most are public.
        revision: the branch; the main one if None.
        token: of the hub; that of ``hf auth login`` if None.
    """

    repo_id: str
    private: bool | None = None
    revision: str | None = None
    token: str | None = None


def push_folder(folder: Path, to: Push, message: str) -> str:
    """Upload the files of a folder, make the repository and the branch if there are none.

    Returns:
        The address of the commit.

    Raises:
        UserError: there is no token or no network, or the hub refuses.
    """
    from huggingface_hub import HfApi, constants, get_token

    hub_id = parse_id(to.repo_id)
    if hub_id is None or hub_id.revision is not None:
        raise UserError(f"repo_id is {to.repo_id!r}; give OWNER/NAME, and a branch as revision")
    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set, so nothing can be pushed; unset it")
    if to.token is None and get_token() is None:
        raise UserError(f"pushing needs a token of the hub; {_LOG_IN}, or give token=")
    api = HfApi(token=to.token)
    try:
        with refusals(hub_id._replace(revision=to.revision), "give OWNER/NAME that may be yours"):
            api.create_repo(to.repo_id, private=to.private, exist_ok=True)
            if to.revision is not None:
                api.create_branch(to.repo_id, branch=to.revision, exist_ok=True)
            done = api.upload_folder(
                repo_id=to.repo_id,
                folder_path=folder,
                revision=to.revision,
                commit_message=message,
            )
    except UserError:
        raise
    except Exception as error:  # the network, the hub, the disk: many kinds
        raise UserError(f"{to.repo_id!r} could not be pushed: {why_not(error)}") from error
    return str(done.commit_url)
