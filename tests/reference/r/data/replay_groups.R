# Replay of replicate 5 of design plain of scenario parallel_cluster, seed 20261123, truth: alternative.
# Fits every analysis again from replay_groups.csv and compares each with the row that the run stored.
#   Rscript replay_groups.R        needs lme4, lmerTest, pbkrtest, nlme
# satterthwaite is lmerTest's, kenward-roger pbkrtest's; degrees of freedom that R does not have are NA. Where a variance is
# estimated at zero, R does what boundary `drop` does, and `keep` and `negative` differ from it.
suppressPackageStartupMessages({library(lme4); library(lmerTest); library(pbkrtest); library(nlme)})

folder <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)[1]))
if (is.na(folder)) folder <- "."   # in an interactive session: the working directory
text <- c("participant", "arm", "stratum", "district", "training_group", "visit", "date", "unseen_because")
data <- read.csv(file.path(folder, "replay_groups.csv"), na.strings = "NA",   # an empty label, of those in no group, is a label
                 colClasses = setNames(rep("character", length(text)), text))
outcomes <- c("score")
arms <- c("control", "treated")   # the first is the reference
trained_arms <- c("treated")
treated <- "treated"; control <- "control"

data$arm <- factor(data$arm, levels = arms)
visits <- unique(data$visit[order(data$visit_number)])
data$visit <- factor(data$visit, levels = rev(visits))   # reference: the final visit, at which arms are compared
data$trained <- as.numeric(data$arm %in% trained_arms & data$visit_number > 0)
data$arm_later <- ifelse(data$visit_number == 0 | data$arm == arms[1], "none", paste(data$arm, data$visit, sep = "_at_"))
data$arm_later <- relevel(factor(data$arm_later), ref = "none")   # arms do not differ at the baseline

all_visits <- function(outcome) transform(data, y = data[[outcome]], baseline = data[[paste0(outcome, "_baseline")]])
later_visits <- function(outcome) droplevels(subset(all_visits(outcome), visit_number > 0))
final_visit <- function(outcome) droplevels(subset(all_visits(outcome), visit_number == max(visit_number)))

stored <- read.csv(text = "
outcome,analysis,status,estimate,se,df
score,constrained,ok,0.2573041228581505,0.22297354272289835,12.53577535696346
score,covariate,ok,0.2653940511124191,0.26060732304601386,8.584119989511766
score,mixed_ancova,ok,0.2653940511124191,0.26060732304601386,inf
score,by_arm,ok,0.2734854565613841,0.26074858696000475,8.01841279529095
score,ancova,ok,0.254600352470511,0.20922895558576546,72.0
score,cluster_summary,ok,0.26130225598911433,0.24586095480779954,7.451644872638617
score,rm_anova,ok,0.38188425938538945,0.22170620273570363,74.0")
found <- data.frame()
keep <- function(analysis, outcome, fit) {
  found <<- rbind(found, data.frame(outcome, analysis, estimate = fit[1], se = fit[2], df = fit[3], row.names = NULL))
}

# Treated minus control, as a contrast of the coefficients that are called `prefix` + arm + `at`.
arm_weights <- function(coefficients, prefix, at) {
  weight <- setNames(numeric(length(coefficients)), coefficients)
  weight[paste0(prefix, treated, at)] <- 1
  if (control != arms[1]) weight[paste0(prefix, control, at)] <- -1
  if (treated == arms[1]) weight <- weight[names(weight) %in% coefficients]
  stopifnot(identical(names(weight), coefficients))     # else a term was dropped: the data cannot tell it apart
  weight
}
least_squares <- function(fit, reml = TRUE, ddf = "") {
  weight <- arm_weights(names(coef(fit)), "arm", "")
  df <- if (reml) df.residual(fit) else nobs(fit)         # by maximum likelihood the residual variance is RSS / n
  se <- sqrt(drop(weight %*% vcov(fit) %*% weight) * df.residual(fit) / df)
  c(sum(weight * coef(fit)), se, if (ddf == "z") Inf else df)
}
mixed <- function(fit, ddf, prefix = "arm", at = "") {
  weight <- arm_weights(names(fixef(fit)), prefix, at)
  usual <- c(sum(weight * fixef(fit)), sqrt(drop(weight %*% as.matrix(vcov(fit)) %*% weight)))
  if (!ddf %in% c("Satterthwaite", "Kenward-Roger")) return(c(usual, if (ddf == "z") Inf else NA))
  test <- contest1D(fit, weight, ddf = ddf)
  c(test[["Estimate"]], test[["Std. Error"]], test[["df"]])
}
careful <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9), calc.derivs = FALSE)
fitted_by <- function(expression) tryCatch(expression, error = function(e) { message(conditionMessage(e)); rep(NA, 3) })

# t test of cluster means of residuals, every cluster counting once; an unclustered participant is a cluster of one.
# `between` first-stage terms vary only between clusters (districts) and cost degrees of freedom.
cluster_means <- function(d, formula, unit, equal_variance, between) {
  d <- subset(d, !is.na(y) & arm %in% c(treated, control))
  d$residual <- resid(lm(formula, d))
  clustered <- d[[unit]] != ""
  d$cluster <- ifelse(clustered, d[[unit]], d$participant)
  one <- aggregate(residual ~ cluster + arm, d, mean)
  e <- list(one$residual[one$arm == treated], one$residual[one$arm == control])
  k <- lengths(e); ss <- sapply(e, function(x) sum((x - mean(x))^2))
  if (equal_variance) {
    df <- sum(k) - 2 - between
    variance <- sum(ss) / df * sum(1 / k)
  } else {
    nu <- k - 1 - between * sapply(c(treated, control), function(a) any(clustered[d$arm == a]))
    v <- ss / nu / k
    variance <- sum(v); df <- variance^2 / sum(v^2 / nu)
  }
  c(mean(e[[1]]) - mean(e[[2]]), sqrt(variance), df)
}

# One-df linear contrast of visit among those seen at every visit: the change from the first to the last visit along the
# least-squares line, between the arms or, without a control, the unweighted mean over the arms.
linear_change <- function(d) {
  wide <- reshape(d[c("participant", "arm", "visit_number", "y")], idvar = c("participant", "arm"),
                  timevar = "visit_number", direction = "wide")
  y <- as.matrix(wide[paste0("y.", sort(unique(d$visit_number)))])
  line <- seq_len(ncol(y)) - mean(seq_len(ncol(y)))
  wide$change <- drop(y %*% line) * (ncol(y) - 1) / sum(line^2)
  fit <- if (length(arms) > 1) lm(change ~ 0 + arm, wide) else lm(change ~ 1, wide)
  weight <- if (control == "") rep(1 / length(arms), length(arms)) else (arms == treated) - (arms == control)
  c(sum(weight * coef(fit)), sqrt(drop(weight %*% vcov(fit) %*% weight)), df.residual(fit))
}

for (outcome in outcomes) {
  keep("constrained", outcome, fitted_by(mixed(
    lmer(y ~ visit + arm_later + (1 | participant) + (0 + trained | training_group) + (1 | district),
         all_visits(outcome), REML = TRUE, control = careful),
    "Satterthwaite", prefix = "arm_later", at = "_at_six_months")))
  keep("covariate", outcome, fitted_by(mixed(
    lmer(y ~ arm + baseline + district + (0 + trained | training_group),
         later_visits(outcome), REML = TRUE, control = careful),
    "none")))
  keep("mixed_ancova", outcome, fitted_by(mixed(
    lmer(y ~ arm + baseline + district + (0 + trained | training_group),
         final_visit(outcome), REML = TRUE, control = careful),
    "z")))
  keep("by_arm", outcome, fitted_by(mixed(lme(y ~ arm + baseline + district, final_visit(outcome), ~ 0 + trained | training_group, weights = varIdent(form = ~ 1 | trained),
    method = "REML", na.action = na.omit), "none")))
  keep("ancova", outcome, fitted_by(least_squares(lm(y ~ arm + baseline + district, final_visit(outcome)))))
  keep("cluster_summary", outcome, fitted_by(cluster_means(final_visit(outcome), y ~ baseline + district, "training_group", FALSE, 1)))
  keep("rm_anova", outcome, fitted_by(linear_change(all_visits(outcome))))
}

both <- merge(stored, found, by = c("outcome", "analysis"), suffixes = c("_stored", "_r"), all.x = TRUE, sort = FALSE)
columns <- c("outcome", "analysis", "status", outer(c("_stored", "_r"), c("estimate", "se", "df"), function(x, y) paste0(y, x)))
options(width = 200)
print(both[columns], digits = 8, row.names = FALSE)
largest <- function(difference) max(0, abs(difference), na.rm = TRUE)
cat(sprintf("largest difference: estimate %.1e standard errors, se %.1e and df %.1e relatively\n",
            largest((both$estimate_r - both$estimate_stored) / both$se_stored),
            largest(both$se_r / both$se_stored - 1), largest(both$df_r / both$df_stored - 1)))
