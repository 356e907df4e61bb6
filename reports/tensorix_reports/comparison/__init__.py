"""Two or more runs compared: which figures differ by more than chance, and whether a change is accepted."""

from tensorix_reports.comparison._compare import Compared, Comparison, GateResult, compare
from tensorix_reports.comparison._gates import RULES, Rule
from tensorix_reports.comparison._write import ComparisonPaths, write_comparison

__all__ = ["RULES", "Compared", "Comparison", "ComparisonPaths", "GateResult", "Rule", "compare", "write_comparison"]
