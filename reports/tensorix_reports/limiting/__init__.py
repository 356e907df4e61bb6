"""How the rate limits were met: windows, episodes, budgets."""

from tensorix_reports.limiting._rate_limit import RateLimitReport, rate_limit_report, rate_limits_of

__all__ = ["RateLimitReport", "rate_limit_report", "rate_limits_of"]
