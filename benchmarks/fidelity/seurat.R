# Label transfer by Seurat 4, as a user of R would write it, without our adapter; Seurat's own seeds.
#
#   Rscript benchmarks/fidelity/seurat.R - CELLS tests/data/fidelity
#
# Writes seurat.csv.gz and, for a reference whose batches are integrated first, seurat_cca.csv.gz: the label and
# the score of each label. Batches of the reference with 30 cells or fewer, too few for Seurat's defaults, are
# left out. Needs Seurat 4 (Debian: r-cran-seurat).
source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])), "common.R"))
given <- given()
suppressPackageStartupMessages(library(Seurat))

as_seurat <- function(part) {
  cells <- read_part(given$cells, part, "counts")
  object <- CreateSeuratObject(cells$X)
  object$label <- cells$label
  object$batch <- cells$batch
  # As by NormalizeData(object), with the digits that the file has.
  SetAssayData(object, slot = "data", new.data = read_part(given$cells, part)$X)
}
transfer <- function(reference, query, features, name) {
  reference <- ScaleData(reference, features = features, verbose = FALSE)
  reference <- RunPCA(reference, features = features, npcs = 50, verbose = FALSE)
  anchors <- FindTransferAnchors(reference, query,
    features = features, reference.reduction = "pca", dims = 1:30, k.filter = NA, verbose = FALSE
  )
  found <- TransferData(anchors, refdata = reference$label, dims = 1:30, verbose = FALSE)
  scores <- found[, setdiff(grep("^prediction.score", names(found), value = TRUE), "prediction.score.max")]
  names(scores) <- sub("prediction.score.", "", names(scores), fixed = TRUE)
  write_table(cbind(cell = rownames(found), label = found$predicted.id, scores), given$out, name)
}

reference <- as_seurat("train")
query <- as_seurat("query")
sizes <- table(reference$batch)
reference <- subset(reference, subset = batch %in% names(sizes)[sizes > 30])
parts <- lapply(SplitObject(reference, split.by = "batch"), FindVariableFeatures, verbose = FALSE)
features <- SelectIntegrationFeatures(parts, verbose = FALSE)
VariableFeatures(reference) <- features
transfer(reference, query, features, "seurat")

smallest <- min(sapply(parts, ncol))
anchors <- FindIntegrationAnchors(parts, anchor.features = features, k.filter = min(200, smallest), verbose = FALSE)
integrated <- IntegrateData(anchors, k.weight = min(50, smallest - 1), verbose = FALSE)
transfer(integrated, query, features, "seurat_cca")
