"""Choosing a parameter without ground truth."""

from bilevel.select import rules
from bilevel.select.calibration import calibrate
from bilevel.select.choice import Choice, Curve, Outcome
from bilevel.select.compare import Comparison, compare
from bilevel.select.directional import DirectionalMaps, directional_maps
from bilevel.select.path import Path
from bilevel.select.point import Point
from bilevel.select.rule import Goal, Rule
from bilevel.select.select import select

__all__ = [
    "Choice",
    "Comparison",
    "Curve",
    "DirectionalMaps",
    "Goal",
    "Outcome",
    "Path",
    "Point",
    "Rule",
    "calibrate",
    "compare",
    "directional_maps",
    "rules",
    "select",
]
