# Writes p_adjust.csv: p-values and R's p.adjust() of them by every method, the values that
# multiple_testing_test.cpp compares the rules with. Needs nothing but base R:
#
#   Rscript p_adjust.R p_adjust.csv
#
# The tests read the file; they do not need R.

path <- commandArgs(trailingOnly = TRUE)
if (length(path) != 1) stop("usage: Rscript p_adjust.R FILE.csv")

RNGversion("4.0.0")
set.seed(1995)

# A mixture of nulls and of strong alternatives, as a router's scores are.
mixture <- function(n, strong) c(pnorm(rnorm(strong, 4), lower.tail = FALSE), runif(n - strong))

cases <- list(
  one_small = 0.003,
  one_large = 0.73,
  one_certain = 1,
  one_zero = 0,
  two = c(0.04, 0.021),
  two_tied = c(0.03, 0.03),
  five = c(0.011, 0.52, 0.018, 0.33, 0.0042),
  five_ones = rep(1, 5),
  five_tiny = c(1e-300, 5e-324, 1e-17, 2e-9, 1),
  five_step_up = c(0.0413, 0.0417, 0.0431, 0.0457, 0.0471),  # p(5) passes, p(1) alone does not
  uniform = runif(64),
  mixture_8 = mixture(64, 8),
  mixture_32 = mixture(64, 32),
  ties = ceiling(8 * runif(64)) / 8.3,
  ties_strong = c(rep(1.3e-5, 5), rep(0.0213, 20), rep(0.347, 20), rep(1, 19)),
  tiny = c(10^-(seq(3, 300, length.out = 60)), 0, 0, 0.5, 1),
  saturated = c(rep(0, 12), runif(52)),
  descending = sort(mixture(64, 16), decreasing = TRUE),
  # Benjamini and Hochberg (1995), section 3.2: fifteen endpoints of a trial.
  published_15 = c(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240,
                   0.4262, 0.5719, 0.6528, 0.7590, 1)
)

methods <- c("BH", "BY", "bonferroni", "holm", "hochberg", "hommel")
out <- file(path[1], "w")
writeLines(paste0("# ", R.version.string, ", stats ", packageVersion("stats")), out)
writeLines(paste(c("case", "p", methods), collapse = ","), out)
for (name in names(cases)) {
  p <- cases[[name]]
  columns <- lapply(methods, function(method) sprintf("%.17g", p.adjust(p, method = method)))
  writeLines(do.call(paste, c(list(name, sprintf("%.17g", p)), columns, sep = ",")), out)
}
close(out)
