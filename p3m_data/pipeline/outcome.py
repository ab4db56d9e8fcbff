"""How a dataset stands, in words and as an exit code; the same for `anonymize`, `status` and the reports."""

from __future__ import annotations

from collections.abc import Mapping

from p3m_data.pipeline.ledger import Ledger
from p3m_data.types import Reason, Status

REVIEW_CODE = 1
FAILED_CODE = 3

STATUS_WORDS: dict[Status, str] = {
    Status.ANONYMIZED: "anonymized and published",
    Status.NEEDS_REVIEW: "waiting for a person, not published",
    Status.EXCLUDED: "left out by a reviewer",
    Status.FAILED: "failed, not published",
    Status.DUPLICATE: "left out as duplicates",
    Status.PENDING: "still to be done",
}
"""In the order in which they are told."""

REASON_WORDS: dict[Reason, str] = {
    Reason.NO_FACE: "no face was found, and that does not prove that nobody can be recognised",
    Reason.NO_LANDMARKS: "something looks like a face, but its eyes, brows and chin could not be found",
    Reason.LANDMARKS_DISAGREE: "looks at the same face disagree about where its eyes, brows and chin are",
    Reason.ALREADY_OBFUSCATED: "a face seems to be blurred already, so nobody can check that it is masked well",
    Reason.MASK_TOO_SMALL: "hair or other fine edges leave too little of a face to blur",
    Reason.FACE_REMAINS: "a face can still be seen in the finished picture",
    Reason.NOT_AS_WRITTEN: "the finished picture differs from the source where it must not",
    Reason.UNREADABLE: "the file cannot be read as a picture",
    Reason.TOO_LARGE: "the picture is larger than the limit that was set",
    Reason.MATTE_MISMATCH: "the matte does not fit its picture",
    Reason.WORKER_LOST: "the program crashed on this picture or ran out of memory",
    Reason.TIMED_OUT: "the program did not finish this picture in the time that it was given",
    Reason.SAME_BYTES: "the same file as another picture",
    Reason.ACCEPTED_NO_FACE: "no face was found, and the operator accepts such pictures without a look",
    Reason.REVIEWED: "a reviewer decided what is masked",
    Reason.CONFIRMED_NO_FACE: "a reviewer saw that nobody can be recognised",
    Reason.EXCLUDED: "a reviewer left it out",
}
"""What each reason means to somebody who has never seen the program; fits after a count or a colon."""


def exit_code(counts: Mapping[Status, int]) -> int:
    """3 when pictures failed, else 1 when some wait for a person or were not reached, else 0."""
    if counts.get(Status.FAILED):
        return FAILED_CODE
    return REVIEW_CODE if counts.get(Status.NEEDS_REVIEW) or counts.get(Status.PENDING) else 0


def summary_lines(counts: Mapping[Status, int], reasons: Mapping[tuple[Status, Reason], int]) -> list[str]:
    """Lines of text: the total, then every status that occurs, and under each its reasons, most frequent first."""
    total = sum(counts.values())
    width = len(str(total))
    lines = [f"{total} {pictures(total)}"]
    for status, words in STATUS_WORDS.items():
        if not counts.get(status):
            continue
        lines.append(f"  {counts[status]:{width}} {words}")
        found = [(count, reason) for (where, reason), count in reasons.items() if where is status and count]
        for count, reason in sorted(found, key=lambda item: (-item[0], item[1])):
            lines.append(f"    {count:{width}} {REASON_WORDS[reason]}")
    return lines


def next_step(counts: Mapping[Status, int]) -> str:
    """One line: what the user does next."""
    if not sum(counts.values()):
        return "Nothing is in the dataset yet: run p3mdata anonymize."
    if pending := counts.get(Status.PENDING):
        return (
            f"{pending} {pictures(pending)} to go: wait for the run, "
            "or start the same p3mdata anonymize command again, it goes on where it stopped."
        )
    steps = []
    if waiting := counts.get(Status.NEEDS_REVIEW):
        steps.append(f"decide about the {waiting} waiting {pictures(waiting)} with p3mdata review")
    if failed := counts.get(Status.FAILED):
        steps.append(
            f"repair the {failed} failed {pictures(failed)} and run the same p3mdata anonymize command again "
            "(with --retry-failed where the cause was not the file)"
        )
    sentence = "; ".join(steps) or "nothing is left to do"
    return f"{sentence[0].upper()}{sentence[1:]}."


def config_digest(ledger: Ledger) -> str | None:
    """The digest of the configuration that made the dataset; None until its first picture is done."""
    return next((record.provenance.config_digest for record in ledger.records() if record.provenance), None)


def pictures(count: int) -> str:
    return "picture" if count == 1 else "pictures"
