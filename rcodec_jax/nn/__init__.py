"""Networks (flax.linen). Thin modules over `ops`; sizes come in as plain fields."""
