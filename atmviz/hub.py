"""Checkpoints on the Hugging Face Hub, named like hf://user/repo@revision/file. Torch-free.

Cache, offline mode and token are those of huggingface_hub. Nothing but the named file is fetched.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atmviz.errors import CheckpointError, SettingsError, describe, join_limited, shorten, summarize

_TIMEOUT = 10  # seconds
_SERVER_ERROR = 500  # and above: HTTP states of a Hub that is down
_NAME = r"\w[\w.-]{0,95}"
_ADDRESS = re.compile(
    # A Path has a single slash after the colon
    rf"hf://?(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>refs/(?:pr|convert)/{_NAME}|{_NAME}))?(?:/(?P<file>[^\\]+))?",
    re.ASCII,
)
_EXPECTED = "expected hf://user/repo, hf://user/repo@revision or hf://user/repo/file.safetensors"


@dataclass(frozen=True)
class HubAddress:
    """Names a checkpoint on the Hub.

    Attributes:
        repo: `user/repo`.
        revision: A branch, tag or commit; None for the main branch.
        file: Path of the file in the repository; None for its only safetensors file.
    """

    repo: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def parse(cls, text: str | Path) -> "HubAddress":
        """Read an address.

        Raises:
            SettingsError: it is none, or leaves the repository.
        """
        match = _ADDRESS.fullmatch(str(text))
        parts = str(text).split("/")
        if not match or ".." in parts or "." in parts or not str(text).isprintable():
            raise SettingsError(f"got checkpoint {describe(str(text))}, {_EXPECTED}")
        return cls(**match.groupdict())

    def fetch(self) -> Path:
        """Return the file in the cache of huggingface_hub, downloaded where it is not there yet.

        Raises:
            CheckpointError: there is no such repository, revision or file, access is refused, several files fit, or
                the Hub cannot be reached and the cache has no copy.
        """
        from huggingface_hub import hf_hub_download

        with _errors_in_one_line(self):
            files = self._files()
            file = self.file or self._only_safetensors(files if files is not None else self._cached_files())
            # Without this, it would try for half a minute to reach a Hub that does not answer
            is_away = files is None
            return Path(hf_hub_download(self.repo, file, revision=self.revision, local_files_only=is_away))

    def at_commit(self, fetched: Path) -> str:
        """Return the address of a fetched file by its commit, which never names other weights.

        Raises:
            CheckpointError: the Hub named no commit.
        """
        match = re.search("/snapshots/([0-9a-f]{40})/(.+)$", fetched.as_posix())
        if not match:
            raise CheckpointError(
                f"the Hub names no commit of hf://{self.repo}, which recordings need: download the file yourself"
            )
        return f"hf://{self.repo}@{match[1]}/{match[2]}"

    def _files(self) -> list[str] | None:
        """Return the names of files that an address can have; None where the Hub does not answer."""
        from huggingface_hub import HfApi

        try:
            siblings = HfApi().model_info(self.repo, revision=self.revision, timeout=_TIMEOUT).siblings
        except Exception as error:  # of the HTTP library, which differs by version of huggingface_hub
            response = getattr(error, "response", None)
            if response is not None and response.status_code < _SERVER_ERROR:
                raise
            return None
        return [file.rfilename for file in siblings or () if self._can_name(file.rfilename)]

    def _can_name(self, file: str) -> bool:
        try:
            return HubAddress.parse(f"hf://{self.repo}/{file}").file == file
        except SettingsError:
            return False

    def _cached_files(self) -> list[str]:
        """Return the names of the files in the cache."""
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(self.repo, revision=self.revision, local_files_only=True))
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]

    def _only_safetensors(self, files: Iterable[str]) -> str:
        files = sorted(files)
        found = [file for file in files if file.endswith(".safetensors")]
        if len(found) != 1:
            got = f"{len(found)} safetensors files ({_shown(found)})" if found else "no safetensors file"
            others = _shown([file for file in files if file.endswith((".pth", ".pt", ".bin", ".ckpt"))])
            of = f", only {others}" if others and not found else ""
            raise CheckpointError(f"hf://{self.repo} has {got}{of}: name one, as in hf://{self.repo}/FILE")
        return found[0]


def is_hub_address(path: object) -> bool:
    """Whether a checkpoint is named by an address of the Hub."""
    return str(path).startswith("hf:/")


def _shown(files: list[str]) -> str:
    return join_limited(map(shorten, files), 5)


def require_repository(text: str) -> str:
    """Return the name of a repository; raise SettingsError for anything else."""
    if not isinstance(text, str) or not re.fullmatch(f"{_NAME}/{_NAME}", text, re.ASCII) or ".." in text:
        raise SettingsError(f"got repository {describe(text)}, expected user/repo")
    return text


def push_folder(folder: Path, repo: str) -> str:
    """Make a repository on the Hub, unless it is there, write the files of a folder into it, and return its address.

    Raises:
        CheckpointError: the token may not write there, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi, constants

    api, url = HfApi(), f"{constants.ENDPOINT}/{repo}"
    try:
        api.create_repo(repo, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Published by atmviz")
    except Exception as error:  # of the HTTP library, which differs by version of huggingface_hub
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = shorten(summarize(error), 200)
        remedy = "set HF_TOKEN to a token that may write there" if status in (401, 403) else "try again later"
        raise CheckpointError(f"cannot write to {url} ({reason}): {remedy}; the files are in {folder}") from None
    return url


@contextmanager
def _errors_in_one_line(address: HubAddress) -> Iterator[None]:
    """Raise CheckpointError in place of what huggingface_hub raises within the block."""
    from huggingface_hub import constants, errors

    repo, where = f"hf://{address.repo}", constants.ENDPOINT
    try:
        yield
    except CheckpointError:
        raise
    except errors.GatedRepoError:
        problem = f"{repo} is open only to those who accepted its terms: do so on its page, and set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        problem = f"no repository {repo} at {where} that you may read: check the name; for a private one set HF_TOKEN"
    except errors.RevisionNotFoundError:
        problem = f"no revision {address.revision!r} of {repo}: expected a branch, a tag or a commit"
    except errors.LocalEntryNotFoundError:
        state = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{where} cannot be reached"
        problem = f"{repo} is not in the cache as named, and {state}: download it first, or go online"
    except errors.EntryNotFoundError:
        problem = f"no file {address.file!r} in {repo}: check its name, or leave it out"
        if address.file is None:
            problem = f"{repo} lists a safetensors file that {where} does not hand out: name another file"
    except Exception as error:
        problem = f"cannot fetch {repo} from {where} ({shorten(summarize(error), 200)}): try again later"
    else:
        return
    raise CheckpointError(problem) from None
