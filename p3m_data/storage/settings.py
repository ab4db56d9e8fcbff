"""Settings files: YAML into a checked configuration, with errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from p3m_data.errors import UsageError
from p3m_data.storage.sentences import one_line

Model = TypeVar("Model", bound=BaseModel)
MAX_BYTES = 2**16
"""PyYAML takes seconds for the worst file of this size, and minutes for one of a megabyte."""


def read_settings(file: Path, model: type[Model]) -> Model:
    """The `model` that the YAML `file` describes; keys left out keep their defaults. Raises `UsageError`."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{file} is larger than {MAX_BYTES // 2**10} KiB and cannot be a file of settings")
    try:
        values = yaml.load(data.decode(), _WithoutAliases)
    except RecursionError as error:
        raise UsageError(f"{file} is not valid YAML: it is nested too deeply") from error
    # of malformed dates and numbers PyYAML raises whatever Python raises
    except Exception as error:
        raise UsageError(f"{file} is not valid YAML: {one_line(str(error))}") from error
    try:
        return model.model_validate({} if values is None else values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "its top level"
        raise UsageError(f"{file}: {one_line(key)}: {one_line(first['msg'])}") from error


class _WithoutAliases(yaml.SafeLoader):
    """Refuses aliases and what is no text.

    A few lines of aliases that merge aliases would fill the memory, and settings have no use for them.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*) is not read; spell out what it stands for")
        node: yaml.Node | None = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode):
            # an escape may name half a surrogate pair, over which pydantic stumbles
            node.value.encode()
        return node
