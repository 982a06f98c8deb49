"""Checks of AWS behaviour that the service relies on and that emulators cannot show."""
