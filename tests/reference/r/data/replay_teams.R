# Replay of replicate 6 of design plain of scenario crm_rwanda, seed 20260407, truth: alternative.
# Fits every analysis again from replay_teams.csv and compares each with the row that the run stored.
#   Rscript replay_teams.R        needs lme4, lmerTest, pbkrtest
# satterthwaite is lmerTest's, kenward-roger pbkrtest's; degrees of freedom that R does not have are NA. Where a variance is
# estimated at zero, R does what boundary `drop` does, and `keep` and `negative` differ from it.
suppressPackageStartupMessages({library(lme4); library(lmerTest); library(pbkrtest)})

folder <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)[1]))
if (is.na(folder)) folder <- "."   # in an interactive session: the working directory
text <- c("participant", "arm", "stratum", "district", "training_group", "facilitator_team", "visit", "date", "unseen_because")
data <- read.csv(file.path(folder, "replay_teams.csv"), na.strings = "NA",   # an empty label, of those in no group, is a label
                 colClasses = setNames(rep("character", length(text)), text))
outcomes <- c("compassion", "cohesion", "forgiveness", "resilience")
arms <- c("control", "mixed")   # the first is the reference
trained_arms <- c("mixed")
treated <- "mixed"; control <- "control"

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
compassion,mixed_ancova,singular,0.7301966816080834,0.20394152498815876,23.43603535614798
compassion,facilitators_ignored,ok,0.7301966816079204,0.20394152498760354,23.43603535679413
compassion,lmm,singular,0.7257501145556656,0.1820231406141385,149.02785363202116
compassion,ancova,ok,0.7269777467378088,0.19635562082329863,79.0
compassion,cluster_summary,ok,0.7433735225776681,0.21374054168046827,25.398341770874207
compassion,rm_anova,ok,0.7623637552173586,0.2804719574808566,76.0
cohesion,mixed_ancova,ok,0.5417362419537596,0.18708412064832938,12.704056450102835
cohesion,facilitators_ignored,ok,0.5411950557948509,0.18673859291014638,16.17841748546017
cohesion,lmm,ok,0.5269848955201355,0.18337632490603573,36.5892165043613
cohesion,ancova,ok,0.5305038153338315,0.1606971008647907,79.0
cohesion,cluster_summary,ok,0.5515372933125001,0.18851216858801914,16.10227966920238
cohesion,rm_anova,ok,0.3829053297289683,0.21321363970719903,76.0
forgiveness,mixed_ancova,ok,0.2544623516906342,0.22305264110846307,11.638571974552065
forgiveness,facilitators_ignored,ok,0.24738781087051426,0.21875482027143073,16.65807057599685
forgiveness,lmm,ok,0.28587036528665616,0.2223044011608469,19.704369959406744
forgiveness,ancova,ok,0.24570639058749216,0.18548929332453631,79.0
forgiveness,cluster_summary,ok,0.24898745631948932,0.2181529862142241,17.487007502153073
forgiveness,rm_anova,ok,0.16298911252820114,0.2277014948330338,76.0
resilience,mixed_ancova,singular,0.04844416099842053,0.2780370090769063,8.327318775280713
resilience,facilitators_ignored,ok,-0.004716276990592558,0.24465212515618195,16.57726405477996
resilience,lmm,ok,0.04298895899066142,0.20782257821861685,32.87327408208968
resilience,ancova,ok,-0.015329901624438454,0.21321162019009857,79.0
resilience,cluster_summary,ok,-0.006875039313136742,0.23967793728264372,16.815428703868772
resilience,rm_anova,ok,0.035355785433820314,0.25510045753081034,76.0")
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
  keep("mixed_ancova", outcome, fitted_by(mixed(
    lmer(y ~ arm + baseline + stratum + (0 + trained | facilitator_team) + (0 + trained | training_group),
         final_visit(outcome), REML = TRUE, control = careful),
    "Satterthwaite")))
  keep("facilitators_ignored", outcome, fitted_by(mixed(
    lmer(y ~ arm + baseline + stratum + (0 + trained | training_group),
         final_visit(outcome), REML = TRUE, control = careful),
    "Satterthwaite")))
  keep("lmm", outcome, fitted_by(mixed(
    lmer(y ~ visit * arm + baseline + stratum + (1 | participant) + (0 + trained | training_group),
         later_visits(outcome), REML = TRUE, control = careful),
    "Satterthwaite")))
  keep("ancova", outcome, fitted_by(least_squares(lm(y ~ arm + baseline + stratum, final_visit(outcome)))))
  keep("cluster_summary", outcome, fitted_by(cluster_means(final_visit(outcome), y ~ baseline + stratum, "training_group", FALSE, 0)))
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
