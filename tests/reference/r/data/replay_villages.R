# Replay of replicate 8 of design plain of scenario parallel_cluster, seed 20261123, truth: alternative.
# Fits every analysis again from replay_villages.csv and compares each with the row that the run stored.
#   Rscript replay_villages.R        needs lme4, lmerTest, pbkrtest, nlme
# satterthwaite is lmerTest's, kenward-roger pbkrtest's; degrees of freedom that R does not have are NA. Where a variance is
# estimated at zero, R does what boundary `drop` does, and `keep` and `negative` differ from it.
suppressPackageStartupMessages({library(lme4); library(lmerTest); library(pbkrtest); library(nlme)})

folder <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)[1]))
if (is.na(folder)) folder <- "."   # in an interactive session: the working directory
text <- c("participant", "arm", "stratum", "district", "village", "training_group", "visit", "date", "unseen_because")
data <- read.csv(file.path(folder, "replay_villages.csv"), na.strings = "NA",   # an empty label, of those in no group, is a label
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
score,constrained,ok,-0.21669362461093766,0.4020604954581588,16.836059230006203
score,free,ok,-0.1917133568500562,0.5029695376005644,9.627153127848128
score,covariate,ok,-0.18984728518123106,0.3552383085372488,13.14222834278926
score,between_within,ok,-0.20742024633807615,0.4170757860433164,54.0
score,mixed_ancova,ok,-0.2536554722178581,0.4258458081424731,4.930684948852856
score,by_arm,ok,-0.27851688225286153,0.446027736192317,5.267996262765685")
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

for (outcome in outcomes) {
  keep("constrained", outcome, fitted_by(mixed(
    lmer(y ~ visit + arm_later + (1 | participant) + (1 | village) + (1 | village:visit),
         all_visits(outcome), REML = TRUE, control = careful),
    "Kenward-Roger", prefix = "arm_later", at = "_at_six_months")))
  keep("free", outcome, fitted_by(mixed(
    lmer(y ~ visit * arm + (1 | participant) + (1 | village) + (1 | village:visit),
         all_visits(outcome), REML = TRUE, control = careful),
    "Satterthwaite")))
  keep("covariate", outcome, fitted_by(mixed(
    lmer(y ~ visit * arm + baseline + (1 | participant) + (1 | village) + (1 | village:visit),
         later_visits(outcome), REML = FALSE, control = careful),
    "Satterthwaite")))
  keep("between_within", outcome, fitted_by(mixed(
    lmer(y ~ visit * arm + baseline + (1 | participant) + (1 | village) + (1 | village:visit),
         later_visits(outcome), REML = TRUE, control = careful),
    "none")))
  keep("mixed_ancova", outcome, fitted_by(mixed(
    lmer(y ~ arm + baseline + (1 | village),
         final_visit(outcome), REML = TRUE, control = careful),
    "Satterthwaite")))
  keep("by_arm", outcome, fitted_by(mixed(lme(y ~ arm + baseline, final_visit(outcome), ~ 1 | village, weights = varIdent(form = ~ 1 | trained),
    method = "REML", na.action = na.omit), "none")))
}

both <- merge(stored, found, by = c("outcome", "analysis"), suffixes = c("_stored", "_r"), all.x = TRUE, sort = FALSE)
columns <- c("outcome", "analysis", "status", outer(c("_stored", "_r"), c("estimate", "se", "df"), function(x, y) paste0(y, x)))
options(width = 200)
print(both[columns], digits = 8, row.names = FALSE)
largest <- function(difference) max(0, abs(difference), na.rm = TRUE)
cat(sprintf("largest difference: estimate %.1e standard errors, se %.1e and df %.1e relatively\n",
            largest((both$estimate_r - both$estimate_stored) / both$se_stored),
            largest(both$se_r / both$se_stored - 1), largest(both$df_r / both$df_stored - 1)))
