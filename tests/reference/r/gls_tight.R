# Tight refits of MMRM on data/ind2.csv by nlme::gls, whose answers mmrm's optimiser misses in the 5th digit.
# Rscript gls_tight.R > gls_tight.json
library(nlme)
d <- read.csv("data/ind2.csv")
d$v2 <- as.numeric(d$visit == 2); d$v3 <- as.numeric(d$visit == 3)
tight <- glsControl(maxIter = 1000, msMaxIter = 1000, tolerance = 1e-13, msTol = 1e-15, opt = "nlminb",
                    returnObject = TRUE)
number <- function(x) paste(sprintf("%.15g", x), collapse = ", ")
one <- function(name, correlation, weights) {
  f <- gls(y ~ v2 + v3 + arm + v2:arm + v3:arm, d, correlation = correlation, weights = weights, control = tight)
  cov <- getVarCov(f, individual = "1")
  sprintf('"%s": {"minus2_reml_loglik": %s, "estimate": [%s], "se": [%s], "cov": [%s]}', name,
          number(-2 * as.numeric(logLik(f))), number(coef(f)), number(sqrt(diag(vcov(f)))), number(as.vector(cov)))
}
cat("{\n", paste(c(
  one("us", corSymm(form = ~ visit | id), varIdent(form = ~ 1 | visit)),
  one("cs", corCompSymm(form = ~ visit | id), NULL),
  one("csh", corCompSymm(form = ~ visit | id), varIdent(form = ~ 1 | visit)),
  one("ar1", corAR1(form = ~ visit | id), NULL),
  one("ar1h", corAR1(form = ~ visit | id), varIdent(form = ~ 1 | visit))), collapse = ",\n"),
  sprintf(',\n"versions": {"R": "%s", "nlme": "%s"}\n}\n', R.version.string, packageVersion("nlme")), sep = "")
