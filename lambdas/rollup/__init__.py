"""Function that books the usage of waiting commits and hands the commits on to the compactor."""
