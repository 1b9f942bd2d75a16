# SingleR in R on the small cells: its labels, and its markers by rank sums and t-tests.
#
#   Rscript benchmarks/fidelity/singler.R - CELLS tests/data/fidelity
#
# Needs SingleR and scran of Bioconductor (Debian: r-bioc-singler, r-bioc-scran).
source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])), "common.R"))
given <- given()

train <- read_part(given$cells, "train")
query <- read_part(given$cells, "query")
for (test in c("wilcox", "t")) {
  trained <- SingleR::trainSingleR(train$X, train$label, de.method = test)
  found <- SingleR::classifySingleR(query$X, trained)
  highest <- found$scores[cbind(seq_along(found$labels), match(found$labels, colnames(found$scores)))]
  table <- data.frame(
    cell = rownames(found), label = found$labels, confidence = highest - apply(found$scores, 1, median),
    rejected = is.na(found$pruned.labels)
  )
  write_table(table, given$out, paste0("singler_", test))
  # Markers of one label against another, the best first.
  pairs <- lapply(trained$markers$full, function(of_one) lapply(of_one, as.character))
  rows <- lapply(names(pairs), function(one) {
    n <- lengths(pairs[[one]])
    data.frame(label = rep(one, sum(n)), other = rep(names(n), n), gene = unlist(pairs[[one]], use.names = FALSE))
  })
  write_table(do.call(rbind, rows), given$out, paste0("singler_", test, "_markers"))
}
