"""Exports of the sample by the product, for third-party validators."""
