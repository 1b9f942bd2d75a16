# scmap: R and C++ of the authors, https://github.com/hemberg-lab/scmap
source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])), "common.R"))
given <- given()
suppressPackageStartupMessages({
  library(SingleCellExperiment)
  library(matrixStats)
  library(dplyr)
})
compile(file.path(given$source, "src", "scmap.cpp"), depends = "RcppArmadillo")
source_files(given$source, c("AllGenerics.R", "Utils.R", "CoreMethods.R"))

parts <- lapply(c(train = "train", query = "query"), function(name) {
  counts <- read_part(given$cells, name, "counts")$X
  experiment(read_part(given$cells, name), counts = counts, log2_scale = TRUE)
})
train <- selectFeatures(parts$train, suppress_plot = TRUE)
index <- metadata(indexCluster(train, cluster_col = "label"))$scmap_cluster_index
found <- scmapCluster(parts$query, list(one = index), threshold = 0.7)
table <- data.frame(label = found$scmap_cluster_labs[, 1], similarity = found$scmap_cluster_siml[, 1])
write_table(table, given$out, "scmap_cluster")
