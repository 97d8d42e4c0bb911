"""Contrastive post-training on preference pairs: DPO and SLiC-HF."""
