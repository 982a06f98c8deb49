"""Objects of a closed month: its hours, itself by account and by day."""
