"""What the service itself costs: its list prices, an idle region, what is stored."""
