# What the scripts of this folder share. Each is called as
#   Rscript SCRIPT.R SOURCE CELLS OUT
# with the folder of the original's source, the folder that export_cells.py wrote, and the folder for outputs.

suppressPackageStartupMessages(library(Matrix))

given <- function() {
  args <- commandArgs(trailingOnly = TRUE)
  if (length(args) != 3) stop("usage: Rscript SCRIPT.R SOURCE CELLS OUT")
  dir.create(args[3], showWarnings = FALSE, recursive = TRUE)
  list(source = args[1], cells = args[2], out = args[3])
}

# Genes in rows, cells in columns, as the original packages have them.
read_part <- function(folder, part, values = "lognorm") {
  X <- as(readMM(file.path(folder, paste0(part, "_", values, ".mtx"))), "CsparseMatrix")
  cells <- read.csv(file.path(folder, paste0(part, "_cells.csv")))
  dimnames(X) <- list(read.csv(file.path(folder, "genes.csv"))$gene, cells$cell)
  list(X = X, label = cells$label, batch = cells$batch)
}

is_variable <- function(folder) read.csv(file.path(folder, "genes.csv"))$hvg == "True"

# Numbers are rounded to nine digits, which keeps the files small.
write_table <- function(table, out, name) {
  numeric <- vapply(table, is.numeric, TRUE)
  table[numeric] <- lapply(table[numeric], signif, digits = 9)
  file <- gzfile(file.path(out, paste0(name, ".csv.gz")), "w", compression = 9)
  on.exit(close(file))
  write.csv(table, file, row.names = FALSE, quote = FALSE)
}


# Source R files of an original; `changed` gives replacements of texts as pairs.
source_files <- function(folder, files, changed = character()) {
  for (file in files) {
    text <- paste(readLines(file.path(folder, "R", file), warn = FALSE), collapse = "\n")
    for (old in names(changed)) text <- gsub(old, changed[[old]], text, fixed = TRUE)
    eval(parse(text = text), envir = globalenv())
  }
}

# log1p of counts per 10,000 as an experiment with logcounts; `log2_scale` divides by log(2).
experiment <- function(part, counts = NULL, log2_scale = FALSE) {
  X <- as.matrix(part$X)
  if (log2_scale) X <- X / log(2)
  found <- SingleCellExperiment::SingleCellExperiment(list(logcounts = X))
  if (!is.null(counts)) SingleCellExperiment::counts(found) <- as.matrix(counts)
  found$label <- part$label
  SummarizedExperiment::rowData(found)$feature_symbol <- rownames(found)
  found
}

# Compile a C++ file of an original, which needs the headers of one package and no other.
compile <- function(file, depends) {
  text <- grep("Rcpp::depends", readLines(file, warn = FALSE), value = TRUE, invert = TRUE)
  text <- c(sprintf("// [[Rcpp::depends(%s)]]", depends), text)
  suppressMessages(Rcpp::sourceCpp(code = paste(text, collapse = "\n"), env = globalenv()))
}
