# CHETAH: R of the authors, https://github.com/jdekanter/CHETAH
source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])), "common.R"))
given <- given()
suppressPackageStartupMessages(library(SingleCellExperiment))
# Two packages give one function each: the distance 1 - rho, and coordinates for drawing the tree.
spearman_dist <- function(x) as.dist(1 - cor(t(x), method = "spearman"))
no_coordinates <- function(tree) matrix(1, nrow = 2, ncol = 2)
source_files(given$source, "Utils_CHETAH.R", c(
  "bioDist::spearman.dist" = "spearman_dist", "dendextend::get_nodes_xy" = "no_coordinates"
))

train <- experiment(read_part(given$cells, "train"))
query <- experiment(read_part(given$cells, "query"))
found <- CHETAHclassifier(input = query, ref_cells = train, ref_ct = "label")
table <- data.frame(
  label = as.character(Classify(found, thresh = 0.1, return_clas = TRUE)),
  leaf = as.character(Classify(found, thresh = -Inf, return_clas = TRUE))
)
write_table(table, given$out, "chetah")
