# MMRM of data/ind2.csv by direct minimisation of -2 log REML likelihood in R, polished by Newton steps on numerical
# derivatives, because the optimisers of nlme and mmrm stop in the 5th digit.   Rscript gls_tight.R > gls_tight.json
d <- read.csv("data/ind2.csv")
d$v2 <- as.numeric(d$visit == 2); d$v3 <- as.numeric(d$visit == 3)
X <- model.matrix(~ v2 + v3 + arm + v2:arm + v3:arm, d)
parts <- split(seq_len(nrow(d)), d$id)
ar <- function(rho) rho^abs(outer(1:3, 1:3, "-")); cs <- function(rho) (1 - rho) * diag(3) + rho
sigma <- list(
  us = function(x) { L <- diag(exp(x[1:3])); L[lower.tri(L)] <- x[4:6]; L %*% t(L) },
  cs = function(x) exp(x[1]) * cs(tanh(x[2])), csh = function(x) outer(exp(x[1:3]), exp(x[1:3])) * cs(tanh(x[4])),
  ar1 = function(x) exp(x[1]) * ar(tanh(x[2])), ar1h = function(x) outer(exp(x[1:3]), exp(x[1:3])) * ar(tanh(x[4])))
start <- list(us = c(1.4, 1.4, 1.4, 2, 2, 2), cs = c(2.9, .5), csh = c(1.4, 1.4, 1.4, .5), ar1 = c(2.9, .5),
              ar1h = c(1.4, 1.4, 1.4, .5))
fit <- function(S) {
  A <- 0; b <- 0; c <- 0; ld <- 0
  for (i in parts) {
    V <- S[d$visit[i], d$visit[i], drop = FALSE]; W <- solve(V); x <- X[i, , drop = FALSE]; y <- d$y[i] - 20
    A <- A + t(x) %*% W %*% x; b <- b + t(x) %*% W %*% y; c <- c + t(y) %*% W %*% y; ld <- ld + log(det(V))
  }
  beta <- solve(A, b)
  list(beta = beta + c(20, 0, 0, 0, 0, 0), se = sqrt(diag(solve(A))),
       value = c((nrow(X) - ncol(X)) * log(2 * pi) + ld + log(det(A)) + c - t(b) %*% beta))
}
number <- function(x) paste(sprintf("%.15g", x), collapse = ", ")
one <- function(name) {
  f <- function(x) tryCatch(fit(sigma[[name]](x))$value, error = function(e) 1e10)
  x <- nlminb(start[[name]], f, control = list(rel.tol = 1e-14, eval.max = 5000, iter.max = 1000))$par
  for (i in 1:4) x <- x - solve(numDeriv::hessian(f, x), numDeriv::grad(f, x))
  S <- sigma[[name]](x); r <- fit(S)
  sprintf('"%s": {"minus2_reml_loglik": %s, "estimate": [%s], "se": [%s], "cov": [%s]}', name, number(r$value),
          number(r$beta), number(r$se), number(as.vector(S)))
}
cat("{\n", paste(sapply(names(sigma), one), collapse = ",\n"),
    sprintf(',\n"versions": {"R": "%s", "numDeriv": "%s"}\n}\n', R.version.string, packageVersion("numDeriv")), sep = "")
