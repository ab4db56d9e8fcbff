"""Times of change: does a public file bear its source's, or do all together tell the order of the sources?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np
from pydantic import JsonValue

from p3m_data.inspection.findings import About, Notes
from p3m_data.inspection.private_side import Private
from p3m_data.inspection.public_tree import Entry
from p3m_data.inspection.statistics import rank_correlation
from p3m_data.types import Frozen

ABOUT: Mapping[str, About] = {
    "file_times": About(
        "Times of change",
        "No public file bears its source's time, and sorting by time does not give the order of the sources.",
        "With no private side at hand, only that all pictures bear one time. Archives may add times of their own.",
    ),
}


class TimesConfig(Frozen):
    """What is let pass."""

    limit: float = 0.1
    """Rank correlation of times and sources that is let pass however many pictures there are."""
    deviations: float = 3.3
    """So many standard deviations of chance are let pass, too."""
    pictures: int = 5
    """Fewer pictures have no order to speak of."""


DEFAULTS = TimesConfig()


def check_times(
    files: list[Entry], known: Private | None, notes: Notes, config: TimesConfig = DEFAULTS
) -> dict[str, JsonValue]:
    """Whether the times of the pictures `files` tell anything of the sources; figures."""
    distinct = len({facts.st_mtime_ns for _, facts in files})
    by_id: defaultdict[str, list[int]] = defaultdict(list)
    for path, facts in files:
        name = PurePosixPath(path).stem
        by_id[name].append(facts.st_mtime_ns)
        if known and any(_same_time(facts.st_mtime_ns, t) for t in known.times.get(name, ())):
            said = "The file bears the time of change of its source; set all public files to one time."
            notes.say("file_times", path, said)
    figures: dict[str, JsonValue] = {"distinct": distinct}
    if distinct > 1 and known:
        ids = [name for name in by_id if known.times.get(name)]
        # the times of some files may tell what those of the others do not
        changed = [min(by_id[name]) for name in ids], [max(by_id[name]) for name in ids]
        keys = [known.order[name] for name in ids], [known.times[name][0] for name in ids]
        order = max(abs(rank_correlation(times, key)) for times in changed for key in keys)
        figures["rank_correlation"] = order
        # Fisher's transformation, with the wider spread that ranks have
        chance = float(np.tanh(config.deviations * (1.06 / max(1, len(ids) - 3)) ** 0.5))
        limit = max(config.limit, chance)
        if len(ids) >= config.pictures and order >= limit:
            said = (
                "The times of the public files follow the order of the sources, so that sorting by time tells it; "
                "set all public files to one time."
            )
            notes.say("file_times", "", said, value=round(order, 4), limit=round(limit, 4))
            return figures
    if distinct > 1:
        said = (
            f"The pictures bear {distinct} different times of change, which tell when and in which order they were "
            "made; set them all to one time."
        )
        notes.say("file_times", "", said, "note", value=distinct, limit=1)
    return figures


def _same_time(public: int, source: int) -> bool:
    """Also when the copy kept whole seconds only."""
    whole = 10**9
    return public == source or (public % whole == 0 and public // whole == source // whole)
