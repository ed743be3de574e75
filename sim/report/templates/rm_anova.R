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
