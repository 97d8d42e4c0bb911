"""Methods of post-training compared on the same supervised run, labels, prompts and sampling budget."""
