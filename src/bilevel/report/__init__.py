"""Metrics, tables, figures, and one HTML page that says how good a fit is and how sure that is."""

from bilevel.report.choices import Compared as Compared
from bilevel.report.choices import chosen as chosen
from bilevel.report.choices import summaries as summaries
from bilevel.report.compare_page import compare_page as compare_page
from bilevel.report.compare_words import compare_verdict as compare_verdict
from bilevel.report.comparison import Samples as Samples
from bilevel.report.comparison import Score as Score
from bilevel.report.comparison import Scores as Scores
from bilevel.report.endings import ENDINGS as ENDINGS
from bilevel.report.endings import Ending as Ending
from bilevel.report.generalisation import Generalisation as Generalisation
from bilevel.report.metrics import psnr as psnr
from bilevel.report.metrics import ssim as ssim
from bilevel.report.page import evaluation_page as evaluation_page
from bilevel.report.page import learning_page as learning_page
from bilevel.report.page import write_page as write_page
from bilevel.report.race_page import race_page as race_page
from bilevel.report.race_page import race_verdict as race_verdict
from bilevel.report.rates import Rate as Rate
from bilevel.report.rates import fitted_rate as fitted_rate
from bilevel.report.tables import compare_table as compare_table
from bilevel.report.tables import fit_table as fit_table
from bilevel.report.tables import ledger_table as ledger_table
from bilevel.report.tables import parameters_table as parameters_table
from bilevel.report.tables import race_table as race_table
from bilevel.report.tables import scores_table as scores_table
