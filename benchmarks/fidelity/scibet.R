# SciBet: R and C++ of the authors, https://github.com/PaulingLiu/scibet
source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])), "common.R"))
given <- given()
Sys.setenv(PKG_CXXFLAGS = "-fopenmp", PKG_LIBS = "-fopenmp")
compile(file.path(given$source, "src", "SciBet.cpp"), depends = "RcppEigen")
source_files(given$source, "SciBet.R")
options(scibet.n_threads = 1)

train <- read_part(given$cells, "train")
query <- read_part(given$cells, "query")
linear <- list(
  cpm = function(X) expm1(as.matrix(X)) * 100,  # from counts per 10,000
  log1p = function(X) as.matrix(X)  # log-normalised values in the place of linear ones
)
for (scale in names(linear)) {
  table <- as.data.frame(t(linear[[scale]](train$X)), check.names = FALSE)
  table$label <- train$label
  model <- Learn(table, k = c(cpm = 1000, log1p = 2000)[[scale]])
  other <- as.data.frame(t(linear[[scale]](query$X)), check.names = FALSE)
  found <- as.data.frame(model(other, "table"), check.names = FALSE)
  write_table(cbind(label = model(other, "list"), found), given$out, paste0("scibet_", scale))
}
