"""From intervals to bytes: frequency tables, the range coder, interleaved rANS."""
