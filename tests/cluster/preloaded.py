"""What a training imports and compiles in its first seconds, for processes that are forked then."""

import deepspeed.module_inject
import deepspeed.runtime.zero.muon.muon_optimizer
import numba.typed
import torch.utils.tensorboard
import transformers.models.llama.modeling_llama
import transformers.models.opt.modeling_opt

import cluster.training.train_encoding
from polyprag.method.rows.kernel import compiled

__all__ = ["cluster", "deepspeed", "numba", "torch", "transformers"]

compiled()
