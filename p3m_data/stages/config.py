"""All settings of the stages that a picture goes through, as `pipelines/anonymize.yaml` spells them out."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field

from p3m_data.stages.blur import BlurConfig
from p3m_data.stages.detect import DetectConfig
from p3m_data.stages.mask import MaskConfig
from p3m_data.stages.verify import VerifyConfig
from p3m_data.storage.images import Limits
from p3m_data.types import Frozen


class AnonymizeConfig(Frozen):
    """Everything that decides what the output looks like; its digest is in every record."""

    detect: DetectConfig = DetectConfig()
    mask: MaskConfig = MaskConfig()
    blur: BlurConfig = BlurConfig()
    verify: VerifyConfig = VerifyConfig()
    container: Literal["source", "png"] = Field(
        "source", description="source: a JPEG stays a JPEG; png: every output is lossless"
    )
    accept_no_face: bool = Field(False, description="publish pictures without a face, unseen by a person")
    max_pixels: int = Field(200_000_000, gt=0, description="larger pictures are refused")
    max_bytes: int = Field(512 * 2**20, gt=0, description="larger files are refused")

    @property
    def digest(self) -> str:
        """16 hex digits that change with any setting."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def limits(self) -> Limits:
        return Limits(self.max_bytes, self.max_pixels)
