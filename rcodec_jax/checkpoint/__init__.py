"""Checkpoints of training runs and clean stops. The only package that imports orbax."""

from rcodec_jax.checkpoint.faults import whole_steps
from rcodec_jax.checkpoint.manager import Checkpoints, DataState
from rcodec_jax.checkpoint.signals import SignalGuard

__all__ = ["Checkpoints", "DataState", "SignalGuard", "whole_steps"]
