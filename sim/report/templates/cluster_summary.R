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
