"""Function that books the usage of waiting commits and passes the commits on to the compactor."""
