"""Function that sends a known batch and checks that the batch was metered."""
