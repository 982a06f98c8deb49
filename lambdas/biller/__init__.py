"""Function that updates the day sums of its region, and in the home region alerts of budgets and unusual days."""
