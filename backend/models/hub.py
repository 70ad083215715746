"""Files of a model from the model hub, or from its cache on this machine; what cannot be had is said in a sentence.

The hub answers in many ways (no such repository, gated, no such revision, too many questions, nothing at all), and
its cache may hold half of a model. Each is told apart here, because each wants something else of the reader.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from backend.models.model_files import DamagedFiles, ModelLoadingError, no_weights, one_line

_NEVER = ("original/*", "consolidated*")  # the weights once more, in their maker's own layout
_SMALL = (".json", ".model", ".jinja", ".txt")  # what holds no weights


def snapshot(name: str, revision: str | None, files: Sequence[str], *, instead: str) -> tuple[Path, str]:
    """Folder with those files of a repository that match `files`, and its commit.

    Without a network it is what the cache has. Raises ModelLoadingError, naming `instead` as a way out where the hub
    cannot be reached.
    """
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        IncompleteSnapshotError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    wanted = name + (f" at revision {revision}" if revision else "")
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(files), ignore_patterns=list(_NEVER))
    except HFValidationError as error:
        raise ModelLoadingError(f"{name!r} is no name that the model hub can have: {one_line(error)}") from error
    except RevisionNotFoundError as error:
        raise ModelLoadingError(
            f"The model hub has {name}, but no revision {revision!r} of it. Name a branch, a tag or a commit of it, or"
            " leave `revision` out."
        ) from error
    except GatedRepoError as error:
        raise ModelLoadingError(
            f"The model hub has {name}, but it is gated: its files are given only to those who accepted its terms."
            " Accept them on its page of the hub, then `hf auth login` on this machine with a token of that account."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelLoadingError(
            f"The model hub has no model {name!r} that may be read. Check the spelling; a gated or private model needs"
            " `hf auth login`."
        ) from error
    except IncompleteSnapshotError as error:
        missing = _missing(name, Path(error.snapshot_path), files)
        raise ModelLoadingError(
            f"{wanted} is not whole in the model hub's local cache: {_first(missing)} of its files were never fetched,"
            " and the hub could not be reached. Run again with a network, and only what is missing is fetched."
        ) from error
    except (httpx2.HTTPError, OSError) as error:
        raise ModelLoadingError(f"{wanted} {_why(error)} {instead}") from error
    found = Path(folder)  # the cache names a snapshot by its commit
    _refuse_other_layouts(name, found, files)
    return found, found.name


@contextmanager
def named(name: str, folder: Path) -> Iterator[None]:
    """What is refused of a snapshot inside is said of the hub's model, and how it is fetched anew."""
    try:
        yield
    except DamagedFiles as error:
        raise DamagedFiles(
            f"{name} is damaged in the model hub's local cache: {error} It is fetched anew once its folder there,"
            f" {folder.parents[1]}, is deleted."
        ) from error
    except ModelLoadingError as error:
        raise ModelLoadingError(f"{name} of the model hub cannot be used: {error}") from error


def _why(error: Exception) -> str:
    """Why something could not be had, and what to do where that is the hub's own answer."""
    from huggingface_hub.errors import HfHubHTTPError

    answer = error if isinstance(error, HfHubHTTPError) else error.__cause__
    if not isinstance(answer, HfHubHTTPError):
        return (
            f"could not be reached on the model hub and is not in its local cache ({type(error).__name__}). Check the"
            " network, or"
        )
    code = answer.response.status_code
    what_to_do = {
        401: "The token of this machine is not valid: `hf auth login`, or",
        403: "The token of this machine may not read it: `hf auth login` with one that may, or",
        429: "It was asked too often: wait a few minutes, or",
    }.get(code, "Try again later, or")
    return f"is not in the model hub's local cache, and the hub refused it (HTTP {code}). {what_to_do}"


def _listed(name: str, folder: Path) -> dict[str, int]:
    """Files of the commit and their bytes, as the hub listed them; empty where the cache has no such list."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return {file.path: file.size for file in get_cached_repo_tree(name, revision=folder.name)}
    except CachedRepoTreeNotFoundError:  # a cache of older days
        return {}


def _missing(name: str, folder: Path, files: Sequence[str]) -> list[str]:
    return [path for path in _asked_for(_listed(name, folder), files) if not (folder / path).is_file()]


def _asked_for(paths: Iterable[str], files: Sequence[str]) -> list[str]:
    """As the hub's own client matches names."""

    def matches(path: str, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in patterns)

    return sorted(path for path in paths if matches(path, files) and not matches(path, _NEVER))


def _first(missing: Sequence[str]) -> str:
    return ", ".join(missing[:1]) + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")


def _refuse_other_layouts(name: str, folder: Path, files: Sequence[str]) -> None:
    """Of other layouts only small files were fetched, so that the folder does not show what the repository has."""
    listed = _listed(name, folder)
    wanted = any(pattern.endswith(".safetensors") for pattern in files)
    if wanted and listed and all(path.endswith(_SMALL) for path in _asked_for(listed, files)):
        raise ModelLoadingError(no_weights(f"{name} of the model hub", listed))
