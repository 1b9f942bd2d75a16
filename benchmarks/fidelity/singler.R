# SingleR in R on the small cells: its labels, and its markers by rank sums and t-tests.
#
#   python benchmarks/fidelity/export_cells.py FOLDER
#   Rscript benchmarks/fidelity/singler.R FOLDER tests/data/fidelity
#
# Needs SingleR and scran of Bioconductor (Debian: r-bioc-singler, r-bioc-scran).

folders <- commandArgs(trailingOnly = TRUE)
genes <- read.csv(file.path(folders[1], "genes.csv"))$gene
cells <- function(part) read.csv(file.path(folders[1], paste0(part, "_cells.csv")))
expression <- function(part) {
  values <- as(Matrix::readMM(file.path(folders[1], paste0(part, "_lognorm.mtx"))), "CsparseMatrix")
  dimnames(values) <- list(genes, cells(part)$cell)
  values
}
write_table <- function(table, name) {
  file <- gzfile(file.path(folders[2], paste0(name, ".csv.gz")), "w")
  write.csv(table, file, row.names = FALSE, quote = FALSE)
  close(file)
}

train <- expression("train")
query <- expression("query")
label <- cells("train")$label
for (test in c("wilcox", "t")) {
  trained <- SingleR::trainSingleR(train, label, de.method = test)
  found <- SingleR::classifySingleR(query, trained)
  best <- apply(found$scores, 1, max)
  confidence <- found$scores[cbind(seq_along(best), match(found$labels, colnames(found$scores)))] -
    apply(found$scores, 1, median)
  write_table(
    data.frame(
      cell = rownames(found), label = found$labels, confidence = signif(confidence, 12),
      rejected = is.na(found$pruned.labels)
    ),
    paste0("singler_", test)
  )
  markers <- if (is.null(trained$markers)) trained$search$extra else trained$markers$full
  rows <- lapply(names(markers), function(one) {
    lapply(names(markers[[one]]), function(other) {
      gene <- as.character(markers[[one]][[other]])
      if (length(gene)) data.frame(label = one, other = other, gene = gene)
    })
  })
  write_table(do.call(rbind, unlist(rows, recursive = FALSE)), paste0("singler_", test, "_markers"))
}
