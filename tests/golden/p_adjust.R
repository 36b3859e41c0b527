# Writes p_adjust_bh.csv: p-values and R's p.adjust(p, method = "BH"), the values that
# rules_test.cpp compares BenjaminiHochberg with. Needs nothing but base R:
#
#   Rscript p_adjust.R p_adjust_bh.csv
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
  descending = sort(mixture(64, 16), decreasing = TRUE)
)

out <- file(path[1], "w")
writeLines(paste0("# ", R.version.string, ", stats ", packageVersion("stats")), out)
writeLines("case,p,adjusted", out)
for (name in names(cases)) {
  p <- cases[[name]]
  writeLines(sprintf("%s,%.17g,%.17g", name, p, p.adjust(p, method = "BH")), out)
}
close(out)
cat(R.version.string, "\n")
cat("stats", format(packageVersion("stats")), "\n")
