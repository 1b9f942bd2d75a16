# CellID: R and C++ of the authors, https://github.com/RausellLab/CelliD, as in their vignette.
source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])), "common.R"))
given <- given()
suppressPackageStartupMessages({
  library(SingleCellExperiment)
  library(data.table)
  library(glue)
  library(stringr)
  library(fastmatch)
  library(matrixStats)
  library(pbapply)
  library(Seurat)
})
pboptions(type = "none")
# Time keeping of a package that is not needed.
tic <- toc <- function(...) invisible()
exact_svd <- function(A, nv, nu) {
  found <- svd(A, nu = nu, nv = nv)
  list(d = found$d[seq_len(nv)], u = found$u, v = found$v)
}
for (file in c("mca.cpp", "dist.cpp")) compile(file.path(given$source, "src", file), depends = "RcppArmadillo")

annotate <- function(train, query) {
  n_dims <- 50
  train <- RunMCA(train, nmcs = n_dims)
  query <- RunMCA(query, nmcs = n_dims)
  sets <- list(
    cell = GetCellGeneSet(train, dims = seq(n_dims), n.features = 200),
    group = GetGroupGeneSet(train, dims = seq(n_dims), n.features = 200, group.by = "label")
  )
  names <- list(cell = train$label, group = names(sets$group))
  found <- list()
  for (kind in names(sets)) {
    score <- as.matrix(RunCellHGT(query, pathways = sets[[kind]], dims = seq(n_dims), n.features = 200))
    best <- apply(score, 2, which.max)
    found[[kind]] <- names[[kind]][match(rownames(score)[best], names(sets[[kind]]))]
    found[[paste0(kind, "_score")]] <- apply(score, 2, max)
  }
  as.data.frame(found)
}

# Genes in five cells or more, in reference and query separately.
parts <- lapply(c("train", "query"), function(name) {
  part <- read_part(given$cells, name)
  part$X <- part$X[rowSums(part$X > 0) >= 5, ]
  experiment(part)
})
files <- c("check.R", "mca.R", "cell.R", "group.R", "hyper.R")
source_files(given$source, files, c("irlba::irlba(" = "exact_svd("))
write_table(do.call(annotate, parts), given$out, "cellid")
# The package's own approximate decomposition, by seed.
source_files(given$source, files)
for (seed in 1:2) {
  set.seed(seed)
  found <- do.call(annotate, parts)
  write_table(found[c("cell", "group")], given$out, paste0("cellid_irlba_", seed))
}
