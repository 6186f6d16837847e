"""Checkpoints of training runs and clean stops. The only package that imports orbax."""

from rcodec_jax.checkpoint.barrier import wait_for_all
from rcodec_jax.checkpoint.faults import whole_steps
from rcodec_jax.checkpoint.manager import Checkpoints
from rcodec_jax.checkpoint.signals import SignalGuard

__all__ = ["Checkpoints", "SignalGuard", "wait_for_all", "whole_steps"]
