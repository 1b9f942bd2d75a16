# Run a method's program in R: read files, call the program, write files. Started as `Rscript inside.R request.json`.
#
# The program is an R file with a function run(train, query, seed, params). train and query are lists with X and counts
# (dgCMatrix, genes x cells; counts may be NULL), batch and label (character; label may be NULL). train may be NULL.
# run returns a list: X_emb (cells x dimensions), or label_pred and optionally label_proba (cells x labels, named
# columns), novelty and rejected; and `cells`, the names of the rows. To decline, it calls not_applicable("reason").

not_applicable <- function(reason) {
  stop(structure(list(message = reason, call = NULL), class = c("not_applicable", "error", "condition")))
}

read_matrix <- function(path, group) {
  part <- function(name) rhdf5::h5read(path, paste0(group, "/", name))
  # A csr matrix of cells x genes is a csc matrix of genes x cells.
  new("dgCMatrix",
    x = as.numeric(part("data")), i = as.integer(part("indices")), p = as.integer(part("indptr")),
    Dim = rev(as.integer(rhdf5::h5readAttributes(path, group)$shape))
  )
}

read_names <- function(path, table) {
  index <- rhdf5::h5readAttributes(path, table)[["_index"]]
  as.character(rhdf5::h5read(path, paste0(table, "/", index)))
}

read_column <- function(path, name, present) {
  if (!(paste0("/obs/", name) %in% present)) return(NULL)
  group <- paste0("obs/", name)
  categories <- as.character(rhdf5::h5read(path, paste0(group, "/categories")))
  categories[as.integer(rhdf5::h5read(path, paste0(group, "/codes"))) + 1L]
}

read_cells <- function(path) {
  if (is.null(path)) return(NULL)
  listed <- rhdf5::h5ls(path, datasetinfo = FALSE)
  present <- paste0(sub("/$", "", listed$group), "/", listed$name)
  named <- function(matrix) {
    dimnames(matrix) <- list(read_names(path, "var"), read_names(path, "obs"))
    matrix
  }
  list(
    X = named(read_matrix(path, "X")),
    counts = if ("/layers/counts" %in% present) named(read_matrix(path, "layers/counts")),
    batch = read_column(path, "batch", present),
    label = read_column(path, "label", present)
  )
}

# 17 significant digits represent every double exactly.
exactly <- function(values) formatC(as.numeric(values), digits = 17, format = "g")

as_table <- function(found) {
  table <- list(cell = as.character(found$cells))
  columns_of <- function(matrix, prefix, names) {
    columns <- lapply(seq_len(ncol(matrix)), function(column) exactly(matrix[, column]))
    stats::setNames(columns, paste0(prefix, names))
  }
  if (!is.null(found$X_emb)) table <- c(table, columns_of(found$X_emb, "X_emb:", seq_len(ncol(found$X_emb))))
  if (!is.null(found$label_pred)) table$label_pred <- as.character(found$label_pred)
  if (!is.null(found$label_proba)) {
    table <- c(table, columns_of(found$label_proba, "label_proba:", colnames(found$label_proba)))
  }
  if (!is.null(found$novelty)) table$novelty <- exactly(found$novelty)
  if (!is.null(found$rejected)) table$rejected <- ifelse(found$rejected, "True", "False")
  as.data.frame(table, check.names = FALSE, stringsAsFactors = FALSE)
}

request <- jsonlite::read_json(commandArgs(trailingOnly = TRUE)[1])

answer <- function() {
  suppressPackageStartupMessages(library(Matrix))
  source(request$program)
  found <- run(read_cells(request$cells$train), read_cells(request$cells$query), request$seed, request$params)
  utils::write.csv(as_table(found), request$result, row.names = FALSE, fileEncoding = "UTF-8")
  list(status = "ok", reason = "")
}

outcome <- tryCatch(answer(),
  not_applicable = function(reason) list(status = "not_applicable", reason = conditionMessage(reason)),
  error = function(error) {
    text <- paste0(conditionMessage(error), " (", paste(deparse(conditionCall(error))[1]), ")")
    message("Error: ", text)
    list(status = if (grepl("cannot allocate", text)) "out_of_memory" else "failed", reason = text)
  }
)
outcome$reason <- substr(outcome$reason, 1, 5000)  # the harness reads 64 kB
jsonlite::write_json(outcome, request$message, auto_unbox = TRUE)
