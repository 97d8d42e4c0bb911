"""The quantised base, its roles, log-probabilities, sampling, and what drives a TRL trainer.

Importing it imports the large libraries. A command imports it before anything else that imports peft.
"""

import torch

# bitsandbytes would load inductor, which takes seconds, for fallbacks that no kernel here uses.
torch.compiler.set_default_backend("eager")
try:
    import bitsandbytes as bitsandbytes
    import transformers
finally:
    torch.compiler.set_default_backend(None)

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
