"""Two or more runs compared: which figures differ by more than chance, and whether a change is accepted."""

from tensorix_reports.comparison._compare import FORMAT, Compared, Comparison, GateResult, compare, comparison_schema
from tensorix_reports.comparison._gates import RULES, Rule
from tensorix_reports.comparison._write import ComparisonPaths, write_comparison

__all__ = [
    "FORMAT",
    "RULES",
    "Compared",
    "Comparison",
    "ComparisonPaths",
    "GateResult",
    "Rule",
    "compare",
    "comparison_schema",
    "write_comparison",
]
