"""Classification of texts: a head on the last hidden state, or label words that the LM scores."""
