"""The rules that every run uses: FSDP for all parameters, tensor parallelism where it pays.

Tensor parallelism is Megatron's (Shoeybi et al. 2019): of two products after one another the first
splits its outputs, the second its inputs, and one sum over the axis `tensor` joins them. That holds
for query-key-value and output, for the two layers of an MLP, and for the two convolutions of a
residual block, whose normalisation in between works on groups of channels. What stands alone
(1x1 projections, stems, heads, down- and upsampling) would pay a sum for a single product and is
computed by every device of the axis, as are the entropy model's small networks. The autoencoder's
attention has a single head and is left alone too.

`tensor` is for more devices than pictures: FSDP sends kernels, whatever the batch is, and `tensor`
sends activations, of every picture.
"""

from __future__ import annotations

from jax.sharding import PartitionSpec as P

from rcodec_jax.scale.rules import Largest, Rules

RULES: Rules = (
    (r"attn[12]/to_[qkv]/kernel$", Largest("fsdp", beside=P(None, "tensor"))),
    (r"attn[12]/to_out/kernel$", Largest("fsdp", beside=P("tensor"))),
    (r"/ff_in/kernel$", Largest("fsdp", beside=P(None, "tensor"))),
    (r"/ff_in/bias$", P("tensor")),
    (r"/ff_out/kernel$", Largest("fsdp", beside=P("tensor"))),
    (r"resnets_\d+/conv1/conv/kernel$", Largest("fsdp", beside=P(None, None, None, "tensor"))),
    (r"resnets_\d+/conv1/conv/bias$", P("tensor")),
    (r"resnets_\d+/norm2/(norm/)?(scale|bias)$", P("tensor")),
    (r"resnets_\d+/conv2/conv/kernel$", Largest("fsdp", beside=P(None, None, "tensor"))),
    (r".*", Largest("fsdp")),
)
"""By path of the parameter; what belongs to a parameter follows it (`shardings_for`)."""
