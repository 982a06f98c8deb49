"""Function that updates its region's day sums, and in the home region sends alerts for budgets and unusual days."""
