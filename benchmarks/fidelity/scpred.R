# scPred 1.9.2 with harmony 0.1.1 and Seurat 4.3 on the small cells:
#   python benchmarks/fidelity/export_cells.py FOLDER
#   Rscript benchmarks/fidelity/scpred.R FOLDER tests/data/fidelity
# With 10 components the tables stay small.

suppressMessages({library(Seurat); library(scPred); library(Matrix)})
args <- commandArgs(TRUE)
genes <- read.csv(file.path(args[1], "genes.csv"))

cells <- function(part) {
  obs <- read.csv(file.path(args[1], paste0(part, "_cells.csv")), colClasses = "character", row.names = 1)
  X <- as(as(readMM(file.path(args[1], paste0(part, "_lognorm.mtx"))), "generalMatrix"), "CsparseMatrix")
  dimnames(X) <- list(gsub("_", "-", genes$gene), rownames(obs))
  X <- X[genes$hvg == "True", ]
  SetAssayData(CreateSeuratObject(X, meta.data = obs), "data", X)
}
save <- function(name, ...) {
  columns <- lapply(list(...), function(x) if (is.numeric(x)) signif(x, 6) else x)
  file <- gzfile(file.path(args[2], paste0("scpred_", name, ".csv.gz")), "w")
  write.csv(do.call(data.frame, columns), file, row.names = FALSE, quote = FALSE)
  close(file)
}

train <- cells("train")
query <- cells("query")
VariableFeatures(train) <- rownames(train)
train <- RunPCA(ScaleData(train, verbose = FALSE), npcs = 10, verbose = FALSE)
train <- suppressWarnings(trainModel(getFeatureSpace(train, "label")))
query <- scPredict(query, train)
save("reference", pc = unname(Embeddings(train[["pca"]])))
save("query", pc = unname(Embeddings(query[["scpred_projection"]])),
     aligned = unname(Embeddings(query[["scpred"]])), best = unname(query$scpred_max),
     label = unname(query$scpred_no_rejection))
