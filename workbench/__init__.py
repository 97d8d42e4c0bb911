"""What the phases share: runs, data, models, evaluation, and the embedded tiny default."""
