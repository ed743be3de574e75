# What the R scripts of `nexttrial simulate --out` find, data/replay_<name>.R beside their data sets, as JSON.
#   for name in villages groups teams; do Rscript replay_to_json.R $name > replay_$name.json; done
name <- commandArgs(TRUE)[1]
invisible(capture.output(source(file.path("data", paste0("replay_", name, ".R")), chdir = TRUE)))
number <- function(x) ifelse(is.na(x), "null", ifelse(is.infinite(x), "Infinity", sprintf("%.15g", x)))
fits <- sprintf('{"outcome": "%s", "analysis": "%s", "estimate": %s, "se": %s, "df": %s}', found$outcome, found$analysis,
                number(found$estimate), number(found$se), number(found$df))
versions <- sapply(c("lme4", "lmerTest", "pbkrtest", "nlme"), function(p) as.character(packageVersion(p)))
cat('{"fits": [\n', paste(fits, collapse = ",\n"), '],\n"versions": {"R": "', R.version.string, '", ',
    paste(sprintf('"%s": "%s"', names(versions), versions), collapse = ", "), "}}\n", sep = "")
