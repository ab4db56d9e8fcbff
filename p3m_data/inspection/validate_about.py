"""What each check of `validate` proves and does not prove, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Mapping

from p3m_data.inspection.findings import About

ABOUT: Mapping[str, About] = {
    "dataset_empty": About(
        "There are pictures", "The dataset holds at least one picture.", "That there are all that should be."
    ),
    "mates": About(
        "Every picture has its mates",
        "Each picture has the files that its split holds for pictures (matte, trimap, facemask, foreground, "
        "background), and each such file has its picture.",
        "That the mates are the right ones; other checks look at that.",
    ),
    "double_stems": About(
        "One picture a name",
        "No folder holds two files of one name that differ in their suffix only.",
        "That two names are two pictures; see duplicates.",
    ),
    "name_case": About(
        "Names agree in upper and lower case",
        "Pictures and mates find each other on every file system, and suffixes are lower case.",
        "Anything about other systems' rules for names.",
    ),
    "stray_files": About(
        "No file too many",
        "Every file belongs to a picture or is one of the known ones of a dataset.",
        "That the known files say nothing private; the audit looks at that.",
    ),
    "readable": About(
        "Every file can be read",
        "Each picture, matte, trimap and facemask was opened and decoded to its end.",
        "That its content is what it should be.",
    ),
    "inspected": About(
        "Every picture was inspected",
        "The checks ran to their end on each picture.",
        "Nothing about those that are named here: they have not been checked.",
    ),
    "sizes": About(
        "Sizes agree",
        "Picture, matte, trimap, facemask, foreground, background, the manifest's row and the original have "
        "one size.",
        "That they show the same place of the scene.",
    ),
    "matte_values": About(
        "Mattes are mattes",
        "Each matte is grey (one channel or three equal ones, or the alpha of a cut-out) and neither 0 nor 255 "
        "everywhere.",
        "That the alpha is accurate.",
    ),
    "matte_inverted": About(
        "Mattes are the right way round",
        "The largest masked face lies on the subject; without a facemask, the border is not mostly opaque "
        "around an empty centre.",
        "Without a facemask: that a matte whose subject fills the border, or not the centre, is right.",
    ),
    "matte_subject": About(
        "Mattes show a subject",
        "One connected part of each matte is large enough to be a subject.",
        "That it is a person, or the only one.",
    ),
    "matte_hard": About(
        "Mattes have soft edges",
        "Named are mattes of 0 and 255 only: segmentations.",
        "That soft edges are hair and not blur.",
    ),
    "matte_edges": About(
        "Mattes fit their pictures",
        "Named are pictures whose edges fit the matte no better than a matte moved aside. Of 390 mattes "
        "swapped among 130 portraits, over 99 % are named, and no right one is.",
        "A proof of either: it is a statistic. It fails on smooth or very busy grounds, and a matte swapped "
        "with one of nearly the same outline (another picture of a burst) cannot be seen by it at all.",
    ),
    "trimap_values": About(
        "Trimaps hold 0, 128 and 255", "No pixel has another value.", "That the unknown part is wide enough."
    ),
    "trimap_matte": About(
        "Trimaps agree with mattes",
        "255 lies only where alpha is 1 and 0 only where it is 0, but for the tolerance and 1 in 10,000 "
        "certain pixels; so the soft part lies in 128.",
        "How the trimap was made.",
    ),
    "facemask_values": About(
        "Facemasks hold 0 and 255", "No pixel has another value.", "That they cover the faces."
    ),
    "facemask_empty": About(
        "Facemasks mask something",
        "No facemask is empty where the manifest tells of masked faces.",
        "That every face is masked; the audit looks for others.",
    ),
    "facemask_transition": About(
        "Facemasks leave the transition area alone",
        "No masked pixel has an alpha between 0 and 1 (but for the run's tolerance): exact, for each picture.",
        "That the matte is right about where the hair is.",
    ),
    "changed_outside": About(
        "Nothing changed outside the facemask",
        "Against the originals: a PNG is equal outside the mask, pixel for pixel; a JPEG within its own loss "
        "16 pixels or more away from it.",
        "For a JPEG: anything within 16 pixels of the mask, where blocks share masked pixels. In datasets that "
        "p3mdata did not make, a JPEG that differs more is only noted, since it may have been encoded anew.",
    ),
    "changed_inside": About(
        "What is masked was changed",
        "Against the originals: each connected part of the mask changed by half of its own detail or more.",
        "That the change is strong enough to hide the face, or hides all of it; the audit measures that. Parts of "
        "fewer than 64 pixels or without detail are not looked at.",
    ),
    "manifest_rows": About(
        "The manifest can be read",
        "Every line is a row as the schema wants it, and no id comes twice.",
        "That the rows are true.",
    ),
    "manifest_files": About(
        "Files and rows match",
        "Each picture has a row and each row its files, and each file of a picture is in its row.",
        "Anything about files that are no picture's; see stray files.",
    ),
    "checksums": About(
        "Checksums match",
        "The sha256 of each file is the one in the manifest: it is the file that was written then.",
        "Who wrote the manifest: somebody who changes a file can change the manifest, too.",
    ),
    "sums_file": About(
        "SHA256SUMS is right and complete",
        "Every file but itself is listed, and has that sha256.",
        "Who wrote it.",
    ),
    "duplicates": About(
        "No picture twice",
        "No two files have the same bytes or decode to the same pixels. Across splits that is a fault, since "
        "what is tested on was trained on; within one it is a note.",
        "That there are no copies that were changed a little; see near-duplicates.",
    ),
    "near_duplicates": About(
        "No picture twice, slightly changed",
        "No two pictures lie within 8 of 64 bits by their DCT hash and within 10 by their gradient hash: the "
        "same picture encoded anew, resized or brightened is found.",
        "Crops of 5 % a side or more, mirrored or turned copies, and other pictures of the same person.",
    ),
    "id_pattern": About(
        "Ids have the right form", "Each is p_ and 8 or more hex digits.", "How it was made."
    ),
    "id_digest": About(
        "Ids are no plain digests",
        "No id begins with an MD5, SHA-1, SHA-256, SHA-512, BLAKE2b, CRC-32 or Adler-32 of its published files "
        "or pixels and, with the private side, of the original's bytes, pixels, path or name.",
        "That it is no digest of something else, or salted with something that can be guessed.",
    ),
    "id_keyed": About(
        "Ids come from the secret",
        "Each id is in the private ledger, and is the HMAC of its original and matte under the dataset's secret.",
        "That the secret stayed secret.",
    ),
    "id_order": About(
        "Ids tell no order",
        "They are not consecutive numbers and, with the private side, do not sort as the originals' names or "
        "times do.",
        "That no other order of the originals is in them.",
    ),
}
