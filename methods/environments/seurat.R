# Seurat 4: transfer of labels from a reference to a query along mutual nearest neighbours ("anchors").

suppressPackageStartupMessages(library(Seurat))

as_seurat <- function(cells, as_in_study) {
  values <- cells$X
  # The study also used log-normalised values in place of counts, from which variable genes are selected.
  counts <- if (as_in_study || is.null(cells$counts)) values else cells$counts
  # Seurat changes gene names that contain _.
  rownames(values) <- rownames(counts) <- sprintf("gene%d", seq_len(nrow(values)))
  object <- CreateSeuratObject(counts, min.cells = 0, min.features = 0)
  object <- SetAssayData(object, slot = "data", new.data = values)
  object$batch <- cells$batch
  object
}

# Genes that vary in most batches.
varying_features <- function(parts, n_features) {
  parts <- lapply(parts, FindVariableFeatures, nfeatures = n_features, verbose = FALSE)
  SelectIntegrationFeatures(parts, nfeatures = n_features, verbose = FALSE)
}

# Split the reference by batch, or return it whole if a batch is too small to select variable genes.
batches_of <- function(object, smallest) {
  parts <- SplitObject(object, split.by = "batch")
  if (min(sapply(parts, ncol)) < smallest) list(object) else parts
}

integrated <- function(parts, features, dims, k_weight) {
  smallest <- min(sapply(parts, ncol))
  anchors <- FindIntegrationAnchors(parts,
    anchor.features = features, dims = dims, k.filter = min(200, smallest), verbose = FALSE
  )
  IntegrateData(anchors, dims = dims, k.weight = min(k_weight, smallest - 1), verbose = FALSE)
}

run <- function(train, query, seed, params) {
  set.seed(seed)
  as_in_study <- params$preset == "paper"
  reference <- as_seurat(train, as_in_study)
  unknown <- as_seurat(query, as_in_study)
  # k.score and the number of dimensions must not exceed the size of the smaller of the two.
  least <- min(ncol(reference), ncol(unknown))
  if (least < 10) not_applicable(sprintf("finds anchors between two sets of at least 10 cells; one has %d", least))
  parts <- batches_of(reference, smallest = params$k_score + 1)
  features <- varying_features(parts, params$n_features)
  dims <- seq_len(min(params$n_dims, least - 1, length(features) - 1))
  if (params$reference == "cca" && length(parts) > 1) {
    reference <- integrated(parts, features, dims, params$k_weight)
    DefaultAssay(reference) <- "integrated"
    # Integration groups cells by batch, so labels are reordered.
    order <- match(colnames(reference), colnames(train$X))
  } else {
    VariableFeatures(reference) <- features
    order <- seq_len(ncol(reference))
  }
  reference <- ScaleData(reference, features = features, verbose = FALSE)
  n_pcs <- min(50, ncol(reference) - 1, length(features) - 1)
  reference <- RunPCA(reference,
    features = features, npcs = n_pcs, approx = 3 * n_pcs < min(ncol(reference), length(features)),
    seed.use = seed, verbose = FALSE
  )
  anchors <- FindTransferAnchors(
    reference = reference, query = unknown, features = features, reference.reduction = "pca", dims = dims,
    k.anchor = params$k_anchor, k.filter = if (is.null(params$k_filter)) NA else params$k_filter,
    k.score = min(params$k_score, least - 1), verbose = FALSE
  )
  # R would change labels that are not valid column names, so they are numbered.
  labels <- sort(unique(train$label), method = "radix")
  codes <- sprintf("label%d", match(train$label, labels))[order]
  found <- TransferData(anchors,
    refdata = codes, dims = dims, k.weight = min(params$k_weight, nrow(anchors@anchors)), verbose = FALSE
  )
  scores <- as.matrix(found[, paste0("prediction.score.label", seq_along(labels)), drop = FALSE])
  colnames(scores) <- labels
  list(cells = rownames(found), label_pred = labels[max.col(scores, "first")], label_proba = scores)
}
