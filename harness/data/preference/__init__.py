"""Pairs of answers, and answers with labels: read from rows, and made into tokens. A pair is two documents of its source, the chosen
answer's and the rejected's."""
