"""The one spelling of every key that the harness reads or writes."""

from typing import Final

#: ``obs`` columns of a validated data set.
BATCH: Final = "batch"
LABEL: Final = "label"
#: Begins the names of ``obs`` columns with other labels, which only scores read: a labelling's name follows.
LABELLING: Final = "labelling: "
#: ``obs`` column of scored cells of a split in halves: a half is random within each stratum.
STRATUM: Final = "stratum"
#: ``obs`` columns of a condition that methods must keep and do not see, named after it, and of the donors.
CONDITION: Final = "condition:"
DONOR: Final = "donor:"
#: ``layers`` entry that holds raw counts; ``X`` holds log-normalised values.
COUNTS: Final = "counts"
#: ``var`` column: highly variable among the training cells.
HIGHLY_VARIABLE: Final = "highly_variable"
#: Counts per cell after normalisation, before ``log1p``.
TARGET_SUM: Final = 1e4
#: What a missing value reads as text, in small letters; names such as "NA" and "None" are none of it.
MISSING_TEXTS: Final = frozenset({"", "nan", "<na>"})
#: What R, Python and SQL write for a missing value, in small letters, and what may also be a label.
NA_TEXTS: Final = frozenset({"na", "n/a", "none", "null"})
