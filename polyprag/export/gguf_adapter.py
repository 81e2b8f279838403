"""LoRAs as llama.cpp reads them: GGUF files with its names, and its order of attention's rows."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor
from transformers import PretrainedConfig

from polyprag.errors import ConfigError

# llama.cpp's architecture of a model type, and whether it stores queries' and keys' rows in another
# order (its converter's `permute`, for the way in which it rotates positions).
_ARCHITECTURES = {
    "gemma": ("GEMMA", False),
    "gemma2": ("GEMMA2", False),
    "gemma3_text": ("GEMMA3", False),
    "llama": ("LLAMA", True),
    "mistral": ("LLAMA", True),
    "phi3": ("PHI3", False),
    "qwen2": ("QWEN2", False),
    "qwen3": ("QWEN3", False),
}


def write_gguf_adapter(
    file: Path,
    factors: Mapping[str, tuple[Tensor, Tensor]],
    *,
    model: PretrainedConfig,
    alpha: float,
    name: str,
) -> None:
    """Writes a LoRA for llama.cpp.

    Args:
        file: to write.
        factors: by module name, A (rank, d_in) and B (d_out, rank), float32; llama.cpp adds
            alpha / rank times B A, times the scale that a request gives it.
        model: the base model's config.
        alpha: of the LoRA.
        name: of the adapter, in the file.

    Raises:
        ConfigError: `gguf` isn't installed, or it isn't known how llama.cpp names or orders what
            this model has.
    """
    try:
        import gguf
    except ImportError as error:
        raise ConfigError(
            "GGUF files are written by the package `gguf`: pip install 'polyprag[gguf]'"
        ) from error
    if model.model_type not in _ARCHITECTURES:
        raise ConfigError(
            f"model.path={model.name_or_path!r}: no GGUF adapter is made for the model type "
            f"{model.model_type!r}, only for {', '.join(_ARCHITECTURES)}; export without --gguf, "
            "and convert the adapter with llama.cpp's convert_lora_to_gguf.py"
        )
    architecture, permutes = _ARCHITECTURES[model.model_type]
    kind = gguf.MODEL_ARCH[architecture]
    names = gguf.get_tensor_name_map(kind, model.num_hidden_layers)
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[kind])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    writer.add_name(name)
    for module, (A, B) in factors.items():
        place = names.get_name(module)
        if place is None:
            raise ConfigError(f"experts.targets: llama.cpp has no name for {module!r}")
        rows = B.float().numpy()
        last = module.rpartition(".")[2]
        if permutes and last in ("q_proj", "k_proj"):
            queries = model.num_attention_heads
            keys = getattr(model, "num_key_value_heads", None) or queries
            rows = _permuted(rows, queries if last == "q_proj" else keys)
        writer.add_tensor(f"{place}.weight.lora_a", np.ascontiguousarray(A.float().numpy()))
        writer.add_tensor(f"{place}.weight.lora_b", np.ascontiguousarray(rows))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _permuted(rows: npt.NDArray[np.float32], num_heads: int) -> npt.NDArray[np.float32]:
    """Returns rows (d_out, r) with each head's two halves interleaved."""
    halves = rows.reshape(num_heads, 2, len(rows) // num_heads // 2, -1)
    return halves.swapaxes(1, 2).reshape(rows.shape)
