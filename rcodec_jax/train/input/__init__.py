"""Batches: from sources or held on the device, held-out pictures, cached latents."""
