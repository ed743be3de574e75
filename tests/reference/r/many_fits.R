# REML criterion and fixed effects by lme4 of every trial of ../many_trials.py, its optimiser told to go on to the end.
#   python ../many_trials.py | Rscript many_fits.R > many_fits.json
suppressPackageStartupMessages(library(lme4))
d <- read.csv(file("stdin"))
d$v2 <- as.numeric(d$visit == 1); d$v3 <- as.numeric(d$visit == 2)
formula <- list(
  participant = y ~ v2 + v3 + arm + v2:arm + v3:arm + (1 | id),
  village = y ~ v2 + v3 + arm + v2:arm + v3:arm + (1 | id) + (1 | unit),
  village_by_visit = y ~ v2 + v3 + arm + v2:arm + v3:arm + (1 | id) + (1 | unit) + (1 | unit:visit),
  training_group = y ~ arm + base + (0 + arm | unit),
  slope = y ~ months + arm + months:arm + (months | id))
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 0.1, rhoend = 1e-9, maxfun = 1e5), calc.derivs = FALSE,
                       check.conv.singular = "ignore")
one <- function(shape) {
  fits <- lapply(split(d[d$shape == shape, ], d$replicate[d$shape == shape]),
                 function(rows) suppressWarnings(lmer(formula[[shape]], rows, control = control)))
  beta <- sapply(fits, function(f) paste0("[", paste(sprintf("%.9g", fixef(f)), collapse = ", "), "]"))
  sprintf('"%s": {"singular": %d,\n"criterion": [%s],\n"beta": [%s]}', shape, sum(sapply(fits, isSingular)),
          paste(sprintf("%.7f", sapply(fits, REMLcrit)), collapse = ", "), paste(beta, collapse = ",\n"))
}
cat("{\n", paste(sapply(names(formula), one), collapse = ",\n"),
    sprintf(',\n"versions": {"R": "%s", "lme4": "%s", "minqa": "%s"}\n}\n', R.version.string, packageVersion("lme4"),
            packageVersion("minqa")), sep = "")
