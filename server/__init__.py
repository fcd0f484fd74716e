"""Composition root: the ``fewbitsd`` command, and the whole stack on one machine."""
