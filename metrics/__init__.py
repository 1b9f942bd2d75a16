"""Pure functions of arrays that score embeddings, annotations and novelty scores."""
