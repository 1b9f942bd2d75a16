# fastMNN: R of the authors of batchelor, https://github.com/LTLA/batchelor, on the variable genes.
source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])), "common.R"))
given <- given()
suppressPackageStartupMessages({
  library(SingleCellExperiment)
  library(BiocParallel)
  library(BiocSingular)
  library(BiocNeighbors)
  library(DelayedArray)
  library(DelayedMatrixStats)
  library(ScaledMatrix)
})
realizeFileBackedMatrix <- beachmat::realizeFileBackedMatrix
normalizeCounts <- scuttle::normalizeCounts
.bpNotSharedOrUp <- scuttle::.bpNotSharedOrUp
.unpackLists <- scuttle::.unpackLists
source_files(given$source, c(
  "checkInputs.R", "utils_multibatch.R", "utils_subset.R", "utils_tricube.R", "utils_reorder.R", "MNN_tree.R",
  "cosineNorm.R", "divideIntoBatches.R", "multiBatchPCA.R", "convertPCsToSCE.R", "fastMNN.R"
))

train <- read_part(given$cells, "train")
X <- train$X[is_variable(given$cells), ]
# Batches in order of decreasing size, as they recommend.
size <- sort(table(train$batch), decreasing = TRUE)
found <- fastMNN(X, batch = train$batch, merge.order = as.list(names(size)), BSPARAM = ExactParam())
corrected <- as.data.frame(reducedDim(found, "corrected"))
# Every fifth cell: enough to compare, and a small file.
every_fifth <- seq(1, nrow(corrected), by = 5)
write_table(signif(corrected[every_fifth, ], 6), given$out, "fastmnn")
