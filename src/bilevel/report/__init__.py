"""Metrics, tables, figures, and one HTML page that says how good a fit is and how sure that is."""

from bilevel.report.choices import Compared, chosen, summaries
from bilevel.report.compare_page import compare_page
from bilevel.report.compare_words import compare_verdict
from bilevel.report.comparison import Samples, Score, Scores
from bilevel.report.endings import ENDINGS, Ending
from bilevel.report.generalisation import Generalisation
from bilevel.report.metrics import psnr, ssim
from bilevel.report.page import evaluation_page, learning_page, write_page
from bilevel.report.race_page import race_page, race_verdict
from bilevel.report.rates import Rate, fitted_rate
from bilevel.report.tables import (
    compare_table,
    fit_table,
    ledger_table,
    parameters_table,
    race_table,
    scores_table,
)

__all__ = [
    "ENDINGS",
    "Compared",
    "Ending",
    "Generalisation",
    "Rate",
    "Samples",
    "Score",
    "Scores",
    "chosen",
    "compare_page",
    "compare_table",
    "compare_verdict",
    "evaluation_page",
    "fit_table",
    "fitted_rate",
    "learning_page",
    "ledger_table",
    "parameters_table",
    "psnr",
    "race_page",
    "race_table",
    "race_verdict",
    "scores_table",
    "ssim",
    "summaries",
    "write_page",
]
