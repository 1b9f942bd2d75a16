# Label transfer by Seurat on cells of export_cells.py, written as in Seurat's own guides, without our adapter.
#
#   python benchmarks/fidelity/export_cells.py FOLDER
#   Rscript benchmarks/fidelity/seurat.R FOLDER tests/data/fidelity
#
# Writes seurat.csv.gz and, for a reference whose batches are integrated first, seurat_cca.csv.gz: the label and
# the score of each label. Batches of the reference with 30 cells or fewer, too few for Seurat's defaults, are
# left out. Needs Seurat 4 (Debian: r-cran-seurat).

suppressPackageStartupMessages(library(Seurat))

folders <- commandArgs(trailingOnly = TRUE)
genes <- read.csv(file.path(folders[1], "genes.csv"))$gene
read_part <- function(part) {
  cells <- read.csv(file.path(folders[1], paste0(part, "_cells.csv")), row.names = "cell", colClasses = "character")
  values <- lapply(c(counts = "counts", data = "lognorm"), function(name) {
    table <- Matrix::readMM(file.path(folders[1], paste0(part, "_", name, ".mtx")))
    table <- as(as(table, "CsparseMatrix"), "dgCMatrix")
    dimnames(table) <- list(genes, rownames(cells))
    table
  })
  object <- CreateSeuratObject(values$counts, meta.data = cells)
  # As by NormalizeData(object), up to the last digits that the file has.
  SetAssayData(object, slot = "data", new.data = values$data)
}
transfer <- function(reference, query, features, name) {
  reference <- ScaleData(reference, features = features, verbose = FALSE)
  reference <- RunPCA(reference, features = features, npcs = 50, verbose = FALSE)
  anchors <- FindTransferAnchors(reference, query,
    features = features, reference.reduction = "pca", dims = 1:30, k.filter = NA, verbose = FALSE
  )
  found <- TransferData(anchors, refdata = reference$label, dims = 1:30, verbose = FALSE)
  scores <- as.matrix(found[, grepl("^prediction.score", names(found)) & names(found) != "prediction.score.max"])
  colnames(scores) <- sub("prediction.score.", "", colnames(scores), fixed = TRUE)
  table <- data.frame(cell = rownames(found), label = found$predicted.id, signif(scores, 9), check.names = FALSE)
  file <- gzfile(file.path(folders[2], paste0(name, ".csv.gz")), "w")
  write.csv(table, file, row.names = FALSE, quote = FALSE)
  close(file)
}

reference <- read_part("train")
sizes <- table(reference$batch)
reference <- subset(reference, subset = batch %in% names(sizes)[sizes > 30])
query <- read_part("query")
parts <- lapply(SplitObject(reference, split.by = "batch"), FindVariableFeatures, verbose = FALSE)
features <- SelectIntegrationFeatures(parts, verbose = FALSE)
VariableFeatures(reference) <- features
transfer(reference, query, features, "seurat")

smallest <- min(sapply(parts, ncol))
anchors <- FindIntegrationAnchors(parts, anchor.features = features, k.filter = min(200, smallest), verbose = FALSE)
integrated <- IntegrateData(anchors, k.weight = min(50, smallest - 1), verbose = FALSE)
transfer(integrated, query, features, "seurat_cca")
