"""Where a dataset's two sides lie: the public folder, and the private work folder beside it.

The private side holds the ledger, the key of the ids and the review sheets. It is a sibling of the public
folder and never inside it, so that whoever copies the dataset copies nothing private.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p3m_data.errors import ConfigChanged, UsageError
from p3m_data.pipeline.database import DatasetLock
from p3m_data.pipeline.ledger import Ledger
from p3m_data.storage.folders import check_writable, write_atomic

KEY_BYTES = 32
OUTPUTS = ("blurred_image", "facemask", "mask")
"""Folders in `train` that pictures are published to."""
PUBLISHED_AT = 946_684_800 * 10**9
"""Time of change of every published file, in ns (2000-01-01): true times would tell the order of the sources."""


def key_mark(key: bytes) -> str:
    """What the ledger keeps of a secret, to know it again."""
    return hashlib.sha256(key).hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """Paths of a dataset; `private` defaults to `PUBLIC.private`."""

    public: Path
    private: Path

    @classmethod
    def at(cls, public: Path, private: Path | None = None) -> Dataset:
        """The dataset in the folder `public`; `UsageError` when one side lies inside the other."""
        public = public.resolve()
        if not public.name:
            raise UsageError(f"{public} cannot be a dataset; name a folder in it")
        private = (private or public.with_name(public.name + ".private")).resolve()
        if private.is_relative_to(public) or public.is_relative_to(private):
            raise UsageError(
                f"{private} and {public} must not lie inside each other; name another work folder"
            )
        return cls(public, private)

    @property
    def train(self) -> Path:
        return self.public / "train"

    @property
    def sheets(self) -> Path:
        """One picture per source with the six steps of figure 3."""
        return self.private / "sheets"

    @property
    def manifest(self) -> Path:
        return self.public / "manifest.jsonl"

    @property
    def ledger_path(self) -> Path:
        return self.private / "ledger.sqlite"

    def create(self) -> None:
        """Make both folders, the private one for its owner's eyes only; `StorageError` if they cannot be written."""
        for folder in (self.private, self.sheets, self.public):
            check_writable(folder)
        os.chmod(self.private, 0o700)
        for name in OUTPUTS:
            check_writable(self.train / name)

    def check_free(self) -> None:
        """`UsageError` when `public` holds files, but `private` no ledger of the run that made them."""
        if os.path.isfile(self.ledger_path):
            return
        kept = (self.manifest, *(self.train / name for name in OUTPUTS))
        files = (file for place in kept for file in (place.iterdir() if place.is_dir() else [place]))
        if any(file.exists() and not file.name.startswith(".") for file in files):
            raise UsageError(
                f"{self.public} holds files already, and {self.private} no ledger of them; "
                "name another output folder, or the work folder that it was made with"
            )

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """One process at a time puts files on the public side or takes them away, with their rows; waits."""
        lock = DatasetLock(self.private / "publish.lock", wait=True)
        try:
            yield
        finally:
            lock.release()

    def ledger(self, *, beside_a_run: bool = False) -> Ledger:
        """The ledger for reading, or for what may be written beside a run; `UsageError` when there is none."""
        try:
            found = self.ledger_path.is_file()
        except PermissionError as error:
            raise UsageError(
                f"{self.private} cannot be looked into; run this as the folder's owner"
            ) from error
        if not found:
            raise UsageError(
                f"{self.public} is not a p3mdata dataset (no ledger in {self.private}); "
                "make one with: p3mdata anonymize PHOTOS -o DATASET"
            )
        return Ledger(self.ledger_path, beside_a_run=beside_a_run)

    @property
    def key_path(self) -> Path:
        return self.private / "secret.key"

    def known_key(self, ledger: Ledger) -> bytes:
        """The secret that the ids in `ledger` were made with; with another one they would all change."""
        known = ledger.meta("key")
        if known is not None and not self.key_path.exists():
            raise UsageError(
                f"{self.key_path} is gone; restore it from a backup, or name another output folder"
            )
        key = self.key()
        if known is not None and known != key_mark(key):
            raise ConfigChanged(
                f"{self.key_path} is not the secret that {self.public} was made with; restore that one"
            )
        return key

    def key(self) -> bytes:
        """The secret that ids are made with; made at first use."""
        path = self.key_path
        if not path.exists():
            write_atomic(path, secrets.token_hex(KEY_BYTES).encode())
            os.chmod(path, 0o600)
        try:
            key = bytes.fromhex(path.read_text())
        except (OSError, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise UsageError(
                f"{path} is damaged or cannot be read; restore it from a backup, or ids will change"
            )
        return key
