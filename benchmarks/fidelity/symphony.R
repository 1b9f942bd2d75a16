# Symphony 0.1.1 with harmony 0.1.1 on the small cells:
#   python benchmarks/fidelity/export_cells.py FOLDER
#   Rscript benchmarks/fidelity/symphony.R FOLDER tests/data/fidelity
# With 10 components and 10 clusters the tables stay small and all clusters have a covariance.

suppressMessages({library(symphony); library(Matrix)})
args <- commandArgs(TRUE)
genes <- read.csv(file.path(args[1], "genes.csv"))

cells <- function(part) {
  obs <- read.csv(file.path(args[1], paste0(part, "_cells.csv")), colClasses = "character", row.names = 1)
  X <- as(as(readMM(file.path(args[1], paste0(part, "_lognorm.mtx"))), "generalMatrix"), "CsparseMatrix")
  dimnames(X) <- list(genes$gene, rownames(obs))
  list(X = X[genes$hvg == "True", ], obs = obs)
}
save <- function(name, ...) {
  columns <- lapply(list(...), function(x) if (is.numeric(x)) signif(x, 6) else x)
  file <- gzfile(file.path(args[2], paste0("symphony_", name, ".csv.gz")), "w")
  write.csv(do.call(data.frame, columns), file, row.names = FALSE, quote = FALSE)
  close(file)
}

train <- cells("train")
query <- cells("query")
reference <- buildReference(
  train$X, train$obs, vars = "batch", K = 10, d = 10, topn = nrow(train$X), do_normalize = FALSE,
  do_umap = FALSE, seed = 111
)
# Both sides start from the digits that are saved.
for (part in c("Z_orig", "Z_corr", "R")) reference[[part]] <- signif(reference[[part]], 6)
reference$cache <- symphony:::compute_ref_cache(reference$R, reference$Z_corr)
reference$centroids <- t(symphony:::cosine_normalize_cpp(reference$R %*% t(reference$Z_corr), 1))
mapped <- mapQuery(
  query$X, query$obs, reference, vars = "batch", do_normalize = FALSE, do_umap = FALSE, verbose = FALSE
)
mapped <- knnPredict(mapped, reference, train$obs$label, k = 5)
save("reference", pc = t(unname(reference$Z_orig)), corrected = t(unname(reference$Z_corr)),
     share = t(unname(reference$R)))
save("query", pc = t(unname(mapped$Zq_pca)), share = t(unname(mapped$R)), mapped = t(unname(mapped$Z)),
     metric = calcPerCellMappingMetric(reference, mapped), label = mapped$meta_data$cell_type_pred_knn)
