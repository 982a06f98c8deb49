"""Reports as pictures: bars over time, stacked by one column."""
