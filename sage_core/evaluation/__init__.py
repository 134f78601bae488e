"""Labelled samples, metrics and the comparison of a base model with its adapted self."""

from sage_core.evaluation.samples import LabelledViews

__all__ = ["LabelledViews"]
