"""GGUF files: the same numbers and ids as what they were made of, and lies told in one line."""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from polyprag.cli import main
from polyprag.config import Config, ModelConfig
from polyprag.config.paths import with_absolute_paths
from polyprag.encoding.base import describe_base
from polyprag.errors import ConfigError
from polyprag.method.base_look import look_at_base
from polyprag.method.base_model import load_base, load_tokenizer
from polyprag.pretrained import UnusableModelError, gguf_model
from polyprag.pretrained.files import check_model_files
from polyprag.pretrained.gguf_header import read_header
from polyprag.pretrained.gguf_model import converted

HIDDEN, INNER, LAYERS, HEADS, VOCABULARY = 32, 64, 2, 2, 260
TEMPLATE = (
    "{% for m in messages %}<eos>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}:{% endif %}"
)
Q8_0 = gguf.GGMLQuantizationType.Q8_0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "polyprag" / "models" / "index"
    gguf_model._converted.cache_clear()
    gguf_model._cache.cache_clear()


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def as_llama_cpp_has_it(weight: np.ndarray) -> np.ndarray:
    """Rows of a head's queries or keys in llama.cpp's order: rotary pairs lie side by side."""
    heads = weight.reshape(HEADS, 2, HIDDEN // HEADS // 2, HIDDEN)
    return heads.swapaxes(1, 2).reshape(HIDDEN, HIDDEN)


def write_gguf(
    path: Path, model: LlamaForCausalLM, *, quantised: bool = False, **changed: int
) -> Path:
    """Writes a model as llama.cpp's converter does; the MLP's inner tensors as Q8_0 if asked."""
    values = {"block_count": LAYERS, "embedding_length": HIDDEN} | changed
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(values["block_count"])
    writer.add_context_length(256)
    writer.add_embedding_length(values["embedding_length"])
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*alphabet, "th", "the", "<pad>", "<eos>"])
    writer.add_token_types([normal] * (len(alphabet) + 2) + [control] * 2)
    writer.add_token_merges(["t h", "th e"])
    writer.add_eos_token_id(VOCABULARY - 1)
    writer.add_pad_token_id(VOCABULARY - 2)
    writer.add_bos_token_id(VOCABULARY - 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k"}
    names |= {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"}
    names |= {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    names |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for name, tensor in model.state_dict().items():
        weight = tensor.numpy()
        if name == "lm_head.weight":
            continue
        if name == "model.embed_tokens.weight":
            writer.add_tensor("token_embd.weight", weight)
        elif name == "model.norm.weight":
            writer.add_tensor("output_norm.weight", weight)
        else:
            _, _, layer, rest = name.split(".", 3)
            theirs = f"blk.{layer}.{names[rest.removesuffix('.weight')]}.weight"
            if "q_proj" in name or "k_proj" in name:
                weight = as_llama_cpp_has_it(weight)
            if quantised and "gate_proj" in name:
                writer.add_tensor(theirs, gguf.quantize(weight, Q8_0), raw_dtype=Q8_0)
            else:
                writer.add_tensor(theirs, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_model_from_gguf_computes_what_the_model_that_it_was_made_of_does(
    tmp_path: Path, llama: LlamaForCausalLM
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    model, tokenizer = load_base(ModelConfig(path=str(file)), device="cpu")
    ids = torch.tensor([[5, 77, 31, 200, 9]])
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, llama(ids).logits)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    expected = [alphabet.index("x"), alphabet.index("Ġ"), 257]  # "the" is the second merge's
    assert tokenizer("x the")["input_ids"] == expected
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<eos>", "<pad>")
    assert tokenizer.chat_template == TEMPLATE


def test_quantised_tensors_are_what_gguf_dequantises_them_to(
    tmp_path: Path, llama: LlamaForCausalLM
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama, quantised=True)
    model, _ = load_base(ModelConfig(path=str(file)), device="cpu")
    for layer in range(LAYERS):
        name = f"model.layers.{layer}.mlp.gate_proj.weight"
        original = llama.state_dict()[name].numpy()
        expected = gguf.dequantize(gguf.quantize(original, Q8_0), Q8_0)
        found = model.state_dict()[name].numpy()
        assert np.array_equal(found, expected) and not np.array_equal(found, original)


def test_a_file_is_converted_once_and_anew_when_it_changes(
    tmp_path: Path, llama: LlamaForCausalLM, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    first = converted(file)
    assert first.parent == cache
    assert "quantizing" not in capfd.readouterr().err  # transformers' bar, in every worker's log
    before = (first / "config.json").stat().st_mtime_ns
    gguf_model._converted.cache_clear()  # as another process
    assert converted(file) == first
    assert (first / "config.json").stat().st_mtime_ns == before
    with torch.no_grad():
        llama_2 = LlamaForCausalLM(llama.config)
    write_gguf(file, llama_2)
    assert converted(file) != first


def test_a_conversion_that_was_damaged_is_made_again(
    tmp_path: Path, llama: LlamaForCausalLM
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    weights = converted(file) / "model.safetensors"
    whole = weights.read_bytes()
    os.truncate(weights, len(whole) // 2)
    gguf_model._converted.cache_clear()
    assert (converted(file) / "model.safetensors").read_bytes() == whole


def test_identity_is_of_the_numbers_not_of_the_file(
    tmp_path: Path, llama: LlamaForCausalLM
) -> None:
    first = ModelConfig(path=str(write_gguf(tmp_path / "a.gguf", llama)))
    copied = ModelConfig(path=str(write_gguf(tmp_path / "b.gguf", llama)))
    saved = ModelConfig(path=str(tmp_path / "saved"))
    load_base(first)[0].save_pretrained(saved.path)
    load_tokenizer(first).save_pretrained(saved.path)
    rounded = ModelConfig(path=str(write_gguf(tmp_path / "q.gguf", llama, quantised=True)))
    bases = [describe_base(each, load_tokenizer(each)) for each in (first, copied, saved, rounded)]
    assert bases[0].difference(bases[1], chat=True) is None
    assert bases[0].difference(bases[2], chat=True) is None
    assert bases[0].difference(bases[3], chat=True) == "other weights"


def test_what_looks_at_a_base_before_work_takes_gguf(
    tmp_path: Path, llama: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    check_model_files(str(file))
    monkeypatch.chdir(tmp_path)
    config = Config(model=ModelConfig(path="tiny.gguf"))
    assert with_absolute_paths(config).model.path == str(file)
    config = replace(config, data=replace(config.data, max_length=64))
    look_at_base(config, say=pytest.fail)


def test_a_directory_with_gguf_alone_names_the_file(
    tmp_path: Path, llama: LlamaForCausalLM
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnusableModelError, match=f"name the file instead, {file}"):
        check_model_files(str(tmp_path))


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ({"gguf"}, "the package gguf, which isn't installed"),
        ({"accelerate"}, "the package accelerate, which isn't installed"),
        ({"gguf", "accelerate"}, "the packages gguf and accelerate, which aren't installed"),
    ],
)
def test_without_a_package_the_line_says_how_to_get_it(
    tmp_path: Path,
    llama: LlamaForCausalLM,
    monkeypatch: pytest.MonkeyPatch,
    lacking: set[str],
    said: str,
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    found = gguf_model.read_header.__globals__["importlib"].util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n in lacking else found(n))
    with pytest.raises(ConfigError, match=rf"{said}: pip install 'polyprag\[gguf\]'"):
        load_base(ModelConfig(path=str(file)))


def patched(file: Path, at: int, number: int, form: str = "<Q") -> None:
    with open(file, "r+b") as opened:
        opened.seek(at)
        opened.write(struct.pack(form, number))


def place_of(file: Path, name: bytes) -> int:
    """Where what follows a key or a tensor's name begins."""
    return file.read_bytes().index(struct.pack("<Q", len(name)) + name) + 8 + len(name)


HUGE = 1 << 60


def lying_files(file: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    tokens, norm = b"tokenizer.ggml.tokens", b"output_norm.weight"
    yield "isn't a whole", lambda: patched(file, 8, HUGE)  # tensors
    yield "isn't a whole", lambda: patched(file, 16, HUGE)  # keys
    yield "isn't a whole", lambda: patched(file, 24, HUGE)  # bytes of the first key
    yield "entries of a list", lambda: patched(file, place_of(file, tokens) + 8, HUGE)
    yield "unknown type", lambda: patched(file, place_of(file, tokens), 99, "<I")
    yield "bytes at", lambda: patched(file, place_of(file, tokens) + 16, HUGE)  # first token
    yield "dimensions", lambda: patched(file, place_of(file, norm), 1 << 31, "<I")
    yield "behind its end", lambda: patched(file, place_of(file, norm) + 4, HUGE)
    yield "behind its end", lambda: patched(file, place_of(file, norm) + 16, HUGE)  # its place
    yield "quantised as type 3333", lambda: patched(file, place_of(file, norm) + 12, 3333, "<I")
    yield "version", lambda: patched(file, 4, 77, "<I")
    yield "begin with GGUF", lambda: patched(file, 0, 0, "<I")
    yield "isn't a whole", lambda: os.truncate(file, file.stat().st_size - 64)
    yield "isn't a whole", lambda: os.truncate(file, 100)
    yield "isn't a whole", lambda: os.truncate(file, 0)


def test_a_file_that_lies_about_itself_is_one_line(tmp_path: Path, llama: LlamaForCausalLM) -> None:
    whole = write_gguf(tmp_path / "whole.gguf", llama).read_bytes()
    file = tmp_path / "lies.gguf"
    for says, lie in lying_files(file):
        file.write_bytes(whole)
        read_header(file)
        lie()
        with pytest.raises(UnusableModelError, match=says) as caught:
            check_model_files(str(file))
        assert "\n" not in str(caught.value)


def test_tensors_that_share_their_bytes_are_refused(
    tmp_path: Path, llama: LlamaForCausalLM
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama)
    first = place_of(file, b"blk.0.ffn_up.weight")
    patched(file, first + 4, 32)  # as large as all of the file's bytes, twice
    patched(file, first + 12, file.stat().st_size // 128 - 80)
    patched(file, first + 24, 0)
    with pytest.raises(UnusableModelError, match="bytes of tensors in"):
        read_header(file)


def test_metadata_of_a_far_larger_model_is_refused_before_it_is_made(
    tmp_path: Path, llama: LlamaForCausalLM, cache: Path
) -> None:
    layers = write_gguf(tmp_path / "layers.gguf", llama, block_count=1_000_000_000)
    with pytest.raises(ConfigError, match="num_hidden_layers=1000000000"):
        load_base(ModelConfig(path=str(layers)))
    width = write_gguf(tmp_path / "width.gguf", llama, embedding_length=1 << 20)
    with pytest.raises(ConfigError, match="describes a model of"):
        load_base(ModelConfig(path=str(width)))
    assert not [entry for entry in cache.iterdir() if entry.is_dir()]


def test_missing_tensors_and_unknown_architectures_are_one_line(
    tmp_path: Path, llama: LlamaForCausalLM
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama, block_count=LAYERS + 1)
    with pytest.raises(ConfigError, match="weights are missing"):
        load_base(ModelConfig(path=str(file)))
    data = write_gguf(tmp_path / "other.gguf", llama).read_bytes()
    (tmp_path / "other.gguf").write_bytes(data.replace(b"llama", b"lxyma"))
    with pytest.raises(ConfigError, match="lxyma"):
        load_base(ModelConfig(path=str(tmp_path / "other.gguf")))


def test_one_of_several_parts_says_how_to_join_them(
    tmp_path: Path, llama: LlamaForCausalLM
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "part.gguf", "llama")
    writer.add_uint16("split.count", 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnusableModelError, match="one of 3 parts"):
        check_model_files(str(tmp_path / "part.gguf"))


def test_a_command_says_a_damaged_file_with_status_2(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\3\0\0\0")
    (tmp_path / "passages.jsonl").write_text('{"title": "T", "text": "One."}\n')
    arguments = ["prepare", str(tmp_path / "run"), str(tmp_path / "passages.jsonl")]
    run = CliRunner().invoke(main, [*arguments, f"model.path={tmp_path / 'bad.gguf'}"])
    assert run.exit_code == 2
    assert not (tmp_path / "run").exists()
    assert "bad.gguf isn't a whole GGUF file" in run.output.replace("\n", " ")
