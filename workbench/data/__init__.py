"""Records, the readers of users' files, the chat template, tokenisation."""
