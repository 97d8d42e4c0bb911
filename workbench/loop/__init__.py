"""Rounds of sampling, choosing, labelling and training. Knows phases by their command lines only."""
