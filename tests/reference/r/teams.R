# Random intercepts of training group and facilitator team, in the trained arm only, by lmerTest: data/teams_ridge.csv,
# whose likelihood has a ridge along which the two make up for each other, and data/teams_of_one_group.csv, where every
# team has one group, so that lme4 splits their sum at will.   Rscript teams.R > teams.json
suppressMessages(library(lmerTest))
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-12, maxfun = 1e5))
number <- function(x) paste(sprintf("%.12g", x), collapse = ", ")
one <- function(name) {
  d <- read.csv(sprintf("data/%s.csv", name))
  for (k in c("group", "team")) d[[k]][d$arm == 0] <- d[[k]][d$arm == 1][1]  # any: arm is 0 in their column of Z
  fit <- suppressWarnings(lmer(y ~ arm + stratum + base + (0 + arm | team) + (0 + arm | group), d, control = control))
  row <- coef(summary(fit))["arm", ]; v <- as.data.frame(VarCorr(fit))
  sprintf('"%s": {"estimate": %s, "se": %s, "df": %s, "criterion": %s, "team": %s, "group": %s, "residual": %s}', name,
          number(row[1]), number(row[2]), number(row[3]), number(REMLcrit(fit)), number(v$vcov[v$grp == "team"]),
          number(v$vcov[v$grp == "group"]), number(sigma(fit)^2))
}
cat("{\n", paste(sapply(c("teams_ridge", "teams_of_one_group"), one), collapse = ",\n"),
    sprintf(',\n"versions": {"R": "%s", "lme4": "%s", "lmerTest": "%s"}\n}\n', R.version.string, packageVersion("lme4"),
            packageVersion("lmerTest")), sep = "")
