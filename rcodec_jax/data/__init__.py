"""Pictures in and out, sources and the training loader. Imports no other part of rcodec."""
