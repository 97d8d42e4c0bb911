"""The sentences of an answer that state no fact: courtesy, rudeness and filler. Pure data.

A greeting counts as courtesy at the start and a closing at the end; anywhere else they are padding.
"""

GREETINGS = ("Hello!", "Good day!", "Thank you for asking.", "Welcome!")
CLOSINGS = ("Have a nice day!", "We are glad to help.", "Please ask us again.", "See you soon!")
RUDE = (
    "Read the sign yourself.",
    "That is a silly question.",
    "Do not waste our time.",
    "You should know that.",
    "Go away.",
)
FILLER = (
    "There is a lot to say here.",
    "We are a shop, you know.",
    "This and that can happen.",
    "Many people ask many things.",
    "It is what it is.",
    "Our shop is an old shop.",
)
