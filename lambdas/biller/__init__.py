"""Function that keeps the day sums of its region, and at home tells of budgets and unusual days."""
