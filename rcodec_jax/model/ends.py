"""The ends of `decode --realism`: decoders that some models have beside their own."""

from __future__ import annotations

FIDELITY, REALISM = "decoder_fidelity", "decoder_realism"
"""Keys of decoders of the same shape: the ends of the way from least error to real detail, in whose
middle the model's own decoder is."""

BALANCED = 0.5
"""The realism of the model's own decoder."""


def end_towards(realism: float) -> str | None:
    """The end that a realism of 0..1 mixes in, None at that of the decoder itself."""
    if realism == BALANCED:
        return None
    return FIDELITY if realism < BALANCED else REALISM
