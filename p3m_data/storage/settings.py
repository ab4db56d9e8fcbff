"""Settings files: YAML into a checked configuration, with errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from p3m_data.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)


def read_settings(file: Path, model: type[Model]) -> Model:
    """The `model` that the YAML `file` describes; keys left out keep their defaults. Raises `UsageError`."""
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        what = " ".join(str(error).split())
        raise UsageError(f"{file} is not valid YAML: {what}") from error
    try:
        return model.model_validate({} if values is None else values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "its top level"
        raise UsageError(f"{file}: {key}: {first['msg']}") from error
