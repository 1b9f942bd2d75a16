"""Results of other programs and studies, as records and published scores."""
