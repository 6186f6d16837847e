"""Tables of values: Gaussian by sigma and dither, static, foreseen and fitted."""
