"""Function that updates its region's day sums; the home region's also sends alerts for budgets and unusual days."""
