"""The quantised base, its roles, log-probabilities, sampling, and what drives a TRL trainer."""

import datasets
import transformers

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
datasets.disable_progress_bars()
